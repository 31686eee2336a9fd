//! Special tokens and chat templates, from whichever file has them.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;
#[path = "common/tokenizers.rs"]
mod tokenizers;

use std::{fs, path::Path};

use quant_convert::tokenizer::{Adjustment, Options};
use serde_json::{Value as Json, json};
use tokenizers::*;

/// Tokens behind tiny-llama2's 1024.
fn chat_tokens(dir: &Path) {
    edit(dir, "config.json", |config| config["vocab_size"] = 1030.into());
    let added =
        [("<|im_start|>", true), ("<|im_end|>", false), ("<turn>", true), ("<tool>", false)];
    let added: Vec<Json> = added
        .iter()
        .enumerate()
        .map(|(i, (token, special))| json!({"id": 1024 + i, "content": token, "special": special}))
        .collect();
    let mut tokenizer = byte_fallback(&[], json!([]), added.into());
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 1, "content": "<s>", "special": true}));
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

#[test]
fn added_tokens_that_only_tokenizer_json_holds_coreai_models_264() {
    let dir = copy("tiny-llama2");
    let before = read(dir.path(), &DECODER).unwrap();
    chat_tokens(dir.path());
    let metadata = read(dir.path(), &DECODER).unwrap();
    let expected = ["<|im_start|>", "<|im_end|>", "<turn>", "<tool>", "[PAD1028]"];
    assert_eq!(tokens(&metadata)[1024..][..5], expected);
    assert_eq!(types(&metadata)[1024..][..5], [CONTROL, CONTROL, CONTROL, USER, 5]);
    // Those that the model has are as they were.
    assert_eq!(types(&metadata)[..1024], types(&before)[..1024]);
    assert_eq!(scores(&metadata)[..1024], scores(&before)[..1024]);
    let theirs = read(dir.path(), &REFERENCE).unwrap();
    assert_eq!(tokens(&theirs)[1024..][..2], ["[PAD1024]", "[PAD1025]"]);
    // For Phi-3 the reference reads them.
    let options = Options { adjustments: &[Adjustment::AddedTokensOfJson], ..REFERENCE };
    let theirs = read(dir.path(), &options).unwrap();
    assert_eq!(tokens(&theirs)[1024..][..5], expected);
}

