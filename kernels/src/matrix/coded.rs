//! Block formats as matrix products see them: unsigned codes in bit planes, an integer factor and
//! minimum per sub-block, two units per block.
//!
//! A value is `unit · factor · (code − BIAS) + unit of minima · minimum`. Codes are unsigned because
//! the dot instructions multiply unsigned by signed bytes, and the activations are the signed side.

use quant_core::{formats::*, lanes::Lanes};

use crate::activation::Scaling;

/// Where some bits of the codes are in a block.
///
/// A group of `run · 8 / bits` values shares `run` bytes: the first `run` values have the lowest
/// bits of each, the next `run` values the bits above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane {
    /// First byte in the block.
    pub(crate) start: usize,
    /// Bits of each code, 0 for no plane.
    pub(crate) bits: usize,
    /// Bytes in a group; 0 if the values simply follow each other from the lowest bit.
    pub(crate) run: usize,
}

/// No plane.
const NONE: Plane = Plane { start: 0, bits: 0, run: 0 };

impl Plane {
    /// Ors the plane's bits of every code in, `shift` bits up.
    ///
    /// Loops over indices, without checked arithmetic: that is what the compiler vectorises.
    #[inline(always)]
    fn read(self, block: &[u8], shift: usize, codes: &mut [u8]) {
        if self.bits == 0 {
            return;
        }
        let up = shift as u32;
        let mask = u64::from(0xffu8 >> (8 - self.bits)) * 0x0101_0101_0101_0101;
        let bytes = &block[self.start..][..codes.len() * self.bits / 8];
        let per_byte = 8 / self.bits;
        if self.run == 0 && self.bits == 1 {
            for (byte, codes) in bytes.iter().zip(codes.as_chunks_mut().0) {
                let bits = spread(*byte) << up | u64::from_le_bytes(*codes);
                *codes = bits.to_le_bytes();
            }
            return;
        }
        if self.run == 0 {
            for i in 0..bytes.len() {
                let codes = &mut codes[i * per_byte..][..per_byte];
                for (k, code) in codes.iter_mut().enumerate() {
                    let down = k.wrapping_mul(self.bits) as u32;
                    *code |= (bytes[i].wrapping_shr(down) & mask as u8).wrapping_shl(up);
                }
            }
            return;
        }
        let group = self.run * per_byte;
        for g in 0..codes.len() / group {
            let bytes = &bytes[g * self.run..][..self.run];
            let codes = &mut codes[g * group..][..group];
            // Words, because there are few instructions that shift bytes.
            for k in 0..per_byte {
                let codes = codes[k * self.run..][..self.run].as_chunks_mut().0;
                let bytes = bytes.as_chunks().0;
                let down = k.wrapping_mul(self.bits) as u32;
                for i in 0..codes.len() {
                    let bits = u64::from_le_bytes(bytes[i]).wrapping_shr(down) & mask;
                    codes[i] = (u64::from_le_bytes(codes[i]) | bits.wrapping_shl(up)).to_le_bytes();
                }
            }
        }
    }

    /// Ors the plane's bits of every code into a block of zeros: the inverse of [`Self::read`].
    #[inline(always)]
    fn write(self, codes: &[u8], shift: usize, block: &mut [u8]) {
        if self.bits == 0 {
            return;
        }
        let mask = (0xffu32 >> (8 - self.bits)) as u8;
        let bytes = &mut block[self.start..][..codes.len() * self.bits / 8];
        if self.run == 0 {
            let per_byte = 8 / self.bits;
            for (byte, codes) in bytes.iter_mut().zip(codes.chunks_exact(per_byte)) {
                for (k, code) in codes.iter().enumerate() {
                    *byte |= (code >> shift & mask) << (k * self.bits);
                }
            }
            return;
        }
        let group = self.run * 8 / self.bits;
        for (bytes, codes) in bytes.chunks_exact_mut(self.run).zip(codes.chunks_exact(group)) {
            for (k, codes) in codes.chunks_exact(self.run).enumerate() {
                for (code, byte) in codes.iter().zip(bytes.iter_mut()) {
                    *byte |= (code >> shift & mask) << (k * self.bits);
                }
            }
        }
    }
}

