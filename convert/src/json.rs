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
///
/// Numbers that are not finite, which Python writes and reads, become the texts of
/// [`CONSTANTS`]: nothing that needs a number takes them, and what nobody reads does no harm.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    // Editors on Windows write a byte order mark, which Python's reader refuses as well but with
    // less to go on; it carries nothing.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match quote_constants(bytes) {
        Some(quoted) => serde_json::from_slice(&quoted).map_err(|e| described(path, &quoted, &e)),
        None => Err(described(path, bytes, &error)),
    }
}

/// Python's numbers without a JSON spelling.
const CONSTANTS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with quotes around [`CONSTANTS`], and with those in place of numbers too large for 64
/// bits; `None` if there are none.
fn quote_constants(bytes: &[u8]) -> Option<Vec<u8>> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    let mut quoted = Vec::new();
    let (mut copied, mut i) = (0, 0);
    // The last byte that is no white space: values follow these.
    let mut before = 0;
    while let Some(&b) = bytes.get(i) {
        let rest = bytes.get(i..).unwrap_or_default();
        let len = match b {
            b'"' => 2 + string_len(rest.get(1..).unwrap_or_default()),
            b if is_word(b) => rest.iter().take_while(|b| is_word(**b)).count(),
            _ => 1,
        };
        let word = rest.get(..len).and_then(|word| std::str::from_utf8(word).ok());
        if let (true, Some(word)) = (matches!(before, b':' | b'[' | b','), word) {
            let constant = CONSTANTS.into_iter().find(|constant| *constant == word);
            let huge = || match word.parse::<f64>() {
                Ok(number)
                    if word.ends_with(|c: char| c.is_ascii_digit()) && number.is_infinite() =>
                {
                    Some(if number > 0.0 { "Infinity" } else { "-Infinity" })
                }
                _ => None,
            };
            if let Some(constant) = constant.or_else(huge) {
                quoted.extend(bytes.get(copied..i).unwrap_or_default());
                quoted.extend(format!("\"{constant}\"").into_bytes());
                copied = i + len;
            }
        }
        if !b.is_ascii_whitespace() {
            before = b;
        }
        i += len;
    }
    quoted.extend(bytes.get(copied..).unwrap_or_default());
    (copied > 0).then_some(quoted)
}

fn described(path: &Path, bytes: &[u8], error: &serde_json::Error) -> Error {
    let at = position(bytes, error.line(), error.column());
    let problem = reason(error);
    let is = |constant: &&str| problem.starts_with(&format!("invalid type: string \"{constant}\""));
    Error::Json {
        path: path.to_path_buf(),
        line: error.line(),
        column: error.column(),
        key: key(bytes, at).map(Cow::into_owned),
        problem: match CONSTANTS.into_iter().find(is) {
            Some(constant) => format!("found {constant}, expected a finite number"),
            None => problem,
        },
        help: DOWNLOAD,
    }
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

/// The last key that begins before `at`.
fn key(bytes: &[u8], at: usize) -> Option<Cow<'_, str>> {
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
    key.map(String::from_utf8_lossy)
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
        Value::String(text) if CONSTANTS.contains(&text.as_str()) => text.clone(),
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
    fn python_constants_are_described_as_themselves() {
        let text =
            b"{\"a\": NaN, \"b\": [1, -Infinity ,1e999,-1e999], \"NaN\": \"x, NaN\\\" :Infinity\"}";
        let value: Value = parse(Path::new("x"), text).unwrap();
        assert_eq!(describe(&value["a"]), "NaN");
        assert_eq!(value["b"], serde_json::json!([1, "-Infinity", "Infinity", "-Infinity"]));
        assert_eq!(value["NaN"], "x, NaN\" :Infinity");
        assert!(value["a"].as_f64().is_none());
    }

    #[test]
    fn python_constants_where_a_number_is_read_are_named() {
        #[derive(Debug, serde::Deserialize)]
        struct Scores {
            #[serde(rename = "scores")]
            _scores: Vec<f32>,
        }
        for constant in ["NaN", "Infinity", "-Infinity", "1e999"] {
            let text = format!("{{\"a\": 1,\n \"scores\": [0.5, {constant}], \"b\": 2}}");
            let error = parse::<Scores>(Path::new("tokenizer.json"), text.as_bytes()).unwrap_err();
            let found = error.to_string();
            assert!(
                found.starts_with("tokenizer.json: line 2, column")
                    && found.contains("key \"scores\"")
                    && found.contains("expected a finite number"),
                "{found}"
            );
        }
    }

    #[test]
    fn other_problems_name_the_key_before_them() {
        let found = message("{\"a\": {\"b\": tru}}");
        assert!(found.contains("key \"b\": expected ident"), "{found}");
        let found = message("{\"a\": nil}");
        assert!(found.contains("key \"a\": expected ident"), "{found}");
        for text in ["{\"NaN\": 1,, }", "{\"a\": NaNs}", "{NaN: 1}", "{\"a\": Infinity 1}"] {
            let found = message(text);
            assert!(!found.contains("finite"), "{found}");
        }
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
