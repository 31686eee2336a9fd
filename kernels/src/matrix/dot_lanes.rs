//! The dot-accumulate of unsigned by signed bytes, over lanes.
//!
//! A lane is a row of the weights: it holds four codes, which meet four activations that are the
//! same in every lane, so that there are no sums across lanes. This is DP4a, as
//!
//! | instance | instruction | partial sums |
//! |---|---|---|
//! | scalar | four multiplications | 32 bits |
//! | SSE4.1, AVX2 | `pmaddubsw`, then `pmaddwd` by ones | 16 bits, widened before they could overflow |
//! | AVX-VNNI, AVX-512 VNNI | `vpdpbusd` | 32 bits |
//! | NEON | `smull`, `addp`, `sadalp` | 32 bits |
//! | NEON with dot products | `sdot` | 32 bits |
//! | NEON with matrix products | `usmmla` for two columns at a time, `usdot` and `sdot` for one | 32 bits |
//! | simd128 | `i32x4.dot_i16x8` of what is extended once for a tile | 32 bits |
//! | simd128 with relaxed-simd | `i32x4.relaxed_dot_i8x16_i7x16_add` | 32 bits |
//!
//! All are exact, so the integer sums are the same everywhere. `pmaddubsw` saturates at 16 bits:
//! codes of up to six bits leave room for several products, those of seven for one, and in panels there is
//! [more](super::arithmetic::centres); for eight bits the instance moves the sign of the code to the activation
//! first, or panels have them in 16 bits. The instructions of NEON multiply signed
//! bytes: codes of up to seven bits are the same signed, for eight bits the instance subtracts 128 and
//! [`bias`](super::arithmetic::bias) takes it into account.
//!
//! A new instruction set implements this trait and `MatrixKernels` in `isa/`; nothing else of the
//! products knows which there are.

use quant_core::{
    formats::SIGNS,
    lanes::{Lanes, MAX_LANES, Scalar},
};

/// For each four signs a byte of ones where one is set.
const FOUR_SIGNS: [i32; 16] = {
    let mut masks = [0; 16];
    let mut i = 0;
    while i < 16 * 4 {
        if (i / 4) >> (i % 4) & 1 == 1 {
            masks[i / 4] |= 0xff << (8 * (i % 4));
        }
        i += 1;
    }
    masks
};

