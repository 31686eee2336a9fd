//! What config.json says, in the ways that real files have, and what it leaves out.

use super::*;

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
        ("glm4vmoe", "attention_bias", json!(true)),
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
        let said = told(&name, &|_| {}).into_iter();
        // Their heads are smaller than those that the class scales by.
        let said = said.filter(|said| !said.contains("query_pre_attn_scalar"));
        problems.extend(said.map(|said| format!("{name}: {said}")));
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

/// MiniMax-Text-01's tables of embeddings are longer than its vocabulary, and the rows beyond are zeros.
#[test]
fn tokens_without_an_embedding_are_suppressed() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = snapshot("minimax-01");
    generate(folder.path(), &snapshot);
    let tokens = || {
        let model = open(folder.path(), &options(&snapshot)).unwrap();
        model.metadata.get("tokenizer.ggml.suppress_tokens").cloned()
    };
    assert_eq!(tokens(), None);
    // The last three rows, and one of a token that the vocabulary has.
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Json = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let start = 8
        + length
        + header["model.embed_tokens.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    let row = 64 * 2;
    for token in [3, 1021, 1022, 1023] {
        bytes[start + token * row..][..row].fill(0);
    }
    fs::write(&path, bytes).unwrap();
    assert_eq!(tokens(), Some(vec![1021, 1022, 1023].into()));
}

/// What llama.cpp's graphs cannot tell from the file is refused where it is otherwise.
#[test]
fn layers_of_other_kinds_than_a_graph_has_are_refused() {
    let with =
        |key: &'static str, value: Json| move |snapshot: &mut Json| snapshot["config"][key] = value;
    let kinds = ["mamba", "attention", "moe", "moe"].map(|kind| json!({"block_type": kind}));
    for (name, key, value) in [
        ("minimax-01", "attn_type_list", json!([0, 1, 0, 0, 0, 0, 0, 1])),
        ("minimax-01", "layernorm_mlp_alpha", json!(2.0)),
        ("minimax-01", "layernorm_mlp_beta", json!(2.0)),
        ("deepseek4", "compress_ratios", json!([0, 8, 128])),
        ("deepseek4", "compress_ratios", json!([0, 4])),
        ("nemotron-puzzle", "block_configs", json!("many")),
        ("nemotron-puzzle", "block_configs", json!(kinds)),
    ] {
        let message = refused(name, with(key, value));
        assert!(message.contains(key), "{message}");
    }
    assert!(opened("minimax-01", with("attn_type_list", json!([0, 0, 0, 0, 0, 0, 0, 1]))).is_ok());
    // Those that predict further tokens may be listed or not.
    assert!(opened("deepseek4", with("compress_ratios", json!([0, 4, 128]))).is_ok());
}

/// The base frequency of positions, which the reference's converter leaves out for these families.
#[test]
fn bases_are_written_for_every_family_that_turns() {
    for name in ["falcon", "falcon-groups", "gemma", "gemma2", "gptneox"] {
        for (theta, like_reference, expected) in
            [(10_000.0, false, None), (500_042.0, false, Some(500_042.0)), (500_042.0, true, None)]
        {
            let set = |snapshot: &mut Json| {
                snapshot["config"]["rope_parameters"]["rope_theta"] = theta.into();
            };
            let choose = |options: &mut Options| options.like_reference = like_reference;
            let model = opened_with(name, set, choose).unwrap();
            let architecture = model.metadata.get_str("general.architecture").unwrap();
            let base = model.metadata.get(&format!("{architecture}.rope.freq_base"));
            assert_eq!(base, expected.map(|base: f32| Value::Float32(base)).as_ref(), "{name}");
        }
    }
    // A model without rotary embedding has none, whatever its file says.
    let set = |snapshot: &mut Json| snapshot["config"]["rope_theta"] = 7.0.into();
    let model = opened_with("bloom", set, |_| {}).unwrap();
    assert_eq!(model.metadata.get("bloom.rope.freq_base"), None);
}

/// Falcon 2 has a longer context than the first models.
#[test]
fn falcon_has_the_context_of_its_configuration() {
    for (like_reference, expected) in [(false, 8192u32), (true, 2048)] {
        let set = |snapshot: &mut Json| {
            snapshot["config"]["max_position_embeddings"] = 8192.into();
        };
        let choose = |options: &mut Options| options.like_reference = like_reference;
        let model = opened_with("falcon-groups", set, choose).unwrap();
        assert_eq!(model.metadata.get("falcon.context_length"), Some(&Value::Uint32(expected)));
    }
    let alibi = |snapshot: &mut Json| snapshot["config"]["alibi"] = true.into();
    let message = opened_with("falcon-groups", alibi, |_| {}).err().unwrap();
    assert!(message.contains("\"alibi\" is true"), "{message}");
}

