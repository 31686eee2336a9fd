//! EXAONE 3 and 3.5: Llama's graph under GPT-2's names.

use super::{
    Architecture, BASE, Fill,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope::Rope,
    shared::*,
    tensors::Rule,
};

pub(super) const EXAONE: Architecture = Architecture {
    name: "exaone",
    classes: &["ExaoneForCausalLM"],
    defaults: &[model(
        "exaone",
        &[
            &[
                count("max_position_embeddings", 2048),
                number("layer_norm_epsilon", 1e-5),
                // Its norms are by the root mean square, and llama.cpp loads none without this; its
                // converter loses it.
                default(
                    "rms_norm_eps",
                    Fill::With(|config| {
                        Ok(config
                            .get("layer_norm_epsilon")
                            .filter(|_| !config.like_reference())
                            .cloned())
                    }),
                ),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(|config, keys| {
            let share = Rope::read(config)?.partial()?.unwrap_or(1.0);
            let head = config.quotient("hidden_size", "num_attention_heads")?;
            keys.set_count("rope.dimension_count", (share * head as f64) as u64);
            Ok(())
        })],
    ],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.wte", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
        Rule::new("transformer.ln_f", "output_norm", &[HIDDEN]),
        Rule::new("transformer.h.{}.ln_1", "blk.{}.attn_norm", &[HIDDEN]),
        Rule::new("transformer.h.{}.attn.attention.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN]),
        Rule::new("transformer.h.{}.attn.attention.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN]),
        Rule::new("transformer.h.{}.attn.attention.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN]),
        Rule::new(
            "transformer.h.{}.attn.attention.out_proj",
            "blk.{}.attn_output",
            &[HIDDEN, QUERY],
        ),
        Rule::new("transformer.h.{}.ln_2", "blk.{}.ffn_norm", &[HIDDEN]),
        Rule::new("transformer.h.{}.mlp.c_fc_0", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN]),
        Rule::new("transformer.h.{}.mlp.c_fc_1", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
        Rule::new("transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
    ]],
    check: check_heads,
    computed: llama3_factors,
    ..BASE
};
