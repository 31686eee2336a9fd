//! Llama 1, 2, 3.x, TinyLlama, Mistral and what else shares their graph.

use crate::{
    Config, Result,
    model::{Tensor, TensorData},
    tokenizer::{Adjustment, Kind},
};

use super::{
    Architecture, Default, Fill, ModelDefaults, parameters, rope,
    tensors::{Dim, Rule},
};

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    classes: &["LlamaForCausalLM", "MistralForCausalLM"],
    defaults: &[
        ModelDefaults {
            model_type: "llama",
            values: &[
                default("max_position_embeddings", Fill::Whole(2048)),
                default("rms_norm_eps", Fill::Number(1e-6)),
                default("rope_theta", Fill::Number(10_000.0)),
                or_null("num_key_value_heads", Fill::Same("num_attention_heads")),
                or_null("head_dim", Fill::Quotient("hidden_size", "num_attention_heads")),
            ],
        },
        ModelDefaults {
            model_type: "mistral",
            values: &[
                default("max_position_embeddings", Fill::Whole(131_072)),
                default("rms_norm_eps", Fill::Number(1e-6)),
                default("rope_theta", Fill::Number(10_000.0)),
                default("num_key_value_heads", Fill::Whole(8)),
                or_null("num_key_value_heads", Fill::Same("num_attention_heads")),
                or_null("head_dim", Fill::Quotient("hidden_size", "num_attention_heads")),
            ],
        },
    ],
    parameters: &[
        parameters::COMMON,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("rope.dimension_count", &["head_dim"]),
        ],
    ],
    tensors: &[
        Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("model.norm", "output_norm", &[HIDDEN]),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).unless("tie_word_embeddings"),
        Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]),
        Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
            .rotary("num_attention_heads")
            .bias_if("attention_bias"),
        Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
            .rotary("num_key_value_heads")
            .bias_if("attention_bias"),
        Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
            .bias_if("attention_bias"),
        Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
            .bias_if("attention_bias"),
        Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN]),
        Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
            .bias_if("mlp_bias"),
        Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
            .bias_if("mlp_bias"),
        Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
            .bias_if("mlp_bias"),
    ],
    check,
    computed,
    tokenizers: &[Kind::SentencePiece, Kind::ByteFallback, Kind::ByteLevel],
    special: &[
        Adjustment::AddPrefixSpace,
        // Code Llama, whose end of an infilled middle no file of the checkpoint names.
        Adjustment::EndOfTurn { vocab_size: 32_016, id: 32_010 },
        // Granite code models with Llama's graph.
        Adjustment::NoBos { vocab_size: 49_152 },
    ],
};

const VOCAB: Dim = Dim(&["vocab_size"]);
const HIDDEN: Dim = Dim(&["hidden_size"]);
const FEED_FORWARD: Dim = Dim(&["intermediate_size"]);
const QUERY: Dim = Dim(&["num_attention_heads", "head_dim"]);
const KEY_VALUE: Dim = Dim(&["num_key_value_heads", "head_dim"]);

const fn default(key: &'static str, value: Fill) -> Default {
    Default { key, value, null: false }
}

const fn or_null(key: &'static str, value: Fill) -> Default {
    Default { key, value, null: true }
}

fn check(config: &Config) -> Result<()> {
    // Each key and value head serves the same number of query heads.
    config.quotient("num_attention_heads", "num_key_value_heads")?;
    Ok(())
}

fn computed(config: &Config) -> Result<Vec<Tensor>> {
    let factors = rope::llama3_factors(config, config.require("head_dim")?)?;
    Ok(factors
        .into_iter()
        .map(|factors| Tensor {
            name: "rope_freqs.weight".into(),
            shape: vec![factors.len() as u64],
            data: TensorData::Computed(factors),
        })
        .collect())
}
