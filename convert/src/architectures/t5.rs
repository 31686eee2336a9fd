//! T5 and its kin: an encoder and a decoder, whose positions are a bias of attention. The encoder
//! alone is what image models read text with.

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{FILE_TYPE, Parameter, count as optional, required, required_number, whole},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::{Config, tokenizer::Kind};

pub(super) const T5: Architecture = Architecture {
    name: "t5",
    classes: &[
        "T5ForConditionalGeneration",
        "T5WithLMHeadModel",
        "MT5ForConditionalGeneration",
        "UMT5ForConditionalGeneration",
        "UMT5Model",
    ],
    defaults: &[
        model("t5", &[GIVEN, DECODER_LAYERS]),
        model("mt5", &[GIVEN, DECODER_LAYERS]),
        model("umt5", &[GIVEN, DECODER_LAYERS]),
    ],
    parameters: &[
        SIZES,
        &[optional("decoder_block_count", &["num_decoder_layers"])],
        HEADS_AND_NORMS,
        &[whole("decoder_start_token_id", &["decoder_start_token_id"])],
        FILE_TYPE,
    ],
    tensors: &[SHARED, &[Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head()], ENCODER, DECODER],
    ..T5ENCODER
};

pub(super) const T5ENCODER: Architecture = Architecture {
    name: "t5encoder",
    classes: &["T5EncoderModel"],
    defaults: &[model("t5", &[GIVEN])],
    parameters: &[SIZES, HEADS_AND_NORMS, FILE_TYPE],
    tensors: &[SHARED, ENCODER],
    tokenizers: &[Kind::Unigram],
    ..BASE
};

const GIVEN: &[Default] = &[
    count("relative_attention_num_buckets", 32),
    number("layer_norm_epsilon", 1e-6),
    default("decoder_start_token_id", Fill::Given("pad_token_id")),
    count("decoder_start_token_id", 0),
    // No tensor has a size for positions: llama.cpp's converter takes 512 where there is no key.
    default("n_positions", Fill::Whole(512)),
];
const DECODER_LAYERS: &[Default] = &[or_null("num_decoder_layers", Fill::Same("num_layers"))];

const WIDTH: Dim = Dim::Key("d_model");
const INNER: Dim = Dim::Key("d_ff");
const ALL_HEADS: Dim = Dim::Product(&[Dim::Key("num_heads"), Dim::Key("d_kv")]);
const BIASES: &[Dim] = &[Dim::Key("relative_attention_num_buckets"), Dim::Key("num_heads")];

const SIZES: &[Parameter] = &[
    required("context_length", &["n_positions"]),
    required("embedding_length", &["d_model"]),
    required("feed_forward_length", &["d_ff"]),
    required("block_count", super::tensors::LAYERS),
];
const HEADS_AND_NORMS: &[Parameter] = &[
    required("attention.head_count", &["num_heads"]),
    required("attention.key_length", &["d_kv"]),
    required("attention.value_length", &["d_kv"]),
    required_number("attention.layer_norm_epsilon", &["layer_norm_epsilon"]),
    required("attention.relative_buckets_count", &["relative_attention_num_buckets"]),
    required_number("attention.layer_norm_rms_epsilon", &["layer_norm_epsilon"]),
];

/// The token embeddings, under one or several of three names.
const SHARED: &[Rule] = &[
    Rule::new("shared", "token_embd", &[VOCAB, WIDTH]).any_of(),
    Rule::new("encoder.embed_tokens", "token_embd", &[VOCAB, WIDTH]).optional().any_of(),
    Rule::new("decoder.embed_tokens", "token_embd", &[VOCAB, WIDTH]).optional().any_of(),
];

/// The two forms of the feed-forward part.
const GATED: &str = "a gate";
const PLAIN: &str = "no gate";

fn first(_: &Config, layer: u64) -> bool {
    layer == 0
}

