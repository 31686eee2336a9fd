//! Every family, without Python: a tiny checkpoint is generated as `interop/architectures.py`
//! generates it, and converts to what the reference converter made of it: each tensor's name,
//! type, shape and SHA-256, each key of the architecture.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

#[path = "parts/adapters.rs"]
mod adapters;
mod common;
#[path = "parts/projectors.rs"]
mod projectors;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{fixture, hex};
use gguf_io::{
    GgufFile, GgufString, Limits,
    metadata::{Array, Value},
};
use quant_convert::{
    Control, Error, Model, Options, Plan,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};
use quant_core::grouped::{GroupSize, GroupedType};
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/families/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
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
fn differences(name: &str, snapshot: &Json) -> Vec<String> {
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
fn like_reference_is_like_the_reference_in_every_family() {
    for (name, _) in snapshots() {
        let lines =
            |choose: fn(&mut Options)| outline(&opened_with(&name, |_| {}, choose).unwrap());
        assert_eq!(lines(|options| options.like_reference = true), lines(|_| {}), "{name}");
    }
}

#[test]
fn phi3_takes_the_original_context_beside_its_block() {
    let context = |change: fn(&mut Json), like_reference| {
        let choose = |options: &mut Options| options.like_reference = like_reference;
        let model = opened_with("phi3-long", |snapshot| change(&mut snapshot["config"]), choose)?;
        let key = "phi3.rope.scaling.original_context_length";
        Ok::<_, String>(model.metadata.get(key).cloned())
    };
    const KEY: &str = "original_max_position_embeddings";
    for like_reference in [false, true] {
        let both = |config: &mut Json| config["rope_parameters"][KEY] = 64.into();
        assert_eq!(context(both, like_reference), Ok(Some(Value::Uint32(128))));
        let neither = |config: &mut Json| {
            config.as_object_mut().unwrap().remove(KEY);
            config["rope_parameters"].as_object_mut().unwrap().remove(KEY);
        };
        assert_eq!(context(neither, like_reference), Ok(Some(Value::Uint32(4096))));
    }
    let one = |config: &mut Json| config[KEY] = 1.into();
    let message = context(one, false).unwrap_err();
    assert!(message.contains(KEY) && message.contains("more than 1"), "{message}");
}

#[test]
fn routers_that_know_but_sigmoid_say_so() {
    const KEYS: [&str; 4] =
        ["scoring_func", "score_function", "moe_router_activation_func", "expert_selection_fn"];
    // The last knows both ways: its class assumes softmax, and the reference reads that from it.
    for (name, found, reference) in [
        ("deepseek3", Some(2u32), None),
        ("kimi-k25", Some(2), None),
        ("glm4moelite", Some(2), None),
        ("deepseek32", Some(2), None),
        ("dots1", Some(2), None),
        ("exaone-moe", Some(2), None),
        ("kimi-linear", Some(2), None),
        ("minimax-m2", Some(2), None),
        ("minimax-m3", Some(2), None),
        ("bailingmoe2", Some(2), None),
        ("bailingmoe3", Some(2), None),
        ("deepseek2", None, None),
        ("cohere2moe", Some(1), Some(1)),
    ] {
        for (like_reference, expected) in [(false, found), (true, reference)] {
            let silent = |snapshot: &mut Json| {
                text(snapshot).retain(|key, _| !KEYS.contains(&key.as_str()));
            };
            let choose = |options: &mut Options| options.like_reference = like_reference;
            let model = opened_with(name, silent, choose).unwrap();
            let architecture = model.metadata.get_str("general.architecture").unwrap();
            let function = model.metadata.get(&format!("{architecture}.expert_gating_func"));
            assert_eq!(function, expected.map(Value::Uint32).as_ref(), "{name}");
        }
    }
}

/// The configuration of the text model.
fn text(snapshot: &mut Json) -> &mut serde_json::Map<String, Json> {
    let config = &mut snapshot["config"];
    let inner = if config.get("text_config").is_some() { "text_config" } else { "" };
    let config = if inner.is_empty() { config } else { &mut config[inner] };
    config.as_object_mut().unwrap()
}

#[test]
fn a_class_scales_rotation_where_the_block_of_older_versions_is_null() {
    for name in ["gpt_oss", "apertus", "ministral3"] {
        let with = |block: Option<Json>| {
            let model = opened(name, |snapshot| {
                let config = text(snapshot);
                config.remove("rope_parameters");
                config.remove("rope_theta");
                config.extend(block.map(|block| ("rope_scaling".to_owned(), block)));
            });
            outline(&model.unwrap())
        };
        for nothing in [Json::Null, json!({})] {
            assert_eq!(with(Some(nothing)), with(None), "{name}");
        }
    }
    // What config.json says counts.
    let plain = opened("gpt_oss", |snapshot| {
        text(snapshot).insert("rope_parameters".into(), json!({"rope_type": "default"}));
    });
    assert_eq!(plain.unwrap().metadata.get("gpt-oss.rope.scaling.type"), None);
}

#[test]
fn factors_of_llama3_are_a_tensor_in_every_family_that_reads_it() {
    for name in [
        "arcee",
        "deci",
        "exaone4",
        "granite",
        "granitehybrid",
        "granite-all-attention",
        "granite-swa",
        "llama",
        "ministral3",
        "mistral3-vision",
        "mixtral",
        "nanbeige",
        "smollm3",
    ] {
        let model = opened(name, |snapshot| {
            let block = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                "rope_theta": 1e4, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1});
            text(snapshot).insert("rope_parameters".into(), block);
        });
        let model = model.unwrap();
        assert!(model.tensors.iter().any(|tensor| tensor.name == "rope_freqs.weight"), "{name}");
    }
}

