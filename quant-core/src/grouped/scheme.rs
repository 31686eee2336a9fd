//! Types and group sizes.

use core::{fmt, num::NonZeroUsize};

use crate::Error;

/// A grouped integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupedType {
    /// Four bits, zero in the middle of the range.
    Int4Sym,
    /// Four bits and a zero point.
    Int4Asym,
    /// Eight bits, zero in the middle of the range.
    Int8Sym,
    /// Eight bits and a zero point.
    Int8Asym,
}

impl GroupedType {
    /// All types.
    pub const ALL: &'static [Self] =
        &[Self::Int4Sym, Self::Int4Asym, Self::Int8Sym, Self::Int8Asym];

    /// The name in the spelling of NNCF, e.g. `int4_sym`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int4Sym => "int4_sym",
            Self::Int4Asym => "int4_asym",
            Self::Int8Sym => "int8_sym",
            Self::Int8Asym => "int8_asym",
        }
    }

    /// The type with this name, in any case; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int4Sym | Self::Int4Asym => 4,
            Self::Int8Sym | Self::Int8Asym => 8,
        }
    }

    /// Whether zero is the middle of the range.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Int4Sym | Self::Int8Sym)
    }

    /// The largest code.
    pub const fn levels(self) -> u8 {
        (1u32 << self.bits()).wrapping_sub(1) as u8
    }

    /// The code of zero in a symmetric type.
    pub const fn middle(self) -> u8 {
        1 << (self.bits() - 1)
    }
}

impl fmt::Display for GroupedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many consecutive weights of a row share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupSize {
    /// The whole row.
    Channel,
    /// This many.
    Elements(NonZeroUsize),
}

impl GroupSize {
    /// From the number that command lines use: −1 is the whole row. `None` for other numbers that
    /// are not positive.
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            -1 => Some(Self::Channel),
            _ => NonZeroUsize::new(usize::try_from(number).ok()?).map(Self::Elements),
        }
    }

    /// The number that command lines use.
    pub fn number(self) -> i64 {
        match self {
            Self::Channel => -1,
            Self::Elements(n) => i64::try_from(n.get()).unwrap_or(i64::MAX),
        }
    }
}

impl fmt::Display for GroupSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel => f.write_str("per channel"),
            Self::Elements(n) => write!(f, "groups of {n}"),
        }
    }
}

/// What to do with rows that are not a whole number of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// Refuse them.
    #[default]
    Error,
    /// Leave them in floating point.
    Ignore,
    /// Take the largest power of two that divides the row, if it is at least
    /// 32; the backup type otherwise.
    Adjust,
}

/// The smallest group that [`Fallback::Adjust`] settles for.
const SMALLEST_ADJUSTED: usize = 32;

/// What became of a group size for rows of some length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Groups of this many elements.
    Groups(usize),
    /// The layer stays as it is.
    Keep,
    /// The layer gets the backup type.
    Backup,
}

impl GroupSize {
    /// The groups that rows of `row_len` elements get.
    ///
    /// # Errors
    /// [`Error::GroupLength`] if the size does not divide the row and the policy is to refuse that,
    /// or if the row is empty.
    pub fn fit(self, row_len: usize, fallback: Fallback) -> Result<Fit, Error> {
        let refused = |group| Error::GroupLength { row: row_len, group };
        match self {
            _ if row_len == 0 => Err(refused(0)),
            Self::Channel => Ok(Fit::Groups(row_len)),
            Self::Elements(n) if row_len.is_multiple_of(n.get()) => Ok(Fit::Groups(n.get())),
            Self::Elements(n) => match fallback {
                Fallback::Error => Err(refused(n.get())),
                Fallback::Ignore => Ok(Fit::Keep),
                Fallback::Adjust => match 1usize << row_len.trailing_zeros() {
                    power if power >= SMALLEST_ADJUSTED => Ok(Fit::Groups(power)),
                    _ => Ok(Fit::Backup),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for &ty in GroupedType::ALL {
            assert_eq!(GroupedType::from_name(&ty.name().to_uppercase()), Some(ty));
        }
        assert_eq!(GroupedType::from_name("int2_sym"), None);
        assert_eq!((GroupedType::Int4Asym.levels(), GroupedType::Int8Sym.levels()), (15, 255));
        assert_eq!((GroupedType::Int4Sym.middle(), GroupedType::Int8Sym.middle()), (8, 128));
    }

    #[test]
    fn sizes_fit_or_fall_back() {
        let size = |n| GroupSize::from_number(n).unwrap();
        assert_eq!(GroupSize::from_number(0), None);
        assert_eq!(GroupSize::from_number(-2), None);
        let fit = |n, row, fallback| size(n).fit(row, fallback);
        assert_eq!(fit(128, 768, Fallback::Error), Ok(Fit::Groups(128)));
        assert_eq!(fit(-1, 77, Fallback::Error), Ok(Fit::Groups(77)));
        assert_eq!(
            fit(128, 192, Fallback::Error),
            Err(Error::GroupLength { row: 192, group: 128 })
        );
        assert_eq!(fit(128, 192, Fallback::Ignore), Ok(Fit::Keep));
        assert_eq!(fit(128, 192, Fallback::Adjust), Ok(Fit::Groups(64)));
        assert_eq!(fit(128, 48, Fallback::Adjust), Ok(Fit::Backup));
        assert!(fit(-1, 0, Fallback::Adjust).is_err());
    }
}
