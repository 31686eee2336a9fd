//! MiniMax M2: experts chosen by corrected scores, norms of all queries and of all keys, a part of each
//! head rotated.

use serde_json::Value;

use crate::{Config, Result};

use super::{
    Architecture, BASE, Default, Fill, deepseek2, mixtral,
    parameters::{self, COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule},
};

pub(super) const MINIMAX_M2: Architecture = Architecture {
    name: "minimax-m2",
    classes: &["MiniMaxM2ForCausalLM"],
    defaults: &[model(
        "minimax_m2",
        &[
            &[
                count("max_position_embeddings", 196_608),
                number("rms_norm_eps", 1e-6),
                number("rope_theta", 5_000_000.0),
                count("num_key_value_heads", 8),
                count("head_dim", 128),
                count("rotary_dim", 64),
                default("num_local_experts", Fill::Given("num_experts")),
                count("num_local_experts", 256),
                count("num_experts_per_tok", 8),
            ],
            parameters::SIGMOID_SCORES,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_feed_forward_length", &["intermediate_size"]),
            parameters::required("rope.dimension_count", &["rotary_dim"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        WIDE_NORMS,
        mixtral::EXPERTS,
        &[Rule::exact(
            "model.layers.{}.block_sparse_moe.e_score_correction_bias",
            "blk.{}.exp_probs_b.bias",
            &[Dim::Key("num_local_experts")],
        )],
    ],
    check: check_heads,
    needs_output: true,
    ..BASE
};

/// MiniMax M3: norms that count from one, an expert that all tokens pass, attention to the blocks that
/// an indexer chooses.
pub(super) const MINIMAX_M3: Architecture = Architecture {
    name: "minimax-m3",
    classes: &["MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration"],
    defaults: &[model("minimax_m3", M3), model("minimax_m3_vl_text", M3)],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::required("expert_feed_forward_length", &["intermediate_size"]),
            parameters::required("rope.dimension_count", &["rotary_dim"]),
            parameters::required("expert_shared_count", &["n_shared_experts"]),
            parameters::required_number("expert_weights_scale", &["routed_scaling_factor"]),
            Parameter::Constant("expert_weights_norm", Constant::Flag(true)),
            parameters::required("attention.indexer.head_count", &[INDEX_HEADS]),
            parameters::required("attention.indexer.key_length", &[INDEX_SIZE]),
            parameters::required("attention.indexer.top_k", &[TOP_BLOCKS]),
            parameters::required("attention.indexer.block_size", &[BLOCK]),
            parameters::required("attention.indexer.local_blocks", &[LOCAL_BLOCKS]),
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
        ],
    ],
    tensors: &[
        EMBEDDING,
        &[
            Rule::new("model.norm", "output_norm", &[HIDDEN]).plus_one(),
            Rule::new("model.layers.{}.input_layernorm", "blk.{}.attn_norm", &[HIDDEN]).plus_one(),
            Rule::new("model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm", &[HIDDEN])
                .plus_one(),
            Rule::new("model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm", &[HEAD]).plus_one(),
            Rule::new("model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm", &[HEAD]).plus_one(),
        ],
        ATTENTION,
        &[
            Rule::new("model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate", &[DENSE, HIDDEN])
                .in_layers(is_dense),
            Rule::new("model.layers.{}.mlp.up_proj", "blk.{}.ffn_up", &[DENSE, HIDDEN])
                .in_layers(is_dense),
            Rule::new("model.layers.{}.mlp.down_proj", "blk.{}.ffn_down", &[HIDDEN, DENSE])
                .in_layers(is_dense),
        ],
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
        INDEXER,
    ],
    rename: |_, name| {
        let renamed = name
            .replace(".block_sparse_moe.e_score", ".block_sparse_moe.gate.e_score")
            .replace(".block_sparse_moe.", ".mlp.")
            .replace(".w1.", ".gate_proj.")
            .replace(".w2.", ".down_proj.")
            .replace(".w3.", ".up_proj.");
        (renamed != name).then_some(renamed)
    },
    ..MINIMAX_M2
};

const M3: &[&[Default]] = &[
    &[
        count("max_position_embeddings", 524_288),
        number("rms_norm_eps", 1e-6),
        number("rope_theta", 5_000_000.0),
        count("head_dim", 128),
        count("rotary_dim", 64),
        count("num_experts_per_tok", 4),
        count("n_shared_experts", 1),
        number("routed_scaling_factor", 2.0),
        default("first_k_dense_replace", Fill::With(leading)),
        default("n_routed_experts", Fill::Same("num_local_experts")),
        default("moe_intermediate_size", Fill::Same("intermediate_size")),
        flag(deepseek2::HAS_CORRECTION, true),
    ],
    parameters::SIGMOID_SCORES,
];

const INDEX_HEADS: &str = "sparse_attention_config.sparse_num_index_heads";
const INDEX_SIZE: &str = "sparse_attention_config.sparse_index_dim";
const TOP_BLOCKS: &str = "sparse_attention_config.sparse_topk_blocks";
const BLOCK: &str = "sparse_attention_config.sparse_block_size";
const LOCAL_BLOCKS: &str = "sparse_attention_config.sparse_local_block";
const DENSE: Dim = Dim::KeyOr("dense_intermediate_size", &FEED_FORWARD);
const INDEX: Dim = Dim::Key(INDEX_SIZE);

/// Layers before the first with experts.
fn leading(config: &Config) -> Result<Option<Value>> {
    let frequency = config.get("moe_layer_freq").and_then(Value::as_array);
    let dense =
        |layers: &Vec<Value>| layers.iter().take_while(|layer| layer.as_u64() == Some(0)).count();
    Ok(frequency.map(|layers| dense(layers).into()))
}

fn is_dense(config: &Config, layer: u64) -> bool {
    !deepseek2::sparse(config, layer)
}

fn indexes(config: &Config, layer: u64) -> bool {
    !is_dense(config, layer)
}

const INDEXER: &[Rule] = &[
    Rule::new(
        "model.layers.{}.self_attn.index_q_proj",
        "blk.{}.indexer.q_proj",
        &[Dim::Product(&[Dim::Key(INDEX_HEADS), Dim::Key(INDEX_SIZE)]), HIDDEN],
    )
    .in_layers(indexes),
    Rule::new("model.layers.{}.self_attn.index_k_proj", "blk.{}.indexer.k_proj", &[INDEX, HIDDEN])
        .in_layers(indexes),
    Rule::new("model.layers.{}.self_attn.index_q_norm", "blk.{}.indexer.q_norm", &[INDEX])
        .plus_one()
        .in_layers(indexes),
    Rule::new("model.layers.{}.self_attn.index_k_norm", "blk.{}.indexer.k_norm", &[INDEX])
        .plus_one()
        .in_layers(indexes),
];
