//! Tokenizers of small vocabularies: what goes around a text, what special tokens take with them, and
//! metadata that no loader takes. Tokens of whole vocabularies are compared with llama.cpp's in
//! `interop/tokenizers.py`, those of the fixtures with transformers' in `convert/tests/tokens.rs`.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use gguf_io::{Metadata, Value, metadata::GgufString};
use gguf_model::{
    ProblemKind,
    tokenizer::{DecodeOptions, EncodeOptions, Kind, PRE_TOKENIZERS, Tokenizer},
};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

fn vocabulary(model: &str, tokens: &[(&str, f32, i32)]) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", model);
    let texts: Vec<GgufString> = tokens.iter().map(|token| token.0.into()).collect();
    metadata.insert("tokenizer.ggml.tokens", texts);
    let scores: Vec<f32> = tokens.iter().map(|token| token.1).collect();
    metadata.insert("tokenizer.ggml.scores", scores);
    let types: Vec<i32> = tokens.iter().map(|token| token.2).collect();
    metadata.insert("tokenizer.ggml.token_type", types);
    metadata
}

fn sentence_piece() -> Metadata {
    vocabulary(
        "llama",
        &[
            ("<unk>", 0.0, UNKNOWN),
            ("<s>", 0.0, CONTROL),
            ("</s>", 0.0, CONTROL),
            ("<0x0A>", 0.0, BYTE),
            ("▁", -5.0, NORMAL),
            ("a", -6.0, NORMAL),
            ("b", -7.0, NORMAL),
            ("ab", -3.0, NORMAL),
            ("ba", -2.0, NORMAL),
            ("▁a", -4.0, NORMAL),
            ("<tool>", 0.0, USER_DEFINED),
        ],
    )
}

fn byte_pair(pre: &str) -> Metadata {
    let mut metadata = vocabulary(
        "gpt2",
        &[
            ("a", 0.0, NORMAL),
            ("b", 0.0, NORMAL),
            ("Ġ", 0.0, NORMAL),
            ("ab", 0.0, NORMAL),
            ("Ġab", 0.0, NORMAL),
            ("<|endoftext|>", 0.0, NORMAL),
            ("1", 0.0, NORMAL),
            ("11", 0.0, NORMAL),
            ("111", 0.0, NORMAL),
        ],
    );
    metadata.insert("tokenizer.ggml.pre", pre);
    let merges = ["a b", "Ġ ab", "1 1", "11 1"].map(GgufString::from).to_vec();
    metadata.insert("tokenizer.ggml.merges", merges);
    metadata.insert("tokenizer.ggml.bos_token_id", 5u32);
    metadata.insert("tokenizer.ggml.eos_token_id", 5u32);
    metadata
}

fn with(mut metadata: Metadata, key: &str, value: impl Into<Value>) -> Metadata {
    metadata.insert(format!("tokenizer.ggml.{key}"), value);
    metadata
}

fn read(metadata: &Metadata) -> Tokenizer {
    Tokenizer::from_metadata(metadata).unwrap()
}

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const SPECIAL: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const AROUND: EncodeOptions = EncodeOptions { add_special: true, parse_special: false };

#[test]
fn the_best_score_is_merged_first_and_the_leftmost_of_equals() {
    let tokenizer = read(&with(sentence_piece(), "add_space_prefix", false));
    assert_eq!(tokenizer.kind(), Kind::SentencePiece);
    assert_eq!(tokenizer.encode("aba", PLAIN), [5, 8]);
    assert_eq!(tokenizer.encode("abab", PLAIN), [5, 8, 6]);
    assert_eq!(tokenizer.encode("a\n ab", PLAIN), [5, 3, 4, 7]);
    // Neither a token nor bytes.
    assert_eq!(tokenizer.encode("aé", PLAIN), [5, 0, 0]);
    assert!(tokenizer.encode("", PLAIN).is_empty());
}

