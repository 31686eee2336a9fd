//! The files of a checkpoint that tell of its tokenizer.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    Config, Result,
    json::{self, Object},
};

use super::{options::Options, tokenizer_json::TokenizerJson};

/// Tokens beyond any vocabulary: config.json must not make us pad billions of them.
const MOST_TOKENS: u64 = 1 << 24;

/// What the files hold, each read once.
pub(crate) struct Sources<'a> {
    pub(super) dir: &'a Path,
    pub(super) config: &'a Config,
    pub(super) tokenizer: Option<TokenizerJson>,
    pub(super) tokenizer_config: Option<Object>,
    pub(super) special_tokens_map: Option<Object>,
    pub(super) vocab_size: usize,
    pub(super) options: &'a Options<'a>,
}

impl<'a> Sources<'a> {
    pub(super) fn read(
        dir: &'a Path,
        config: &'a Config,
        options: &'a Options<'a>,
    ) -> Result<Self> {
        let tokenizer = dir.join("tokenizer.json");
        let vocab_size = match config.require("vocab_size")? {
            absurd if absurd > MOST_TOKENS => {
                let expected = format!("at most {MOST_TOKENS}");
                return Err(config.wrong("vocab_size", &absurd.to_string(), &expected));
            }
            size => usize::try_from(size).unwrap_or(usize::MAX),
        };
        Ok(Self {
            dir,
            config,
            tokenizer: tokenizer.is_file().then(|| TokenizerJson::read(&tokenizer)).transpose()?,
            tokenizer_config: json::read_optional(&dir.join("tokenizer_config.json"))?,
            special_tokens_map: json::read_optional(&dir.join("special_tokens_map.json"))?,
            vocab_size,
            options,
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The SentencePiece model; Mistral's own format has its version behind the name.
    pub(super) fn model(&self) -> PathBuf {
        const VERSIONS: [&str; 4] = ["v11", "v7", "v3", "v2"];
        let plain = self.file("tokenizer.model");
        if !self.config.is_mistral_format() || plain.is_file() {
            return plain;
        }
        let versions = VERSIONS.map(|version| self.file(&format!("tokenizer.model.{version}")));
        versions.into_iter().find(|path| path.is_file()).unwrap_or(plain)
    }

    /// A key of tokenizer_config.json that is not `null`.
    pub(super) fn setting(&self, key: &str) -> Option<&Value> {
        self.tokenizer_config.as_ref()?.get(key).filter(|value| !value.is_null())
    }

    /// A key of tokenizer_config.json, else of special_tokens_map.json.
    pub(super) fn special(&self, key: &str) -> Option<&Value> {
        let map = || self.special_tokens_map.as_ref()?.get(key);
        self.setting(key).or_else(map).filter(|value| !value.is_null())
    }

    /// The tokens that have a role or a name, which transformers makes special when it loads the
    /// tokenizer; in the order in which it gives ids to those that have none.
    pub(super) fn named(&self) -> Vec<&str> {
        let mut named: Vec<&str> =
            ROLES.iter().filter_map(|role| text(self.special(role)?)).collect();
        // Roles that only some models know, such as `image_token`.
        let settings = self.tokenizer_config.iter().flatten();
        let more =
            settings.filter(|(key, _)| key.ends_with("_token") && !ROLES.contains(&key.as_str()));
        named.extend(more.filter_map(|(_, token)| text(token)));
        // Each of these has been a list in some versions of transformers and an object in others.
        for key in
            ["model_specific_special_tokens", "extra_special_tokens", "additional_special_tokens"]
        {
            match self.special(key) {
                Some(Value::Array(list)) => named.extend(list.iter().filter_map(text)),
                Some(Value::Object(list)) => named.extend(list.values().filter_map(text)),
                _ => {}
            }
        }
        named
    }
}

/// The roles of special tokens, as tokenizer_config.json calls them.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token, given as text or as an object.
pub(super) fn text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
