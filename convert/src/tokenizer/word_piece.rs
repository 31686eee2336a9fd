//! WordPiece, BERT's kind: `tokenizer.json` or `vocab.txt`.

use std::path::PathBuf;

use gguf_io::metadata::Metadata;
use serde_json::{Map, Value, json};

use crate::{Result, json};

use super::{
    byte_level, hash,
    sources::{Sources, text},
    special,
    tokenizer_json::TokenizerJson,
    tokens::{TokenType, write_tokens},
};

/// llama.cpp splits text for all WordPiece tokenizers in one way and does not look at the name.
const UNNAMED: &str = "default";

pub(super) fn write(sources: &Sources<'_>, metadata: &mut Metadata) -> Result<()> {
    let listed;
    let tokenizer = match &sources.tokenizer {
        Some(tokenizer) => tokenizer,
        None => {
            listed = from_list(sources)?;
            &listed
        }
    };
    let (tokens, types) = byte_level::tokens(sources, tokenizer)?;
    let known = || hash::known(sources, tokenizer, std::iter::empty());
    let pre = known().unwrap_or(UNNAMED);
    sources.write_segments(metadata)?;
    let tokens: Vec<String> =
        tokens.into_iter().zip(&types).map(|(token, ty)| phantom(token, *ty)).collect();
    let count = tokens.len();
    write_tokens(metadata, "bert", pre, tokens, None, &types);
    special::write(sources, Some(count), metadata)
}

/// A token as llama.cpp looks for it: one at the start of a word has a mark there, instead of one
/// inside a word having `##`.
fn phantom(token: String, ty: TokenType) -> String {
    match (ty, token.strip_prefix("##")) {
        (TokenType::Control, _) => token,
        (_, Some(rest)) => rest.to_owned(),
        (_, None) => format!("▁{token}"),
    }
}

/// The list of tokens that is there where `tokenizer.json` is not.
pub(super) fn path(sources: &Sources<'_>) -> PathBuf {
    sources.file("vocab.txt")
}

/// Roles of special tokens, and the tokens that have them unless tokenizer_config.json says
/// otherwise.
const SPECIAL: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

/// The tokenizer that BERT's class makes of a list of tokens, one in each line.
fn from_list(sources: &Sources<'_>) -> Result<TokenizerJson> {
    let path = path(sources);
    let mut vocabulary = Map::new();
    for (id, token) in json::read_lines(&path)?.lines().enumerate() {
        // Of two lines with one token the last counts, and the place of the first stays empty.
        vocabulary.insert(token.to_owned(), id.into());
    }
    let name = |(role, usual): (&str, &str)| {
        sources.special(role).and_then(text).unwrap_or(usual).to_owned()
    };
    let [unknown, end, padding, start, mask] = SPECIAL.map(name);
    let id = |token: &String| vocabulary.get(token);
    let added: Vec<Value> = [&unknown, &end, &padding, &start, &mask]
        .into_iter()
        .filter_map(|token| Some(json!({"id": id(token)?, "content": token, "special": true})))
        .collect();
    let around = json!({
        "type": "BertProcessing",
        "cls": [start, id(&start)],
        "sep": [end, id(&end)],
    });
    let flag = |key, usual| sources.setting(key).and_then(Value::as_bool).unwrap_or(usual);
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": flag("tokenize_chinese_chars", true),
        "strip_accents": sources.setting("strip_accents"),
        "lowercase": flag("do_lower_case", true),
    });
    let content = json!({
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": around,
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    });
    TokenizerJson::made(&path, content)
}
