//! Makes the importance matrix of a model from a text.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example collect_importance -- model.gguf text.txt imatrix.gguf
//! ```

use std::{error::Error, ops::ControlFlow, path::Path};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{
    Model, Options, Session, importance::Importance, measure, perplexity::Windows,
};

/// The bytes of the file.
pub(crate) fn importance(
    model: &Path,
    text: &str,
    window: usize,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let model = Model::open(model, &Options::default())?;
    let tokenizer =
        Tokenizer::from_metadata(model.metadata()).map_err(|error| error.to_string())?;
    let tokens = tokenizer.encode(text, EncodeOptions::default());
    let windows = Windows::new(&tokens, window, tokenizer.bos())?;
    let mut session = Session::new(&model, window)?;
    let mut importance = Importance::for_model(&model, window as u32, false);
    let mut progress = |_: usize, _: usize| ControlFlow::Continue(());
    measure::importance(&mut session, &windows, &mut importance, false, &mut progress)?;
    importance.check()?;
    Ok(importance.to_gguf()?)
}

#[allow(dead_code, reason = "a test calls the rest")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, output] = &arguments[..] else {
        return Err("usage: collect_importance MODEL TEXT OUTPUT".into());
    };
    let text = std::fs::read_to_string(text)?;
    std::fs::write(output, importance(model.as_ref(), &text, 512)?)?;
    Ok(())
}
