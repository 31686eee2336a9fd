//! How far a model looks, and how it tells positions apart.

use super::*;

#[test]
fn scaling_has_its_keys() {
    let dir = copy("tiny-llama2");
    edit(dir.path(), |config| {
        config["rope_parameters"] = json!({"rope_type": "linear", "factor": 4, "rope_theta": 5e5})
    });
    let metadata = open(dir.path()).unwrap().metadata;
    assert_eq!(metadata.get_str("llama.rope.scaling.type"), Some("linear"));
    assert_eq!(metadata.get("llama.rope.scaling.factor"), Some(&4f32.into()));
    assert_eq!(metadata.get("llama.rope.freq_base"), Some(&5e5f32.into()));
    edit(dir.path(), |config| {
        config.as_object_mut().unwrap().remove("rope_parameters");
        config["rope_scaling"] = json!({"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096,
            "attn_factor": 0.5, "beta_fast": 32, "beta_slow": 1});
    });
    let metadata = open(dir.path()).unwrap().metadata;
    let scaling: Vec<_> = metadata.iter().filter(|(key, _)| key.contains("rope.scaling")).collect();
    let expected: [(&str, gguf_io::Value); 6] = [
        ("llama.rope.scaling.type", "yarn".into()),
        ("llama.rope.scaling.factor", 16f32.into()),
        ("llama.rope.scaling.original_context_length", 4096u32.into()),
        ("llama.rope.scaling.yarn_attn_factor", 0.5f32.into()),
        ("llama.rope.scaling.yarn_beta_fast", 32f32.into()),
        ("llama.rope.scaling.yarn_beta_slow", 1f32.into()),
    ];
    assert!(scaling.into_iter().eq(expected.iter().map(|(key, value)| (*key, value))));
    // No base frequency given: the class's own.
    assert_eq!(metadata.get("llama.rope.freq_base"), Some(&1e4f32.into()));
}

/// llama.cpp aborts on such a file; `verify` has always said so.
#[test]
fn what_loaders_refuse_is_told_before_it_is_written() {
    let dir = copy("tiny-mixtral");
    for (used, expected) in [(2, false), (5, true), (0, true)] {
        edit(dir.path(), |config| config["num_experts_per_tok"] = used.into());
        let options = Options::default();
        let plan = || Plan::new(open(dir.path()).unwrap(), &options).unwrap();
        let (_, warnings) = common::warnings(plan);
        let told = warnings.iter().any(|line| line.contains("llama.expert_used_count"));
        assert_eq!(told, expected, "{used}: {warnings:?}");
    }
}

/// llama.cpp takes no notice of `yarn_attn_factor`, which its converter writes: it computes the factor, and
/// multiplies it with `attn_factor`.
#[test]
fn yarn_strengthens_attention_as_config_json_says() {
    let dir = copy("tiny-llama2");
    let default = 0.1 * 4f64.ln() + 1.0;
    for (keys, wanted) in [
        (json!({}), None),
        (json!({"attention_factor": 0.9}), Some(0.9)),
        (json!({"attention_factor": default}), None),
        (json!({"mscale": 1.0, "mscale_all_dim": 1.0}), Some(1.0)),
        (json!({"mscale": 1.0, "mscale_all_dim": 0}), None),
        (json!({"mscale": 2.0, "mscale_all_dim": 1.0}), Some((0.2 * 4f64.ln() + 1.0) / default)),
        (json!({"mscale": 1.0}), None),
        (json!({"attention_factor": 1.0, "mscale": 3, "mscale_all_dim": 1}), Some(1.0)),
    ] {
        let mut rope = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4});
        rope.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        edit(dir.path(), |config| config["rope_parameters"] = rope);
        let metadata = open(dir.path()).unwrap().metadata;
        let written = metadata.get("llama.rope.scaling.attn_factor").map(|v| v.as_f64().unwrap());
        match (written, wanted) {
            (None, None) => {}
            // What llama.cpp and this program make of it.
            (Some(share), Some(wanted)) => {
                assert!((share * default - wanted).abs() < 1e-6, "{keys}: {share}");
            }
            _ => panic!("{keys}: {written:?}"),
        }
    }
}

#[test]
fn windows_that_engines_do_not_know_and_classes_of_other_types_are_warned_of() {
    let dir = copy("tiny-llama2");
    let original = std::fs::read(dir.path().join("config.json")).unwrap();
    for (changes, says) in [
        (json!({"model_type": "mistral", "sliding_window": 512}), "after 512 tokens"),
        (json!({"model_type": "mistral", "sliding_window": null}), ""),
        (json!({"model_type": "mistral", "sliding_window": 2048}), ""),
        // Llama's class does not read it.
        (json!({"sliding_window": 512}), ""),
        (
            json!({"model_type": "qwen2"}),
            "the class is \"LlamaForCausalLM\", but model_type is \"qwen2\"",
        ),
        (json!({"model_type": "qwen2", "auto_map": {}}), ""),
        (json!({"model_type": "a_new_one"}), ""),
    ] {
        std::fs::write(dir.path().join("config.json"), &original).unwrap();
        edit(dir.path(), |config| {
            config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        });
        let (_, warnings) = common::warnings(|| open(dir.path()).unwrap());
        let told = warnings.join("\n");
        assert!(told.contains(says) && (told.is_empty() == says.is_empty()), "{changes}: {told}");
    }
    let dir = copy("tiny-qwen2");
    for (uses, from, layers, expected) in [
        (true, 0, json!(null), true),
        (true, 2, json!(null), false),
        (true, 0, json!(["full_attention", "full_attention"]), false),
        (true, 0, json!(["full_attention", "sliding_attention"]), true),
        (false, 0, json!(null), false),
    ] {
        edit(dir.path(), |config| {
            config["use_sliding_window"] = uses.into();
            config["sliding_window"] = 512.into();
            config["max_window_layers"] = from.into();
            config["layer_types"] = layers;
        });
        let (_, warnings) = common::warnings(|| open(dir.path()).unwrap());
        assert_eq!(warnings.iter().any(|line| line.contains("window")), expected, "{warnings:?}");
    }
}

#[test]
fn scaling_that_cannot_be_written_and_blocks_that_differ_are_warned_of() {
    let dir = copy("tiny-llama2");
    let warned = |scaling: Json, expected: &str| {
        edit(dir.path(), |config| config["rope_scaling"] = scaling);
        let (model, warnings) = common::warnings(|| open(dir.path()).unwrap());
        let found = warnings.iter().filter(|line| line.contains(expected)).count();
        assert_eq!(found, 1, "{warnings:?}");
        model
    };
    let model = warned(
        json!({"rope_type": "yarn", "factor": 2}),
        "both rope_scaling and rope_parameters, and they differ",
    );
    assert_eq!(model.metadata.get_str("llama.rope.scaling.type"), Some("yarn"));
    warned(json!({"rope_type": "dynamic", "factor": 2}), "rope_scaling.rope_type is \"dynamic\"");
    // A factor for each frequency, of which this architecture has none.
    let factors =
        json!({"rope_type": "longrope", "factor": 2, "short_factor": [1], "long_factor": [2]});
    let model = warned(factors, "rope_scaling.rope_type is \"longrope\"");
    assert_eq!(model.metadata.get_str("llama.rope.scaling.type"), Some("longrope"));
    // Sound ones are silent.
    for scaling in [Json::Null, json!({})] {
        edit(dir.path(), |config| config["rope_scaling"] = scaling);
        let (_, warnings) = common::warnings(|| open(dir.path()).unwrap());
        assert!(!warnings.iter().any(|line| line.contains("rope")), "{warnings:?}");
    }
}
