//! Tokenizers of encoders: WordPiece and unigram, from each of the files they are kept in.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::{fs, path::Path};

use common::fixture;
use gguf_io::metadata::{Array, Metadata, Value};
use quant_convert::{
    Config, Result,
    tokenizer::{self, Kind, Options},
};
use serde_json::{Value as Json, json};

fn read(dir: &Path, kind: Kind) -> Result<Metadata> {
    let options =
        Options { kinds: &[kind], adjustments: &[], pre_tokenizer: None, like_reference: false };
    let mut metadata = Metadata::new();
    tokenizer::write(dir, &Config::read(dir)?, &options, &mut metadata)?;
    Ok(metadata)
}

/// A tokenizer of the fixtures beside a config.json.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture("tokenizers").join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = json!({"vocab_size": 1003, "type_vocab_size": 2, "pad_token_id": 0});
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

fn vocabulary(dir: &Path) -> Json {
    let text = fs::read(dir.join("tokenizer.json")).unwrap();
    serde_json::from_slice::<Json>(&text).unwrap()["model"]["vocab"].clone()
}

fn tokens(metadata: &Metadata) -> Vec<String> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => {
            tokens.iter().map(|token| token.as_str().unwrap().to_owned()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn types(metadata: &Metadata) -> Vec<i32> {
    match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::Int32(types))) => types.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn word_piece_marks_the_starts_of_words() {
    let dir = copy("bert");
    let metadata = read(dir.path(), Kind::WordPiece).unwrap();
    let (tokens, types) = (tokens(&metadata), types(&metadata));
    assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("bert"));
    assert_eq!(tokens.len(), 1003);
    for (token, id) in vocabulary(dir.path()).as_object().unwrap() {
        let id = id.as_u64().unwrap() as usize;
        let expected = match token.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if token.starts_with('[') && token.len() > 1 => token.clone(),
            None => format!("▁{token}"),
        };
        assert_eq!(tokens[id], expected);
        assert_eq!(types[id], if tokens[id].starts_with('[') { 3 } else { 1 }, "{token}");
    }
    // Those that fill the vocabulary up.
    assert_eq!((tokens[1002].as_str(), types[1002]), ("▁[PAD1002]", 5));
    assert_eq!(metadata.get("tokenizer.ggml.token_type_count"), Some(&Value::Uint32(2)));
    assert_eq!(metadata.get("tokenizer.ggml.seperator_token_id"), Some(&Value::Uint32(3)));
    assert_eq!(metadata.get("tokenizer.ggml.mask_token_id"), Some(&Value::Uint32(4)));
}

#[test]
fn a_list_of_tokens_is_the_same_tokenizer() {
    let dir = copy("bert");
    let whole = read(dir.path(), Kind::WordPiece).unwrap();
    let vocabulary = vocabulary(dir.path());
    let mut list: Vec<(u64, &str)> = vocabulary
        .as_object()
        .unwrap()
        .iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token.as_str()))
        .collect();
    list.sort_unstable();
    let list: String = list.into_iter().map(|(_, token)| format!("{token}\n")).collect();
    fs::write(dir.path().join("vocab.txt"), list).unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let listed = read(dir.path(), Kind::WordPiece).unwrap();
    assert_eq!(tokens(&listed), tokens(&whole));
    assert_eq!(types(&listed), types(&whole));
    // A list that is too long, and one with nothing in it.
    let config = json!({"vocab_size": 10}).to_string();
    fs::write(dir.path().join("config.json"), config).unwrap();
    let message = read(dir.path(), Kind::WordPiece).unwrap_err().to_string();
    assert!(message.contains("vocab.txt") && message.contains("below vocab_size"), "{message}");
    fs::write(dir.path().join("vocab.txt"), "").unwrap();
    assert_eq!(tokens(&read(dir.path(), Kind::WordPiece).unwrap()).len(), 10);
    fs::remove_file(dir.path().join("vocab.txt")).unwrap();
    assert!(read(dir.path(), Kind::WordPiece).is_err());
}

#[test]
fn unigram_tokens_have_their_scores_and_types() {
    let dir = copy("xlm-roberta");
    let metadata = read(dir.path(), Kind::Fairseq).unwrap();
    let (tokens, types) = (tokens(&metadata), types(&metadata));
    assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("t5"));
    assert_eq!(tokens[..4], ["<s>", "<pad>", "</s>", "<unk>"]);
    assert_eq!(types[..5], [3, 3, 3, 2, 1]);
    assert_eq!((tokens[601].as_str(), types[601]), ("<mask>", 3));
    assert_eq!((tokens[1002].as_str(), types[1002]), ("[PAD1002]", 5));
    let Some(Value::Array(Array::Float32(scores))) = metadata.get("tokenizer.ggml.scores") else {
        panic!("no scores");
    };
    let expected = vocabulary(dir.path())[42][1].as_f64().unwrap() as f32;
    assert_eq!((scores[0], scores[42], scores[1002]), (0.0, expected, -10_000.0));
    let charsmap = metadata.get("tokenizer.ggml.precompiled_charsmap");
    let Some(Value::Array(Array::Uint8(charsmap))) = charsmap else { panic!("no charsmap") };
    assert_eq!((charsmap.len(), charsmap[1]), (4 + 1024 + 1, 4));
    for key in ["add_space_prefix", "remove_extra_whitespaces"] {
        let key = format!("tokenizer.ggml.{key}");
        assert_eq!(metadata.get(&key), Some(&Value::Bool(true)), "{key}");
    }
}

#[test]
fn damaged_unigram_files_are_refused() {
    for (key, value, expected) in [
        ("/normalizer/precompiled_charsmap", json!("AB*="), "bytes in base64"),
        ("/model/vocab", json!({"a": 0}), "a list of tokens with scores"),
        ("/model/vocab/7/1", json!(1e300), "a score of 32 bits"),
    ] {
        let dir = copy("xlm-roberta");
        let path = dir.path().join("tokenizer.json");
        let mut tokenizer: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *tokenizer.pointer_mut(key).unwrap() = value;
        fs::write(&path, tokenizer.to_string()).unwrap();
        let message = read(dir.path(), Kind::Fairseq).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
    }
    // SentencePiece's own file: one that merges pieces is of another tokenizer.
    let dir = copy("xlm-roberta");
    let model = fixture("tiny-llama2").join("tokenizer.model");
    fs::copy(model, dir.path().join("sentencepiece.bpe.model")).unwrap();
    let message = read(dir.path(), Kind::Fairseq).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("a unigram model"), "{message}");
}
