//! Sizes and groups of slots that architectures share.

use crate::{Dimension as D, Key, Kind, Need, Size, Slot, When};

pub(super) const EMBEDDING: Size = Size::Of(D::Embedding);
pub(super) const VOCABULARY: Size = Size::Of(D::Vocabulary);
pub(super) const CONTEXT: Size = Size::Of(D::Context);
pub(super) const FF: Size = Size::Of(D::FeedForward);
pub(super) const HEADS: Size = Size::Of(D::Heads);
pub(super) const KV_HEADS: Size = Size::Of(D::KvHeads);
pub(super) const KEY: Size = Size::Of(D::Key);
pub(super) const EXPERTS: Size = Size::Of(D::Experts);
pub(super) const EXPERT_FF: Size = Size::Of(D::ExpertFeedForward);
pub(super) const SHARED_FF: Size = Size::Of(D::SharedFeedForward);
pub(super) const LABELS: Size = Size::Of(D::Labels);
pub(super) const HALF_ROTARY: Size = Size::Half(&Size::Of(D::Rotary));

/// Queries, keys and values of all heads.
pub(super) const QUERIES: Size = Size::Product(&[HEADS, KEY]);
pub(super) const KEYS: Size = Size::Product(&[KV_HEADS, KEY]);
pub(super) const VALUES: Size = Size::Product(&[KV_HEADS, Size::Of(D::Value)]);

/// Queries, keys and values in one matrix, where queries are as wide as the model.
pub(super) const FUSED: Size = Size::Sum(&[EMBEDDING, VALUES, VALUES]);

pub(super) const TOKENS: Slot = Slot::weight("token_embd", &[EMBEDDING, VOCABULARY]);
pub(super) const OUTPUT: Slot = Slot::weight("output", &[EMBEDDING, VOCABULARY]);

/// Embeddings, final norm, and an output that may be the embeddings again.
pub(super) const ENDS: &[Slot] = &[TOKENS, OUTPUT_NORM, OUTPUT.optional()];
/// The same, with an output of its own.
pub(super) const ENDS_APART: &[Slot] = &[TOKENS, OUTPUT_NORM, OUTPUT];
/// The same, with an output that is always the embeddings.
pub(super) const ENDS_TIED: &[Slot] = &[TOKENS, OUTPUT_NORM];
pub(super) const OUTPUT_NORM: Slot = Slot::weight("output_norm", &[EMBEDDING]);
pub(super) const OUTPUT_NORM_BIAS: &[Slot] = &[Slot::bias("output_norm", &[EMBEDDING])];

pub(super) const ATTN_NORM: Slot = Slot::weight("blk.{}.attn_norm", &[EMBEDDING]);
pub(super) const FFN_NORM: Slot = Slot::weight("blk.{}.ffn_norm", &[EMBEDDING]);
pub(super) const ATTN_POST_NORM: Slot = Slot::weight("blk.{}.post_attention_norm", &[EMBEDDING]);
pub(super) const FFN_POST_NORM: Slot = Slot::weight("blk.{}.post_ffw_norm", &[EMBEDDING]);

/// Norms before attention and before the feed-forward part.
pub(super) const NORMS: &[Slot] = &[ATTN_NORM, FFN_NORM];
pub(super) const NORM_BIASES: &[Slot] =
    &[Slot::bias("blk.{}.attn_norm", &[EMBEDDING]), Slot::bias("blk.{}.ffn_norm", &[EMBEDDING])];

/// Norms of the queries and keys of each head.
pub(super) const HEAD_NORMS: &[Slot] =
    &[Slot::weight("blk.{}.attn_k_norm", &[KEY]), Slot::weight("blk.{}.attn_q_norm", &[KEY])];

