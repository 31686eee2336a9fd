//! What can be wrong with a request or with the model it is for.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use gguf_io::message::Quoted;
use quant_core::GgmlType;

use super::{FileType, UnknownFileType};

/// Why no type could be chosen, or what is wrong with an option.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name of no recipe.
    #[error(transparent)]
    UnknownFileType(#[from] UnknownFileType),

    /// An option asks for a tensor type that does not exist.
    #[error(
        "unknown tensor type {} in {place}: expected {}{}",
        Quoted(given),
        tensor_type_names(),
        recipe_hint(given)
    )]
    UnknownTensorType {
        /// The name given.
        given: String,
        /// The option or the file and line.
        place: String,
    },

    /// A `--tensor-type` argument that is not `REGEX=TYPE`.
    #[error("{} in {place}: expected REGEX=TYPE, such as attn_v=q8_0", Quoted(given))]
    MalformedOverride {
        /// The argument.
        given: String,
        /// The option or the file and line.
        place: String,
    },

    /// The pattern of a `--tensor-type` argument is not a regular expression.
    #[error("{} in {place} is not a regular expression: {reason}", Quoted(pattern))]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// The option or the file and line.
        place: String,
        /// What is wrong with it, on one line.
        reason: String,
    },

    /// The `--tensor-type-file` cannot be read.
    #[error("cannot read the tensor types in {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A `--prune-layers` argument that is not a list of layers of this model.
    #[error("{} in `prune_layers`: {reason}", Quoted(given))]
    Prune {
        /// The part of the list that is wrong.
        given: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The metadata lacks what the choice of types depends on.
    #[error(
        "metadata key {} is missing: the choice of tensor types depends on it; {NO_MIXTURE}",
        Quoted(key)
    )]
    MissingKey {
        /// The key.
        key: String,
    },

    /// A metadata value cannot be true.
    #[error("metadata key {} is {found}: expected {expected}", Quoted(key))]
    BadValue {
        /// The key.
        key: String,
        /// The value found, shortened.
        found: String,
        /// What makes sense there.
        expected: String,
    },

    /// In a mixture-of-experts model the layer of a feed-forward tensor is taken from its name.
    #[error(
        "tensor {} of a mixture of experts: expected a name that starts with \"blk.N.\" with N below {layers}; `pure` or `overrides` need no layer",
        Quoted(tensor)
    )]
    NoLayer {
        /// The tensor.
        tensor: String,
        /// Layers in the model.
        layers: u32,
    },

    /// Rows that are not a whole number of blocks of the type they would get.
    #[error("{}", AwkwardShapes(.tensors))]
    AwkwardShapes {
        /// All such tensors.
        tensors: Vec<AwkwardShape>,
    },
}

impl Error {
    /// The file that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The tensor that it is about, the first if there are several.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::NoLayer { tensor, .. } => Some(tensor),
            Self::AwkwardShapes { tensors } => tensors.first().map(|shape| &*shape.tensor),
            _ => None,
        }
    }

    /// The metadata key that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::MissingKey { key } | Self::BadValue { key, .. } => Some(key),
            _ => None,
        }
    }

    /// What to do about it: the last part of the message.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::AwkwardShapes { .. } => Some(SMALLER),
            Self::MissingKey { .. } => Some(NO_MIXTURE),
            _ => None,
        }
    }
}

const NO_MIXTURE: &str = "`pure` and recipes of one type, such as q8_0, do without it";
const SMALLER: &str = "choose a type with smaller blocks for them";

/// A tensor whose rows are not a whole number of blocks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AwkwardShape {
    /// The tensor's name.
    pub tensor: String,
    /// Values in a row.
    pub row_len: u64,
    /// The type it would get.
    pub ty: GgmlType,
    /// Why it does not get another.
    pub reason: AwkwardReason,
}

/// Why a tensor does not fall back to a type with smaller blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AwkwardReason {
    /// `--strict` forbids it; the type it would fall back to.
    Strict(GgmlType),
    /// The reference defines no fallback from this type.
    NoFallback,
    /// This option names the type outright; the reference cuts the rows short or aborts.
    Named(&'static str),
}

impl fmt::Display for AwkwardShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, row_len, ty, reason } = self;
        write!(
            f,
            "{} has rows of {row_len} values, {ty} needs a multiple of {}",
            Quoted(tensor),
            ty.block_len()
        )?;
        match reason {
            AwkwardReason::Strict(other) => write!(f, " and `strict` forbids {other}"),
            AwkwardReason::NoFallback => f.write_str(" and has no fallback"),
            AwkwardReason::Named(option) => write!(f, " and {option} leaves no choice"),
        }
    }
}

struct AwkwardShapes<'a>(&'a [AwkwardShape]);

impl fmt::Display for AwkwardShapes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        let s = if n == 1 { "" } else { "s" };
        write!(f, "{n} tensor{s} cannot have the type asked for: ")?;
        for (i, tensor) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{tensor}")?;
        }
        write!(f, "; {SMALLER}")
    }
}

fn tensor_type_names() -> String {
    let names: Vec<_> = GgmlType::ALL
        .iter()
        .filter(|ty| !ty.is_integer())
        .map(|ty| ty.name().to_lowercase())
        .collect();
    names.join(", ")
}

/// People write `q4_k_m` where a type is wanted: say which type that recipe is built on.
fn recipe_hint(given: &str) -> String {
    given
        .parse::<FileType>()
        .map(|recipe| {
            let base = recipe.base().name().to_lowercase();
            format!(" ({recipe} is a recipe for whole files, its main type is {base})")
        })
        .unwrap_or_default()
}
