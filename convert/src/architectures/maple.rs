//! Maple: experts in all layers, norms of queries and keys, no rotation with full attention.

use super::{
    Architecture, BASE,
    layers::all_layers,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope::Rope,
    shared::*,
    spark,
};
use crate::{Config, Result, tokenizer::Kind};

pub(super) const MAPLE: Architecture = Architecture {
    name: "maple",
    classes: &["MapleForCausalLM"],
    defaults: &[model("maple", &[&[number("rms_norm_eps", 1e-6)], THETA, SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            Parameter::With(|config, keys| {
                let share = Rope::read(config)?.partial()?.unwrap_or(1.0);
                keys.set_count("rope.dimension_count", (HEAD.size(config)? as f64 * share) as u64);
                Ok(())
            }),
            parameters::required("attention.sliding_window", &["sliding_window"]),
            Parameter::With(spark::pattern),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            Parameter::With(|config, keys| {
                // The bound is a number in the code of the authors.
                let limits = (0..all_layers(config)?).map(|_| 7.0f32);
                keys.set("swiglu_clamp_exp", limits.collect::<Vec<_>>());
                Ok(())
            }),
        ],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION, HEAD_NORMS, EXPERTS],
    check,
    tokenizers: &[Kind::ByteLevel],
    needs_output: true,
    ..BASE
};

/// The graph is that of the published model.
fn check(config: &Config) -> Result<()> {
    if let Some(shared) = config.positive("num_shared_experts").ok().flatten() {
        let expected = "0: llama.cpp's graph has no shared experts";
        return Err(config.wrong("num_shared_experts", &shared.to_string(), expected));
    }
    const NO_TURN: &str = "nope_on_global_attention";
    if !config.flag(NO_TURN)? {
        let expected = "true: llama.cpp's graph turns nothing with full attention";
        return Err(config.wrong(NO_TURN, "false", expected));
    }
    const NORM: &str = "norm_topk_prob";
    if config.get(NORM).is_some() && !config.flag(NORM)? {
        let expected = "true: llama.cpp's graph makes the weights of experts add up to one";
        return Err(config.wrong(NORM, "false", expected));
    }
    check_heads(config)
}
