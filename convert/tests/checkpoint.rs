//! Whole checkpoints: metadata, names, shapes, order and values of the fixtures, and checkpoints
//! that are not as they should be.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;
#[path = "checkpoint/mistral_format.rs"]
mod mistral_format;
#[path = "checkpoint/positions.rs"]
mod positions;

use std::{fs, path::Path};

use common::{assert_same, described, fixture, golden, hex};
use proptest::prelude::*;
use quant_convert::{
    CheckpointOptions, Control, Error, Model, Options, Plan, checkpoint,
    recipe::{FileType, Request},
};
use serde_json::{Value as Json, json};

fn open(dir: &Path) -> Result<Model, Error> {
    checkpoint::open(dir, &CheckpointOptions::default())
}

/// Names, shapes and hashes of a model's tensors in single precision, in the order of the model.
fn tensors(dir: &Path) -> serde_json::Map<String, Json> {
    let request = Request::new(FileType::F32);
    let options = Options { request, no_sync: true, threads: 2, ..Options::default() };
    let model = quant_convert::open(dir, &options).unwrap();
    let names: Vec<String> = model.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    Plan::new(model, &options).unwrap().run(&output, Control::default()).unwrap();
    let bytes = fs::read(&output).unwrap();
    let written = gguf_io::GgufFile::open(&output, &gguf_io::Limits::default()).unwrap();
    let describe = |name: String| {
        let tensor = written.tensors.iter().find(|tensor| tensor.name == name).unwrap();
        let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
        (name, json!({"type": tensor.ty.name(), "shape": tensor.shape, "sha256": hex(data)}))
    };
    names.into_iter().map(describe).collect()
}

#[test]
fn fixtures_equal_the_reference() {
    for name in ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"] {
        let model = open(&fixture(name)).unwrap();
        assert_same(&described(&model.metadata), &golden(name, "metadata_f32"));
        assert_same(&tensors(&fixture(name)), &golden(name, "tensors_f32"));
    }
}

#[test]
fn experts_are_as_many_as_config_says() {
    let dir = copy("tiny-mixtral");
    edit(dir.path(), |config| config["num_local_experts"] = 5.into());
    let message = refusal(dir.path());
    assert!(
        message.contains("block_sparse_moe.gate.weight\": found shape [4, 256], expected [5, 256]"),
        "{message}"
    );
    edit(dir.path(), |config| config["num_local_experts"] = 3.into());
    refusal(dir.path());
}

/// A copy of a fixture that can be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let outer = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if !file.starts_with("reference_") && file != "imatrix.gguf" {
            fs::copy(&path, outer.path().join(file)).unwrap();
        }
    }
    outer
}

