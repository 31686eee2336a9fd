//! What a safetensors file says about itself.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Budget, Error, Limits, Place, Result, SourceFile, error::DAMAGED};

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    texts: BTreeMap<String, String>,
}

/// The texts under `__metadata__` in a file's header, by their names; none if it has none.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`], [`Error::LimitsExceeded`] if the header is damaged.
pub fn texts(file: &SourceFile, limits: &Limits) -> Result<BTreeMap<String, String>> {
    let mut budget = Budget::new(limits);
    budget.admit(file.len());
    let mut len = [0; 8];
    file.read_exact_at(&mut len, 0)?;
    let len = usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX);
    let json = file.read_vec(8, len, &mut budget)?;
    // What the texts take at most, with the tables they are in.
    budget.debit(len as u64, file.path(), &Place::Field("metadata", 8))?;
    let header = serde_json::from_slice::<Header>(&json).map_err(|error| Error::Malformed {
        path: file.path().into(),
        place: Place::Field("metadata", 8),
        found: crate::error::one_line(&error.to_string()).into(),
        expected: "a JSON map with texts under __metadata__".into(),
        help: DAMAGED,
    })?;
    Ok(header.texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> SourceFile {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        SourceFile::from_bytes("m.safetensors", bytes)
    }

    #[test]
    fn texts_are_found_and_hostile_headers_refused() {
        let limits = Limits::default();
        let found = texts(&file(r#"{"__metadata__":{"b":"1","a":"2"},"t":{}}"#), &limits).unwrap();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "2".to_owned()), ("b".into(), "1".into())]
        );
        assert!(texts(&file("{}"), &limits).unwrap().is_empty());
        for bad in [r#"{"__metadata__":{"a":1}}"#, "[", "", r#"{"__metadata__":7}"#] {
            assert!(texts(&file(bad), &limits).is_err(), "{bad}");
        }
        let long = SourceFile::from_bytes("long", u64::MAX.to_le_bytes().to_vec());
        assert!(texts(&long, &limits).is_err());
        assert!(texts(&SourceFile::from_bytes("short", vec![1; 7]), &limits).is_err());
    }
}
