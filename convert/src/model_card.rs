//! What the model card and a metadata file say of a model: who made it from what, and under which
//! license. The rules are those of gguf-py's `Metadata`, so that the keys made from them are the
//! same.

use std::{collections::HashMap, path::Path};

use gguf_io::{GgufString, metadata::Metadata};
use serde_json::Value;

use crate::{
    Result,
    error::{Quoted, Shown},
    json::{self, Object, describe},
    model_name::{Name, title},
};

/// Keys of GGUF below `general.` that hold text, in the order they are written, and the keys of a
/// model card that they are taken from, the first that has a value.
const TEXTS: [(&str, &[&str]); 20] = [
    ("name", &["name", "model_name"]),
    ("author", &["author", "model_author", "model_creator"]),
    ("version", &["version", "model_version"]),
    ("organization", &["organization", "model_organization"]),
    ("finetune", &["finetune", "model_finetune"]),
    ("basename", &["basename", "model_basename", "model_type"]),
    ("description", &["description", "model_description"]),
    ("quantized_by", &[]),
    ("size_label", &["size_label", "model_size_label"]),
    ("license", &["license"]),
    ("license.name", &["license_name"]),
    ("license.link", &["license_link"]),
    ("url", &[]),
    ("doi", &[]),
    ("uuid", &[]),
    ("repo_url", &[]),
    ("source.url", &["url", "model_url"]),
    ("source.doi", &["doi", "model_doi"]),
    ("source.uuid", &["uuid", "model_uuid"]),
    ("source.repo_url", &["repo_url", "model_repo_url"]),
];

/// Keys of a parent model or data set, in the order they are written.
const PARENT: [&str; 9] =
    ["name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"];

/// A parent model or a data set: keys and values.
type Parent = HashMap<&'static str, String>;

/// What is known of a model.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ModelCard {
    texts: HashMap<&'static str, String>,
    base_models: Option<Vec<Parent>>,
    datasets: Option<Vec<Parent>>,
    tags: Vec<String>,
    languages: Vec<String>,
}

impl ModelCard {
    /// Reads README.md of a checkpoint; `weights` is the size of the model, which that of its
    /// parents is taken to be near. A card is advice: a damaged one is no reason to stop.
    pub(crate) fn read(dir: &Path, weights: i64) -> Self {
        let path = dir.join("README.md");
        if !path.is_file() {
            return Self::default();
        }
        let card = match json::read_text(&path) {
            Ok(text) => front_matter(text.strip_prefix('\u{feff}').unwrap_or(&text)),
            Err(error) => Err(error.to_string()),
        };
        match card {
            Ok(Some(card)) => Self::from_card(&card, weights),
            Ok(None) => Self::default(),
            Err(problem) => {
                tracing::warn!(kind = "metadata", "README.md is left out: {problem}");
                Self::default()
            }
        }
    }

    fn from_card(card: &Object, weights: i64) -> Self {
        let mut found = Self::default();
        for (key, names) in TEXTS {
            let value = names.iter().filter_map(|name| card.get(*name)).find(|v| !v.is_null());
            found.texts.extend(value.and_then(|value| text(key, value)).map(|text| (key, text)));
        }
        let first = |names: [&str; 3]| names.into_iter().find_map(|name| card.get(name));
        found.base_models = first(["base_model", "base_models", "base_model_sources"])
            .map(|value| parents(value, weights));
        found.datasets =
            first(["datasets", "dataset", "dataset_sources"]).map(|value| parents(value, weights));
        for (list, names) in [
            (&mut found.tags, ["tags", "pipeline_tag"]),
            (&mut found.languages, ["languages", "language"]),
        ] {
            for name in names {
                list.extend(items(card.get(name)).iter().filter_map(|value| text(name, value)));
            }
        }
        found
    }

    /// Takes the parts of a name for what is not known yet.
    pub(crate) fn fill(&mut self, name: Name) {
        for (key, value) in [
            ("name", name.full.as_deref().map(title)),
            ("organization", name.organization.as_deref().map(title)),
            ("basename", name.basename),
            ("finetune", name.finetune),
            ("version", name.version),
            ("size_label", name.size_label),
        ] {
            if let Some(value) = value {
                self.texts.entry(key).or_insert(value);
            }
        }
    }

    /// Takes a size where none is known.
    pub(crate) fn fill_size(&mut self, label: Option<String>) {
        if let Some(label) = label {
            self.texts.entry("size_label").or_insert(label);
        }
    }