/// Matrices of queries, keys and values of these widths: three, or one in their place. Biases may be
/// there in either form.
macro_rules! qkv {
    ($q:expr, $k:expr, $v:expr) => {
        qkv!($q, $k, $v, &[])
    };
    ($q:expr, $k:expr, $v:expr, $when:expr) => {{
        const FUSED: &str = "blk.{}.attn_qkv.weight";
        const FUSED_BIAS: &str = "blk.{}.attn_qkv.bias";
        &[
            Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, Size::Sum(&[$q, $k, $v])])
                .optional()
                .when($when),
            Slot::bias("blk.{}.attn_qkv", &[Size::Sum(&[$q, $k, $v])])
                .need(Need::OptionalWith(FUSED))
                .when($when),
            Slot::weight("blk.{}.attn_q", &[EMBEDDING, $q]).need(Need::Unless(FUSED)).when($when),
            Slot::weight("blk.{}.attn_k", &[EMBEDDING, $k]).need(Need::Unless(FUSED)).when($when),
            Slot::weight("blk.{}.attn_v", &[EMBEDDING, $v]).need(Need::Unless(FUSED)).when($when),
            Slot::bias("blk.{}.attn_q", &[$q]).need(Need::OptionalUnless(FUSED_BIAS)).when($when),
            Slot::bias("blk.{}.attn_k", &[$k]).need(Need::OptionalUnless(FUSED_BIAS)).when($when),
            Slot::bias("blk.{}.attn_v", &[$v]).need(Need::OptionalUnless(FUSED_BIAS)).when($when),
        ]
    }};
}

/// Heads of a width of their own.
pub(super) const QKV: &[Slot] = qkv!(QUERIES, KEYS, VALUES);
pub(super) const ATTN_OUTPUT: &[Slot] =
    &[Slot::weight("blk.{}.attn_output", &[QUERIES, EMBEDDING])];
/// As many keys and values as the value heads hold.
pub(super) const QKV_BY_VALUES: &[Slot] = qkv!(QUERIES, VALUES, VALUES);
/// Queries as wide as the model.
pub(super) const QKV_SQUARE: &[Slot] = qkv!(EMBEDDING, VALUES, VALUES);
/// As many keys and values as queries.
pub(super) const QKV_EQUAL: &[Slot] = qkv!(QUERIES, QUERIES, QUERIES);
pub(super) const ATTN_OUTPUT_SQUARE: &[Slot] =
    &[Slot::weight("blk.{}.attn_output", &[EMBEDDING, EMBEDDING])];
pub(super) const ATTN_OUTPUT_BIAS: Slot = Slot::bias("blk.{}.attn_output", &[EMBEDDING]);
pub(super) const ATTN_OUTPUT_MAYBE_BIAS: &[Slot] = &[ATTN_OUTPUT_BIAS.optional()];

/// One matrix of queries, keys and values, and no other form.
pub(super) const QKV_FUSED: Slot = Slot::weight("blk.{}.attn_qkv", &[EMBEDDING, FUSED]);
pub(super) const QKV_FUSED_BIAS: Slot = Slot::bias("blk.{}.attn_qkv", &[FUSED]);

pub(super) const FFN_GATE: Slot = Slot::weight("blk.{}.ffn_gate", &[EMBEDDING, FF]);
pub(super) const FFN_UP: Slot = Slot::weight("blk.{}.ffn_up", &[EMBEDDING, FF]);
pub(super) const FFN_DOWN: Slot = Slot::weight("blk.{}.ffn_down", &[FF, EMBEDDING]);
pub(super) const FFN_UP_BIAS: Slot = Slot::bias("blk.{}.ffn_up", &[FF]);
pub(super) const FFN_DOWN_BIAS: Slot = Slot::bias("blk.{}.ffn_down", &[EMBEDDING]);

/// A gated feed-forward part.
pub(super) const GATED: &[Slot] = &[FFN_GATE, FFN_DOWN, FFN_UP];
/// One without a gate.
pub(super) const PLAIN: &[Slot] = &[FFN_DOWN, FFN_UP];

pub(super) const ROUTER: Slot = Slot::weight("blk.{}.ffn_gate_inp", &[EMBEDDING, EXPERTS]);

/// Experts of this inner size, with their router.
macro_rules! experts {
    ($ff:expr, $when:expr) => {
        &[
            ROUTER.when($when),
            Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, $ff, EXPERTS]).when($when),
            Slot::weight("blk.{}.ffn_down_exps", &[$ff, EMBEDDING, EXPERTS]).when($when),
            Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, $ff, EXPERTS]).when($when),
        ]
    };
}

