//! Checkpoints of one layer and eight tokens, so that a run takes a millisecond.

use std::{fs, path::Path, sync::Once};

use serde_json::{Map, Value, json};

use crate::folder;

/// Names, types and dimensions.
pub type Tensors = Vec<(String, &'static str, Vec<u64>)>;
type Parts = &'static [(&'static str, &'static str, [u64; 2])];

const PIECES: &[u8] = include_bytes!("../seeds/spm_model/small");
const TOKENIZER: &[u8] = include_bytes!("../seeds/tokenizer_json/small");

/// Ways of storing a linear layer of 64 by 64: `quantization_config` and the tensors it becomes.
pub const PACKED: &[(&str, Parts)] = &[
    (
        r#"{"quant_method": "gptq", "bits": 4}"#,
        &[
            ("qweight", "I32", [8, 64]),
            ("qzeros", "I32", [2, 8]),
            ("scales", "F16", [2, 64]),
            ("g_idx", "I32", [64, 0]),
        ],
    ),
    (
        r#"{"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}"#,
        &[("qweight", "I32", [16, 64]), ("qzeros", "I32", [4, 16]), ("scales", "F16", [4, 64])],
    ),
    (
        r#"{"quant_method": "gptq", "bits": 2}"#,
        &[("qweight", "I32", [4, 64]), ("qzeros", "I32", [1, 4]), ("scales", "BF16", [1, 64])],
    ),
    (
        r#"{"quant_method": "awq", "bits": 4}"#,
        &[("qweight", "I32", [64, 8]), ("qzeros", "I32", [2, 8]), ("scales", "F16", [2, 64])],
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int"}}}}"#,
        &[
            ("weight_packed", "I32", [64, 8]),
            ("weight_scale", "BF16", [64, 2]),
            ("weight_zero_point", "I32", [8, 2]),
            ("weight_shape", "I64", [2, 0]),
        ],
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"a": {"weights": {"num_bits": 8, "type": "int"}}}}"#,
        &[
            ("weight_packed", "I32", [64, 16]),
            ("weight_scale", "F32", [64, 4]),
            ("weight_shape", "I32", [2, 0]),
            ("weight_g_idx", "I32", [64, 0]),
        ],
    ),
    (
        r#"{"quant_method": "fp8", "weight_block_size": [16, 48]}"#,
        &[("weight", "F8_E4M3", [64, 64]), ("weight_scale_inv", "F32", [4, 2])],
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "float-quantized",
            "config_groups": {"a": {"weights": {"num_bits": 8, "type": "float"}}}}"#,
        &[("weight", "F8_E5M2", [64, 64]), ("weight_scale", "BF16", [64, 1])],
    ),
    (
        r#"{"quant_method": "modelopt", "quant_algo": "FP8"}"#,
        &[("weight", "F8_E4M3", [64, 64]), ("weight_scale", "F32", [1, 0])],
    ),
    (
        r#"{"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*": {"bits": 3}}}"#,
        &[("qweight", "I32", [6, 64]), ("qzeros", "I32", [2, 6]), ("scales", "F16", [2, 64])],
    ),
    (
        r#"{"quant_method": "compressed-tensors", "format": "int-quantized",
            "config_groups": {"a": {"weights": {"num_bits": 8, "type": "int", "strategy": "group"}}}}"#,
        &[
            ("weight", "I8", [64, 64]),
            ("weight_scale", "BF16", [64, 2]),
            ("weight_zero_point", "I8", [64, 2]),
        ],
    ),
    (
        r#"{"bits": 3, "group_size": 32}"#,
        &[("weight", "U32", [64, 6]), ("scales", "F16", [64, 2]), ("biases", "BF16", [64, 2])],
    ),
    ("null", &[("weight", "F64", [64, 64])]),
    ("null", &[("weight", "BF16", [64, 64])]),
];

fn llama(quantization: Value) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 64,
        "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "vocab_size": 5,
        "quantization_config": quantization,
    })
}

/// The configuration and tensors of a llama stored in one of the ways, or of a gpt-oss whose
/// experts are in MXFP4.
pub fn packed(choice: usize) -> (Value, Tensors) {
    let Some((quantization, parts)) = PACKED.get(choice) else { return gpt_oss() };
    let quantization = serde_json::from_str(quantization).expect("JSON");
    let (mut tensors, layer) = (whole(), "model.layers.0.");
    for name in ["input_layernorm", "post_attention_layernorm"] {
        tensors.push((format!("{layer}{name}.weight"), "F32", vec![64]));
    }
    for module in [
        "self_attn.q",
        "self_attn.k",
        "self_attn.v",
        "self_attn.o",
        "mlp.gate",
        "mlp.up",
        "mlp.down",
    ] {
        for (part, dtype, shape) in *parts {
            let shape = shape.iter().copied().filter(|n| *n > 0).collect();
            tensors.push((format!("{layer}{module}_proj.{part}"), dtype, shape));
        }
    }
    (llama(quantization), tensors)
}

