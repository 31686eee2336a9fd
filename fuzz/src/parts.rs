//! What is beside a model: adapters, and encoders of images.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use quant_convert::{
    Options,
    recipe::{FileType, Request},
};
use serde_json::{Value, json};

use crate::{
    checkpoint::{PACKED, Tensors, packed, save},
    folder,
};

fn options() -> Options {
    Options { request: Request::new(FileType::F16), threads: 1, ..Options::default() }
}

fn written(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("written");
}

/// An adapter of a small model, with this adapter_config.json, and the options to open it with.
pub fn adapter(bytes: &[u8]) -> (PathBuf, Options) {
    static SAVED: Once = Once::new();
    let (base, adapter) = (folder().join("base"), folder().join("adapter"));
    SAVED.call_once(|| {
        fs::create_dir_all(&base).expect("a folder");
        fs::create_dir_all(&adapter).expect("a folder");
        let (config, tensors) = packed(PACKED.len() - 1);
        save(&base, &config, &tensors, &[], false);
        let module = "base_model.model.model.layers.0.self_attn.q_proj";
        let tensors: Tensors = vec![
            (format!("{module}.lora_A.weight"), "F32", vec![4, 64]),
            (format!("{module}.lora_B.weight"), "F32", vec![64, 4]),
        ];
        save(&adapter, &Value::Null, &tensors, &[], false);
        // It is an adapter only without the files of a model.
        let weights = adapter.join("model.safetensors");
        fs::rename(weights, adapter.join("adapter_model.safetensors")).expect("renamed");
        fs::remove_file(adapter.join("config.json")).expect("removed");
    });
    written(&adapter, "adapter_config.json", bytes);
    (adapter, Options { base: Some(base), ..options() })
}

/// A model with a small encoder of images, one of whose files holds these bytes, and the options to open
/// the encoder with.
pub fn encoder(name: &str, bytes: &[u8]) -> (PathBuf, Options) {
    static SAVED: Once = Once::new();
    let model = folder().join("multimodal");
    let (config, tensors) = gemma3();
    SAVED.call_once(|| {
        fs::create_dir_all(&model).expect("a folder");
        save(&model, &config, &tensors, &[], false);
    });
    // What another input has left.
    written(&model, "config.json", config.to_string().as_bytes());
    written(&model, "preprocessor_config.json", PREPROCESSOR);
    written(&model, name, bytes);
    (model, Options { mmproj: true, ..options() })
}

const PREPROCESSOR: &[u8] =
    br#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 4}}"#;

fn gemma3() -> (Value, Tensors) {
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
            "head_dim": 64, "vocab_size": 5},
        "vision_config": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 4, "patch_size": 2},
    });
    let tower = "vision_tower.vision_model.";
    let mut tensors: Tensors = vec![
        ("multi_modal_projector.mm_input_projection_weight".to_owned(), "F32", vec![8, 64]),
        ("multi_modal_projector.mm_soft_emb_norm.weight".to_owned(), "F32", vec![8]),
        (format!("{tower}embeddings.patch_embedding.weight"), "F32", vec![8, 3, 2, 2]),
        (format!("{tower}embeddings.patch_embedding.bias"), "F32", vec![8]),
        (format!("{tower}embeddings.position_embedding.weight"), "F32", vec![4, 8]),
        (format!("{tower}post_layernorm.weight"), "F32", vec![8]),
        (format!("{tower}post_layernorm.bias"), "F32", vec![8]),
    ];
    for (name, shape) in [
        ("self_attn.q_proj", [8, 8]),
        ("self_attn.k_proj", [8, 8]),
        ("self_attn.v_proj", [8, 8]),
        ("self_attn.out_proj", [8, 8]),
        ("mlp.fc1", [16, 8]),
        ("mlp.fc2", [8, 16]),
    ] {
        let name = format!("{tower}encoder.layers.0.{name}");
        tensors.push((format!("{name}.weight"), "F32", shape.to_vec()));
        tensors.push((format!("{name}.bias"), "F32", shape[..1].to_vec()));
    }
    for norm in ["layer_norm1", "layer_norm2"] {
        for part in ["weight", "bias"] {
            tensors.push((format!("{tower}encoder.layers.0.{norm}.{part}"), "F32", vec![8]));
        }
    }
    (config, tensors)
}

#[cfg(test)]
mod tests {
    use quant_convert::Plan;

    use super::*;

    /// Otherwise everything would be refused, and nothing behind that would be tried.
    #[test]
    fn seeds_are_planned() {
        let adapter_seed = include_bytes!("../seeds/parts_json/adapter");
        let preprocessor = include_bytes!("../seeds/parts_json/images");
        let config = include_bytes!("../seeds/parts_json/config");
        for (folder, options) in [
            adapter(&adapter_seed[1..]),
            encoder("preprocessor_config.json", &preprocessor[1..]),
            encoder("config.json", &config[1..]),
        ] {
            let plan = quant_convert::open(&folder, &options)
                .and_then(|model| Plan::new(model, &options))
                .expect("planned");
            plan.check().expect("sound");
        }
    }
}