const ENCODER: &[Rule] = &[
    Rule::new("encoder.final_layer_norm", "enc.output_norm", &[WIDTH]),
    Rule::new("encoder.block.{}.layer.0.layer_norm", "enc.blk.{}.attn_norm", &[WIDTH]),
    Rule::new("encoder.block.{}.layer.0.SelfAttention.q", "enc.blk.{}.attn_q", &[ALL_HEADS, WIDTH]),
    Rule::new("encoder.block.{}.layer.0.SelfAttention.k", "enc.blk.{}.attn_k", &[ALL_HEADS, WIDTH]),
    Rule::new("encoder.block.{}.layer.0.SelfAttention.v", "enc.blk.{}.attn_v", &[ALL_HEADS, WIDTH]),
    Rule::new("encoder.block.{}.layer.0.SelfAttention.o", "enc.blk.{}.attn_o", &[WIDTH, ALL_HEADS]),
    // UMT5 has biases in every layer, the others in the first.
    Rule::new(
        "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias",
        "enc.blk.{}.attn_rel_b",
        BIASES,
    )
    .in_layers(first),
    Rule::new("encoder.block.{}.layer.1.layer_norm", "enc.blk.{}.ffn_norm", &[WIDTH]),
    Rule::new(
        "encoder.block.{}.layer.1.DenseReluDense.wi_0",
        "enc.blk.{}.ffn_gate",
        &[INNER, WIDTH],
    )
    .form(GATED),
    Rule::new("encoder.block.{}.layer.1.DenseReluDense.wi_1", "enc.blk.{}.ffn_up", &[INNER, WIDTH])
        .form(GATED),
    Rule::new("encoder.block.{}.layer.1.DenseReluDense.wi", "enc.blk.{}.ffn_up", &[INNER, WIDTH])
        .form(PLAIN),
    Rule::new("encoder.block.{}.layer.1.DenseReluDense.wo", "enc.blk.{}.ffn_down", &[WIDTH, INNER]),
];

/// A part of the decoder, of which there are as many as it has layers.
const fn part(source: &'static str, target: &'static str, shape: &'static [Dim]) -> Rule {
    Rule::new(source, target, shape).counted("num_decoder_layers")
}

const DECODER: &[Rule] = &[
    Rule::new("decoder.final_layer_norm", "dec.output_norm", &[WIDTH]),
    part("decoder.block.{}.layer.0.layer_norm", "dec.blk.{}.attn_norm", &[WIDTH]),
    part("decoder.block.{}.layer.0.SelfAttention.q", "dec.blk.{}.attn_q", &[ALL_HEADS, WIDTH]),
    part("decoder.block.{}.layer.0.SelfAttention.k", "dec.blk.{}.attn_k", &[ALL_HEADS, WIDTH]),
    part("decoder.block.{}.layer.0.SelfAttention.v", "dec.blk.{}.attn_v", &[ALL_HEADS, WIDTH]),
    part("decoder.block.{}.layer.0.SelfAttention.o", "dec.blk.{}.attn_o", &[WIDTH, ALL_HEADS]),
    part(
        "decoder.block.{}.layer.0.SelfAttention.relative_attention_bias",
        "dec.blk.{}.attn_rel_b",
        BIASES,
    )
    .in_layers(first),
    part("decoder.block.{}.layer.1.layer_norm", "dec.blk.{}.cross_attn_norm", &[WIDTH]),
    part(
        "decoder.block.{}.layer.1.EncDecAttention.q",
        "dec.blk.{}.cross_attn_q",
        &[ALL_HEADS, WIDTH],
    ),
    part(
        "decoder.block.{}.layer.1.EncDecAttention.k",
        "dec.blk.{}.cross_attn_k",
        &[ALL_HEADS, WIDTH],
    ),
    part(
        "decoder.block.{}.layer.1.EncDecAttention.v",
        "dec.blk.{}.cross_attn_v",
        &[ALL_HEADS, WIDTH],
    ),
    part(
        "decoder.block.{}.layer.1.EncDecAttention.o",
        "dec.blk.{}.cross_attn_o",
        &[WIDTH, ALL_HEADS],
    ),
    part(
        "decoder.block.{}.layer.1.EncDecAttention.relative_attention_bias",
        "dec.blk.{}.cross_attn_rel_b",
        BIASES,
    )
    .optional(),
    part("decoder.block.{}.layer.2.layer_norm", "dec.blk.{}.ffn_norm", &[WIDTH]),
    part("decoder.block.{}.layer.2.DenseReluDense.wi_0", "dec.blk.{}.ffn_gate", &[INNER, WIDTH])
        .form(GATED),
    part("decoder.block.{}.layer.2.DenseReluDense.wi_1", "dec.blk.{}.ffn_up", &[INNER, WIDTH])
        .form(GATED),
    part("decoder.block.{}.layer.2.DenseReluDense.wi", "dec.blk.{}.ffn_up", &[INNER, WIDTH])
        .form(PLAIN),
    part("decoder.block.{}.layer.2.DenseReluDense.wo", "dec.blk.{}.ffn_down", &[WIDTH, INNER]),
];
