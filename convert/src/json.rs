//! JSON files of a checkpoint, from untrusted bytes.

use std::{borrow::Cow, path::Path};

pub(crate) use gguf_io::json::describe;
use gguf_io::{
    SourceFile,
    json::{CONSTANTS, quote_constants, string_len, without_mark},
};
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

/// As [`read_text`], of a list with a line for each entry: without the mark that editors put before
/// text, and nothing that is no list at all.
pub(crate) fn read_lines(path: &Path) -> Result<String> {
    let text = read_text(path)?;
    match not_text(&text) {
        Some(found) => Err(Error::Tokenizer {
            path: path.to_path_buf(),
            place: "file".into(),
            found: found.into(),
            expected: "a token or a merge in each line".into(),
            help: DOWNLOAD,
        }),
        None => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
    }
}

/// What people save under the name of a text, such as a template or a vocabulary; one may begin with `<`
/// itself.
pub(crate) fn not_text(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    let starts =
        |start: &str| text.get(..start.len()).is_some_and(|here| here.eq_ignore_ascii_case(start));
    if starts("version https://git-lfs") {
        Some("a Git-LFS pointer")
    } else if starts("<!doctype html") || starts("<html") {
        Some("a web page")
    } else {
        None
    }
}

/// Reads a file that must hold a JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Object> {
    match parse(path, &read_bytes(path, LONGEST)?)? {
        Value::Object(object) if is_answer(&object) => Err(answer(path, &object)),
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
    let bytes = without_mark(bytes);
    let error = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let Some(error) = not_json(path, bytes) {
        return Err(error);
    }
    match quote_constants(bytes) {
        Some(quoted) => serde_json::from_slice(&quoted).map_err(|e| described(path, &quoted, &e)),
        None => Err(described(path, bytes, &error)),
    }
}

/// What a file is that people save under the name of another, and what to do about it.
pub(crate) fn pretender(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    match bytes.trim_ascii() {
        [] => Some(("an empty file", "download it again")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some(("text in UTF-16", "save the file as UTF-8, or download it again"))
        }
        text if text.starts_with(b"version https://git-lfs") => {
            Some(("a Git-LFS pointer", "fetch the file itself with `git lfs pull`"))
        }
        text if text.starts_with(b"<") => Some(("a web page", PAGE)),
        zeros if zeros.iter().all(|byte| *byte == 0) => {
            Some(("nothing but zeros, as a download that broke off leaves", "download it again"))
        }
        _ => None,
    }
}

/// What stands in place of JSON, if that can be told.
fn not_json(path: &Path, bytes: &[u8]) -> Option<Error> {
    let text = bytes.trim_ascii();
    if let Ok(object) = serde_json::from_slice(text)
        && is_answer(&object)
    {
        return Some(answer(path, &object));
    }
    // A sentence of a server, such as "Entry not found".
    let sentence = || {
        let text = std::str::from_utf8(text).ok()?;
        let is =
            text.len() <= SENTENCE && text.contains(' ') && text.starts_with(char::is_alphabetic);
        is.then(|| (format!("the text {}", Quoted(text)), PAGE))
    };
    let known = pretender(bytes).map(|(found, help)| (found.to_owned(), help));
    let (found, help) = known.or_else(sentence)?;
    Some(Error::Json {
        path: path.to_path_buf(),
        line: 1,
        column: 1,
        key: None,
        problem: format!("found {found}, expected JSON"),
        help,
    })
}

/// Bytes of the longest answer of a server that is shown.
const SENTENCE: usize = 400;

const PAGE: &str = "the server sent this instead of the file: download it again, with an access \
    token if the repository asks for one";

/// Whether an object is what a server says of a request that failed.
fn is_answer(object: &Object) -> bool {
    object.len() <= 4 && object.get("error").is_some_and(Value::is_string)
}

fn answer(path: &Path, object: &Object) -> Error {
    let text = object.get("error").and_then(Value::as_str).unwrap_or_default();
    Error::Json {
        path: path.to_path_buf(),
        line: 1,
        column: 1,
        key: Some("error".to_owned()),
        problem: format!("found the answer of a server, {}", Quoted(text)),
        help: PAGE,
    }
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
    fn what_servers_send_instead_of_json_is_named() {
        for (text, says) in [
            (&b""[..], "found an empty file"),
            (b" \n", "found an empty file"),
            (b"<!doctype html>", "found a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "found a Git-LFS pointer"),
            (b"\xff\xfe{\0}\0", "found text in UTF-16"),
            (b"\0\0\0\0", "found nothing but zeros"),
            (b"Entry not found", "found the text \"Entry not found\""),
            (b"Invalid username or password.", "an access token"),
        ] {
            let error = parse::<Value>(Path::new("config.json"), text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for (text, says) in [
            (r#"{"error": "Repository not found"}"#, Some("\"Repository not found\"")),
            (r#"{"error": "x", "error_type": "GatedRepo"}"#, Some("the answer of a server")),
            (r#"{"errors": "x"}"#, None),
            (r#"{"error": 0.5}"#, None),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_object(&path).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), says.is_some(), "{text}: {error:?}");
            assert!(error.unwrap_or_default().contains(says.unwrap_or_default()), "{text}");
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
