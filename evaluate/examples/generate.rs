//! Goes on with a text.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example generate -- model.gguf "Once upon a"
//! ```

use std::{error::Error, path::Path};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{
    Model, Options, Session,
    generate::{Generator, TextStream},
    sample::{SampleOptions, Sampler},
};

/// At most so many tokens more, each the likeliest.
pub(crate) fn generate(model: &Path, prompt: &str, most: usize) -> Result<String, Box<dyn Error>> {
    let model = Model::open(model, &Options::default())?;
    let tokenizer =
        Tokenizer::from_metadata(model.metadata()).map_err(|error| error.to_string())?;
    let prompt = tokenizer.encode(prompt, EncodeOptions::default());
    let mut session = Session::new(&model, prompt.len() + most)?;
    let greedy = SampleOptions { temperature: 0.0, ..SampleOptions::default() };
    let mut generator = Generator::new(&mut session, &prompt, Sampler::new(greedy))?;
    let (mut stream, mut text) = (TextStream::default(), String::new());
    for _ in 0..most {
        match generator.next_token()? {
            Some(token) if !tokenizer.is_end_of_generation(token) => {
                text += &stream.push(&tokenizer, token);
            }
            _ => break,
        }
    }
    Ok(text + &stream.finish())
}

#[allow(dead_code, reason = "a test calls the rest")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt] = &arguments[..] else { return Err("usage: generate MODEL PROMPT".into()) };
    println!("{prompt}{}", generate(model.as_ref(), prompt, 64)?);
    Ok(())
}
