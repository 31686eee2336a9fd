//! Special tokens and whether they are added to the text: the keys that the files beside the
//! vocabulary decide, each of which may contradict the others.

use gguf_io::metadata::{Array, Metadata, Value as Entry};
use indexmap::IndexMap;
use serde_json::Value;

use crate::{
    Result,
    error::Quoted,
    json::{self, Object},
};

use super::{
    sources::{Sources, text},
    template::Template,
};

/// Roles looked for, in this order.
const ROLES: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// Roles whose token GGUF has a key for.
const ID_KEYS: [(&str, &str); 8] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("eot", "tokenizer.ggml.eot_token_id"),
    ("eom", "tokenizer.ggml.eom_token_id"),
    ("unk", "tokenizer.ggml.unknown_token_id"),
    // The format's own spelling.
    ("sep", "tokenizer.ggml.seperator_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
    ("mask", "tokenizer.ggml.mask_token_id"),
];

/// Roles whose token may be added to the text.
const ADD_KEYS: [(&str, &str); 3] = [
    ("bos", "tokenizer.ggml.add_bos_token"),
    ("eos", "tokenizer.ggml.add_eos_token"),
    ("sep", "tokenizer.ggml.add_sep_token"),
];

/// What was found.
#[derive(Debug, Default)]
struct Special {
    roles: Vec<&'static str>,
    ids: IndexMap<&'static str, u32>,
    add: IndexMap<&'static str, bool>,
    template: Option<Template>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    tokens: Option<usize>,
}

/// Writes the keys, after the tokens have been written; `tokens` bounds the ids, if it is given.
pub(super) fn write(
    sources: &Sources<'_>,
    tokens: Option<usize>,
    metadata: &mut Metadata,
) -> Result<()> {
    let mut special = Special::read(sources, tokens)?;
    special.roles_of_model(sources);
    if !sources.options.like_reference {
        special.complete(sources, metadata);
    }
    special.write(metadata);
    Ok(())
}

impl Special {
    /// Reads all files.
    fn read(sources: &Sources<'_>, tokens: Option<usize>) -> Result<Self> {
        let mut special = Self { roles: ROLES.to_vec(), tokens, ..Self::default() };
        let mut settings = sources.tokenizer_config.clone().unwrap_or_default();
        if !sources.options.like_reference {
            as_text(&mut settings);
        }
        if let Some(tokenizer) = &sources.tokenizer {
            if let Some(normalizer) = &tokenizer.normalizer {
                special.normalizer(normalizer);
            }
            special.post_processor(tokenizer.post_processor.as_ref(), &mut settings);
        }
        // Without that file the reference converter looks at none of the rest.
        if !(settings.is_empty() && sources.options.like_reference) {
            special.template = Template::read(sources, &settings)?;
            special.settings(sources, &settings);
        }
        special.config(sources);
        Ok(special)
    }

    /// Roles that the model gives to added tokens, where no file says otherwise.
    fn roles_of_model(&mut self, sources: &Sources<'_>) {
        let Some(tokenizer) = &sources.tokenizer else { return };
        for adjustment in sources.options.adjustments {
            let super::options::Adjustment::Roles(roles) = adjustment else { continue };
            for (role, name) in *roles {
                let token = tokenizer.added_tokens.iter().find(|token| token.content == *name);
                self.set_id(role, token.map(|token| token.id.into()));
            }
        }
    }

    /// Finds what the reference converter does not look for: tokens that are no added tokens of
    /// tokenizer.json, the first of several ids, and generation_config.json.
    fn complete(&mut self, sources: &Sources<'_>, metadata: &Metadata) {
        let Some(Entry::Array(Array::String(tokens))) = metadata.get("tokenizer.ggml.tokens")
        else {
            return;
        };
        // Without it llama.cpp takes T5's for every unigram model.
        let unknown = (metadata.get_str("tokenizer.ggml.model") == Some("t5")).then_some("unk");
        let mut generation = None;
        for role in ["bos", "eos", "pad"].into_iter().chain(unknown) {
            if self.ids.contains_key(role) {
                continue;
            }
            let name = sources.special(&format!("{role}_token")).and_then(text);
            let named = name.and_then(|name| {
                tokens.iter().position(|token| token.as_str() == Some(name)).map(|id| id as u64)
            });
            let key = format!("{role}_token_id");
            let config = sources.config;
            let nested = || config.get("text_config")?.get(&key);
            let mut id = named.or_else(|| config.get(&key).or_else(nested).and_then(first));
            if id.is_none() {
                if generation.is_none() {
                    // A damaged file is no reason to refuse what does not need it.
                    let path = sources.file("generation_config.json");
                    let read = json::read_optional(&path).ok().flatten();
                    generation = Some(read.unwrap_or_default());
                }
                id = generation.as_ref().and_then(|settings| first(settings.get(&key)?));
            }
            self.set_id(role, id);
        }
    }