/// Lanes with four bytes each, and what matrix kernels need besides.
pub(crate) trait DotLanes: Lanes + 'static {
    /// Four codes in each lane.
    type Codes: Copy;
    /// Sums on their way to 32 bits.
    type Partial: Copy;
    /// Whether partial sums have 32 bits, so that any number can be added up.
    const WIDE: bool;
    /// Whether [`dot_bytes`](Self::dot_bytes) multiplies `code − 128` rather than `code`.
    const SIGNED_BYTES: bool;

    /// Whether dots read their inputs from memory, as one operation of the CPU with that.
    const DOTS_READ_INPUTS: bool = false;

    /// The first `4 · N` bytes.
    fn codes(self, bytes: &[u8]) -> Self::Codes;
    /// Shifts to the right by up to 7; upper bits of a byte may come from its neighbour.
    fn codes_shr(self, a: Self::Codes, bits: usize) -> Self::Codes;
    /// Shifts to the left by up to 7; lower bits of a byte may come from its neighbour.
    fn codes_shl(self, a: Self::Codes, bits: usize) -> Self::Codes;
    /// Bitwise and of every byte.
    fn codes_and(self, a: Self::Codes, mask: u8) -> Self::Codes;
    /// Bitwise or.
    fn codes_or(self, a: Self::Codes, b: Self::Codes) -> Self::Codes;

    /// What a table has at each code below 16.
    fn codes_look_up(self, table: &[u8; 16], codes: Self::Codes) -> Self::Codes;

    /// Partial sums that start from `sum`, or from zero if [`finish`](Self::finish) adds it.
    fn begin(self, sum: Self::I32) -> Self::Partial;
    /// Adds the products of codes below 128 with four activations in −127..=127.
    fn dot(self, sum: Self::Partial, codes: Self::Codes, x: Self::I32) -> Self::Partial;
    /// Adds the products of any codes with four activations in −127..=127.
    fn dot_bytes(self, sum: Self::Partial, codes: Self::Codes, x: Self::I32) -> Self::Partial;
    /// The sums in 32 bits. `sum` is what [`begin`](Self::begin) received.
    fn finish(self, sum: Self::I32, partial: Self::Partial) -> Self::I32;
    /// A factor as [`finish_scaled`](Self::finish_scaled) wants it.
    #[inline(always)]
    fn as_factor(self, factor: Self::I32) -> Self::I32 {
        factor
    }
    /// Adds partial sums times a factor of up to eight bits to `sum`. Where partial sums have 16 bits that
    /// takes no more than [`finish`](Self::finish), which multiplies them by one.
    #[inline(always)]
    fn finish_scaled(self, sum: Self::I32, partial: Self::Partial, factor: Self::I32) -> Self::I32 {
        self.mul_add_i(self.finish(self.splat_i(0), partial), factor, sum)
    }
    /// Partial sums that start from the halves of each lane, where they have 16 bits.
    #[inline(always)]
    fn begin_halves(self, _start: Self::I32) -> Self::Partial {
        unreachable!("only partial sums of 16 bits are centred")
    }
    /// From sixteen neighbours in order to steps whose lower halves have the first eight and whose upper halves
    /// the others, two at a time.
    #[inline(always)]
    fn by_eights(self, _codes: [Self::Codes; 4]) -> [Self::Codes; 4] {
        unreachable!("only partial sums of 16 bits are centred")
    }
    /// Codes of eight bits, less 128, times a factor as it is in 16 bits for [`dot_pairs`](Self::dot_pairs):
    /// the first and third of each lane, the second and fourth. Panels have them so where partial sums have
    /// 16 bits, which two products of bytes would fill; the inputs are in that order too.
    #[inline(always)]
    fn widened(self, _codes: Self::Codes, _factor: Self::I32) -> [Self::I32; 2] {
        unreachable!("codes stay bytes where partial sums have 32 bits")
    }

    /// Whether two columns at a time are faster: tiles with an even number of them use what follows,
    /// whose defaults are what [`dot_bytes`](Self::dot_bytes) does.
    const TWO_COLUMNS: bool = false;
    /// Codes of two steps as [`dot_two_columns`](Self::dot_two_columns) wants them.
    #[inline(always)]
    fn paired(self, unpaired: [Self::Codes; 2]) -> [Self::Codes; 2] {
        unpaired
    }
    /// The inverse of [`paired`](Self::paired).
    #[inline(always)]
    fn unpaired(self, paired: [Self::Codes; 2]) -> [Self::Codes; 2] {
        paired
    }
    /// Adds the products of any codes of two steps with the inputs of each step, of two columns. The
    /// partial sums start from zero and are the instance's own.
    #[inline(always)]
    fn dot_two_columns(
        self,
        sums: [Self::Partial; 2],
        [a, b]: [Self::Codes; 2],
        x: [[i32; 2]; 2],
    ) -> [Self::Partial; 2] {
        two_columns(self, sums, [a, b], x)
    }
    /// The sums of two columns, added to `sums`.
    #[inline(always)]
    fn finish_two_columns(
        self,
        sums: [Self::I32; 2],
        partial: [Self::Partial; 2],
    ) -> [Self::I32; 2] {
        [
            self.add_i(sums[0], self.finish(self.splat_i(0), partial[0])),
            self.add_i(sums[1], self.finish(self.splat_i(0), partial[1])),
        ]
    }

    /// The same bytes as codes.
    fn as_codes(self, bytes: Self::I32) -> Self::Codes;
    /// Whether [`eights`](Self::eights) is faster than bytes in memory, for one column.
    const EIGHTS: bool = false;
    /// The bytes of the lanes, eight from each call; where there is one lane, the first of eight.
    #[inline(always)]
    fn eights(self, eight: impl Fn(usize) -> u64) -> Self::I32 {
        let mut bytes = [0; 4 * MAX_LANES];
        for (k, bytes) in bytes.as_chunks_mut().0.iter_mut().enumerate().take(Self::N.div_ceil(2)) {
            *bytes = eight(k).to_le_bytes();
        }
        self.bits(self.floats(&bytes))
    }
    /// The bytes of `x`, the negative of those where the signs from `at` on, one bit each, are set.
    #[inline(always)]
    fn negated(self, x: Self::I32, signs: &[u8; SIGNS], at: usize) -> Self::I32 {
        let mut masks = [0; MAX_LANES];
        for (lane, mask) in masks.iter_mut().enumerate().take(Self::N) {
            let at = at + 4 * lane;
            *mask = FOUR_SIGNS[usize::from(signs[at / 8] >> (at % 8) & 15)];
        }
        negate_bytes(self, x, self.load_i(&masks))
    }
    /// From bytes that are each a small integer plus 128 to the magnitudes of the integers, and `x` with
    /// their signs.
    #[inline(always)]
    fn magnitudes(self, bytes: Self::I32, x: Self::I32) -> (Self::I32, Self::I32) {
        let ones = self.splat_i(i32::from_ne_bytes([1; 4]));
        // A byte below 128 is negative. No product of one and 255 leaves its byte.
        let negative = self.xor_i(self.and_i(self.shr::<7>(bytes), ones), ones);
        let mask = self.sub_i(self.shl::<8>(negative), negative);
        let integers = self.xor_i(bytes, self.splat_i(i32::from_ne_bytes([0x80; 4])));
        (negate_bytes(self, integers, mask), negate_bytes(self, x, mask))
    }
    /// Adds the products of codes below 64 with four activations in −127..=127, times a factor for each
    /// sixteen codes. The default has at most four lanes.
    #[inline(always)]
    fn dot_scaled(
        self,
        sum: Self::I32,
        codes: Self::Codes,
        x: Self::I32,
        factors: &[i16],
    ) -> Self::I32 {
        const { assert!(Self::N <= 4, "the lanes share a factor") };
        let zero = self.splat_i(0);
        let product = self.finish(zero, self.dot(self.begin(zero), codes, x));
        self.mul_add_i(product, self.splat_i(i32::from(factors[0])), sum)
    }

    /// Adds the two products of signed halves of each lane.
    fn dot_pairs(self, sum: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a · b + c`, of 32-bit integers that leave room for it.
    fn mul_add_i(self, a: Self::I32, b: Self::I32, c: Self::I32) -> Self::I32;

    /// The values of the first `N` little-endian half-precision numbers.
    fn halves(self, bytes: &[u8]) -> Self::F32;
    /// The values of the first `N` little-endian bfloat16 numbers.
    fn bf16s(self, bytes: &[u8]) -> Self::F32;
    /// The first `N` little-endian single-precision numbers.
    fn floats(self, bytes: &[u8]) -> Self::F32;
    /// The first `N` bytes, zero-extended.
    fn bytes(self, bytes: &[u8]) -> Self::I32;
    /// `a · b + c`, rounded once or twice.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// Hints that the bytes `ahead` of these, as many again, will be read or written.
    fn prefetch<T>(self, data: &[T], ahead: usize);
}

/// The negative of bytes where the mask has ones.
#[inline(always)]
fn negate_bytes<S: Lanes>(s: S, x: S::I32, mask: S::I32) -> S::I32 {
    let [ones, upper, lower] = [1, 0x80, 0x7f].map(|byte| i32::from_ne_bytes([byte; 4]));
    let flipped = s.xor_i(x, mask);
    // One more, without a carry to the next byte.
    let lower = s.and_i(flipped, s.splat_i(lower));
    let more = s.add_i(lower, s.and_i(mask, s.splat_i(ones)));
    s.xor_i(more, s.and_i(flipped, s.splat_i(upper)))
}

/// What [`DotLanes::dot_two_columns`] does where one column at a time is as fast.
#[inline(always)]
pub(crate) fn two_columns<S: DotLanes>(
    s: S,
    sums: [S::Partial; 2],
    [a, b]: [S::Codes; 2],
    x: [[i32; 2]; 2],
) -> [S::Partial; 2] {
    let first = s.dot_bytes(sums[0], a, s.splat_i(x[0][0]));
    let second = s.dot_bytes(sums[1], a, s.splat_i(x[0][1]));
    [s.dot_bytes(first, b, s.splat_i(x[1][0])), s.dot_bytes(second, b, s.splat_i(x[1][1]))]
}

impl DotLanes for Scalar {
    type Codes = u32;
    type Partial = i32;
    const WIDE: bool = true;
    const SIGNED_BYTES: bool = false;

    #[inline(always)]
    fn codes(self, bytes: &[u8]) -> u32 {
        bytes.first_chunk().map_or(0, |&b| u32::from_le_bytes(b))
    }
    #[inline(always)]
    fn codes_shr(self, a: u32, bits: usize) -> u32 {
        a >> bits
    }
    #[inline(always)]
    fn codes_shl(self, a: u32, bits: usize) -> u32 {
        a << bits
    }
    #[inline(always)]
    fn codes_and(self, a: u32, mask: u8) -> u32 {
        a & u32::from_ne_bytes([mask; 4])
    }
    #[inline(always)]
    fn codes_or(self, a: u32, b: u32) -> u32 {
        a | b
    }
    #[inline(always)]
    fn codes_look_up(self, table: &[u8; 16], codes: u32) -> u32 {
        let [a, b, c, d] = codes.to_le_bytes();
        let at = |code: u8| table[usize::from(code & 15)];
        u32::from_le_bytes([at(a), at(b), at(c), at(d)])
    }
    #[inline(always)]
    fn as_codes(self, bytes: i32) -> u32 {
        bytes as u32
    }
    #[inline(always)]
    fn begin(self, sum: i32) -> i32 {
        sum
    }
    #[inline(always)]
    fn dot(self, sum: i32, codes: u32, x: i32) -> i32 {
        self.dot_bytes(sum, codes, x)
    }
    #[inline(always)]
    fn dot_bytes(self, mut sum: i32, codes: u32, x: i32) -> i32 {
        for (code, x) in codes.to_le_bytes().into_iter().zip(x.to_le_bytes()) {
            sum = sum.wrapping_add(i32::from(code) * i32::from(x as i8));
        }
        sum
    }
    #[inline(always)]
    fn finish(self, _: i32, partial: i32) -> i32 {
        partial
    }
    #[inline(always)]
    fn dot_pairs(self, sum: i32, a: i32, b: i32) -> i32 {
        let low = i32::from(a as i16) * i32::from(b as i16);
        sum.wrapping_add(low).wrapping_add((a >> 16) * (b >> 16))
    }
    #[inline(always)]
    fn mul_add_i(self, a: i32, b: i32, c: i32) -> i32 {
        a.wrapping_mul(b).wrapping_add(c)
    }
    #[inline(always)]
    fn halves(self, bytes: &[u8]) -> f32 {
        let bits = bytes.first_chunk().map_or(0, |&b| u16::from_le_bytes(b));
        half::f16::from_bits(bits).to_f32()
    }
    #[inline(always)]
    fn bf16s(self, bytes: &[u8]) -> f32 {
        let bits = bytes.first_chunk().map_or(0, |&b| u16::from_le_bytes(b));
        f32::from_bits(u32::from(bits) << 16)
    }
    #[inline(always)]
    fn floats(self, bytes: &[u8]) -> f32 {
        bytes.first_chunk().map_or(0.0, |&b| f32::from_le_bytes(b))
    }
    #[inline(always)]
    fn bytes(self, bytes: &[u8]) -> i32 {
        bytes.first().map_or(0, |&b| i32::from(b))
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize) {}
}
