//! Tokenizers as each version of transformers saves them: whichever files there are, text is split
//! as the checkpoint's own tokenizer splits it.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;
#[path = "saved_tokenizers/lists.rs"]
mod lists;
#[path = "common/tokenizers.rs"]
mod tokenizers;

use std::{fs, path::Path};

use common::fixture;
use gguf_io::metadata::{Metadata, Value};
use quant_convert::tokenizer::{Kind, Options};
use serde_json::{Value as Json, json};
use tokenizers::*;

/// How llama.cpp splits a text with a SentencePiece vocabulary: of all neighbours that make a token
/// the ones with the best score are joined, the leftmost of equals.
fn split(metadata: &Metadata, text: &str) -> Vec<String> {
    let (tokens, scores) = (tokens(metadata), scores(metadata));
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 1..parts.len() {
            let joined = parts[at - 1..=at].concat();
            let Some(id) = tokens.iter().position(|token| *token == joined) else { continue };
            if best.is_none_or(|(score, _)| scores[id] > score) {
                best = Some((scores[id], at));
            }
        }
        let Some((_, at)) = best else { return parts };
        let right = parts.remove(at);
        parts[at - 1] += &right;
    }
}

#[test]
fn scores_follow_the_merges_llama_cpp_16470() {
    let more = ["a", "b", "c", "d", "bc", "ab", "abc", "cd", "lost"];
    let pairs = json!([["b", "c"], ["a", "bc"], ["ab", "c"], ["c", "d"], ["a", "b"]]);
    let strings = json!(["b c", "a bc", "ab c", "c d", "a b"]);
    let config = json!({"vocab_size": 280});
    let dir = folder(&[
        ("tokenizer.json", byte_fallback(&more, pairs, json!([]))),
        ("config.json", config.clone()),
    ]);
    let metadata = read(dir.path(), &DECODER).unwrap();
    assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("llama"));
    let found = scores(&metadata);
    //        a     b     c     d     bc   ab    abc   cd    lost
    let expected = [-5.0, -5.0, -5.0, -5.0, 0.0, -4.0, -1.0, -3.0, -5.0];
    assert_eq!(found[FIRST..][..9], expected);
    // As many tokens as the embedding has rows, or no engine loads the file.
    assert_eq!((tokens(&metadata)[279], types(&metadata)[279]), ("[PAD279]", 5));
    assert_eq!(types(&metadata)[3..FIRST], [6; 256]);
    assert_eq!(split(&metadata, "abcd"), ["abc", "d"]);
    assert_eq!(split(&metadata, "abdbcd"), ["ab", "d", "bc", "d"]);
    let other = folder(&[
        ("tokenizer.json", byte_fallback(&more, strings, json!([]))),
        ("config.json", config),
    ]);
    assert_eq!(read(other.path(), &DECODER).unwrap(), metadata);
    // The reference's converter gives all the same score, by which the text is split otherwise.
    let theirs = read(dir.path(), &REFERENCE).unwrap();
    assert_eq!(scores(&theirs), vec![-1000.0; FIRST + 9]);
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        *tokenizer =
            byte_fallback(&["a", "b", "c", "bc", "ab"], json!([["b", "c"], ["a", "b"]]), json!([]));
    });
    assert_eq!(split(&read(dir.path(), &DECODER).unwrap(), "abc"), ["a", "bc"]);
    assert_eq!(split(&read(dir.path(), &REFERENCE).unwrap(), "abc"), ["ab", "c"]);
}

#[test]
fn a_token_that_lacks_a_merge_is_warned_of() {
    let config = json!({"vocab_size": 280});
    let more = ["a", "b", "c", "bc", "ab", "abc"];
    let dir = folder(&[
        (
            "tokenizer.json",
            byte_fallback(&more, json!([["b", "c"], ["a", "b"], ["ab", "c"]]), json!([])),
        ),
        ("config.json", config.clone()),
    ]);
    let (_, said) = warnings(|| read(dir.path(), &DECODER).unwrap());
    assert!(said.contains("\"a\" and \"bc\" to \"abc\"") && said.contains("0 other"), "{said}");
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["model"]["merges"].as_array_mut().unwrap().push(json!(["a", "bc"]));
    });
    assert_eq!(warnings(|| read(dir.path(), &DECODER).unwrap()).1, "");
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["pre_tokenizer"] = json!({"type": "Digits", "individual_digits": true});
    });
    let (_, said) = warnings(|| read(dir.path(), &DECODER).unwrap());
    assert!(said.contains("\"Digits\""), "{said}");
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>");
    });
    let (_, said) = warnings(|| read(dir.path(), &DECODER).unwrap());
    assert!(said.contains("255 of the 256"), "{said}");
}

