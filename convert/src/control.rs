//! How work is watched and stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// How a conversion is watched and stopped.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    /// Called from the workers with the bytes of the source done so far.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
    /// Set to stop: the temporary is removed and [`Error::Cancelled`] returned.
    pub cancel: Option<&'a AtomicBool>,
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
