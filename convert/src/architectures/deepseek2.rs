//! DeepSeek V2 and V3: latent attention, whose second matrix is taken apart, and many experts.

use crate::Config;

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    rope::Rope,
    shared::*,
    tensors::{Dim, Rule, Step, Target},
};

pub(super) const DEEPSEEK2: Architecture = Architecture {
    name: "deepseek2",
    classes: &[
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "KimiVLForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
        "YoutuForCausalLM",
        "YoutuVLForConditionalGeneration",
    ],
    defaults: &[
        model(
            "deepseek_v2",
            &[
                &[
                    count("max_position_embeddings", 2048),
                    count("first_k_dense_replace", 0),
                    count("q_lora_rank", 1536),
                    count("n_routed_experts", 64),
                    count("n_shared_experts", 2),
                    number("routed_scaling_factor", 1.0),
                    count("moe_intermediate_size", 1407),
                ],
                GIVEN,
            ],
        ),
        model("deepseek_v3", V3),
        model("kimi_k2", V3),
        model("youtu", DENSE),
        model("youtu_vl", DENSE),
    ],
    parameters: &[COMMON, KEY_LENGTHS, FILE_TYPE, OWN],
    tensors: &[
        ENDS,
        OUTPUT_NORM,
        NORMS,
        WHOLE_QUERIES,
        LATENT_ATTENTION,
        DENSE_MLP,
        EXPERTS,
        CORRECTION,
    ],
    beyond: Some("layers that predict further tokens are not converted"),
    ..BASE
};

const V3: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 4096),
        count("first_k_dense_replace", 3),
        count("q_lora_rank", 1536),
        count("n_routed_experts", 256),
        count("n_shared_experts", 1),
        count("num_experts_per_tok", 8),
        number("routed_scaling_factor", 2.5),
        count("moe_intermediate_size", 2048),
        count("n_group", 8),
        count("topk_group", 4),
        flag("norm_topk_prob", true),
        flag(HAS_CORRECTION, true),
    ],
    parameters::SIGMOID_SCORES,
    GIVEN,
];

/// Youtu: latent attention without experts.
const DENSE: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 131_072),
        default("first_k_dense_replace", Fill::Same("num_hidden_layers")),
        count("q_lora_rank", 1536),
        default("moe_intermediate_size", Fill::Same("intermediate_size")),
        flag("tie_word_embeddings", true),
    ],
    GIVEN,
];

pub(super) const GIVEN: &[Default] = &[
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    count("kv_lora_rank", 512),
    count("qk_nope_head_dim", 128),
    count("qk_rope_head_dim", 64),
    count("v_head_dim", 128),
];

const NOPE: Dim = Dim::Key("qk_nope_head_dim");
/// Nothing, where config.json says that attention goes without rotation.
pub(super) const ROPE: Dim = Dim::Derived("qk_rope_head_dim", |config| {
    let nothing = config.whole("qk_rope_head_dim")? == Some(0) && config.flag("mla_use_nope")?;
    if nothing { Ok(0) } else { config.require("qk_rope_head_dim") }
});
const VALUES: Dim = Dim::Key("v_head_dim");
const RANK: Dim = Dim::Key("kv_lora_rank");
pub(super) const QUERY_RANK: Dim = Dim::Key("q_lora_rank");
pub(super) const QUERIES: Dim = Dim::Product(&[HEADS, Dim::Sum(&[NOPE, ROPE])]);
pub(super) const HAS_CORRECTION: &str = "has e_score_correction_bias";

pub(super) const OWN: &[Parameter] = &[
    // Latent attention has one head of keys and values as far as the graph is concerned.
    Parameter::Constant("attention.head_count_kv", parameters::Constant::Count(1)),
    parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
    parameters::required("vocab_size", &["vocab_size"]),
    parameters::count("attention.q_lora_rank", &["q_lora_rank"]),
    parameters::required("attention.kv_lora_rank", &["kv_lora_rank"]),
    Parameter::With(|config, keys| {
        let (rank, nope, rope) = (RANK.size(config)?, NOPE.size(config)?, ROPE.size(config)?);
        keys.set_count("attention.key_length", rank.saturating_add(rope));
        keys.set_count("attention.value_length", rank);
        keys.set_count("attention.key_length_mla", nope.saturating_add(rope));
        keys.set_count("attention.value_length_mla", VALUES.size(config)?);
        Ok(())
    }),
    parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
    parameters::whole("expert_count", &["n_routed_experts"]),
    Parameter::Whole {
        key: "expert_shared_count",
        from: &["n_shared_experts"],
        otherwise: Some(0),
    },
    parameters::number("expert_weights_scale", &["routed_scaling_factor"]),
    Parameter::With(|config, keys| {
        if config.flag("norm_topk_prob")? {
            keys.set("expert_weights_norm", true);
        }
        keys.set_count("rope.dimension_count", ROPE.size(config)?);
        if let Some(scale) = Rope::read(config)?.number("mscale_all_dim")? {
            keys.set_number("rope.scaling.yarn_log_multiplier", 0.1 * scale);
        }
        Ok(())
    }),
];

/// Queries of models that do not compress them.
pub(super) const WHOLE_QUERIES: &[Rule] =
    &[Rule::new("model.layers.{}.self_attn.q_proj", "blk.{}.attn_q", &[QUERIES, HIDDEN])
        .without("q_lora_rank")];