#[test]
fn a_bias_that_no_layer_has_counts_as_zero() {
    let without = |parts: &'static [&'static str]| {
        common::warnings(|| {
            opened("llama-biases", |snapshot| {
                let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
                let all = tensors.len();
                tensors.retain(|name, _| !parts.iter().any(|part| name.ends_with(part)));
                assert!(tensors.len() < all);
            })
        })
    };
    let (model, warnings) = without(&["o_proj.bias", "down_proj.bias"]);
    assert!(model.unwrap().tensors.iter().all(|tensor| tensor.name != "blk.0.attn_output.bias"));
    for (key, name) in [("attention_bias", "self_attn.o_proj"), ("mlp_bias", "mlp.down_proj")] {
        let said = |line: &String| line.contains(key) && line.contains(&format!("{name}.bias"));
        assert_eq!(warnings.iter().filter(|line| said(line)).count(), 1, "{warnings:?}");
    }
    // One layer's is lost, or all that the key tells of.
    for (parts, name) in [
        (&["layers.1.self_attn.o_proj.bias"][..], "model.layers.1.self_attn.o_proj.bias"),
        (&["q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"], "q_proj.bias"),
    ] {
        let message = without(parts).0.map(|_| ()).unwrap_err();
        assert!(message.contains(&format!("{name}\": found no such tensor")), "{message}");
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
    opened_with(name, change, |_| {})
}

fn opened_with(
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
fn outline(model: &Model) -> Vec<String> {
    let tensors = model.tensors.iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.shape));
    let own = |key: &str| !key.starts_with("general.") && !key.starts_with("tokenizer.");
    let keys = model.metadata.iter().filter(|(key, _)| own(key));
    tensors.chain(keys.map(|(key, value)| format!("{key} {value:?}"))).collect()
}

