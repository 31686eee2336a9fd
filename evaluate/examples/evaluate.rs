//! The perplexity of a model on a text.
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example evaluate -- model.gguf text.txt
//! ```

use std::{num::NonZeroUsize, ops::ControlFlow, sync::Arc};

use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{Model, Options, Session, measure, perplexity::Windows};
use quant_kernels::Pool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: evaluate MODEL TEXT".into());
    };
    let text = std::fs::read_to_string(text)?;
    let mut options = Options::default();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    options.threads = Arc::new(Pool::new(threads)?);

    let model = Model::open(path, &options)?;
    let tokenizer = Tokenizer::from_metadata(model.metadata()).map_err(|p| p.to_string())?;
    let tokens = tokenizer.encode(&text, EncodeOptions::default());
    let windows = Windows::new(&tokens, 128, tokenizer.bos())?;
    let mut session = Session::new(&model, windows.size())?;
    let found = measure::perplexity(&mut session, &windows, &mut |done, all| {
        eprintln!("{done} of {all} windows");
        ControlFlow::Continue(())
    })?;

    println!("perplexity {:.4} ± {:.4}", found.value(), found.error());
    Ok(())
}
