//! Reading a header front to back through a small buffer, every length checked before it is used.

use crate::{Budget, Error, Place, Result, SourceFile};

const BUFFER: usize = 64 << 10;

/// A position in a file, a buffer, and the budget that what is read is charged to.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) file: &'a SourceFile,
    pub(crate) budget: &'a mut Budget,
    position: u64,
    buffer: Vec<u8>,
    /// Absolute offset of the buffer's first byte.
    start: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(file: &'a SourceFile, budget: &'a mut Budget) -> Self {
        Self { file, budget, position: 0, buffer: Vec::new(), start: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes between here and the end of the file.
    pub(crate) fn left(&self) -> u64 {
        self.file.len().saturating_sub(self.position)
    }

    pub(crate) fn truncated(&self, place: &Place, needed: u64) -> Error {
        Error::Truncated {
            path: self.file.path().into(),
            place: place.clone(),
            needed,
            left: self.left(),
        }
    }

    /// Fails unless `count` things of at least `size` bytes each can follow: the check that comes
    /// before any allocation.
    pub(crate) fn expect(&self, count: u64, size: u64, place: &Place) -> Result<()> {
        match count.checked_mul(size) {
            Some(needed) if needed <= self.left() => Ok(()),
            needed => Err(self.truncated(place, needed.unwrap_or(u64::MAX))),
        }
    }

    /// Fills `out` with the next bytes.
    pub(crate) fn fill(&mut self, out: &mut [u8], place: &Place) -> Result<()> {
        self.expect(out.len() as u64, 1, place)?;
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let available = self
                .position
                .checked_sub(self.start)
                .and_then(|at| self.buffer.get(usize::try_from(at).ok()?..))
                .unwrap_or_default();
            if available.is_empty() {
                if rest.len() >= BUFFER {
                    self.file.read_exact_at(rest, self.position)?;
                    self.position += rest.len() as u64;
                    break;
                }
                self.refill()?;
                continue;
            }
            let n = available.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..n), available.get(..n)) {
                to.copy_from_slice(from);
            }
            done += n;
            self.position += n as u64;
        }
        Ok(())
    }

    fn refill(&mut self) -> Result<()> {
        let n = usize::try_from(self.left()).map_or(BUFFER, |left| left.min(BUFFER));
        self.buffer.resize(n, 0);
        self.start = self.position;
        self.file.read_exact_at(&mut self.buffer, self.position)
    }

    pub(crate) fn array<const N: usize>(&mut self, place: &Place) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, place)?;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self, place: &Place) -> Result<u32> {
        self.array(place).map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self, place: &Place) -> Result<i32> {
        self.array(place).map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, place: &Place) -> Result<u64> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// The next `len` bytes, charged to the budget.
    pub(crate) fn bytes(&mut self, len: u64, place: &Place) -> Result<Vec<u8>> {
        self.expect(len, 1, place)?;
        self.budget.debit_array(len, 1, self.file.path(), place)?;
        // It fits: the file is in a 64-bit address space or smaller than a 32-bit one allows.
        let len = usize::try_from(len).map_err(|_| self.truncated(place, len))?;
        let mut bytes = vec![0; len];
        self.fill(&mut bytes, place)?;
        Ok(bytes)
    }

    /// Room for `count` values of type `T`, charged to the budget.
    pub(crate) fn vec<T>(&mut self, count: u64, place: &Place) -> Result<Vec<T>> {
        self.budget.debit_array(count, size_of::<T>(), self.file.path(), place)?;
        let count = usize::try_from(count).map_err(|_| self.truncated(place, count))?;
        Ok(Vec::with_capacity(count))
    }

    /// The error for bytes that break the format.
    pub(crate) fn malformed(
        &self,
        place: Place,
        found: impl Into<Box<str>>,
        expected: impl Into<Box<str>>,
        help: &'static str,
    ) -> Error {
        Error::Malformed {
            path: self.file.path().into(),
            place,
            found: found.into(),
            expected: expected.into(),
            help,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn reads_across_the_buffer_and_never_past_the_end() {
        let bytes: Vec<u8> = (0..3 * BUFFER + 7).map(|i| (i % 251) as u8).collect();
        let file = SourceFile::from_bytes("m", bytes.clone());
        let mut budget = Budget::new(&Limits::default());
        budget.admit(file.len());
        let mut cursor = Cursor::new(&file, &mut budget);
        let place = Place::Field("test", 0);
        let mut got = Vec::new();
        for len in [1, 7, 65_000, 600, 8, 100_000] {
            got.extend(cursor.bytes(len, &place).unwrap());
        }
        assert_eq!(got, bytes[..got.len()]);
        let left = cursor.left();
        assert!(matches!(cursor.bytes(left + 1, &place), Err(Error::Truncated { .. })));
        assert!(matches!(
            cursor.expect(1 << 60, 16, &place),
            Err(Error::Truncated { needed: u64::MAX, .. })
        ));
        got.extend(cursor.bytes(left, &place).unwrap());
        assert_eq!(got, bytes);
    }
}
