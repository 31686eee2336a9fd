//! Writes the logits after each token, or the vectors that come out of an encoder, as 32-bit floats:
//!
//! ```sh
//! cargo run --release -p quant-evaluate --example logits -- model.gguf out.f32 1 450 4996
//! ```

use std::{fs::File, io::BufWriter, io::Write as _, num::NonZeroUsize, sync::Arc};

use quant_evaluate::{CachePrecision, Model, Options, Session};
use quant_kernels::Pool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("usage: logits MODEL OUT TOKEN…".into());
    };
    let tokens = arguments.map(|token| token.parse()).collect::<Result<Vec<u32>, _>>()?;
    let mut options = Options::default();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    options.threads = Arc::new(Pool::new(threads)?);
    options.cache = CachePrecision::Single;
    let model = Model::open(path, &options)?;
    let mut session = Session::new(&model, tokens.len())?;
    let mut file = BufWriter::new(File::create(out)?);
    let mut written = Ok(());
    session.forward(&tokens, 0..tokens.len(), |_, row| {
        for value in row {
            if written.is_ok() {
                written = file.write_all(&value.to_le_bytes());
            }
        }
    })?;
    written?;
    file.flush()?;
    Ok(())
}
