//! InternLM2 and 2.5: queries, keys and values of a group of heads side by side.

use super::{
    Architecture, BASE,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS},
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};
use crate::tokenizer::{Adjustment, Kind};

pub(super) const INTERNLM2: Architecture = Architecture {
    name: "internlm2",
    classes: &["InternLM2ForCausalLM"],
    defaults: &[model(
        "internlm2",
        &[
            &[count("max_position_embeddings", 2048), number("rms_norm_eps", 1e-6)],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE],
    tensors: &[&[
        Rule::new("model.tok_embeddings", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("output", "output", &[VOCAB, HIDDEN]).head(),
        Rule::new("model.norm", "output_norm", &[HIDDEN]),
        Rule::new("model.layers.{}.attention_norm", "blk.{}.attn_norm", &[HIDDEN]),
        Rule::split(
            "model.layers.{}.attention.wqkv",
            &[
                Target {
                    name: "blk.{}.attn_q",
                    parts: &[&[
                        BY_GROUP,
                        Step::Narrow { axis: 1, from: None, len: SHARE },
                        Step::Unfold(2, &[TWO]),
                        Step::Swap(2, 3),
                        Step::Fold(0, 4),
                    ]],
                },
                Target {
                    name: "blk.{}.attn_k",
                    parts: &[&[
                        BY_GROUP,
                        Step::Narrow { axis: 1, from: Some(SHARE), len: ONE },
                        Step::Unfold(2, &[TWO]),
                        Step::Swap(2, 3),
                        Step::Fold(0, 4),
                    ]],
                },
                Target {
                    name: "blk.{}.attn_v",
                    parts: &[&[
                        BY_GROUP,
                        Step::Narrow { axis: 1, from: Some(LAST), len: ONE },
                        Step::Fold(0, 3),
                    ]],
                },
            ],
            &[Dim::Product(&[Dim::Key("num_key_value_heads"), GROUP, HEAD]), HIDDEN],
        ),
        Rule::new("model.layers.{}.attention.wo", "blk.{}.attn_output", &[HIDDEN, QUERY]),
        Rule::new("model.layers.{}.ffn_norm", "blk.{}.ffn_norm", &[HIDDEN]),
        Rule::new("model.layers.{}.feed_forward.w1", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN]),
        Rule::new("model.layers.{}.feed_forward.w2", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
        Rule::new("model.layers.{}.feed_forward.w3", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
    ]],
    needs_output: true,
    check: check_heads,
    tokenizers: &[Kind::SentencePiece],
    special: &[Adjustment::SpacePrefix],
    ..BASE
};

const SHARE: Dim = Dim::Derived("query heads of a key head", |config| {
    config.quotient("num_attention_heads", "num_key_value_heads")
});
const GROUP: Dim = Dim::Sum(&[SHARE, TWO]);
const LAST: Dim = Dim::Sum(&[SHARE, ONE]);
const ONE: Dim = Dim::Number(1);
const BY_GROUP: Step = Step::Unfold(0, &[KEY_HEADS, GROUP]);
