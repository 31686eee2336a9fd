//! DeepSeek-OCR and Unlimited-OCR, their text model: DeepSeek's experts, heads of their own.

use crate::{Config, Result, model::Tensor};

use super::{
    Architecture, BASE, deepseek2,
    parameters::{self, COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    rope::Rope,
    shared::*,
};

pub(super) const DEEPSEEK_OCR: Architecture = Architecture {
    name: "deepseek2-ocr",
    classes: &["DeepseekOCRForCausalLM", "UnlimitedOCRForCausalLM"],
    defaults: &[model(
        "deepseek_v2",
        &[
            &[
                count("max_position_embeddings", 2048),
                number("rms_norm_eps", 1e-6),
                count("first_k_dense_replace", 0),
                count("n_shared_experts", 2),
            ],
            THETA,
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            parameters::whole("leading_dense_block_count", &["first_k_dense_replace"]),
            parameters::required("vocab_size", &["vocab_size"]),
            parameters::required("expert_feed_forward_length", &["moe_intermediate_size"]),
            parameters::required("expert_count", &["n_routed_experts"]),
            parameters::required("expert_shared_count", &["n_shared_experts"]),
            parameters::number("expert_weights_scale", &["routed_scaling_factor"]),
            Parameter::With(|config, keys| {
                if config.flag("norm_topk_prob")? {
                    keys.set("expert_weights_norm", true);
                }
                // The published files say 0, which stands for all of a head.
                let turned = config.whole("qk_rope_head_dim")?.unwrap_or(0);
                keys.set_count("rope.dimension_count", turned);
                let window = config.alias(&["sliding_window_size", "sliding_window"]);
                if let Some(window @ 1..) =
                    window.map(|key| config.whole(key)).transpose()?.flatten()
                {
                    keys.set_count("attention.sliding_window", window);
                }
                if let Some(scale) = Rope::read(config)?.number("mscale_all_dim")? {
                    keys.set_number("rope.scaling.yarn_log_multiplier", 0.1 * scale);
                }
                Ok(())
            }),
        ],
    ],
    tensors: &[
        deepseek2::ENDS,
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        deepseek2::DENSE_MLP,
        deepseek2::EXPERTS,
        deepseek2::CORRECTION,
    ],
    check,
    computed: template,
    ..BASE
};

fn check(config: &Config) -> Result<()> {
    if config.flag("use_mla")? {
        let expected = "false: llama.cpp's graph has no latent attention";
        return Err(config.wrong("use_mla", "true", expected));
    }
    check_heads(config)
}

/// These models are asked without turns; a template of their own takes its place.
fn template(_: &Config, keys: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    keys.set_global(
        "tokenizer.chat_template",
        "{% for m in messages %}{{m['content']}}{% endfor %}",
    );
    Ok(Vec::new())
}