#[test]
fn a_space_stands_before_the_text_and_behind_special_tokens() {
    let tokenizer = read(&sentence_piece());
    assert_eq!(tokenizer.encode("a", AROUND), [1, 9]);
    assert_eq!(tokenizer.encode("a</s>a", SPECIAL), [9, 2, 9]);
    // Control tokens are plain text unless asked for; what users defined is always a token.
    assert_eq!(tokenizer.encode("a<tool>a", PLAIN), [9, 10, 9]);
    assert!(!tokenizer.encode("a</s>a", PLAIN).contains(&2));
    assert_eq!(tokenizer.decode(&[9, 7], DecodeOptions::default()), b"aab");
    let options = DecodeOptions { show_special: true, remove_special: true };
    assert_eq!(tokenizer.decode(&[1, 9, 3, 2], options), b" a\n</s>");
    assert_eq!(&*tokenizer.piece(9, false), b" a");
    assert!(tokenizer.piece(1, false).is_empty() && tokenizer.piece(99, true).is_empty());
}

#[test]
fn keys_say_what_goes_around_a_text() {
    let around = |metadata: &Metadata| read(metadata).encode("a", AROUND);
    assert_eq!(around(&with(sentence_piece(), "add_eos_token", true)), [1, 9, 2]);
    assert_eq!(around(&with(sentence_piece(), "add_bos_token", false)), [9]);
    // A name decides where no key does.
    assert_eq!(around(&byte_pair("llama-bpe")), [5, 0]);
    assert_eq!(around(&byte_pair("gpt-2")), [0]);
    assert_eq!(around(&with(byte_pair("gpt-2"), "add_bos_token", true)), [5, 0]);
    assert_eq!(around(&with(byte_pair("gpt-2"), "add_eos_token", true)), [0, 5]);
    let tokenizer = read(&byte_pair("gpt-2"));
    assert_eq!((tokenizer.bos(), tokenizer.special().bos), (None, Some(5)));
    // An id that is no token is passed over.
    assert_eq!(around(&with(sentence_piece(), "bos_token_id", 99u32)), [1, 9]);
}

#[test]
fn merges_go_by_rank_within_words() {
    let tokenizer = read(&byte_pair("gpt-2"));
    assert_eq!(tokenizer.encode("ab ab  b", PLAIN), [3, 4, 2, 2, 1]);
    assert_eq!(tokenizer.encode("1111", PLAIN), [7, 7]);
    assert_eq!(read(&byte_pair("llama-bpe")).encode("1111", PLAIN), [8, 6]);
    assert_eq!(read(&byte_pair("qwen2")).encode("111", PLAIN), [6, 6, 6]);
    // A word that is a token is taken whole by some, whatever the merges.
    let no_merges = |pre| with(byte_pair(pre), "merges", Vec::<GgufString>::new());
    assert_eq!(read(&no_merges("llama-bpe")).encode("ab", PLAIN), [3]);
    assert_eq!(read(&no_merges("gpt-2")).encode("ab", PLAIN), [0, 1]);
    // What has no token is dropped.
    assert_eq!(tokenizer.encode("a?b", PLAIN), [0, 1]);
    assert_eq!(tokenizer.decode(&[4, 3], DecodeOptions::default()), b" abab");
}

#[test]
fn gemma_4_merges_lines_with_marks_for_spaces() {
    let mut metadata = vocabulary(
        "gemma4",
        &[
            ("<bos>", 0.0, CONTROL),
            ("▁", 0.0, NORMAL),
            ("a", 0.0, NORMAL),
            ("a▁", 0.0, NORMAL),
            ("\n", 0.0, NORMAL),
            ("\n\n", 0.0, NORMAL),
            ("<0xC3>", 0.0, BYTE),
            ("<0xA9>", 0.0, BYTE),
        ],
    );
    metadata.insert("tokenizer.ggml.merges", vec![GgufString::from("a ▁")]);
    metadata.insert("tokenizer.ggml.bos_token_id", 0u32);
    // Its texts begin with a token for it, whatever the file says.
    metadata.insert("tokenizer.ggml.add_bos_token", false);
    let tokenizer = read(&metadata);
    assert_eq!(tokenizer.encode("a a\n\na\né", AROUND), [0, 3, 2, 5, 2, 4, 6, 7]);
    assert_eq!(tokenizer.decode(&[3, 2, 6, 7], DecodeOptions::default()), "a aé".as_bytes());
}