fn edit(dir: &Path, change: impl FnOnce(&mut Json)) {
    let path = dir.join("config.json");
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn refusal(dir: &Path) -> String {
    let message = open(dir).map(|_| ()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Safetensors bytes: tensors of zeros, or other tensors than the fixture's.
fn safetensors(tensors: &[(String, &str, Vec<u64>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let size = match *dtype {
            "F64" | "I64" => 8,
            "F32" | "I32" => 4,
            "F16" | "BF16" => 2,
            _ => 1,
        };
        let start = end;
        end += shape.iter().product::<u64>() * size;
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let header = Json::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + end as usize, 0);
    bytes
}

/// Names, types and shapes of the tensors of tiny-llama3.
fn layout() -> Vec<(String, &'static str, Vec<u64>)> {
    let checkpoint =
        gguf_io::Checkpoint::open(&fixture("tiny-llama3"), &gguf_io::Limits::default()).unwrap();
    let tensors = checkpoint.tensors.into_iter();
    tensors.map(|(name, tensor)| (name, "BF16", tensor.shape)).collect()
}

fn with_weights(dir: &Path, change: impl FnOnce(&mut Vec<(String, &'static str, Vec<u64>)>)) {
    let mut tensors = layout();
    change(&mut tensors);
    fs::write(dir.join("model.safetensors"), safetensors(&tensors)).unwrap();
}

#[test]
fn both_forms_of_config_json_give_the_same() {
    let dir = copy("tiny-llama3");
    let expected = open(dir.path()).unwrap();
    edit(dir.path(), |config| {
        let mut rope = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
        config["rope_theta"] = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
        config["rope_scaling"] = rope;
        config["torch_dtype"] = config["dtype"].take();
        // What the configuration class derives.
        config["head_dim"] = Json::Null;
    });
    let found = open(dir.path()).unwrap();
    assert_eq!(found.metadata, expected.metadata);
    assert_eq!(tensors(dir.path()), tensors(&fixture("tiny-llama3")));
}

#[test]
fn mistral_is_llama() {
    let dir = copy("tiny-llama2");
    edit(dir.path(), |config| {
        config["architectures"] = json!(["MistralForCausalLM"]);
        config["model_type"] = "mistral".into();
        config["sliding_window"] = 1024.into();
    });
    let (found, expected) = (open(dir.path()).unwrap(), open(&fixture("tiny-llama2")).unwrap());
    let mut found = described(&found.metadata);
    let mut expected = described(&expected.metadata);
    // The folder has another name.
    for metadata in [&mut found, &mut expected] {
        metadata.retain(|key, _| {
            !matches!(
                &**key,
                "general.name" | "general.finetune" | "general.basename" | "general.version"
            )
        });
    }
    assert_same(&found, &expected);
}

#[test]
fn sampling_and_names_are_metadata() {
    let dir = copy("tiny-llama2");
    fs::write(
        dir.path().join("generation_config.json"),
        r#"{"temperature": 0.6, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1, "min_p": null, "mirostat": "x"}"#,
    )
    .unwrap();
    edit(dir.path(), |config| config["_name_or_path"] = "meta-llama/Llama-2-7b-chat-hf".into());
    let metadata = open(dir.path()).unwrap().metadata;
    let general: Vec<_> =
        metadata.iter().map(|(key, _)| key).take_while(|key| key.starts_with("general.")).collect();
    let expected = [
        "general.architecture",
        "general.type",
        "general.sampling.top_k",
        "general.sampling.top_p",
        "general.sampling.temp",
        "general.sampling.penalty_repeat",
        "general.name",
        "general.organization",
        "general.finetune",
        "general.basename",
        "general.size_label",
    ];
    assert_eq!(general, expected);
    assert_eq!(metadata.get_str("general.name"), Some("Llama 2 7b Chat Hf"));
    // 7B contradicts what is there: a context length, then.
    assert_eq!(metadata.get_str("general.size_label"), Some("2.1M"));
    assert_eq!(metadata.get("general.sampling.top_k"), Some(&50i32.into()));
    fs::write(dir.path().join("generation_config.json"), "{").unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn tied_embeddings_have_no_output() {
    // Neither where config.json forgets to tie them: loaders take the token embedding then.
    let dir = copy("tiny-llama3");
    let tied = open(dir.path()).unwrap();
    edit(dir.path(), |config| config["tie_word_embeddings"] = false.into());
    let (names, count) = (|model: &Model| model.tensors.len(), tied.tensors.len());
    let (untied, warnings) = common::warnings(|| open(dir.path()).unwrap());
    assert_eq!(names(&untied), count);
    assert!(
        warnings.iter().any(|line| line.contains("no tensor \"lm_head.weight\"")),
        "{warnings:?}"
    );
    // Stored all the same, it is written, as the reference converter does; if it is another one,
    // what runs depends on the program.
    let stored = |dir: &Path| {
        edit(dir, |config| config["tie_word_embeddings"] = true.into());
        let (model, warnings) = common::warnings(|| open(dir).unwrap());
        assert!(model.tensors.iter().any(|tensor| tensor.name == "output.weight"));
        warnings.iter().any(|line| line.contains("stores an output with other values"))
    };
    let dir = copy("tiny-llama2");
    assert!(stored(dir.path()));
    let dir = copy("tiny-llama3");
    // Zeros, both of them.
    with_weights(dir.path(), |tensors| {
        tensors.push(("lm_head.weight".into(), "BF16", vec![1024, 256]));
    });
    assert!(!stored(dir.path()));
}

#[test]
fn old_buffers_are_left_out_and_biases_taken_along() {
    let dir = copy("tiny-llama3");
    with_weights(dir.path(), |tensors| {
        tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), "F32", vec![32]));
        tensors.push(("model.layers.1.self_attn.k_proj.bias".into(), "F32", vec![128]));
    });
    let model = open(dir.path()).unwrap();
    assert_eq!(model.tensors.len(), layout().len() + 2);
    let bias = model.tensors.iter().find(|tensor| tensor.name == "blk.1.attn_k.bias").unwrap();
    assert_eq!(bias.shape, [128]);
    assert!(bias.is_reordered());
    edit(dir.path(), |config| config["attention_bias"] = true.into());
    let message = refusal(dir.path());
    assert!(
        message.contains("q_proj.bias\": found no such tensor (and 6 more are missing)"),
        "{message}"
    );
}

#[test]
fn config_values_are_checked() {
    let dir = copy("tiny-llama3");
    let sound = fs::read(dir.path().join("config.json")).unwrap();
    let cases: [(&str, Json, &str); 24] = [
        ("num_hidden_layers", 0.into(), "key \"num_hidden_layers\" is 0"),
        ("num_hidden_layers", (-2).into(), "key \"num_hidden_layers\" is -2"),
        ("num_hidden_layers", "two".into(), "is the text \"two\""),
        ("num_hidden_layers", 1_000_000.into(), "expected at most 10000"),
        (
            "num_hidden_layers",
            3.into(),
            "tensor \"model.layers.2.input_layernorm.weight\": found no such tensor (and 8 more are missing)",
        ),
        ("num_hidden_layers", 1.into(), "found layer 1, expected layers 0 to 0"),
        ("num_hidden_layers", Json::Null, "key \"num_hidden_layers\" is missing"),
        ("hidden_size", 0.into(), "key \"hidden_size\" is 0"),
        (
            "hidden_size",
            512.into(),
            "expected [1024, 512] by config.json (vocab_size 1024, hidden_size 512)",
        ),
        ("hidden_size", Json::Null, "key \"hidden_size\" is missing"),
        ("intermediate_size", 4.5.into(), "key \"intermediate_size\" is 4.5"),
        ("intermediate_size", Json::Null, "key \"intermediate_size\" is missing"),
        ("num_attention_heads", 0.into(), "key \"num_attention_heads\" is 0"),
        ("num_attention_heads", 3.into(), "a multiple of num_key_value_heads, which is 2"),
        (
            "num_attention_heads",
            8.into(),
            "expected [256, 512] by config.json (hidden_size 256, num_attention_heads 8, size of a head 64)",
        ),
        ("num_key_value_heads", 4.into(), "k_proj"),
        ("head_dim", 32.into(), "size of a head 32"),
        ("vocab_size", 1025.into(), "shape [1024, 256], expected [1025, 256]"),
        ("vocab_size", Json::Null, "key \"vocab_size\" is missing"),
        ("rms_norm_eps", (-1.0).into(), "key \"rms_norm_eps\" is -1"),
        ("max_position_embeddings", "many".into(), "key \"max_position_embeddings\" is the text"),
        ("rope_parameters", "llama3".into(), "key \"rope_parameters\" is the text"),
        ("quantization_config", json!({"quant_method": "gguf"}), "\"gguf\", expected gptq, awq"),
        (
            "architectures",
            json!(["LlamaForCausalML"]),
            "closest supported ones are LlamaForCausalLM, ",
        ),
    ];
    for (key, value, expected) in cases {
        edit(dir.path(), |config| config[key] = value.clone());
        let message = refusal(dir.path());
        assert!(message.contains(expected), "{key} = {value}: {message}\nexpected {expected}");
        fs::write(dir.path().join("config.json"), &sound).unwrap();
    }
    open(dir.path()).unwrap();
}

#[test]
fn python_constants_in_config_are_named() {
    let dir = copy("tiny-llama3");
    let path = dir.path().join("config.json");
    let sound = fs::read_to_string(&path).unwrap();
    for constant in ["NaN", "Infinity", "-Infinity", "1e999"] {
        fs::write(&path, sound.replace("1e-05", constant)).unwrap();
        let message = refusal(dir.path());
        let constant = constant.replace("1e999", "Infinity");
        assert!(
            message.contains(&format!("config.json: key \"rms_norm_eps\" is {constant}, expected")),
            "{message}"
        );
    }
    // Under keys that nobody reads they do no harm, as Nemotron-H's time_step_limit.
    let unread = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap_or("{ }".into());
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let text = if file == "config.json" { sound.clone() } else { unread(file) };
        let (_, rest) = text.split_once('{').unwrap();
        let comma = if rest.contains(':') { "," } else { "" };
        let added = format!(
            "{{\"time_step_limit\": [0.0, Infinity], \"loss\": NaN, \"low\": -Infinity, \
             \"max\": 1e999{comma}{rest}"
        );
        fs::write(dir.path().join(file), added).unwrap();
    }
    open(dir.path()).unwrap();
    // generation_config.json is advice: a temperature that is none is left out.
    let generation = dir.path().join("generation_config.json");
    fs::write(&generation, r#"{"temperature": NaN, "top_k": 40}"#).unwrap();
    let metadata = open(dir.path()).unwrap().metadata;
    assert!(metadata.get("general.sampling.temp").is_none());
    assert_eq!(metadata.get("general.sampling.top_k"), Some(&40i32.into()));
    fs::write(&path, "[".repeat(1_000_000)).unwrap();
    assert!(refusal(dir.path()).contains("recursion limit"));
    fs::write(&path, "[]").unwrap();
    refusal(dir.path());
    fs::remove_file(&path).unwrap();
    assert!(refusal(dir.path()).contains("config.json"));
}

#[test]
fn weights_are_checked_against_the_architecture() {
    let dir = copy("tiny-llama3");
    with_weights(dir.path(), |_| {});
    open(dir.path()).unwrap();
    with_weights(dir.path(), |tensors| {
        tensors.push(("visual.patch\n.weight".into(), "F16", vec![3, 4]))
    });
    let message = refusal(dir.path());
    assert!(
        message.contains("tensor \"visual.patch\\n.weight\": found shape [3, 4], expected only tensors that architecture llama"),
        "{message}"
    );
    with_weights(dir.path(), |tensors| {
        tensors.remove(5);
    });
    assert!(refusal(dir.path()).contains("found no such tensor, expected one of shape"));
    with_weights(dir.path(), |tensors| tensors[3].2.push(1));
    assert!(refusal(dir.path()).contains("by config.json"));
    for (dtype, help) in [("I64", "quantized"), ("U8", "quantized"), ("F8_E8M0", "quantized")] {
        with_weights(dir.path(), |tensors| tensors[2].1 = dtype);
        let message = refusal(dir.path());
        assert!(
            message.contains(&format!("found type {dtype}, expected F32, F16 or BF16"))
                && message.contains(help),
            "{message}"
        );
    }
    for dtype in ["F32", "F16", "F64", "F8_E4M3"] {
        with_weights(dir.path(), |tensors| tensors[2].1 = dtype);
        open(dir.path()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_configs_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), bytes).unwrap();
        refusal(dir.path());
    }

    #[test]
    fn any_value_in_config_is_read_or_refused(key in 0usize..40, value in prop_oneof![
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        Just(json!([])), Just(json!({"rope_type": "yarn", "factor": 2})), Just(json!({"rope_type": 3})), Just(Json::Null),
    ]) {
        let dir = copy("tiny-llama3");
        edit(dir.path(), |config| {
            let keys: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
            config[&keys[key % keys.len()]] = value;
        });
        if let Err(error) = open(dir.path()) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
