//! MiniMax M3: rotary positions in three dimensions, patches of two images at a time, put together by four.

use super::{Encoder, Projector, nothing, shared::*};
use crate::architectures::{
    Architecture, ModelDefaults,
    parameters::{Constant, Parameter},
    tensors::{Dim, Rule, Step},
};

pub(super) const MINIMAX_M3: Projector = Projector {
    classes: &["MiniMaxM3SparseForConditionalGeneration"],
    name: "minimax_m3",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &["vision_tower.", "multi_modal_projector.", "patch_merge_mlp."],
        prepare: nothing,
        family: &FAMILY,
    }],
    types: &[],
};

const MERGE: &str = "img_token_compression_config.spatial_merge_size";
// What the projector is as wide as, config.json does not say.
const FIRST: Dim = Dim::Key("multi_modal_projector_linear_1_weight rows");
const SECOND: Dim = Dim::Key("multi_modal_projector_linear_2_weight rows");
const THIRD: Dim = Dim::Key("patch_merge_mlp_linear_1_weight rows");
const TOGETHER: Dim = Dim::Product(&[MERGED, MERGED, SECOND]);
const MERGED: Dim = Dim::KeyOr(MERGE, &TWO);

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults {
        model_type: "",
        values: &[COLOURS, &[number("layer_norm_eps", 1e-5)]],
        in_wrapper: &[],
    }],
    parameters: &[
        VISION,
        &[
            Parameter::Constant("projector_type", Constant::Text("minimax_m3")),
            USE_GELU,
            EPSILON,
            Parameter::Size("vision.spatial_merge_size", MERGED),
        ],
    ],
    wrappers: TOWERS,
    check: |config| match config.quotient("hidden_size", "num_attention_heads")? {
        HEAD => Ok(()),
        other => {
            let expected = format!("{HEAD} values a head: llama.cpp has no other order for them");
            Err(config.wrong("num_attention_heads", &format!("{other} values a head"), &expected))
        }
    },
    tensors: &[&[
        Rule::split_exact("embeddings.patch_embedding.weight", TWO_IMAGES, TWO_PATCHES),
        Rule::exact("embeddings.patch_embedding.bias", "v.patch_embd.bias", &[WIDTH]).optional(),
        Rule::new("pre_layrnorm", "v.pre_ln", &[WIDTH]).bias(),
        Rule::new("post_layernorm", "v.post_ln", &[WIDTH]).bias().optional(),
        Rule::new("encoder.layers.{}.layer_norm1", "v.blk.{}.ln1", &[WIDTH]).bias(),
        Rule::new("encoder.layers.{}.layer_norm2", "v.blk.{}.ln2", &[WIDTH]).bias(),
        Rule::new("encoder.layers.{}.self_attn.q_proj", "v.blk.{}.attn_q", &[WIDTH, WIDTH])
            .by_head(HEADS, AXES)
            .bias(),
        Rule::new("encoder.layers.{}.self_attn.k_proj", "v.blk.{}.attn_k", &[WIDTH, WIDTH])
            .by_head(HEADS, AXES)
            .bias(),
        Rule::new("encoder.layers.{}.self_attn.v_proj", "v.blk.{}.attn_v", &[WIDTH, WIDTH]).bias(),
        Rule::new("encoder.layers.{}.self_attn.out_proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH])
            .bias(),
        Rule::new("encoder.layers.{}.mlp.fc1", "v.blk.{}.ffn_up", &[INNER, WIDTH]).bias(),
        Rule::new("encoder.layers.{}.mlp.fc2", "v.blk.{}.ffn_down", &[WIDTH, INNER]).bias(),
        Rule::new("multi_modal_projector.linear_1", "mm.1", &[FIRST, WIDTH]).bias(),
        Rule::new("multi_modal_projector.linear_2", "mm.2", &[SECOND, FIRST]).bias(),
        Rule::new("patch_merge_mlp.linear_1", "mm.merger.fc1", &[THIRD, TOGETHER]).bias(),
        Rule::new("patch_merge_mlp.linear_2", "mm.merger.fc2", &[TEXT_WIDTH, THIRD]).bias(),
    ]],
    ..CLIP
};

/// Values of a head: thirteen pairs for each of time, height and width, and one that is not turned.
const HEAD: u64 = 80;

const fn some(from: u64, len: u64) -> [Step; 1] {
    [Step::Narrow { axis: 0, from: Some(Dim::Number(from)), len: Dim::Number(len) }]
}

/// The first values of the pairs of all axes, then the second ones: the two of each axis side by side.
const AXES: &[&[Step]] = &[
    &some(0, 13),
    &some(39, 13),
    &some(13, 13),
    &some(52, 13),
    &some(26, 13),
    &some(65, 13),
    &some(78, 2),
];
