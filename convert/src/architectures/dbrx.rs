//! DBRX: sixteen experts, whose matrices lie one below the other in one tensor.

use serde_json::Value;

use super::{
    Architecture, BASE, Fill,
    parameters::{self, Constant, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};
use crate::{Config, Result, tokenizer::Kind};

pub(super) const DBRX: Architecture = Architecture {
    name: "dbrx",
    classes: &["DbrxForCausalLM"],
    defaults: &[model(
        "dbrx",
        &[&[
            count("max_seq_len", 2048),
            default(
                INNER_KEY,
                Fill::With(|config| inside(config, "ffn_config", "ffn_hidden_size")),
            ),
            default(
                EXPERTS_KEY,
                Fill::With(|config| inside(config, "ffn_config", "moe_num_experts")),
            ),
            default(USED_KEY, Fill::With(|config| inside(config, "ffn_config", "moe_top_k"))),
            default(
                KEY_HEADS_KEY,
                Fill::With(|config| inside(config, "attn_config", "kv_n_heads")),
            ),
            default(THETA_KEY, Fill::With(|config| inside(config, "attn_config", "rope_theta"))),
            default(CLAMP_KEY, Fill::With(|config| inside(config, "attn_config", "clip_qkv"))),
        ]],
    )],
    parameters: &[
        &[
            parameters::required("block_count", super::tensors::LAYERS),
            parameters::required("context_length", &["max_seq_len"]),
            parameters::required("embedding_length", &["d_model"]),
            parameters::required("feed_forward_length", &[INNER_KEY]),
            parameters::required("attention.head_count", &["n_heads"]),
            parameters::required("attention.head_count_kv", &[KEY_HEADS_KEY]),
            parameters::required_number("rope.freq_base", &[THETA_KEY]),
            parameters::required_number("attention.clamp_kqv", &[CLAMP_KEY]),
            parameters::required("expert_count", &[EXPERTS_KEY]),
            parameters::required("expert_used_count", &[USED_KEY]),
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

const INNER_KEY: &str = "ffn_hidden_size of ffn_config";
const EXPERTS_KEY: &str = "moe_num_experts of ffn_config";
const USED_KEY: &str = "moe_top_k of ffn_config";
const KEY_HEADS_KEY: &str = "kv_n_heads of attn_config";
const THETA_KEY: &str = "rope_theta of attn_config";
const CLAMP_KEY: &str = "clip_qkv of attn_config";
const HEAD: Dim = Dim::Derived("values of a head", |config| config.quotient("d_model", "n_heads"));
const ROWS: Dim = Dim::Sum(&[WIDTH, KEYS, KEYS]);
const WIDTH: Dim = Dim::Key("d_model");
const KEYS: Dim = Dim::Product(&[Dim::Key(KEY_HEADS_KEY), HEAD]);
const COUNT: Dim = Dim::Key(EXPERTS_KEY);
const ALL_ROWS: Dim = Dim::Product(&[Dim::Key(EXPERTS_KEY), Dim::Key(INNER_KEY)]);
const BY_EXPERT: Step = Step::Unfold(0, &[COUNT]);

/// The value of a key in a block of config.json.
fn inside(config: &Config, block: &str, key: &str) -> Result<Option<Value>> {
    Ok(config.get(block).and_then(|block| block.get(key)).cloned())
}
