//! Special tokens, whether they are added to the text, and the chat template: the keys that the
//! files beside the vocabulary decide, each of which may contradict the others.

use std::collections::BTreeSet;

use gguf_io::{GgufString, metadata::Metadata};
use indexmap::IndexMap;
use serde_json::Value;

use crate::{
    Error, Result,
    error::DOWNLOAD,
    json::{self, Object},
};

use super::Sources;

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
pub(super) struct Special {
    roles: Vec<&'static str>,
    ids: IndexMap<&'static str, u32>,
    add: IndexMap<&'static str, bool>,
    template: Option<Template>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    tokens: Option<usize>,
}

#[derive(Debug)]
enum Template {
    One(String),
    /// Names and templates.
    Named(Vec<(String, String)>),
}

impl Special {
    /// Reads all files; `tokens` bounds the ids, if it is given.
    pub(super) fn read(sources: &Sources<'_>, tokens: Option<usize>) -> Result<Self> {
        let mut special = Self { roles: ROLES.to_vec(), tokens, ..Self::default() };
        let mut settings = sources.tokenizer_config.clone().unwrap_or_default();
        if let Some(tokenizer) = &sources.tokenizer {
            if let Some(normalizer) = &tokenizer.normalizer {
                special.normalizer(normalizer);
            }
            special.post_processor(tokenizer.post_processor.as_ref(), &mut settings);
        }
        // Without that file the reference converter looks at none of the rest.
        if !settings.is_empty() {
            special.template = template(sources, &settings)?;
            special.settings(sources, &settings);
        }
        special.config(sources);
        Ok(special)
    }

    /// Writes the keys.
    pub(super) fn write(self, metadata: &mut Metadata) {
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
        match self.template {
            Some(Template::One(text)) => write_template(metadata, text),
            Some(Template::Named(named)) => write_named(metadata, named),
            None => {}
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
            _ => tracing::warn!(role, id, "a special token beyond the vocabulary is left out"),
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
                tracing::warn!(token, "the post-processor puts an unknown token before the text");
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
                    None => tracing::warn!(token, "the end-of-text token is replaced"),
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
            tracing::warn!("the post-processor's template for pairs is not understood");
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
                        role,
                        "tokenizer_config.json and the post-processor disagree on adding this token; the latter counts"
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

/// The chat template, from whichever file has it. Templates are data: nothing reads them here.
fn template(sources: &Sources<'_>, settings: &Object) -> Result<Option<Template>> {
    let inline = match settings.get("chat_template") {
        Some(value) => Some(value.clone()),
        None => {
            let jinja = sources.file("chat_template.jinja");
            let json = sources.file("chat_template.json");
            if jinja.is_file() {
                return jinja_templates(sources, json::read_text(&jinja)?).map(Some);
            }
            json::read_optional(&json)?.and_then(|object| object.get("chat_template").cloned())
        }
    };
    match inline {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(Template::One(text))),
        Some(Value::Array(list)) => {
            let text = |entry: &Value, key| Some(entry.get(key)?.as_str()?.to_owned());
            let named = list
                .iter()
                .filter_map(|entry| Some((text(entry, "name")?, text(entry, "template")?)));
            Ok(Some(Template::Named(named.collect())))
        }
        Some(other) => {
            tracing::warn!(
                found = json::describe(&other),
                "chat_template is neither text nor a list and is left out"
            );
            Ok(None)
        }
    }
}

/// `chat_template.jinja` with those in `additional_chat_templates/`.
fn jinja_templates(sources: &Sources<'_>, default: String) -> Result<Template> {
    let folder = sources.file("additional_chat_templates");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(Template::One(default));
    };
    let paths: BTreeSet<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
        .collect();
    if paths.is_empty() {
        return Ok(Template::One(default));
    }
    let mut named = vec![("default".to_owned(), default)];
    for path in paths {
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else {
            return Err(Error::Tokenizer {
                path,
                place: "file name".into(),
                found: "bytes that are not UTF-8".into(),
                expected: "the name of a template".into(),
                help: DOWNLOAD,
            });
        };
        named.push((name, json::read_text(&path)?));
    }
    Ok(Template::Named(named))
}

/// Named templates, each under a key of its own; `default` under the usual one.
fn write_named(metadata: &mut Metadata, named: Vec<(String, String)>) {
    let mut default = None;
    let mut names = BTreeSet::new();
    for (name, text) in named {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        match &*name {
            "" => {}
            "default" => default = Some(text),
            _ => {
                if !text.is_empty() {
                    metadata.insert(format!("tokenizer.chat_template.{name}"), text);
                }
                names.insert(name);
            }
        }
    }
    if !names.is_empty() {
        let names: Vec<GgufString> = names.into_iter().map(Into::into).collect();
        metadata.insert("tokenizer.chat_templates", names);
    }
    if let Some(text) = default {
        write_template(metadata, text);
    }
}

fn write_template(metadata: &mut Metadata, text: String) {
    if !text.is_empty() {
        metadata.insert("tokenizer.chat_template", text);
    }
}
