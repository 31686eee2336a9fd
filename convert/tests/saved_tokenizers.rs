//! Tokenizers as each version of transformers saves them: whichever files there are, the same
//! tokens, types and special tokens as the checkpoint's own tokenizer has.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use common::fixture;
use gguf_io::metadata::{Array, Metadata, Value};
use quant_convert::{
    Config, Result,
    tokenizer::{self, Adjustment, Kind, Options},
};
use serde_json::{Value as Json, json};

const DECODER: Options<'static> = Options {
    kinds: &[Kind::SentencePiece, Kind::ByteLevel],
    adjustments: &[],
    pre_tokenizer: None,
    like_reference: false,
};
const ENCODER: Options<'static> = Options { kinds: &[Kind::WordPiece], ..DECODER };
const REFERENCE: Options<'static> = Options { like_reference: true, ..DECODER };

fn read(dir: &Path, options: &Options<'_>) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    tokenizer::write(dir, &Config::read(dir)?, options, &mut metadata)?;
    Ok(metadata)
}

fn refusal(dir: &Path, options: &Options<'_>) -> String {
    let message = read(dir, options).map(|_| ()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// What was warned of meanwhile.
fn warnings<T>(work: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let result = tracing::subscriber::with_default(subscriber, work);
    let said = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    (result, said)
}

/// A folder with these files.
fn folder(files: &[(&str, Json)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content.to_string()).unwrap();
    }
    dir
}

/// The tokenizer's files and config.json of a fixture.
fn copy(name: &str) -> tempfile::TempDir {
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

fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Json)) {
    let path = dir.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn tokens(metadata: &Metadata) -> Vec<&str> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => {
            tokens.iter().map(|token| token.as_str().unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn types(metadata: &Metadata) -> &[i32] {
    match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::Int32(types))) => types,
        other => panic!("{other:?}"),
    }
}

fn scores(metadata: &Metadata) -> &[f32] {
    match metadata.get("tokenizer.ggml.scores") {
        Some(Value::Array(Array::Float32(scores))) => scores,
        other => panic!("{other:?}"),
    }
}

fn id(metadata: &Metadata, role: &str) -> Option<u64> {
    metadata.get_u64(&format!("tokenizer.ggml.{role}_token_id"))
}

const CONTROL: i32 = 3;
const USER: i32 = 4;
const NORMAL: i32 = 1;

/// A vocabulary of SentencePiece's kind: these tokens behind the unknown one, the start, the end and
/// all bytes.
fn byte_fallback(more: &[&str], merges: Json, added: Json) -> Json {
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
const FIRST: usize = 259;

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

/// tokenizer.json as the files that older tokenizers have.
fn as_lists(dir: &Path, class: &str) {
    let tokenizer: Json =
        serde_json::from_slice(&fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    fs::write(dir.join("vocab.json"), tokenizer["model"]["vocab"].to_string()).unwrap();
    let merges: Vec<String> = tokenizer["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| [&pair[0], &pair[1]].map(|part| part.as_str().unwrap()).join(" "))
        .collect();
    fs::write(dir.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    let vocabulary = &tokenizer["model"]["vocab"];
    let added: Json = tokenizer["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| (token["content"].as_str().unwrap().to_owned(), token["id"].clone()))
        .filter(|(token, _)| vocabulary.get(token).is_none())
        .collect::<serde_json::Map<_, _>>()
        .into();
    fs::write(dir.join("added_tokens.json"), added.to_string()).unwrap();
    edit(dir, "tokenizer_config.json", |config| config["tokenizer_class"] = class.into());
}

#[test]
fn vocab_json_with_merges_txt_is_a_tokenizer() {
    for (name, class, pre) in [
        ("tiny-qwen2", "Qwen2Tokenizer", "qwen2"),
        ("tiny-qwen2", "Qwen2TokenizerFast", "qwen2"),
        ("tiny-phi2", "GPT2Tokenizer", "gpt-2"),
        ("tiny-phi2", "CodeGenTokenizer", "gpt-2"),
    ] {
        let dir = copy(name);
        let whole = read(dir.path(), &DECODER).unwrap();
        as_lists(dir.path(), class);
        let listed = read(dir.path(), &DECODER).unwrap();
        assert_eq!(listed.get_str("tokenizer.ggml.pre"), Some(pre));
        for key in ["model", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(listed.get(&key), whole.get(&key), "{class} {key}");
        }
        // A class whose way of splitting is not known has to be told it.
        edit(dir.path(), "tokenizer_config.json", |config| {
            config["tokenizer_class"] = "Own".into()
        });
        assert!(refusal(dir.path(), &DECODER).contains("only vocab.json"));
        let told = read(dir.path(), &Options { pre_tokenizer: Some(pre), ..DECODER }).unwrap();
        assert_eq!(told, listed);
        // The model's type says it where the tokenizer's class does not.
        edit(dir.path(), "tokenizer_config.json", |config| config["tokenizer_class"] = Json::Null);
        let kind = if pre == "qwen2" { "qwen3_moe" } else { "gpt2" };
        edit(dir.path(), "config.json", |config| config["model_type"] = kind.into());
        assert_eq!(read(dir.path(), &DECODER).unwrap(), listed);
    }
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
            message.contains(what) && message.contains("leave out --pre-tokenizer"),
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
        message.contains("a unigram model") && !message.contains("--pre-tokenizer"),
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
