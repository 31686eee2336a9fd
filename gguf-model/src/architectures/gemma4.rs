//! Gemma 4: heads of two sizes, layers that use the keys and values of others, vectors of tokens for
//! each layer, experts beside a dense part; and its drafting assistants, which have no keys at all.

use super::shared::{
    ATTN_NORM, ATTN_POST_NORM, EMBEDDING, ENDS, ENDS_TIED, EXPERT_FF, EXPERT_LENGTH, EXPERTS,
    FFN_NORM, FFN_POST_NORM, GATED, HEADS, KEY, KEYS, KV_HEADS, QUERIES, ROUTER, SLIDING_BASE,
    VALUES, VOCABULARY,
};
use crate::{
    Activation, Architecture, Dimension, Graph, Key, Kind, Need, Norm, Rope, Size, Slot, Turned,
    When,
};

const SLIDING_KEY: Size = Size::Of(Dimension::SlidingKey);
const SLIDING_QUERIES: Size = Size::Product(&[HEADS, SLIDING_KEY]);
const SLIDING_KEYS: Size = Size::Product(&[KV_HEADS, SLIDING_KEY]);
const SLIDING_VALUES: Size = Size::Product(&[KV_HEADS, Size::Of(Dimension::SlidingValue)]);
const INPUT: Size = Size::Of(Dimension::PerLayerInput);
const INPUTS: Size = Size::Product(&[INPUT, Size::Of(Dimension::Layers)]);

const QUERY: &[Slot] = &[
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, QUERIES]).when(&[When::Full]),
    Slot::weight("blk.{}.attn_q", &[EMBEDDING, SLIDING_QUERIES]).when(&[When::Sliding]),
    Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING]).when(&[When::Full]),
    Slot::weight("blk.{}.attn_output", &[SLIDING_QUERIES, EMBEDDING]).when(&[When::Sliding]),
    Slot::weight("blk.{}.attn_q_norm", &[KEY]).when(&[When::Full]),
    Slot::weight("blk.{}.attn_q_norm", &[SLIDING_KEY]).when(&[When::Sliding]),
];

/// Values may be the keys; layers that borrow both may have them all the same.
const KEYS_AND_VALUES: &[Slot] = &[
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, KEYS]).when(&[When::OwnKeys, When::Full]),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, SLIDING_KEYS]).when(&[When::OwnKeys, When::Sliding]),
    Slot::weight("blk.{}.attn_k_norm", &[KEY]).when(&[When::OwnKeys, When::Full]),
    Slot::weight("blk.{}.attn_k_norm", &[SLIDING_KEY]).when(&[When::OwnKeys, When::Sliding]),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, KEYS])
        .need(Need::Sparse)
        .when(&[When::BorrowedKeys, When::Full]),
    Slot::weight("blk.{}.attn_k", &[EMBEDDING, SLIDING_KEYS])
        .need(Need::Sparse)
        .when(&[When::BorrowedKeys, When::Sliding]),
    Slot::weight("blk.{}.attn_k_norm", &[KEY])
        .need(Need::Sparse)
        .when(&[When::BorrowedKeys, When::Full]),
    Slot::weight("blk.{}.attn_k_norm", &[SLIDING_KEY])
        .need(Need::Sparse)
        .when(&[When::BorrowedKeys, When::Sliding]),
    Slot::weight("blk.{}.attn_v", &[EMBEDDING, VALUES]).need(Need::Sparse).when(&[When::Full]),
    Slot::weight("blk.{}.attn_v", &[EMBEDDING, SLIDING_VALUES])
        .need(Need::Sparse)
        .when(&[When::Sliding]),
];

const NORMS: &[Slot] = &[ATTN_NORM, ATTN_POST_NORM, FFN_NORM, FFN_POST_NORM];
const SCALE: Slot = Slot::weight("blk.{}.layer_output_scale", &[Size::Is(1)]);
const FACTORS: &[Slot] = &[Slot::weight("rope_freqs", &[Size::Half(&KEY)])];

