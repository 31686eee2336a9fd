//! JSON files of a checkpoint, from untrusted bytes.

use std::{borrow::Cow, path::Path};

use gguf_io::SourceFile;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    Error, Result,
    error::{DOWNLOAD, Quoted},
};

/// A JSON object in the order of the file.
pub(crate) type Object = Map<String, Value>;

/// Bytes a tokenizer.json may be long; the largest known (Gemma's) have 35 MB.
pub(crate) const TOKENIZER: u64 = 256 << 20;
/// Bytes any other file may be long; the largest known (tokenizer_config.json) have 2 MB.
const LONGEST: u64 = 16 << 20;

/// Reads a whole file of at most `longest` bytes.
pub(crate) fn read_bytes(path: &Path, longest: u64) -> Result<Vec<u8>> {
    Ok(SourceFile::open(path)?.read_all(longest)?)
}

/// Reads a whole text file, which must be UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read_bytes(path, LONGEST)?).map_err(|error| Error::Tokenizer {
        path: path.to_path_buf(),
        place: format!("byte {}", error.utf8_error().valid_up_to()),
        found: "a byte that is not UTF-8".into(),
        expected: "text".into(),
        help: DOWNLOAD,
    })
}

/// Reads a file that must hold a JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Object> {
    match parse(path, &read_bytes(path, LONGEST)?)? {
        Value::Object(object) => Ok(object),
        other => Err(Error::Json {
            path: path.to_path_buf(),
            line: 1,
            column: 1,
            key: None,
            problem: format!("found {}, expected an object", describe(&other)),
            help: DOWNLOAD,
        }),
    }
}

/// As [`read_object`], or an empty object if there is no such file.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Object>> {
    path.is_file().then(|| read_object(path)).transpose()
}

/// Parses JSON. Nesting is bounded by serde_json (128 levels).
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    // Editors on Windows write a byte order mark, which Python's reader refuses as well but with
    // less to go on; it carries nothing.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| {
        let at = position(bytes, error.line(), error.column());
        let (key, constant) = context(bytes, at);
        Error::Json {
            path: path.to_path_buf(),
            line: error.line(),
            column: error.column(),
            key: key.map(Cow::into_owned),
            problem: match constant {
                Some(constant) => format!("found {constant}, expected a finite number"),
                None => reason(&error),
            },
            help: DOWNLOAD,
        }
    })
}

/// The parser's reason without its own position.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(&*text, |(reason, _)| reason);
    // The reason may quote the file.
    reason.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The byte offset of a line and column, both from 1.
fn position(bytes: &[u8], line: usize, column: usize) -> usize {
    let start: usize =
        bytes.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    start.saturating_add(column).min(bytes.len())
}

/// The last key that begins before `at`, and which of Python's constants without a JSON spelling
/// is there, if one is.
fn context(bytes: &[u8], at: usize) -> (Option<Cow<'_, str>>, Option<&'static str>) {
    let (mut key, mut string) = (None, None);
    let mut i = 0;
    while i < at {
        match bytes.get(i) {
            Some(b'"') => {
                let start = i + 1;
                let len = string_len(bytes.get(start..).unwrap_or_default());
                string = bytes.get(start..start + len);
                i = start + len;
            }
            Some(b':') => key = string.take(),
            _ => {}
        }
        i += 1;
    }
    // The parser stops one to three bytes into the word.
    let around = bytes.get(at.saturating_sub(4)..).unwrap_or_default();
    let constant = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| {
        (0..=4).any(|skip| around.get(skip..).is_some_and(|rest| rest.starts_with(word.as_bytes())))
    });
    (key.map(String::from_utf8_lossy), constant)
}

/// The length of a string up to its closing quote.
fn string_len(rest: &[u8]) -> usize {
    let mut i = 0;
    while let Some(&b) = rest.get(i) {
        match b {
            b'"' => return i,
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    rest.len()
}

/// A value in a message.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text {}", Quoted(text)),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse::<Value>(Path::new("config.json"), text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn python_constants_are_named_with_their_key() {
        for constant in ["NaN", "Infinity", "-Infinity"] {
            let found = message(&format!("{{\"a\": 1,\n \"rms_\\\"eps\": {constant}, \"b\": 2}}"));
            assert!(
                found.starts_with("config.json: line 2, column")
                    && found.contains(&format!("found {constant}, expected a finite number"))
                    && found.contains("rms_"),
                "{found}"
            );
        }
    }

    #[test]
    fn other_problems_name_the_key_before_them() {
        let found = message("{\"a\": {\"b\": 1e999}}");
        assert!(found.contains("key \"b\": number out of range"), "{found}");
        let found = message("{\"a\": nil}");
        assert!(found.contains("key \"a\": expected ident"), "{found}");
        let found = message("{\"NaN\": 1,, }");
        assert!(!found.contains("finite"), "{found}");
    }

    #[test]
    fn depth_is_bounded() {
        let found = message(&"[".repeat(100_000));
        assert!(found.contains("recursion limit exceeded"), "{found}");
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let value: Value = parse(Path::new("x"), b"\xef\xbb\xbf{}").unwrap();
        assert_eq!(value, Value::Object(Object::new()));
    }
}