fn refused(name: &str, change: impl FnOnce(&mut Json)) -> String {
    let message = opened(name, change).map(|_| ()).unwrap_err();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// transformers saves of a text model inside of another only what its class does not assume.
#[test]
fn what_config_json_leaves_out_is_what_its_class_assumes() {
    for (name, key, value) in [
        ("bamba", "max_position_embeddings", json!(262_144)),
        ("bamba", "rms_norm_eps", json!(1e-5)),
        ("bailingmoe3", "topk_group", json!(4)),
        ("bailingmoe3", "kda_lower_bound", json!(-5.0)),
        ("cohere2moe", "expert_selection_fn", json!("softmax")),
        ("cohere2moe", "norm_topk_prob", json!(true)),
        ("cohere2moe", "num_experts_per_tok", json!(2)),
        ("exaone-moe", "n_group", json!(1)),
        ("gemma4-unified", "max_position_embeddings", json!(262_144)),
        ("glm4v", "max_position_embeddings", json!(32_768)),
        ("glm4v", "rms_norm_eps", json!(1e-5)),
        ("glm4vmoe", "max_position_embeddings", json!(65_536)),
        ("glm_ocr", "rms_norm_eps", json!(1e-5)),
        ("glm5-next", "n_group", json!(1)),
        ("glm5-next", "topk_group", json!(1)),
        ("glm5-next", "swiglu_limit", json!(10.0)),
        ("glm5-next", "qk_rope_head_dim", json!(0)),
        ("granite-swa", "max_position_embeddings", json!(8192)),
        ("granite-swa", "rms_norm_eps", json!(1e-5)),
        ("granitemoe-swa", "rms_norm_eps", json!(1e-6)),
        ("granitehybrid", "num_experts_per_tok", json!(2)),
        ("hy_v3", "router_scaling_factor", json!(2.826)),
        ("hy_v4", "n_group", json!(1)),
        ("hy_v4", "swiglu_limit", json!(10.0)),
        ("kimi-linear", "num_experts_per_token", json!(8)),
        ("kimi-linear", "topk_group", json!(1)),
        ("laguna", "sliding_window", json!(512)),
        ("mimo2", "n_group", json!(1)),
        ("mimo2", "attention_value_scale", json!(0.707)),
        ("nemotron-h-moe", "n_shared_experts", json!(1)),
        ("nemotron-h-moe", "norm_topk_prob", json!(true)),
        ("nemotron-h-moe", "routed_scaling_factor", json!(1.0)),
        ("nemotron-h-moe", "n_group", json!(1)),
        ("phimoe", "max_position_embeddings", json!(131_072)),
        ("qwen3vl", "vision_config.deepstack_visual_indexes", json!([8, 16, 24])),
        ("solar", "n_group", json!(1)),
        ("step35", "moe_router_scaling_factor", json!(1.0)),
        (
            "apertus",
            "rope_parameters",
            json!({"rope_type": "llama3", "rope_theta": 12e6,
            "factor": 8.0, "original_max_position_embeddings": 8192, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0}),
        ),
        (
            "gpt_oss",
            "rope_parameters",
            json!({"rope_type": "yarn", "rope_theta": 150_000.0,
            "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
            "original_max_position_embeddings": 4096}),
        ),
        (
            "mellum",
            "rope_parameters",
            json!({
            "full_attention": {"rope_type": "default", "rope_theta": 500_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}}),
        ),
        (
            "ministral3",
            "rope_parameters",
            json!({"rope_type": "yarn", "rope_theta": 1e6,
            "factor": 16.0, "original_max_position_embeddings": 16_384, "beta_fast": 32.0,
            "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}),
        ),
    ] {
        let with = |value: Option<&Json>| {
            let change = |snapshot: &mut Json| {
                let config = &mut snapshot["config"];
                let own = config.get("text_config").is_some() && !key.contains('.');
                let config = if own { &mut config["text_config"] } else { config };
                let (place, key) = key.split_once('.').unwrap_or(("", key));
                let object = if place.is_empty() { config } else { &mut config[place] };
                let object = object.as_object_mut().unwrap();
                object.remove(key);
                if key == "rope_parameters" {
                    object.remove("rope_theta");
                    object.remove("rope_scaling");
                }
                object.extend(value.map(|value| (key.to_owned(), value.clone())));
            };
            opened(name, change).unwrap_or_else(|error| panic!("{name} {key} {value:?}: {error}"))
        };
        assert_eq!(outline(&with(None)), outline(&with(Some(&value))), "{name} {key}");
    }
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
        message.contains("of shape [64, 2], expected one scale or one for each of 64"),
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
fn a_type_that_is_asked_for_of_carried_blocks_is_not_ignored() {
    let plan = |pattern: &str, allow_requantize| {
        let overrides = quant_convert::recipe::parse_tensor_types(pattern, "types").unwrap();
        let request = Request { overrides, ..Request::new(FileType::Q8_0) };
        let options = Options { request, allow_requantize, ..Options::default() };
        Plan::new(opened("gpt_oss-mxfp4", |_| {}).unwrap(), &options).unwrap()
    };
    let carried = |plan: &Plan| plan.tensors().filter(|t| t.carried).count();
    let all = plan("attn_q=f16", false);
    assert!(carried(&all) > 0 && all.check().is_ok());
    let refused = plan("ffn_down_exps=f16", false);
    let message = refused.check().unwrap_err().to_string();
    assert!(message.contains("is MXFP4 already; quantizing it again to F16"), "{message}");
    let allowed = plan("ffn_down_exps=f16", true);
    assert!(allowed.check().is_ok() && carried(&allowed) < carried(&all));
}

#[test]
fn further_layers_that_a_fine_tune_lost_are_not_counted() {
    for (name, further) in [
        ("qwen35", "mtp."),
        ("qwen35moe", "mtp."),
        ("qwen3next", "mtp."),
        ("glm4moe", "model.layers.3."),
        ("deepseek32", "model.layers.3."),
    ] {
        let whole = opened(name, |_| {}).unwrap();
        let lost = opened(name, |snapshot| {
            let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
            let all = tensors.len();
            tensors.retain(|tensor, _| !tensor.starts_with(further));
            assert!(tensors.len() < all, "{name}");
        });
        let lost = lost.unwrap();
        let count = |model: &Model| {
            let architecture = model.metadata.get_str("general.architecture").unwrap();
            model.metadata.get(&format!("{architecture}.block_count")).cloned()
        };
        assert_eq!(count(&whole), Some(4u32.into()), "{name}");
        assert_eq!(count(&lost), Some(3u32.into()), "{name}");
        assert!(lost.tensors.iter().all(|tensor| !tensor.name.starts_with("blk.3.")), "{name}");
        // One that has a part of such a layer is incomplete.
        let message = refused(name, |snapshot| {
            let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
            tensors.retain(|tensor, _| {
                !(tensor.starts_with(further) && tensor.ends_with("input_layernorm.weight"))
            });
        });
        assert!(message.contains("model.layers.3.input_layernorm.weight"), "{message}");
    }
}

#[test]
fn further_layers_count_where_config_json_leaves_their_number_out() {
    for (name, key) in [
        ("qwen35", "mtp_num_hidden_layers"),
        ("glm4moe", "num_nextn_predict_layers"),
        ("glm-dsa", "num_nextn_predict_layers"),
        ("bailingmoe3", "num_nextn_predict_layers"),
    ] {
        let whole = outline(&opened(name, |_| {}).unwrap());
        let silent = opened(name, |snapshot| {
            assert!(text(snapshot).remove(key).is_some(), "{name}");
        });
        assert_eq!(outline(&silent.unwrap()), whole, "{name}");
    }
    // Layers beyond the last that predict nothing are too many.
    let message = refused("glm4moe", |snapshot| {
        snapshot["config"].as_object_mut().unwrap().remove("num_nextn_predict_layers");
        let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
        tensors.retain(|name, _| !name.ends_with("eh_proj.weight"));
    });
    assert!(message.contains("found layer 3, expected layers 0 to 2"), "{message}");
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
        // llama.cpp's loaders need these.
        ("mamba", "backbone.layers.1.mixer.conv1d.bias"),
        ("jamba", "model.layers.0.mamba.conv1d.bias"),
        ("phimoe", "lm_head.bias"),
        // One that becomes an entry of an array.
        ("apertus", "model.layers.1.mlp.act_fn.alpha_n"),
    ] {
        let message = refused(family, |snapshot| {
            let removed = snapshot["checkpoint"].as_object_mut().unwrap().remove(name);
            assert!(removed.is_some(), "{name}");
        });
        assert!(message.contains(&format!("tensor \"{name}\": found no such tensor")), "{message}");
    }
}

#[test]
fn values_that_become_keys_are_single_and_finite() {
    const NAME: &str = "model.layers.1.mlp.act_fn.alpha_n";
    let with = |entry: Json| {
        move |snapshot: &mut Json| {
            let key = snapshot["checkpoint"].as_object_mut().unwrap().get_mut(NAME).unwrap();
            *key = entry;
        }
    };
    for dtype in ["F32", "F16", "BF16"] {
        assert!(opened("apertus", with(json!([dtype, [1]]))).is_ok(), "{dtype}");
    }
    for (entry, found) in [(json!(["F32", [2]]), "[2]"), (json!(["U8", [1]]), "U8")] {
        let message = refused("apertus", with(entry));
        assert!(message.contains(NAME) && message.contains(found), "{message}");
    }
    let message = refused("apertus", |snapshot| {
        snapshot["checkpoint"][format!("language_model.{NAME}")] = json!(["F32", [1]]);
    });
    assert!(message.contains("found a second one under another name"), "{message}");
}

#[test]
fn heads_that_a_graph_does_not_have_are_refused() {
    let tied = |tied: bool| {
        move |snapshot: &mut Json| snapshot["config"]["tie_word_embeddings"] = tied.into()
    };
    let message = refused("plm", tied(false));
    assert!(
        message.contains("tie_word_embeddings") && message.contains("expected true"),
        "{message}"
    );
    assert!(opened("plm", tied(true)).is_ok());
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
        [("mixtral", "mlp", 4u64, 96u64), ("qwen3moe", "mlp", 4, 32), ("deepseek3", "mlp", 4, 32)]
    {
        // Layers before these have no experts.
        let first = if family == "deepseek3" { 1 } else { 0 };
        let model = opened(family, |snapshot| {
            let tensors = snapshot["checkpoint"].as_object_mut().unwrap();
            tensors
                .retain(|name, _| !name.contains(".experts.") && !name.contains("sparse_moe.gate"));
            for layer in first..3 {
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

#[test]
fn other_classes_of_the_same_graph_convert_alike() {
    for (name, class) in [
        ("llama", "IQuestCoderForCausalLM"),
        ("llama-embedding", "MistralModel"),
        ("qwen2", "DotsOCRForCausalLM"),
        ("qwen2-audio", "AudioFlamingo3ForConditionalGeneration"),
        ("phi3", "Phi4ForCausalLMV"),
        ("olmo", "OLMoForCausalLM"),
        ("gemma2", "Gemma2Model"),
        ("qwen2vl", "Qwen2VLModel"),
        ("xlm-roberta", "CamembertModel"),
    ] {
        let expected = outline(&opened(name, |_| {}).unwrap());
        let found = opened(name, |snapshot| {
            snapshot["config"]["architectures"] = json!([class]);
            // Vision and sound belong to no text model, whatever the class.
            snapshot["config"]["vision_config"] = json!({"hidden_size": 8});
            snapshot["checkpoint"]["model.vision_tower.x.weight"] = json!(["BF16", [3, 4]]);
            snapshot["checkpoint"]["model.mm_projector.0.weight"] = json!(["BF16", [3, 4]]);
        })
        .unwrap();
        assert_eq!(outline(&found), expected, "{class}");
        assert!(found.left_out.iter().any(|name| name == "model.mm_projector.0.weight"));
    }
    // Without a head, as embedding models are saved, some of them without `model.` as well.
    for (name, class) in [("phi3", "Phi3Model"), ("qwen3moe", "Qwen3MoeModel")] {
        let mut expected = outline(&opened(name, |_| {}).unwrap());
        expected.retain(|line| !line.starts_with("output.weight"));
        for bare in [false, true] {
            let found = opened(name, |snapshot| {
                snapshot["config"]["architectures"] = json!([class]);
                snapshot["checkpoint"].as_object_mut().unwrap().remove("lm_head.weight");
                if bare {
                    rename(snapshot, |name| name.trim_start_matches("model.").to_owned());
                }
            })
            .unwrap();
            assert_eq!(outline(&found), expected, "{class}");
        }
    }
}

#[test]
fn text_models_of_wrappers_nobody_knows_convert_by_their_type() {
    let expected = outline(&opened("llava-qwen2", |_| {}).unwrap());
    let found = opened("llava-qwen2", |snapshot| {
        snapshot["config"]["architectures"] = json!(["NewVisionForConditionalGeneration"]);
        let text = snapshot["config"]["text_config"].as_object_mut().unwrap();
        text.remove("architectures");
        rename(snapshot, |name| name.replace("language_model.", "text_model."));
    });
    assert_eq!(outline(&found.unwrap()), expected);
    let message = refused("llava-qwen2", |snapshot| {
        snapshot["checkpoint"]["model.language_model.cross_attention.weight"] =
            json!(["BF16", [3, 4]]);
    });
    assert!(message.contains("expected only tensors that architecture qwen2"), "{message}");
}

#[test]
fn text_models_of_models_that_speak_are_converted() {
    let expected = outline(&opened("qwen2_5vl", |_| {}).unwrap());
    let found = opened("qwen2_5vl", |snapshot| {
        let config = snapshot["config"].take();
        snapshot["config"] = json!({
            "architectures": ["Qwen2_5OmniModel"],
            "model_type": "qwen2_5_omni",
            "thinker_config": config,
        });
        rename(snapshot, |name| format!("thinker.{}", name.replace("model.visual", "visual")));
        for name in ["talker.model.norm.weight", "token2wav.dit.weight", "thinker.audio_tower.x"] {
            snapshot["checkpoint"][name] = json!(["BF16", [4]]);
        }
    });
    assert_eq!(outline(&found.unwrap()), expected);
}

#[test]
fn experts_may_be_stored_by_rows_or_by_columns() {
    // The published files of Qwen3-VL have columns, those that transformers 5 writes rows.
    let expected = outline(&opened("qwen3vlmoe", |_| {}).unwrap());
    let found = opened("qwen3vlmoe", |snapshot| {
        for (name, entry) in snapshot["checkpoint"].as_object_mut().unwrap() {
            if name.contains(".experts.") {
                let shape = entry[1].as_array_mut().unwrap();
                shape.swap(1, 2);
            }
        }
    });
    let found = found.unwrap();
    assert_eq!(outline(&found), expected);
    let down = found.tensors.iter().find(|tensor| tensor.name.contains("down_exps")).unwrap();
    assert!(!down.is_reordered());
}

#[test]
fn models_without_a_head_get_what_loaders_need() {
    let without = |snapshot: &mut Json| {
        snapshot["checkpoint"].as_object_mut().unwrap().remove("lm_head.weight").unwrap();
    };
    let tensor = |model: &Model, name: &str| {
        model.tensors.iter().find(|tensor| tensor.name == name).map(|t| format!("{:?}", t.data))
    };
    // llama.cpp takes the token embedding by itself ...
    for name in ["llama", "qwen3", "phi3", "granite", "falcon-groups"] {
        let model = opened(name, |snapshot| {
            snapshot["config"]["tie_word_embeddings"] = false.into();
            snapshot["checkpoint"].as_object_mut().unwrap().remove("lm_head.weight");
        });
        assert_eq!(tensor(&model.unwrap(), "output.weight"), None, "{name}");
    }
    // ... or does not load the model without an output.
    for name in ["qwen2moe", "olmo2", "stablelm", "nemotron", "gpt_oss"] {
        let model = opened(name, without).unwrap();
        let output = tensor(&model, "output.weight");
        assert!(output.is_some(), "{name}");
        assert_eq!(output, tensor(&model, "token_embd.weight"), "{name}");
        let like = opened_with(name, without, |options| options.like_reference = true).unwrap();
        assert_eq!(tensor(&like, "output.weight"), None, "{name}");
    }
    // Whose output has a bias that nothing could stand in for.
    let message = refused("phi2", without);
    assert!(message.contains("\"lm_head.weight\": found no such tensor"), "{message}");
}

#[test]
fn pooling_is_that_of_sentence_transformers_in_every_family_llama_cpp_15023() {
    for (name, key) in [
        ("llama-embedding", "llama.pooling_type"),
        ("mistral", "llama.pooling_type"),
        ("gemma2", "gemma2.pooling_type"),
        ("llama-embed", "llama-embed.pooling_type"),
        ("qwen3moe", "qwen3moe.pooling_type"),
        ("arcee", "arcee.pooling_type"),
    ] {
        let pooled = |snapshot: &mut Json| snapshot["pooling"] = json!({"pooling_mode": "cls"});
        let model = opened(name, pooled).unwrap();
        assert_eq!(model.metadata.get(key), Some(&Value::Uint32(2)), "{name}");
        assert_eq!(opened(name, |_| {}).unwrap().metadata.get(key), None, "{name}");
        // llama.cpp's converter forgets it in most families.
        let like = opened_with(name, pooled, |options| options.like_reference = true).unwrap();
        assert_eq!(like.metadata.get(key).is_some(), name == "arcee", "{name}");
    }
    let message = refused("llama-embedding", |snapshot| {
        snapshot["pooling"] = json!({"pooling_mode_max_tokens": true})
    });
    assert!(message.contains("\"pooling_mode\" is \"max_tokens\""), "{message}");
}

#[test]
fn falcon_has_had_several_layouts() {
    let keys = |change: fn(&mut Json)| {
        let model = opened("falcon", |snapshot| {
            // As published by its authors: github.com/ggml-org/llama.cpp/issues/2894.
            snapshot["config"] = json!({
                "architectures": ["RWForCausalLM"], "model_type": "RefinedWebModel",
                "alibi": false, "bias": false, "hidden_size": 64, "layer_norm_epsilon": 1e-5,
                "multi_query": true, "n_head": 4, "n_layer": 2, "parallel_attn": true,
                "vocab_size": 1024
            });
            change(snapshot);
        });
        model.map(|model| outline(&model))
    };
    let expected = outline(&opened("falcon", |_| {}).unwrap());
    assert_eq!(keys(|_| {}).unwrap(), expected);
    // transformers writes the number of query heads, which nothing reads.
    assert_eq!(keys(|snapshot| snapshot["config"]["num_kv_heads"] = 4.into()).unwrap(), expected);
    let silent =
        |snapshot: &mut Json| _ = snapshot["config"].as_object_mut().unwrap().remove("multi_query");
    assert_eq!(keys(silent).unwrap(), expected);
    for (change, expected) in [
        (
            (|snapshot| snapshot["config"]["alibi"] = true.into()) as fn(&mut Json),
            "key \"alibi\" is true, expected false",
        ),
        (
            |snapshot| snapshot["config"]["parallel_attn"] = false.into(),
            "key \"parallel_attn\" is false, expected true",
        ),
        (|snapshot| snapshot["config"]["multi_query"] = false.into(), "groups of heads 4"),
    ] {
        let message = keys(change).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    // The original files of the 40B model.
    let groups = opened("falcon-groups", |snapshot| {
        snapshot["config"] = json!({
            "architectures": ["RWForCausalLM"], "model_type": "RefinedWeb", "alibi": false,
            "bias": false, "hidden_size": 64, "layer_norm_epsilon": 1e-5, "n_head": 4,
            "n_head_kv": 2, "n_layer": 2, "parallel_attn": true, "vocab_size": 1024
        });
    });
    let expected = outline(&opened("falcon-groups", |_| {}).unwrap());
    assert_eq!(outline(&groups.unwrap()), expected);
}

/// No key of a GGUF file says it: engines assume it of the architecture. What the families themselves
/// have is not told of.
#[test]
fn what_engines_do_not_run_is_told() {
    let told = |name: &str, change: &dyn Fn(&mut Json)| {
        let said = common::warnings(|| opened(name, |snapshot| change(&mut snapshot["config"])));
        said.0.unwrap();
        said.1.into_iter().filter(|said| said.contains("trained to")).collect::<Vec<_>>()
    };
    let mut problems = Vec::new();
    let is_usual = |config: &Json| config["hidden_act"] == "silu";
    for (name, snapshot) in snapshots() {
        // Small models have the defaults of their class, which are not always those of the published ones.
        let routes = snapshot["config"].to_string().contains("norm_topk_prob");
        if routes || is_usual(&snapshot["config"]) {
            continue;
        }
        problems.extend(told(&name, &|_| {}).into_iter().map(|said| format!("{name}: {said}")));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    for (name, key, other, runs) in [
        ("llama", "hidden_act", "gelu", "SiLU"),
        ("qwen3", "hidden_act", "relu", "SiLU"),
        ("gemma", "hidden_activation", "silu", "GELU"),
        ("gpt2", "activation_function", "relu", "GELU"),
        ("bert", "hidden_act", "silu", "GELU"),
        ("nemotron", "hidden_act", "silu", "the square of ReLU"),
    ] {
        let text = told(name, &|config| config[key] = other.into());
        let is_told = matches!(&text[..], [one] if one.contains(key) && one.contains(other) && one.contains(runs));
        assert!(is_told, "{name}: {text:?}");
    }
    assert_eq!(told("gpt2", &|config| config["activation_function"] = "gelu_fast".into()), [""; 0]);
    // Those of the published models are false, true and what the file's key says.
    for (name, published) in [("qwen2moe", false), ("qwen3moe", true), ("bailingmoe", true)] {
        let with = |norm: bool| told(name, &|config| config["norm_topk_prob"] = norm.into());
        assert_eq!(with(published), [""; 0], "{name}");
        let text = with(!published);
        let is_told = matches!(&text[..], [one] if one.contains("norm_topk_prob"));
        assert_eq!(is_told, name != "bailingmoe", "{name}: {text:?}");
    }
}

#[test]
fn rerankers_are_classifiers_of_yes_and_no() {
    let converted = |tied: bool, card: &str| {
        let mut snapshot = snapshot("qwen3");
        snapshot["config"]["tie_word_embeddings"] = tied.into();
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("model");
        generate(&dir, &snapshot);
        fs::write(dir.join("README.md"), card).unwrap();
        let path = dir.join("tokenizer.json");
        let mut tokenizer: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        added.retain(|token| token["content"] != "<|im_start|>");
        added.push(json!({"id": 1022, "content": "yes", "special": false}));
        fs::write(path, tokenizer.to_string()).unwrap();
        open(&dir, &options(&snapshot)).unwrap()
    };
    let has = |model: &Model, name: &str| model.tensors.iter().any(|tensor| tensor.name == name);
    for tied in [true, false] {
        // An editor's byte order mark is no part of the card.
        let card = "\u{feff}---\nlicense: mit\n---\n\n# Qwen3-Reranker-0.6B\n";
        let model = converted(tied, card);
        assert_eq!(model.metadata.get_str("general.license"), Some("mit"));
        let rows = model.tensors.iter().find(|tensor| tensor.name == "cls.output.weight").unwrap();
        assert_eq!(rows.shape, [64, 2]);
        // The snapshot's model has a head of its own, which tied models do not use for answers.
        assert_eq!(has(&model, "output.weight"), tied);
        assert!(has(&model, "token_embd.weight"));
        let keys = [
            ("qwen3.pooling_type", Value::Uint32(4)),
            ("qwen3.classifier.output_labels", vec![GgufString::from("yes"), "no".into()].into()),
            ("tokenizer.chat_templates", vec![GgufString::from("rerank")].into()),
        ];
        for (key, value) in keys {
            assert_eq!(model.metadata.get(key), Some(&value), "{key}");
        }
        let model = converted(tied, "# A language model");
        assert!(!has(&model, "cls.output.weight"));
        assert_eq!(model.metadata.get("qwen3.pooling_type"), None);
    }
}

/// An importance matrix of before 2025 with one entry of ones.
fn imatrix(tensor: &str, columns: u32) -> Vec<u8> {
    let mut bytes = 1i32.to_le_bytes().to_vec();
    bytes.extend((tensor.len() as u32).to_le_bytes());
    bytes.extend(tensor.as_bytes());
    bytes.extend(1i32.to_le_bytes());
    bytes.extend(columns.to_le_bytes());
    (0..columns).for_each(|_| bytes.extend(1f32.to_le_bytes()));
    bytes
}

/// Gate and up of shared experts are one tensor in a checkpoint, and two in GGUF, by whose names a
/// matrix knows them: only the last was looked for.
#[test]
fn a_tensor_that_gguf_has_in_parts_uses_the_importance_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("model");
    generate(&input, &snapshot("granitemoe-shared"));
    let how = grouped::Options {
        group_size: GroupSize::from_number(16),
        refine: true,
        ..grouped::Options::new(GroupedType::Int4Sym)
    };
    let unused = |tensor: &str| {
        let path = folder.path().join("imatrix.dat");
        fs::write(&path, imatrix(tensor, 64)).unwrap();
        let options = Options { imatrix: Some(path), ..Options::default() };
        let new = || {
            FolderPlan::new(
                &input,
                &Options { grouped: Some(how), ..options.clone() },
                Control::default(),
            )
            .unwrap()
        };
        let (_, warnings) = common::warnings(new);
        warnings.iter().any(|warning| warning.contains("the importance matrix is not used"))
    };
    assert!(!unused("blk.0.ffn_gate_shexp.weight"));
    assert!(!unused("blk.0.ffn_up_shexp.weight"));
    // A neighbour that no layer is made of.
    assert!(unused("blk.0.ffn_gate_inp.weight"));
}
