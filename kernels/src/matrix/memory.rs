//! The memory that packed weights lie in.

use std::{
    fmt,
    ops::{Deref, DerefMut, Range},
    sync::Arc,
};

use memmap2::{MmapMut, MmapRaw};

/// A cache line.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

pub(super) const LINE: usize = size_of::<Line>();
/// A large page on x86-64, and on ARM with pages of 4 KiB.
const LARGE: usize = 2 << 20;

/// One piece of memory for the packed matrices of a model, in large pages where the system gives them.
///
/// A decoder reads all weights for every token. In pages of 4 KiB looking up their addresses takes a
/// quarter of that time, and matrices of a megabyte fill no large page by themselves. What is reserved and
/// not used takes address space alone, on Windows a claim on memory too. A matrix that finds no room gets
/// memory of its own.
#[derive(Default)]
pub struct PackedMemory {
    region: Option<Arc<MmapRaw>>,
    /// Bytes of the region that matrices do not have yet.
    free: Range<usize>,
}

impl fmt::Debug for PackedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedMemory").field("free", &self.free.len()).finish_non_exhaustive()
    }
}

impl PackedMemory {
    /// Room for so many bytes; none if the system has no such room.
    pub fn reserve(bytes: usize) -> Self {
        let region = bytes
            .checked_add(2 * LARGE)
            .filter(|_| bytes >= LARGE)
            .and_then(|len| MmapMut::map_anon(len).ok());
        let Some(region) = region.map(MmapRaw::from) else { return Self::default() };
        // A wish that the system need not know.
        #[cfg(target_os = "linux")]
        let _ = region.advise(memmap2::Advice::HugePage);
        let start = region.as_ptr().align_offset(LARGE).min(LARGE);
        let free = start..region.len();
        Self { region: Some(Arc::new(region)), free }
    }

    /// So many lines of zeros.
    pub(super) fn lines(&mut self, count: usize) -> Lines {
        let place = self.region.as_ref().and_then(|region| {
            let end = self.free.start.checked_add(count.checked_mul(LINE)?)?;
            (count > 0 && end <= self.free.end).then(|| (Arc::clone(region), end))
        });
        match place {
            Some((region, end)) => {
                let start = std::mem::replace(&mut self.free.start, end);
                Lines::Shared { region, start, count }
            }
            None => vec![Line([0; LINE]); count].into(),
        }
    }
}

/// The lines of a matrix.
pub(super) enum Lines {
    Own(Vec<Line>),
    /// Some of the bytes of a region, which no other matrix has.
    Shared {
        region: Arc<MmapRaw>,
        start: usize,
        count: usize,
    },
}

impl From<Vec<Line>> for Lines {
    fn from(lines: Vec<Line>) -> Self {
        Self::Own(lines)
    }
}

impl Clone for Lines {
    fn clone(&self) -> Self {
        Self::Own(self.to_vec())
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        match self {
            Self::Own(lines) => lines,
            // SAFETY: the map lives as long as the region that is held here. `PackedMemory::lines` has made
            // `start..start + count · LINE` a part of it, aligned to lines, which it gives away once: only
            // this value refers to it, and mutably only while it is borrowed mutably. Nobody refers to the
            // whole map. Its bytes were zeros, and any bytes are a line.
            Self::Shared { region, start, count } => unsafe {
                std::slice::from_raw_parts(region.as_ptr().add(*start).cast(), *count)
            },
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        match self {
            Self::Own(lines) => lines,
            // SAFETY: as above; the map can be written, and this value is borrowed mutably.
            Self::Shared { region, start, count } => unsafe {
                std::slice::from_raw_parts_mut(region.as_mut_ptr().add(*start).cast(), *count)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zero_apart_and_aligned() {
        let mut memory = PackedMemory::reserve(3 << 20);
        let mut pieces: Vec<Lines> = [5, 0, 1, 20_000, 7].map(|n| memory.lines(n)).into();
        for (i, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.iter().all(|line| line.0 == [0; LINE]));
            assert!(piece.as_ptr().is_aligned());
            piece.fill(Line([i as u8 + 1; LINE]));
        }
        drop(memory);
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|line| line.0 == [i as u8 + 1; LINE]));
        }
        // A copy has memory of its own.
        let copy = pieces[3].clone();
        pieces[3].fill(Line([9; LINE]));
        assert!(copy.iter().all(|line| line.0 == [4; LINE]));
        assert!(matches!(copy, Lines::Own(_)));
    }

    #[test]
    fn what_finds_no_room_gets_memory_of_its_own() {
        let mut memory = PackedMemory::reserve(LARGE);
        assert!(matches!(memory.lines(1 << 30 >> 6), Lines::Own(_)), "more than there is");
        assert!(matches!(memory.lines(LARGE / LINE), Lines::Shared { .. }));
        assert!(matches!(PackedMemory::reserve(usize::MAX).lines(1), Lines::Own(_)));
        assert!(matches!(PackedMemory::reserve(100).lines(1), Lines::Own(_)));
    }
}
