//! Mixtures of experts: Phi-3.5-MoE, ERNIE 4.5, LLaDA-MoE, RND1, Llama 4.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_BIAS, ATTN_OUTPUT_MAYBE_BIAS, ATTN_OUTPUT_SQUARE, EMBEDDING, ENDS,
    ENDS_APART, EXPERT_FF, EXPERT_LENGTH, EXPERTS, FF, FFN_DOWN, FFN_GATE, FFN_UP, HALF_ROTARY,
    HEAD_NORMS, NORM_BIASES, NORMS, OUTPUT_NORM_BIAS, QKV, QKV_SQUARE, ROPE_FREQS, ROUTER,
    SHARED_FF, SHARED_LENGTH, VOCABULARY, experts, shared_experts,
};
use crate::{
    Activation, Architecture, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned, When,
};

const fn graph(rope: Rope) -> Graph {
    Graph { norm: Norm::Rms, rope, activation: Some(Activation::Silu) }
}

pub(super) static PHIMOE: Architecture = Architecture {
    name: "phimoe",
    keys: &[],
    slots: &[
        ENDS_APART,
        OUTPUT_NORM_BIAS,
        &[Slot::bias("output", &[VOCABULARY])],
        NORMS,
        NORM_BIASES,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[ATTN_OUTPUT_BIAS],
        experts!(FF, &[]),
        &[
            Slot::weight("rope_factors_long", &[HALF_ROTARY]).optional(),
            Slot::weight("rope_factors_short", &[HALF_ROTARY]).optional(),
        ],
    ],
    graph: graph(Rope::Halves(Turned::Any)),
};

pub(super) static ERNIE4_5_MOE: Architecture = Architecture {
    name: "ernie4_5-moe",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::required("interleave_moe_layer_step", Kind::Integer(1, crate::MAX_LAYERS)),
        Key::optional("leading_dense_block_count", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ATTN_OUTPUT_MAYBE_BIAS,
        &[
            FFN_GATE.when(&[When::Leading]),
            FFN_DOWN.when(&[When::Leading]),
            FFN_UP.when(&[When::Leading]),
            Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).optional().when(&[When::AfterLeading]),
        ],
        experts!(EXPERT_FF, &[When::AfterLeading]),
        shared_experts!(SHARED_FF, &[When::AfterLeading, When::SharedExperts]),
    ],
    graph: graph(Rope::Neighbours(Turned::Whole)),
};

pub(super) static LLADA_MOE: Architecture = Architecture {
    name: "llada-moe",
    keys: &[EXPERT_LENGTH],
    slots: &[
        ENDS_APART,
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        HEAD_NORMS,
        experts!(EXPERT_FF, &[]),
    ],
    graph: graph(Rope::Halves(Turned::Whole)),
};

pub(super) static RND1: Architecture = Architecture {
    name: "rnd1",
    keys: &[EXPERT_LENGTH],
    slots: &[ENDS, NORMS, QKV, ATTN_OUTPUT, HEAD_NORMS, experts!(EXPERT_FF, &[])],
    graph: graph(Rope::Halves(Turned::Whole)),
};

/// Layers of Llama 4 that have experts.
const SPARSE: &[When] = &[When::EveryStep];
const DENSE: &[When] = &[When::BetweenSteps];

pub(super) static LLAMA4: Architecture = Architecture {
    name: "llama4",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        Key::required("interleave_moe_layer_step", Kind::COUNT),
        super::shared::SLIDING,
        super::shared::SLIDING_PATTERN,
        super::shared::SLIDING_BASE,
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ROPE_FREQS,
        &[FFN_GATE.when(DENSE), FFN_DOWN.when(DENSE), FFN_UP.when(DENSE)],
        experts!(EXPERT_FF, SPARSE),
        shared_experts!(EXPERT_FF, SPARSE),
    ],
    graph: graph(Rope::Neighbours(Turned::Whole)),
};

pub(super) static HUNYUAN_MOE: Architecture = Architecture {
    name: "hunyuan-moe",
    keys: &[Key::required("expert_feed_forward_length", Kind::Integers), SHARED_LENGTH],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        HEAD_NORMS,
        experts!(FF, &[]),
        shared_experts!(SHARED_FF, &[]),
    ],
    graph: graph(Rope::Halves(Turned::Whole)),
};

/// Layers of K-EXAONE after the first, but for those that predict further tokens.
const MIXED: &[When] = &[When::AfterLeading, When::Trunk];

