//! How a tokenizer works.

/// How a tokenizer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `llama`: neighbours are merged by the scores of the tokens that they make.
    SentencePiece,
    /// `gpt2` and `whitespace`: neighbours in a word are merged in the order of a list.
    BytePair,
    /// `gemma4`: the same on whole lines, with SentencePiece's marks for spaces.
    Gemma4,
    /// `bert`: the longest tokens that make up a word.
    WordPiece,
    /// `t5`: the tokens with the best sum of scores.
    Unigram,
    /// `rwkv`: the longest token first.
    Rwkv,
    /// `plamo2`: the tokens with the best sum of scores, from the end.
    Plamo2,
    /// `none` and `no_vocab`: there are tokens, but no text.
    None,
}
