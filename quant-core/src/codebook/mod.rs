//! The codebooks of the IQ types: which groups of eight or four values a block can hold, and which
//! points are near a group that it cannot hold.
//!
//! A point has a level for each coordinate: 0 to 2 for each of eight, or 0 to 7 for each of four. As a
//! *code* it is these levels in two or three bits each, the first lowest; as a *key* it is the number
//! with the levels as digits, which has no gaps. Its *index* in the book is what files hold.

pub(crate) mod points;

use alloc::{boxed::Box, vec, vec::Vec};

use crate::once::Once;

/// The books: their points as codes, how many distances count as near, and how keys are found.
macro_rules! codebooks {
    ($($(#[$doc:meta])* $name:ident: $dims:literal, $points:literal, $shells:literal, $keys:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) static $name: Codebook<$dims> = {
            static CODES: [u16; $points] = codes::<$dims, $points>(&points::$name);
            Codebook { codes: &CODES, shells: $shells, keys: Keys::$keys, near: Once::new() }
        };
    )*};
}

codebooks! {
    /// The codebook of IQ2_XXS.
    IQ2_XXS: 8, 256, 2, Rounded;
    /// The codebook of IQ2_XS.
    IQ2_XS: 8, 512, 2, Rounded;
    /// The codebook of IQ2_S.
    IQ2_S: 8, 1024, 1, Rounded;
    /// The codebook of IQ1_S and IQ1_M.
    IQ1: 8, 2048, 3, Split;
    /// The codebook of IQ3_XXS.
    IQ3_XXS: 4, 256, 2, Rounded;
    /// The codebook of IQ3_S.
    IQ3_S: 4, 512, 3, Rounded;
}

/// Entries that may be read beyond the end of a list: one vector's.
const PADDING: usize = 32;

/// A length that no list exceeds, with that many entries beyond its end.
pub(crate) const LONGEST: usize = 352;

/// How many levels a point in a list is at most above the key, in any coordinate.
pub(crate) const fn rise<const DIMS: usize>() -> usize {
    if DIMS == 8 { 2 } else { 3 }
}

/// A codebook of groups of `DIMS` values.
#[derive(Debug)]
pub(crate) struct Codebook<const DIMS: usize> {
    /// The codes of the points, by index.
    pub(crate) codes: &'static [u16],
    /// How many distances count as near.
    shells: usize,
    keys: Keys,
    near: Once<Near>,
}

/// How the levels of a key are found.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    /// Each value is rounded to the nearest level.
    Rounded,
    /// Values are split by their order.
    Split,
}

/// What is near each key.
#[derive(Debug)]
pub(crate) struct Near {
    /// What stands for each key, [`List`]s as numbers; for [`Keys::Rounded`] the lists without the points that
    /// are never nearest come first, and then all. Of either as many as [`slots`](Self::slots) says.
    lists: Box<[i32]>,
    /// How many lists there may be.
    slots: usize,
    /// Codes of points, list by list, and [`PADDING`] more.
    codes: Box<[u16]>,
    /// The index of a point by its code.
    indices: Box<[u16]>,
}

/// The points that stand for a key: itself if it is a point, else the points of the least distances,
/// nearest first, those of one distance by index.
///
/// As a number it has the length in its upper bits; the others say where the list starts in [`Near::codes`] or,
/// if the length is zero, are [`ON_GRID`] and the code of the point that the key is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List(u32);

/// Bits of the start in a list as a number.
pub(crate) const START_BITS: u32 = 20;

/// Says of a code that its key was a point of the book.
pub(crate) const ON_GRID: i32 = 1 << 16;

impl List {
    /// A list from a place in the codes on.
    fn new(start: usize, len: usize) -> Self {
        assert!(start >> START_BITS == 0 && len < LONGEST, "a list is a positive number");
        Self((len << START_BITS | start) as u32)
    }

    /// The list that a number stands for.
    #[inline(always)]
    pub(crate) fn from_bits(bits: i32) -> Self {
        Self(bits as u32)
    }

    /// The number that stands for it.
    #[inline(always)]
    pub(crate) fn bits(self) -> i32 {
        self.0 as i32
    }

