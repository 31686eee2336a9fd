//! Llama and Qwen2 in candle, from a GGUF file.

use candle_core::{D, Device, Error, Module, Result, Tensor, quantized::QMatMul};
use candle_nn::{RmsNorm, ops, rotary_emb};
use gguf_io::GgufFile;

use crate::tensors::{matrix, values};

pub struct Transformer {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    output: QMatMul,
    attention: Attention,
}

struct Layer {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

struct Attention {
    heads: usize,
    key_heads: usize,
    /// Half the length of a head.
    frequencies: Vec<f32>,
    /// The architecture `llama` rotates neighbours, others the halves of a head.
    neighbours: bool,
}

impl Transformer {
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let file = GgufFile::open(path, &Default::default()).map_err(Error::wrap)?;
        let architecture = file.metadata.get_str("general.architecture").unwrap_or_default();
        if !["llama", "qwen2"].contains(&architecture) {
            candle_core::bail!("{}: architecture {architecture:?} is not run here", path.display());
        }
        let float = |key: &str| file.metadata.get_f32(&format!("{architecture}.{key}"));
        let size = |key: &str| {
            let value = file.metadata.get_u64(&format!("{architecture}.{key}"));
            value
                .map(|v| v as usize)
                .ok_or_else(|| Error::msg(format!("no key {architecture}.{key}")))
        };
        let read = |name: &str| file.tensor(name).and_then(|t| t.read()).map_err(Error::wrap);
        let has = |name: &str| file.tensors.iter().any(|t| t.name == name);
        let epsilon = f64::from(float("attention.layer_norm_rms_epsilon").unwrap_or(1e-5));
        let norm = |name: &str| Ok::<_, Error>(RmsNorm::new(values(&read(name)?)?, epsilon));
        let linear = |name: String| {
            let bias = format!("{name}.bias");
            Ok::<_, Error>(Linear {
                weight: matrix(&read(&format!("{name}.weight"))?)?,
                bias: if has(&bias) { Some(values(&read(&bias)?)?) } else { None },
            })
        };

        let embedding = values(&read("token_embd.weight")?)?;
        let heads = size("attention.head_count")?;
        let head = embedding.dim(1)? / heads;
        let base = float("rope.freq_base").unwrap_or(10_000.0);
        // What `rope_type: llama3` of a checkpoint becomes.
        let factors = match has("rope_freqs.weight") {
            true => values(&read("rope_freqs.weight")?)?.to_vec1()?,
            false => vec![1.0; head / 2],
        };
        let frequency =
            |(i, factor): (usize, &f32)| base.powf(-2.0 * i as f32 / head as f32) / factor;
        let layer = |n: usize| {
            Ok::<_, Error>(Layer {
                attention_norm: norm(&format!("blk.{n}.attn_norm.weight"))?,
                query: linear(format!("blk.{n}.attn_q"))?,
                key: linear(format!("blk.{n}.attn_k"))?,
                value: linear(format!("blk.{n}.attn_v"))?,
                attention_output: linear(format!("blk.{n}.attn_output"))?,
                mlp_norm: norm(&format!("blk.{n}.ffn_norm.weight"))?,
                gate: linear(format!("blk.{n}.ffn_gate"))?,
                up: linear(format!("blk.{n}.ffn_up"))?,
                down: linear(format!("blk.{n}.ffn_down"))?,
            })
        };
        // Where there is no output matrix, that of the tokens serves.
        let output = if has("output.weight") { "output.weight" } else { "token_embd.weight" };
        Ok(Self {
            layers: (0..size("block_count")?).map(layer).collect::<Result<_>>()?,
            norm: norm("output_norm.weight")?,
            output: matrix(&read(output)?)?,
            attention: Attention {
                heads,
                key_heads: size("attention.head_count_kv").unwrap_or(heads),
                frequencies: factors.iter().enumerate().map(frequency).collect(),
                neighbours: architecture == "llama",
            },
            embedding,
        })
    }

    /// The logits after each token: `[tokens, vocabulary]`.
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let mut x = self.embedding.index_select(&tokens, 0)?;
        for layer in &self.layers {
            x = (&x + layer.attend(&layer.attention_norm.forward(&x)?, &self.attention)?)?;
            let normed = layer.mlp_norm.forward(&x)?;
            let gated = (layer.gate.forward(&normed)?.silu()? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        self.output.forward(&self.norm.forward(&x)?)
    }
}

impl Layer {
    fn attend(&self, x: &Tensor, attention: &Attention) -> Result<Tensor> {
        let query = attention.rotate(&split(&self.query.forward(x)?, attention.heads)?)?;
        let key = attention.rotate(&split(&self.key.forward(x)?, attention.key_heads)?)?;
        let value = split(&self.value.forward(x)?, attention.key_heads)?;
        // Every key and value serves so many heads, one after the other.
        let (key, value) = (attention.repeat(&key)?, attention.repeat(&value)?);
        let scale = 1.0 / (query.dim(D::Minus1)? as f64).sqrt();
        let scores = (query.matmul(&key.t()?.contiguous()?)? * scale)?;
        let weights = ops::softmax_last_dim(&scores.broadcast_add(&causal(x.dim(0)?)?)?)?;
        let heads = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?;
        self.attention_output
            .forward(&heads.reshape(((), attention.heads * heads.dim(D::Minus1)?))?)
    }
}

impl Attention {
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, frequencies) = (x.dim(2)?, &self.frequencies);
        let positions = Tensor::arange(0, tokens as u32, &Device::Cpu)?
            .to_dtype(candle_core::DType::F32)?
            .reshape((tokens, 1))?;
        let angles =
            positions.matmul(&Tensor::new(&frequencies[..], &Device::Cpu)?.unsqueeze(0)?)?;
        let rope = if self.neighbours { rotary_emb::rope_i } else { rotary_emb::rope };
        rope(x, &angles.cos()?, &angles.sin()?)
    }

    fn repeat(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, heads, tokens, head) = x.dims4()?;
        x.unsqueeze(2)?
            .expand((batch, heads, self.heads / heads, tokens, head))?
            .reshape((batch, self.heads, tokens, head))
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let product = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// `[tokens, heads × n]` as `[1, heads, tokens, n]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    x.reshape((1, tokens, heads, width / heads))?.transpose(1, 2)?.contiguous()
}

/// Minus infinity where a token would see a later one.
fn causal(tokens: usize) -> Result<Tensor> {
    let mask: Vec<f32> = (0..tokens * tokens)
        .map(|i| if i % tokens > i / tokens { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)
}
