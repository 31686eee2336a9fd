//! Opens a model, makes tokens of a text, and lists what is likeliest to follow.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example next_token -- model.gguf "Once upon a"
//! ```

use std::{error::Error, path::Path};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{Model, Options, Session};

/// The likeliest tokens with their probabilities.
pub(crate) fn next_tokens(model: &Path, text: &str) -> Result<Vec<(String, f32)>, Box<dyn Error>> {
    let model = Model::open(model, &Options::default())?;
    let tokenizer =
        Tokenizer::from_metadata(model.metadata()).map_err(|error| error.to_string())?;
    let tokens = tokenizer.encode(text, EncodeOptions::default());
    let mut session = Session::new(&model, tokens.len())?;
    let mut logits = Vec::new();
    let last = tokens.len().saturating_sub(1);
    session.forward(&tokens, last..last + 1, |_, row| logits.extend_from_slice(row))?;

    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    let mut order: Vec<_> = logits.into_iter().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let likeliest = order.into_iter().take(5).map(|(id, logit)| {
        let token = String::from_utf8_lossy(tokenizer.token(id as u32)).into_owned();
        (token, (logit - highest).exp() / sum)
    });
    Ok(likeliest.collect())
}

#[allow(dead_code, reason = "a test calls the rest")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text] = &arguments[..] else { return Err("usage: next_token MODEL TEXT".into()) };
    for (token, probability) in next_tokens(model.as_ref(), text)? {
        println!("{:6.2} %  {token:?}", 100.0 * probability);
    }
    Ok(())
}