    /// Where it starts in the codes.
    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        (self.0 & ((1 << START_BITS) - 1)) as usize
    }

    /// How many points it has; none if the key is a point itself.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        (self.0 >> START_BITS) as usize
    }

    /// The code of the point that the key is, if it is one.
    #[inline(always)]
    pub(crate) fn point(self) -> Option<u16> {
        (self.len() == 0).then_some(self.0 as u16)
    }
}

impl<const DIMS: usize> Codebook<DIMS> {
    /// Levels of a coordinate.
    pub(crate) const LEVELS: usize = if DIMS == 8 { 3 } else { 8 };
    /// Bits of a level in a code.
    pub(crate) const BITS: u32 = if DIMS == 8 { 2 } else { 3 };
    const KEYS: usize = Self::LEVELS.pow(DIMS as u32);

    /// The levels of the point of an index, for reading blocks.
    #[inline(always)]
    pub(crate) fn levels(&self, index: usize) -> [usize; DIMS] {
        let code = usize::from(self.codes[index & (self.codes.len() - 1)]);
        let mask = (1 << Self::BITS) - 1;
        core::array::from_fn(|i| code >> (Self::BITS as usize * i) & mask)
    }

    /// What is near each key; found on first use, in some milliseconds.
    pub(crate) fn near(&self) -> &Near {
        self.near.get_or_init(|| self.find_near())
    }

    fn find_near(&self) -> Near {
        // Distances are sums of those of the halves of the coordinates.
        let halves = Self::LEVELS.pow(DIMS as u32 / 2);
        let apart: Vec<u8> = (0..halves * halves)
            .map(|pair| {
                let (mut a, mut b, mut sum) = (pair / halves, pair % halves, 0);
                for _ in 0..DIMS / 2 {
                    sum += (a % Self::LEVELS).abs_diff(b % Self::LEVELS).pow(2);
                    (a, b) = (a / Self::LEVELS, b / Self::LEVELS);
                }
                sum as u8
            })
            .collect();
        let keys: Vec<usize> = self.codes.iter().map(|code| Self::key(*code)).collect();
        let mut is_point = vec![None; Self::KEYS];
        let mut indices = vec![0; 1 << (Self::BITS as usize * DIMS)];
        for (index, (&key, &code)) in keys.iter().zip(self.codes).enumerate() {
            is_point[key] = Some(code);
            indices[usize::from(code)] = index as u16;
        }
        let parts: Vec<_> = keys.iter().map(|key| (key / halves, key % halves)).collect();
        let mut distances = vec![0u8; keys.len()];
        let slots = Self::KEYS.next_power_of_two();
        let (mut lists, mut codes) = (Vec::with_capacity(2 * slots), Vec::<u16>::new());
        for (key, point) in is_point.iter().enumerate() {
            let start = codes.len();
            lists.push(match point {
                Some(code) => List((ON_GRID | i32::from(*code)) as u32),
                None => {
                    let high = &apart[key / halves * halves..][..halves];
                    let low = &apart[key % halves * halves..][..halves];
                    let mut seen = [false; 256];
                    for (distance, part) in distances.iter_mut().zip(&parts) {
                        *distance = high[part.0] + low[part.1];
                        seen[usize::from(*distance)] = true;
                    }
                    let shells = (0..=255).filter(|d: &u8| seen[usize::from(*d)]);
                    for shell in shells.take(self.shells) {
                        let inside = distances.iter().zip(self.codes);
                        codes.extend(inside.filter(|(d, _)| **d == shell).map(|(_, code)| *code));
                    }
                    List::new(start, codes.len() - start)
                }
            });
        }
        lists.resize(slots, lists[0]);
        if self.keys == Keys::Rounded {
            let mut rivals = lists.clone();
            let mut kept = Vec::new();
            for (key, list) in rivals[..Self::KEYS].iter_mut().enumerate() {
                if list.point().is_some() {
                    continue;
                }
                let start = codes.len();
                kept.clear();
                for i in list.start()..list.start() + list.len() {
                    let code = codes[i];
                    let beyond = Self::beyond(key, code);
                    if kept.iter().all(|nearer| nearer & !beyond != 0) {
                        kept.push(beyond);
                        codes.push(code);
                    }
                }
                *list = List::new(start, codes.len() - start);
            }
            rivals.append(&mut lists);
            lists = rivals;
        }
        codes.extend([0; PADDING]);
        let lists = lists.into_iter().map(|list| list.0 as i32).collect();
        Near { lists, slots, codes: codes.into(), indices: indices.into() }
    }

