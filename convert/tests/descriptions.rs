//! Every family's reference conversion is a model as gguf-model describes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::{fs, path::Path};

use gguf_io::{
    Metadata,
    metadata::{Array, GgufString, Value},
};
use gguf_model::{Architecture, Content, check};
use serde_json::Value as Json;

/// What the reference converter makes of these, llama.cpp does not load: a head of two classes under
/// the name of a square layer.
const REFUSED_BY_LLAMA_CPP: &[&str] = &["bert-unnamed"];

fn snapshots() -> Vec<(String, Json)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
    let read = |path: &Path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
    };
    let mut all: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// The types that converters write, which JSON does not tell.
fn typed(key: &str, json: &Json) -> Value {
    match json {
        Json::Bool(v) => (*v).into(),
        Json::String(v) => v.as_str().into(),
        Json::Number(n) if n.is_f64() => (n.as_f64().unwrap() as f32).into(),
        Json::Number(n) => u32::try_from(n.as_u64().unwrap()).unwrap().into(),
        Json::Array(all) if all.iter().all(Json::is_boolean) => {
            all.iter().map(|v| v.as_bool().unwrap()).collect::<Vec<_>>().into()
        }
        // Whole numbers, as llama.cpp's converter writes them in lists.
        Json::Array(all) if all.iter().all(Json::is_i64) => {
            let number = |v: &Json| i32::try_from(v.as_i64().unwrap()).unwrap();
            all.iter().map(number).collect::<Vec<_>>().into()
        }
        Json::Array(all) if all.iter().all(Json::is_number) => {
            all.iter().map(|v| v.as_f64().unwrap() as f32).collect::<Vec<_>>().into()
        }
        Json::Array(all) if all.iter().all(Json::is_string) => {
            let text = |v: &Json| GgufString::from(v.as_str().unwrap());
            Value::Array(Array::String(all.iter().map(text).collect()))
        }
        other => panic!("{key}: {other}"),
    }
}

fn metadata(snapshot: &Json) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in snapshot["metadata"].as_object().unwrap() {
        metadata.insert(key.as_str(), typed(key, value));
    }
    let tokens = snapshot["tensors"]["token_embd.weight"][1][1].as_u64().unwrap();
    let tokens = (0..tokens).map(|i| GgufString::from(i.to_string())).collect();
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    let shape = &snapshot["tensors"]["token_types.weight"][1];
    let count = shape.get(1).and_then(Json::as_u64).unwrap_or(1);
    metadata.insert("tokenizer.ggml.token_type_count", u32::try_from(count).unwrap());
    metadata
}

fn tensors(snapshot: &Json) -> Vec<(String, Vec<u64>)> {
    let all = snapshot["tensors"].as_object().unwrap().iter();
    all.map(|(name, t)| (name.clone(), serde_json::from_value(t[1].clone()).unwrap())).collect()
}

#[test]
fn every_family_is_what_its_architecture_describes() {
    let mut failures = Vec::new();
    for (name, snapshot) in snapshots() {
        let tensors = tensors(&snapshot);
        let report =
            check(&metadata(&snapshot), tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())));
        if !matches!(report.content, Content::Model(_)) {
            failures.push(format!("{name}: taken for {:?}", report.content));
        }
        let refused = REFUSED_BY_LLAMA_CPP.contains(&name.as_str());
        if refused != (report.problem_count > 0) {
            failures.extend(report.problems.iter().map(|problem| format!("{name}: {problem}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_family_has_a_description() {
    let undescribed: Vec<_> = quant_convert::architectures::ALL
        .iter()
        .map(|family| family.name)
        .filter(|name| Architecture::find(name).is_none())
        .collect();
    assert!(undescribed.is_empty(), "{undescribed:?}");
}
