//! What is wrong with a model.

use std::fmt;

use gguf_io::{message::Quoted, metadata::Value};

/// Something that keeps loaders from using a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// The whole key or the tensor that it is about.
    pub subject: String,
    /// One line that says what and where, found against expected. Text from the file is escaped.
    pub message: String,
}

impl Problem {
    /// The problem, the first of several, and how many more [`check`](crate::check) lists.
    ///
    /// ```
    /// let report = gguf_model::check(&gguf_io::Metadata::new(), [("blk.0.attn_q.weight", &[8u64][..])]);
    /// let first = report.problems.first().unwrap();
    /// assert_eq!(first.of(1), first.message);
    /// assert!(first.of(3).ends_with("; `check` lists 2 more"));
    /// ```
    pub fn of(&self, count: u64) -> String {
        match count {
            0 | 1 => self.message.clone(),
            _ => format!("{}; `check` lists {} more", self.message, count - 1),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A key is missing.
    MissingKey,
    /// A key has another type or value than loaders take.
    WrongKey,
    /// A tensor is missing.
    MissingTensor,
    /// A tensor has another shape than the metadata says.
    WrongShape,
    /// A tensor that this architecture does not have.
    UnknownTensor,
}

/// Problems and notes that are kept; further ones are counted, so that a hostile file cannot fill
/// the memory.
const KEPT: usize = 256;

/// A list of problems that cannot grow without end.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Problem>,
    count: u64,
}

impl Problems {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.kept
    }

    pub(crate) fn add(&mut self, kind: ProblemKind, subject: &str, message: impl Into<String>) {
        if self.kept.len() < KEPT {
            self.kept.push(Problem { kind, subject: subject.to_owned(), message: message.into() });
        }
        self.count = self.count.saturating_add(1);
    }

    /// A key whose value is not right.
    pub(crate) fn key(&mut self, key: &str, says: impl fmt::Display) {
        self.add(ProblemKind::WrongKey, key, format!("key {} {says}", Quoted(key)));
    }

    pub(crate) fn missing_key(&mut self, key: &str, expected: &str) {
        let message = format!("key {} is missing, expected {expected}", Quoted(key));
        self.add(ProblemKind::MissingKey, key, message);
    }
}

/// A value as messages show it.
pub(crate) fn described(value: &Value) -> String {
    match value {
        Value::Array(array) => {
            format!("an array of {} {}", array.len(), array.element_type().name())
        }
        Value::String(text) => match text.as_str() {
            Some(text) => format!("the STRING {}", Quoted(text)),
            None => "a STRING that is not UTF-8".into(),
        },
        value => format!("{} {}", value.value_type().name(), number(value)),
    }
}

/// The number or flag that a value is.
fn number(value: &Value) -> String {
    match value {
        Value::Float32(number) => number.to_string(),
        Value::Float64(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int8(number) => number.to_string(),
        Value::Int16(number) => number.to_string(),
        Value::Int32(number) => number.to_string(),
        Value::Int64(number) => number.to_string(),
        other => other.as_u64().map_or_else(String::new, |number| number.to_string()),
    }
}
