//! Tokens with a part to play: named by keys, or known by their texts as llama.cpp knows them.

use std::collections::BTreeSet;

use gguf_io::metadata::{Metadata, Value};

use super::{
    kind::Kind,
    tokens::{Attributes, Tokens, wrong},
};
use crate::Problem;

/// The ids of tokens with a part to play, where there are such tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// The beginning of a text.
    pub bos: Option<u32>,
    /// The end of a text.
    pub eos: Option<u32>,
    /// The end of a turn.
    pub eot: Option<u32>,
    /// The end of a message.
    pub eom: Option<u32>,
    /// What has no token.
    pub unknown: Option<u32>,
    /// Between two texts.
    pub separator: Option<u32>,
    /// Fills up shorter texts.
    pub padding: Option<u32>,
    /// What is to be guessed.
    pub mask: Option<u32>,
    /// Filling in: before the text that is there.
    pub fim_prefix: Option<u32>,
    /// Filling in: before the text that follows.
    pub fim_suffix: Option<u32>,
    /// Filling in: before the text to be made.
    pub fim_middle: Option<u32>,
    /// Filling in: a filler.
    pub fim_padding: Option<u32>,
    /// Filling in: before the name of a repository.
    pub fim_repository: Option<u32>,
    /// Filling in: between files.
    pub fim_separator: Option<u32>,
}

/// The keys behind `tokenizer.ggml.`; of two for one token the later counts.
type Field = fn(&mut SpecialTokens) -> &mut Option<u32>;
const KEYS: &[(&str, Field)] = &[
    ("bos_token_id", |it| &mut it.bos),
    ("eos_token_id", |it| &mut it.eos),
    ("eot_token_id", |it| &mut it.eot),
    ("eom_token_id", |it| &mut it.eom),
    ("unknown_token_id", |it| &mut it.unknown),
    ("seperator_token_id", |it| &mut it.separator),
    ("padding_token_id", |it| &mut it.padding),
    ("mask_token_id", |it| &mut it.mask),
    ("fim_pre_token_id", |it| &mut it.fim_prefix),
    ("fim_suf_token_id", |it| &mut it.fim_suffix),
    ("fim_mid_token_id", |it| &mut it.fim_middle),
    ("fim_pad_token_id", |it| &mut it.fim_padding),
    ("fim_rep_token_id", |it| &mut it.fim_repository),
    ("fim_sep_token_id", |it| &mut it.fim_separator),
    ("prefix_token_id", |it| &mut it.fim_prefix),
    ("suffix_token_id", |it| &mut it.fim_suffix),
    ("middle_token_id", |it| &mut it.fim_middle),
];

