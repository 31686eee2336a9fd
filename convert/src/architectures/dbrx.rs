//! DBRX: sixteen experts, whose matrices lie one below the other in one tensor.

use super::{
    Architecture, BASE,
    parameters::{self, Constant, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};
use crate::tokenizer::Kind;

pub(super) const DBRX: Architecture = Architecture {
    name: "dbrx",
    classes: &["DbrxForCausalLM"],
    defaults: &[model("dbrx", &[&[count("max_seq_len", 2048)]])],
    parameters: &[
        &[
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("context_length", &["max_seq_len"]),
            parameters::required("embedding_length", &["d_model"]),
            parameters::required("feed_forward_length", &["ffn_config.ffn_hidden_size"]),
            parameters::required("attention.head_count", &["n_heads"]),
            parameters::required("attention.head_count_kv", &["attn_config.kv_n_heads"]),
            parameters::required_number("rope.freq_base", &["attn_config.rope_theta"]),
            parameters::required_number("attention.clamp_kqv", &["attn_config.clip_qkv"]),
            parameters::required("expert_count", &["ffn_config.moe_num_experts"]),
            parameters::required("expert_used_count", &["ffn_config.moe_top_k"]),
            Parameter::Constant("attention.layer_norm_epsilon", Constant::Number(1e-5)),
        ],
        FILE_TYPE,
    ],
    prefix: "transformer.",
    tensors: &[&[
        Rule::new("transformer.wte", "token_embd", &[VOCAB, WIDTH]),
        Rule::new("lm_head", "output", &[VOCAB, WIDTH]).head(),
        Rule::new("transformer.norm_f", "output_norm", &[WIDTH]),
        Rule::new("transformer.blocks.{}.norm_attn_norm.norm_1", "blk.{}.attn_norm", &[WIDTH]),
        Rule::new(
            "transformer.blocks.{}.norm_attn_norm.attn.Wqkv",
            "blk.{}.attn_qkv",
            &[ROWS, WIDTH],
        ),
        Rule::new(
            "transformer.blocks.{}.norm_attn_norm.attn.out_proj",
            "blk.{}.attn_output",
            &[WIDTH, WIDTH],
        ),
        Rule::new(
            "transformer.blocks.{}.norm_attn_norm.norm_2",
            "blk.{}.attn_output_norm",
            &[WIDTH],
        ),
        Rule::new("transformer.blocks.{}.ffn.router.layer", "blk.{}.ffn_gate_inp", &[COUNT, WIDTH]),
        Rule::exact(
            "transformer.blocks.{}.ffn.experts.mlp.w1",
            "blk.{}.ffn_gate_exps.weight",
            &[ALL_ROWS, WIDTH],
        )
        .parts(&[&[BY_EXPERT]]),
        Rule::exact(
            "transformer.blocks.{}.ffn.experts.mlp.v1",
            "blk.{}.ffn_up_exps.weight",
            &[ALL_ROWS, WIDTH],
        )
        .parts(&[&[BY_EXPERT]]),
        Rule::exact(
            "transformer.blocks.{}.ffn.experts.mlp.w2",
            "blk.{}.ffn_down_exps.weight",
            &[ALL_ROWS, WIDTH],
        )
        .parts(&[&[BY_EXPERT, Step::Swap(1, 2)]]),
    ]],
    needs_output: true,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};

const HEAD: Dim = Dim::Derived("values of a head", |config| config.quotient("d_model", "n_heads"));
const ROWS: Dim = Dim::Sum(&[WIDTH, KEYS, KEYS]);
const WIDTH: Dim = Dim::Key("d_model");
const KEYS: Dim = Dim::Product(&[Dim::Key("attn_config.kv_n_heads"), HEAD]);
const COUNT: Dim = Dim::Key("ffn_config.moe_num_experts");
const ALL_ROWS: Dim =
    Dim::Product(&[Dim::Key("ffn_config.moe_num_experts"), Dim::Key("ffn_config.ffn_hidden_size")]);
const BY_EXPERT: Step = Step::Unfold(0, &[COUNT]);
