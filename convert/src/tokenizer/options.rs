//! How a tokenizer is read.

/// A kind of tokenizer, by the files it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// SentencePiece's BPE: `tokenizer.model`, else `tokenizer.json` with byte fallback.
    SentencePiece,
    /// Byte-level BPE, GPT-2's kind: `tokenizer.json`, else `vocab.json` and `merges.txt`.
    ByteLevel,
    /// WordPiece, BERT's kind: `tokenizer.json` or `vocab.txt`.
    WordPiece,
    /// SentencePiece's unigram model, T5's kind: `tokenizer.model`, `spiece.model` or
    /// `tokenizer.json`.
    Unigram,
    /// SentencePiece's unigram model with the ids of fairseq, XLM-RoBERTa's kind:
    /// `sentencepiece.bpe.model` or `tokenizer.json`.
    Fairseq,
    /// Gemma 4's kind: `tokenizer.json` with byte fallback, split by its merges.
    Gemma4,
}

/// A key that depends on the model as well as on the tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adjustment {
    /// `add_prefix_space` of tokenizer_config.json is written, before everything else.
    AddPrefixSpace,
    /// As [`AddPrefixSpace`](Self::AddPrefixSpace), after everything else.
    AddPrefixSpaceLast,
    /// At this vocabulary size the end of a turn is this token.
    EndOfTurn {
        /// The vocabulary size that tells the model.
        vocab_size: u64,
        /// The token.
        id: u32,
    },
    /// At this vocabulary size no token is put before the text.
    NoBos {
        /// The vocabulary size that tells the model.
        vocab_size: u64,
    },
    /// The number of kinds of text segments is written, for tokenizers that do not always have it.
    Segments,
    /// Whether a space is put before the text is written even if it is, as llama.cpp assumes anyway.
    SpacePrefix,
    /// config.json's `eod_token_id` ends a text, and the first of several in generation_config.json a
    /// turn.
    EndsByConfig,
    /// A token is put before the text, whatever the tokenizer says.
    Bos,
    /// llama.cpp's converter reads the added tokens of tokenizer.json for this model, beside
    /// tokenizer.model; of others it does not.
    AddedTokensOfJson,
    /// These added tokens have these roles, where no file gives the role to another.
    Roles(&'static [(&'static str, &'static str)]),
    /// The chat template is this one, whatever the files say.
    Template(&'static str),
    /// A text begins and ends with this added token of tokenizer_config.json.
    TurnEnds(&'static str),
    /// Of several ends in config.json the first that is not the beginning as well ends a turn, and this
    /// token is none of the text.
    SecondEnd(&'static str),
}

/// How to read a tokenizer.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Kinds to look for, in this order.
    pub kinds: &'a [Kind],
    /// Keys that depend on the model.
    pub adjustments: &'a [Adjustment],
    /// llama.cpp's name for the BPE pre-tokenizer, instead of finding it out.
    pub pre_tokenizer: Option<&'a str>,
    /// Write what llama.cpp's converter writes even where its file splits text otherwise than the
    /// checkpoint's own tokenizer.
    pub like_reference: bool,
}
