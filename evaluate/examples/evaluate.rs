//! How well models predict a text: the perplexity of one, and the divergence of another from it.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example evaluate -- f16.gguf text.txt q4_k_m.gguf
//! ```

use std::{error::Error, num::NonZeroUsize, ops::ControlFlow, path::Path, sync::Arc};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{
    Model, Options, Session,
    measure::{self, Keep, Reference},
    perplexity::{Perplexity, Windows},
};
use quant_kernels::Pool;

/// The perplexity of a model, and the mean KL divergence of another from it.
pub(crate) fn evaluate(
    reference: &Path,
    candidate: Option<&Path>,
    text: &str,
    window: usize,
) -> Result<(Perplexity, Option<f64>), Box<dyn Error>> {
    let mut options = Options::default();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    options.threads = Arc::new(Pool::new(threads)?);
    let model = Model::open(reference, &options)?;
    let tokenizer =
        Tokenizer::from_metadata(model.metadata()).map_err(|error| error.to_string())?;
    let tokens = tokenizer.encode(text, EncodeOptions::default());
    let windows = Windows::new(&tokens, window, tokenizer.bos())?;
    // Called after each window; `Break` ends the run with the figures so far.
    let mut progress = |done: usize, all: usize| {
        eprintln!("{done} of {all} windows");
        ControlFlow::Continue(())
    };

    let mut session = Session::new(&model, windows.size())?;
    let perplexity = measure::perplexity(&mut session, &windows, &mut progress)?;

    let Some(candidate) = candidate else { return Ok((perplexity, None)) };
    let candidate = Model::open(candidate, &options)?;
    let mut candidates = [Session::new(&candidate, windows.size())?];
    let mut unused = |_: &[f32]| {};
    let reference = Reference::Predictor(&mut session, Keep(&mut unused));
    let found = measure::divergence(reference, &mut candidates, &windows, &mut progress)?;
    let statistics = found[0].statistics().ok_or("nothing was predicted")?;
    Ok((perplexity, Some(statistics.mean_kld)))
}

#[allow(dead_code, reason = "a test calls the rest")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, text, candidate) = match &arguments[..] {
        [model, text] => (model, text, None),
        [model, text, candidate] => (model, text, Some(candidate.as_ref())),
        _ => return Err("usage: evaluate MODEL TEXT [CANDIDATE]".into()),
    };
    let text = std::fs::read_to_string(text)?;
    let (perplexity, divergence) = evaluate(model.as_ref(), candidate, &text, 128)?;
    println!("perplexity {:.4} ± {:.4}", perplexity.value(), perplexity.error());
    if let Some(divergence) = divergence {
        println!("mean KL divergence of the candidate {divergence:.6}");
    }
    Ok(())
}