    /// Writes the keys.
    fn write(self, metadata: &mut Metadata) {
        for (role, id) in &self.ids {
            match ID_KEYS.iter().find(|(name, _)| name == role) {
                Some((_, key)) => _ = metadata.insert(*key, *id),
                None => tracing::debug!(role, "GGUF has no key for this token"),
            }
        }
        for (role, add) in &self.add {
            if let Some((_, key)) = ADD_KEYS.iter().find(|(name, _)| name == role) {
                metadata.insert(*key, *add);
            }
        }
        if let Some(template) = self.template {
            template.write(metadata);
        }
        if let Some(flag) = self.lowercase {
            metadata.insert("tokenizer.ggml.normalizer.lowercase", flag);
        }
        if let Some(flag) = self.strip_accents {
            metadata.insert("tokenizer.ggml.normalizer.strip_accents", flag);
        }
    }

    fn set_id(&mut self, role: &'static str, id: Option<u64>) {
        let Some(id) = id else {
            return;
        };
        match u32::try_from(id) {
            Ok(small) if self.tokens.is_none_or(|tokens| id < tokens as u64) => {
                self.ids.entry(role).or_insert(small);
            }
            _ => tracing::warn!(
                kind = "special-token",
                "the {role} token has the id {id}, beyond the vocabulary, and is left out"
            ),
        }
    }

    fn normalizer(&mut self, normalizer: &Value) {
        let flag = |key: &str| normalizer.get(key).and_then(Value::as_bool);
        match normalizer.get("type").and_then(Value::as_str) {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                self.lowercase = flag("lowercase").or(self.lowercase);
                self.strip_accents = flag("strip_accents").or(self.strip_accents);
            }
            Some("Sequence") => {
                let parts = normalizer.get("normalizers").and_then(Value::as_array);
                parts.into_iter().flatten().for_each(|part| self.normalizer(part));
            }
            _ => {}
        }
    }

    /// What the post-processor adds. Where it names tokens that tokenizer_config.json does not,
    /// they are entered into `settings`, so that their ids are looked up with the others.
    fn post_processor(&mut self, processor: Option<&Value>, settings: &mut Object) {
        let has_settings = !settings.is_empty();
        let mut known = Known::new(settings);
        if has_settings {
            known.stand_in(settings, "bos_token", "cls_token");
            known.stand_in(settings, "eos_token", "sep_token");
        }
        let Some(processor) = processor.filter(|processor| truthy(processor)) else {
            return;
        };
        let several = processor.get("processors").and_then(Value::as_array);
        let one = std::slice::from_ref(processor);
        for processor in several.map_or(one, Vec::as_slice) {
            match processor.get("type").and_then(Value::as_str) {
                Some("ByteLevel") => {
                    self.add.entry("bos").or_insert(false);
                    self.add.entry("eos").or_insert(false);
                }
                Some("RobertaProcessing") => {
                    self.add.extend([("bos", true), ("eos", true), ("sep", true)]);
                    for (key, name, other) in
                        [("cls_token", "cls", "bos_token"), ("sep_token", "sep", "eos_token")]
                    {
                        if has_settings && known.get(key).is_none() {
                            let token = processor.get(name).and_then(|pair| pair.get(0)).cloned();
                            if let Some(token) = token.or_else(|| known.get(other).cloned()) {
                                known.set(settings, key, token);
                            }
                        }
                    }
                }
                Some("TemplateProcessing") => {
                    self.template_processing(processor, &mut known, settings, has_settings)
                }
                _ => {}
            }
        }
    }

    /// Tells from simple templates what is added to a text (`single`) and between two (`pair`).
    fn template_processing(
        &mut self,
        processor: &Value,
        known: &mut Known,
        settings: &mut Object,
        has_settings: bool,
    ) {
        let list =
            |key: &str| processor.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let single = list("single");
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = single.first().and_then(special_token);
            last = single.last().and_then(special_token);
        }
        if let Some(token) = first {
            if !has_settings {
                known.remember("bos_token", token);
            } else if !known.is(token, &["bos_token", "cls_token"]) {
                for key in ["bos_token", "cls_token"] {
                    if known.get(key).is_none() {
                        known.set(settings, key, token.into());
                    }
                }
            }
            let added = known.is(token, &["bos_token", "cls_token"]);
            self.add.insert("bos", added);
            if !added {
                tracing::warn!(
                    kind = "special-token",
                    "the post-processor of tokenizer.json puts {} before the text, which no file names \
                     as the token for that; engines will not put it there",
                    Quoted(token)
                );
            }
        }
        if let Some(token) = last {
            if !has_settings {
                known.remember("eos_token", token);
            } else if !known.is(token, &["eos_token"]) {
                // The token that ends a document is kept beside the one that ends a turn.
                let kept = ["eot", "eom"].into_iter().find(|role| !self.roles.contains(role));
                match kept {
                    Some(role) => {
                        self.roles.push(role);
                        let eos = known.get("eos_token").cloned().unwrap_or(Value::Null);
                        settings.insert(format!("{role}_token"), eos);
                    }
                    None => tracing::warn!(
                        kind = "special-token",
                        "the post-processor of tokenizer.json ends a text with {}, which replaces the \
                         end-of-text token of tokenizer_config.json",
                        Quoted(token)
                    ),
                }
                known.set(settings, "eos_token", token.into());
            }
            self.add.insert("eos", known.is(token, &["eos_token"]));
        }
        self.separator(list("pair"), first, last, known, settings, has_settings);
    }

    fn separator(
        &mut self,
        pair: &[Value],
        first: Option<&str>,
        last: Option<&str>,
        known: &mut Known,
        settings: &mut Object,
        has_settings: bool,
    ) {
        let same = |entry: Option<&Value>, token: Option<&str>| {
            token.is_some() && entry.and_then(special_token) == token
        };
        let mut pair = pair;
        if same(pair.first(), first) {
            pair = pair.get(1..).unwrap_or_default();
        }
        if same(pair.last(), last) {
            pair = pair.split_last().map_or(&[][..], |(_, rest)| rest);
        }
        let [a, middle @ .., b] = pair else {
            return;
        };
        let sequence = |entry: &Value| {
            entry.pointer("/Sequence/id").and_then(Value::as_str).map(str::to_owned)
        };
        if sequence(a).as_deref() != Some("A") || sequence(b).as_deref() != Some("B") {
            tracing::warn!(
                kind = "special-token",
                "the post-processor's template for pairs of texts in tokenizer.json is not understood; \
                 whether a separator goes between them is not written"
            );
            return;
        }
        let separates = |entry: &Value| {
            special_token(entry).is_some_and(|token| known.is(token, &["sep_token", "eos_token"]))
        };
        let add = match middle {
            [] => return,
            [one] => separates(one) && last.is_none(),
            [one, two] => separates(one) && last.is_none() || separates(two),
            [one, ..] => separates(one) && last.is_none(),
        };
        self.add.insert("sep", add);
        if add && has_settings && known.get("sep_token").is_none() {
            let eos = known.get("eos_token").cloned().unwrap_or(Value::Null);
            // Entered for the lookup, but not remembered: as in the reference converter.
            settings.insert("sep_token".into(), eos);
        }
    }

    /// `add_{role}_token` and `{role}_token` of tokenizer_config.json.
    fn settings(&mut self, sources: &Sources<'_>, settings: &Object) {
        let added = sources.tokenizer.as_ref().map_or(&[][..], |tokenizer| &tokenizer.added_tokens);
        for role in self.roles.clone() {
            if let Some(&Value::Bool(add)) = settings.get(&format!("add_{role}_token")) {
                let found = *self.add.entry(role).or_insert(add);
                if found != add {
                    tracing::warn!(
                        kind = "special-token",
                        "add_{role}_token of tokenizer_config.json is {add}, but the post-processor of \
                         tokenizer.json says {found}, which is written"
                    );
                }
            }
            let content = match settings.get(&format!("{role}_token")) {
                Some(Value::String(content)) => Some(content.as_str()),
                Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
                _ => None,
            };
            if let Some(content) = content {
                let id = added.iter().find(|token| token.content == content);
                self.set_id(role, id.map(|token| token.id.into()));
            }
        }
    }

    /// `{role}_token_id` of config.json.
    fn config(&mut self, sources: &Sources<'_>) {
        let config = sources.config;
        for role in self.roles.clone() {
            let key = format!("{role}_token_id");
            let nested = || config.get("text_config")?.get(&key);
            let id = config.get(&key).or_else(nested).and_then(Value::as_u64);
            self.set_id(role, id);
        }
    }
}