/// Texts by which tokens are known that no key names.
const TEXTS: &[(Field, &[&str])] = &[
    (
        |it| &mut it.eot,
        &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "<｜end▁of▁sentence｜>",
            "<end_of_utterance>",
        ],
    ),
    (|it| &mut it.eom, &["<|eom_id|>"]),
    (
        |it| &mut it.fim_prefix,
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        |it| &mut it.fim_suffix,
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        |it| &mut it.fim_middle,
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    (|it| &mut it.fim_padding, &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    (
        |it| &mut it.fim_repository,
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    ),
    (|it| &mut it.fim_separator, &["<|file_sep|>"]),
];

/// Texts of tokens behind which nothing more is generated.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens of gpt-oss that are always shown.
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

impl SpecialTokens {
    /// What keys say, else what is usual for the kind, and then what texts tell.
    pub(super) fn read(
        metadata: &Metadata,
        kind: Kind,
        has_bos: bool,
        tokens: &mut Tokens,
    ) -> Result<Self, Problem> {
        let mut special = Self::usual(kind);
        if !has_bos {
            special.bos = None;
        }
        let is_token = |&id: &u32| (id as usize) < tokens.len();
        for (key, field) in KEYS {
            let own = field(&mut special);
            *own = own.filter(is_token);
            let key = format!("tokenizer.ggml.{key}");
            match metadata.get(&key) {
                None => {}
                // As loaders do, one that is no token is passed over.
                Some(Value::Uint32(id)) => *own = Some(*id).filter(is_token).or(*own),
                found => return Err(wrong(&key, found, "a UINT32")),
            }
        }
        for (field, texts) in TEXTS {
            let own = field(&mut special);
            if own.is_none() {
                *own = texts.iter().find_map(|text| tokens.find(text.as_bytes()));
                own.iter().for_each(|&id| tokens.add(id, Attributes::CONTROL));
            }
        }
        Ok(special)
    }

    fn usual(kind: Kind) -> Self {
        let none = Self::default();
        match kind {
            Kind::SentencePiece => Self { bos: Some(1), eos: Some(2), unknown: Some(0), ..none },
            Kind::WordPiece => Self {
                bos: Some(101),
                unknown: Some(100),
                separator: Some(102),
                padding: Some(0),
                mask: Some(103),
                ..none
            },
            Kind::BytePair => Self { bos: Some(11), eos: Some(11), ..none },
            Kind::Unigram => Self { eos: Some(1), unknown: Some(2), padding: Some(0), ..none },
            Kind::Plamo2 => {
                Self { bos: Some(1), eos: Some(2), unknown: Some(0), padding: Some(3), ..none }
            }
            Kind::Gemma4 | Kind::Rwkv | Kind::None => none,
        }
    }

    /// The tokens behind which nothing more is generated; brings attributes of tokens in line.
    pub(super) fn ends(&self, tokens: &mut Tokens) -> BTreeSet<u32> {
        let mut ends: BTreeSet<u32> = BTreeSet::new();
        ends.extend(self.fim_padding);
        ends.extend(self.fim_repository);
        ends.extend(self.fim_separator);
        let find = |tokens: &Tokens, text: &str| tokens.find(text.as_bytes());
        for text in ENDS {
            if let Some(id) = find(tokens, text) {
                tokens.add(id, Attributes::CONTROL);
                ends.insert(id);
            }
        }
        for text in SHOWN {
            if let Some(id) = find(tokens, text) {
                tokens.set(id, Attributes::USER_DEFINED);
            }
        }
        ends.extend(self.eos);
        ends.extend(self.eot);
        ends.extend(self.eom);
        let among = |text: &str| find(tokens, text).filter(|id| ends.contains(id));
        // In the formats of gpt-oss and Solar a message ends there, and another may follow.
        let calls = among("<|call|>").or(among("<|calls|>")).is_some();
        let others = among("<|return|>").is_some() || among("<|flush|>").is_some();
        let message = among("<|end|>").filter(|_| calls && others);
        // These models have it as a plain text.
        let plain = among("</s>")
            .filter(|_| among("<|tool_response>").or(among("<|plamo:eos|>")).is_some());
        if let Some(id) = message {
            ends.remove(&id);
            tokens.set(id, Attributes::USER_DEFINED);
        }
        if let Some(id) = plain {
            ends.remove(&id);
            tokens.set(id, Attributes::NORMAL);
        }
        ends
    }
}

/// White space that goes with tokens, which no key tells: llama.cpp goes by names.
pub(super) fn strip(metadata: &Metadata, tokens: &mut Tokens) {
    let contains = |key: &str, parts: &[&str]| {
        let text = metadata.get_str(key).unwrap_or_default();
        parts.iter().any(|part| text.contains(part))
    };
    let name = metadata.get_str("general.name").unwrap_or_default().to_ascii_lowercase();
    let left = |tokens: &mut Tokens, text: &[u8]| {
        if let Some(id) = tokens.find(text) {
            tokens.add(id, Attributes::STRIPS_LEFT);
        }
    };
    if contains("tokenizer.ggml.pre", &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
        || contains("general.architecture", &["nomic-bert-moe", "jina-bert-v3"])
    {
        left(tokens, b"<mask>");
    } else if name.contains("phi-3") || name.contains("phi3") {
        let special = Attributes::CONTROL.or(Attributes::USER_DEFINED).or(Attributes::UNKNOWN);
        for own in tokens.attributes.iter_mut().filter(|own| own.is(special)) {
            *own = own.or(Attributes::STRIPS_RIGHT);
        }
        if let Some(id) = tokens.find(b"</s>") {
            tokens.add(id, Attributes::STRIPS_RIGHT);
        }
        for text in ["<unk>", "<s>", "<|endoftext|>"] {
            if let Some(own) =
                tokens.find(text.as_bytes()).and_then(|id| tokens.attributes.get_mut(id as usize))
            {
                *own = own.without(Attributes::STRIPS_RIGHT);
            }
        }
    } else if name.contains("modern-bert") {
        left(tokens, b"[MASK]");
    }
}
