//! The tokenizers of all five fixtures, and files that are not as they should be.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "tokenizer/chat_templates.rs"]
mod chat_templates;
mod common;

use std::{fs, path::Path};

use common::{assert_same, described, fixture, golden};
use gguf_io::metadata::Metadata;
use proptest::prelude::*;
use quant_convert::{
    Config, Error, Result,
    tokenizer::{self, Kind, Options},
};

const KINDS: &[Kind] = &[Kind::SentencePiece, Kind::ByteLevel];

fn read(dir: &Path, pre: Option<&str>) -> Result<Metadata> {
    read_as(dir, pre, false)
}

fn read_as(dir: &Path, pre: Option<&str>, like_reference: bool) -> Result<Metadata> {
    let config = Config::read(dir)?;
    let options = Options { kinds: KINDS, adjustments: &[], pre_tokenizer: pre, like_reference };
    let mut metadata = Metadata::new();
    tokenizer::write(dir, &config, &options, &mut metadata)?;
    Ok(metadata)
}

/// A copy of a fixture's small files.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap();
        if path.extension().is_some_and(|ext| ext == "json") || file == "tokenizer.model" {
            fs::copy(&path, dir.path().join(file)).unwrap();
        }
    }
    dir
}

fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn tokens_of(metadata: &Metadata) -> Vec<String> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(gguf_io::Value::Array(gguf_io::Array::String(tokens))) => {
            tokens.iter().map(|token| token.as_str().unwrap().to_owned()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn types_of(metadata: &Metadata) -> Vec<i32> {
    match metadata.get("tokenizer.ggml.token_type") {
        Some(gguf_io::Value::Array(gguf_io::Array::Int32(types))) => types.clone(),
        other => panic!("{other:?}"),
    }
}

fn scores_of(metadata: &Metadata) -> Vec<f32> {
    match metadata.get("tokenizer.ggml.scores") {
        Some(gguf_io::Value::Array(gguf_io::Array::Float32(scores))) => scores.clone(),
        other => panic!("{other:?}"),
    }
}

fn refusal(dir: &Path) -> String {
    let message = read(dir, None).map(|_| ()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn fixtures_equal_the_reference() {
    for name in ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"] {
        let mut expected = golden(name, "metadata_f32");
        expected.retain(|key, _| key.starts_with("tokenizer."));
        // PhiModel writes this key with the hyper-parameters, before the others.
        if name == "tiny-phi2" {
            let value = expected.shift_remove("tokenizer.ggml.add_bos_token").unwrap();
            expected.insert("tokenizer.ggml.add_bos_token".into(), value);
        }
        let found = described(&read(&fixture(name), None).unwrap());
        assert_same(&found, &expected);
    }
}

#[test]
fn a_given_pre_tokenizer_is_taken() {
    let metadata = read(&fixture("tiny-llama3"), Some("smaug-bpe")).unwrap();
    assert_eq!(metadata.get_str("tokenizer.ggml.pre"), Some("smaug-bpe"));
    let error = read(&fixture("tiny-llama3"), Some("smaug")).unwrap_err();
    assert!(matches!(error, Error::PreTokenizerName { .. }), "{error}");
}

#[test]
fn vocabularies_are_padded_and_bounded() {
    for name in ["tiny-llama2", "tiny-llama3"] {
        let dir = copy(name);
        edit(dir.path(), "config.json", |config| config["vocab_size"] = 1030.into());
        let metadata = described(&read(dir.path(), None).unwrap());
        assert_eq!(metadata["tokenizer.ggml.tokens"]["len"], 1030, "{name}");
        assert_eq!(metadata["tokenizer.ggml.token_type"]["len"], 1030, "{name}");
        edit(dir.path(), "config.json", |config| config["vocab_size"] = 4_000_000_000u64.into());
        assert!(refusal(dir.path()).contains("vocab_size"), "{name}");
    }
    let dir = copy("tiny-llama3");
    edit(dir.path(), "config.json", |config| config["vocab_size"] = 1000.into());
    assert!(refusal(dir.path()).contains("ids below vocab_size, which config.json says is 1000"));
}

#[test]
fn both_forms_of_merges_are_the_same() {
    let dir = copy("tiny-llama3");
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        for merge in tokenizer["model"]["merges"].as_array_mut().unwrap() {
            *merge =
                format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()).into();
        }
    });
    assert_eq!(read(dir.path(), None).unwrap(), read(&fixture("tiny-llama3"), None).unwrap());
    // ... and so are those of merges.txt.
    let merges = |tokenizer: &mut serde_json::Value| tokenizer["model"]["merges"].take();
    let mut list = serde_json::Value::Null;
    edit(dir.path(), "tokenizer.json", |tokenizer| list = merges(tokenizer));
    assert!(refusal(dir.path()).contains("no merges"));
    let lines: Vec<&str> =
        list.as_array().unwrap().iter().map(|merge| merge.as_str().unwrap()).collect();
    fs::write(dir.path().join("merges.txt"), format!("#version: 0.2\n{}\n", lines.join("\n")))
        .unwrap();
    assert_eq!(read(dir.path(), None).unwrap(), read(&fixture("tiny-llama3"), None).unwrap());
    // A space inside a token is written the way byte-level BPE writes it.
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["model"]["merges"] = serde_json::json!([["a b", " "], ["c", "d"]]);
    });
    let metadata = read(dir.path(), None).unwrap();
    let expected = gguf_io::Value::from(vec![gguf_io::GgufString::from("aĠb Ġ"), "c d".into()]);
    assert_eq!(metadata.get("tokenizer.ggml.merges"), Some(&expected));
}