pub(super) static EXAONE_MOE: Architecture = Architecture {
    name: "exaone-moe",
    keys: &[
        super::shared::SLIDING_BASE,
        Key::required("attention.sliding_window", Kind::COUNT),
        super::shared::SLIDING_PATTERN,
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::optional("expert_shared_count", Kind::COUNT),
        Key::required("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
        Key::optional("leading_dense_block_count", Kind::COUNT),
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ROPE_FREQS,
        HEAD_NORMS,
        &[
            FFN_GATE.when(&[When::LeadingOrFurther]),
            FFN_DOWN.when(&[When::LeadingOrFurther]),
            FFN_UP.when(&[When::LeadingOrFurther]),
            Slot::bias("blk.{}.exp_probs_b", &[EXPERTS]).optional().when(MIXED),
        ],
        experts!(EXPERT_FF, MIXED),
        shared_experts!(SHARED_FF, MIXED),
        super::shared::NEXTN,
    ],
    graph: graph(Rope::Halves(Turned::Whole)),
};

const TWICE: Size = Size::Product(&[Size::Is(2), FF]);
const GATE_AND_UP: &str = "blk.{}.ffn_gate_up_exps.weight";

pub(super) static GRANITE_SWA: Architecture = Architecture {
    name: "granite_swa",
    keys: &[
        Key::required("logit_scale", Kind::Float),
        Key::optional("residual_scale", Kind::Float),
        Key::optional("embedding_scale", Kind::Float),
        Key::optional("attention.scale", Kind::Float),
        SHARED_LENGTH,
        Key::required("attention.sliding_window", Kind::COUNT),
        super::shared::SLIDING_PATTERN,
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        ATTN_OUTPUT_MAYBE_BIAS,
        &[Slot::weight("blk.{}.attn_sinks", &[super::shared::HEADS])],
        super::shared::LLAMA_MLP,
        &[
            ROUTER.when(&[When::Experts]),
            Slot::weight("blk.{}.ffn_down_exps", &[FF, EMBEDDING, EXPERTS]).when(&[When::Experts]),
            Slot::weight("blk.{}.ffn_gate_up_exps", &[EMBEDDING, TWICE, EXPERTS])
                .optional()
                .when(&[When::Experts]),
            Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, FF, EXPERTS])
                .need(Need::Unless(GATE_AND_UP))
                .when(&[When::Experts]),
            Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, FF, EXPERTS])
                .need(Need::Unless(GATE_AND_UP))
                .when(&[When::Experts]),
            Slot::weight(
                "blk.{}.ffn_up_shexp",
                &[EMBEDDING, Size::Product(&[Size::Is(2), SHARED_FF])],
            )
            .when(&[When::Experts, When::SharedExperts]),
            Slot::weight("blk.{}.ffn_down_shexp", &[SHARED_FF, EMBEDDING])
                .when(&[When::Experts, When::SharedExperts]),
        ],
    ],
    graph: graph(Rope::Neighbours(Turned::Any)),
};

/// Layers of Hy3 are dense or have experts, as their tensors say.
const HY_ROUTER: &str = "blk.{}.ffn_gate_inp.weight";

pub(super) static HY_V3: Architecture = Architecture {
    name: "hy_v3",
    keys: &[
        Key::required("expert_feed_forward_length", Kind::Integers),
        SHARED_LENGTH,
        Key::optional("expert_gating_func", Kind::Integer(0, 4)),
        Key::optional("expert_weights_scale", Kind::Float),
        Key::optional("expert_weights_norm", Kind::Bool),
    ],
    slots: &[
        ENDS,
        NORMS,
        QKV,
        ATTN_OUTPUT,
        HEAD_NORMS,
        &[
            ROUTER.need(Need::Sparse),
            Slot::weight("blk.{}", &[EXPERTS]).suffix("exp_probs_b").need(Need::Sparse),
            Slot::weight("blk.{}.ffn_down_exps", &[EXPERT_FF, EMBEDDING, EXPERTS])
                .need(Need::With(HY_ROUTER)),
            Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, EXPERT_FF, EXPERTS])
                .need(Need::With(HY_ROUTER)),
            Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, EXPERT_FF, EXPERTS])
                .need(Need::With(HY_ROUTER)),
            Slot::weight("blk.{}.ffn_gate_shexp", &[EMBEDDING, SHARED_FF])
                .need(Need::With(HY_ROUTER)),
            Slot::weight("blk.{}.ffn_down_shexp", &[SHARED_FF, EMBEDDING])
                .need(Need::With(HY_ROUTER)),
            Slot::weight("blk.{}.ffn_up_shexp", &[EMBEDDING, SHARED_FF])
                .need(Need::With(HY_ROUTER)),
            FFN_GATE.need(Need::Unless(HY_ROUTER)),
            FFN_DOWN.need(Need::Unless(HY_ROUTER)),
            FFN_UP.need(Need::Unless(HY_ROUTER)),
        ],
        super::shared::NEXTN,
    ],
    graph: graph(Rope::Halves(Turned::Whole)),
};

pub(super) static ARCTIC: Architecture = Architecture {
    name: "arctic",
    keys: &[],
    slots: &[
        ENDS,
        NORMS,
        QKV_SQUARE,
        ATTN_OUTPUT_SQUARE,
        &[
            Slot::weight("blk.{}.ffn_gate", &[EMBEDDING, EMBEDDING]),
            Slot::weight("blk.{}.ffn_down", &[EMBEDDING, EMBEDDING]),
            Slot::weight("blk.{}.ffn_up", &[EMBEDDING, EMBEDDING]),
            Slot::weight("blk.{}.ffn_norm_exps", &[EMBEDDING]),
        ],
        experts!(FF, &[]),
    ],
    graph: graph(Rope::Neighbours(Turned::Any)),
};

pub(super) static DBRX: Architecture = Architecture {
    name: "dbrx",
    keys: &[Key::required("attention.clamp_kqv", Kind::Float)],
    slots: &[
        ENDS_APART,
        &[
            Slot::weight("blk.{}.attn_norm", &[EMBEDDING]),
            super::shared::QKV_FUSED,
            Slot::weight("blk.{}.attn_output_norm", &[EMBEDDING]),
        ],
        ATTN_OUTPUT_SQUARE,
        experts!(FF, &[]),
    ],
    graph: Graph { norm: Norm::Layer, ..graph(Rope::Halves(Turned::Whole)) },
};