#[test]
fn gemma_without_tokenizer_model_llama_cpp_19152() {
    let added = |id: usize, token: &str, special: bool| json!({"id": FIRST + id, "content": token, "special": special, "normalized": false});
    let more = ["▁", "▁▁", "a", "\t\t", "\n\n", "<start_of_turn>", "<end_of_turn>", "<table>"];
    let mut tokenizer = byte_fallback(
        &more,
        json!([["▁", "▁"], ["\t", "\t"]]),
        json!([
            added(1, "▁▁", false),
            added(3, "\t\t", false),
            added(4, "\n\n", false),
            added(5, "<start_of_turn>", true),
            added(6, "<end_of_turn>", false),
            added(7, "<table>", false),
        ]),
    );
    tokenizer["normalizer"] =
        json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    tokenizer["pre_tokenizer"] = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    // transformers gives the tab the id of its byte.
    tokenizer["model"]["vocab"]["\t"] = json!(3 + 9);
    let settings = json!({"extra_special_tokens": ["<end_of_turn>"], "eos_token": "<end_of_turn>"});
    let dir = folder(&[
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("config.json", json!({"vocab_size": 270})),
    ]);
    let (metadata, said) = warnings(|| read(dir.path(), &DECODER).unwrap());
    assert_eq!(said, "");
    assert_eq!(tokens(&metadata)[FIRST..][..8], more);
    let expected = [NORMAL, NORMAL, NORMAL, USER, USER, CONTROL, CONTROL, USER];
    assert_eq!(types(&metadata)[FIRST..][..8], expected);
    assert_eq!((tokens(&metadata)[12], types(&metadata)[12]), ("<0x09>", 6));
    assert_eq!(metadata.get("tokenizer.ggml.add_space_prefix"), Some(&false.into()));
    assert_eq!(id(&metadata, "eos"), Some(FIRST as u64 + 6));
    // Looked for in the normalized text, so where spaces are marks already: as spaces in the text.
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["added_tokens"][0]["normalized"] = true.into();
    });
    let metadata = read(dir.path(), &DECODER).unwrap();
    let runs = FIRST + 1;
    assert_eq!((tokens(&metadata)[runs], types(&metadata)[runs]), ("  ", USER));
    // The flag may be missing where the decoder is of another shape.
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["decoder"] = json!({"type": "Metaspace"});
        tokenizer["model"]["byte_fallback"] = Json::Null;
    });
    assert_eq!(read(dir.path(), &DECODER).unwrap().get_str("tokenizer.ggml.model"), Some("llama"));
}

#[test]
fn gemma_4_is_split_by_its_merges_and_shows_its_tags() {
    let added = |id: usize, token: &str, special: bool| json!({"id": FIRST + id, "content": token, "special": special, "normalized": false});
    let tokenizer = byte_fallback(
        &["▁", "▁▁", "<|channel>", "<turn|>"],
        json!([["▁", "▁"]]),
        json!([added(2, "<|channel>", true), added(3, "<turn|>", true)]),
    );
    let settings = json!({"extra_special_tokens": ["<|channel>", "<turn|>"]});
    let dir = folder(&[
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("config.json", json!({"vocab_size": 270})),
    ]);
    let kinds = Options { kinds: &[Kind::Gemma4, Kind::SentencePiece], ..DECODER };
    let metadata = read(dir.path(), &kinds).unwrap();
    assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("gemma4"));
    assert_eq!(metadata.get("tokenizer.ggml.pre"), None);
    assert_eq!(types(&metadata)[FIRST..][..4], [NORMAL, NORMAL, USER, CONTROL]);
    // As many tokens as the embedding has rows.
    assert_eq!(tokens(&metadata).len(), 270);
    let merges: Vec<gguf_io::GgufString> = vec!["▁ ▁".into()];
    let merges: Value = merges.into();
    assert_eq!(metadata.get("tokenizer.ggml.merges"), Some(&merges));
    assert_eq!(metadata.get("tokenizer.ggml.add_bos_token"), Some(&true.into()));
    // Without tokenizer.json there are no merges: SentencePiece's own scores split the text.
    let metadata = read(&fixture("tiny-llama2"), &kinds).unwrap();
    assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("llama"));
}

