//! Mistral's own format: params.json, consolidated.safetensors, tekken.json.

use std::{collections::BTreeMap, fs, path::Path};

use gguf_io::{GgufFile, Limits};
use quant_convert::{
    Control, Error, Model, Options, Plan, open,
    recipe::{FileType, Request},
};
use serde_json::{Value, json};

use crate::common::fixture;

/// Names of GGUF, and Mistral's for the same tensors.
const NAMES: [(&str, &str); 12] = [
    ("token_embd", "tok_embeddings"),
    ("output_norm", "norm"),
    ("output", "output"),
    ("attn_norm", "attention_norm"),
    ("ffn_norm", "ffn_norm"),
    ("attn_q", "attention.wq"),
    ("attn_k", "attention.wk"),
    ("attn_v", "attention.wv"),
    ("attn_output", "attention.wo"),
    ("ffn_gate", "feed_forward.w1"),
    ("ffn_up", "feed_forward.w3"),
    ("ffn_down", "feed_forward.w2"),
];

fn options() -> Options {
    let request = Request::new(FileType::F32);
    Options { request, no_sync: true, overwrite: true, ..Options::default() }
}

fn convert(input: &Path, output: &Path) -> GgufFile {
    let plan = Plan::new(open(input, &options()).unwrap(), &options()).unwrap();
    plan.run(output, Control::default()).unwrap();
    GgufFile::open(output, &Limits::default()).unwrap()
}

/// Names, and the bytes of each tensor.
fn tensors(file: &GgufFile) -> BTreeMap<String, Vec<u8>> {
    let bytes = |tensor: &gguf_io::TensorInfo| {
        let mut bytes = vec![0; tensor.bytes as usize];
        file.files[tensor.file].read_exact_at(&mut bytes, tensor.offset).unwrap();
        (tensor.name.clone(), bytes)
    };
    file.tensors.iter().map(bytes).collect()
}

fn params() -> Value {
    let config = fs::read(fixture("tiny-llama2").join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    json!({
        "dim": config["hidden_size"], "n_layers": config["num_hidden_layers"],
        "hidden_dim": config["intermediate_size"], "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"], "norm_eps": 1e-5,
        "vocab_size": config["vocab_size"], "rope_theta": 10000.0,
    })
}

/// A fixture in Mistral's format, whose rows are in the order of GGUF.
fn folder(dir: &Path, file: &GgufFile, params: &Value) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    let tensors = tensors(file);
    for tensor in &file.tensors {
        let (layer, name) = match tensor.name.strip_prefix("blk.") {
            Some(rest) => {
                let (layer, rest) = rest.split_once('.').unwrap();
                (format!("layers.{layer}."), rest)
            }
            None => (String::new(), tensor.name.as_str()),
        };
        let name = name.strip_suffix(".weight").unwrap();
        let (_, own) = NAMES.iter().find(|(gguf, _)| *gguf == name).unwrap();
        let start = data.len();
        data.extend(&tensors[&tensor.name]);
        let shape: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        header.insert(
            format!("{layer}{own}.weight"),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("consolidated.safetensors"), bytes).unwrap();
    fs::write(dir.join("params.json"), params.to_string()).unwrap();
}

/// A vocabulary of bytes and some tokens, as large as the fixture's.
fn tekken(version: &str) -> Value {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let base64 = |bytes: &[u8]| -> String {
        let pieces = bytes.chunks(3).map(|piece| {
            let word = (0..3).fold(0u32, |w, i| w << 8 | u32::from(*piece.get(i).unwrap_or(&0)));
            let digit = |i: usize| DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            let shown = |i: usize| if i <= piece.len() { digit(i) } else { '=' };
            (0..4).map(shown).collect::<String>()
        });
        pieces.collect()
    };
    let bytes = (0..=255u8).map(|byte| vec![byte]);
    let pairs = (0..748u32).map(|i| vec![b'a' + (i % 26) as u8, 128 + (i / 26) as u8]);
    let vocab: Vec<Value> = bytes
        .chain(pairs)
        .enumerate()
        .map(|(rank, bytes)| json!({"rank": rank, "token_bytes": base64(&bytes)}))
        .collect();
    json!({
        "config": {"pattern": ".", "default_vocab_size": 1024, "default_num_special_tokens": 20,
                   "version": version},
        "vocab": vocab,
    })
}

