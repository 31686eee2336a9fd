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
fn scalings_without_factors_take_the_context_of_their_block() {
    const KEY: &str = "original_max_position_embeddings";
    // (checkpoint, kind, factors, context in the output, factor of attention)
    for (name, kind, factors, expected, attention) in [
        ("phi3", "yarn", false, 64u32, None),
        ("phi3", "default", false, 4096, None),
        ("phi3-long", "yarn", false, 64, None),
        // Its class takes yarn for longrope.
        ("phi3-long", "yarn", true, 128, Some(1.133_893_4f32)),
        ("phi3-long", "longrope", true, 128, Some(1.133_893_4)),
        ("phimoe", "yarn", false, 64, None),
        ("phimoe", "yarn", true, 64, Some(1.138_629_4)),
        ("phimoe", "longrope", true, 64, Some(1.154_700_5)),
    ] {
        let change = |snapshot: &mut Json| {
            let config = &mut snapshot["config"];
            let block = &mut config["rope_parameters"];
            block["rope_type"] = kind.into();
            block[KEY] = 64.into();
            for list in ["short_factor", "long_factor"] {
                block[list] = if factors { json!(vec![1.0; 8]) } else { Json::Null };
            }
        };
        for like_reference in [false, true] {
            let choose = |options: &mut Options| options.like_reference = like_reference;
            let metadata = opened_with(name, change, choose).unwrap().metadata;
            let architecture = metadata.get_str("general.architecture").unwrap();
            let get = |key: &str| metadata.get(&format!("{architecture}.rope.scaling.{key}"));
            let what = format!("{name} {kind} {factors}");
            let context = get("original_context_length");
            assert_eq!(context, Some(&Value::Uint32(expected)), "{what}");
            assert_eq!(get("attn_factor"), attention.map(Value::Float32).as_ref(), "{what}");
        }
    }
}

#[test]
fn experts_in_mxfp4_are_found_behind_any_prefix() {
    for (name, own, prefix) in [
        ("gpt_oss-mxfp4", "model.", "model.language_model."),
        ("gpt_oss-mxfp4", "model.", "language_model.model."),
        ("gpt_oss-mxfp4", "model.", "model."),
    ] {
        let change = |snapshot: &mut Json| {
            let stored = snapshot["checkpoint"].as_object().unwrap().clone();
            let renamed = stored.into_iter().map(|(name, entry)| match name.strip_prefix(own) {
                Some(rest) => (format!("{prefix}{rest}"), entry),
                None => (name, entry),
            });
            snapshot["checkpoint"] = Json::Object(renamed.collect());
        };
        let model = opened_with(name, change, |_| {});
        let model = model.unwrap_or_else(|error| panic!("{name} behind {prefix}: {error}"));
        assert!(model.tensors.iter().any(|tensor| tensor.name == "blk.0.ffn_down_exps.weight"));
    }
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
