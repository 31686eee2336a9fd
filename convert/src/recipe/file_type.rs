//! The recipes by name: `Q4_K_M` and its kin.

use std::{fmt, str::FromStr};

use gguf_io::message::Quoted;
use quant_core::GgmlType;

macro_rules! file_types {
    ($($variant:ident = $id:literal, $name:literal, $base:ident;)*) => {
        /// A recipe: what kind of file to make, in the names `llama-quantize` uses.
        ///
        /// Parsing ignores case and knows the aliases `q3_k`, `q4_k` and `q5_k` for the `_m`
        /// recipes; [`Display`](fmt::Display) gives the canonical upper-case name.
        #[allow(missing_docs, reason = "the names are llama.cpp's own")]
        #[allow(non_camel_case_types, reason = "the names are llama.cpp's own")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum FileType { $($variant = $id,)* }

        impl FileType {
            /// All recipes, in the order in which help texts list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The canonical name, e.g. `Q4_K_M`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The type of every quantized tensor that no rule of the mix singles out.
            ///
            /// With `--pure` the mix is not consulted and this is the type of all of them. It is
            /// not always the type in the name: `IQ2_S` is built on `IQ2_XS`, `IQ2_M` on `IQ2_S`.
            pub const fn base(self) -> GgmlType {
                match self { $(Self::$variant => GgmlType::$base,)* }
            }
        }
    };
}

file_types! {
    F32 = 0, "F32", F32;
    F16 = 1, "F16", F16;
    BF16 = 32, "BF16", BF16;
    Q4_0 = 2, "Q4_0", Q4_0;
    Q4_1 = 3, "Q4_1", Q4_1;
    Q5_0 = 8, "Q5_0", Q5_0;
    Q5_1 = 9, "Q5_1", Q5_1;
    Q8_0 = 7, "Q8_0", Q8_0;
    Q2_K = 10, "Q2_K", Q2_K;
    Q2_K_S = 21, "Q2_K_S", Q2_K;
    Q3_K_S = 11, "Q3_K_S", Q3_K;
    Q3_K_M = 12, "Q3_K_M", Q3_K;
    Q3_K_L = 13, "Q3_K_L", Q3_K;
    Q4_K_S = 14, "Q4_K_S", Q4_K;
    Q4_K_M = 15, "Q4_K_M", Q4_K;
    Q5_K_S = 16, "Q5_K_S", Q5_K;
    Q5_K_M = 17, "Q5_K_M", Q5_K;
    Q6_K = 18, "Q6_K", Q6_K;
    IQ1_S = 24, "IQ1_S", IQ1_S;
    IQ1_M = 31, "IQ1_M", IQ1_M;
    IQ2_XXS = 19, "IQ2_XXS", IQ2_XXS;
    IQ2_XS = 20, "IQ2_XS", IQ2_XS;
    IQ2_S = 28, "IQ2_S", IQ2_XS;
    IQ2_M = 29, "IQ2_M", IQ2_S;
    IQ3_XXS = 23, "IQ3_XXS", IQ3_XXS;
    IQ3_XS = 22, "IQ3_XS", IQ3_S;
    IQ3_S = 26, "IQ3_S", IQ3_S;
    IQ3_M = 27, "IQ3_M", IQ3_S;
    IQ4_NL = 25, "IQ4_NL", IQ4_NL;
    IQ4_XS = 30, "IQ4_XS", IQ4_XS;
    TQ1_0 = 36, "TQ1_0", TQ1_0;
    TQ2_0 = 37, "TQ2_0", TQ2_0;
    MXFP4_MOE = 38, "MXFP4_MOE", MXFP4;
    Q1_0 = 40, "Q1_0", Q1_0;
    Q2_0 = 41, "Q2_0", Q2_0;
}

/// A name of no recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown type {}: expected {}, or auto", Quoted(given), names())]
#[non_exhaustive]
pub struct UnknownFileType {
    /// The name given.
    pub given: String,
}

fn names() -> String {
    let names: Vec<_> = FileType::ALL.iter().map(|ty| ty.name().to_lowercase()).collect();
    names.join(", ")
}

/// Names that stand for another recipe.
const ALIASES: &[(&str, FileType)] =
    &[("Q3_K", FileType::Q3_K_M), ("Q4_K", FileType::Q4_K_M), ("Q5_K", FileType::Q5_K_M)];