const IS: &[When] = &[When::Experts];
const GATE_AND_UP: &str = "blk.{}.ffn_gate_up_exps.weight";
const MIXTURE: &[Slot] = &[
    ROUTER.when(IS),
    Slot::weight("blk.{}.ffn_gate_inp", &[EMBEDDING]).suffix("scale").when(IS),
    Slot::weight("blk.{}.pre_ffw_norm_2", &[EMBEDDING]).when(IS),
    Slot::weight("blk.{}.post_ffw_norm_1", &[EMBEDDING]).when(IS),
    Slot::weight("blk.{}.post_ffw_norm_2", &[EMBEDDING]).when(IS),
    Slot::weight(
        "blk.{}.ffn_gate_up_exps",
        &[EMBEDDING, Size::Product(&[EXPERT_FF, Size::Is(2)]), EXPERTS],
    )
    .optional()
    .when(IS),
    Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, EXPERT_FF, EXPERTS])
        .need(Need::Unless(GATE_AND_UP))
        .when(IS),
    Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, EXPERT_FF, EXPERTS])
        .need(Need::Unless(GATE_AND_UP))
        .when(IS),
    Slot::weight("blk.{}.ffn_down_exps", &[EXPERT_FF, EMBEDDING, EXPERTS]).when(IS),
];

const PER_LAYER: &[Slot] = &[
    Slot::weight("per_layer_token_embd", &[INPUTS, VOCABULARY]).when(&[When::PerLayerInput]),
    Slot::weight("per_layer_model_proj", &[EMBEDDING, INPUTS]).when(&[When::PerLayerInput]),
    Slot::weight("per_layer_proj_norm", &[INPUT]).when(&[When::PerLayerInput]),
    Slot::weight("blk.{}.inp_gate", &[EMBEDDING, INPUT]).when(&[When::PerLayerInput]),
    Slot::weight("blk.{}.proj", &[INPUT, EMBEDDING]).when(&[When::PerLayerInput]),
    Slot::weight("blk.{}.post_norm", &[EMBEDDING]).when(&[When::PerLayerInput]),
];

const PATTERN: Key = Key::required("attention.sliding_window_pattern", Kind::Pattern);
const SHARED: Key = Key::optional("attention.shared_kv_layers", Kind::COUNT);
const WINDOW: Key = Key::required("attention.sliding_window", Kind::COUNT);
const SLIDING_KEY_LENGTH: Key = Key::required("attention.key_length_swa", Kind::COUNT);
const SLIDING_VALUE_LENGTH: Key = Key::required("attention.value_length_swa", Kind::COUNT);

const GRAPH: Graph =
    Graph { norm: Norm::Rms, rope: Rope::Halves(Turned::Any), activation: Some(Activation::Gelu) };

pub(super) static GEMMA4: Architecture = Architecture {
    name: "gemma4",
    keys: &[
        PATTERN,
        SHARED,
        SLIDING_BASE,
        EXPERT_LENGTH,
        WINDOW,
        Key::required("embedding_length_per_layer_input", Kind::COUNT),
        SLIDING_KEY_LENGTH,
        SLIDING_VALUE_LENGTH,
        Key::optional("final_logit_softcapping", Kind::Float),
    ],
    slots: &[
        ENDS,
        FACTORS,
        NORMS,
        QUERY,
        KEYS_AND_VALUES,
        GATED,
        &[SCALE.optional()],
        MIXTURE,
        PER_LAYER,
    ],
    graph: GRAPH,
};

const BACKBONE: Size = Size::Of(Dimension::EmbeddingOut);

pub(super) static GEMMA4_ASSISTANT: Architecture = Architecture {
    name: "gemma4-assistant",
    keys: &[
        PATTERN,
        SHARED,
        SLIDING_BASE,
        WINDOW,
        SLIDING_KEY_LENGTH,
        SLIDING_VALUE_LENGTH,
        Key::required("embedding_length_out", Kind::COUNT),
    ],
    slots: &[
        ENDS_TIED,
        &[
            Slot::weight(
                "nextn.pre_projection",
                &[Size::Product(&[Size::Is(2), BACKBONE]), EMBEDDING],
            ),
            Slot::weight("nextn.post_projection", &[EMBEDDING, BACKBONE]),
        ],
        FACTORS,
        NORMS,
        QUERY,
        GATED,
        &[SCALE],
    ],
    graph: GRAPH,
};
