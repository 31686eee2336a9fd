//! JSON as Python writes it: numbers that have no spelling in JSON, and byte order marks.

use serde_json::Value;

use crate::message::Quoted;

/// Python's numbers without a JSON spelling.
pub const CONSTANTS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with quotes around [`CONSTANTS`], and with those in place of numbers too large for 64
/// bits; `None` if there are none.
pub fn quote_constants(bytes: &[u8]) -> Option<Vec<u8>> {
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

/// The length of a string up to its closing quote, from the byte after its first one.
pub fn string_len(rest: &[u8]) -> usize {
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

/// The text without the byte order mark that editors on Windows write, which carries nothing.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A value in a message.
pub fn describe(value: &Value) -> String {
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
