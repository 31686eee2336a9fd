//! Prints the tokens that a GGUF file's own tokenizer makes of texts.
//!
//!     tokenize FILE [--add-special] [--parse-special] [--pieces] < TEXTS
//!
//! Texts are separated by zero bytes. Each gives a line of ids; with --pieces a second line, the text
//! that the ids stand for, as JSON would have it.

use std::{
    error::Error,
    io::{self, Read, Write},
    path::Path,
};

use gguf_io::{GgufFile, Limits};
use gguf_model::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut flag = |name: &str| {
        let found = arguments.iter().position(|argument| argument == name);
        found.map(|at| arguments.remove(at)).is_some()
    };
    let options = EncodeOptions {
        add_special: flag("--add-special"),
        parse_special: flag("--parse-special"),
    };
    let shows_pieces = flag("--pieces");
    let [file] = &arguments[..] else {
        return Err("usage: tokenize FILE [--add-special] [--parse-special] [--pieces]".into());
    };
    let model = GgufFile::open(Path::new(file), &Limits::default())?;
    let tokenizer = Tokenizer::from_metadata(&model.metadata)?;
    let mut input = String::new();
    io::stdin().read_to_string(&mut input)?;
    let mut output = io::BufWriter::new(io::stdout());
    for text in input.split('\0') {
        let ids = tokenizer.encode(text, options);
        let shown: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(output, "{}", shown.join(" "))?;
        if shows_pieces {
            let options = DecodeOptions { show_special: true, remove_special: true };
            let text = tokenizer.decode(&ids, options);
            writeln!(output, "{:?}", String::from_utf8_lossy(&text))?;
        }
    }
    Ok(output.flush()?)
}
