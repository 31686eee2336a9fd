//! The tokens that our own tokenizer makes with what we write equal those of transformers.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::{collections::BTreeMap, fs};

use common::fixture;
use gguf_io::Metadata;
use gguf_model::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
use quant_convert::{
    Config, Options,
    tokenizer::{self, Kind},
};
use serde_json::json;

#[derive(serde::Deserialize)]
struct Snapshot {
    texts: Vec<String>,
    /// For each fixture the ids of each text, made by `interop/tokens.py --snapshot`.
    tokens: BTreeMap<String, Vec<Vec<u32>>>,
}

/// The metadata of a checkpoint, or of a tokenizer alone.
fn metadata(name: &str) -> Metadata {
    if name.starts_with("tiny-") {
        return quant_convert::open(&fixture(name), &Options::default()).unwrap().metadata;
    }
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture("tokenizers").join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = json!({"vocab_size": 1003, "type_vocab_size": 2, "pad_token_id": 0});
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let options = tokenizer::Options {
        kinds: &[Kind::WordPiece],
        adjustments: &[],
        pre_tokenizer: None,
        like_reference: false,
    };
    let mut metadata = Metadata::new();
    tokenizer::write(dir.path(), &Config::read(dir.path()).unwrap(), &options, &mut metadata)
        .unwrap();
    metadata
}

#[test]
fn tokens_equal_those_of_transformers() {
    let text = fs::read(fixture("tokenizers").join("tokens.json")).unwrap();
    let snapshot: Snapshot = serde_json::from_slice(&text).unwrap();
    assert_eq!((snapshot.texts.len(), snapshot.tokens.len()), (40, 6));
    let options = EncodeOptions { add_special: false, parse_special: true };
    let mut wrong = Vec::new();
    for (name, expected) in &snapshot.tokens {
        let tokenizer = Tokenizer::from_metadata(&metadata(name)).unwrap();
        for (text, expected) in snapshot.texts.iter().zip(expected) {
            let ids = tokenizer.encode(text, options);
            if ids != *expected {
                wrong.push(format!("{name}, {text:?}: {ids:?}, not {expected:?}"));
            }
            // Of the others llama.cpp takes spaces before punctuation away.
            if name == "tiny-llama2" || name == "tiny-qwen2" {
                let decoded = tokenizer.decode(&ids, DecodeOptions::default());
                assert_eq!(String::from_utf8_lossy(&decoded), *text, "{name}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
