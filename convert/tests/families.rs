//! Every family, without Python: a tiny checkpoint is generated as `interop/architectures.py`
//! generates it, and converts to what the reference converter made of it: each tensor's name,
//! type, shape and SHA-256, each key of the architecture.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

#[path = "parts/adapters.rs"]
mod adapters;
mod common;
#[path = "parts/further_layers.rs"]
mod further_layers;
#[path = "parts/projectors.rs"]
mod projectors;
#[path = "parts/settings.rs"]
mod settings;
#[path = "parts/snapshot.rs"]
mod snapshot;
#[path = "parts/stored.rs"]
mod stored;

use std::{fs, path::Path};

use common::hex;
use gguf_io::{GgufString, metadata::Value};
use quant_convert::{
    Control, Model, Options, Plan,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};
use quant_core::grouped::{GroupSize, GroupedType};
use serde_json::{Value as Json, json};
use snapshot::{
    differences, generate, opened, opened_with, options, outline, plain, refused, rename, snapshot,
    snapshots, text, values,
};

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
