//! Text of files and paths in messages of one line. What a file says may be long, or hold control
//! characters that a terminal would obey.

use std::{
    fmt::{self, Write},
    path::Path,
};

/// Text from a file, in quotes, escaped, and cut after 100 characters.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 100;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// A path without quotes; control characters escaped, since file names may hold them.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string_lossy().chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// A shape from a file, which may have any number of dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a>(pub &'a [u64]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..8) {
            Some(start) if self.0.len() > 8 => write!(f, "{start:?} and more dimensions"),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

/// The first eight of a list, with commas between them, and how many more there are.
pub fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    const MOST: usize = 8;
    let more = items.len().saturating_sub(MOST);
    let mut text = items.take(MOST).collect::<Vec<_>>().join(", ");
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " and {more} more");
    }
    text
}
