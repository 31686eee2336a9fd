//! Typed GGUF metadata that keeps the order of its keys and every byte of its values.

use std::fmt;

use indexmap::IndexMap;

/// A GGUF string. The format asks for UTF-8 but files exist that hold other bytes in *values*;
/// they are carried through unchanged.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct GgufString(Vec<u8>);

impl GgufString {
    /// The text, or `None` if the bytes are not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The bytes as stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for GgufString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for GgufString {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for GgufString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for GgufString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

macro_rules! values {
    ($($variant:ident($ty:ty) = $id:literal, $name:literal;)*) => {
        /// The type of a metadata value or array element, with its id in the file.
        #[allow(missing_docs, reason = "the names are the GGUF specification's own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum ValueType { $($variant = $id,)* Array = 9 }

        impl ValueType {
            /// The type with this id, `None` if there is none.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* 9 => Some(Self::Array), _ => None }
            }

            /// The name in the GGUF specification's spelling, e.g. `UINT32`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* Self::Array => "ARRAY" }
            }
        }

        /// An array of metadata values. Arrays of arrays are not read: no known file has them.
        #[allow(missing_docs, reason = "the names are the GGUF specification's own")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array { $($variant(Vec<$ty>),)* }

        impl Array {
            /// The element type.
            pub fn element_type(&self) -> ValueType {
                match self { $(Self::$variant(_) => ValueType::$variant,)* }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len(),)* }
            }

            /// Whether there are no elements.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Keeps the elements whose index is one to keep.
            pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
                let mut indices = 0..;
                let mut keep_next = || indices.next().is_some_and(&keep);
                match self { $(Self::$variant(v) => v.retain(|_| keep_next()),)* }
            }
        }

        /// A metadata value.
        #[allow(missing_docs, reason = "the names are the GGUF specification's own")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value { $($variant($ty),)* Array(Array) }

        impl Value {
            /// The type of the value.
            pub fn value_type(&self) -> ValueType {
                match self { $(Self::$variant(_) => ValueType::$variant,)* Self::Array(_) => ValueType::Array }
            }
        }

        $(
            impl From<$ty> for Value {
                fn from(value: $ty) -> Self {
                    Self::$variant(value)
                }
            }
            impl From<Vec<$ty>> for Value {
                fn from(values: Vec<$ty>) -> Self {
                    Self::Array(Array::$variant(values))
                }
            }
        )*
    };
}

values! {
    Uint8(u8) = 0, "UINT8";
    Int8(i8) = 1, "INT8";
    Uint16(u16) = 2, "UINT16";
    Int16(i16) = 3, "INT16";
    Uint32(u32) = 4, "UINT32";
    Int32(i32) = 5, "INT32";
    Float32(f32) = 6, "FLOAT32";
    Bool(bool) = 7, "BOOL";
    String(GgufString) = 8, "STRING";
    Uint64(u64) = 10, "UINT64";
    Int64(i64) = 11, "INT64";
    Float64(f64) = 12, "FLOAT64";
}

impl ValueType {
    /// The id in the file.
    pub fn id(self) -> u32 {
        self as u32
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl Value {
    /// The value as an unsigned integer, if it is an integer of any width and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Uint8(v) => Some(v.into()),
            Self::Uint16(v) => Some(v.into()),
            Self::Uint32(v) => Some(v.into()),
            Self::Uint64(v) => Some(v),
            Self::Int8(v) => v.try_into().ok(),
            Self::Int16(v) => v.try_into().ok(),
            Self::Int32(v) => v.try_into().ok(),
            Self::Int64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as text, if it is a string of UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => text.as_str(),
            _ => None,
        }
    }
}

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
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
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
