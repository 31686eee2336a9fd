//! What errors are about, for programs, and what to do about them.

use std::path::Path;

use super::{Error, hints::*};

/// The parts of an error, each if there is one.
#[derive(Default)]
struct Facts<'a> {
    file: Option<&'a Path>,
    tensor: Option<&'a str>,
    key: Option<&'a str>,
    byte: Option<u64>,
    hint: Option<&'a str>,
}

/// Those of an error that has the same methods.
macro_rules! facts_of {
    ($error:expr, $byte:expr) => {
        Facts {
            file: $error.file(),
            tensor: $error.tensor(),
            key: $error.key(),
            byte: $byte,
            hint: $error.hint(),
        }
    };
}

impl<'a> Facts<'a> {
    fn file(path: &'a Path) -> Self {
        Self { file: Some(path), ..Self::default() }
    }

    fn tensor(tensor: &'a str) -> Self {
        Self { tensor: Some(tensor), ..Self::default() }
    }

    fn hint(hint: &'a str) -> Self {
        Self { hint: Some(hint), ..Self::default() }
    }
}

impl Error {
    /// The file or folder that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.facts().file
    }

    /// The tensor that it is about, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        self.facts().tensor
    }

    /// The key of a JSON file or of the metadata that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        self.facts().key
    }

    /// The offset in the file, in bytes, if it is known.
    pub fn byte(&self) -> Option<u64> {
        self.facts().byte
    }

    /// What to do about it: the last part of the message, in the library's words. A program that has
    /// names of its own for what is asked for may put its own words there.
    pub fn hint(&self) -> Option<&str> {
        self.facts().hint
    }

    /// Every variant has its line, so that none loses its parts unnoticed.
    fn facts(&self) -> Facts<'_> {
        match self {
            Self::Files(error) => facts_of!(error, error.byte()),
            Self::Read(error) => facts_of!(error, error.byte()),
            Self::Recipe(error) => facts_of!(error, None),
            Self::Core(error) => Facts { hint: error.hint(), ..Facts::default() },
            Self::ImportanceLength { path, tensor, .. } => {
                Facts { tensor: Some(tensor), hint: Some(OTHER_MODEL), ..Facts::file(path) }
            }
            Self::ImportanceTooLarge { path, tensor, .. } => {
                Facts { tensor: Some(tensor), hint: Some(BAD_MATRIX), ..Facts::file(path) }
            }
            Self::CannotRead { path, tensor, .. } => {
                Facts { tensor: Some(tensor), hint: Some(ORIGINAL), ..Facts::file(path) }
            }
            Self::Weights { path, name, help, .. } => {
                Facts { tensor: Some(name), hint: Some(help), ..Facts::file(path) }
            }
            Self::ImportanceNeeded { tensor, .. } => {
                Facts { hint: Some(NEEDS_MATRIX), ..Facts::tensor(tensor) }
            }
            Self::Requantize { tensor, .. } => {
                Facts { hint: Some(REQUANTIZE), ..Facts::tensor(tensor) }
            }
            Self::NoCandidate { tensor, .. } => {
                Facts { hint: Some(MORE_TYPES), ..Facts::tensor(tensor) }
            }
            Self::NonFinite { tensor, .. } => {
                Facts { hint: Some(DIVERGED), ..Facts::tensor(tensor) }
            }
            Self::Overflow { tensor, ty, importance, .. } => {
                Facts { hint: Some(too_large(*ty, importance.is_some())), ..Facts::tensor(tensor) }
            }
            Self::NotInBlocks { tensor } => {
                Facts { hint: Some(FROM_BF16), ..Facts::tensor(tensor) }
            }
            Self::GroupSize { tensor, .. } => Facts { hint: Some(GROUPS), ..Facts::tensor(tensor) },
            Self::CannotWrite { tensor, .. } => Facts::tensor(tensor),
            Self::Json { path, key, help, .. } => {
                Facts { key: key.as_deref(), hint: Some(help), ..Facts::file(path) }
            }
            Self::Config { path, key, help, .. } => {
                Facts { key: Some(key), hint: Some(help), ..Facts::file(path) }
            }
            Self::OtherShard { path, byte } => {
                Facts { byte: Some(*byte), hint: Some(OTHER_SHARD), ..Facts::file(path) }
            }
            Self::OtherModel { path, help, .. }
            | Self::OwnNames { path, help, .. }
            | Self::Tokenizer { path, help, .. } => Facts { hint: Some(help), ..Facts::file(path) },
            Self::Sensitivities { path, .. } => {
                Facts { hint: Some(MEASURE_AGAIN), ..Facts::file(path) }
            }
            Self::SameFile { path } => Facts { hint: Some(OTHER_NAME), ..Facts::file(path) },
            Self::Base { path, .. } => Facts { hint: Some(NEEDS_BASE), ..Facts::file(path) },
            Self::PreTokenizer { path, .. } => Facts { hint: Some(NAME_IT), ..Facts::file(path) },
            Self::Architecture { path, .. } | Self::Projector { path, .. } => Facts::file(path),
            Self::Grouped { refusal, .. } => Facts::hint(refusal.help()),
            Self::Part { .. } => Facts::hint(PART_TYPES),
            Self::TooSmall { .. } => Facts::hint(SMALLER),
            Self::Outputs { .. } => Facts::hint(OWN_OUTPUTS),
            Self::Threads { .. } => Facts::hint(FEWER),
            Self::ImportancePrior { has_matrix: false, .. } => Facts::hint(PRIOR_NEEDS_MATRIX),
            Self::ImportancePrior { has_matrix: true, .. }
            | Self::PreTokenizerName { .. }
            | Self::Shard { .. }
            | Self::Cancelled => Facts::default(),
        }
    }
}
