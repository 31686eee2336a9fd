//! Layers that predict further tokens.

use super::*;

#[test]
fn layers_that_predict_further_tokens_are_listed() {
    let model = opened("deepseek3", |snapshot| {
        snapshot["checkpoint"]["model.layers.3.eh_proj.weight"] = json!(["BF16", [64, 128]]);
        snapshot["checkpoint"]["model.layers.3.input_layernorm.weight"] = json!(["BF16", [64]]);
    });
    assert_eq!(model.unwrap().left_out.len(), 2);
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
