//! Compares what two models predicted, by the `.kld` files that they left: `compare_kld BASE CANDIDATE`.
//!
//! The candidate's predictions are rounded as the base's are, which the mean KL divergence shows.

use std::{error::Error, path::Path};

use gguf_io::{Limits, SourceFile};
use quant_evaluate::{kl::Divergence, kld::KldFile};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, candidate] = &arguments[..] else {
        return Err("usage: compare_kld BASE CANDIDATE".into());
    };
    let open = |path: &str| KldFile::read(SourceFile::open(Path::new(path))?, &Limits::default());
    let (base, candidate) = (open(base)?, open(candidate)?);
    if base.tokens() != candidate.tokens() || base.vocabulary() != candidate.vocabulary() {
        return Err("the files are not of the same text and vocabulary".into());
    }
    let mut divergence = Divergence::default();
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for (i, window) in base.windows(None).iter().enumerate() {
        for position in window.scored() {
            base.log_probabilities(i, position, &mut expected)?;
            candidate.log_probabilities(i, position, &mut found)?;
            if let Some(next) = window.next(position) {
                divergence.add(&expected, &found, next);
            }
        }
    }
    println!("{:#?}", divergence.statistics());
    Ok(())
}
