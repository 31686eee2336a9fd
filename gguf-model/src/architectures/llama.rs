//! Llama, and all that was made after it: Mistral 7B, Mixtral, Yi, TinyLlama; and the embedding models
//! made of it, which attend in both directions.

use super::shared::{
    ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, EMBEDDING, ENDS, EXPERTS, FF, LLAMA_MLP, NORMS, QKV,
    ROUTER,
};
use crate::{Activation, Architecture, Graph, Need, Norm, Rope, Slot, Turned, When};

/// Experts in one tensor each, as files of early 2024 have them.
const FIRST: &str = "blk.{}.ffn_gate.0.weight";
const LLAMA_FAMILY_EXPERTS: &[Slot] = &[
    ROUTER.when(&[When::Experts]),
    Slot::weight("blk.{}.ffn_gate_exps", &[EMBEDDING, FF, EXPERTS])
        .need(Need::Unless(FIRST))
        .when(&[When::Experts]),
    Slot::weight("blk.{}.ffn_down_exps", &[FF, EMBEDDING, EXPERTS])
        .need(Need::Unless(FIRST))
        .when(&[When::Experts]),
    Slot::weight("blk.{}.ffn_up_exps", &[EMBEDDING, FF, EXPERTS])
        .need(Need::Unless(FIRST))
        .when(&[When::Experts]),
    Slot::weight("blk.{}.ffn_gate.{}", &[EMBEDDING, FF])
        .need(Need::With(FIRST))
        .when(&[When::Experts]),
    Slot::weight("blk.{}.ffn_down.{}", &[FF, EMBEDDING])
        .need(Need::With(FIRST))
        .when(&[When::Experts]),
    Slot::weight("blk.{}.ffn_up.{}", &[EMBEDDING, FF])
        .need(Need::With(FIRST))
        .when(&[When::Experts]),
];

const SLOTS: &[&[Slot]] =
    &[ENDS, NORMS, QKV, ATTN_OUTPUT, ATTN_OUTPUT_MAYBE_BIAS, LLAMA_MLP, LLAMA_FAMILY_EXPERTS];
const GRAPH: Graph = Graph {
    norm: Norm::Rms,
    rope: Rope::Neighbours(Turned::Whole),
    activation: Some(Activation::Silu),
};

pub(super) static LLAMA: Architecture =
    Architecture { name: "llama", keys: &[], slots: SLOTS, graph: GRAPH };

pub(super) static LLAMA_EMBED: Architecture =
    Architecture { name: "llama-embed", keys: &[], slots: SLOTS, graph: GRAPH };
