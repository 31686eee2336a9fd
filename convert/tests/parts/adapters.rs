//! LoRA adapters: what llama.cpp's converter makes of them, and what no GGUF file can hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gguf_io::{GgufFile, Limits, metadata::Value};
use quant_convert::{
    Control, Model, Options, Plan, open,
    recipe::{FileType, Request},
};
use serde_json::{Value as Json, json};
use tempfile::{TempDir, tempdir};

use super::{hex, plain, values};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters")
}

fn snapshot(name: &str) -> Json {
    serde_json::from_slice(&fs::read(folder().join(format!("{name}.json"))).unwrap()).unwrap()
}

/// Writes the config.json of a base, and an adapter.
fn generate(at: &Path, snapshot: &Json) {
    for dir in ["base", "adapter"] {
        fs::create_dir_all(at.join(dir)).unwrap();
    }
    fs::write(at.join("base/config.json"), snapshot["config"].to_string()).unwrap();
    let settings = at.join("adapter/adapter_config.json");
    fs::write(settings, snapshot["adapter"].to_string()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, entry) in snapshot["checkpoint"].as_object().unwrap() {
        let (dtype, start) = (entry[0].as_str().unwrap(), data.len());
        let shape: Vec<u64> = serde_json::from_value(entry[1].clone()).unwrap();
        data.extend(values(name, dtype, shape.iter().product()));
        let offsets = [start, data.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
    }
    let header = Json::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(at.join("adapter/adapter_model.safetensors"), bytes).unwrap();
}

fn options(at: &Path, ty: FileType) -> Options {
    Options {
        request: Request::new(ty),
        base: Some(at.join("base")),
        no_sync: true,
        threads: 2,
        ..Options::default()
    }
}

fn convert(at: &Path, options: &Options) -> GgufFile {
    let output = at.join("out.gguf");
    let model = open(&at.join("adapter"), options).unwrap();
    let options = Options { overwrite: true, ..options.clone() };
    Plan::new(model, &options).unwrap().run(&output, Control::default()).unwrap();
    GgufFile::open(&output, &Limits::default()).unwrap()
}

#[test]
fn adapters_equal_the_reference() {
    let mut problems = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let (snapshot, at) = (snapshot(&name), tempdir().unwrap());
        generate(at.path(), &snapshot);
        let file = convert(at.path(), &options(at.path(), FileType::F16));
        let bytes = fs::read(at.path().join("out.gguf")).unwrap();
        let kept = |key: &&str| {
            !key.starts_with("general.") || ["general.architecture", "general.type"].contains(key)
        };
        let keys: Vec<_> = file.metadata.iter().filter(|(key, _)| kept(key)).collect();
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), plain(value))).collect();
        if Json::Object(keys) != snapshot["metadata"] {
            problems.push(format!("{name}: keys {:?}", file.metadata));
        }
        let found = file.tensors.iter().map(|tensor| {
            let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
            let mut shape = tensor.shape.clone();
            while shape.len() > 1 && shape.last() == Some(&1) {
                shape.pop();
            }
            (tensor.name.clone(), json!([tensor.ty.name(), shape, hex(data)]))
        });
        let (found, expected): (Vec<_>, _) = (found.collect(), &snapshot["tensors"]);
        let names: Vec<_> = expected.as_object().unwrap().keys().collect();
        if found.iter().map(|(name, _)| name).ne(names) {
            problems.push(format!("{name}: other names, or in another order"));
        }
        for (tensor, found) in found {
            if found != expected[&tensor] {
                problems.push(format!("{name}: {tensor} {found}, expected {}", expected[&tensor]));
            }
        }
        count += 1;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 7, "{count}");
}

/// An adapter of one pair for a Llama, changed.
fn changed(change: impl FnOnce(&mut Json)) -> TempDir {
    let (mut snapshot, at) = (snapshot("llama-one"), tempdir().unwrap());
    let name =
        |half| format!("base_model.model.model.layers.1.self_attn.q_proj.lora_{half}.weight");
    snapshot["checkpoint"] = json!({name("A"): ["F32", [4, 64]], name("B"): ["F32", [64, 4]]});
    change(&mut snapshot);
    generate(at.path(), &snapshot);
    at
}

