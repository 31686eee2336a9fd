//! What errors are about, for programs, and what to do about them.

use std::path::Path;

use super::{AGAIN, CUT_SHORT, DAMAGED, Error, Place, Problems, REPLACE, Result, SPACE, UNWRITTEN};

impl Error {
    /// The file or folder that it is about, if there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::Remote { path, .. }
            | Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::WrongKind { path, .. }
            | Self::Changed { path, .. }
            | Self::NotAModel { path, .. }
            | Self::Truncated { path, .. }
            | Self::Malformed { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Duplicate { path, .. }
            | Self::LimitsExceeded { path, .. }
            | Self::NoTensor { path, .. }
            | Self::Unwritten { path, .. }
            | Self::Set { path, .. }
            | Self::Exists { path }
            | Self::Unnamed { path, .. }
            | Self::Incomplete { path, .. }
            | Self::OpenFiles { path, .. }
            | Self::NoSpace { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The place in the file, if the error knows one.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Truncated { place, .. }
            | Self::Malformed { place, .. }
            | Self::Unsupported { place, .. }
            | Self::LimitsExceeded { place, .. }
            | Self::Layout { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The tensor that it is about, if there is one.
    pub fn tensor(&self) -> Option<&str> {
        match (self, self.place()) {
            (Self::Duplicate { what: "tensor" | "entry", name, .. }, _) => Some(name),
            (
                Self::NoTensor { name, .. }
                | Self::BufferLength { tensor: name, .. }
                | Self::Unwritten { tensor: name, .. },
                _,
            ) => Some(name),
            (_, Some(Place::Tensor(name, _))) => Some(name),
            _ => None,
        }
    }

    /// The metadata key that it is about, if there is one.
    pub fn key(&self) -> Option<&str> {
        match (self, self.place()) {
            (Self::Duplicate { what: "key", name, .. }, _) => Some(name),
            (_, Some(Place::Key(key, _))) => Some(key),
            _ => None,
        }
    }

    /// The offset in the file, in bytes, if it is known.
    pub fn byte(&self) -> Option<u64> {
        match (self, self.place()) {
            (Self::Read { offset, .. } | Self::Write { offset, .. }, _) => Some(*offset),
            // A layout is not of a file yet.
            (Self::Layout { .. }, _) | (_, None) => None,
            (_, Some(Place::Field(_, at) | Place::Key(_, at) | Place::Tensor(_, at))) => Some(*at),
        }
    }

    /// What to do about it: the last part of the message.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Changed { .. } => Some(AGAIN),
            Self::Truncated { .. } => Some(CUT_SHORT),
            Self::Duplicate { .. } => Some(DAMAGED),
            Self::Exists { .. } => Some(REPLACE),
            Self::NoSpace { .. } => Some(SPACE),
            Self::Unwritten { .. } => Some(UNWRITTEN),
            Self::NotAModel { help, .. }
            | Self::Remote { help, .. }
            | Self::Malformed { help, .. }
            | Self::Unsupported { help, .. }
            | Self::Set { help, .. } => Some(help),
            _ => None,
        }
    }

    /// The error of opening one file where `more` are to be opened after it.
    pub(crate) fn with_more_files(mut self, more: usize) -> Self {
        if let Self::OpenFiles { needed, .. } = &mut self {
            *needed = needed.saturating_add(more as u64);
        }
        self
    }
}

impl Problems {
    /// `Ok` if there are none, else the error that lists them.
    pub(crate) fn into_result(self, path: &Path, help: &'static str) -> Result<()> {
        if self.count() == 0 {
            return Ok(());
        }
        Err(Error::Set { path: path.into(), problems: self, help })
    }
}
