//! How much memory a reader may allocate for what it reads.

use std::path::Path;

use crate::{Error, Place, Result};

/// Limits on what readers allocate.
///
/// A reader never allocates more than eight times the size of the file plus 1 MiB, so a small
/// hostile file cannot claim much. [`heap`](Self::heap) bounds what a large one can claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of metadata, tensor lists and importance values that opening a model may allocate.
    pub heap: u64,
    /// The largest size of a JSON header or index, in bytes.
    pub json: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heap: 4 << 30,
            // What the reference implementation of safetensors accepts.
            json: 100_000_000,
        }
    }
}

impl Limits {
    /// The default limits with another [`heap`](Self::heap).
    pub fn with_heap(heap: u64) -> Self {
        Self { heap, ..Self::default() }
    }
}

/// What is left of a reader's [`Limits`]: debited before every allocation whose size a file chose.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: Limits,
    granted: u64,
    used: u64,
    peak: u64,
}

/// What an allocation of `bytes` takes from a common allocator: a header of 8 bytes, in steps of 16,
/// at least 32. Counted because a hostile file is made of the smallest strings there are.
fn allocation(bytes: u64) -> u64 {
    match bytes {
        0 => 0,
        _ => bytes.saturating_add(8).checked_next_multiple_of(16).unwrap_or(u64::MAX).max(32),
    }
}

impl Budget {
    /// A budget that grants nothing until a file is [admitted](Self::admit).
    pub fn new(limits: &Limits) -> Self {
        Self { limits: *limits, granted: 0, used: 0, peak: 0 }
    }

    /// Grants what a file of `len` bytes may cost: eight times its length and 1 MiB.
    pub fn admit(&mut self, len: u64) {
        let grant = len.saturating_mul(8).saturating_add(1 << 20);
        self.granted = self.granted.saturating_add(grant);
    }

    /// The limits this budget was made from.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes that may be in use at one time.
    pub fn limit(&self) -> u64 {
        self.granted.min(self.limits.heap)
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The most bytes that were ever in use.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Takes `bytes` for one allocation.
    ///
    /// # Errors
    /// [`Error::LimitsExceeded`] with the file and place given, if they are not left.
    pub fn debit(&mut self, bytes: u64, path: &Path, place: &Place) -> Result<()> {
        let limit = self.limit();
        match self.used.checked_add(bytes) {
            Some(used) if used <= limit => {
                self.used = used;
                self.peak = self.peak.max(used);
                Ok(())
            }
            _ => Err(Error::LimitsExceeded {
                path: path.into(),
                place: place.clone(),
                needed: bytes,
                left: limit.saturating_sub(self.used),
                limit,
            }),
        }
    }

    /// Takes what `count` values of `size` bytes cost in one allocation.
    ///
    /// # Errors
    /// As [`debit`](Self::debit).
    pub fn debit_array(
        &mut self,
        count: u64,
        size: usize,
        path: &Path,
        place: &Place,
    ) -> Result<()> {
        let bytes = allocation(count.saturating_mul(size as u64));
        self.debit(bytes, path, place)
    }

    /// Gives back bytes taken before, when what they were for has been freed.
    pub fn credit(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}
