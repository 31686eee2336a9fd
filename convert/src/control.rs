//! How work is watched and stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// How a conversion is watched and stopped.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    /// Called from the workers, one at a time and in order.
    pub progress: Option<&'a (dyn Fn(Progress<'_>) + Sync)>,
    /// Set to stop: the temporary is removed and [`Error::Cancelled`] returned.
    pub cancel: Option<&'a AtomicBool>,
}

/// How far a conversion has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// Bytes of the source that are done.
    pub done: u64,
    /// Bytes of the source in all.
    pub total: u64,
    /// The tensor that was worked on last. Several are worked on at the same time.
    pub tensor: &'a str,
}

impl std::fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}
