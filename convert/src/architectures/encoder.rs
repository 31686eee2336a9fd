//! What encoders have in common: no order of attention, pooling, labels of classes.

use std::path::{Component, Path};

use gguf_io::GgufString;
use serde_json::Value;

use crate::{
    Config, Error, Result,
    error::{DOWNLOAD, Quoted},
    json::{self, Object, describe},
};

use super::{
    parameter::{Constant, Keys, Parameter},
    rule::{Dim, Rule},
    shared::HIDDEN,
};

/// The classes of a classifier. Two have no names unless config.json gives them.
pub(super) const CLASSES: Dim =
    Dim::Derived("classes", |config| Ok(labels(config)?.map_or(2, |labels| labels.len() as u64)));

/// A single layer from the state of the first token to classes. The reference converter calls it
/// by another name where the labels of the classes are numbers.
pub(super) const ONE_LAYER: &[Rule] = &[
    Rule::new("classifier", "cls.output", &[CLASSES, HIDDEN]).bias().when(has_named_classes),
    Rule::new("classifier", "cls", &[CLASSES, HIDDEN]).bias().when(has_unnamed_classes),
];

/// Two layers to classes, as RoBERTa has them.
pub(super) const TWO_LAYERS: &[Rule] = &[
    Rule::new("classifier.dense", "cls", &[HIDDEN, HIDDEN])
        .bias()
        .when(|config| Ok(is_classifier(config))),
    Rule::new("classifier.out_proj", "cls.output", &[CLASSES, HIDDEN])
        .bias()
        .when(|config| Ok(is_classifier(config))),
];

/// The second of two layers, where the first has a name of its own.
pub(super) const LAST_LAYER: &[Rule] = &[Rule::new("classifier", "cls.output", &[CLASSES, HIDDEN])
    .bias()
    .when(|config| Ok(is_classifier(config)))];

/// Heads that predict masked words and the like.
const HEAD: &str = "embeddings and classes are made without the heads of its training";

/// Heads that GGUF's graph has no use for.
pub(super) const HEADS_LEFT_OUT: &[Rule] = &[
    Rule::left_out("pooler.dense", HEAD),
    Rule::left_out("cls.predictions", HEAD),
    Rule::left_out("cls.predictions.decoder", HEAD),
    Rule::left_out("cls.predictions.transform.dense", HEAD),
    Rule::left_out("cls.predictions.transform.LayerNorm", HEAD),
    Rule::left_out("cls.seq_relationship", HEAD),
    Rule::left_out("vocab_transform", HEAD),
    Rule::left_out("vocab_layer_norm", HEAD),
    Rule::left_out("vocab_projector", HEAD),
];

/// Written after what all models have.
pub(super) const ENCODER: &[Parameter] = &[
    Parameter::Constant("attention.causal", Constant::Flag(false)),
    Parameter::With(pooling),
    Parameter::With(|config, keys| {
        if let Some(labels) = labels(config)? {
            let labels: Vec<GgufString> = labels.into_iter().map(Into::into).collect();
            keys.set("classifier.output_labels", labels);
        } else if has_unnamed_classes(config)? {
            tracing::warn!(
                "llama.cpp does not load a classifier whose classes have no names: give them in \
                 id2label of config.json"
            );
        }
        Ok(())
    }),
];

/// The labels in the order of their classes, unless they are what transformers makes up.
fn labels(config: &Config) -> Result<Option<Vec<String>>> {
    const KEY: &str = "id2label";
    let expected = "an object of numbers and names";
    let labels = match config.get(KEY) {
        None => match config.positive("num_labels")? {
            None | Some(2) => return Ok(None),
            Some(count @ 3..=0xffff | count @ 1) => {
                return Ok(Some((0..count).map(|i| format!("LABEL_{i}")).collect()));
            }
            Some(absurd) => {
                return Err(config.wrong("num_labels", &absurd.to_string(), "at most 65535"));
            }
        },
        Some(Value::Object(labels)) => labels,
        Some(other) => return Err(config.wrong(KEY, &describe(other), expected)),
    };
    let mut named = Vec::with_capacity(labels.len());
    for (number, label) in labels {
        match (number.parse::<u64>(), label.as_str()) {
            (Ok(number), Some(label)) => named.push((number, label.to_owned())),
            _ => return Err(config.wrong(KEY, &describe(label), expected)),
        }
    }
    named.sort();
    let made_up = named.is_empty()
        || named.len() == 2 && named.first().is_some_and(|first| *first == (0, "LABEL_0".into()));
    Ok((!made_up).then(|| named.into_iter().map(|(_, label)| label).collect()))
}

