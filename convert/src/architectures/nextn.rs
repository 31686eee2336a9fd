//! Layers after the last that predict further tokens (MTP, `NextN`): how many a checkpoint has, and
//! what they have beside an ordinary layer.

use gguf_io::Checkpoint;

use crate::{Config, Result};

pub(super) use super::layers::Further;

use super::{
    family::Architecture,
    layers::layers,
    names::{own_name, split_numbers},
    parameter::{Keys, Parameter},
    rule::{Dim, Rule},
    shared::{HIDDEN, VOCAB},
};

/// Counts them: those that the checkpoint has. Fine-tunes lose them while config.json keeps their
/// number; the reference then writes a file that llama.cpp does not load.
pub(crate) fn count(
    architecture: &Architecture,
    config: &mut Config,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let (key, by_name) = match architecture.further {
        Further::None => return Ok(()),
        Further::Counted(key) => (key, false),
        Further::CountedOrNamed(key) => (key, true),
    };
    let last = layers(config)?;
    let stated = config.whole(key)?.unwrap_or(0);
    let (mut found, mut is_marked) = (0u64, false);
    for name in checkpoint.tensors.keys() {
        let (pattern, layer, _) = split_numbers(&own_name(architecture, config, name));
        if pattern.contains("layers.{}.") && layer >= last {
            found = found.max((layer - last).saturating_add(1));
            is_marked |= pattern.ends_with(".eh_proj.weight");
        }
    }
    let count = match stated {
        0 if by_name => found,
        // Classes that assume one leave the key out; other layers beyond the last are too many.
        0 if is_marked && config.get(key).is_none() => found,
        stated if found == 0 && stated > 0 => {
            tracing::warn!(
                kind = "nextn",
                "config.json: {key} is {stated}, but the checkpoint has no layers that predict \
                 further tokens: the model is converted without them"
            );
            0
        }
        stated => stated,
    };
    config.set_further_layers(count);
    Ok(())
}

/// The number of converted layers that predict further tokens.
pub(super) fn number(config: &Config) -> u64 {
    config.further_layers()
}

/// Whether a layer predicts further tokens.
pub(super) fn is_further(config: &Config, layer: u64) -> bool {
    layers(config).is_ok_and(|last| layer >= last)
}

/// Whether it is the first that does.
fn is_first(config: &Config, layer: u64) -> bool {
    layers(config).is_ok_and(|last| layer == last)
}

/// Their number, where there are any.
pub(super) const IF_ANY: Parameter = Parameter::With(|config, keys| {
    if number(config) > 0 {
        keys.set_count("nextn_predict_layers", number(config));
    }
    Ok(())
});

/// Their number, where config.json has the key, be it 0, or the checkpoint has some.
pub(super) fn if_given(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    if let Further::Counted(key) | Further::CountedOrNamed(key) = keys.further()
        && (config.get(key).is_some() || number(config) > 0)
    {
        keys.set_count("nextn_predict_layers", number(config));
    }
    Ok(())
}

const BOTH: Dim = Dim::Product(&[Dim::Number(2), Dim::Key("hidden_size")]);

/// What such a layer has of its own, where each is numbered as a layer.
pub(super) const NEXTN: &[Rule] = &[
    Rule::new("model.layers.{}.eh_proj", "blk.{}.nextn.eh_proj", &[HIDDEN, BOTH])
        .in_layers(is_further),
    Rule::new("model.layers.{}.enorm", "blk.{}.nextn.enorm", &[HIDDEN]).in_layers(is_further),
    Rule::new("model.layers.{}.hnorm", "blk.{}.nextn.hnorm", &[HIDDEN]).in_layers(is_further),
    Rule::new("model.layers.{}.shared_head.norm", "blk.{}.nextn.shared_head_norm", &[HIDDEN])
        .optional()
        .in_layers(is_further),
];

/// Embedding and head that some have of their own beside [`NEXTN`].
pub(super) const OWN_ENDS: &[Rule] = &[
    Rule::new("model.layers.{}.embed_tokens", "blk.{}.nextn.embed_tokens", &[VOCAB, HIDDEN])
        .optional()
        .in_layers(is_further),
    Rule::new(
        "model.layers.{}.shared_head.head",
        "blk.{}.nextn.shared_head_head",
        &[VOCAB, HIDDEN],
    )
    .optional()
    .in_layers(is_further),
];

/// What Qwen's layers of this kind have together, see [`qwen`].
pub(super) const QWEN_NEXTN: &[Rule] = &[
    Rule::new("model.layers.{}.eh_proj", "blk.{}.nextn.eh_proj", &[HIDDEN, BOTH])
        .in_layers(is_first),
    Rule::new("model.layers.{}.enorm", "blk.{}.nextn.enorm", &[HIDDEN])
        .plus_one()
        .in_layers(is_first),
    Rule::new("model.layers.{}.hnorm", "blk.{}.nextn.hnorm", &[HIDDEN])
        .plus_one()
        .in_layers(is_first),
    Rule::new("model.layers.{}.shared_head.norm", "blk.{}.nextn.shared_head_norm", &[HIDDEN])
        .plus_one()
        .optional()
        .in_layers(is_first),
];

/// Qwen's names of such layers, as those of layers after the last.
pub(super) fn qwen(config: &Config, name: &str) -> Option<String> {
    let name = name.strip_prefix("model.").unwrap_or(name).strip_prefix("mtp.")?;
    let last = layers(config).ok()?;
    if let Some((layer, rest)) =
        name.strip_prefix("layers.").and_then(|numbered| numbered.split_once('.'))
    {
        let layer: u64 = layer.parse().ok()?;
        return Some(format!("model.layers.{}.{rest}", last.checked_add(layer)?));
    }
    let (part, suffix) = name.split_once('.')?;
    let part = match part {
        "fc" => "eh_proj",
        "pre_fc_norm_embedding" => "enorm",
        "pre_fc_norm_hidden" => "hnorm",
        "norm" => "shared_head.norm",
        _ => return None,
    };
    Some(format!("model.layers.{last}.{part}.{suffix}"))
}