    /// What a point is beyond, seen from a key: for each coordinate a bit for each level that is on the way up
    /// to the point's, that included, or as near on the other side as those before it; the same for the
    /// way down.
    ///
    /// If all bits of another point are among them, then each of its levels is as near or nearer to any value
    /// that is rounded to that of the key.
    fn beyond(key: usize, code: u16) -> u64 {
        let side = 32 / DIMS;
        let (mut rest, mut bits) = (key, 0);
        for i in 0..DIMS {
            let level = usize::from(code) >> (Self::BITS as usize * i) & ((1 << Self::BITS) - 1);
            let own = rest % Self::LEVELS;
            rest /= Self::LEVELS;
            let (toward, away) = match level.abs_diff(own) {
                0 => (0, 0),
                steps => ((1 << steps) - 1, (1 << (steps - 1)) - 1),
            };
            let (up, down) = if level > own { (toward, away) } else { (away, toward) };
            bits |= (up | down << side) << (2 * side * i);
        }
        bits
    }

    fn key(code: u16) -> usize {
        let level = |i| usize::from(code) >> (Self::BITS as usize * i) & ((1 << Self::BITS) - 1);
        (0..DIMS).rev().fold(0, |key, i| key * Self::LEVELS + level(i))
    }
}

impl Near {
    /// The points that stand for a key.
    #[inline(always)]
    pub(crate) fn list(&self, key: usize) -> List {
        List::from_bits(self.lists[self.lists.len() - self.slots + key])
    }

    /// What stands for each key, as numbers. First come lists of rivals only, those points that may be the nearest
    /// to values that are rounded to the levels of the key: a point that is left out is in no coordinate
    /// nearer than one before it. That is so for values that lie no nearer to the middle between two levels
    /// than rounding can account for. Then come all lists, [`slots`](Self::slots) further on.
    #[inline(always)]
    pub(crate) fn lists(&self) -> &[i32] {
        &self.lists
    }

    /// How many keys there may be.
    #[inline(always)]
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// The codes from a place in a list on, at least as many as a vector has lanes.
    #[inline(always)]
    pub(crate) fn codes(&self, from: usize) -> &[u16] {
        &self.codes[from..]
    }

    /// The index of a point.
    #[inline(always)]
    pub(crate) fn index(&self, code: u16) -> u16 {
        self.indices[usize::from(code) & (self.indices.len() - 1)]
    }
}