pub(super) fn is_classifier(config: &Config) -> bool {
    config.class().is_ok_and(|class| class.ends_with("ForSequenceClassification"))
}

fn has_named_classes(config: &Config) -> Result<bool> {
    Ok(is_classifier(config) && labels(config)?.is_some())
}

fn has_unnamed_classes(config: &Config) -> Result<bool> {
    Ok(is_classifier(config) && labels(config)?.is_none())
}

/// How the states of all tokens become one, as the files of sentence-transformers say.
pub(super) fn pooling(config: &Config, keys: &mut Keys<'_>) -> Result<()> {
    let dir = config.path().parent().unwrap_or(Path::new(""));
    if let Some(pooling) = pooling_module(dir, config.like_reference())? {
        keys.set("pooling_type", pooling);
    }
    if let Some(value) = config.get("classifier_pooling") {
        let number = match value.as_str() {
            Some("mean") => MEAN,
            Some("cls") => FIRST,
            // EuroBERT's, which is no pooling of an embedding.
            Some("late") => return Ok(()),
            _ => {
                return Err(config.wrong("classifier_pooling", &describe(value), "cls or mean"));
            }
        };
        keys.set("classifier.pooling_type", number);
    }
    Ok(())
}

const MEAN: u32 = 1;
const FIRST: u32 = 2;
const LAST: u32 = 3;

/// What a user can do about pooling that GGUF does not know.
const WITHOUT: &str = "move the file away to convert the model without pooling";

/// The folder of the pooling module where no modules.json names it.
const USUAL: &str = "1_Pooling";

fn pooling_module(dir: &Path, like_reference: bool) -> Result<Option<u32>> {
    let path = dir.join("modules.json");
    if !path.is_file() {
        // Some copies have lost modules.json; the reference converter then writes nothing.
        let path = dir.join(USUAL).join("config.json");
        return if path.is_file() && !like_reference { mode(&path).map(Some) } else { Ok(None) };
    }
    let modules: Vec<Object> = json::parse(&path, json::read_text(&path)?.as_bytes())?;
    let text = |module: &Object, key| module.get(key).and_then(Value::as_str).map(str::to_owned);
    // The class without the package, which has had several names.
    let kind = |module: &Object| {
        let ty = text(module, "type").unwrap_or_default();
        ty.rsplit('.').next().unwrap_or_default().to_owned()
    };
    let named = |wanted: fn(&str) -> bool| {
        let modules = modules.iter().filter(|module| wanted(&kind(module)));
        modules.map(|module| text(module, "path").unwrap_or_default()).collect::<Vec<_>>()
    };
    let other = named(|kind| !["Transformer", "Pooling", "Normalize", "Dense", ""].contains(&kind));
    if !other.is_empty() {
        tracing::warn!(
            kind = "pooling",
            "modules.json: GGUF has no place for the modules {}, which are left out: embeddings \
             will be other ones than those of sentence-transformers",
            Quoted(&other.join(", "))
        );
    }
    let Some(module) = modules.iter().find(|module| kind(module) == "Pooling") else {
        return Ok(None);
    };
    let dense = named(|kind| kind == "Dense");
    if !dense.is_empty() {
        tracing::warn!(
            kind = "pooling",
            "modules.json: the dense layers after pooling ({}) are left out, as llama.cpp's \
             converter does: embeddings will be those before them",
            Quoted(&dense.join(", "))
        );
    }
    let folder = text(module, "path").unwrap_or_default();
    let inside = Path::new(&folder).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return Err(Error::Config {
            path,
            key: "path".into(),
            found: describe(&folder.into()),
            expected: "a folder inside that of the model".into(),
            help: DOWNLOAD,
        });
    }
    let settings = dir.join(&folder).join("config.json");
    if !settings.is_file() {
        return Err(Error::Config {
            path,
            key: "path".into(),
            found: format!("{}, where there is no config.json", Quoted(&folder)),
            expected: "the folder of the pooling, which says what it is".into(),
            help: "download the folder as well",
        });
    }
    mode(&settings).map(Some)
}