fn opened(change: impl FnOnce(&mut Json)) -> Result<Model, String> {
    let at = changed(change);
    let result = open(&at.path().join("adapter"), &options(at.path(), FileType::F32));
    result.map_err(|error| error.to_string())
}

fn pair(snapshot: &mut Json, module: &str, a: [u64; 2], b: [u64; 2]) {
    for (half, shape) in [("A", a), ("B", b)] {
        let name = format!("base_model.model.{module}.lora_{half}.weight");
        snapshot["checkpoint"][name] = json!(["F32", shape]);
    }
}

#[test]
fn what_no_gguf_adapter_holds_is_refused_by_name() {
    type Row<'a> = (&'a str, &'a dyn Fn(&mut Json), &'a [&'a str]);
    let q = "base_model.model.model.layers.1.self_attn.q_proj";
    let extra =
        |name: String| move |json: &mut Json| json["checkpoint"][&name] = json!(["F32", [64, 64]]);
    let moe = |experts: u64| {
        move |json: &mut Json| {
            *json = snapshot("qwen2moe");
            json["checkpoint"] = json!({});
            for expert in 0..experts {
                let module = format!("model.layers.0.mlp.experts.{expert}.up_proj");
                pair(json, &module, [2, 64], [32, 2]);
            }
        }
    };
    let rows: &[Row<'_>] = &[
        ("sound", &|_| {}, &[]),
        ("experts", &moe(4), &[]),
        ("an expert short", &moe(3), &["experts.3.up_proj", "no pair for this expert"]),
        ("dora", &|json| json["adapter"]["use_dora"] = true.into(), &["use_dora", "merge"]),
        ("kind", &|json| json["adapter"]["peft_type"] = "IA3".into(), &["peft_type", "IA3"]),
        (
            "copies",
            &|json| json["adapter"]["layer_replication"] = json!([[0, 2], [1, 3]]),
            &["layer_replication"],
        ),
        ("no alpha", &|json| json["adapter"]["lora_alpha"] = Json::Null, &["lora_alpha"]),
        ("alpha", &|json| json["adapter"]["lora_alpha"] = json!(-1), &["lora_alpha", "-1"]),
        ("pattern", &|json| json["adapter"]["alpha_pattern"] = json!({"(": 1}), &["alpha_pattern"]),
        (
            "tokens",
            &|json| json["adapter"]["alora_invocation_tokens"] = json!([1, -1]),
            &["alora_invocation_tokens"],
        ),
        (
            "text",
            &|json| json["adapter"]["invocation_string"] = json!("<go>"),
            &["alora_invocation_tokens"],
        ),
        ("saved", &extra("base_model.model.lm_head.weight".into()), &["modules_to_save"]),
        ("magnitude", &extra(format!("{q}.lora_magnitude_vector")), &["DoRA"]),
        ("bias", &extra(format!("{q}.bias")), &["a bias of the base model"]),
        ("pair bias", &extra(format!("{q}.lora_B.bias")), &["lora_bias"]),
        (
            "tokens",
            &extra("base_model.model.model.embed_tokens.trainable_tokens_delta".into()),
            &["trainable_token_indices"],
        ),
        (
            "half",
            &extra("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight".into()),
            &["no other matrix of its pair"],
        ),
        (
            "ranks",
            &|json| pair(json, "model.layers.1.self_attn.q_proj", [4, 64], [64, 3]),
            &["ranks 4 and 3"],
        ),
        (
            "type",
            &|json| json["checkpoint"][format!("{q}.lora_A.weight")][0] = "U8".into(),
            &["found U8", "F32, F16 or BF16"],
        ),
        (
            "shape",
            &|json| pair(json, "model.layers.1.self_attn.q_proj", [4, 32], [64, 4]),
            &["found shape [64, 32], expected [64, 64] by config.json"],
        ),
        (
            "layer",
            &|json| pair(json, "model.layers.9.self_attn.q_proj", [4, 64], [64, 4]),
            &["layer 9", "layers 0 to 2"],
        ),
        (
            "stranger",
            &|json| pair(json, "model.layers.0.mlp.experts", [4, 64], [64, 4]),
            &["no such weight in the base", "another base model"],
        ),
        (
            "head",
            &|json| {
                json["config"]["tie_word_embeddings"] = true.into();
                pair(json, "lm_head", [4, 64], [1024, 4]);
            },
            &["shares the embedding's weights"],
        ),
        ("empty", &|json| json["checkpoint"] = json!({}), &["no pair of matrices"]),
        (
            "absurd",
            &|json| json["config"]["num_hidden_layers"] = json!(4_000_000_000u64),
            &["num_hidden_layers"],
        ),
    ];
    for (name, change, says) in rows {
        match (opened(change), says) {
            (Ok(_), []) => {}
            (Err(message), [_, ..]) => {
                assert!(
                    !message.contains('\n') && says.iter().all(|s| message.contains(s)),
                    "{name}: {message}"
                );
            }
            (found, _) => panic!("{name}: {:?}", found.map(|model| model.metadata)),
        }
    }
}

#[test]
fn ranks_other_than_said_are_told() {
    let told = |settings: Json| {
        let said = crate::common::warnings(|| {
            opened(|json| {
                let adapter = json["adapter"].as_object_mut().unwrap();
                adapter.extend(settings.as_object().unwrap().clone());
                pair(json, "model.layers.2.self_attn.v_proj", [16, 64], [32, 16]);
            })
        });
        said.0.unwrap();
        let is_told = |said: &&String| said.contains("adapter-rank");
        said.1.iter().find(is_told).cloned().unwrap_or_default()
    };
    assert_eq!(told(json!({"r": 4, "rank_pattern": {"v_proj": 16}})), "");
    assert_eq!(told(json!({"r": 8, "rank_pattern": {"v_proj": 16, "q_proj": 4}})), "");
    assert_eq!(told(json!({"r": 8, "target_parameters": ["mlp.experts.up_proj"]})), "");
    let text = told(json!({"r": 4}));
    assert!(text.contains("says rank 4") && text.contains("v_proj"), "{text}");
    assert!(text.contains("1 of 2 pairs") && text.contains("with 16"), "{text}");
    let text = told(json!({"r": 16}));
    assert!(text.contains("says rank 16") && text.contains("q_proj"), "{text}");
}

/// The scale that engines use, for each pair: alpha divided by the rank, times what the values were
/// multiplied by.
#[test]
fn scales_are_those_of_peft() {
    let found = |settings: Json, like_reference| {
        let at = changed(|json| {
            json["adapter"].as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            pair(json, "model.layers.2.self_attn.v_proj", [16, 64], [32, 16]);
        });
        let options = options(at.path(), FileType::F32);
        let file = convert(at.path(), &Options { like_reference, ..options });
        let Some(Value::Float32(alpha)) = file.metadata.get("adapter.lora.alpha") else { panic!() };
        let bytes = fs::read(at.path().join("out.gguf")).unwrap();
        let scale = |name: &str, source: &str, rank: f32| {
            let tensor = file.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            let first =
                f32::from_le_bytes(bytes[tensor.offset as usize..][..4].try_into().unwrap());
            let stored = values(source, "F32", 1);
            alpha / rank * (first / f32::from_le_bytes(stored[..].try_into().unwrap()))
        };
        let source = |layer, module| {
            format!("base_model.model.model.layers.{layer}.self_attn.{module}.lora_B.weight")
        };
        [
            scale("blk.1.attn_q.weight.lora_b", &source(1, "q_proj"), 4.0),
            scale("blk.2.attn_v.weight.lora_b", &source(2, "v_proj"), 16.0),
        ]
    };
    let near = |found: [f32; 2], expected: [f32; 2]| {
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6 * b);
        assert!(close, "{found:?}, expected {expected:?}");
    };
    near(found(json!({"lora_alpha": 8}), false), [2.0, 0.5]);
    let rooted = json!({"lora_alpha": 8, "use_rslora": true});
    near(found(rooted.clone(), false), [4.0, 2.0]);
    near(found(rooted, true), [2.0, 0.5]);
    // As PEFT matches: whole modules at the end of a name, or a pattern of them.
    let own = json!({"lora_alpha": 8, "alpha_pattern": {"v_proj": 4, "proj": 1}});
    near(found(own, false), [2.0, 0.25]);
    let own = json!({"lora_alpha": 8, "alpha_pattern": {r"layers\.[01]\..*q_proj": 16}});
    near(found(own, false), [4.0, 0.5]);
}

