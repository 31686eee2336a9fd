//! The elements of an array, as a slice of their type.

use super::{Array, ValueType, value_types};
use crate::{Error, GgufString, Result};

macro_rules! elements {
    ($($variant:ident($ty:ty) = $id:literal, $name:literal;)*) => {
        $(
        /// The elements, if they have this type.
        impl<'a> TryFrom<&'a Array> for &'a [$ty] {
            type Error = Error;

            fn try_from(array: &'a Array) -> Result<Self> {
                match array {
                    Array::$variant(values) => Ok(values),
                    other => Err(Error::ElementType {
                        found: other.element_type(),
                        expected: ValueType::$variant,
                    }),
                }
            }
        }
        )*
    };
}
value_types!(elements);