/// The codes of the points whose bits are set.
pub(crate) const fn codes<const DIMS: usize, const N: usize>(bits: &[u64]) -> [u16; N] {
    let (levels, width) = (Codebook::<DIMS>::LEVELS, Codebook::<DIMS>::BITS);
    let mut codes = [0; N];
    let (mut key, mut found) = (0, 0);
    while key < bits.len() * 64 {
        if bits[key / 64] >> (key % 64) & 1 == 1 {
            let (mut rest, mut i) = (key, 0);
            while i < DIMS {
                codes[found] |= ((rest % levels) << (width as usize * i)) as u16;
                rest /= levels;
                i += 1;
            }
            found += 1;
        }
        key += 1;
    }
    assert!(found == N, "as many bits are set as the book has points");
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By all distances, sorted.
    fn by_sorting<const DIMS: usize>(book: &Codebook<DIMS>, key: usize) -> Vec<u16> {
        let levels = |mut key: usize| -> [usize; DIMS] {
            core::array::from_fn(|_| {
                let level = key % Codebook::<DIMS>::LEVELS;
                key /= Codebook::<DIMS>::LEVELS;
                level
            })
        };
        let here = levels(key);
        let mut all: Vec<_> = (0..book.codes.len())
            .map(|index| {
                let there = book.levels(index);
                let squares = here.iter().zip(there).map(|(a, b)| a.abs_diff(b).pow(2));
                (squares.sum::<usize>(), index)
            })
            .collect();
        all.sort_unstable();
        let mut distances: Vec<_> = all.iter().map(|(distance, _)| *distance).collect();
        distances.dedup();
        let farthest = match distances[0] {
            0 => 0,
            _ => distances[book.shells - 1],
        };
        all.iter().filter(|(d, _)| *d <= farthest).map(|(_, i)| book.codes[*i]).collect()
    }

    fn check<const DIMS: usize>(book: &Codebook<DIMS>, total: usize) {
        let near = book.near();
        for key in (0..Codebook::<DIMS>::KEYS).step_by(13) {
            let list = near.list(key);
            let expected = by_sorting(book, key);
            for code in &expected {
                for i in 0..DIMS {
                    let level = |code: u16| code >> (Codebook::<DIMS>::BITS * i as u32);
                    let mask = (1 << Codebook::<DIMS>::BITS) - 1;
                    let own = key / Codebook::<DIMS>::LEVELS.pow(i as u32);
                    let own = own % Codebook::<DIMS>::LEVELS;
                    let above = usize::from(level(*code) & mask).saturating_sub(own);
                    assert!(above <= rise::<DIMS>(), "{key}");
                }
            }
            if Codebook::<DIMS>::key(expected[0]) == key {
                assert_eq!(list.point(), Some(expected[0]), "{key}");
            } else {
                assert_eq!(near.codes(list.start())[..list.len()], expected, "{key}");
            }
        }
        for (index, code) in book.codes.iter().enumerate() {
            assert_eq!(usize::from(near.index(*code)), index);
            assert_eq!(near.list(Codebook::<DIMS>::key(*code)).point(), Some(*code));
        }
        let lens = (0..Codebook::<DIMS>::KEYS).map(|key| near.list(key).len());
        assert_eq!(lens.clone().sum::<usize>(), total);
        assert!(lens.max() <= Some(LONGEST - PADDING));
    }

    /// Wherever in its cell a value is, near the borders and outside of the levels too.
    fn check_rivals<const DIMS: usize>(book: &Codebook<DIMS>, total: usize) {
        let near = book.near();
        let top = (Codebook::<DIMS>::LEVELS - 1) as f32;
        let codes =
            |list: List| &near.codes(list.start() * usize::from(list.len() > 0))[..list.len()];
        for key in 0..Codebook::<DIMS>::KEYS {
            let (all, rivals) = (codes(near.list(key)), codes(List::from_bits(near.lists[key])));
            assert!(all.iter().filter(|code| rivals.contains(code)).eq(rivals), "{key}: order");
            if key % 41 != 0 {
                continue;
            }
            let apart = |code: u16, places: [f32; 5], i: usize| {
                let own = key / Codebook::<DIMS>::LEVELS.pow(i as u32) % Codebook::<DIMS>::LEVELS;
                let own = own as f32;
                let level = code >> (Codebook::<DIMS>::BITS * i as u32);
                let level = f32::from(level & ((1 << Codebook::<DIMS>::BITS) - 1));
                places.map(|place| {
                    let outside = (own == 0.0 && place < 0.0) || (own == top && place > 0.0);
                    (own + if outside { 5.0 * place } else { place } - level).abs()
                })
            };
            for code in all.iter().filter(|code| !rivals.contains(code)) {
                let nearer = all.iter().take_while(|other| other != &code).any(|other| {
                    (0..DIMS).all(|i| {
                        let places = [-0.4999, -0.25, 0.0, 0.25, 0.4999];
                        let pairs =
                            apart(*other, places, i).into_iter().zip(apart(*code, places, i));
                        rivals.contains(other) && pairs.into_iter().all(|(a, b)| a <= b)
                    })
                });
                assert!(nearer, "{key} {code:#x}");
            }
        }
        let lens =
            near.lists[..Codebook::<DIMS>::KEYS].iter().map(|bits| List::from_bits(*bits).len());
        assert_eq!(lens.sum::<usize>(), total);
    }

    #[test]
    fn points_that_are_left_out_are_nowhere_nearer_than_one_before_them() {
        check_rivals(&IQ2_XXS, 82_937);
        check_rivals(&IQ2_XS, 99_031);
        check_rivals(&IQ2_S, 44_716);
        check_rivals(&IQ3_XXS, 16_461);
        check_rivals(&IQ3_S, 19_469);
    }

    /// The lengths of all lists are those of ggml's.
    #[test]
    fn neighbours_are_the_nearest_in_ggmls_order() {
        check(&IQ2_XXS, 113_157);
        check(&IQ2_XS, 181_721);
        check(&IQ2_S, 44_716);
        check(&IQ1, 327_721);
        check(&IQ3_XXS, 18_985);
        check(&IQ3_S, 24_733);
    }
}