#[test]
fn settings_that_engines_do_not_know_are_warned_of() {
    let cases: &[(&str, &str, Json, Json)] = &[
        ("afmoe", "mup_enabled", json!(true), json!(false)),
        ("bloom", "apply_residual_connection_post_layernorm", json!(false), json!(true)),
        ("deepseek3", "rope_interleave", json!(true), json!(false)),
        ("gemma3", "use_bidirectional_attention", json!(false), json!(true)),
        ("gemma2", "query_pre_attn_scalar", Json::Null, json!(77)),
        ("gpt_oss", "swiglu_limit", json!(7), json!(8.5)),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(false), json!(true)),
        ("gpt2", "scale_attn_weights", json!(true), json!(false)),
        ("llama4", "attention_chunk_size", json!(8192), json!(4096)),
        ("llama4", "attn_scale", json!(0.1), json!(0.2)),
        ("llama4", "attn_temperature_tuning", json!(true), json!(false)),
        ("mimo2", "norm_topk_prob", json!(true), json!(false)),
        ("minicpm3", "scale_depth", json!(1.4), json!(1)),
        ("mpt", "logit_scale", Json::Null, json!("inv_sqrt_d_model")),
        ("bert", "position_embedding_type", json!("absolute"), json!("relative_key")),
        ("mamba2", "time_step_limit", json!([0.0, "Infinity"]), json!([0.001, 0.1])),
        ("smollm3", "no_rope_layers", json!([1, 1, 1]), json!([1, 0, 1])),
        ("llama4", "no_rope_layers", json!([]), json!([0, 1, 1, 0])),
        ("t5-gated", "feed_forward_proj", json!("gated-gelu"), json!("gated-silu")),
        ("t5", "feed_forward_proj", json!("relu"), json!("gelu")),
        ("olmoe", "rms_norm_eps", json!(1e-5), json!(1e-6)),
        ("t5", "relative_attention_max_distance", json!(128), json!(64)),
        ("kimi-linear", "moe_renormalize", json!(true), json!(false)),
        ("lfm2moe", "routed_scaling_factor", json!(1), json!(2)),
        ("dbrx", "ffn_config.ffn_act_fn.name", json!("silu"), json!("gelu")),
    ];
    for (name, key, sound, other) in cases {
        for (value, expected) in [(sound, false), (other, true)] {
            let set = |snapshot: &mut Json| {
                let (outer, last) = key.rsplit_once('.').unwrap_or(("", key));
                let blocks = outer.split('.').filter(|block| !block.is_empty());
                let at = blocks.fold(&mut snapshot["config"], |at, block| &mut at[block]);
                at[last] = value.clone();
            };
            let (model, told) = crate::common::warnings(|| opened_with(name, set, |_| {}));
            model.unwrap();
            let is_told = told.iter().any(|line| line.contains(key));
            assert_eq!(is_told, expected, "{name}: {key} {value}: {told:?}");
        }
    }
}

/// llama.cpp takes the layers with a window from a key, if it is there, else from its own pattern, which a
/// model may not have.
#[test]
fn layers_with_a_window_are_those_of_config_json() {
    let pattern = |name: &str, change: &dyn Fn(&mut Json), like_reference| {
        let choose = |options: &mut Options| options.like_reference = like_reference;
        let model = opened_with(name, |snapshot| change(snapshot), choose).unwrap();
        let architecture = model.metadata.get_str("general.architecture").unwrap().to_owned();
        let key = format!("{architecture}.attention.sliding_window_pattern");
        model.metadata.get(&key).map(plain)
    };
    let own = |snapshot: &mut Json| _ = snapshot;
    for (name, otherwise) in [
        ("cohere2", None),
        ("gemma-embedding", None),
        ("gemma2", None),
        ("gemma3", None),
        ("gpt_oss", None),
        ("modern-bert", Some(())),
    ] {
        assert_eq!(pattern(name, &own, false).is_some(), otherwise.is_some(), "{name}");
        let mut expected = Vec::new();
        let layers = snapshot(name)["config"]["num_hidden_layers"].as_u64().unwrap();
        // Windows where there are none, and the other way round.
        let mut kinds = Vec::new();
        for layer in 0..layers {
            let kind = snapshot(name)["config"]["layer_types"][layer as usize].clone();
            let slides = kind != "sliding_attention";
            kinds.push(if slides { "sliding_attention" } else { "full_attention" });
            expected.push(slides);
        }
        let swapped = |snapshot: &mut Json| snapshot["config"]["layer_types"] = json!(kinds);
        assert_eq!(pattern(name, &swapped, false), Some(json!(expected)), "{name}");
        assert_eq!(pattern(name, &swapped, true), pattern(name, &own, true), "{name}");
    }
    let each_second = |snapshot: &mut Json| {
        snapshot["config"]["layer_types"] = Json::Null;
        snapshot["config"]["sliding_window_pattern"] = 2.into();
    };
    let found = pattern("gemma3", &each_second, false).unwrap();
    let found = found.as_array().unwrap();
    assert!(found.iter().enumerate().all(|(layer, slides)| *slides == json!(layer % 2 == 0)));
}