/// An id, or the first of several.
fn first(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.get(0)?.as_u64())
}

/// Writes tokens that are given as objects as their text. The reference converter compares the
/// objects with the post-processor's text, and so writes that the token is not added.
fn as_text(settings: &mut Object) {
    for role in super::sources::ROLES {
        let token = settings.get(role).filter(|token| token.is_object()).and_then(text);
        if let Some(token) = token.map(Value::from) {
            settings.insert(role.into(), token);
        }
    }
}

/// The special tokens named so far, as text or as objects.
struct Known(IndexMap<&'static str, Value>);

impl Known {
    fn new(settings: &Object) -> Self {
        let token = |key| Some((key, settings.get(key).filter(|value| truthy(value))?.clone()));
        Self(
            ["bos_token", "cls_token", "eos_token", "sep_token"]
                .into_iter()
                .filter_map(token)
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    fn remember(&mut self, key: &'static str, token: &str) {
        self.0.insert(key, token.into());
    }

    fn set(&mut self, settings: &mut Object, key: &'static str, token: Value) {
        settings.insert(key.into(), token.clone());
        self.0.insert(key, token);
    }

    /// Takes another token where one is not named.
    fn stand_in(&mut self, settings: &mut Object, key: &'static str, other: &str) {
        if let (None, Some(token)) = (self.get(key), self.get(other).cloned()) {
            self.set(settings, key, token);
        }
    }

    /// Whether a token is, as plain text, that of one of these roles.
    fn is(&self, token: &str, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.get(key).and_then(Value::as_str) == Some(token))
    }
}

fn special_token(entry: &Value) -> Option<&str> {
    entry.pointer("/SpecialToken/id").and_then(Value::as_str).filter(|id| !id.is_empty())
}

/// What counts as given in the files' own language, Python.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}
