//! Nanbeige 4.2: Llama's graph, run through more than once.

use super::{
    Architecture, llama,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
};

pub(super) const NANBEIGE: Architecture = Architecture {
    name: "nanbeige",
    classes: &["NanbeigeForCausalLM"],
    defaults: &[model(
        "nanbeige",
        &[
            &[count("max_position_embeddings", 131_072), number("rms_norm_eps", 1e-5)],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        llama::ROPE,
        &[
            Parameter::With(|config, keys| {
                keys.set_count("num_loops", config.whole("num_loops")?.unwrap_or(1).max(1));
                Ok(())
            }),
            Parameter::Flag {
                key: "skip_loop_final_norm",
                from: "skip_loop_final_norm",
                otherwise: Some(false),
            },
        ],
    ],
    ..llama::LLAMA
};
