//! `--tensor-type REGEX=TYPE` and the file with many of them.

use std::{fs::File, io::Read, path::Path, str::FromStr};

use quant_core::GgmlType;
use regex::{Regex, RegexBuilder};

use super::Error;

/// The largest `--tensor-type-file` that is read: some ten thousand lines.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The type of all tensors whose name matches a pattern.
#[derive(Clone, Debug)]
pub struct TensorOverride {
    /// Searched for anywhere in the name, whatever its case.
    pub(crate) pattern: Regex,
    /// The type they get.
    pub ty: GgmlType,
    /// Where it was given, for messages: the option, or the file and line.
    pub place: String,
}

impl TensorOverride {
    /// The regular expression.
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Whether it is for the tensor of this name.
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }
}

impl FromStr for TensorOverride {
    type Err = Error;

    /// As [`parse_tensor_type`].
    fn from_str(text: &str) -> Result<Self, Error> {
        parse_tensor_type(text)
    }
}

/// Parses the argument of `--tensor-type`: `REGEX=TYPE`.
///
/// Upper and lower case are alike in both parts. The reference lower-cases the pattern instead,
/// which comes to the same for names as they are, but turns `\D` into `\d`.
///
/// # Errors
/// [`Error::MalformedOverride`], [`Error::BadPattern`], [`Error::UnknownTensorType`].
pub fn parse_tensor_type(text: &str) -> Result<TensorOverride, Error> {
    parse_at(text, "`overrides`")
}

/// Parses a list of them separated by commas: `REGEX=TYPE,REGEX=TYPE`. A comma within a pattern is
/// part of it, as in `a{1,2}=q8_0`. `option` is named in errors and warnings.
///
/// # Errors
/// As [`parse_tensor_type`].
pub fn parse_tensor_types(text: &str, option: &str) -> Result<Vec<TensorOverride>, Error> {
    items(text).map(|item| parse_at(item, option)).collect()
}

/// The items of a list: a comma ends one where the name of a type stands before it.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let ends_item = |&(at, _): &(usize, &str)| {
            let name = text.get(..at).and_then(|item| item.rsplit_once('='));
            name.is_some_and(|(_, name)| GgmlType::from_name(name).is_some())
        };
        let (item, after) = match text.match_indices(',').find(ends_item) {
            Some((at, _)) => (text.get(..at)?, text.get(at.saturating_add(1)..)),
            None => (text, None),
        };
        rest = after;
        Some(item)
    })
}

/// Reads a `--tensor-type-file`: `REGEX=TYPE`, separated by blanks, commas or line ends of any
/// kind. A byte order mark, as editors on Windows write one, is skipped.
///
/// # Errors
/// As [`parse_tensor_type`], with the line; [`Error::Read`].
pub fn read_tensor_type_file(path: &Path) -> Result<Vec<TensorOverride>, Error> {
    let failed = |source| Error::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let utf16 = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
            let found = if utf16 { "UTF-16" } else { "not UTF-8" };
            return Err(failed(std::io::Error::other(format!("it is {found}: save it as UTF-8"))));
        }
    };
    if text.len() as u64 > MAX_FILE_BYTES {
        let message = format!("it is larger than {MAX_FILE_BYTES} bytes");
        return Err(failed(std::io::Error::other(message)));
    }
    let list = parse_list(text.strip_prefix('\u{feff}').unwrap_or(&text), path)?;
    if list.is_empty() {
        tracing::warn!(kind = "unused-option", "{path:?} holds no types of tensors");
    }
    Ok(list)
}

/// Parses the name of a tensor type in any case, e.g. for `--output-tensor-type`; `option` is
/// named in the error.
///
/// # Errors
/// [`Error::UnknownTensorType`], which explains recipe names such as `q4_k_m` too. Integer types
/// hold indices, not weights, and are refused.
pub fn parse_type_name(text: &str, option: &str) -> Result<GgmlType, Error> {
    GgmlType::from_name(text)
        .filter(|ty| !ty.is_integer())
        .ok_or_else(|| Error::UnknownTensorType { given: text.into(), place: option.into() })
}

fn parse_list(text: &str, path: &Path) -> Result<Vec<TensorOverride>, Error> {
    text.lines()
        .zip(1u64..)
        .flat_map(|(line, number)| line.split_whitespace().map(move |item| (item, number)))
        .flat_map(|(list, number)| items(list).map(move |item| (item, number)))
        .map(|(item, number)| parse_at(item, &format!("{path:?} line {number}")))
        .collect()
}

