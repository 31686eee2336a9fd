//! The pre-tokenizers of llama.cpp by name: how text is split before byte-level BPE, and what goes
//! with the name.

use super::split::Split::{self, Categories, DigitGroups, Text, Thousands};

/// A name with what it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PreTokenizer {
    pub(super) name: &'static str,
    pub(super) splits: &'static [Split],
    /// A word that is a token is taken whole.
    pub(super) whole_words: bool,
    /// Texts begin with the token for it, if no key says otherwise.
    pub(super) add_bos: bool,
    /// Whether there is a token for the beginning of a text if no key names it.
    pub(super) has_bos: bool,
    pub(super) add_sep: bool,
    /// Decoding takes spaces away before punctuation.
    pub(super) clean_spaces: bool,
    pub(super) style: Style,
}

/// What tokens are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// A character for each byte.
    Bytes,
    /// As text.
    Text,
    /// As text with marks for spaces, like SentencePiece's.
    MarkedSpaces,
    /// The same, with words of line breaks taken whole and a beginning to each text, whatever the
    /// key says: Gemma 4's.
    Gemma,
}

const fn row(name: &'static str, splits: &'static [Split]) -> PreTokenizer {
    PreTokenizer {
        name,
        splits,
        whole_words: false,
        add_bos: false,
        has_bos: true,
        add_sep: false,
        clean_spaces: true,
        style: Style::Bytes,
    }
}

impl PreTokenizer {
    pub(super) fn find(name: &str) -> Option<Self> {
        ALL.iter().find(|row| row.name == name).copied()
    }

    const fn whole(self) -> Self {
        Self { whole_words: true, ..self }
    }

    const fn bos(self) -> Self {
        Self { add_bos: true, ..self }
    }

    const fn no_bos(self) -> Self {
        Self { has_bos: false, ..self }
    }

    const fn sep(self) -> Self {
        Self { add_sep: true, ..self }
    }

    const fn keep_spaces(self) -> Self {
        Self { clean_spaces: false, ..self }
    }

    const fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

macro_rules! contractions {
    () => {
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    };
}

macro_rules! spaces {
    () => {
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}

/// Words that keep a character before them, and other signs with the line breaks behind them.
macro_rules! words {
    () => {
        r"[^\r\n\p{L}\p{N}]?\p{L}+"
    };
}

macro_rules! signs {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    };
}

/// Words of letters, of which the first in lower case ends the upper case, with contractions `$end`.
macro_rules! cased {
    ($mark:literal, $end:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\xD2",
            $mark,
            r"A-Z]*[\xD2",
            $mark,
            "a-z]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[\xD2",
            $mark,
            r"A-Z]+[\xD2",
            $mark,
            "a-z]*",
            $end
        )
    };
}

macro_rules! deepseek {
    ($end:literal) => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"##,
            $end
        )
    };
}

const GPT2_WORDS: Split =
    Categories(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)");
const QWEN2_WORDS: Split =
    Categories(concat!(contractions!(), "|", words!(), r"|\p{N}", signs!(), spaces!()));
