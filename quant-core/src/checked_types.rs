//! What may go wrong with a type: a name or number that stands for none, a size that does not fit.

use alloc::{format, string::String};
use core::str::FromStr;

use crate::{Error, GgmlType};

impl GgmlType {
    /// Bytes of one row of `elements` elements.
    ///
    /// # Errors
    /// [`Error::RowLength`] if the row is not a whole number of blocks, [`Error::TooLarge`] if the
    /// size does not fit a `u64`.
    pub fn row_bytes(self, elements: u64) -> Result<u64, Error> {
        let block = self.block_len() as u64;
        if !elements.is_multiple_of(block) {
            return Err(Error::RowLength { ty: self, elements });
        }
        (elements / block).checked_mul(self.block_bytes() as u64).ok_or(Error::TooLarge)
    }

    /// Whether a buffer has the bytes of this many elements.
    ///
    /// # Errors
    /// [`Error::Length`] if not, and as [`row_bytes`](Self::row_bytes).
    pub fn check_bytes(self, elements: usize, found: usize) -> Result<(), Error> {
        let expected =
            usize::try_from(self.row_bytes(elements as u64)?).map_err(|_| Error::TooLarge)?;
        if found == expected {
            Ok(())
        } else {
            Err(Error::Length { what: "the byte buffer", found, expected })
        }
    }

    /// Bytes of a tensor of this shape, innermost dimension first. An empty shape is one element.
    ///
    /// # Errors
    /// As [`row_bytes`](Self::row_bytes).
    pub fn tensor_bytes(self, shape: &[u64]) -> Result<u64, Error> {
        let (row, rest) = shape.split_first().map_or((1, &[][..]), |(row, rest)| (*row, rest));
        let rows = rest.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).ok_or(Error::TooLarge)?;
        self.row_bytes(row)?.checked_mul(rows).ok_or(Error::TooLarge)
    }
}

impl TryFrom<u32> for GgmlType {
    type Error = Error;

    /// The type with this id, as [`GgmlType::from_id`]; else [`Error::UnknownType`].
    fn try_from(id: u32) -> Result<Self, Error> {
        Self::from_id(id).ok_or_else(|| Error::UnknownType { found: format!("number {id}") })
    }
}

impl FromStr for GgmlType {
    type Err = Error;

    /// The type with this name, as [`GgmlType::from_name`]; else [`Error::UnknownType`].
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::from_name(name).ok_or_else(|| {
            // Of what may be anything, as much as a name has.
            let shown: String = name.chars().take(20).collect();
            Error::UnknownType { found: format!("{shown:?}") }
        })
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for GgmlType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = GgmlType;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("the name of a tensor type of ggml")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<GgmlType, E> {
                name.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_parsed() {
        assert_eq!("q4_k".parse(), Ok(GgmlType::Q4_K));
        assert_eq!(GgmlType::try_from(12), Ok(GgmlType::Q4_K));
        assert_eq!(u32::from(GgmlType::Q4_K), 12);
        let error = GgmlType::try_from(4).unwrap_err().to_string();
        assert!(error.contains("number 4 is no tensor type"), "{error}");
        let error = "q9\n".parse::<GgmlType>().unwrap_err().to_string();
        assert!(error.contains(r#""q9\n" is no tensor type"#) && error.contains("Q4_K"), "{error}");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn names_go_through_serde() {
        let json = serde_json::to_string(&GgmlType::IQ4_XS).unwrap();
        assert_eq!(json, r#""IQ4_XS""#);
        assert_eq!(serde_json::from_str::<GgmlType>(&json).unwrap(), GgmlType::IQ4_XS);
        assert!(serde_json::from_str::<GgmlType>(r#""Q9""#).is_err());
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(GgmlType::Q4_K.tensor_bytes(&[512, 3]).unwrap(), 2 * 144 * 3);
        assert_eq!(GgmlType::F32.tensor_bytes(&[]).unwrap(), 4);
        assert!(matches!(GgmlType::Q4_K.row_bytes(255), Err(Error::RowLength { .. })));
        assert!(matches!(GgmlType::I64.tensor_bytes(&[1 << 60, 1 << 60]), Err(Error::TooLarge)));
        assert_eq!(GgmlType::F32.tensor_bytes(&[0, 5]).unwrap(), 0);
    }
}
