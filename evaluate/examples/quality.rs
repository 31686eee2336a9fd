//! How well models predict a text: the perplexity of one, and the divergence of another from it.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example quality -- f16.gguf q4_k_m.gguf text.txt
//! ```

use std::{error::Error, ops::ControlFlow, path::Path};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{
    Model, Options, Session,
    measure::{self, Keep, Reference},
    perplexity::Windows,
};

/// The perplexity of the first model, and the mean KL divergence of the second from it.
pub(crate) fn quality(
    reference: &Path,
    candidate: &Path,
    text: &str,
    window: usize,
) -> Result<(f64, f64), Box<dyn Error>> {
    let open = |path| Model::open(path, &Options::default());
    let (reference, candidate) = (open(reference)?, open(candidate)?);
    let tokenizer =
        Tokenizer::from_metadata(reference.metadata()).map_err(|error| error.to_string())?;
    let tokens = tokenizer.encode(text, EncodeOptions::default());
    let windows = Windows::new(&tokens, window, tokenizer.bos())?;
    // Called after each window; `Break` ends the run with the figures so far.
    let mut progress = |_: usize, _: usize| ControlFlow::Continue(());

    let mut session = Session::new(&reference, window)?;
    let perplexity = measure::perplexity(&mut session, &windows, &mut progress)?;

    let mut candidates = [Session::new(&candidate, window)?];
    let mut unused = |_: &[f32]| {};
    let reference = Reference::Predictor(&mut session, Keep(&mut unused));
    let found = measure::divergence(reference, &mut candidates, &windows, &mut progress)?;
    let statistics = found[0].statistics().ok_or("nothing was predicted")?;
    Ok((perplexity.value(), statistics.mean_kld))
}

#[allow(dead_code, reason = "a test calls the rest")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, candidate, text] = &arguments[..] else {
        return Err("usage: quality REFERENCE CANDIDATE TEXT".into());
    };
    let text = std::fs::read_to_string(text)?;
    let (perplexity, divergence) = quality(reference.as_ref(), candidate.as_ref(), &text, 512)?;
    println!("perplexity {perplexity:.4}, mean KL divergence of the candidate {divergence:.6}");
    Ok(())
}
