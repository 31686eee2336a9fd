//! ChatGLM and GLM-4-9B, under the names of their authors and of transformers.

use crate::{Config, tokenizer::Adjustment};

use super::{
    Architecture, BASE, Default, Fill,
    glm::{FUSED_MLP, SIZES},
    parameters::{self, Parameter},
    rope,
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const CHATGLM: Architecture = Architecture {
    name: "chatglm",
    classes: &["GlmForCausalLM", "ChatGLMModel", "ChatGLMForConditionalGeneration"],
    defaults: &[part("glm", SIZES, GLM_DEFAULTS), model("chatglm", AUTHORS_DEFAULTS)],
    parameters: &[PARAMETERS],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ATTENTION_OF_BOTH, FUSED_MLP],
    wrappers: &["transformer."],
    rename: name_of_today,
    check: check_heads,
    special: &[Adjustment::Roles(&[
        ("eos", "<|endoftext|>"),
        ("eot", "<|user|>"),
        ("unk", "<|endoftext|>"),
    ])],
    ..BASE
};

const GLM_DEFAULTS: &[&[Default]] = &[&[
    count("max_position_embeddings", 131_072),
    number("rms_norm_eps", 1.562_5e-7),
    number("partial_rotary_factor", 0.5),
    count("num_key_value_heads", 2),
    count("head_dim", 128),
    flag("attention_bias", true),
]];

const AUTHORS_DEFAULTS: &[&[Default]] = &[
    &[
        default("num_hidden_layers", Fill::Given("num_layers")),
        default("intermediate_size", Fill::Same("ffn_hidden_size")),
        default("vocab_size", Fill::Given("padded_vocab_size")),
        default("num_key_value_heads", Fill::Given("multi_query_group_num")),
        default("max_position_embeddings", Fill::Given("seq_length")),
        number("partial_rotary_factor", 0.5),
    ],
    SAME_HEADS,
];

const PARAMETERS: &[Parameter] = &[
    Parameter::With(|config, keys| {
        // The reference looks for one name of the context alone, and takes the width for it.
        let given = config.positive("seq_length")?;
        let longest = match config.like_reference() {
            true => None,
            false => config.positive("max_position_embeddings")?,
        };
        let context = given.or(longest);
        keys.set_count("context_length", context.map_or_else(|| HIDDEN.size(config), Ok)?);
        Ok(())
    }),
    parameters::required("embedding_length", &["hidden_size"]),
    parameters::required("feed_forward_length", &["intermediate_size"]),
    parameters::required("block_count", &["num_hidden_layers"]),
    parameters::required("attention.head_count", &["num_attention_heads"]),
    parameters::required("attention.head_count_kv", &["num_key_value_heads"]),
    Parameter::With(|config, keys| {
        // Nor does it read what transformers calls the epsilon, the base and the size of a head.
        let given = config.number("layernorm_epsilon")?;
        let own = if config.like_reference() { None } else { config.number("rms_norm_eps")? };
        keys.set_number("attention.layer_norm_rms_epsilon", given.or(own).unwrap_or(1e-5));
        Ok(())
    }),
    Parameter::FileType,
    Parameter::With(|config, keys| {
        let rope = rope::Rope::read(config)?;
        let head = match config.positive("attention_dim")? {
            Some(head) => head,
            None if config.like_reference() => {
                config.quotient("hidden_size", "num_attention_heads")?
            }
            None => HEAD.size(config)?,
        };
        let share = rope.partial()?.unwrap_or(0.5);
        keys.set_count("rope.dimension_count", (head as f64 * share) as u64);
        keys.set_global("tokenizer.ggml.add_bos_token", false);
        let base = match config.like_reference() {
            true => None,
            false => rope.number("rope_theta")?,
        };
        let ratio = config.number("rope_ratio")?.unwrap_or(1.0);
        keys.set_number("rope.freq_base", base.unwrap_or(10_000.0) * ratio);
        Ok(())
    }),
];

const ALL_HEADS: Dim = Dim::Sum(&[QUERY, KEY_VALUE, KEY_VALUE]);

const ATTENTION_OF_BOTH: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERY, HIDDEN])
        .bias_if("attention_bias")
        .form("three matrices"),
    Rule::new("model.layers.{}.self_attn.k_proj", "blk.{}.attn_k", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .form("three matrices"),
    Rule::new("model.layers.{}.self_attn.v_proj", "blk.{}.attn_v", &[KEY_VALUE, HIDDEN])
        .bias_if("attention_bias")
        .form("three matrices"),
    Rule::new(
        "model.layers.{}.self_attention.query_key_value",
        "blk.{}.attn_qkv",
        &[ALL_HEADS, HIDDEN],
    )
    .maybe_bias()
    .form("one matrix"),
    Rule::new("model.layers.{}.self_attn.o_proj", "blk.{}.attn_output", &[HIDDEN, QUERY])
        .maybe_bias(),
    Rule { exact: true, ..Rule::left_out("rotary_pos_emb.inv_freq", "it follows from the keys") },
];

/// ChatGLM's names of what transformers names otherwise today.
fn name_of_today(_: &Config, name: &str) -> Option<String> {
    let name = name.strip_prefix("encoder.").unwrap_or(name);
    let (start, rest) = name.split_once('.')?;
    match start {
        "embedding" => Some(format!("model.embed_tokens.{}", rest.rsplit('.').next()?)),
        "final_layernorm" => Some(format!("model.norm.{rest}")),
        "output_layer" => Some(format!("lm_head.{rest}")),
        "layers" => Some(
            format!("model.layers.{rest}")
                .replace("self_attention.dense.", "self_attn.o_proj.")
                .replace("mlp.dense_h_to_4h.", "mlp.gate_up_proj.")
                .replace("mlp.dense_4h_to_h.", "mlp.down_proj."),
        ),
        _ => None,
    }
}