#[test]
fn special_tokens_come_from_whichever_file_has_them() {
    let dir = copy("tiny-llama3");
    edit(dir.path(), "config.json", |config| config["eos_token_id"] = serde_json::json!([1, 2]));
    edit(dir.path(), "tokenizer_config.json", |config| {
        config["eos_token"] = serde_json::json!({"content": "<|eot_id|>", "special": true});
        config["pad_token"] = "<|end_of_text|>".into();
        config["add_eos_token"] = true.into();
    });
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        let bos = serde_json::json!({"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}});
        let sequence = |id: &str| serde_json::json!({"Sequence": {"id": id, "type_id": 0}});
        tokenizer["post_processor"] = serde_json::json!({"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
            {"type": "TemplateProcessing", "single": [bos, sequence("A")],
             "pair": [bos, sequence("A"), bos, sequence("B")], "special_tokens": {}},
        ]});
    });
    let metadata = read(dir.path(), None).unwrap();
    let id = |key: &str| metadata.get_u64(&format!("tokenizer.ggml.{key}_token_id"));
    assert_eq!(id("bos"), Some(1019));
    assert_eq!(id("eos"), Some(1023));
    assert_eq!(id("padding"), Some(1020));
    let add = |key: &str| metadata.get(&format!("tokenizer.ggml.add_{key}_token")).cloned();
    assert_eq!(add("bos"), Some(true.into()));
    // The post-processor counts, not add_eos_token.
    assert_eq!(add("eos"), Some(false.into()));
    assert_eq!(add("sep"), Some(false.into()));
}

#[test]
fn an_end_of_text_that_the_post_processor_replaces_is_kept_as_end_of_turn() {
    let dir = copy("tiny-llama3");
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        let token = |id: &str| serde_json::json!({"SpecialToken": {"id": id, "type_id": 0}});
        tokenizer["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A"}}, token("<|eot_id|>")], "pair": []});
    });
    let metadata = read(dir.path(), None).unwrap();
    assert_eq!(metadata.get_u64("tokenizer.ggml.eos_token_id"), Some(1023));
    assert_eq!(metadata.get_u64("tokenizer.ggml.eot_token_id"), Some(1020));
    assert_eq!(metadata.get("tokenizer.ggml.add_eos_token"), Some(&true.into()));
}

#[test]
fn marks_of_parts_of_words_are_warned_of() {
    let dir = copy("tiny-llama3");
    for (key, affix, expected) in [
        ("continuing_subword_prefix", "##", true),
        ("end_of_word_suffix", "</w>", true),
        ("end_of_word_suffix", "", false),
    ] {
        let before = fs::read(dir.path().join("tokenizer.json")).unwrap();
        edit(dir.path(), "tokenizer.json", |tokenizer| tokenizer["model"][key] = affix.into());
        let (_, told) = common::warnings(|| read(dir.path(), None).unwrap());
        let told = told.join("\n");
        assert_eq!(told.contains(key), expected, "{told}");
        fs::write(dir.path().join("tokenizer.json"), before).unwrap();
    }
}

#[test]
fn added_tokens_have_the_types_llama_cpp_expects() {
    let dir = copy("tiny-llama3");
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        added[4]["special"] = false.into();
        added[3] = serde_json::json!({"id": 1022, "content": "Ġuser", "special": false, "normalized": false});
        added[2] = serde_json::json!({"id": 1021, "content": "▁▁user", "special": false, "normalized": true});
        added[1]["content"] = "plain".into();
    });
    edit(dir.path(), "tokenizer_config.json", |config| config["unk_token"] = "the".into());
    let metadata = read(dir.path(), None).unwrap();
    let (tokens, types) = (tokens_of(&metadata), types_of(&metadata));
    let last = |n: usize| (tokens[1024 - n].as_str(), types[1024 - n]);
    // Looks special, so it is; a user's token is decoded and its spaces are spaces.
    assert_eq!(last(1), ("<|eot_id|>", 3));
    assert_eq!(last(2), (" user", 4));
    assert_eq!(last(3), ("  user", 4));
    assert_eq!(last(4), ("plain", 3));
    // transformers makes a token of the vocabulary with a role a special one.
    let the = tokens.iter().position(|token| token == "the");
    assert_eq!(the.map(|the| types[the]), Some(3));
}

