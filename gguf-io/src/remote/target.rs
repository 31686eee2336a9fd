//! A file on a server, and what tells one state of it from another.

use std::sync::{Mutex, OnceLock, PoisonError};

use ureq::http::HeaderMap;

use super::{Url, fault::Fault, response::text};

/// A file on a server.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    /// Where the server has sent us, as long as that works: often a store with an address that
    /// holds a signature for some minutes.
    moved: Mutex<Option<Url>>,
    /// What the file was when it was first seen.
    seen: OnceLock<Seen>,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    len: u64,
    tag: Option<String>,
    modified: Option<String>,
}

impl Target {
    pub(super) fn new(url: Url) -> Self {
        Self { url, moved: Mutex::default(), seen: OnceLock::new() }
    }

    /// The length, once a range of the file has been read.
    pub(super) fn len(&self) -> Option<u64> {
        self.seen.get().map(|seen| seen.len)
    }

    /// Where requests go, if the server has sent us elsewhere.
    pub(super) fn moved(&self) -> Option<Url> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_moved(&self, url: Option<Url>) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    /// Compares a file with what it was when it was first seen.
    pub(super) fn remember(&self, headers: &HeaderMap, len: u64) -> Result<(), Fault> {
        let value = |name| text(headers, name).map(str::to_owned);
        let now = Seen { len, tag: value("etag"), modified: value("last-modified") };
        let seen = self.seen.get_or_init(|| now.clone());
        let differs =
            |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
        if seen.len != now.len {
            return Err(Fault::Changed(format!("it had {} bytes and has {len}", seen.len)));
        }
        if differs(&seen.tag, &now.tag) {
            return Err(Fault::Changed("its ETag is another".to_owned()));
        }
        // Servers behind one name may disagree about times, not about tags.
        if (seen.tag.is_none() || now.tag.is_none()) && differs(&seen.modified, &now.modified) {
            return Err(Fault::Changed("its modification time is another".to_owned()));
        }
        Ok(())
    }
}
