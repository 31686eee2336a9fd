//! The table of all ggml tensor types.
//!
//! Every type ever stored in a GGUF file that current readers accept is listed, also those this
//! crate does not quantize yet, so that files that hold them can be inspected, sized and copied.
//! Source of ids, block lengths and block sizes: `ggml.h` and `ggml-common.h` of ggml 0.25.

use core::fmt;

macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $len:literal, $bytes:literal, $class:ident;)*) => {
        /// A tensor type of ggml, with the id it has in GGUF files.
        ///
        /// A tensor row is a sequence of blocks; each block holds [`block_len`](Self::block_len)
        /// elements in [`block_bytes`](Self::block_bytes) bytes.
        #[allow(missing_docs, reason = "the names are ggml's own")]
        #[allow(non_camel_case_types, reason = "the names are ggml's own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum GgmlType { $($variant = $id,)* }

        impl GgmlType {
            /// All types, in the order of their ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type with this id; `None` if the id is unknown or its type was removed from ggml.
            pub const fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)* _ => None }
            }

            /// The name in the spelling of the GGUF specification, e.g. `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Elements in one block.
            pub const fn block_len(self) -> usize {
                match self { $(Self::$variant => $len,)* }
            }

            /// Bytes in one block.
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$variant => $bytes,)* }
            }

            const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }
        }
    };
}

#[derive(PartialEq)]
enum Class {
    Float,
    Integer,
    Quantized,
}

ggml_types! {
    F32 = 0, "F32", 1, 4, Float;
    F16 = 1, "F16", 1, 2, Float;
    Q4_0 = 2, "Q4_0", 32, 18, Quantized;
    Q4_1 = 3, "Q4_1", 32, 20, Quantized;
    Q5_0 = 6, "Q5_0", 32, 22, Quantized;
    Q5_1 = 7, "Q5_1", 32, 24, Quantized;
    Q8_0 = 8, "Q8_0", 32, 34, Quantized;
    Q8_1 = 9, "Q8_1", 32, 36, Quantized;
    Q2_K = 10, "Q2_K", 256, 84, Quantized;
    Q3_K = 11, "Q3_K", 256, 110, Quantized;
    Q4_K = 12, "Q4_K", 256, 144, Quantized;
    Q5_K = 13, "Q5_K", 256, 176, Quantized;
    Q6_K = 14, "Q6_K", 256, 210, Quantized;
    Q8_K = 15, "Q8_K", 256, 292, Quantized;
    IQ2_XXS = 16, "IQ2_XXS", 256, 66, Quantized;
    IQ2_XS = 17, "IQ2_XS", 256, 74, Quantized;
    IQ3_XXS = 18, "IQ3_XXS", 256, 98, Quantized;
    IQ1_S = 19, "IQ1_S", 256, 50, Quantized;
    IQ4_NL = 20, "IQ4_NL", 32, 18, Quantized;
    IQ3_S = 21, "IQ3_S", 256, 110, Quantized;
    IQ2_S = 22, "IQ2_S", 256, 82, Quantized;
    IQ4_XS = 23, "IQ4_XS", 256, 136, Quantized;
    I8 = 24, "I8", 1, 1, Integer;
    I16 = 25, "I16", 1, 2, Integer;
    I32 = 26, "I32", 1, 4, Integer;
    I64 = 27, "I64", 1, 8, Integer;
    F64 = 28, "F64", 1, 8, Float;
    IQ1_M = 29, "IQ1_M", 256, 56, Quantized;
    BF16 = 30, "BF16", 1, 2, Float;
    TQ1_0 = 34, "TQ1_0", 256, 54, Quantized;
    TQ2_0 = 35, "TQ2_0", 256, 66, Quantized;
    MXFP4 = 39, "MXFP4", 32, 17, Quantized;
    NVFP4 = 40, "NVFP4", 64, 36, Quantized;
    Q1_0 = 41, "Q1_0", 128, 18, Quantized;
    Q2_0 = 42, "Q2_0", 64, 18, Quantized;
}

impl GgmlType {
    /// The id in GGUF files.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The type with this name, in any case; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Whether elements share a scale in blocks, as opposed to plain floats and integers.
    pub fn is_quantized(self) -> bool {
        self.class() == Class::Quantized
    }

    /// Whether elements are plain integers, which hold indices rather than weights.
    pub fn is_integer(self) -> bool {
        self.class() == Class::Integer
    }

    /// Storage cost in bits per element.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }
}

impl From<GgmlType> for u32 {
    fn from(ty: GgmlType) -> Self {
        ty.id()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for GgmlType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_round_trip() {
        for &ty in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(ty.id()), Some(ty));
            assert_eq!(GgmlType::from_name(&ty.name().to_lowercase()), Some(ty));
        }
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(GgmlType::from_id(removed), None);
        }
    }
}
