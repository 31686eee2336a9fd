//! Falcon: groups of query heads, each with its key and value head, taken apart.

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Constant, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};

pub(super) const FALCON: Architecture = Architecture {
    name: "falcon",
    classes: &["FalconForCausalLM", "RWForCausalLM"],
    defaults: &[model(
        "falcon",
        &[&[
            default("num_hidden_layers", Fill::Given("n_layer")),
            default("num_attention_heads", Fill::Given("n_head")),
            default("num_kv_heads", Fill::Given("n_head_kv")),
            or_null("num_kv_heads", Fill::Same("num_attention_heads")),
            number("layer_norm_epsilon", 1e-5),
            default("ffn_hidden_size", Fill::Sum(&[Dim(&["4", "hidden_size"])])),
            flag("tie_word_embeddings", true),
            // A group of one key and value head has them and its query heads.
            default(GROUPS, Fill::Given("num_kv_heads")),
            default("query heads in a group", Fill::Quotient("num_attention_heads", GROUPS)),
            default(
                "heads in a group",
                Fill::Sum(&[Dim(&["query heads in a group"]), Dim(&["2"])]),
            ),
            default("size of a head", Fill::Quotient("hidden_size", "num_attention_heads")),
        ]],
    )],
    parameters: &[&[
        // Not in config.json.
        Parameter::Constant("context_length", Constant::Count(2048)),
        Parameter::Constant("tensor_data_layout", Constant::Text("jploski")),
        parameters::required("embedding_length", &["hidden_size"]),
        Parameter::With(|config, keys| {
            keys.set_count("feed_forward_length", Dim(&["4", "hidden_size"]).size(config)?);
            Ok(())
        }),
        parameters::required("block_count", &["num_hidden_layers"]),
        parameters::required("attention.head_count", &["num_attention_heads"]),
        parameters::required("attention.head_count_kv", &["num_kv_heads"]),
        parameters::required_number("attention.layer_norm_epsilon", &["layer_norm_epsilon"]),
        Parameter::FileType,
    ]],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.word_embeddings", "token_embd", &[VOCAB, HIDDEN]),
        Rule::new("lm_head", "output", &[VOCAB, HIDDEN]).unless("tie_word_embeddings"),
        Rule::new("transformer.ln_f", "output_norm", &[HIDDEN]).bias(),
        // One norm for both parts of a layer, or one for each.
        Rule::new("transformer.h.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN])
            .bias()
            .form("one norm"),
        Rule::new("transformer.h.{}.ln_mlp", "blk.{}.attn_norm", &[HIDDEN])
            .bias()
            .form("two norms"),
        Rule::new("transformer.h.{}.ln_attn", "blk.{}.attn_norm_2", &[HIDDEN])
            .bias()
            .form("two norms"),
        Rule::new(
            "transformer.h.{}.self_attention.query_key_value",
            "blk.{}.attn_qkv",
            &[Dim(&[GROUPS, "heads in a group", "size of a head"]), HIDDEN],
        )
        .parts(&[
            &[BY_GROUP, Step::Narrow { axis: 1, from: None, len: QUERIES }, Step::Fold(0, 3)],
            &[
                BY_GROUP,
                Step::Narrow { axis: 1, from: Some(QUERIES), len: Dim(&["1"]) },
                Step::Fold(0, 3),
            ],
            &[
                BY_GROUP,
                Step::Narrow { axis: 1, from: Some(QUERIES), len: TWO },
                Step::Narrow { axis: 1, from: Some(Dim(&["1"])), len: Dim(&["1"]) },
                Step::Fold(0, 3),
            ],
        ])
        .maybe_bias(),
        Rule::new("transformer.h.{}.self_attention.dense", "blk.{}.attn_output", &[HIDDEN, HIDDEN])
            .maybe_bias(),
        Rule::new("transformer.h.{}.mlp.dense_h_to_4h", "blk.{}.ffn_up", &[INNER, HIDDEN])
            .maybe_bias(),
        Rule::new("transformer.h.{}.mlp.dense_4h_to_h", "blk.{}.ffn_down", &[HIDDEN, INNER])
            .maybe_bias(),
    ]],
    ..BASE
};

const GROUPS: &str = "groups of heads";
const QUERIES: Dim = Dim(&["query heads in a group"]);
const INNER: Dim = Dim(&["ffn_hidden_size"]);
const BY_GROUP: Step = Step::Unfold(0, &[Dim(&[GROUPS]), Dim(&["heads in a group"])]);