const CJK: Split = Text("[一-龥ࠀ-一가-\u{D7FF}]+");
const HAN_KANA: Split = Text("[一-龥぀-ゟ゠-ヿ]+");
const LINES: Split = Text(r"[^\n]+|\n+");
const DEEPSEEK_WORDS: Split = Categories(deepseek!(r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"));
const NOT_PUNCTUATION: Split = Text(r" ?[^(\s|.,!?…。，、।۔،)]+");

const GPT2: &[Split] = &[GPT2_WORDS];
const LLAMA3: &[Split] =
    &[Categories(concat!(contractions!(), "|", words!(), r"|\p{N}{1,3}", signs!(), spaces!()))];
const QWEN2: &[Split] = &[QWEN2_WORDS];
const STARCODER: &[Split] = &[Categories(r"\p{N}"), GPT2_WORDS];
const DEEPSEEK3: &[Split] = &[Categories(r"\p{N}{1,3}"), HAN_KANA, DEEPSEEK_WORDS];
const BLOOM: &[Split] = &[NOT_PUNCTUATION];
const GPT4O: &[Split] = &[Categories(concat!(
    cased!("", concat!(contractions!(), "?")),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    spaces!()
))];
const TINY_AYA: &[Split] = &[
    DigitGroups,
    Categories(concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
        contractions!(),
        r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
        spaces!()
    )),
];
const BAILING: &[Split] = &[Categories(concat!(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|",
    words!(),
    r"|\p{N}",
    signs!(),
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
))];

/// All of them, by name.
pub(super) const ALL: &[PreTokenizer] = &[
    row("a.x-4.0", GPT2),
    row("afmoe", &[
        DigitGroups,
        Text("[一-鿿㐀-䶿豈-\u{FAFF}぀-ゟ゠-ヿ･-ﾟ⼀-\u{2FDF}เ-\u{E7F}\u{E80}-\u{EFF}ក-\u{17FF}က-႟ꩠ-ꩿꧠ-\u{A9FF}가-\u{D7AF}ᄀ-ᇿ]+"),
        DEEPSEEK_WORDS,
    ])
    .keep_spaces(),
    row("bailingmoe", BAILING).keep_spaces(),
    row("bailingmoe2", BAILING).keep_spaces(),
    row("bloom", BLOOM),
    row("chameleon", &[
        Text("<sentinel:[0-9]+>"),
        Text("IMGIMG[A-I]{1,4}Z"),
        Text(r"[\t\n]|    |  "),
        Categories(r"\p{N}"),
        Categories(r"[\p{P}!-/:-@\[-`{-~]"),
        GPT2_WORDS,
    ])
    .bos()
    .keep_spaces(),
    row("chatglm-bpe", LLAMA3).no_bos(),
    row("codeshell", STARCODER),
    row("cohere2moe", TINY_AYA).keep_spaces(),
    row("command-r", STARCODER).keep_spaces(),
    row("dbrx", LLAMA3),
    row("deepseek-coder", &[
        Text(r"[\r\n]"),
        Categories(r"\s?\p{L}+"),
        Categories(r"\s?\p{P}+"),
        CJK,
        Categories(r"\p{N}"),
    ])
    .keep_spaces(),
    row("deepseek-llm", &[
        Text(r"[\r\n]"),
        // Characters that normalizing would change are escaped.
        Text(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"),
        Text(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
        Text(r"\s+$"),
        CJK,
        Categories(r"\p{N}+"),
    ])
    .keep_spaces(),
    row("deepseek-r1-qwen", QWEN2).keep_spaces(),
    row("deepseek-v3", DEEPSEEK3).keep_spaces(),
    row("default", &[
        Categories(r"[\p{P}\$\+<=>\^~\|]+"),
        GPT2_WORDS,
        Categories(r"\p{N}+"),
        Text("[0-9][0-9][0-9]"),
    ]),
    row("exaone", STARCODER),
    row("exaone-moe", &[Categories(concat!(
        contractions!(),
        r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
    ))]),
    row("exaone4", GPT2),
    row("f2llmv2", QWEN2).keep_spaces(),
    row("falcon", &[Categories(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2_WORDS, Text("[0-9][0-9][0-9]")]),
    row("falcon-h1", LLAMA3).whole().bos(),
    row("falcon3", LLAMA3).whole().bos(),
    row("gemma4", &[LINES]).style(Style::Gemma),
    row("gigachat", GPT2),
    row("glm4", LLAMA3).no_bos().whole(),
    row("glm5", LLAMA3).no_bos().whole(),
    row("gpt-2", GPT2),
    row("gpt-4o", GPT4O).keep_spaces(),
    row("gpt3-finnish", BLOOM),
    row("granite-docling", GPT2).keep_spaces(),
    row("granite-embed-multi-311m", &[LINES]).style(Style::Gemma),
    row("granite-embed-multi-97m", &[Categories(concat!(
        cased!(r"\xD4", concat!(contractions!(), "?")),
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
        spaces!()
    ))])
    .keep_spaces()
    .whole(),
    row("grok-2", QWEN2).keep_spaces(),
    row("hunyuan", QWEN2).keep_spaces(),
    row("hunyuan-dense", DEEPSEEK3).keep_spaces(),
    row("hy_v4", DEEPSEEK3).keep_spaces(),
    row("jais", GPT2),
    row("jais-2", &[Categories(concat!(
        contractions!(), "|", words!(), r"|\p{N}{1,3}", signs!(), r"|\s*[\r\n]+",
        r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
    ))]),
    row("jina-de", GPT2),
    row("jina-es", GPT2),
    row("jina-v1-en", GPT2).sep(),
    row("jina-v2-code", GPT2).sep(),
    row("jina-v2-de", GPT2),
    row("jina-v2-es", GPT2),
    row("jina-v5-nano", LLAMA3).whole().bos(),
    row("joyai-llm", DEEPSEEK3).keep_spaces(),
    row("kanana2", GPT4O).keep_spaces(),
    row("kimi-k2", &[Categories(concat!(
        r"\p{Han}+|[^\r\n\p{L}\p{N}\xD6]?\p{L}+",
        contractions!(),
        r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}\xD6]+[\r\n]*",
        spaces!()
    ))])
    .keep_spaces(),
    row("kormo", QWEN2).keep_spaces(),
    row("laguna", &[LINES, QWEN2_WORDS]).keep_spaces(),
    row("lfm2", LLAMA3).whole().bos(),
    row("llada-moe", BAILING).keep_spaces(),
    row("llama-bpe", LLAMA3).whole().bos(),
    row("llama-v3", LLAMA3).whole().bos(),
    row("llama3", LLAMA3).whole().bos(),
    row("llama4", GPT4O).keep_spaces(),
    row("megrez", QWEN2),
    row("mellum", GPT2),
    row("mellum2", STARCODER),
    row("midm-2.0", LLAMA3).whole().bos(),
    row("minerva-7b", STARCODER),
    row("minicpm5", &[
        Categories(r"\p{N}{1,3}"),
        Categories(concat!(contractions!(), "|", words!(), r"|\p{N}+", signs!(), spaces!())),
    ])
    .whole(),
    row("minimax-m2", GPT4O).keep_spaces(),
    row("modern-bert", GPT2),
    row("mpt", GPT2),
    row("olmo", GPT2),
    row("phi-2", GPT2),
    row("pixtral", LLAMA3).whole().bos(),
    row("poro-chat", BLOOM).keep_spaces(),
    row("qwen2", QWEN2).keep_spaces(),
    row("qwen35", &[Categories(concat!(
        contractions!(),
        r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        spaces!()
    ))])
    .keep_spaces(),
    row("refact", STARCODER),
    row("roberta-bpe", GPT2).sep(),
    row("sarvam-moe", &[LINES]).style(Style::MarkedSpaces).keep_spaces(),
    row("seed-coder", &[Categories(concat!(
        contractions!(), "|", words!(), r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+", spaces!()
    ))])
    .keep_spaces(),
    row("smaug-bpe", LLAMA3),
    row("smollm", STARCODER).keep_spaces(),
    row("solar-open", QWEN2).keep_spaces(),
    row("spark2_5", &[
        Categories(r"\p{N}{1,3}"),
        HAN_KANA,
        Categories(deepseek!(r"|[\r\n]|\s+(?!\S)|\s+")),
        Categories(r"\p{N}"),
    ])
    .keep_spaces(),
    row("stablelm2", QWEN2),
    row("starcoder", STARCODER),
    row("superbpe", &[Categories(r"\p{N}+"), Thousands]).keep_spaces(),
    row("talkie", GPT4O).keep_spaces(),
    row("tekken", &[Categories(concat!(
        cased!("", ""), r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*", spaces!()
    ))])
    .keep_spaces()
    .whole()
    .bos(),
    row("tiny_aya", TINY_AYA).keep_spaces(),
    row("trillion", GPT2).keep_spaces(),
    row("ufakzeka", &[Categories(concat!(words!(), r"|\p{N}", signs!(), spaces!()))]).keep_spaces(),
    row("viking", &[NOT_PUNCTUATION, Categories(r"\p{N}")]).keep_spaces(),
    row("whitespace", &[Text(r"\S+")]).style(Style::Text),
    row("youtu", &[
        Text("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"),
        Categories(concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
            contractions!(),
            r"?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*",
            spaces!()
        )),
    ])
    .keep_spaces()
    .whole(),
];

/// Their names.
pub(super) const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < ALL.len() {
        names[at] = ALL[at].name;
        at += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::{super::split::Splitter, *};

    #[test]
    fn names_are_sorted_and_every_expression_compiles() {
        assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
        for row in ALL {
            Splitter::new(row.splits);
            assert!(PreTokenizer::find(row.name).is_some());
        }
        assert!(PreTokenizer::find("llama-4").is_none());
    }
}