/// The eight bits of a byte as eight bytes, lowest first.
#[inline(always)]
fn spread(byte: u8) -> u64 {
    // Each byte keeps a bit of its own; what is not zero then carries into the highest.
    let own = (u64::from(byte) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    (own + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101
}

/// The fields of a block that are not codes, of as many rows as there are lanes.
pub(crate) trait Head<S: Lanes> {
    /// The value of the half-precision field `i`, in the order of [`Coded::HALVES`].
    fn half(&self, s: S, i: usize) -> S::F32;
    /// Byte `i` of [`Coded::SCALES`], zero-extended.
    fn byte(&self, s: S, i: usize) -> S::I32;
}

/// What a product depends on once codes are bytes: the formats that agree in it share the kernels of
/// their panels, which are most of the code.
pub(crate) trait Layout {
    /// Elements in a block.
    const LEN: usize;
    /// Elements that share a scale: 16, or a multiple of 32.
    const SUB: usize;
    /// Bits that codes fit in: 4 to 8. Without minima, it is eight neighbours, less the bias, whose magnitudes add
    /// up to no more than those of eight such codes could.
    const BITS: usize;
    /// Whether values have minima; the bias is zero where they do, and only there.
    const OFFSET: bool;
    // Constants, because the compiler leaves out what depends on them before it optimizes.
    /// Whether a block is one sub-block.
    const SINGLE: bool = Self::LEN == Self::SUB;
    /// Whether two sub-blocks share 32 columns.
    const SIXTEENS: bool = Self::SUB == 16;
    /// Whether a sub-block is longer than 32 columns.
    const LONGER: bool = Self::SUB > 32;
    /// Whether codes need all bits of a byte.
    const WHOLE: bool = Self::BITS == 8;
    /// Whether partial sums of 16 bits have little room.
    const LONG: bool = Self::BITS > 6;
    /// The same with codes of eight bits, whose kernels multiply any codes.
    type AnyBits: Layout;
}

/// A [`Layout`] by its numbers.
pub(crate) struct Blocks<const LEN: usize, const SUB: usize, const BITS: usize, const OFFSET: bool>;

impl<const LEN: usize, const SUB: usize, const BITS: usize, const OFFSET: bool> Layout
    for Blocks<LEN, SUB, BITS, OFFSET>
{
    const LEN: usize = LEN;
    const SUB: usize = SUB;
    const BITS: usize = BITS;
    const OFFSET: bool = OFFSET;
    type AnyBits = Blocks<LEN, SUB, 8, OFFSET>;
}

/// A format of weights for matrix products.
pub(crate) trait Coded {
    /// Blocks, sub-blocks and codes.
    type Layout: Layout;
    /// Elements in a block.
    const LEN: usize = <Self::Layout as Layout>::LEN;
    /// Bytes in a block.
    const BYTES: usize;
    /// The low bits of the codes: 2, 4 or 8 of them.
    const LOW: Plane;
    /// The bits above: 0, 1 or 2 of them.
    const HIGH: Plane = NONE;
    /// Whether there are bits above.
    const HAS_HIGH: bool = Self::HIGH.bits > 0;
    /// What the stored codes of four bits stand for, if they are not the codes that are multiplied.
    const TABLE: [u8; 16] = [0; 16];
    /// Whether codes are looked up in the table.
    const LOOKED_UP: bool = false;
    /// Whether products with few columns, too, are straight from packed weights: code that only formats
    /// that many run are worth.
    const FEW: bool = true;
    /// Flipped in every code: stored codes in two's complement become unsigned.
    const FLIP: u8 = 0;
    /// The code of zero.
    const BIAS: i32 = 0;
    /// Whether values have minima.
    const OFFSET: bool = <Self::Layout as Layout>::OFFSET;
    /// How activations are quantized.
    const SCALING: Scaling;
    /// Whether activations have a scale per 256 values.
    const PER_256: bool = matches!(Self::SCALING, Scaling::Per256);
    /// Where the half-precision fields are.
    const HALVES: &'static [usize];
    /// Whether the fields of half the width may be bfloat16 in some matrices.
    const MAY_BE_BFLOAT16: bool = false;
    /// Where the scale bytes are: start and length.
    const SCALES: (usize, usize) = (0, 0);

    /// The units of factors and of minima: the first half-precision field, and the second if there are
    /// minima.
    #[inline(always)]
    fn units<S: Lanes, H: Head<S>>(s: S, head: &H) -> (S::F32, S::F32) {
        (head.half(s, 0), if Self::OFFSET { head.half(s, 1) } else { s.splat(0.0) })
    }
    /// Factor and minimum of sub-block `j`. Both are 1 where a block is one sub-block.
    #[inline(always)]
    fn factors<S: Lanes, H: Head<S>>(s: S, _: &H, _: usize) -> (S::I32, S::I32) {
        (s.splat_i(1), s.splat_i(1))
    }
}

/// Sub-blocks in a block: one, or an even number.
pub(crate) const fn subs<L: Layout>() -> usize {
    L::LEN / L::SUB
}

/// Bits in a stored code.
pub(crate) const fn bits<F: Coded>() -> usize {
    let bits = F::LOW.bits + F::HIGH.bits;
    assert!(F::LOOKED_UP || bits <= <F::Layout as Layout>::BITS, "codes fit");
    assert!(F::BIAS <= 1 << (<F::Layout as Layout>::BITS - 1), "codes less the bias fit as well");
    bits
}

/// The stored codes of a block, in the order of the values: `codes` has [`Coded::LEN`] elements.
#[inline(always)]
pub(crate) fn read_codes<F: Coded>(block: &[u8], codes: &mut [u8]) {
    codes.fill(F::FLIP);
    if F::FLIP == 0 {
        F::LOW.read(block, 0, codes);
    } else {
        for (code, byte) in codes.iter_mut().zip(&block[F::LOW.start..]) {
            *code = byte ^ F::FLIP;
        }
    }
    F::HIGH.read(block, F::LOW.bits, codes);
}

/// Writes codes into a block whose code bytes are zero: the inverse of [`read_codes`].
#[inline(always)]
pub(crate) fn write_codes<F: Coded>(codes: &[u8], block: &mut [u8]) {
    if F::FLIP == 0 {
        F::LOW.write(codes, 0, block);
    } else {
        for (code, byte) in codes.iter().zip(&mut block[F::LOW.start..]) {
            *byte = code ^ F::FLIP;
        }
    }
    F::HIGH.write(codes, F::LOW.bits, block);
}

pub(super) const fn plane(start: usize, bits: usize, run: usize) -> Plane {
    Plane { start, bits, run }
}

macro_rules! legacy {
    ($name:ident, $halves:expr, $low:expr, $high:expr, $bits:literal, $flip:literal,
     $bias:literal, $offset:literal) => {
        impl Coded for $name {
            type Layout = Blocks<{ Self::TYPE.block_len() }, 32, $bits, $offset>;
            const BYTES: usize = Self::TYPE.block_bytes();
            const LOW: Plane = $low;
            const HIGH: Plane = $high;
            const FLIP: u8 = $flip;
            const BIAS: i32 = $bias;
            const SCALING: Scaling = Scaling::Per32;
            const HALVES: &'static [usize] = $halves;
        }
    };
}

legacy!(Q4_0, &[0], plane(2, 4, 16), NONE, 4, 0, 8, false);
legacy!(Q4_1, &[0, 2], plane(4, 4, 16), NONE, 4, 0, 0, true);
legacy!(Q5_0, &[0], plane(6, 4, 16), plane(2, 1, 0), 5, 0, 16, false);
legacy!(Q5_1, &[0, 2], plane(8, 4, 16), plane(4, 1, 0), 5, 0, 0, true);
legacy!(Q8_0, &[0], plane(2, 8, 32), NONE, 8, 0x80, 128, false);

/// Units of formats with a scale and a scale of minima, which are subtracted.
#[inline(always)]
fn scale_and_minimum<S: Lanes, H: Head<S>>(s: S, head: &H) -> (S::F32, S::F32) {
    (head.half(s, 0), s.sub(s.splat(0.0), head.half(s, 1)))
}

/// Factor and minimum of sub-block `j` of Q4_K and Q5_K.
#[inline(always)]
fn six_bits<S: Lanes, H: Head<S>>(s: S, head: &H, j: usize) -> (S::I32, S::I32) {
    if j < 4 {
        let six = s.splat_i(63);
        return (s.and_i(head.byte(s, j), six), s.and_i(head.byte(s, j + 4), six));
    }
    let low = head.byte(s, j + 4);
    let upper = s.shl::<4>(s.shr::<6>(head.byte(s, j - 4)));
    let upper_min = s.shl::<4>(s.shr::<6>(head.byte(s, j)));
    (s.or_i(s.and_i(low, s.splat_i(15)), upper), s.or_i(s.shr::<4>(low), upper_min))
}

macro_rules! six_bit_scales {
    ($name:ident, $low:expr, $high:expr, $bits:literal) => {
        impl Coded for $name {
            type Layout = Blocks<{ Self::TYPE.block_len() }, 32, $bits, true>;
            const BYTES: usize = Self::TYPE.block_bytes();
            const LOW: Plane = $low;
            const HIGH: Plane = $high;
            const SCALING: Scaling = Scaling::Per256;
            const HALVES: &'static [usize] = &[0, 2];
            const SCALES: (usize, usize) = (4, 12);

            #[inline(always)]
            fn units<S: Lanes, H: Head<S>>(s: S, head: &H) -> (S::F32, S::F32) {
                scale_and_minimum(s, head)
            }

            #[inline(always)]
            fn factors<S: Lanes, H: Head<S>>(s: S, head: &H, j: usize) -> (S::I32, S::I32) {
                six_bits(s, head, j)
            }
        }
    };
}

six_bit_scales!(Q4K, plane(16, 4, 32), NONE, 4);
six_bit_scales!(Q5K, plane(48, 4, 32), plane(16, 1, 32), 5);

impl Coded for Q6K {
    type Layout = Blocks<{ Self::TYPE.block_len() }, 16, 6, false>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(0, 4, 64);
    const HIGH: Plane = plane(128, 2, 32);
    const BIAS: i32 = 32;
    const SCALING: Scaling = Scaling::Per256;
    const HALVES: &'static [usize] = &[208];
    const SCALES: (usize, usize) = (192, 16);

    #[inline(always)]
    fn factors<S: Lanes, H: Head<S>>(s: S, head: &H, j: usize) -> (S::I32, S::I32) {
        // From a byte to the number it is in two's complement.
        let flipped = s.and_i(s.add_i(head.byte(s, j), s.splat_i(128)), s.splat_i(0xff));
        (s.sub_i(flipped, s.splat_i(128)), s.splat_i(0))
    }
}

impl Coded for Q2K {
    type Layout = Blocks<{ Self::TYPE.block_len() }, 16, 4, true>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(16, 2, 32);
    const SCALING: Scaling = Scaling::Per256;
    const HALVES: &'static [usize] = &[80, 82];
    const SCALES: (usize, usize) = (0, 16);

    #[inline(always)]
    fn units<S: Lanes, H: Head<S>>(s: S, head: &H) -> (S::F32, S::F32) {
        scale_and_minimum(s, head)
    }

    #[inline(always)]
    fn factors<S: Lanes, H: Head<S>>(s: S, head: &H, j: usize) -> (S::I32, S::I32) {
        let byte = head.byte(s, j);
        (s.and_i(byte, s.splat_i(15)), s.shr::<4>(byte))
    }
}

/// The number, less 32, whose lower four bits are `low` and whose upper two are pair `pair` of `upper`.
#[inline(always)]
pub(super) fn six_bits_less_32<S: Lanes>(s: S, low: S::I32, upper: S::I32, pair: usize) -> S::I32 {
    let upper = match pair {
        0 => s.shl::<4>(upper),
        1 => s.shl::<2>(upper),
        2 => upper,
        _ => s.shr::<2>(upper),
    };
    let code = s.or_i(low, s.and_i(upper, s.splat_i(0x30)));
    s.sub_i(code, s.splat_i(32))
}

impl Coded for Q3K {
    type Layout = Blocks<{ Self::TYPE.block_len() }, 16, 4, false>;
    const BYTES: usize = Self::TYPE.block_bytes();
    const LOW: Plane = plane(32, 2, 32);
    const HIGH: Plane = plane(0, 1, 32);
    const BIAS: i32 = 4;
    const SCALING: Scaling = Scaling::Per256;
    const HALVES: &'static [usize] = &[108];
    const SCALES: (usize, usize) = (96, 12);

    #[inline(always)]
    fn factors<S: Lanes, H: Head<S>>(s: S, head: &H, j: usize) -> (S::I32, S::I32) {
        let (low, upper) = (head.byte(s, j % 8), head.byte(s, 8 + j % 4));
        let low = if j < 8 { s.and_i(low, s.splat_i(15)) } else { s.shr::<4>(low) };
        (six_bits_less_32(s, low, upper, j / 4), s.splat_i(0))
    }
}
