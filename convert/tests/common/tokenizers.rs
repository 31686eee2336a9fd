//! Folders with tokenizers, and what is written of them.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::{fs, path::Path};

use gguf_io::metadata::{Array, Metadata, Value};
use quant_convert::{
    Config, Result,
    tokenizer::{self, Kind, Options},
};
use serde_json::{Value as Json, json};

use crate::common::fixture;

pub(crate) const DECODER: Options<'static> = Options {
    kinds: &[Kind::SentencePiece, Kind::ByteLevel],
    adjustments: &[],
    pre_tokenizer: None,
    like_reference: false,
};
pub(crate) const ENCODER: Options<'static> = Options { kinds: &[Kind::WordPiece], ..DECODER };
pub(crate) const REFERENCE: Options<'static> = Options { like_reference: true, ..DECODER };

pub(crate) fn read(dir: &Path, options: &Options<'_>) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    tokenizer::write(dir, &Config::read(dir)?, options, &mut metadata)?;
    Ok(metadata)
}

pub(crate) fn refusal(dir: &Path, options: &Options<'_>) -> String {
    let message = read(dir, options).map(|_| ()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// What was warned of meanwhile.
pub(crate) fn warnings<T>(work: impl FnOnce() -> T) -> (T, String) {
    let (result, warnings) = crate::common::warnings(work);
    (result, warnings.join("\n"))
}

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, Json)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content.to_string()).unwrap();
    }
    dir
}

/// The tokenizer's files and config.json of a fixture.
pub(crate) fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if file.contains("token") || file == "config.json" {
            fs::copy(&path, dir.path().join(file)).unwrap();
        }
    }
    let config = dir.path().join("config.json");
    if !config.exists() {
        fs::write(config, json!({"vocab_size": 1003, "type_vocab_size": 2}).to_string()).unwrap();
    }
    dir
}

pub(crate) fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Json)) {
    let path = dir.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

pub(crate) fn tokens(metadata: &Metadata) -> Vec<&str> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => {
            tokens.iter().map(|token| token.as_str().unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn types(metadata: &Metadata) -> &[i32] {
    match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::Int32(types))) => types,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn scores(metadata: &Metadata) -> &[f32] {
    match metadata.get("tokenizer.ggml.scores") {
        Some(Value::Array(Array::Float32(scores))) => scores,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn id(metadata: &Metadata, role: &str) -> Option<u64> {
    metadata.get_u64(&format!("tokenizer.ggml.{role}_token_id"))
}

pub(crate) const CONTROL: i32 = 3;
pub(crate) const USER: i32 = 4;
pub(crate) const NORMAL: i32 = 1;

/// A vocabulary of SentencePiece's kind: these tokens behind the unknown one, the start, the end and
/// all bytes.
pub(crate) fn byte_fallback(more: &[&str], merges: Json, added: Json) -> Json {
    let mut vocabulary: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    vocabulary.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    vocabulary.extend(more.iter().map(|&token| token.to_owned()));
    let ids: Json =
        vocabulary.into_iter().enumerate().map(|(id, token)| (token, id)).collect::<Map>().into();
    json!({
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": ids, "merges": merges},
    })
}

struct Map(serde_json::Map<String, Json>);

impl FromIterator<(String, usize)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, usize)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(token, id)| (token, id.into())).collect())
    }
}

impl From<Map> for Json {
    fn from(map: Map) -> Self {
        Self::Object(map.0)
    }
}

/// The first id that is no byte.
pub(crate) const FIRST: usize = 259;