#[test]
fn word_piece_takes_the_longest_token_and_gives_up_whole_words() {
    let mut metadata = vocabulary(
        "bert",
        &[
            ("[UNK]", 0.0, UNKNOWN),
            ("[CLS]", 0.0, CONTROL),
            ("[SEP]", 0.0, CONTROL),
            ("▁un", 0.0, NORMAL),
            ("▁u", 0.0, NORMAL),
            ("able", 0.0, NORMAL),
            ("▁,", 0.0, NORMAL),
            ("▁字", 0.0, NORMAL),
        ],
    );
    for (key, id) in [("unknown", 0u32), ("bos", 1), ("seperator", 2)] {
        metadata.insert(format!("tokenizer.ggml.{key}_token_id"), id);
    }
    let tokenizer = read(&metadata);
    assert_eq!(tokenizer.encode("Ünable,unx 字字", AROUND), [1, 3, 5, 6, 0, 7, 7, 2]);
    let cased = with(metadata, "normalizer.lowercase", false);
    assert_eq!(read(&cased).encode("unable Unable", PLAIN), [3, 5, 0]);
}

#[test]
fn unigram_takes_the_best_sum_and_joins_what_is_unknown() {
    let mut metadata = vocabulary(
        "t5",
        &[
            ("<pad>", 0.0, CONTROL),
            ("</s>", 0.0, CONTROL),
            ("<unk>", 0.0, UNKNOWN),
            ("▁", -2.0, NORMAL),
            ("a", -1.0, NORMAL),
            ("aa", -1.5, NORMAL),
            ("▁a", -4.0, NORMAL),
        ],
    );
    metadata.insert("tokenizer.ggml.add_space_prefix", true);
    metadata.insert("tokenizer.ggml.remove_extra_whitespaces", true);
    let tokenizer = read(&metadata);
    assert_eq!(tokenizer.encode("aaa", AROUND), [3, 4, 5, 1]);
    assert_eq!(tokenizer.encode("a  xya", PLAIN), [3, 4, 3, 2, 4]);
    // A table of replacements that points outside itself is passed over.
    let table = [8u8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 65].to_vec();
    assert_eq!(read(&with(metadata, "precompiled_charsmap", table)).encode("a", PLAIN), [3, 4]);
}

#[test]
fn other_kinds() {
    let rwkv = read(&vocabulary(
        "rwkv",
        &[("a", 0.0, NORMAL), ("a\\n", 0.0, NORMAL), ("\\xe5", 0.0, NORMAL)],
    ));
    assert_eq!(rwkv.encode("a\naa", AROUND), [1, 0, 0]);
    assert_eq!(rwkv.decode(&[1, 2], DecodeOptions::default()), b"a\n\xe5");
    let mut plamo: Vec<(String, f32, i32)> =
        (0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, BYTE)).collect();
    plamo.extend([("a".into(), -1.0, NORMAL), ("aa".into(), -1.5, NORMAL)]);
    let plamo: Vec<_> =
        plamo.iter().map(|(text, score, ty)| (text.as_str(), *score, *ty)).collect();
    let plamo = read(&vocabulary("plamo2", &plamo));
    assert_eq!(plamo.encode("aaaé", AROUND), [257, 256, 0xC3, 0xA9]);
    let mut none = Metadata::new();
    none.insert("general.architecture", "llama");
    none.insert("llama.vocab_size", 32u32);
    none.insert("tokenizer.ggml.model", "none");
    let none = read(&none);
    assert_eq!((none.kind(), none.len()), (Kind::None, 32));
    assert!(
        none.encode("a", AROUND).is_empty()
            && none.decode(&[1], DecodeOptions::default()).is_empty()
    );
}

#[test]
fn generation_ends_where_texts_say_so() {
    let tokenizer = read(&byte_pair("gpt-2"));
    assert!(tokenizer.is_end_of_generation(5) && !tokenizer.is_end_of_generation(0));
    assert_eq!(tokenizer.special().eot, Some(5));
    // It looks like a control token, and so it is one.
    assert_eq!(tokenizer.encode("a<|endoftext|>b", SPECIAL), [0, 5, 1]);
    assert!(!tokenizer.encode("<|endoftext|>", PLAIN).contains(&5));
    let harmony = read(&vocabulary(
        "llama",
        &[("<|return|>", 0.0, CONTROL), ("<|call|>", 0.0, CONTROL), ("<|end|>", 0.0, CONTROL)],
    ));
    assert_eq!([0, 1, 2].map(|id| harmony.is_end_of_generation(id)), [true, true, false]);
}