#[test]
fn models_in_mistrals_own_format_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let expected = convert(&fixture("tiny-llama2"), &dir.path().join("expected.gguf"));
    let input = dir.path().join("model");
    folder(&input, &expected, &params());
    for name in ["tokenizer.model", "tokenizer.model.v3"] {
        fs::copy(fixture("tiny-llama2").join("tokenizer.model"), input.join(name)).unwrap();
        let found = convert(&input, &dir.path().join("found.gguf"));
        assert!(tensors(&found) == tensors(&expected));
        for key in
            ["llama.block_count", "llama.attention.head_count_kv", "llama.rope.dimension_count"]
        {
            assert_eq!(found.metadata.get_u64(key), expected.metadata.get_u64(key), "{key}");
        }
        let tokens = "tokenizer.ggml.tokens";
        assert_eq!(found.metadata.get(tokens), expected.metadata.get(tokens));
        fs::remove_file(input.join(name)).unwrap();
    }
    fs::write(input.join("tekken.json"), tekken("v7").to_string()).unwrap();
    let found = convert(&input, &dir.path().join("found.gguf")).metadata;
    assert_eq!(found.get_str("tokenizer.ggml.pre"), Some("tekken"));
    assert_eq!(found.get_str("tokenizer.chat_template"), Some("mistral-v7-tekken"));
    let id = |role: &str| found.get_u64(&format!("tokenizer.ggml.{role}_token_id"));
    assert_eq!(["bos", "eos", "unknown", "padding"].map(id), [Some(1), Some(2), Some(0), Some(11)]);
    assert_eq!(found.get_u64("llama.vocab_size"), Some(1024));
    assert_eq!(found.get_u64("llama.context_length"), Some(32_768));
    // Beside the files of transformers these are not looked at.
    for entry in fs::read_dir(fixture("tiny-llama2")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "config.json" || name.starts_with("model") {
            fs::copy(&path, input.join(name)).unwrap();
        }
    }
    fs::write(input.join("params.json"), "{}").unwrap();
    assert!(tensors(&convert(&input, &dir.path().join("found.gguf"))) == tensors(&expected));
}

#[test]
fn positions_of_ministral_3_are_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let source = convert(&fixture("tiny-llama2"), &dir.path().join("expected.gguf"));
    let input = dir.path().join("model");
    let mut params = params();
    params["llama_4_scaling"] = json!({"beta": 0.5, "original_max_position_embeddings": 64});
    params["yarn"] = json!({"original_max_position_embeddings": 64, "factor": 16, "apply_scale": false,
                            "beta": 32, "alpha": 1});
    folder(&input, &source, &params);
    fs::write(input.join("tekken.json"), tekken("v13").to_string()).unwrap();
    fs::write(input.join("chat_template.jinja"), "{{ x }}").unwrap();
    // Its version has to list its special tokens, which does not matter here.
    let found = convert(&input, &dir.path().join("found.gguf")).metadata;
    assert_eq!(found.get_str("general.architecture"), Some("mistral3"));
    assert_eq!(found.get_str("mistral3.rope.scaling.type"), Some("yarn"));
    assert_eq!(found.get_u64("mistral3.rope.scaling.original_context_length"), Some(64));
    assert_eq!(found.get("mistral3.attention.temperature_scale"), Some(&0.5f32.into()));
    assert_eq!(found.get_str("tokenizer.chat_template"), Some("{{ x }}"));
}

#[test]
fn damaged_models_in_mistrals_own_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = convert(&fixture("tiny-llama2"), &dir.path().join("expected.gguf"));
    let input = dir.path().join("model");
    let refused = |params: &Value, tekken: &Value| {
        folder(&input, &source, params);
        fs::write(input.join("tekken.json"), tekken.to_string()).unwrap();
        let result: Result<Model, Error> = open(&input, &options());
        let error = result.unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let with = |key: &str, value: Value| {
        let mut params = params();
        params[key] = value;
        params
    };
    let sound = tekken("v7");
    let error = refused(&with("moe", json!({"num_experts": 8})), &sound);
    assert!(error.contains("params.json") && error.contains("\"moe\""), "{error}");
    let error = refused(&with("yarn", json!({"factor": 2})), &sound);
    assert!(error.contains("yarn.apply_scale"), "{error}");
    let error = refused(&with("dim", 128.into()), &sound);
    assert!(error.contains("shape"), "{error}");
    let damaged = |change: &dyn Fn(&mut Value)| {
        let mut tekken = tekken("v7");
        change(&mut tekken);
        refused(&params(), &tekken)
    };
    let error = damaged(&|tekken| tekken["vocab"][300]["token_bytes"] = "!".into());
    assert!(error.contains("vocab[300]") && error.contains("base 64"), "{error}");
    let error = damaged(&|tekken| tekken["vocab"][300]["rank"] = 7.into());
    assert!(error.contains("rank 7"), "{error}");
    let error =
        damaged(&|tekken| tekken["vocab"][300] = json!({"rank": 300, "token_bytes": "AA=="}));
    assert!(error.contains("bytes of another token"), "{error}");
    let error = damaged(&|tekken| tekken["config"]["default_vocab_size"] = 5000.into());
    assert!(error.contains("default_vocab_size"), "{error}");
    let error = damaged(&|tekken| tekken["config"]["default_num_special_tokens"] = 7.into());
    assert!(error.contains("special_tokens") || error.contains("default_vocab_size"), "{error}");
}
