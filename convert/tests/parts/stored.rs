//! The forms in which checkpoints store a family's tensors.

use super::*;

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