    /// Replaces what a metadata file gives. What it gives for sampling is not looked at.
    pub(crate) fn replace(&mut self, given: &Object) {
        for (key, value) in given {
            let Some(name) = key.strip_prefix("general.") else {
                let problem = "does not begin with \"general.\" and is left out";
                tracing::warn!(kind = "metadata", "`metadata`: key {} {problem}", Quoted(key));
                continue;
            };
            match name {
                "base_models" => self.base_models = Some(parents(value, 0)),
                "datasets" => self.datasets = Some(parents(value, 0)),
                "tags" => self.tags = texts(name, value),
                "languages" => self.languages = texts(name, value),
                _ if name.starts_with("sampling.") => {}
                _ => match TEXTS.iter().find(|(text, _)| *text == name) {
                    Some((name, _)) => {
                        self.texts.extend(text(name, value).map(|value| (*name, value)));
                    }
                    None => {
                        let problem = "is not one that a file of metadata can set and is left out";
                        tracing::warn!(
                            kind = "metadata",
                            "`metadata`: key {} {problem}",
                            Quoted(key)
                        );
                    }
                },
            }
            if matches!(name, "base_models" | "datasets") {
                warn_of_parents(key, value);
            }
        }
    }

    /// Writes the keys, but for those that are empty.
    pub(crate) fn write(mut self, metadata: &mut Metadata) {
        for (key, _) in TEXTS {
            if let Some(value) = self.texts.remove(key).filter(|value| !value.is_empty()) {
                metadata.insert(format!("general.{key}"), value);
            }
        }
        for (kind, parents) in [("base_model", self.base_models), ("dataset", self.datasets)] {
            let Some(parents) = parents else { continue };
            let count = u32::try_from(parents.len()).unwrap_or(u32::MAX);
            metadata.insert(format!("general.{kind}.count"), count);
            for (number, mut parent) in parents.into_iter().enumerate() {
                for key in PARENT {
                    if let Some(value) = parent.remove(key).filter(|value| !value.is_empty()) {
                        metadata.insert(format!("general.{kind}.{number}.{key}"), value);
                    }
                }
            }
        }
        for (key, values) in [("tags", self.tags), ("languages", self.languages)] {
            if !values.is_empty() {
                let values: Vec<GgufString> = values.into_iter().map(Into::into).collect();
                metadata.insert(format!("general.{key}"), values);
            }
        }
    }
}

/// Reads a metadata file: keys of GGUF and their values.
///
/// # Errors
/// If it is not there or not a JSON object: it was asked for.
pub(crate) fn read_overrides(path: Option<&Path>) -> Result<Object> {
    let Some(path) = path else { return Ok(Object::new()) };
    let keys = json::read_object(path)?;
    if keys.is_empty() {
        tracing::warn!(kind = "unused-option", "{}: the metadata file holds no keys", Shown(path));
    }
    Ok(keys)
}

/// The YAML between the first two lines of three dashes.
fn front_matter(text: &str) -> Result<Option<Object>, String> {
    let mut lines = text.lines();
    if lines.next() != Some("---") {
        return Ok(None);
    }
    let mut yaml = String::new();
    for line in lines.take_while(|line| *line != "---") {
        yaml.push_str(line);
        yaml.push('\n');
    }
    // As gguf-py does: the language code of Norwegian is no false, and a tab is two spaces.
    let yaml = yaml.replace("- no\n", "- \"no\"\n").replace('\t', "  ");
    if yaml.trim().is_empty() {
        return Ok(None);
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        // `y` and `n` are text to gguf-py's reader as well.
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(&yaml, options) {
        Ok(Value::Object(card)) => Ok(Some(card)),
        Ok(other) => Err(format!("the front matter is {}, expected keys", describe(&other))),
        Err(error) => {
            let line: String =
                error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            Err(format!("the front matter is not YAML: {line}"))
        }
    }
}

/// A value as text; several licenses are separated by commas.
fn text(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // YAML takes a version such as 1.0 for a number.
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(values) if key == "license" => {
            Some(values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
        }
        other => {
            let (key, found) = (Quoted(key), describe(other));
            tracing::warn!(
                kind = "metadata",
                "the value of {key} is {found}, not text, and is left out"
            );
            None
        }
    }
}

fn texts(key: &str, value: &Value) -> Vec<String> {
    items(Some(value)).iter().filter_map(|value| text(key, value)).collect()
}

/// One value or a list of them.
fn items(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values,
        Some(value) => std::slice::from_ref(value),
    }
}

/// What a metadata file says of parent models or data sets and no key of GGUF holds.
fn warn_of_parents(key: &str, value: &Value) {
    let warn = |problem: String| {
        tracing::warn!(kind = "metadata", "`metadata`: key {}: {problem}", Quoted(key));
    };
    for item in items(Some(value)) {
        match item {
            Value::String(_) => {}
            Value::Object(given) => {
                for unknown in given.keys().filter(|key| !PARENT.contains(&key.as_str())) {
                    let known = PARENT.join(", ");
                    warn(format!("{} is left out, the keys there are: {known}", Quoted(unknown)));
                }
            }
            other => warn(format!("found {}, expected a name or keys", describe(other))),
        }
    }
}

/// Parent models or data sets, each given by its id, its address or by keys.
fn parents(value: &Value, weights: i64) -> Vec<Parent> {
    let parent = |value: &Value| match value {
        Value::String(id) => by_name(id, weights),
        Value::Object(given) => {
            PARENT.into_iter().filter_map(|key| Some((key, text(key, given.get(key)?)?))).collect()
        }
        _ => Parent::new(),
    };
    items(Some(value)).iter().map(parent).collect()
}