#[test]
fn special_tokens_are_named_in_lists_and_objects() {
    let forms = [
        json!({"extra_special_tokens": ["<x>", "<y>"]}),
        json!({"extra_special_tokens": {"x_token": "<x>", "y_token": "<y>"}}),
        json!({"extra_special_tokens": [{"__type": "AddedToken", "content": "<x>"}, {"content": "<y>"}]}),
        json!({"additional_special_tokens": ["<x>", "<y>"]}),
        json!({"model_specific_special_tokens": {"image_token": "<x>", "eoi_token": {"content": "<y>"}}}),
        json!({"image_token": "<x>", "extra_special_tokens": ["<y>"]}),
        json!({"bos_token": {"content": "<x>"}, "eos_token": "<y>"}),
    ];
    for settings in forms {
        // In tokenizer.json, not marked as special, of each kind ...
        let added = json!([
            {"id": FIRST + 1, "content": "<x>", "special": false},
            {"id": FIRST + 2, "content": "<y>", "special": false},
            {"id": FIRST + 3, "content": "<z>", "special": false}]);
        let config = json!({"vocab_size": 270});
        let dir = folder(&[
            ("tokenizer.json", byte_fallback(&["a"], json!([]), added)),
            ("tokenizer_config.json", settings.clone()),
            ("config.json", config),
        ]);
        let spread = |dir: &Path| {
            let metadata = read(dir, &DECODER).unwrap();
            ["<x>", "<y>", "<z>"].map(|token| {
                let place = tokens(&metadata).iter().position(|other| *other == token);
                place.map(|place| types(&metadata)[place])
            })
        };
        let expected = [Some(CONTROL), Some(CONTROL), Some(USER)];
        assert_eq!(spread(dir.path()), expected, "{settings}");
        edit(dir.path(), "tokenizer.json", |tokenizer| {
            tokenizer["pre_tokenizer"] =
                json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
            tokenizer["decoder"] = json!({"type": "ByteLevel"});
            tokenizer["normalizer"] = Json::Null;
            tokenizer["model"]["merges"] = json!([["<0x41>", "a"]]);
        });
        assert_eq!(spread(dir.path()), expected, "{settings}");
        // ... and in no file that gives them ids: behind the others, as transformers puts them.
        let dir = copy("tiny-llama2");
        edit(dir.path(), "config.json", |config| config["vocab_size"] = 1030.into());
        fs::write(dir.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
        fs::write(dir.path().join("added_tokens.json"), r#"{"<z>": 1024}"#).unwrap();
        assert_eq!(spread(dir.path()), expected, "{settings}");
        let metadata = read(dir.path(), &DECODER).unwrap();
        assert_eq!(tokens(&metadata)[1024..][..3], ["<z>", "<x>", "<y>"]);
        let theirs = read(dir.path(), &REFERENCE).unwrap();
        assert_eq!(tokens(&theirs)[1025], "[PAD1025]");
    }
}

#[test]
fn special_tokens_are_added_however_they_are_written() {
    let bos = "<|begin_of_text|>";
    for (token, theirs) in [
        (json!(bos), true),
        (json!({"__type": "AddedToken", "content": bos, "special": true}), false),
    ] {
        let dir = copy("tiny-llama3");
        edit(dir.path(), "tokenizer_config.json", |config| {
            config["cls_token"] = token.clone();
            config["bos_token"] = token;
        });
        edit(dir.path(), "tokenizer.json", |tokenizer| {
            tokenizer["post_processor"] = json!({"type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": bos}}, {"Sequence": {"id": "A"}}]});
        });
        let key = "tokenizer.ggml.add_bos_token";
        assert_eq!(read(dir.path(), &DECODER).unwrap().get(key), Some(&true.into()));
        assert_eq!(read(dir.path(), &REFERENCE).unwrap().get(key), Some(&theirs.into()));
    }
}

#[test]
fn the_end_of_a_text_is_found_wherever_it_is_named() {
    let dir = copy("tiny-llama2");
    let path = dir.path();
    let eos = |options| id(&read(path, options).unwrap(), "eos");
    edit(path, "config.json", |config| config["eos_token_id"] = json!([7, 8]));
    edit(path, "tokenizer_config.json", |config| config["eos_token"] = Json::Null);
    fs::remove_file(path.join("special_tokens_map.json")).unwrap();
    assert_eq!((eos(&DECODER), eos(&REFERENCE)), (Some(7), None));
    edit(path, "config.json", |config| _ = config.as_object_mut().unwrap().remove("eos_token_id"));
    assert_eq!(eos(&DECODER), None);
    for (given, expected) in [(json!(9), Some(9)), (json!([10, 9]), Some(10)), (json!("x"), None)] {
        fs::write(path.join("generation_config.json"), json!({"eos_token_id": given}).to_string())
            .unwrap();
        assert_eq!((eos(&DECODER), eos(&REFERENCE)), (expected, None));
    }
    // By its name, as a token of tokenizer.model.
    for name in [json!("</s>"), json!({"content": "</s>"})] {
        edit(path, "tokenizer_config.json", |config| config["eos_token"] = name);
        assert_eq!(eos(&DECODER), Some(2));
    }
}

#[test]
fn a_folder_without_tokenizer_config_keeps_its_template() {
    let dir = copy("tiny-llama3");
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), "jinja").unwrap();
    let template = |options| {
        read(dir.path(), options).unwrap().get_str("tokenizer.chat_template").map(str::to_owned)
    };
    assert_eq!(template(&DECODER).as_deref(), Some("jinja"));
    assert_eq!(template(&REFERENCE), None);
    // `null` is no template either.
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"chat_template": null}"#).unwrap();
    assert_eq!(template(&DECODER).as_deref(), Some("jinja"));
    assert_eq!(template(&REFERENCE), None);
    // Of two the one that transformers takes; it is said if they differ.
    for (inline, warned) in [("inline", true), ("jinja", false)] {
        let settings = json!({"chat_template": inline}).to_string();
        fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
        let (found, said) = warnings(|| template(&DECODER));
        assert_eq!(found.as_deref(), Some("jinja"));
        assert_eq!(said.contains("different chat templates"), warned, "{said}");
        assert_eq!(template(&REFERENCE).as_deref(), Some(inline));
    }
}

