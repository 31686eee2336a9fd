//! Prints the `tokenizer.*` keys of a checkpoint's folder as JSON, as with `--like-reference`:
//! `tokenizer FOLDER KIND`, with KIND one of sentencepiece, byte-level, word-piece, unigram, fairseq.
//! `interop/vocabularies.py` compares them with the reference's.

use std::{error::Error, path::Path};

use gguf_io::metadata::{Array, Metadata, Value};
use quant_convert::{
    Config,
    tokenizer::{self, Kind, Options},
};
use serde_json::{Map, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, kind] = arguments.as_slice() else {
        return Err("usage: tokenizer FOLDER KIND".into());
    };
    let kind = match kind.as_str() {
        "sentencepiece" => Kind::SentencePiece,
        "byte-level" => Kind::ByteLevel,
        "word-piece" => Kind::WordPiece,
        "unigram" => Kind::Unigram,
        "fairseq" => Kind::Fairseq,
        "gemma4" => Kind::Gemma4,
        other => return Err(format!("no such kind: {other}").into()),
    };
    // The hash is among what is logged.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let folder = Path::new(folder);
    let options =
        Options { kinds: &[kind], adjustments: &[], pre_tokenizer: None, like_reference: true };
    let mut metadata = Metadata::new();
    tokenizer::write(folder, &Config::read(folder)?, &options, &mut metadata)?;
    let keys: Map<_, _> = metadata.iter().map(|(k, v)| (k.to_owned(), shown(v))).collect();
    println!("{}", serde_json::Value::Object(keys));
    Ok(())
}

fn shown(value: &Value) -> serde_json::Value {
    let text = |text: &gguf_io::GgufString| String::from_utf8_lossy(text.as_bytes()).into_owned();
    let content = match value {
        Value::Uint32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(text(v)),
        Value::Array(Array::String(v)) => json!(v.iter().map(text).collect::<Vec<_>>()),
        Value::Array(Array::Float32(v)) => json!(v),
        Value::Array(Array::Int32(v)) => json!(v),
        Value::Array(Array::Uint8(v)) => json!(v),
        other => json!(format!("{other:?}")),
    };
    let ty = match value {
        Value::Array(array) => format!("ARRAY {}", array.element_type().name()),
        other => other.value_type().name().to_owned(),
    };
    json!([ty, content])
}
