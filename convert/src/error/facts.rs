//! What errors are about, for programs, and what to do about them.

use std::path::Path;

use super::{Error, hints::*};

impl Error {
    /// The file or folder that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Files(error) => error.file(),
            Self::Read(error) => error.file(),
            Self::Recipe(error) => error.file(),
            Self::ImportanceLength { path, .. }
            | Self::ImportanceTooLarge { path, .. }
            | Self::CannotRead { path, .. }
            | Self::Sensitivities { path, .. }
            | Self::SameFile { path }
            | Self::Base { path, .. }
            | Self::Projector { path, .. }
            | Self::OtherShard { path, .. }
            | Self::Json { path, .. }
            | Self::Config { path, .. }
            | Self::Architecture { path, .. }
            | Self::OwnNames { path, .. }
            | Self::Weights { path, .. }
            | Self::Tokenizer { path, .. }
            | Self::PreTokenizer { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The tensor that it is about, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Files(error) => error.tensor(),
            Self::Read(error) => error.tensor(),
            Self::Recipe(error) => error.tensor(),
            Self::ImportanceLength { tensor, .. }
            | Self::ImportanceTooLarge { tensor, .. }
            | Self::ImportanceNeeded { tensor, .. }
            | Self::Requantize { tensor, .. }
            | Self::NoCandidate { tensor, .. }
            | Self::CannotWrite { tensor, .. }
            | Self::CannotRead { tensor, .. }
            | Self::NonFinite { tensor, .. }
            | Self::Overflow { tensor, .. }
            | Self::GroupSize { tensor, .. }
            | Self::Weights { name: tensor, .. } => Some(tensor),
            _ => None,
        }
    }

    /// The key of a JSON file or of the metadata that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Files(error) => error.key(),
            Self::Read(error) => error.key(),
            Self::Recipe(error) => error.key(),
            Self::Config { key, .. } => Some(key),
            Self::Json { key, .. } => key.as_deref(),
            _ => None,
        }
    }

    /// The offset in the file, in bytes, if it is known.
    pub fn byte(&self) -> Option<u64> {
        match self {
            Self::Files(error) => error.byte(),
            Self::OtherShard { byte, .. } => Some(*byte),
            _ => None,
        }
    }

    /// What to do about it: the last part of the message, in the library's words. A program that has
    /// names of its own for what is asked for may put its own words there.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Files(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::Recipe(error) => error.hint(),
            Self::ImportanceLength { .. } => Some(OTHER_MODEL),
            Self::ImportanceTooLarge { .. } => Some(BAD_MATRIX),
            Self::PreTokenizer { .. } => Some(NAME_IT),
            Self::Grouped { refusal, .. } => Some(refusal.help()),
            Self::ImportanceNeeded { .. } => Some(NEEDS_MATRIX),
            Self::Requantize { .. } => Some(REQUANTIZE),
            Self::CannotRead { .. } => Some(ORIGINAL),
            Self::NonFinite { .. } => Some(DIVERGED),
            Self::Overflow { ty, importance, .. } => Some(too_large(*ty, importance.is_some())),
            Self::GroupSize { .. } => Some(GROUPS),
            Self::Base { .. } => Some(NEEDS_BASE),
            Self::Part { .. } => Some(PART_TYPES),
            Self::TooSmall { .. } => Some(SMALLER),
            Self::NoCandidate { .. } => Some(MORE_TYPES),
            Self::Sensitivities { .. } => Some(MEASURE_AGAIN),
            Self::SameFile { .. } => Some(OTHER_NAME),
            Self::OtherShard { .. } => Some(OTHER_SHARD),
            Self::Threads { .. } => Some(FEWER),
            Self::Json { help, .. }
            | Self::Config { help, .. }
            | Self::OwnNames { help, .. }
            | Self::Weights { help, .. }
            | Self::Tokenizer { help, .. } => Some(help),
            _ => None,
        }
    }
}