#[test]
fn white_space_goes_with_tokens_of_some_models() {
    let mut phi = sentence_piece();
    phi.insert("general.name", "Phi-3 mini");
    assert_eq!(read(&phi).encode("<tool>  \n a<s> a", SPECIAL), [10, 9, 1, 4, 9]);
    assert_eq!(read(&sentence_piece()).encode("<tool> a", SPECIAL), [10, 4, 9]);
}

#[test]
fn metadata_that_no_loader_takes_is_refused_with_the_key() {
    let without = |key: &str| {
        let mut metadata = byte_pair("gpt-2");
        metadata.remove(&format!("tokenizer.ggml.{key}")).unwrap();
        metadata
    };
    let bpe = || byte_pair("gpt-2");
    let cases = [
        (without("model"), "tokenizer.ggml.model\" is missing"),
        (without("tokens"), "tokenizer.ggml.tokens\" is missing"),
        (without("merges"), "tokenizer.ggml.merges\" is missing"),
        (with(bpe(), "model", "gpt5"), "model\" is the STRING \"gpt5\", expected one of llama"),
        (with(bpe(), "model", 1u32), "model\" is UINT32 1, expected a STRING"),
        (with(bpe(), "pre", "qwen9"), "expected a known pre-tokenizer: a.x-4.0, "),
        (with(bpe(), "pre", 1u32), "pre\" is UINT32 1, expected a STRING"),
        (with(bpe(), "tokens", vec![1u32]), "tokens\" is an array of 1 UINT32"),
        (with(bpe(), "merges", vec![1u32]), "merges\" is an array of 1 UINT32"),
        (with(bpe(), "scores", vec![1f32]), "expected a FLOAT32 for each token"),
        (with(bpe(), "token_type", vec![1i32]), "expected an INT32 for each token"),
        (with(bpe(), "bos_token_id", -1i32), "bos_token_id\" is INT32 -1, expected a UINT32"),
        (with(bpe(), "add_bos_token", 1u32), "add_bos_token\" is UINT32 1, expected a BOOL"),
        (
            with(
                vocabulary("t5", &[("a", 0.0, NORMAL)]),
                "precompiled_charsmap",
                vec![9u8, 0, 0, 0],
            ),
            "precompiled_charsmap\" is an array of 4 UINT8",
        ),
    ];
    for (metadata, expected) in cases {
        let problem = Tokenizer::from_metadata(&metadata).unwrap_err();
        assert!(problem.message.contains(expected), "{problem}");
        assert!(!problem.message.contains('\n'));
        assert_eq!(problem.kind == ProblemKind::MissingKey, expected.ends_with("is missing"));
    }
    // The neighbours: without scores, types or a name, and with an empty name.
    for key in ["scores", "token_type", "pre"] {
        assert_eq!(read(&without(key)).encode("ab", PLAIN), [3]);
    }
    assert_eq!(read(&with(bpe(), "pre", "")).encode("ab", PLAIN), [3]);
    assert_eq!(read(&with(without("merges"), "pre", "kimi-k2")).encode("ab", PLAIN), [0, 1]);
}

#[test]
fn every_pre_tokenizer_covers_every_text() {
    let text =
        "It's 1234567 a\u{300}b\u{3000}\u{3000}字 \r\n\r\n\t x 한국어 IMGIMGABZ <sentinel:1>!?  ";
    let bytes: Vec<GgufString> = (0..256u32)
        .map(|byte| match byte {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => char::from_u32(byte),
            0..=0x20 => char::from_u32(256 + byte),
            0x7F..=0xA0 => char::from_u32(256 + 33 + byte - 0x7F),
            _ => char::from_u32(256 + 67),
        })
        .map(|character| character.unwrap().to_string().into())
        .collect();
    for pre in PRE_TOKENIZERS {
        let mut metadata = with(byte_pair(pre), "tokens", bytes.clone());
        metadata.remove("tokenizer.ggml.scores");
        metadata.remove("tokenizer.ggml.token_type");
        let tokenizer = read(&metadata);
        let ids = tokenizer.encode(text, PLAIN);
        // Kinds that are not written in bytes have no tokens for most of this.
        if ["gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"].contains(pre) {
            continue;
        }
        let pieces: Vec<u8> =
            ids.iter().flat_map(|&id| tokenizer.piece(id, true).into_owned()).collect();
        assert_eq!(String::from_utf8(pieces).unwrap(), text, "{pre}");
    }
}

