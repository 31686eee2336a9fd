//! Typed GGUF metadata that keeps the order of its keys and every byte of its values.

mod elements;
mod pairs;

use std::fmt;

pub(crate) use pairs::ENTRY_BYTES;
pub use pairs::{IntoIter, Iter, Metadata};

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

impl From<&String> for GgufString {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl AsRef<[u8]> for GgufString {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for GgufString {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for GgufString {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// Its text; its bytes if they are not UTF-8.
#[cfg(feature = "serde")]
impl serde::Serialize for GgufString {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_bytes(&self.0),
        }
    }
}

/// Its text; bytes that are not UTF-8 as `\u{fffd}`.
impl fmt::Display for GgufString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
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
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(untagged))]
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

            /// An element as a value.
            pub fn get(&self, index: usize) -> Option<Value> {
                match self { $(Self::$variant(v) => v.get(index).cloned().map(Value::$variant),)* }
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
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(untagged))]
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
            impl From<Vec<$ty>> for Array {
                fn from(values: Vec<$ty>) -> Self {
                    Self::$variant(values)
                }
            }
            impl From<Vec<$ty>> for Value {
                fn from(values: Vec<$ty>) -> Self {
                    Self::Array(values.into())
                }
            }
            impl From<&[$ty]> for Value {
                fn from(values: &[$ty]) -> Self {
                    values.to_vec().into()
                }
            }
            impl<const N: usize> From<&[$ty; N]> for Value {
                fn from(values: &[$ty; N]) -> Self {
                    values.as_slice().into()
                }
            }
            impl<const N: usize> From<[$ty; N]> for Value {
                fn from(values: [$ty; N]) -> Self {
                    Vec::from(values).into()
                }
            }
        )*
    };
}

/// The types of values: hands the list to a macro.
macro_rules! value_types {
    ($macro:ident) => {
        $macro! {
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
    };
}
pub(crate) use value_types;

value_types!(values);

impl ValueType {
    /// The id in the file.
    pub fn id(self) -> u32 {
        self as u32
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ValueType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
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

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}

macro_rules! texts {
    ($($text:ty),*) => { $(
        impl From<Vec<$text>> for Value {
            fn from(texts: Vec<$text>) -> Self {
                texts.into_iter().map(GgufString::from).collect::<Vec<_>>().into()
            }
        }
        impl From<&[$text]> for Value {
            fn from(texts: &[$text]) -> Self {
                texts.iter().map(|text| GgufString::from(text.as_ref() as &str)).collect::<Vec<_>>().into()
            }
        }
        impl<const N: usize> From<&[$text; N]> for Value {
            fn from(texts: &[$text; N]) -> Self {
                texts.as_slice().into()
            }
        }
        impl<const N: usize> From<[$text; N]> for Value {
            fn from(texts: [$text; N]) -> Self {
                Vec::from(texts).into()
            }
        }
    )* };
}
texts!(&str, String);

impl Value {
    /// The value as an integer, if it is one of any width that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Int8(v) => Some(v.into()),
            Self::Int16(v) => Some(v.into()),
            Self::Int32(v) => Some(v.into()),
            Self::Int64(v) => Some(v),
            _ => self.as_u64()?.try_into().ok(),
        }
    }

    /// The value as a float, if it is one of either width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Float32(v) => Some(v.into()),
            Self::Float64(v) => Some(v),
            _ => None,
        }
    }

    /// The value as a float, if it is one; double precision is rounded.
    pub fn as_f32(&self) -> Option<f32> {
        self.as_f64().map(|v| v as f32)
    }

    /// The value as a truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value as an array, if it is one.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

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

/// The value alone: a string without quotes, of a long array the first eight elements and how many
/// there are. `{:#}` writes all of them.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uint8(v) => v.fmt(f),
            Self::Int8(v) => v.fmt(f),
            Self::Uint16(v) => v.fmt(f),
            Self::Int16(v) => v.fmt(f),
            Self::Uint32(v) => v.fmt(f),
            Self::Int32(v) => v.fmt(f),
            Self::Float32(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::String(v) => v.fmt(f),
            Self::Uint64(v) => v.fmt(f),
            Self::Int64(v) => v.fmt(f),
            Self::Float64(v) => v.fmt(f),
            Self::Array(array) => array.fmt(f),
        }
    }
}

/// As a [`Value`] of it; strings in quotes.
impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let shown = if f.alternate() { self.len() } else { self.len().min(SHOWN) };
        f.write_str("[")?;
        for (index, value) in (0..shown).filter_map(|i| self.get(i)).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match value {
                Value::String(text) => write!(f, "{comma}{text:?}")?,
                value => write!(f, "{comma}{value}")?,
            }
        }
        match self.len().saturating_sub(shown) {
            0 => f.write_str("]"),
            _ => write!(f, ", … {} in all]", self.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    #[cfg(all(feature = "serde", feature = "safetensors"))]
    #[test]
    fn metadata_is_a_map_for_serde() {
        let mut metadata = Metadata::from_iter([("general.name", "x")]);
        metadata.insert("a", [1u32, 2]);
        metadata.insert("b", Value::String(b"\xff".to_vec().into()));
        let json = serde_json::to_string(&metadata).unwrap();
        assert_eq!(json, r#"{"general.name":"x","a":[1,2],"b":[255]}"#);
    }

    #[test]
    fn values_are_made_of_what_programs_have() {
        let mut metadata = Metadata::new();
        metadata.insert("texts", vec!["a", "b"]);
        metadata.insert("strings", ["x".to_owned()]);
        metadata.insert("numbers", &[1u32, 2][..]);
        metadata.insert("scale", 0.5f64);
        metadata.extend([("flag", true)]);
        metadata.insert("long", (0..20).collect::<Vec<i32>>());
        assert_eq!(metadata["texts"], Value::from(vec![GgufString::from("a"), "b".into()]));
        assert_eq!(metadata.get_f32("scale"), Some(0.5));
        assert_eq!((metadata.get_bool("flag"), metadata.get_bool("scale")), (Some(true), None));
        assert_eq!(metadata.get_array("numbers").map(Array::len), Some(2));
        assert_eq!(metadata.get_i64("flag"), None);
        let numbers: Result<&[u32]> = metadata.get_array("numbers").unwrap().try_into();
        assert_eq!(numbers.unwrap(), [1, 2]);
        let wrong: Result<&[i32]> = metadata.get_array("numbers").unwrap().try_into();
        assert_eq!(
            wrong.unwrap_err().to_string(),
            "found an array of UINT32, expected one of INT32"
        );
        let shown: Vec<_> = metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            shown,
            [
                r#"texts=["a", "b"]"#,
                r#"strings=["x"]"#,
                "numbers=[1, 2]",
                "scale=0.5",
                "flag=true",
                "long=[0, 1, 2, 3, 4, 5, 6, 7, … 20 in all]",
            ]
        );
        assert!(format!("{:#}", metadata["long"]).ends_with("18, 19]"));
        let again: Metadata = metadata.clone().into_iter().collect();
        assert_eq!(again, metadata);
        for (key, _) in &metadata {
            assert!(metadata.get(key).is_some());
        }
        let text = GgufString::from("a");
        assert_eq!((text == "a", text == *"b", text.to_string()), (true, false, "a".to_owned()));
    }
}