#[test]
fn sentencepiece_takes_added_tokens() {
    let dir = copy("tiny-llama2");
    edit(dir.path(), "config.json", |config| config["vocab_size"] = 1028.into());
    fs::write(dir.path().join("added_tokens.json"), r#"{"<user>": 1024, "<beyond>": 5000}"#)
        .unwrap();
    edit(dir.path(), "tokenizer_config.json", |config| {
        config["added_tokens_decoder"] = serde_json::json!({
            "1025": {"content": "▁▁x", "special": false},
            "1026": {"content": "<|odd|>", "special": false},
        });
    });
    let metadata = read(dir.path(), None).unwrap();
    let (tokens, types) = (tokens_of(&metadata), types_of(&metadata));
    let scores = scores_of(&metadata);
    let found: Vec<_> = (1024..1028).map(|i| (tokens[i].as_str(), types[i], scores[i])).collect();
    let expected =
        [("<user>", 4, -1e3), ("  x", 4, -1e3), ("<|odd|>", 3, -1e3), ("[PAD1027]", 5, -1e4)];
    assert_eq!(found, expected);
    fs::write(dir.path().join("added_tokens.json"), r#"{"<user>": "x"}"#).unwrap();
    assert!(refusal(dir.path()).contains("added_tokens.json: token \"<user>\""));
}

#[test]
fn byte_fallback_bpe_in_tokenizer_json() {
    let dir = copy("tiny-llama3");
    fs::remove_file(dir.path().join("special_tokens_map.json")).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        *tokenizer = serde_json::json!({
            "added_tokens": [
                {"id": 0, "content": "<unk>", "special": true, "normalized": false},
                {"id": 1, "content": "<s>", "special": true, "normalized": false},
                {"id": 4, "content": "<|im_end|>", "special": false, "normalized": false}],
            "decoder": {"type": "Sequence", "decoders": []},
            "model": {"type": "BPE", "byte_fallback": true, "merges": ["a b"],
                "vocab": {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "▁a": 3}},
        });
    });
    let found = described(&read_as(dir.path(), None, true).unwrap());
    assert_eq!(found["tokenizer.ggml.model"]["value"], "llama");
    assert_eq!(found["tokenizer.ggml.tokens"]["len"], 5);
    let types: Vec<u8> = [3i32, 3, 6, 1, 4].iter().flat_map(|ty| ty.to_le_bytes()).collect();
    assert_eq!(found["tokenizer.ggml.token_type"]["sha256"], common::hex(&types));
    // Our own: as many tokens as the embedding has rows, or no engine loads the file.
    let own = read(dir.path(), None).unwrap();
    assert_eq!(types_of(&own)[..6], [3, 3, 6, 1, 3, 5]);
    assert_eq!(tokens_of(&own).len(), 1024);
    edit(dir.path(), "tokenizer.json", |tokenizer| tokenizer["model"]["vocab"]["▁a"] = 1.into());
    assert!(refusal(dir.path()).contains("an id for each token"));
}

