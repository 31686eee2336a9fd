//! A synthetic checkpoint of a realistic size, made once.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

const HIDDEN: usize = 1280;
const INNER: usize = 3584;
const KEYS: usize = 256;
const VOCABULARY: usize = 20480;
const LAYERS: usize = 20;

/// The folder of an fp16 Llama checkpoint of 400 million weights (800 MB), made on first use below
/// the build folder. The tokenizer is that of `fixtures/tiny-llama2`.
///
/// # Errors
/// Whatever the file system refuses.
pub fn checkpoint() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("target/bench-checkpoint");
    if folder.join("config.json").exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    let tiny = root.join("fixtures/tiny-llama2");
    for name in ["tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"] {
        fs::copy(tiny.join(name), folder.join(name))?;
    }
    write_weights(&folder.join("model.safetensors"))?;
    let config = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {HIDDEN},
        "intermediate_size": {INNER}, "num_hidden_layers": {LAYERS}, "num_attention_heads": 20,
        "num_key_value_heads": 4, "head_dim": 64, "vocab_size": {VOCABULARY}, "torch_dtype": "float16",
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 2048,
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2}}"#
    );
    // Last: it marks the checkpoint as complete.
    fs::write(folder.join("config.json"), config)?;
    Ok(folder)
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("lm_head.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    tensors
}

fn write_weights(path: &Path) -> io::Result<()> {
    let (mut header, mut end) = (String::from("{"), 0);
    let mut elements = 0;
    for (name, shape) in tensors() {
        let start = end;
        let len: usize = shape.iter().product();
        end += 2 * len;
        elements += len;
        let comma = if start == 0 { "" } else { "," };
        header += &format!(
            r#"{comma}"{name}":{{"dtype":"F16","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        );
    }
    header.push('}');
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    // The same million weights again and again: quantizing takes the same time, making them less.
    let weights = crate::weights(1 << 20);
    let bytes: Vec<u8> =
        weights.iter().flat_map(|w| quant_core::f32_to_f16(*w).to_le_bytes()).collect();
    let mut left = 2 * elements;
    while left > 0 {
        let now = left.min(bytes.len());
        file.write_all(&bytes[..now])?;
        left -= now;
    }
    file.flush()
}
