//! What messages are put together from.

use std::fmt;

use crate::message::Quoted;

/// `, as have N others`, or nothing.
pub(super) struct AsHave(pub(super) usize);

impl fmt::Display for AsHave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", and another one lacks data"),
            n => write!(f, ", and {n} others lack data"),
        }
    }
}

/// ` and N more files beside it`, or nothing.
pub(super) struct Others(pub(super) usize);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", its other file beside it"),
            n => write!(f, ", its other {n} files beside it"),
        }
    }
}

/// `; the name most like it is "x"`, or nothing.
pub(super) struct Nearest<'a>(pub(super) Option<&'a str>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; the name most like it is {}", Quoted(name)),
            None => Ok(()),
        }
    }
}

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A part of the header that has a name, at this offset.
    Field(&'static str, u64),
    /// A metadata key whose entry, or part of it, is at this offset.
    Key(String, u64),
    /// A tensor whose description or data is at this offset.
    Tensor(String, u64),
}

impl Place {
    /// What it is, without where: what is not written yet has no place in a file.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Field(name, _) => (*name).to_owned(),
            Self::Key(key, _) => format!("key {}", Quoted(key)),
            Self::Tensor(name, _) => format!("tensor {}", Quoted(name)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Field(_, at) | Self::Key(_, at) | Self::Tensor(_, at)) = self;
        write!(f, "{} at byte {at}", self.name())
    }
}

/// Text that quotes a file, such as a parser's message: on one line and shortened.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut line: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// All that is wrong with a set of files. The first ones are kept and shown, the rest counted, so
/// that a hostile set cannot fill the memory or the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    first: Vec<String>,
    more: usize,
}

impl Problems {
    const KEPT: usize = 24;

    pub(crate) fn add(&mut self, problem: impl FnOnce() -> String) {
        if self.first.len() < Self::KEPT {
            self.first.push(problem());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Adds those of another list after these.
    pub(crate) fn append(&mut self, other: Self) {
        other.first.into_iter().for_each(|problem| self.add(|| problem));
        self.more = self.more.saturating_add(other.more);
    }

    /// The first problems, one sentence each.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.first.len().saturating_add(self.more)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join("; "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