pub(super) const LATENT_ATTENTION: &[Rule] = &[
    Rule::new("model.layers.{}.self_attn.q_a_proj", "blk.{}.attn_q_a", &[QUERY_RANK, HIDDEN])
        .with("q_lora_rank")
        .maybe_bias(),
    Rule::new("model.layers.{}.self_attn.q_a_layernorm", "blk.{}.attn_q_a_norm", &[QUERY_RANK])
        .with("q_lora_rank"),
    Rule::new("model.layers.{}.self_attn.q_b_proj", "blk.{}.attn_q_b", &[QUERIES, QUERY_RANK])
        .with("q_lora_rank"),
    KV_A,
    KV_A_NORM,
    KV_B,
    Rule::new(
        "model.layers.{}.self_attn.o_proj",
        "blk.{}.attn_output",
        &[HIDDEN, Dim::Product(&[Dim::Key("num_attention_heads"), Dim::Key("v_head_dim")])],
    )
    .maybe_bias(),
];

pub(super) const KV_A: Rule = Rule::new(
    "model.layers.{}.self_attn.kv_a_proj_with_mqa",
    "blk.{}.attn_kv_a_mqa",
    &[Dim::Sum(&[RANK, ROPE]), HIDDEN],
)
.maybe_bias();

pub(super) const KV_A_NORM: Rule =
    Rule::new("model.layers.{}.self_attn.kv_a_layernorm", "blk.{}.attn_kv_a_norm", &[RANK]);

/// Keys transposed, so that the graph can absorb them into the queries.
pub(super) const KV_B: Rule = Rule::split(
    "model.layers.{}.self_attn.kv_b_proj",
    &[
        Target {
            name: "blk.{}.attn_k_b",
            parts: &[&[BY_HEAD, Step::Narrow { axis: 1, from: None, len: NOPE }, Step::Swap(1, 2)]],
        },
        Target {
            name: "blk.{}.attn_v_b",
            parts: &[&[BY_HEAD, Step::Narrow { axis: 1, from: Some(NOPE), len: VALUES }]],
        },
    ],
    &[Dim::Product(&[HEADS, Dim::Sum(&[NOPE, VALUES])]), RANK],
);

const BY_HEAD: Step = Step::Unfold(0, &[HEADS]);

const WIDTH: Dim = Dim::Key("moe_intermediate_size");
const SHARED: Dim =
    Dim::Product(&[Dim::Key("n_shared_experts"), Dim::Key("moe_intermediate_size")]);
const COUNT: Dim = Dim::Key("n_routed_experts");

/// The head is left out where the token embedding takes its place.
pub(super) const ENDS: &[Rule] = &[
    Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN])
        .head_unless("tie_word_embeddings", "the output is the token embedding"),
];

/// The dense part of the layers without experts.
pub(super) const DENSE_MLP: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[FEED_FORWARD, HIDDEN])
        .in_layers(dense),
    Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, FEED_FORWARD])
        .in_layers(dense),
];

/// What corrects the scores of experts when they are chosen.
pub(super) const CORRECTION: &[Rule] = &[CORRECTION_OF_SCORES];

pub(super) const CORRECTION_OF_SCORES: Rule = Rule::exact(
    "model.layers.{}.mlp.gate.e_score_correction_bias",
    "blk.{}.exp_probs_b.bias",
    &[COUNT],
)
.if_true(HAS_CORRECTION)
.in_layers(sparse);

/// The experts and those that all tokens pass.
pub(super) const EXPERTS: &[Rule] = &[
    Rule::new("model.layers.{}.mlp.gate", "blk.{}.ffn_gate_inp", &[COUNT, HIDDEN])
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.down_proj", "blk.{}.ffn_down_exps", &[HIDDEN, WIDTH])
        .stacked("n_routed_experts")
        .form(APART)
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.gate_proj", "blk.{}.ffn_gate_exps", &[WIDTH, HIDDEN])
        .stacked("n_routed_experts")
        .form(APART)
        .in_layers(sparse),
    Rule::new("model.layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up_exps", &[WIDTH, HIDDEN])
        .stacked("n_routed_experts")
        .form(APART)
        .in_layers(sparse),
    Rule::exact(
        "model.layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[COUNT, HIDDEN, WIDTH],
    )
    .form(IN_ONE)
    .in_layers(sparse),
    Rule::split_exact(
        "model.layers.{}.mlp.experts.gate_up_proj",
        halves!(1, "blk.{}.ffn_gate_exps.weight", "blk.{}.ffn_up_exps.weight", WIDTH),
        &[COUNT, Dim::Product(&[TWO, Dim::Key("moe_intermediate_size")]), HIDDEN],
    )
    .form(IN_ONE)
    .in_layers(sparse),
    Rule::new(
        "model.layers.{}.mlp.shared_experts.gate_proj",
        "blk.{}.ffn_gate_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(shares),
    Rule::new(
        "model.layers.{}.mlp.shared_experts.up_proj",
        "blk.{}.ffn_up_shexp",
        &[SHARED, HIDDEN],
    )
    .in_layers(shares),
    Rule::new(
        "model.layers.{}.mlp.shared_experts.down_proj",
        "blk.{}.ffn_down_shexp",
        &[HIDDEN, SHARED],
    )
    .in_layers(shares),
];

fn number_of(config: &Config, key: &str) -> u64 {
    config.whole(key).ok().flatten().unwrap_or(0)
}

fn dense(config: &Config, layer: u64) -> bool {
    !sparse(config, layer)
}

pub(super) fn sparse(config: &Config, layer: u64) -> bool {
    number_of(config, "n_routed_experts") > 0
        && layer >= number_of(config, "first_k_dense_replace")
        && layer.checked_rem(number_of(config, "moe_layer_freq")).is_none_or(|rest| rest == 0)
}

fn shares(config: &Config, layer: u64) -> bool {
    sparse(config, layer) && number_of(config, "n_shared_experts") > 0
}
