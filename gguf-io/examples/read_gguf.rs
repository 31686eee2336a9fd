//! Lists a GGUF file, and shows the first values of a tensor.
//!
//! ```sh
//! cargo run -p gguf-io --example read_gguf -- model.gguf [TENSOR]
//! ```

use gguf_io::{GgufFile, Limits};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else { return Err("usage: read_gguf FILE [TENSOR]".into()) };
    let Some(name) = arguments.next() else { return list(&path) };

    // The job, 2 lines:
    let model = GgufFile::open(path, &Limits::default())?;
    let values = model.tensor(&name)?.read()?.dequantize()?;
    // Done.

    println!("{name}: {} values, the first {:?}", values.len(), &values[..values.len().min(8)]);
    Ok(())
}

fn list(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let model = GgufFile::open(path, &Limits::default())?;
    // Opening reads the header alone. This looks whether the data is there, and in its place.
    model.check_data()?;
    for (key, value) in &model.metadata {
        println!("{key} = {value}");
    }
    for tensor in model.iter() {
        println!("{:40} {:8} {:?}", tensor.name(), tensor.ty, tensor.dims());
    }
    Ok(())
}
