//! Talkie: no norm has weights; gains scale heads, parts and layers, and the input is added to each layer.

use super::{
    Architecture, BASE,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Rule, Step},
};

pub(super) const TALKIE: Architecture = Architecture {
    name: "talkie",
    classes: &["TalkieForCausalLM"],
    defaults: &[model("talkie", &[THETA, SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        // Its norms have no number of their own: that of PyTorch for single precision.
        &[Parameter::Constant("attention.layer_norm_rms_epsilon", Constant::Number(f32::EPSILON))],
    ],
    tensors: &[
        &[
            Rule::new("model.embed", "token_embd", &[VOCAB, HIDDEN]).any_of(),
            Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]).optional().any_of(),
            Rule::exact("lm_head", "output.weight", &[VOCAB, HIDDEN]).any_of(),
            Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).optional().any_of(),
            Rule::value("lm_head_gain.w_g", "talkie.logit_scale"),
        ],
        LAYER,
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};

const LAYER: &[Rule] = &[
    Rule::new("model.blocks.{}.attn.attn_query", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .turned_back(HEAD),
    Rule::new("model.blocks.{}.attn.attn_key", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .turned_back(HEAD),
    Rule::new("model.blocks.{}.attn.attn_value", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN]),
    Rule::new("model.blocks.{}.attn.attn_resid", "blk.{}.attn_output", &[HIDDEN, QUERY]),
    // One number for each head, which the graph takes as rows.
    Rule::exact("model.blocks.{}.attn.head_gain.head_g", "blk.{}.attn_q_norm.weight", &[HEADS])
        .parts(&[&[Step::Unfold(0, &[HEADS])]]),
    Rule::exact("model.blocks.{}.attn_gain.a_g", "blk.{}.attn_output.scale", ONE),
    Rule::new("model.blocks.{}.mlp.mlp_gate", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN]),
    Rule::new("model.blocks.{}.mlp.mlp_linear", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
    Rule::new("model.blocks.{}.mlp.mlp_resid", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
    Rule::exact("model.blocks.{}.mlp_gain.a_g", "blk.{}.ffn_down.scale", ONE),
    Rule::exact("model.blocks.{}.embed_skip.a_g", "blk.{}.layer_output_scale.weight", ONE),
];

const ONE: &[super::tensors::Dim] = &[super::tensors::Dim::Number(1)];
