//! MiniCPM: Llama's graph with scales that follow from its sizes.

use super::{
    Architecture, BASE, Default,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Keys, Parameter},
    rope::Rope,
    shared::*,
    tensors::layers,
};
use crate::{Config, Result, model::Tensor, tokenizer::Kind};

pub(super) const MINICPM: Architecture = Architecture {
    name: "minicpm",
    classes: &["MiniCPMForCausalLM"],
    defaults: &[model("minicpm", &[GIVEN, SAME_HEADS])],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[Parameter::With(|config, keys| {
            let number = |key: &str| Ok::<_, crate::Error>(config.number(key)?.unwrap_or(1.0));
            let width = HIDDEN.size(config)? as f64;
            keys.set_number("embedding_scale", number("scale_emb")?);
            keys.set_number(
                "residual_scale",
                number("scale_depth")? / (layers(config)? as f64).sqrt(),
            );
            keys.set_number("logit_scale", width / number("dim_model_base")?);
            Ok(())
        })],
    ],
    tensors: &[EMBEDDING, OUTPUT_NORM, NORMS, ROTARY_ATTENTION, GATED_MLP],
    check: check_heads,
    computed: |config, _| long_factors(config, HEAD.size(config)?),
    tokenizers: &[Kind::SentencePiece],
    ..BASE
};

const GIVEN: &[Default] = &[
    count("max_position_embeddings", 2048),
    number("rms_norm_eps", 1e-6),
    number("rope_theta", 10_000.0),
    number("scale_emb", 1.0),
    number("scale_depth", 1.0),
    number("dim_model_base", 1.0),
];

/// The factors for contexts longer and shorter than the original one, for so many rotated values.
pub(super) fn long_factors(config: &Config, rotated: u64) -> Result<Vec<Tensor>> {
    let rope = Rope::read(config)?;
    let names = ["long_factor", "short_factor"];
    let [long, short] = names.map(|name| rope.numbers(name));
    let (long, short) = (long?, short?);
    if long.is_none() && short.is_none() {
        return Ok(Vec::new());
    }
    let mut tensors = Vec::new();
    for (name, factors) in names.into_iter().zip([long, short]) {
        let Some(factors) = factors.filter(|factors| factors.len() as u64 == rotated / 2) else {
            let expected = format!("a list of {} numbers", rotated / 2);
            return Err(config.wrong(&rope.shown(name), "of another length or missing", &expected));
        };
        tensors.push(vector(
            if name == "long_factor" {
                "rope_factors_long.weight"
            } else {
                "rope_factors_short.weight"
            },
            factors,
        ));
    }
    Ok(tensors)
}

/// As a family's [`computed`](Architecture::computed), for the part of a head that is rotated.
pub(super) fn factors_of_part(config: &Config, _: &mut Keys<'_>) -> Result<Vec<Tensor>> {
    long_factors(config, config.require("qk_rope_head_dim")?)
}