#[test]
fn the_base_comes_from_the_cache_by_its_name_and_never_from_a_path() {
    let at = changed(|json| json["adapter"]["base_model_name_or_path"] = "org/base".into());
    let adapter = at.path().join("adapter");
    let cache = at.path().join("hub");
    let repository = cache.join("models--org--base");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::create_dir_all(repository.join("snapshots").join(commit)).unwrap();
    let open_with = |base: Option<&Path>, cache: Option<&Path>| {
        let options = Options {
            base: base.map(Path::to_owned),
            hub_cache: cache.map(Path::to_owned),
            ..options(at.path(), FileType::F32)
        };
        open(&adapter, &options).map(|_| ()).map_err(|error| error.to_string())
    };
    let message = open_with(None, None).unwrap_err();
    assert!(message.contains("LoRA adapter, for the model \"org/base\""), "{message}");
    let message = open_with(None, Some(&cache)).unwrap_err();
    assert!(message.contains("which is not in the Hugging Face cache"), "{message}");
    let config = repository.join("snapshots").join(commit).join("config.json");
    fs::copy(at.path().join("base/config.json"), config).unwrap();
    fs::write(repository.join("refs/main"), format!("{commit}\n")).unwrap();
    assert_eq!(open_with(None, Some(&cache)), Ok(()));
    // A person may name it in the same way, or give the folder in the cache, or the file.
    for base in [Path::new("org/base"), &repository, &at.path().join("base/config.json")] {
        assert_eq!(open_with(Some(base), Some(&cache)), Ok(()), "{base:?}");
    }
    // What a file says leads nowhere else, though something is there.
    fs::write(repository.join("refs/main"), "../../../base").unwrap();
    assert!(open_with(None, Some(&cache)).is_err());
    let rename = |name: &str| {
        let settings =
            json!({"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": name});
        fs::write(adapter.join("adapter_config.json"), settings.to_string()).unwrap();
    };
    for path in [at.path().join("base").to_str().unwrap(), "./base", "../base", "a/../base"] {
        rename(path);
        let message = open_with(None, Some(&cache)).unwrap_err();
        assert!(message.contains("is a path and is not followed"), "{message}");
    }
    rename("");
    assert!(open_with(None, Some(&cache)).unwrap_err().contains("names no base model"));
}

#[test]
fn options_for_language_models_are_refused() {
    let at = changed(|_| {});
    let plan = |options: Options| {
        let model = open(&at.path().join("adapter"), &options).unwrap();
        Plan::new(model, &options).map(|plan| plan.total_bytes()).map_err(|e| e.to_string())
    };
    let all = || options(at.path(), FileType::Q8_0);
    assert!(plan(all()).is_ok());
    for (refused, says) in [
        (options(at.path(), FileType::Q4_K_M), "the type Q4_K_M is for language models"),
        (Options { prune_layers: Some("1".into()), ..all() }, "leaving out layers"),
        (Options { imatrix: Some("x.gguf".into()), ..all() }, "an importance matrix"),
    ] {
        let message = plan(refused).unwrap_err();
        assert!(message.contains(says) && message.contains("not for an adapter"), "{message}");
    }
}
