//! Reading the keys that describe a quantization.

use std::path::Path;

use gguf_io::{json::describe, message::Quoted};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// What to do about a checkpoint that cannot be read.
const HELP: &str = "take the original checkpoint, which the model's authors usually publish too";

/// The keys of an object that describes a quantization.
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    /// What is before its keys in messages.
    pub(super) key: &'static str,
    pub(super) object: &'a Map<String, Value>,
}

impl Keys<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn is(&self, key: &str, expected: &str) -> bool {
        self.get(key).and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case(expected))
    }

    pub(super) fn wrong(&self, key: &str, found: &str, expected: &str) -> Error {
        wrong(self.path, &format!("{}{key}", self.key), found, expected)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.to_lowercase())),
            Some(other) => Err(self.wrong(key, &describe(other), "a name")),
        }
    }

    /// A width in bits that is among those read.
    pub(super) fn bits(&self, keys: &[&str], read: &[u64]) -> Result<u32> {
        let key = keys.iter().copied().find(|key| self.get(key).is_some());
        let key = key.unwrap_or(keys.first().copied().unwrap_or_default());
        self.width(key, self.get(key), read)
    }

    pub(super) fn width(&self, key: &str, value: Option<&Value>, read: &[u64]) -> Result<u32> {
        let expected = || {
            let read: Vec<_> = read.iter().map(u64::to_string).collect();
            format!("{} bits", read.join(", "))
        };
        match value {
            Some(value) => match value.as_u64().filter(|bits| read.contains(bits)) {
                Some(bits) => Ok(bits as u32),
                None => Err(self.wrong(key, &describe(value), &expected())),
            },
            None => Err(self.wrong(key, "missing", &expected())),
        }
    }

    /// Refuses a key that is anything but absent, false, empty or one of `read`.
    pub(super) fn only(&self, key: &str, read: &[&str]) -> Result<()> {
        let Some(value) = self.get(key) else { return Ok(()) };
        let fine = match value {
            Value::Bool(flag) => !flag,
            Value::String(text) => read.iter().any(|known| known.eq_ignore_ascii_case(text)),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        if fine {
            return Ok(());
        }
        let expected = if read.is_empty() { "it to be absent".into() } else { read.join(" or ") };
        Err(self.wrong(key, &describe(value), &expected))
    }

    /// Rows and columns of a block.
    pub(super) fn block(&self, key: &str, value: Option<&Value>) -> Result<Option<[u64; 2]>> {
        let Some(value) = value else { return Ok(None) };
        let numbers = value.as_array().map(|list| list.iter().map(Value::as_u64).collect());
        match numbers.unwrap_or_else(Vec::new)[..] {
            [Some(rows @ 1..), Some(columns @ 1..)] => Ok(Some([rows, columns])),
            _ => Err(self.wrong(key, &describe(value), "two positive numbers")),
        }
    }
}

/// Text of the file, as a message shows it.
pub(super) fn shown(text: &str) -> String {
    Quoted(text).to_string()
}

/// That a key of the file at `path` holds what is not read.
pub(super) fn wrong(path: &Path, key: &str, found: &str, expected: &str) -> Error {
    Error::Quantization {
        path: path.to_path_buf(),
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        help: HELP,
    }
}