#[test]
fn a_space_goes_before_the_text_as_the_tokenizer_says() {
    let dir = folder(&[
        ("tokenizer.json", byte_fallback(&["a"], json!([]), json!([]))),
        ("config.json", json!({"vocab_size": 270})),
    ]);
    let check = |pre: Json, normalizer: Json, expected: Option<bool>| {
        edit(dir.path(), "tokenizer.json", |tokenizer| {
            tokenizer["pre_tokenizer"] = pre.clone();
            tokenizer["normalizer"] = normalizer.clone();
        });
        let metadata = read(dir.path(), &DECODER).unwrap();
        let expected = expected.map(Value::from);
        assert_eq!(metadata.get("tokenizer.ggml.add_space_prefix"), expected.as_ref(), "{pre}");
    };
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "prepend_scheme": scheme});
    // Not written where llama.cpp does so anyway.
    check(metaspace("always"), Json::Null, None);
    check(metaspace("first"), Json::Null, None);
    check(metaspace("never"), Json::Null, Some(false));
    check(json!({"type": "Metaspace", "add_prefix_space": false}), Json::Null, Some(false));
    check(json!({"type": "Metaspace"}), Json::Null, None);
    check(Json::Null, json!({"type": "Prepend", "prepend": "▁"}), None);
    check(Json::Null, Json::Null, Some(false));
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"add_prefix_space": true}"#).unwrap();
    check(Json::Null, Json::Null, None);
}

#[test]
fn tokenizer_model_says_whether_a_space_goes_before_the_text() {
    let dir = copy("tiny-llama2");
    let path = dir.path().join("tokenizer.model");
    let key = "tokenizer.ggml.add_space_prefix";
    assert_eq!(read(dir.path(), &DECODER).unwrap().get(key), None);
    let mut bytes = fs::read(&path).unwrap();
    // A further normalizer_spec is merged into the first: add_dummy_prefix is false.
    bytes.extend(b"\x1a\x02\x18\x00");
    fs::write(&path, bytes).unwrap();
    assert_eq!(read(dir.path(), &DECODER).unwrap().get(key), Some(&false.into()));
    assert_eq!(read(dir.path(), &REFERENCE).unwrap().get(key), None);
}

#[test]
fn what_only_looks_like_tokenizer_model_is_passed_over() {
    let tiktoken = "IQ== 0\nIg== 1\n";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    for name in ["tiny-llama3", "byte-fallback"] {
        let dir = match name {
            "byte-fallback" => folder(&[
                ("tokenizer.json", byte_fallback(&["a"], json!([]), json!([]))),
                ("config.json", json!({"vocab_size": 270})),
            ]),
            name => copy(name),
        };
        let expected = read(dir.path(), &DECODER).unwrap();
        let path = dir.path().join("tokenizer.model");
        for (text, warned) in [(tiktoken, None), (pointer, Some("a Git-LFS pointer"))] {
            fs::write(&path, text).unwrap();
            let (found, said) = warnings(|| read(dir.path(), &DECODER).unwrap());
            assert_eq!(found, expected);
            assert_eq!(said.is_empty(), warned.is_none(), "{said}");
            assert!(said.contains(warned.unwrap_or_default()), "{said}");
            // Alone it is named.
            let alone = folder(&[("config.json", json!({"vocab_size": 270}))]);
            fs::write(alone.path().join("tokenizer.model"), text).unwrap();
            let message = refusal(alone.path(), &DECODER);
            assert!(message.contains(warned.unwrap_or("a vocabulary for tiktoken")), "{message}");
        }
        // A real model counts.
        fs::copy(fixture("tiny-llama2").join("tokenizer.model"), &path).unwrap();
        edit(dir.path(), "config.json", |config| config["vocab_size"] = 1024.into());
        let metadata = read(dir.path(), &DECODER).unwrap();
        assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("llama"));
    }
}