#[test]
fn missing_and_damaged_files_are_named() {
    let dir = copy("tiny-llama3");
    let tokenizer = dir.path().join("tokenizer.json");
    let sound = fs::read(&tokenizer).unwrap();
    for (bytes, expected) in [
        (&b"{"[..], "tokenizer.json: line 1"),
        (b"", "found an empty file"),
        (b"<!doctype html>", "found a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "found a Git-LFS pointer"),
        (br#"{"model": {"type": "BPE"}}"#, "missing field `vocab`"),
        (
            br#"{"model": {"type": "Unigram", "vocab": [["a", 0.5]]}}"#,
            "model.type: found a unigram model",
        ),
        (
            br#"{"model": {"type": "WordLevel", "vocab": {"a": 0}}}"#,
            "model.type: found \"WordLevel\"",
        ),
        (
            br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": ["a b"]}}"#,
            // Asked for before ids are compared.
            "if you know llama.cpp's name for it, give it",
        ),
        (
            br#"{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": ["a a"]}}"#,
            "if you know llama.cpp's name for it, give it",
        ),
        (br#"{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}"#, "invalid value"),
        (br#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}"#, "invalid length"),
        (
            br#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"]}}"#,
            "if you know llama.cpp's name for it, give it",
        ),
    ] {
        fs::write(&tokenizer, bytes).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
    fs::remove_file(&tokenizer).unwrap();
    assert!(refusal(dir.path()).contains("no tokenizer file"));
    // A byte order mark, which editors on Windows write, is no part of it.
    for empty in ["{}", "\u{feff}{}"] {
        fs::write(dir.path().join("tekken.json"), empty).unwrap();
        assert!(refusal(dir.path()).contains("missing field `config`"));
    }
    fs::write(&tokenizer, sound).unwrap();
    read(dir.path(), None).unwrap();
}

#[test]
fn damaged_sentencepiece_models_are_refused() {
    let dir = copy("tiny-llama2");
    let path = dir.path().join("tokenizer.model");
    let sound = fs::read(&path).unwrap();
    for cut in 0..200.min(sound.len()) {
        fs::write(&path, &sound[..cut]).unwrap();
        assert!(refusal(dir.path()).contains("tokenizer.model: "));
    }
    let edited = |vocab_size: u64| {
        edit(dir.path(), "config.json", |config| config["vocab_size"] = vocab_size.into())
    };
    edited(2);
    let (unknown, again, a) = (
        &b"\x0a\x05\x0a\x01u\x18\x02"[..],
        &b"\x0a\x05\x0a\x01v\x18\x02"[..],
        &b"\x0a\x03\x0a\x01a"[..],
    );
    fs::write(&path, [unknown, a].concat()).unwrap();
    read(dir.path(), None).unwrap();
    for (parts, expected) in [
        (vec![unknown, again], "a second unknown piece"),
        (vec![a, b"\x0a\x03\x0a\x01b"], "no unknown piece"),
        (vec![unknown, a, a], "which is piece 1 as well"),
        (vec![unknown, b"\x0a\x00"], "no text"),
        (vec![unknown], "1 pieces and nothing after them"),
        (vec![b"\x0a\x03\x0a\x01\xff"], "cannot be decoded"),
        (vec![b"{}"], "found JSON"),
        (vec![b"version https://git-lfs.github.com/spec/v1"], "Git-LFS"),
    ] {
        fs::write(&path, parts.concat()).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(expected), "{message}\nexpected {expected}");
    }
    edited(1024);
    fs::write(&path, sound).unwrap();
    read(dir.path(), None).unwrap();
}

fn write_and_read(name: &str, file: &str, bytes: &[u8]) {
    let dir = copy(name);
    fs::write(dir.path().join(file), bytes).unwrap();
    if let Err(error) = read(dir.path(), None) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        write_and_read("tiny-llama2", "tokenizer.model", &bytes);
        write_and_read("tiny-llama3", "tokenizer.json", &bytes);
    }

    #[test]
    fn damaged_models_never_panic(at in 0usize..10_000, byte in any::<u8>(), cut in any::<bool>()) {
        for (name, file) in [("tiny-llama2", "tokenizer.model"), ("tiny-llama3", "tokenizer.json"),
                             ("tiny-llama3", "tokenizer_config.json"), ("tiny-llama2", "config.json")] {
            let mut bytes = fs::read(fixture(name).join(file)).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            write_and_read(name, file, &bytes);
        }
    }

    #[test]
    fn structured_nonsense_never_panics(value in nonsense(), key in 0usize..5) {
        let dir = copy("tiny-llama3");
        edit(dir.path(), "tokenizer.json", |tokenizer| {
            let key = ["post_processor", "pre_tokenizer", "normalizer", "decoder", "added_tokens"][key];
            tokenizer[key] = value.clone();
        });
        edit(dir.path(), "tokenizer_config.json", |config| {
            config["added_tokens_decoder"] = value.clone();
            config["bos_token"] = value.clone();
            config["extra_special_tokens"] = value.clone();
            config["chat_template"] = value;
        });
        if let Err(error) = read(dir.path(), None) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}

/// JSON with the keys the reader looks for, in any place.
fn nonsense() -> impl Strategy<Value = serde_json::Value> {
    let words = || {
        prop::sample::select(vec![
            "type",
            "Sequence",
            "TemplateProcessing",
            "RobertaProcessing",
            "ByteLevel",
            "Split",
            "single",
            "pair",
            "SpecialToken",
            "id",
            "A",
            "B",
            "processors",
            "pretokenizers",
            "normalizers",
            "cls",
            "sep",
            "pattern",
            "Regex",
            "content",
            "name",
            "template",
            "1",
            "1020",
            "<|eot_id|>",
            "",
            "\n",
        ])
    };
    let leaf = prop_oneof![
        words().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::vec((words(), inner), 0..6).prop_map(|entries| {
                entries
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }),
        ]
    })
}