fn whole() -> Tensors {
    let name = |name: &str| format!("{name}.weight");
    vec![
        (name("model.embed_tokens"), "F16", vec![5, 64]),
        (name("lm_head"), "F16", vec![5, 64]),
        (name("model.norm"), "F32", vec![64]),
    ]
}

fn gpt_oss() -> (Value, Tensors) {
    let mut config = llama(json!({"quant_method": "mxfp4"}));
    for (key, value) in [
        ("architectures", json!(["GptOssForCausalLM"])),
        ("head_dim", json!(64)),
        ("num_local_experts", json!(2)),
        ("num_experts_per_tok", json!(1)),
        ("sliding_window", json!(64)),
        ("rope_parameters", json!({"rope_theta": 1e4, "rope_type": "default"})),
    ] {
        config[key] = value;
    }
    let (mut tensors, layer) = (whole(), "model.layers.0.");
    let shapes: [(&str, &str, &[u64]); 19] = [
        ("input_layernorm.weight", "F32", &[64]),
        ("post_attention_layernorm.weight", "F32", &[64]),
        ("self_attn.sinks", "BF16", &[1]),
        ("self_attn.q_proj.weight", "BF16", &[64, 64]),
        ("self_attn.k_proj.weight", "BF16", &[64, 64]),
        ("self_attn.v_proj.weight", "BF16", &[64, 64]),
        ("self_attn.o_proj.weight", "BF16", &[64, 64]),
        ("self_attn.q_proj.bias", "BF16", &[64]),
        ("self_attn.k_proj.bias", "BF16", &[64]),
        ("self_attn.v_proj.bias", "BF16", &[64]),
        ("self_attn.o_proj.bias", "BF16", &[64]),
        ("mlp.router.weight", "BF16", &[2, 64]),
        ("mlp.router.bias", "BF16", &[2]),
        ("mlp.experts.gate_up_proj_blocks", "U8", &[2, 128, 2, 16]),
        ("mlp.experts.gate_up_proj_scales", "U8", &[2, 128, 2]),
        ("mlp.experts.gate_up_proj_bias", "BF16", &[2, 128]),
        ("mlp.experts.down_proj_blocks", "U8", &[2, 64, 2, 16]),
        ("mlp.experts.down_proj_scales", "U8", &[2, 64, 2]),
        ("mlp.experts.down_proj_bias", "BF16", &[2, 64]),
    ];
    let named =
        |(name, dtype, shape): (&str, _, &[u64])| (format!("{layer}{name}"), dtype, shape.to_vec());
    tensors.extend(shapes.map(named));
    (config, tensors)
}

/// Writes a checkpoint whose tensors hold the bytes given, over and over; those that have to fit
/// other tensors do, unless `odd`.
pub fn save(dir: &Path, config: &Value, tensors: &Tensors, values: &[u8], odd: bool) {
    let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
    let mut values = values.iter().copied().chain([0]).cycle();
    for (name, dtype, shape) in tensors {
        let size = match *dtype {
            "I8" | "U8" | "F8_E4M3" | "F8_E5M2" => 1,
            "F16" | "BF16" => 2,
            "F32" | "I32" | "U32" => 4,
            _ => 8,
        };
        let (start, count) = (data.len(), shape.iter().product::<u64>() as usize);
        let fixed = |data: &mut Vec<u8>, value: u8| {
            data.push(value);
            data.resize(data.len() + size - 1, 0);
        };
        if name.ends_with("_shape") && !odd {
            (0..count).for_each(|_| fixed(&mut data, 64));
        } else if name.ends_with("g_idx") && !odd {
            values.by_ref().take(count).for_each(|byte| fixed(&mut data, byte % 2));
        } else {
            data.extend(values.by_ref().take(count * size));
        }
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    for (name, bytes) in [
        ("config.json", config.to_string().as_bytes()),
        ("tokenizer.model", PIECES),
        ("tokenizer.json", TOKENIZER),
        ("model.safetensors", &file),
    ] {
        fs::write(dir.join(name), bytes).expect("written");
    }
}

/// Opens a small checkpoint one of whose files is replaced: a model or one line. Says which.
pub fn open_with(name: &str, bytes: &[u8]) -> bool {
    static SAVED: Once = Once::new();
    SAVED.call_once(|| {
        let (config, tensors) = packed(PACKED.len() - 1);
        save(folder(), &config, &tensors, &[], false);
        if name == "tokenizer.json" {
            fs::remove_file(folder().join("tokenizer.model")).expect("removed");
        }
    });
    fs::write(folder().join(name), bytes).expect("written");
    match quant_convert::open(folder(), &quant_convert::Options::default()) {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
            false
        }
    }
}
