//! Baichuan and Baichuan 2: queries, keys and values in one tensor.

use super::{
    Architecture, BASE,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};
use crate::tokenizer::Kind;

pub(super) const BAICHUAN: Architecture = Architecture {
    name: "baichuan",
    classes: &["BaichuanForCausalLM", "BaiChuanForCausalLM"],
    defaults: &[model(
        "baichuan",
        &[
            // The larger model calls the longest context otherwise.
            &[default("max_position_embeddings", super::Fill::Given("model_max_length"))],
            &[count("max_position_embeddings", 4096), number("rms_norm_eps", 1e-6)],
        ],
    )],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, LAYOUT, WHOLE_HEAD],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        &[
            Rule::split(
                "model.layers.{}.self_attn.W_pack",
                &[
                    Target { name: "blk.{}.attn_q", parts: &[&[third(None), PAIRS, TURN, ROWS]] },
                    Target {
                        name: "blk.{}.attn_k",
                        parts: &[&[third(Some(HIDDEN)), PAIRS, TURN, ROWS]],
                    },
                    Target {
                        name: "blk.{}.attn_v",
                        parts: &[&[third(Some(Dim::Product(&[
                            Dim::Number(2),
                            Dim::Key("hidden_size"),
                        ])))]],
                    },
                ],
                &[Dim::Product(&[Dim::Number(3), Dim::Key("hidden_size")]), HIDDEN],
            ),
            Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, HIDDEN]),
        ],
        GATED_MLP,
    ],
    needs_output: true,
    tokenizers: &[Kind::SentencePiece],
    ..BASE
};

const fn third(from: Option<Dim>) -> Step {
    Step::Narrow { axis: 0, from, len: HIDDEN }
}

const PAIRS: Step = Step::Unfold(0, &[HEADS, TWO]);
const TURN: Step = Step::Swap(1, 2);
const ROWS: Step = Step::Fold(0, 3);

/// How llama.cpp's converter says that rotary pairs are side by side.
pub(super) const LAYOUT: &[Parameter] =
    &[Parameter::Constant("tensor_data_layout", Constant::Text("Meta AI original pth"))];

/// All of a head is rotated.
pub(super) const WHOLE_HEAD: &[Parameter] = &[Parameter::With(|config, keys| {
    let head = config.quotient("hidden_size", "num_attention_heads")?;
    keys.set_count("rope.dimension_count", head);
    Ok(())
})];
