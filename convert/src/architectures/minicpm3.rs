//! MiniCPM3: latent attention whose second matrix stays whole; and PLM, without compressed queries.

use super::{
    Architecture, BASE, Default, Fill, minicpm,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};
use crate::tokenizer::Kind;

pub(super) const MINICPM3: Architecture = Architecture {
    name: "minicpm3",
    classes: &["MiniCPM3ForCausalLM"],
    defaults: &[model(
        "minicpm3",
        &[
            &[
                count("max_position_embeddings", 32_768),
                number("rms_norm_eps", 1e-5),
                count("q_lora_rank", 768),
                count("kv_lora_rank", 256),
                count("qk_nope_head_dim", 64),
                count("qk_rope_head_dim", 32),
            ],
            SAME_HEADS,
            SIZES,
        ],
    )],
    parameters: &[
        FILE_TYPE,
        &[
            parameters::required("context_length", &["max_position_embeddings"]),
            parameters::required("embedding_length", &["hidden_size"]),
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("feed_forward_length", &["intermediate_size"]),
            parameters::required("attention.head_count", &["num_attention_heads"]),
            parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
            parameters::required_number("attention.layer_norm_rms_epsilon", &["rms_norm_eps"]),
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::count("attention.q_lora_rank", &["q_lora_rank"]),
            parameters::required("attention.kv_lora_rank", &["kv_lora_rank"]),
            KEY_LENGTH,
            parameters::required("rope.dimension_count", &["qk_rope_head_dim"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        &[
            Rule::new("model.layers.{}.self_attn.q_a_proj", "blk.{}.attn_q_a", &[RANK, HIDDEN]),
            Rule::new("model.layers.{}.self_attn.q_a_layernorm", "blk.{}.attn_q_a_norm", &[RANK]),
            Rule::new("model.layers.{}.self_attn.q_b_proj", "blk.{}.attn_q_b", &[QUERIES, RANK]),
        ],
        LATENT,
        GATED_MLP,
    ],
    computed: minicpm::factors_of_part,
    tokenizers: &[Kind::SentencePiece],
    ..BASE
};

pub(super) const PLM: Architecture = Architecture {
    name: "plm",
    classes: &["PLMForCausalLM"],
    defaults: &[model(
        "plm",
        &[
            &[
                count("max_position_embeddings", 4096),
                number("rms_norm_eps", 1e-6),
                count("kv_lora_rank", 512),
                count("qk_nope_head_dim", 128),
                count("qk_rope_head_dim", 64),
                count("v_head_dim", 128),
            ],
            THETA,
            SAME_HEADS,
            SIZES,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("attention.kv_lora_rank", &["kv_lora_rank"]),
            KEY_LENGTH,
            parameters::required("attention.value_length", &["v_head_dim"]),
            parameters::required("rope.dimension_count", &["qk_rope_head_dim"]),
        ],
    ],
    tensors: &[
        &[
            Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
            Rule::left_out("lm_head", "the output is the token embedding"),
        ],
        OUTPUT_NORM,
        NORMS,
        &[Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERIES, HIDDEN])],
        LATENT,
        &[
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN]),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD]),
        ],
    ],
    check: only_tied,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const ROPE: Dim = Dim::Key("qk_rope_head_dim");
const NOPE: Dim = Dim::Key("qk_nope_head_dim");
const KEYS_OF_HEAD: Dim = Dim::Sum(&[NOPE, ROPE]);
const KEY_LENGTH: Parameter = Parameter::With(|config, keys| {
    keys.set_count("attention.key_length", KEYS_OF_HEAD.size(config)?);
    Ok(())
});
const SIZES: &[Default] =
    &[or_null("v_head_dim", Fill::Quotient("hidden_size", "num_attention_heads"))];
const RANK: Dim = Dim::Key("q_lora_rank");
const QUERIES: Dim = Dim::Product(&[Dim::Key("num_attention_heads"), KEYS_OF_HEAD]);

const LATENT: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.kv_a_proj_with_mqa",
        "blk.{}.attn_kv_a_mqa",
        &[Dim::Sum(&[Dim::Key("kv_lora_rank"), ROPE]), HIDDEN],
    ),
    Rule::new(
        "model.layers.{}.self_attn.kv_a_layernorm",
        "blk.{}.attn_kv_a_norm",
        &[Dim::Key("kv_lora_rank")],
    ),
    Rule::new(
        "model.layers.{}.self_attn.kv_b_proj",
        "blk.{}.attn_kv_b",
        &[
            Dim::Product(&[
                Dim::Key("num_attention_heads"),
                Dim::Sum(&[NOPE, Dim::Key("v_head_dim")]),
            ]),
            Dim::Key("kv_lora_rank"),
        ],
    ),
    Rule::new(
        "model.layers.{}.self_attn.o_proj",
        "blk.{}.attn_output",
        &[HIDDEN, Dim::Product(&[Dim::Key("num_attention_heads"), Dim::Key("v_head_dim")])],
    ),
];
