//! RoBERTa and XLM-RoBERTa: BERT whose positions are counted from behind the padding token.

use super::{
    Architecture, BASE, bert, encoder,
    parameters::{COMMON, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};
use crate::{
    Config, Result,
    tokenizer::{Adjustment, Kind},
};

pub(super) const ROBERTA: Architecture = Architecture {
    name: "bert",
    classes: &["RobertaModel", "RobertaForSequenceClassification"],
    defaults: &[model("roberta", &[bert::SIZES, &[count("vocab_size", 50_265)]])],
    parameters: PARAMETERS,
    wrappers: &["roberta."],
    endings: bert::ENDINGS,
    tensors: TENSORS,
    tokenizers: &[Kind::ByteLevel],
    special: &[Adjustment::Segments],
    ..BASE
};

/// CamemBERT is XLM-RoBERTa with another vocabulary. The reference converter reads it as BERT, whose
/// positions and tokenizer are others.
pub(super) const XLM_ROBERTA: Architecture = Architecture {
    name: "bert",
    classes: &[
        "XLMRobertaModel",
        "XLMRobertaForSequenceClassification",
        "CamembertModel",
        "CamembertForSequenceClassification",
    ],
    defaults: &[model("xlm-roberta", &[bert::SIZES, &[count("vocab_size", 30_522)]])],
    parameters: PARAMETERS,
    wrappers: &["roberta."],
    endings: bert::ENDINGS,
    tensors: TENSORS,
    tokenizers: &[Kind::Fairseq],
    ..BASE
};

const PARAMETERS: &[&[Parameter]] = &[
    COMMON,
    KEY_LENGTHS,
    FILE_TYPE,
    encoder::ENCODER,
    &[Parameter::With(|config, keys| {
        keys.set_count("context_length", POSITIONS.size(config)?);
        Ok(())
    })],
];

/// Positions that a text has.
const POSITIONS: Dim = Dim::Derived("positions of a text", |config| {
    const ALL: &str = "max_position_embeddings";
    let (all, skipped) = (config.require(ALL)?, skipped(config)?.unwrap_or(0));
    match all.checked_sub(skipped) {
        Some(left @ 1..) => Ok(left),
        _ => {
            let expected = format!("more than the {skipped} up to pad_token_id");
            Err(config.wrong(ALL, &all.to_string(), &expected))
        }
    }
});

/// Positions that no text has.
const SKIPPED: Dim =
    Dim::Derived("positions before the first", |config| Ok(skipped(config)?.unwrap_or(0)));

/// Positions are those of the padding token and before it, and then the text's.
fn skipped(config: &Config) -> Result<Option<u64>> {
    const KEY: &str = "pad_token_id";
    // The class assumes 1; `null` says that there is no such token.
    let pad = if config.has(KEY) { config.whole(KEY)? } else { Some(1) };
    Ok(pad.map(|pad| pad.saturating_add(1)))
}

const TENSORS: &[&[Rule]] = &[
    bert::EMBEDDINGS,
    &[
        Rule::new(
            "embeddings.position_embeddings",
            "position_embd",
            &[Dim::Key("max_position_embeddings"), HIDDEN],
        )
        .parts(&[&[Step::Narrow { axis: 0, from: Some(SKIPPED), len: POSITIONS }]])
        .when(|config| Ok(skipped(config)?.is_some())),
        Rule::new(
            "embeddings.position_embeddings",
            "position_embd",
            &[Dim::Key("max_position_embeddings"), HIDDEN],
        )
        .when(|config| Ok(skipped(config)?.is_none())),
    ],
    bert::LAYERS,
    encoder::TWO_LAYERS,
    encoder::HEADS_LEFT_OUT,
];