fn parse_at(text: &str, place: &str) -> Result<TensorOverride, Error> {
    // No type has an `=` in its name, a pattern may.
    let (pattern, name) = text
        .rsplit_once('=')
        .filter(|(pattern, name)| !pattern.is_empty() && !name.is_empty())
        .ok_or_else(|| Error::MalformedOverride { given: text.into(), place: place.into() })?;
    let ty = parse_type_name(name, place)?;
    let pattern = RegexBuilder::new(pattern).case_insensitive(true).build().map_err(|error| {
        Error::BadPattern {
            pattern: pattern.into(),
            place: place.into(),
            reason: last_line(&error),
        }
    })?;
    Ok(TensorOverride { pattern, ty, place: place.into() })
}

/// The regex crate draws its errors over several lines, the last of which says what is wrong.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn patterns_are_searched_for_in_any_case() {
        let parsed = parse_tensor_type(r"BLK\.\D*[02]\.attn_V=q8_0").unwrap();
        assert_eq!(parsed.ty, GgmlType::Q8_0);
        assert!(parsed.matches("blk.2.attn_v.weight"));
        assert!(!parsed.matches("blk.12.attn_v.weight"));
    }

    #[test]
    fn commas_separate_items_unless_they_are_in_a_pattern() {
        let listed = |text: &str| -> Vec<String> {
            let types = parse_tensor_types(text, "types").unwrap();
            types.iter().map(|o| format!("{} {}", o.pattern, o.ty)).collect()
        };
        assert_eq!(listed("a=q8_0,b=q6_k"), ["a Q8_0", "b Q6_K"]);
        assert_eq!(listed("a{1,2}=Q8_0,b[,=]=f16"), ["a{1,2} Q8_0", "b[,=] F16"]);
        assert_eq!(listed("x=y,z=f16"), ["x=y,z F16"]);
        for bad in ["a=q8_0,", "a=q8_0,b", "a=q8_0,=f16", "a=q9,b=q8_0,c", ""] {
            assert!(parse_tensor_types(bad, "types").is_err(), "{bad}");
        }
    }

    #[test]
    fn files_from_windows_are_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\xef\xbb\xbfattn_v=q8_0\r\nattn_k=q6_k,ffn_up=f16\r\n").unwrap();
        let types = read_tensor_type_file(file.path()).unwrap();
        let patterns: Vec<_> = types.iter().map(|o| o.pattern.as_str()).collect();
        assert_eq!(patterns, ["attn_v", "attn_k", "ffn_up"]);
        assert!(types[2].place.ends_with("line 2"), "{}", types[2].place);
        let utf16: Vec<u8> = "\u{feff}a=f16".encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(file.path(), utf16).unwrap();
        let error = read_tensor_type_file(file.path()).unwrap_err().to_string();
        assert!(error.ends_with("it is UTF-16: save it as UTF-8"), "{error}");
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        for (text, expected) in [
            ("attn_v", r#""attn_v" in `overrides`: expected REGEX=TYPE, such as attn_v=q8_0"#),
            ("=q8_0", "expected REGEX=TYPE"),
            ("attn_v=", "expected REGEX=TYPE"),
            ("a=q4_k_m", "Q4_K_M is a recipe for whole files, its main type is q4_k"),
            ("a=i32", "unknown tensor type"),
            ("a(=q8_0", r#""a(" in `overrides` is not a regular expression: unclosed group"#),
            ("a{999999999}=q8_0", "is not a regular expression: "),
        ] {
            let error = parse_tensor_type(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn files_hold_many_and_errors_name_the_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "attn_v=q8_0 attn_k=q6_k\n\n\tffn_down=IQ4_NL\n").unwrap();
        let types: Vec<_> = read_tensor_type_file(file.path())
            .unwrap()
            .iter()
            .map(|o| (o.pattern.to_string(), o.ty.name()))
            .collect();
        let expected = [("attn_v", "Q8_0"), ("attn_k", "Q6_K"), ("ffn_down", "IQ4_NL")];
        assert_eq!(types, expected.map(|(p, t)| (p.to_string(), t)));

        writeln!(file, "# q8_0").unwrap();
        let error = read_tensor_type_file(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 4: expected REGEX=TYPE"), "{error}");

        file.write_all(&[0xff]).unwrap();
        assert!(matches!(read_tensor_type_file(file.path()), Err(Error::Read { .. })));
        file.as_file().set_len(MAX_FILE_BYTES + 5).unwrap();
        assert!(read_tensor_type_file(file.path()).is_err());
        assert!(read_tensor_type_file(Path::new("/nonexistent/types")).is_err());
    }
}