/// Shared experts of this inner size.
macro_rules! shared_experts {
    ($ff:expr, $when:expr) => {
        &[
            Slot::weight("blk.{}.ffn_gate_shexp", &[EMBEDDING, $ff]).when($when),
            Slot::weight("blk.{}.ffn_down_shexp", &[$ff, EMBEDDING]).when($when),
            Slot::weight("blk.{}.ffn_up_shexp", &[EMBEDDING, $ff]).when($when),
        ]
    };
}

pub(super) use {experts, qkv, shared_experts};

/// Frequencies of RoPE, stored once for all layers.
pub(super) const ROPE_FREQS: &[Slot] = &[Slot::weight("rope_freqs", &[HALF_ROTARY]).optional()];

/// The feed-forward part and RoPE's factors of the Llama family: dense, or of experts alone.
pub(super) const LLAMA_MLP: &[Slot] = &[
    FFN_GATE.when(&[When::NoExperts]),
    FFN_DOWN.when(&[When::NoExperts]),
    FFN_UP.when(&[When::NoExperts]),
    Slot::bias("blk.{}.ffn_gate", &[FF]).optional().when(&[When::NoExperts]),
    FFN_DOWN_BIAS.optional().when(&[When::NoExperts]),
    FFN_UP_BIAS.optional().when(&[When::NoExperts]),
    Slot::weight("rope_factors_long", &[HALF_ROTARY]).optional().when(&[When::LongRope]),
    Slot::weight("rope_factors_short", &[HALF_ROTARY]).optional().when(&[When::LongRope]),
    Slot::weight("rope_freqs", &[HALF_ROTARY]).optional().when(&[When::NotLongRope]),
];
pub(super) const LLAMA_EXPERTS: &[Slot] = experts!(FF, &[When::Experts]);
pub(super) const LLAMA_SHARED: &[Slot] =
    shared_experts!(SHARED_FF, &[When::Experts, When::SharedExperts]);

/// Keys of a sliding window whose layers follow a pattern.
pub(super) const SLIDING: Key = Key::optional("attention.sliding_window", Kind::COUNT);
pub(super) const SLIDING_PATTERN: Key =
    Key::optional("attention.sliding_window_pattern", Kind::Pattern);
pub(super) const SLIDING_BASE: Key = Key::optional("rope.freq_base_swa", Kind::Float);

/// How the angles of RoPE are shared among time, height, width and a fourth axis.
pub(super) const ROPE_SECTIONS: Key = Key::required("rope.dimension_sections", Kind::Sections);
/// The first layers to which an image encoder adds features of its own.
pub(super) const DEEPSTACK: Key = Key::optional("n_deepstack_layers", Kind::COUNT);

pub(super) const LOGIT_SCALE: Key = Key::optional("logit_scale", Kind::Float);
pub(super) const SHARED_LENGTH: Key =
    Key::optional("expert_shared_feed_forward_length", Kind::COUNT);
pub(super) const EXPERT_LENGTH: Key = Key::optional("expert_feed_forward_length", Kind::Integers);

/// Layers that predict further tokens: what they have beside an ordinary layer.
pub(super) const NEXTN: &[Slot] = &[
    Slot::weight("blk.{}.nextn.eh_proj", &[Size::Product(&[Size::Is(2), EMBEDDING]), EMBEDDING])
        .when(&[When::Further]),
    Slot::weight("blk.{}.nextn.enorm", &[EMBEDDING]).when(&[When::Further]),
    Slot::weight("blk.{}.nextn.hnorm", &[EMBEDDING]).when(&[When::Further]),
    Slot::weight("blk.{}.nextn.embed_tokens", &[EMBEDDING, VOCABULARY])
        .need(Need::Sparse)
        .when(&[When::Further]),
    Slot::weight("blk.{}.nextn.shared_head_head", &[EMBEDDING, VOCABULARY])
        .need(Need::Sparse)
        .when(&[When::Further]),
    Slot::weight("blk.{}.nextn.shared_head_norm", &[EMBEDDING])
        .need(Need::Sparse)
        .when(&[When::Further]),
];

/// Which layers have a state in place of attention.
pub(super) const RECURRENT: Key = Key::optional("attention.recurrent_layers", Kind::Pattern);
pub(super) const FULL_INTERVAL: Key = Key::optional("full_attention_interval", Kind::COUNT);