#[test]
fn a_pre_tokenizer_is_for_byte_level_bpe_llama_cpp_7627() {
    let named = |options| Options { pre_tokenizer: Some("gpt-2"), ..options };
    let fallback = folder(&[
        ("tokenizer.json", byte_fallback(&["a"], json!([]), json!([]))),
        ("config.json", json!({"vocab_size": 270})),
    ]);
    let (model, words, unigram) =
        (copy("tiny-llama2"), copy("tokenizers/bert"), copy("tokenizers/xlm-roberta"));
    for (dir, options, what) in [
        (&model, DECODER, "a SentencePiece vocabulary"),
        (&fallback, DECODER, "a SentencePiece vocabulary"),
        (&words, ENCODER, "a WordPiece vocabulary"),
        (&unigram, ENCODER, "a unigram vocabulary"),
    ] {
        let message = refusal(dir.path(), &named(options));
        assert!(
            message.contains(what) && message.contains("leave out `pre_tokenizer`"),
            "{message}"
        );
        read(dir.path(), &options).unwrap();
    }
    let dir = copy("tiny-llama3");
    let metadata = read(dir.path(), &named(DECODER)).unwrap();
    assert_eq!(metadata.get_str("tokenizer.ggml.pre"), Some("gpt-2"));
}

#[test]
fn a_unigram_model_under_llama_is_named() {
    let dir = copy("tokenizers/xlm-roberta");
    let message = refusal(dir.path(), &DECODER);
    assert!(
        message.contains("a unigram model") && !message.contains("`pre_tokenizer`"),
        "{message}"
    );
    read(dir.path(), &ENCODER).unwrap();
    // As tokenizer.model it is written as the reference does, and said.
    let dir = copy("tiny-llama2");
    let path = dir.path().join("tokenizer.model");
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(warnings(|| read(dir.path(), &DECODER).unwrap()).1, "");
    bytes.extend(b"\x12\x02\x18\x01");
    fs::write(&path, bytes).unwrap();
    let (_, said) = warnings(|| read(dir.path(), &DECODER).unwrap());
    assert!(said.contains("unigram"), "{said}");
}

#[test]
fn encoders_have_tokenizers_of_other_kinds() {
    let kinds = |kind| Options { kinds: kind, ..DECODER };
    for (name, options, expected) in [
        ("tokenizers/xlm-roberta", kinds(&[Kind::WordPiece]), "t5"),
        ("tokenizers/xlm-roberta", kinds(&[Kind::ByteLevel]), "t5"),
        ("tokenizers/bert", kinds(&[Kind::ByteLevel]), "bert"),
        ("tiny-llama3", kinds(&[Kind::WordPiece]), "gpt2"),
    ] {
        let dir = copy(name);
        let metadata = read(dir.path(), &options).unwrap();
        assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some(expected), "{name}");
        assert!(metadata.get("tokenizer.ggml.token_type_count").is_some(), "{name}");
    }
}

#[test]
fn spaces_of_unigram_models_are_as_their_steps_say() {
    let dir = copy("tokenizers/xlm-roberta");
    let spaces = |options: &Options<'_>| {
        let metadata = read(dir.path(), options).unwrap();
        ["add_space_prefix", "remove_extra_whitespaces"]
            .map(|key| metadata.get(&format!("tokenizer.ggml.{key}")).cloned())
    };
    let reference = Options { like_reference: true, ..ENCODER };
    let expected = |a: bool, b: bool| [Some(a.into()), Some(b.into())];
    assert_eq!(spaces(&ENCODER), expected(true, true));
    // transformers 5 does not write this setting, which has nothing to do with it.
    edit(dir.path(), "tokenizer_config.json", |config| {
        config["clean_up_tokenization_spaces"] = Json::Null;
    });
    assert_eq!(spaces(&ENCODER), expected(true, true));
    assert_eq!(spaces(&reference), expected(true, false));
    edit(dir.path(), "tokenizer.json", |tokenizer| {
        tokenizer["pre_tokenizer"] = json!({"type": "Metaspace", "prepend_scheme": "never"});
    });
    assert_eq!(spaces(&ENCODER), expected(false, false));
    assert_eq!(id(&read(dir.path(), &ENCODER).unwrap(), "unknown"), Some(3));
}

