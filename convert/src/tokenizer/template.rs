//! The chat template, from whichever file has it. Templates are data: nothing reads them here.

use std::{collections::BTreeSet, path::Path};

use gguf_io::{GgufString, metadata::Metadata};
use serde_json::Value;

use crate::{
    Error, Result,
    error::DOWNLOAD,
    json::{self, Object},
};

use super::sources::Sources;

/// One template, or several.
#[derive(Debug)]
pub(super) enum Template {
    One(String),
    /// Names and templates.
    Named(Vec<(String, String)>),
}

impl Template {
    /// The template of a checkpoint; `settings` is tokenizer_config.json.
    pub(super) fn read(sources: &Sources<'_>, settings: &Object) -> Result<Option<Self>> {
        let jinja = sources.file("chat_template.jinja");
        let given = settings.get("chat_template");
        if sources.options.like_reference {
            return match given {
                Some(value) => Ok(of_value(value)),
                None if jinja.is_file() => of_files(sources, &jinja).map(Some),
                None => Ok(of_json(sources)?.as_ref().and_then(of_value)),
            };
        }
        let given = given.and_then(of_value_or_object).map(Self::without_file_marks);
        let template = match jinja.is_file() {
            true => Some(of_files(sources, &jinja)?.without_file_marks()),
            false => None,
        };
        let is_empty =
            |template: &Self| matches!(template, Self::One(text) if text.trim().is_empty());
        if template.as_ref().is_some_and(is_empty) {
            tracing::warn!(
                kind = "chat-template",
                "chat_template.jinja is empty and is passed over; download it again if the model has a \
                 template of its own"
            );
        } else if let Some(template) = template {
            if given.is_some_and(|given| given.default() != template.default()) {
                tracing::warn!(
                    kind = "chat-template",
                    "tokenizer_config.json and chat_template.jinja hold different chat templates; \
                     chat_template.jinja is written, which is the one that transformers takes: \
                     remove it if the other one is right"
                );
            }
            return Ok(Some(template));
        }
        match given {
            Some(template) => Ok(Some(template)),
            None => {
                let json = of_json(sources)?;
                Ok(json.as_ref().and_then(of_value_or_object).map(Self::without_file_marks))
            }
        }
    }

    /// Writes the keys.
    pub(super) fn write(self, metadata: &mut Metadata) {
        match self {
            Self::One(text) => write_default(metadata, text),
            Self::Named(named) => write_named(metadata, named),
        }
    }

    fn default(&self) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Named(named) => {
                named.iter().find(|(name, _)| name == "default").map(|(_, text)| text.as_str())
            }
        }
    }

    /// Without what editors add to files: a byte order mark would begin each prompt.
    fn without_file_marks(self) -> Self {
        let text = |text: String| match text.strip_prefix('\u{feff}') {
            Some(rest) => line_feeds(rest.to_owned()),
            None => line_feeds(text),
        };
        match self {
            Self::One(one) => Self::One(text(one)),
            Self::Named(named) => {
                Self::Named(named.into_iter().map(|(name, one)| (name, text(one))).collect())
            }
        }
    }
}

/// Line ends as jinja2 takes them, whichever system the file was saved on; a prompt with carriage
/// returns is not what the model was trained on.
fn line_feeds(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// What chat_template.json holds, where processors keep it.
fn of_json(sources: &Sources<'_>) -> Result<Option<Value>> {
    let object = json::read_optional(&sources.file("chat_template.json"))?;
    Ok(object.and_then(|mut object| object.remove("chat_template")))
}

/// A template or a list of them in a JSON file.
fn of_value(value: &Value) -> Option<Template> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Template::One(text.clone())),
        Value::Array(list) => {
            let text = |entry: &Value, key| Some(entry.get(key)?.as_str()?.to_owned());
            let named = list
                .iter()
                .filter_map(|entry| Some((text(entry, "name")?, text(entry, "template")?)));
            Some(Template::Named(named.collect()))
        }
        other => {
            tracing::warn!(
                kind = "chat-template",
                "chat_template is {}, neither text nor a list, and is left out",
                json::describe(other)
            );
            None
        }
    }
}

/// As [`of_value`], and from an object of names and templates, which transformers takes as well.
fn of_value_or_object(value: &Value) -> Option<Template> {
    let Value::Object(object) = value else { return of_value(value) };
    let named = object.iter().map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
    match named.collect::<Option<Vec<_>>>() {
        Some(named) => Some(Template::Named(named)),
        None => of_value(value),
    }
}

/// A file that holds a template.
pub(super) fn read(path: &Path) -> Result<String> {
    let text = json::read_text(path)?;
    match json::not_text(&text) {
        Some(found) => Err(Error::Tokenizer {
            path: path.to_path_buf(),
            place: "file".into(),
            found: found.into(),
            expected: "a chat template".into(),
            help: DOWNLOAD,
        }),
        None => Ok(line_feeds(text)),
    }
}

/// `chat_template.jinja` with those in `additional_chat_templates/`.
fn of_files(sources: &Sources<'_>, default: &Path) -> Result<Template> {
    let default = read(default)?;
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
        named.push((name, read(&path)?));
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
    if default.is_none()
        && let Some(first) = names.first()
    {
        tracing::warn!(
            kind = "chat-template",
            "none of the chat templates is named default: engines will take one of their own, unless they \
             are told which; `tokenizer.chat_template.{first}` is the first"
        );
    }
    if !names.is_empty() {
        let names: Vec<GgufString> = names.into_iter().map(Into::into).collect();
        metadata.insert("tokenizer.chat_templates", names);
    }
    if let Some(text) = default {
        write_default(metadata, text);
    }
}

fn write_default(metadata: &mut Metadata, text: String) {
    if !text.is_empty() {
        metadata.insert("tokenizer.chat_template", text);
    }
}