/// The ways of pooling that a configuration asks for, in its own words.
fn wanted(settings: &Object) -> String {
    let wanted = settings.iter().filter(|(_, value)| **value == Value::Bool(true));
    let names: Vec<_> =
        wanted.filter_map(|(key, _)| key.strip_prefix("pooling_mode_")).take(4).collect();
    match names.as_slice() {
        [] => "none that is known".to_owned(),
        names => Quoted(&names.join(", ")).to_string(),
    }
}

/// What the configuration of a pooling module says.
fn mode(path: &Path) -> Result<u32> {
    let settings = json::read_object(path)?;
    let is = |key: &str| settings.get(key) == Some(&Value::Bool(true));
    if is("pooling_mode_mean_tokens") {
        Ok(MEAN)
    } else if is("pooling_mode_cls_token") {
        Ok(FIRST)
    } else if is("pooling_mode_lasttoken") {
        Ok(LAST)
    } else {
        match settings.get("pooling_mode").and_then(Value::as_str) {
            Some("mean") => Ok(MEAN),
            Some("cls") => Ok(FIRST),
            Some("lasttoken") => Ok(LAST),
            other => Err(Error::Config {
                path: path.to_path_buf(),
                key: "pooling_mode".into(),
                found: other.map_or_else(|| wanted(&settings), |other| Quoted(other).to_string()),
                expected: "the mean of all tokens, the first or the last token".into(),
                help: WITHOUT,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("config.json", text.as_bytes()).unwrap()
    }

    #[test]
    fn labels_are_in_the_order_of_their_numbers() {
        let found = labels(&config(r#"{"id2label": {"10": "k", "2": "c", "0": "a"}}"#)).unwrap();
        assert_eq!(found.unwrap(), ["a", "c", "k"]);
    }

    #[test]
    fn labels_that_are_made_up_are_none() {
        for text in
            ["{}", r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#, r#"{"num_labels": 2}"#]
        {
            assert_eq!(labels(&config(text)).unwrap(), None, "{text}");
        }
        for text in [r#"{"id2label": {"0": "LABEL_0"}}"#, r#"{"num_labels": 1}"#] {
            assert_eq!(labels(&config(text)).unwrap().unwrap(), ["LABEL_0"], "{text}");
        }
        for text in [r#"{"id2label": {"a": "b"}}"#, r#"{"id2label": 7}"#, r#"{"num_labels": 1e9}"#]
        {
            assert!(labels(&config(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_pooling_module_is_inside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(pooling_module(folder.path(), false).unwrap(), None);
        for (path, pooling, expected) in [
            ("p", r#"{"pooling_mode_mean_tokens": true}"#, Ok(MEAN)),
            (
                "p",
                r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#,
                Ok(FIRST),
            ),
            ("p", r#"{"pooling_mode": "lasttoken"}"#, Ok(LAST)),
            ("p", r#"{"pooling_mode_max_tokens": true}"#, Err("\"max_tokens\"")),
            ("p", r#"{"pooling_mode": ["cls"]}"#, Err("none that is known")),
            ("../p", "{}", Err("inside")),
            ("/p", "{}", Err("inside")),
        ] {
            std::fs::create_dir_all(folder.path().join("p")).unwrap();
            write("p/config.json", pooling);
            write(
                "modules.json",
                &format!(
                    r#"[{{"type": "sentence_transformers.models.Transformer", "path": ""}},
                        {{"type": "sentence_transformers.models.Pooling", "path": "{path}"}}]"#
                ),
            );
            match (pooling_module(folder.path(), false), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, Some(expected)),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{path} {pooling}: {found:?}"),
            }
        }
    }
}