#[test]
fn a_fairseq_model_alone_has_the_tokens_of_its_class() {
    let dir = folder(&[
        ("config.json", json!({"vocab_size": 6})),
        ("tokenizer_config.json", json!({"unk_token": "<unk>", "mask_token": "<mask>"})),
    ]);
    let piece = |text: &str, kind: u8| {
        let length = text.len() as u8;
        [&[0x0a, length + 4, 0x0a, length], text.as_bytes(), &[0x18, kind]].concat()
    };
    let pieces = [piece("<unk>", 2), piece("<s>", 3), piece("</s>", 3), piece("▁a", 1)];
    let model = [pieces.concat(), b"\x12\x02\x18\x01".to_vec()].concat();
    fs::write(dir.path().join("sentencepiece.bpe.model"), model).unwrap();
    let metadata = read(dir.path(), &ENCODER).unwrap();
    assert_eq!(tokens(&metadata), ["<s>", "<pad>", "</s>", "<unk>", "▁a", "<mask>"]);
    assert_eq!(types(&metadata), [CONTROL, CONTROL, CONTROL, 2, NORMAL, CONTROL]);
    assert_eq!(id(&metadata, "unknown"), Some(3));
    assert_eq!(metadata.get("tokenizer.ggml.add_bos_token"), Some(&true.into()));
    let theirs = read(dir.path(), &Options { like_reference: true, ..ENCODER }).unwrap();
    assert_eq!((tokens(&theirs)[5], id(&theirs, "unknown")), ("[PAD4]", None));
}

#[test]
fn a_unigram_model_is_read_from_tokenizer_json_for_t5() {
    let dir = copy("tokenizers/xlm-roberta");
    let metadata = read(dir.path(), &Options { kinds: &[Kind::Unigram], ..DECODER }).unwrap();
    assert_eq!(metadata.get_str("tokenizer.ggml.model"), Some("t5"));
    assert_eq!(metadata.get("tokenizer.ggml.token_type_count"), None);
    let encoder = read(dir.path(), &ENCODER).unwrap();
    assert_eq!(tokens(&metadata), tokens(&encoder));
    assert_eq!(scores(&metadata), scores(&encoder));
}

#[test]
fn user_defined_pieces_are_found_before_others_are_merged() {
    let dir = folder(&[("config.json", json!({"vocab_size": 6}))]);
    let piece = |text: &str, kind: u8| {
        let length = text.len() as u8;
        [&[0x0a, length + 4, 0x0a, length], text.as_bytes(), &[0x18, kind]].concat()
    };
    let pieces =
        [("<unk>", 2), ("<start>", 4), ("▁▁", 4), ("▁<PRE>", 4), ("<|im_end|>", 4), ("a", 1)];
    let model: Vec<u8> = pieces.iter().flat_map(|(text, kind)| piece(text, *kind)).collect();
    let model = [model, b"\x12\x02\x18\x02".to_vec()].concat();
    fs::write(dir.path().join("tokenizer.model"), model).unwrap();
    let metadata = read(dir.path(), &DECODER).unwrap();
    assert_eq!(tokens(&metadata), ["<unk>", "<start>", "  ", "▁<PRE>", "<|im_end|>", "a"]);
    assert_eq!(types(&metadata), [2, USER, USER, NORMAL, CONTROL, NORMAL]);
    let theirs = read(dir.path(), &REFERENCE).unwrap();
    assert_eq!(tokens(&theirs)[2], "▁▁");
    assert_eq!(types(&theirs), [2, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL]);
    // Special where a file says so.
    let settings = json!({"extra_special_tokens": ["<start>"]}).to_string();
    fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
    assert_eq!(types(&read(dir.path(), &DECODER).unwrap())[1], CONTROL);
}

#[test]
fn a_tokenizer_without_many_of_the_models_tokens_is_told() {
    for (name, size) in [("tiny-llama2", 1024), ("tiny-qwen2", 1024), ("tokenizers/bert", 662)] {
        let dir = copy(name);
        let options = if name.ends_with("bert") { ENCODER } else { DECODER };
        let told = |size: u64| {
            edit(dir.path(), "config.json", |config| config["vocab_size"] = size.into());
            warnings(|| read(dir.path(), &options).unwrap()).1
        };
        // Rounded up, as many models do.
        assert_eq!(told(size + size / 50), "", "{name}");
        let text = told(size + size / 10);
        let says = format!("no token for {} of the {} ids", size / 10, size + size / 10);
        assert!(text.contains(&says), "{name}: {text}");
    }
}