#[test]
fn hostile_text_takes_linear_time() {
    let bpe = |pre| read(&byte_pair(pre));
    let texts = [
        " ".repeat(20_000) + "a",
        "a ".repeat(10_000),
        "1".repeat(20_000),
        "a\u{300} ".repeat(6_000) + "\u{1}",
        "\r\n ".repeat(6_000),
    ];
    for pre in
        ["exaone-moe", "gpt-4o", "deepseek-v3", "deepseek-llm", "jais-2", "superbpe", "afmoe"]
    {
        let tokenizer = bpe(pre);
        for text in &texts {
            tokenizer.encode(text, PLAIN);
        }
    }
    let spm = read(&sentence_piece());
    spm.encode(&"ab".repeat(10_000), PLAIN);
}

/// As the fuzz target does at length.
#[test]
fn any_vocabulary_takes_any_text() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let alphabet: Vec<&[u8]> = vec![
        b"a",
        b"b",
        b" ",
        b"\n",
        b"1",
        b"\\",
        b"x",
        b"<0x41>",
        b"'s",
        b"\xE2",
        b"\x96",
        b"\x81",
        b"\xFF",
        "▁".as_bytes(),
        "é".as_bytes(),
        "字".as_bytes(),
        "Ġ".as_bytes(),
        "\u{301}".as_bytes(),
    ];
    let kinds = ["llama", "gpt2", "whitespace", "gemma4", "bert", "t5", "rwkv", "plamo2", "none"];
    for round in 0..400 {
        let mut text = |most: usize, count: usize| -> Vec<Vec<u8>> {
            let mut one = |len: usize| {
                (0..len).flat_map(|_| alphabet[random(alphabet.len())]).copied().collect()
            };
            (0..count).map(|i| one(i % most)).collect()
        };
        let (tokens, merges) = (text(5, 40), text(6, 30));
        let texts = text(30, 12);
        let strings =
            |texts: Vec<Vec<u8>>| texts.into_iter().map(GgufString::from).collect::<Vec<_>>();
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", "llama");
        metadata.insert("tokenizer.ggml.model", kinds[round % kinds.len()]);
        metadata.insert("tokenizer.ggml.pre", PRE_TOKENIZERS[round % PRE_TOKENIZERS.len()]);
        metadata.insert(
            "tokenizer.ggml.token_type",
            (0..40).map(|i| (i * round as i32) % 8).collect::<Vec<_>>(),
        );
        let scores = [f32::NAN, -1.0, f32::NEG_INFINITY, 0.0, -0.0, 7.5, f32::INFINITY, -3.0];
        metadata.insert(
            "tokenizer.ggml.scores",
            (0..40).map(|i| scores[(i * round) % 8]).collect::<Vec<f32>>(),
        );
        metadata.insert("tokenizer.ggml.tokens", strings(tokens));
        metadata.insert("tokenizer.ggml.merges", strings(merges));
        metadata.insert("tokenizer.ggml.unknown_token_id", round as u32 % 50);
        metadata.insert("tokenizer.ggml.add_space_prefix", round % 2 == 0);
        metadata.insert("tokenizer.ggml.remove_extra_whitespaces", round % 3 == 0);
        if round % 5 == 0 {
            let table: Vec<u8> = texts.concat();
            metadata.insert(
                "tokenizer.ggml.precompiled_charsmap",
                [&[16u8, 0, 0, 0][..], &table].concat(),
            );
        }
        let Ok(tokenizer) = Tokenizer::from_metadata(&metadata) else { continue };
        for text in texts {
            let text = String::from_utf8_lossy(&text);
            for options in [PLAIN, SPECIAL, AROUND] {
                let ids = tokenizer.encode(&text, options);
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()), "{round}");
                tokenizer.decode(&ids, DecodeOptions { show_special: true, remove_special: true });
            }
        }
    }
}