#[test]
fn templates_have_line_feeds_localai_1876() {
    let dir = copy("tiny-qwen2");
    let path = dir.path();
    let found = |options, key: &str| {
        read(path, options).unwrap().get_str(&format!("tokenizer.{key}")).map(str::to_owned)
    };
    let (windows, unix) = ("a\r\nb\rc\n", "a\nb\nc\n");
    let settings = |value: Json| {
        edit(path, "tokenizer_config.json", |config| match value {
            Json::Null => _ = config.as_object_mut().unwrap().remove("chat_template"),
            value => config["chat_template"] = value,
        });
    };
    settings(json!(windows));
    assert_eq!(found(&DECODER, "chat_template").as_deref(), Some(unix));
    assert_eq!(found(&REFERENCE, "chat_template").as_deref(), Some(windows));
    settings(
        json!([{"name": "default", "template": windows}, {"name": "rag", "template": windows}]),
    );
    for key in ["chat_template", "chat_template.rag"] {
        assert_eq!(found(&DECODER, key).as_deref(), Some(unix));
        assert_eq!(found(&REFERENCE, key).as_deref(), Some(windows));
    }
    settings(Json::Null);
    fs::write(path.join("chat_template.json"), json!({"chat_template": windows}).to_string())
        .unwrap();
    assert_eq!(found(&DECODER, "chat_template").as_deref(), Some(unix));
    // The reference reads these files as text, so with plain line feeds.
    fs::write(path.join("chat_template.jinja"), windows).unwrap();
    fs::create_dir(path.join("additional_chat_templates")).unwrap();
    fs::write(path.join("additional_chat_templates/tool_use.jinja"), windows).unwrap();
    for options in [&DECODER, &REFERENCE] {
        for key in ["chat_template", "chat_template.tool_use"] {
            assert_eq!(found(options, key).as_deref(), Some(unix));
        }
    }
}

/// A byte order mark, which editors on Windows write, would begin every prompt.
#[test]
fn templates_have_no_byte_order_mark_and_are_templates() {
    let dir = copy("tiny-qwen2");
    let path = dir.path();
    let found = |options| {
        read(path, options).unwrap().get_str("tokenizer.chat_template").map(str::to_owned)
    };
    edit(path, "tokenizer_config.json", |config| {
        config["chat_template"] = json!("\u{feff}{{ a }}")
    });
    assert_eq!(found(&DECODER).as_deref(), Some("{{ a }}"));
    assert_eq!(found(&REFERENCE).as_deref(), Some("\u{feff}{{ a }}"));
    edit(path, "tokenizer_config.json", |config| config["chat_template"] = json!(null));
    let jinja = path.join("chat_template.jinja");
    fs::write(&jinja, "\u{feff}{{ b }}\r\n").unwrap();
    assert_eq!(found(&DECODER).as_deref(), Some("{{ b }}\n"));
    for (text, says) in [
        ("version https://git-lfs.github.com/spec/v1\n", "a Git-LFS pointer"),
        ("<!DOCTYPE html>\n<html>", "a web page"),
    ] {
        fs::write(&jinja, text).unwrap();
        let error = read(path, &DECODER).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("chat_template.jinja"), "{error}");
    }
    fs::write(&jinja, "<|im_start|>{{ c }}").unwrap();
    assert_eq!(found(&DECODER).as_deref(), Some("<|im_start|>{{ c }}"));
    // An empty file is what an interrupted download leaves, no template.
    fs::write(&jinja, "\n").unwrap();
    edit(path, "tokenizer_config.json", |config| config["chat_template"] = json!("{{ d }}"));
    let (template, said) = warnings(|| found(&DECODER));
    assert_eq!(template.as_deref(), Some("{{ d }}"));
    assert!(said.contains("chat_template.jinja is empty"), "{said}");
}