impl FileType {
    /// The value of `general.file_type` in files of this recipe.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The recipe with this `general.file_type`; `None` if no recipe here makes such files.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.id() == id)
    }

    /// Whether tensors are stored in blocks that share a scale, rather than as plain floats.
    pub fn is_quantized(self) -> bool {
        self.base().is_quantized()
    }

    /// Parses a `--type` argument; `auto` is `None`.
    ///
    /// What `auto` means depends on the input: for a checkpoint, the recipe that
    /// [`detect`](Self::detect) finds; for a GGUF file, every tensor in the type it has, which is
    /// [`Request::file_type`](super::Request::file_type) `None`.
    ///
    /// # Errors
    /// [`UnknownFileType`].
    pub fn parse_or_auto(text: &str) -> Result<Option<Self>, UnknownFileType> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(None);
        }
        text.parse().map(Some)
    }

    /// The recipe that keeps a checkpoint's own precision, from the shapes and types of its
    /// tensors in stored order.
    ///
    /// As in the reference converter, the first 16-bit tensor of two or more dimensions decides:
    /// what `config.json` claims is often wrong. A checkpoint without one becomes `F32`; the
    /// reference would make that `F16` and lose precision that `auto` promises to keep.
    pub fn detect<'a>(tensors: impl IntoIterator<Item = (&'a [u64], GgmlType)>) -> Self {
        tensors
            .into_iter()
            .filter(|(shape, _)| shape.len() >= 2)
            .find_map(|(_, ty)| match ty {
                GgmlType::BF16 => Some(Self::BF16),
                GgmlType::F16 => Some(Self::F16),
                _ => None,
            })
            .unwrap_or(Self::F32)
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FileType {
    type Err = UnknownFileType;

    fn from_str(text: &str) -> Result<Self, UnknownFileType> {
        let names = Self::ALL.iter().map(|&ty| (ty.name(), ty));
        names
            .chain(ALIASES.iter().copied())
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, ty)| ty)
            .ok_or_else(|| UnknownFileType { given: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_round_trip() {
        for &ty in FileType::ALL {
            assert_eq!(ty.to_string().parse::<FileType>().unwrap(), ty);
            assert_eq!(ty.name().to_lowercase().parse::<FileType>().unwrap(), ty);
            assert_eq!(FileType::from_id(ty.id()), Some(ty));
        }
        assert_eq!("q4_k".parse::<FileType>().unwrap(), FileType::Q4_K_M);
        assert_eq!("Q3_k".parse::<FileType>().unwrap(), FileType::Q3_K_M);
        assert_eq!("q5_K".parse::<FileType>().unwrap(), FileType::Q5_K_M);
        // Ids of formats that were withdrawn, and of one that no recipe makes.
        for id in [4, 5, 6, 33, 34, 35, 39, 1024] {
            assert_eq!(FileType::from_id(id), None);
        }
    }

    #[test]
    fn auto_is_no_recipe() {
        assert_eq!(FileType::parse_or_auto("AUTO").unwrap(), None);
        assert_eq!(FileType::parse_or_auto("bf16").unwrap(), Some(FileType::BF16));
        let error = FileType::parse_or_auto("q4km\n").unwrap_err().to_string();
        assert!(error.starts_with(r#"unknown type "q4km\n": expected f32, f16, "#), "{error}");
        assert_eq!(error.lines().count(), 1);
        assert!("auto".parse::<FileType>().is_err(), "auto names no recipe of its own");
    }

    #[test]
    fn the_first_wide_tensor_decides() {
        let (wide, thin): (&[u64], &[u64]) = (&[4, 4], &[4]);
        let detect = |tensors: &[(&'static [u64], GgmlType)]| {
            FileType::detect(tensors.iter().copied()).name()
        };
        assert_eq!(detect(&[(thin, GgmlType::BF16), (wide, GgmlType::F16)]), "F16");
        assert_eq!(detect(&[(wide, GgmlType::F32), (wide, GgmlType::BF16)]), "BF16");
        assert_eq!(detect(&[(wide, GgmlType::F32), (thin, GgmlType::F16)]), "F32");
        assert_eq!(detect(&[]), "F32");
    }
}
