//! JSON from strangers: every map is seen key by key, so that duplicates show and memory is
//! charged as it is taken.

use std::{collections::BTreeMap, fmt};

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{Budget, Error, Place, Result, SourceFile, error::one_line};

/// What a JSON map charges its entries to; keeps the typed error that serde cannot carry.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) budget: &'a mut Budget,
    pub(super) place: Place,
    failure: Option<Error>,
}

impl<'a> Charge<'a> {
    pub(super) fn new(file: &'a SourceFile, budget: &'a mut Budget, place: Place) -> Self {
        Self { file, budget, place, failure: None }
    }

    /// Stops parsing with a typed error.
    pub(super) fn fail<E: de::Error>(&mut self, error: Error) -> E {
        self.failure = Some(error);
        E::custom("stopped")
    }

    fn debit<E: de::Error>(&mut self, bytes: u64) -> Result<(), E> {
        self.budget.debit(bytes, self.file.path(), &self.place).map_err(|error| self.fail(error))
    }

    /// Pays for `count` values of `size` bytes.
    pub(super) fn array<E: de::Error>(&mut self, count: usize, size: usize) -> Result<(), E> {
        self.budget
            .debit_array(count as u64, size, self.file.path(), &self.place)
            .map_err(|error| self.fail(error))
    }

    /// Pushes to a vector, paying for its growth.
    pub(super) fn push<T, E: de::Error>(&mut self, list: &mut Vec<T>, value: T) -> Result<(), E> {
        if list.len() == list.capacity() {
            let size = size_of::<T>() as u64;
            let old = list.capacity() as u64;
            let new = old.saturating_mul(2).max(4);
            // Both exist while the values move.
            self.debit(new.saturating_mul(size))?;
            list.reserve_exact(usize::try_from(new - old).unwrap_or(1));
            self.budget.credit(old.saturating_mul(size));
        }
        list.push(value);
        Ok(())
    }

    /// Turns what the parser returned into this crate's error.
    pub(super) fn finish<T>(self, result: serde_json::Result<T>, expected: &str) -> Result<T> {
        result.map_err(|error| {
            self.failure.unwrap_or_else(|| Error::Malformed {
                path: self.file.path().into(),
                place: self.place,
                found: one_line(&error.to_string()).into(),
                expected: expected.into(),
                help: crate::error::DAMAGED,
            })
        })
    }
}

/// Any value, ignored. Unlike [`de::IgnoredAny`] it goes through the parser's recursion limit, so
/// deep nesting is refused.
pub(super) struct Skip;

impl<'de> Deserialize<'de> for Skip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Skip {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A map of strings to strings, or null.
pub(super) struct Strings<'s, 'a> {
    pub(super) charge: &'s mut Charge<'a>,
    pub(super) texts: &'s mut BTreeMap<String, String>,
}

impl<'de> DeserializeSeed<'de> for Strings<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Its part of a node of the tree, at least half of which is in use.
        const ENTRY: usize = 2 * size_of::<(String, String)>() + 16;
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            self.charge.array(1, ENTRY)?;
            self.charge.array(key.len(), 1)?;
            self.charge.array(text.len(), 1)?;
            self.texts.insert(key, text);
        }
        Ok(())
    }
}
