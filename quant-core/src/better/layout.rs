//! Where the integers of a block are, as data.

use crate::GgmlType;

/// The most values and the most sub-blocks of a block.
pub(super) const MOST_VALUES: usize = 256;
pub(super) const MOST_SUBS: usize = 16;

/// A block in its numbers: value `i` is `d · scale · level − dmin · min`, with the scale and the minimum of
/// its sub-block.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    /// Half-precision bits.
    pub(super) d: u16,
    /// Half-precision bits; zero where the type has no minimum.
    pub(super) dmin: u16,
    pub(super) scales: [i16; MOST_SUBS],
    pub(super) mins: [i16; MOST_SUBS],
    pub(super) levels: [f32; MOST_VALUES],
}

/// Bits of integers that are spread over bytes. The first `run` integers have the lowest bits of `run`
/// bytes, the next `run` the bits above them, and so on.
#[derive(Clone, Copy)]
struct Plane {
    offset: usize,
    bits: usize,
    run: usize,
    /// Where these bits are in the integer.
    shift: usize,
}

impl Plane {
    const fn new(offset: usize, bits: usize, run: usize) -> Self {
        Self { offset, bits, run, shift: 0 }
    }

    const fn above(mut self, shift: usize) -> Self {
        self.shift = shift;
        self
    }

    /// The bits of integer `i`.
    fn of(self, i: usize) -> Bits {
        let group = self.run * (8 / self.bits);
        Bits {
            byte: self.offset + i / group * self.run + i % self.run,
            low: self.bits * (i % group / self.run),
            count: self.bits,
            shift: self.shift,
        }
    }
}

/// Bits of one byte that are bits of an integer.
#[derive(Clone, Copy)]
struct Bits {
    byte: usize,
    /// The lowest of them in the byte.
    low: usize,
    count: usize,
    /// The lowest of them in the integer.
    shift: usize,
}

impl Bits {
    fn mask(self) -> u8 {
        (u16::MAX >> (16 - self.count)) as u8
    }

    fn get(self, block: &[u8]) -> u8 {
        (block[self.byte] >> self.low & self.mask()) << self.shift
    }

    fn put(self, block: &mut [u8], integer: u8) {
        let kept = block[self.byte] & !(self.mask() << self.low);
        block[self.byte] = kept | (integer >> self.shift & self.mask()) << self.low;
    }
}

/// The scales and minimums of sub-blocks.
#[derive(Clone, Copy)]
enum Scales {
    /// One sub-block, whose scale is `d` itself and whose minimum, if there is one, is `dmin` itself.
    None,
    /// A nibble each, in the same byte.
    Nibbles { offset: usize },
    /// Six bits each, eight of both in twelve bytes.
    SixBits { offset: usize },
}

/// What values codes stand for.
#[derive(Clone, Copy)]
pub(super) enum Levels {
    /// The code less this.
    From(i32),
    /// Those of a table, ascending.
    Table(&'static [f32; 16]),
}

/// A type whose values are scaled and shifted levels.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Values in a block.
    pub(super) len: usize,
    /// Values in a sub-block.
    pub(super) sub: usize,
    pub(super) levels: Levels,
    /// The largest code; the smallest is zero.
    pub(super) largest: i32,
    d: usize,
    /// The place of `dmin`, and whether the file has it with the other sign.
    dmin: Option<(usize, bool)>,
    scales: Scales,
    codes: &'static [Plane],
}

impl Layout {
    /// The layout of a type; `None` for types that have other values, and for Q3_K, Q6_K and IQ4_XS, whose
    /// mixes did not lose less on every model that this was measured on.
    pub(super) fn of(ty: GgmlType) -> Option<Self> {
        const NIBBLES: Plane = Plane::new(0, 4, 16);
        let simple = |d, dmin, half, bits: u32, codes| Self {
            len: 32,
            sub: 32,
            levels: Levels::From(half),
            largest: (1 << bits) - 1,
            d,
            dmin,
            scales: Scales::None,
            codes,
        };
        let super_block = |sub, d, dmin, half, bits: u32, scales, codes| Self {
            len: 256,
            sub,
            scales,
            ..simple(d, dmin, half, bits, codes)
        };
        Some(match ty {
            GgmlType::Q4_0 => simple(0, None, 8, 4, const { &[Plane { offset: 2, ..NIBBLES }] }),
            GgmlType::Q4_1 => {
                simple(0, Some((2, true)), 0, 4, const { &[Plane { offset: 4, ..NIBBLES }] })
            }
            GgmlType::Q5_0 => simple(
                0,
                None,
                16,
                5,
                const { &[Plane { offset: 6, ..NIBBLES }, Plane::new(2, 1, 1).above(4)] },
            ),
            GgmlType::Q5_1 => simple(
                0,
                Some((2, true)),
                0,
                5,
                const { &[Plane { offset: 8, ..NIBBLES }, Plane::new(4, 1, 1).above(4)] },
            ),
            GgmlType::IQ4_NL => Self {
                levels: Levels::Table(&crate::formats::IQ4_VALUES),
                ..simple(0, None, 0, 4, const { &[Plane { offset: 2, ..NIBBLES }] })
            },
            GgmlType::Q2_K => super_block(
                16,
                80,
                Some((82, false)),
                0,
                2,
                Scales::Nibbles { offset: 0 },
                const { &[Plane::new(16, 2, 32)] },
            ),
            GgmlType::Q4_K => super_block(
                32,
                0,
                Some((2, false)),
                0,
                4,
                Scales::SixBits { offset: 4 },
                const { &[Plane::new(16, 4, 32)] },
            ),
            GgmlType::Q5_K => super_block(
                32,
                0,
                Some((2, false)),
                0,
                5,
                Scales::SixBits { offset: 4 },
                const { &[Plane::new(48, 4, 32), Plane::new(16, 1, 32).above(4)] },
            ),
            _ => return None,
        })
    }