const HUB: &str = "huggingface.co/";

fn by_name(id: &str, weights: i64) -> Parent {
    let mut parent = Parent::new();
    let is_address = ["http://", "https://", "ssh://"].iter().any(|start| id.starts_with(start));
    let mut name = Name::default();
    if is_address {
        parent.insert("repo_url", id.to_owned());
        let rest = id.strip_prefix("https://").or_else(|| id.strip_prefix("http://"));
        let rest = rest.and_then(|rest| rest.strip_prefix(HUB));
        let is_id = |rest: &&str| {
            let mut parts = rest.split('/');
            let named = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
            named(parts.next()) && named(parts.next()) && parts.next().is_none()
        };
        if let Some(id) = rest.filter(is_id) {
            name = Name::parse(id, weights);
        }
    } else {
        name = Name::parse(id, weights);
        if let (Some(organization), Some(full)) = (&name.organization, &name.full) {
            parent.insert("repo_url", format!("https://{HUB}{organization}/{full}"));
        }
    }
    parent.extend(name.full.as_deref().map(|full| ("name", title(full))));
    parent.extend(name.organization.as_deref().map(|name| ("organization", title(name))));
    parent.extend(name.version.map(|version| ("version", version)));
    parent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(card: &str, overrides: &str) -> Vec<String> {
        let mut found = match front_matter(card).unwrap() {
            Some(object) => ModelCard::from_card(&object, 7_000_000_000),
            None => ModelCard::default(),
        };
        found.replace(&serde_json::from_str(overrides).unwrap());
        let mut metadata = Metadata::new();
        found.write(&mut metadata);
        metadata.iter().map(|(key, value)| format!("{key} = {value:?}")).collect()
    }

    #[test]
    fn a_card_becomes_keys() {
        let card = "---\nlicense: apache-2.0\nversion: 1.0\ntags: [a, b]\npipeline_tag: text-generation\n\
language:\n- en\n- no\nbase_model: mistralai/Mistral-7B-v0.1\ndatasets:\n- https://huggingface.co/datasets/x\n\
- org/set-v2\n- {name: Own, url: u}\nmodel_creator: Me\n---\nlicense: no\n";
        assert_eq!(
            keys(card, "{}"),
            [
                r#"general.author = String("Me")"#,
                r#"general.version = String("1.0")"#,
                r#"general.license = String("apache-2.0")"#,
                "general.base_model.count = Uint32(1)",
                r#"general.base_model.0.name = String("Mistral 7B v0.1")"#,
                r#"general.base_model.0.version = String("v0.1")"#,
                r#"general.base_model.0.organization = String("Mistralai")"#,
                r#"general.base_model.0.repo_url = String("https://huggingface.co/mistralai/Mistral-7B-v0.1")"#,
                "general.dataset.count = Uint32(3)",
                r#"general.dataset.0.name = String("X")"#,
                r#"general.dataset.0.organization = String("Datasets")"#,
                r#"general.dataset.0.repo_url = String("https://huggingface.co/datasets/x")"#,
                r#"general.dataset.1.name = String("Set v2")"#,
                r#"general.dataset.1.version = String("v2")"#,
                r#"general.dataset.1.organization = String("Org")"#,
                r#"general.dataset.1.repo_url = String("https://huggingface.co/org/set-v2")"#,
                r#"general.dataset.2.name = String("Own")"#,
                r#"general.dataset.2.url = String("u")"#,
                r#"general.tags = Array(String(["a", "b", "text-generation"]))"#,
                r#"general.languages = Array(String(["en", "no"]))"#,
            ]
        );
    }

    #[test]
    fn a_metadata_file_replaces() {
        let card = "---\nlicense: [mit, apache-2.0]\ntags: a\nname: Old\n---\n";
        let given = r#"{"general.name": "New", "general.tags": ["x"], "general.url": "u",
            "general.base_models": [{"name": "Base"}], "general.license": "mit", "other": 1}"#;
        assert_eq!(
            keys(card, given),
            [
                r#"general.name = String("New")"#,
                r#"general.license = String("mit")"#,
                r#"general.url = String("u")"#,
                "general.base_model.count = Uint32(1)",
                r#"general.base_model.0.name = String("Base")"#,
                r#"general.tags = Array(String(["x"]))"#,
            ]
        );
        assert_eq!(keys(card, "{}")[1], r#"general.license = String("mit,apache-2.0")"#);
    }

    #[test]
    fn cards_without_keys_and_damaged_ones() {
        for none in ["", "text", "----\na: b\n---\n", "---\n---\n", " ---\na: b\n---\n"] {
            assert_eq!(front_matter(none), Ok(None), "{none:?}");
        }
        // Aliases of aliases do not fill the memory.
        let mut bomb = "---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let many = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{many}]\n");
        }
        for bad in ["---\n- a\n---\n", "---\na: [\n---\n", "---\na: b: c\n---\n", &bomb] {
            let problem = front_matter(bad).unwrap_err();
            assert!(!problem.contains('\n'), "{problem}");
        }
    }
}
