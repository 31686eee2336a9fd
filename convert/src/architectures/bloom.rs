//! BLOOM: positions by ALiBi, queries, keys and values of each head together, a norm of embeddings.

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};

pub(super) const BLOOM: Architecture = Architecture {
    name: "bloom",
    classes: &["BloomForCausalLM", "BloomModel"],
    defaults: &[model(
        "bloom",
        &[&[
            count("vocab_size", 250_880),
            default("hidden_size", Fill::Given("n_embed")),
            count("hidden_size", 64),
            default("num_attention_heads", Fill::Given("n_head")),
            count("num_attention_heads", 8),
            count("n_layer", 2),
            number("layer_norm_epsilon", 1e-5),
            flag("tie_word_embeddings", true),
            // Positions are not learned; the reference converter puts the width for want of better.
            default("seq_length", Fill::Same("hidden_size")),
        ]],
    )],
    parameters: &[&[
        parameters::required("context_length", &["seq_length"]),
        parameters::required("embedding_length", &["hidden_size"]),
        Parameter::With(|config, keys| {
            keys.set_count("feed_forward_length", INNER.size(config)?);
            Ok(())
        }),
        parameters::required("block_count", super::tensors::LAYERS),
        parameters::required("attention.head_count", &["num_attention_heads"]),
        parameters::required("attention.head_count_kv", &["num_attention_heads"]),
        parameters::required_number("attention.layer_norm_epsilon", &["layer_norm_epsilon"]),
        Parameter::FileType,
    ]],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.word_embeddings", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("transformer.word_embeddings_layernorm", "token_embd_norm", &[HIDDEN]).bias(),
        Rule::new("transformer.ln_f", "output_norm", &[HIDDEN]).bias(),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).head(),
        Rule::new("transformer.h.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).bias(),
        Rule::new(
            "transformer.h.{}.self_attention.query_key_value",
            "blk.{}.attn_qkv",
            &[Dim::Product(&[Dim::Number(3), Dim::Key("hidden_size")]), HIDDEN],
        )
        .parts(&[&[Step::Unfold(0, &[HEADS, Dim::Number(3)]), Step::Swap(0, 1), Step::Fold(0, 3)]])
        .bias(),
        Rule::new("transformer.h.{}.self_attention.dense", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
            .bias(),
        Rule::new("transformer.h.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN]).bias(),
        Rule::new("transformer.h.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", &[INNER, HIDDEN]).bias(),
        Rule::new("transformer.h.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down", &[HIDDEN, INNER]).bias(),
    ]],
    ..BASE
};

const INNER: Dim = Dim::Product(&[Dim::Number(4), Dim::Key("hidden_size")]);