    /// Sub-blocks in a block.
    pub(super) fn subs(&self) -> usize {
        self.len / self.sub
    }

    /// The least and the largest scale and minimum of a sub-block.
    pub(super) fn limits(&self) -> ([i16; 2], [i16; 2]) {
        let fixed = i16::from(self.dmin.is_some());
        match self.scales {
            Scales::None => ([1, 1], [fixed, fixed]),
            Scales::Nibbles { .. } => ([0, 15], [0, 15]),
            Scales::SixBits { .. } => ([0, 63], [0, 63]),
        }
    }

    /// Takes a block apart.
    pub(super) fn read(&self, block: &[u8]) -> Numbers {
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let mut numbers = Numbers {
            d: half(self.d),
            dmin: match self.dmin {
                None => 0,
                Some((at, negated)) => half(at) ^ u16::from(negated) << 15,
            },
            scales: [1; MOST_SUBS],
            mins: [i16::from(self.dmin.is_some()); MOST_SUBS],
            levels: [0.0; MOST_VALUES],
        };
        for (i, level) in numbers.levels.iter_mut().enumerate().take(self.len) {
            let mut code = 0;
            for plane in self.codes {
                code |= plane.of(i).get(block);
            }
            *level = match self.levels {
                Levels::From(half) => (i32::from(code) - half) as f32,
                Levels::Table(table) => table[usize::from(code)],
            };
        }
        for j in 0..self.subs() {
            let (scale, min) = match self.scales {
                Scales::None => continue,
                Scales::Nibbles { offset } => {
                    (i16::from(block[offset + j] & 15), i16::from(block[offset + j] >> 4))
                }
                Scales::SixBits { offset } => {
                    let [scale, min] = six_bits(offset, j)
                        .map(|parts| parts.iter().fold(0, |value, part| value | part.get(block)));
                    (i16::from(scale), i16::from(min))
                }
            };
            (numbers.scales[j], numbers.mins[j]) = (scale, min);
        }
        numbers
    }

    /// Puts a block together.
    pub(super) fn write(&self, numbers: &Numbers, block: &mut [u8]) {
        block[self.d..self.d + 2].copy_from_slice(&numbers.d.to_le_bytes());
        if let Some((at, negated)) = self.dmin {
            let bits = numbers.dmin ^ u16::from(negated) << 15;
            block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        }
        for (i, level) in numbers.levels.iter().enumerate().take(self.len) {
            let code = match self.levels {
                Levels::From(half) => (*level as i32 + half) as u8,
                Levels::Table(table) => table.iter().filter(|entry| *entry < level).count() as u8,
            };
            for plane in self.codes {
                plane.of(i).put(block, code);
            }
        }
        for j in 0..self.subs() {
            let (scale, min) = (numbers.scales[j], numbers.mins[j]);
            match self.scales {
                Scales::None => {}
                Scales::Nibbles { offset } => block[offset + j] = scale as u8 | (min as u8) << 4,
                Scales::SixBits { offset } => {
                    for (parts, value) in six_bits(offset, j).into_iter().zip([scale, min]) {
                        parts.iter().for_each(|part| part.put(block, value as u8));
                    }
                }
            }
        }
    }
}

/// The bits of scale and minimum `j` among the twelve bytes of Q4_K and Q5_K: the first four of each are
/// the low six bits of a byte; of the others the low nibbles share a byte, and the upper two bits are on top
/// of the first four.
fn six_bits(offset: usize, j: usize) -> [[Bits; 2]; 2] {
    [0, 1].map(|min| {
        let (low, high) = match j < 4 {
            true => ((j + 4 * min, 0, 4), (j + 4 * min, 4)),
            false => ((j + 4, 4 * min, 4), (j - 4 + 4 * min, 6)),
        };
        [
            Bits { byte: offset + low.0, low: low.1, count: low.2, shift: 0 },
            Bits { byte: offset + high.0, low: high.1, count: 2, shift: 4 },
        ]
    })
}
