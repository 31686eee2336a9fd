//! Language models that fill in masked tokens instead of writing from left to right: Dream, LLaDA,
//! RND1.

use super::{
    Architecture, BASE, Fill, encoder, llama, parameters,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    qwen2, qwen3moe,
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{
    Config, Result,
    tokenizer::{Adjustment, Kind},
};

pub(super) const DREAM: Architecture = Architecture {
    name: "dream",
    classes: &["DreamModel"],
    defaults: &[model("Dream", qwen2::GIVEN)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(encoder::pooling), BOTH_WAYS, Parameter::With(mask)],
    ],
    ..qwen2::QWEN2
};

pub(super) const RND1: Architecture = Architecture {
    name: "rnd1",
    classes: &["RND1"],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        qwen3moe::WIDTH,
        &[BOTH_WAYS, Parameter::With(mask)],
    ],
    ..qwen3moe::QWEN3MOE
};

pub(super) const LLADA_MOE: Architecture = Architecture {
    name: "llada-moe",
    classes: &["LLaDAMoEModel", "LLaDAMoEModelLM"],
    defaults: &[model(
        "llada",
        &[
            &[
                count("max_position_embeddings", 8192),
                number("rms_norm_eps", 1e-5),
                // The width of an expert under the name that the shared rules have for it.
                default("moe_intermediate_size", Fill::Given("expert_intermediate_size")),
                default("expert_intermediate_size", Fill::Given("moe_intermediate_size")),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::count("expert_feed_forward_length", &["expert_intermediate_size"]),
            Parameter::Global("tokenizer.ggml.mask_token_id", Constant::Count(156_895)),
            BOTH_WAYS,
            UNSHIFTED,
        ],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, EXPERTS],
    needs_output: true,
    check: check_heads,
    ..BASE
};

pub(super) const LLADA: Architecture = Architecture {
    name: "llada",
    classes: &["LLaDAModelLM"],
    defaults: &[model(
        "llada",
        &[
            &[
                count("max_sequence_length", 4096),
                number("rms_norm_eps", 1e-5),
                default("d_model", Fill::Given("hidden_size")),
                default("mlp_hidden_size", Fill::Given("intermediate_size")),
                default("num_attention_heads", Fill::Given("n_heads")),
                default("num_key_value_heads", Fill::Given("n_kv_heads")),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(encoder::pooling)],
        llama::ROPE,
        &[
            parameters::required("context_length", &["max_sequence_length"]),
            parameters::required("embedding_length", &["d_model"]),
            parameters::required("feed_forward_length", &["mlp_hidden_size"]),
            BOTH_WAYS,
            UNSHIFTED,
        ],
    ],
    prefix: "model.transformer.",
    tensors: &[&[
        Rule::new("model.transformer.wte", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("model.transformer.ff_out", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("model.transformer.ln_f", "output_norm", &[WIDTH]),
        Rule::new("model.transformer.blocks.{}.attn_norm", "blk.{}.attn_norm", &[WIDTH]),
        Rule::new("model.transformer.blocks.{}.ff_norm", "blk.{}.ffn_norm", &[WIDTH]),
        Rule::new("model.transformer.blocks.{}.q_proj", "blk.{}.attn_q", &[QUERY, WIDTH])
            .parts(ROTARY_QUERY),
        Rule::new("model.transformer.blocks.{}.k_proj", "blk.{}.attn_k", &[KEY_VALUE, WIDTH])
            .parts(ROTARY_KEY),
        Rule::new("model.transformer.blocks.{}.v_proj", "blk.{}.attn_v", &[KEY_VALUE, WIDTH]),
        Rule::new("model.transformer.blocks.{}.attn_out", "blk.{}.attn_output", &[WIDTH, QUERY]),
        Rule::new("model.transformer.blocks.{}.ff_proj", "blk.{}.ffn_gate", &[INNER, WIDTH]),
        Rule::new("model.transformer.blocks.{}.up_proj", "blk.{}.ffn_up", &[INNER, WIDTH]),
        Rule::new("model.transformer.blocks.{}.ff_out", "blk.{}.ffn_down", &[WIDTH, INNER]),
    ]],
    check: check_heads,
    tokenizers: &[Kind::ByteLevel],
    special: &[Adjustment::Bos],
    ..BASE
};

const WIDTH: Dim = Dim::Key("d_model");
const INNER: Dim = Dim::Key("mlp_hidden_size");
const BOTH_WAYS: Parameter = Parameter::Constant("attention.causal", Constant::Flag(false));
const UNSHIFTED: Parameter = Parameter::Global("diffusion.shift_logits", Constant::Flag(false));

/// The token that stands for one that is to be filled in.
fn mask(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if let Some(id) = config.whole("mask_token_id")? {
        keys.set_global("tokenizer.ggml.mask_token_id", u32::try_from(id).unwrap_or(u32::MAX));
    }
    Ok(())
}
