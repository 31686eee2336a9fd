//! Keys and values in file order.

use std::ops::Index;

use indexmap::IndexMap;

use super::{Array, Value};

/// What one key costs in memory besides its text and the heap of its value: the entry, its hash,
/// and its part of an index table that is up to half empty.
pub(crate) const ENTRY_BYTES: usize = size_of::<(String, Value)>() + 8 + 20;

/// The key-value section of a GGUF file, in file order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(IndexMap<String, Value>);

impl Metadata {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// No keys, with room for `count`.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(IndexMap::with_capacity(count))
    }

    /// The position of a key in file order.
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.0.get_index_of(key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The unsigned integer under a key, if there is one and it is one.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_u64)
    }

    /// The integer under a key, if there is one of any width that fits.
    pub fn get_i64(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(Value::as_i64)
    }

    /// The float under a key, if there is one of either width; double precision is rounded.
    pub fn get_f32(&self, key: &str) -> Option<f32> {
        self.get(key).and_then(Value::as_f32)
    }

    /// The float under a key, if there is one of either width.
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_f64)
    }

    /// The truth value under a key, if there is one.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    /// The array under a key, if there is one.
    pub fn get_array(&self, key: &str) -> Option<&Array> {
        self.get(key).and_then(Value::as_array)
    }

    /// The text under a key, if there is one and it is UTF-8.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// Sets a key in its place, or appends it. Returns the value it had.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(key.into(), value.into())
    }

    /// Sets a key and moves it to the end, as llama.cpp's `gguf_set_val_*` does.
    pub fn replace_at_end(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        self.0.shift_remove(&key);
        self.0.insert(key, value.into());
    }

    /// Removes a key, keeping the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.0.shift_remove(key)
    }

    /// Gives a key another name, in its place. Returns whether it is there; a key that had the
    /// new name is replaced.
    pub fn rename(&mut self, from: &str, to: impl Into<String>) -> bool {
        let to = to.into();
        if to != from {
            self.0.shift_remove(&to);
        }
        let Some((position, _, value)) = self.0.shift_remove_full(from) else { return false };
        self.0.shift_insert(position, to, value);
        true
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keys and values in file order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(indexmap::map::Iter<'a, String, Value>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key.as_str(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key.as_str(), value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Metadata {
    type Item = (&'a str, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Keys and values that are given away, in file order.
#[derive(Debug)]
pub struct IntoIter(indexmap::map::IntoIter<String, Value>);

impl Iterator for IntoIter {
    type Item = (String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for IntoIter {}

impl IntoIterator for Metadata {
    type Item = (String, Value);
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter(self.0.into_iter())
    }
}

impl<K: Into<String>, V: Into<Value>> Extend<(K, V)> for Metadata {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, pairs: T) {
        self.0.extend(pairs.into_iter().map(|(key, value)| (key.into(), value.into())));
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Metadata {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut metadata = Self::new();
        metadata.extend(pairs);
        metadata
    }
}

/// The value of a key that is there.
///
/// # Panics
/// If there is no such key, as maps of the standard library do. [`Metadata::get`] does not.
impl Index<&str> for Metadata {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.0[key]
    }
}
