//! Every family, without Python: a tiny checkpoint is generated as `interop/architectures.py`
//! generates it, and converts to what the reference converter made of it: each tensor's name,
//! type, shape and SHA-256, each key of the architecture.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{fixture, hex};
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

fn snapshots() -> Vec<(String, Json)> {
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

fn snapshot(name: &str) -> Json {
    snapshots().into_iter().find(|(other, _)| other == name).unwrap().1
}

/// Bits of a value, those kept of a random number, what is added, its random bits and their place.
fn kind(dtype: &str) -> (usize, u64, u64, u64, u32) {
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
fn values(name: &str, dtype: &str, count: u64) -> Vec<u8> {
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
fn generate(folder: &Path, snapshot: &Json) {
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

fn options(snapshot: &Json) -> Options {
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

fn plain(value: &Value) -> Json {
    match value {
        Value::Uint32(v) => json!(v),
        Value::Int32(v) => json!(v),
        Value::Float32(v) => json!(f64::from(*v)),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v.as_str().unwrap()),
        Value::Array(Array::Bool(values)) => json!(values),
        Value::Array(Array::String(values)) => {
            values.iter().map(|value| value.as_str().unwrap()).collect()
        }
        other => panic!("unexpected {other:?}"),
    }
}

/// What differs from the reference.
fn differences(name: &str, snapshot: &Json) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join(name);
    generate(&dir, snapshot);
    let options = options(snapshot);
    let output = folder.path().join("out.gguf");
    let run = || -> Result<(), Error> {
        Plan::new(open(&dir, &options)?, &options)?.run(&output, &options, Control::default())
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

#[test]
fn every_family_equals_the_reference() {
    let snapshots = snapshots();
    let problems: Vec<_> =
        snapshots.iter().flat_map(|(name, snapshot)| differences(name, snapshot)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // A family without a snapshot is not one that is known to be right.
    let classes: Vec<_> = snapshots
        .iter()
        .map(|(_, snapshot)| snapshot["config"]["architectures"][0].as_str().unwrap())
        .collect();
    for family in quant_convert::architectures::ALL {
        let covered = family.classes.iter().any(|class| classes.contains(class));
        assert!(covered, "{} ({:?}) has no snapshot", family.name, family.classes);
    }
}

#[test]
fn the_book_lists_every_class() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/architectures.md");
    let book = fs::read_to_string(book).unwrap();
    let missing: Vec<_> = quant_convert::architectures::ALL
        .iter()
        .flat_map(|family| family.classes)
        .filter(|class| !book.contains(&format!("`{class}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A generated checkpoint, changed, and how it opens.
fn opened(name: &str, change: impl FnOnce(&mut Json)) -> Result<Model, String> {
    let mut snapshot = snapshot(name);
    change(&mut snapshot);
    let folder = tempfile::tempdir().unwrap();
    let dir: PathBuf = folder.path().join(name);
    generate(&dir, &snapshot);
    open(&dir, &options(&snapshot)).map_err(|error| error.to_string())
}

fn refused(name: &str, change: impl FnOnce(&mut Json)) -> String {
    let message = opened(name, change).map(|_| ()).unwrap_err();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn other_parts_of_a_multimodal_model_are_listed() {
    let model = opened("gemma3-vision", |_| {}).unwrap();
    assert!(!model.left_out.is_empty());
    for name in &model.left_out {
        assert!(name.contains("vision_tower") || name.contains("projector"), "{name}");
    }
    let stored = snapshot("gemma3-vision")["checkpoint"].as_object().unwrap().len();
    assert_eq!(model.tensors.len() + model.left_out.len(), stored);
    // What has no place in the text model either is not one of the other parts.
    let message = refused("gemma3-vision", |snapshot| {
        snapshot["checkpoint"]["model.language_model.extra.weight"] = json!(["BF16", [3, 4]]);
    });
    assert!(
        message.contains("model.language_model.extra.weight\": found shape [3, 4]"),
        "{message}"
    );
}

#[test]
fn layers_that_predict_further_tokens_are_listed() {
    let model = opened("deepseek3", |snapshot| {
        snapshot["checkpoint"]["model.layers.3.eh_proj.weight"] = json!(["BF16", [64, 128]]);
        snapshot["checkpoint"]["model.layers.3.input_layernorm.weight"] = json!(["BF16", [64]]);
    });
    assert_eq!(model.unwrap().left_out.len(), 2);
}

#[test]
fn scales_have_to_be_there_and_fit() {
    const SCALES: &str = "model.layers.0.self_attn.q_proj.weight_scale";
    let message = refused("llama-fp8-channel", |snapshot| {
        snapshot["checkpoint"].as_object_mut().unwrap().remove(SCALES);
    });
    assert!(message.contains("found type F8_E4M3 without scales"), "{message}");
    let message = refused("llama-fp8-channel", |snapshot| {
        snapshot["checkpoint"][SCALES] = json!(["BF16", [64, 2]]);
    });
    assert!(
        message.contains("of shape [64, 2], expected one scale, one for each of 64"),
        "{message}"
    );
    let message = refused("llama-fp8-channel", |snapshot| {
        snapshot["config"]["quantization_config"]["format"] = "pack-quantized".into();
    });
    assert!(message.contains("weights.type\": found another type, expected int"), "{message}");
    let message = refused("deepseek3-fp8", |snapshot| {
        snapshot["config"]["quantization_config"]["weight_block_size"] = json!([16, 8]);
    });
    assert!(message.contains("one for each block of 16 × 8 values"), "{message}");
    // Scales of activations change nothing in the weights, but are named.
    let model = opened("llama-fp8-channel", |snapshot| {
        snapshot["checkpoint"]["model.layers.0.self_attn.q_proj.input_scale"] =
            json!(["BF16", [1]]);
    });
    assert_eq!(model.unwrap().left_out, ["model.layers.0.self_attn.q_proj.input_scale"]);
}

#[test]
fn blocks_of_mxfp4_need_their_scales() {
    const SCALES: &str = "model.layers.0.mlp.experts.down_proj_scales";
    let message = refused("gpt_oss-mxfp4", |snapshot| {
        snapshot["checkpoint"].as_object_mut().unwrap().remove(SCALES);
    });
    assert!(message.contains("found codes without scales"), "{message}");
    let message = refused("gpt_oss-mxfp4", |snapshot| {
        snapshot["checkpoint"][SCALES] = json!(["U8", [4, 64, 2]]);
    });
    assert!(message.contains("expected U8 codes and U8 scales of shape [4, 64, 3]"), "{message}");
}

#[test]
fn missing_tensors_of_any_form_are_named() {
    for (family, name) in [
        ("mixtral", "model.layers.1.block_sparse_moe.experts.2.w3.weight"),
        ("qwen3moe", "model.layers.1.mlp.experts.2.up_proj.weight"),
        ("deepseek2", "model.layers.2.mlp.experts.3.down_proj.weight"),
        ("gpt_oss", "model.layers.1.self_attn.sinks"),
        ("falcon-groups", "transformer.h.1.ln_mlp.bias"),
        ("gpt2", "transformer.h.0.attn.c_attn.bias"),
        ("qwen2", "model.layers.0.self_attn.k_proj.bias"),
        ("bert", "encoder.layer.1.output.dense.bias"),
    ] {
        let message = refused(family, |snapshot| {
            let removed = snapshot["checkpoint"].as_object_mut().unwrap().remove(name);
            assert!(removed.is_some(), "{name}");
        });
        assert!(message.contains(&format!("tensor \"{name}\": found no such tensor")), "{message}");
    }
}

/// Tensors of a checkpoint under other names.
fn rename(snapshot: &mut Json, name: impl Fn(&str) -> String) {
    let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
    *tensors = tensors.iter().map(|(old, entry)| (name(old), entry.clone())).collect();
}

#[test]
fn names_of_encoders_may_be_older_or_behind_a_head() {
    let names = |model: Model| {
        let mut names: Vec<_> = model.tensors.into_iter().map(|tensor| tensor.name).collect();
        names.sort();
        names
    };
    let plain = names(opened("bert", |_| {}).unwrap());
    let other = opened("bert", |snapshot| {
        rename(snapshot, |name| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"))
        });
    });
    assert_eq!(names(other.unwrap()), plain);
    let message = refused("bert", |snapshot| {
        snapshot["checkpoint"]["bert.embeddings.LayerNorm.weight"] = json!(["BF16", [64]]);
    });
    assert!(message.contains("found a second one under another name"), "{message}");
}

#[test]
fn positions_that_no_text_has_are_cut_off() {
    let rows = |change: fn(&mut Json)| {
        let model = opened("roberta", change).unwrap();
        let tensor = model.tensors.iter().find(|tensor| tensor.name == "position_embd.weight");
        let context = model.metadata.get("bert.context_length").cloned();
        (tensor.unwrap().shape[1], context)
    };
    assert_eq!(rows(|_| {}), (256, Some(Value::Uint32(256))));
    let without = |snapshot: &mut Json| snapshot["config"]["pad_token_id"] = Json::Null;
    assert_eq!(rows(without), (258, Some(Value::Uint32(258))));
    let message = refused("roberta", |snapshot| snapshot["config"]["pad_token_id"] = 300.into());
    assert!(message.contains("more than the 301 up to pad_token_id"), "{message}");
}

#[test]
fn experts_in_one_tensor_are_taken_apart() {
    // The form in which transformers holds experts in memory, and some files keep them.
    for (family, block, count, inner) in
        [("mixtral", "mlp", 4u64, 96u64), ("qwen3moe", "mlp", 4, 32)]
    {
        let model = opened(family, |snapshot| {
            let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
            tensors
                .retain(|name, _| !name.contains(".experts.") && !name.contains("sparse_moe.gate"));
            for layer in 0..3 {
                let name = |rest: &str| format!("model.layers.{layer}.{block}.{rest}");
                tensors.insert(name("gate.weight"), json!(["BF16", [count, 64]]));
                tensors
                    .insert(name("experts.gate_up_proj"), json!(["BF16", [count, 2 * inner, 64]]));
                tensors.insert(name("experts.down_proj"), json!(["BF16", [count, 64, inner]]));
            }
        })
        .unwrap();
        let shape = |name: &str| {
            let tensor = model.tensors.iter().find(|tensor| tensor.name == name);
            tensor.unwrap_or_else(|| panic!("{family}: no {name}")).shape.clone()
        };
        assert_eq!(shape("blk.2.ffn_gate_exps.weight"), [64, inner, count]);
        assert_eq!(shape("blk.2.ffn_up_exps.weight"), [64, inner, count]);
        assert_eq!(shape("blk.2.ffn_down_exps.weight"), [inner, 64, count]);
    }
}
