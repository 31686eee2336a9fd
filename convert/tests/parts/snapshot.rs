//! The reference's conversions of the families, and the checkpoints that they were made of.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gguf_io::{
    GgufFile, Limits,
    metadata::{Array, Value},
};
use quant_convert::{
    Control, Error, Model, Options, Plan, open,
    recipe::{FileType, Request},
};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::common::{fixture, hex};

pub(crate) fn snapshots() -> Vec<(String, Json)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
    let mut snapshots: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        })
        .collect();
    snapshots.sort_by(|(a, _), (b, _)| a.cmp(b));
    snapshots
}

pub(crate) fn snapshot(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/families/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Bits of a value, those kept of a random number, what is added, its random bits and their place.
pub(crate) fn kind(dtype: &str) -> (usize, u64, u64, u64, u32) {
    match dtype {
        "F64" => (64, 1 << 63, 0x3fb0 << 48, (1 << 52) - 1, 8),
        "F32" => (32, 1 << 31, 0x3d00_0000, 0x7f_ffff, 32),
        "F16" => (16, 1 << 15, 0x2400, 0x7ff, 16),
        "BF16" => (16, 1 << 15, 0x3c00, 0x1ff, 16),
        "F8_E4M3" => (8, 1 << 7, 0x20, 0x1f, 8),
        "U8" => (8, 0, 0x40, 0x3f, 8),
        other => panic!("{other}"),
    }
}

/// The values of a tensor: random, the same wherever they are generated.
pub(crate) fn values(name: &str, dtype: &str, count: u64) -> Vec<u8> {
    let (bits, keep, base, mask, shift) = kind(dtype);
    let seed = u64::from_le_bytes(Sha256::digest(name)[..8].try_into().unwrap());
    let mut bytes = Vec::new();
    for i in 1..=count {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let value = (z & keep) | (base + ((z >> shift) & mask));
        bytes.extend(&value.to_le_bytes()[..bits / 8]);
    }
    bytes
}

/// Writes a checkpoint of these tensors.
pub(crate) fn generate(folder: &Path, snapshot: &Json) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), snapshot["config"].to_string()).unwrap();
    for entry in fs::read_dir(fixture(snapshot["tokenizer"].as_str().unwrap())).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if file.contains("token") {
            fs::copy(&path, folder.join(file)).unwrap();
        }
    }
    if snapshot["pooling"].is_object() {
        let modules = json!([
            {"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        ]);
        fs::write(folder.join("modules.json"), modules.to_string()).unwrap();
        fs::create_dir_all(folder.join("1_Pooling")).unwrap();
        let settings = folder.join("1_Pooling/config.json");
        fs::write(settings, snapshot["pooling"].to_string()).unwrap();
    }
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, entry) in snapshot["checkpoint"].as_object().unwrap() {
        let dtype = entry[0].as_str().unwrap();
        let shape: Vec<u64> = serde_json::from_value(entry[1].clone()).unwrap();
        let start = data.len();
        data.extend(values(name, dtype, shape.iter().product()));
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = Json::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

pub(crate) fn options(snapshot: &Json) -> Options {
    let others = ["tiny-llama2", "tokenizers/bert", "tokenizers/xlm-roberta"];
    let bpe = !others.iter().any(|t| snapshot["tokenizer"] == *t);
    Options {
        request: Request::new(FileType::F32),
        pre_tokenizer: bpe.then(|| "llama-bpe".to_owned()),
        no_sync: true,
        threads: 2,
        ..Options::default()
    }
}

pub(crate) fn plain(value: &Value) -> Json {
    match value {
        Value::Uint32(v) => json!(v),
        Value::Int32(v) => json!(v),
        Value::Float32(v) => json!(f64::from(*v)),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v.as_str().unwrap()),
        Value::Array(Array::Bool(values)) => json!(values),
        Value::Array(Array::Int32(values)) => json!(values),
        Value::Array(Array::Float32(values)) => {
            values.iter().map(|value| json!(f64::from(*value))).collect()
        }
        Value::Array(Array::String(values)) => {
            values.iter().map(|value| value.as_str().unwrap()).collect()
        }
        other => panic!("unexpected {other:?}"),
    }
}

/// What differs from the reference.
pub(crate) fn differences(name: &str, snapshot: &Json) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join(name);
    generate(&dir, snapshot);
    let options = options(snapshot);
    let output = folder.path().join("out.gguf");
    let run = || -> Result<(), Error> {
        Plan::new(open(&dir, &options)?, &options)?.run(&output, Control::default())
    };
    if let Err(error) = run() {
        return vec![format!("{name}: {error}")];
    }
    let bytes = fs::read(&output).unwrap();
    let found = GgufFile::open(&output, &Limits::default()).unwrap();
    let mut problems = Vec::new();
    let mut compare = |what: &str, found: Option<Json>, expected: &Json| {
        if found.as_ref() != Some(expected) {
            problems.push(format!("{name}: {what}: {found:?}, expected {expected}"));
        }
    };
    let metadata = snapshot["metadata"].as_object().unwrap();
    for (key, expected) in metadata {
        compare(key, found.metadata.get(key).map(plain), expected);
    }
    for (key, _) in found.metadata.iter() {
        if !(key.starts_with("general.") || key.starts_with("tokenizer.")) {
            compare(key, metadata.get(key).cloned(), &plain(found.metadata.get(key).unwrap()));
        }
    }
    let expected = snapshot["tensors"].as_object().unwrap();
    compare("tensors", Some(found.tensors.len().into()), &expected.len().into());
    for tensor in &found.tensors {
        let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
        let found = json!([tensor.ty.name(), tensor.shape, hex(data)]);
        compare(&tensor.name, Some(found), expected.get(&tensor.name).unwrap_or(&Json::Null));
    }
    problems
}

/// The configuration of the text model.
pub(crate) fn text(snapshot: &mut Json) -> &mut serde_json::Map<String, Json> {
    let config = &mut snapshot["config"];
    let inner = if config.get("text_config").is_some() { "text_config" } else { "" };
    let config = if inner.is_empty() { config } else { &mut config[inner] };
    config.as_object_mut().unwrap()
}

/// A generated checkpoint, changed, and how it opens.
pub(crate) fn opened(name: &str, change: impl FnOnce(&mut Json)) -> Result<Model, String> {
    opened_with(name, change, |_| {})
}

pub(crate) fn opened_with(
    name: &str,
    change: impl FnOnce(&mut Json),
    choose: impl FnOnce(&mut Options),
) -> Result<Model, String> {
    let mut snapshot = snapshot(name);
    change(&mut snapshot);
    let folder = tempfile::tempdir().unwrap();
    let dir: PathBuf = folder.path().join(name);
    generate(&dir, &snapshot);
    let mut options = options(&snapshot);
    choose(&mut options);
    open(&dir, &options).map_err(|error| error.to_string())
}

/// Names and shapes of a model's tensors, and the keys of its architecture, a line each.
pub(crate) fn outline(model: &Model) -> Vec<String> {
    let tensors = model.tensors.iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.shape));
    let own = |key: &str| !key.starts_with("general.") && !key.starts_with("tokenizer.");
    let keys = model.metadata.iter().filter(|(key, _)| own(key));
    tensors.chain(keys.map(|(key, value)| format!("{key} {value:?}"))).collect()
}

pub(crate) fn refused(name: &str, change: impl FnOnce(&mut Json)) -> String {
    let message = opened(name, change).map(|_| ()).unwrap_err();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Tensors of a checkpoint under other names.
pub(crate) fn rename(snapshot: &mut Json, name: impl Fn(&str) -> String) {
    let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
    *tensors = tensors.iter().map(|(old, entry)| (name(old), entry.clone())).collect();
}
