//! The element types of safetensors files.

use std::{fmt, str::FromStr};

use quant_core::GgmlType;

use crate::{Error, Result};

macro_rules! dtypes {
    ($($variant:ident = $name:literal, $reference:ident;)*) => {
        /// An element type of safetensors files.
        #[allow(missing_docs, reason = "the names are the safetensors format's own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Dtype { $($variant,)* }

        impl Dtype {
            /// All types.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type with this name in a safetensors header.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The name in a safetensors header, e.g. `BF16`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The same type in the reference implementation.
            pub(super) fn reference(self) -> ::safetensors::Dtype {
                match self { $(Self::$variant => ::safetensors::Dtype::$reference,)* }
            }
        }
    };
}

dtypes! {
    F64 = "F64", F64;
    F32 = "F32", F32;
    F16 = "F16", F16;
    BF16 = "BF16", BF16;
    F8E4M3 = "F8_E4M3", F8_E4M3;
    F8E5M2 = "F8_E5M2", F8_E5M2;
    F8E8M0 = "F8_E8M0", F8_E8M0;
    F8E4M3Fnuz = "F8_E4M3FNUZ", F8_E4M3FNUZ;
    F8E5M2Fnuz = "F8_E5M2FNUZ", F8_E5M2FNUZ;
    F6E2M3 = "F6_E2M3", F6_E2M3;
    F6E3M2 = "F6_E3M2", F6_E3M2;
    F4 = "F4", F4;
    I64 = "I64", I64;
    I32 = "I32", I32;
    I16 = "I16", I16;
    I8 = "I8", I8;
    U64 = "U64", U64;
    U32 = "U32", U32;
    U16 = "U16", U16;
    U8 = "U8", U8;
    Bool = "BOOL", BOOL;
    C64 = "C64", C64;
}

impl Dtype {
    /// Bits of one element. Some types take less than a byte.
    pub fn bits(self) -> u64 {
        self.reference().bitsize() as u64
    }
}

impl Dtype {
    /// The same type in GGUF files; `None` for those they do not have.
    pub fn ggml_type(self) -> Option<GgmlType> {
        match self {
            Self::F64 => Some(GgmlType::F64),
            Self::F32 => Some(GgmlType::F32),
            Self::F16 => Some(GgmlType::F16),
            Self::BF16 => Some(GgmlType::BF16),
            Self::I64 => Some(GgmlType::I64),
            Self::I32 => Some(GgmlType::I32),
            Self::I16 => Some(GgmlType::I16),
            Self::I8 => Some(GgmlType::I8),
            _ => None,
        }
    }
}

impl TryFrom<Dtype> for GgmlType {
    type Error = Error;

    /// [`Error::UnknownName`] for a dtype that GGUF files do not have.
    fn try_from(dtype: Dtype) -> Result<Self> {
        dtype.ggml_type().ok_or_else(|| Error::UnknownName {
            what: "type of GGUF files",
            found: dtype.name().to_owned(),
            known: names(|dtype| dtype.ggml_type().is_some()),
        })
    }
}

impl FromStr for Dtype {
    type Err = Error;

    /// The dtype with this name in a safetensors header; else [`Error::UnknownName`].
    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name).ok_or_else(|| Error::UnknownName {
            what: "dtype of safetensors files",
            found: name.to_owned(),
            known: names(|_| true),
        })
    }
}

/// The names of some types, for messages.
pub(crate) fn names(which: impl Fn(Dtype) -> bool) -> String {
    let names = Dtype::ALL.iter().filter(|dtype| which(**dtype)).map(|dtype| dtype.name());
    names.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
