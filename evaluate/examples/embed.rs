//! Vectors of texts, of length one, from an encoder or another model that pools: a line of numbers each.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example embed -- all-MiniLM-L6-v2.gguf "A text" "Another"
//! ```

use std::{error::Error, path::Path};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{Model, Options, Pooling, Session};

/// A vector for each text. Their products are the cosines of the angles between them.
pub(crate) fn embed(model: &Path, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let model = Model::open(model, &Options::default())?;
    let tokenizer =
        Tokenizer::from_metadata(model.metadata()).map_err(|error| error.to_string())?;
    // What the model was trained with, if its file says so.
    let pooling = model.pooling().unwrap_or(Pooling::Mean);
    let mut vectors = Vec::new();
    for text in texts {
        let tokens = tokenizer.encode(text, EncodeOptions::default());
        let mut session = Session::new(&model, tokens.len())?;
        let mut vector = session.embed(&tokens, pooling)?;
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|v| *v /= length);
        vectors.push(vector);
    }
    Ok(vectors)
}

#[allow(dead_code, reason = "a test calls the rest")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: embed MODEL TEXT…")?;
    for vector in embed(model.as_ref(), &arguments.collect::<Vec<_>>())? {
        let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
        println!("{}", numbers.join(" "));
    }
    Ok(())
}
