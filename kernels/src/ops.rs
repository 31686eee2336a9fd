//! Operations on lanes: what [`Kernels::run`](crate::Kernels::run) compiles for every instruction
//! set.

use std::marker::PhantomData;

use quant_core::{
    Error, GgmlType,
    formats::{BlockFormat, Importance, Quantizer, Rows},
    grouped::{GroupedMut, Job, quantize_with},
    improve,
    lanes::{Lanes, Pair},
};

use crate::{activation, convert};

/// An operation written over [`Lanes`], to be run with those of the CPU.
///
/// ```
/// use quant_core::lanes::{Lanes, MAX_LANES};
/// use quant_kernels::{Kernels, LaneOp};
///
/// /// e to the power of each value.
/// struct Exp<'a>(&'a mut [f32]);
///
/// impl LaneOp for Exp<'_> {
///     type Output = ();
///
///     #[inline(always)]
///     fn eval<S: Lanes>(self, s: S) {
///         let mut lanes = [0.0; MAX_LANES];
///         for values in self.0.chunks_mut(S::N) {
///             lanes[..values.len()].copy_from_slice(values);
///             let powers = s.exp(s.load(&lanes));
///             s.store(powers, &mut lanes);
///             values.copy_from_slice(&lanes[..values.len()]);
///         }
///     }
/// }
///
/// let mut values = [0.0, 1.0, f32::NEG_INFINITY];
/// Kernels::best().run(Exp(&mut values));
/// assert_eq!((values[0], values[2]), (1.0, 0.0));
/// ```
pub trait LaneOp {
    /// What it returns.
    type Output;

    /// Runs the operation. Must be `#[inline(always)]`, as everything it calls that takes lanes: code that is not
    /// inlined is not compiled with the instructions of the lanes.
    fn eval<S: Lanes>(self, s: S) -> Self::Output;
}

/// Quantizes rows to the blocks of a format.
pub(crate) struct Quantize<'a, F: Quantizer> {
    pub(crate) rows: Rows<'a>,
    pub(crate) blocks: &'a mut [F::Block],
}

impl<F: Quantizer> LaneOp for Quantize<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        // The searches are chains of dependent operations: two vectors hide their latency. Without a
        // search the bytes come faster than memory has them; one vector is enough.
        // Each way is compiled for its case alone.
        let rows = self.rows;
        match rows.importance {
            _ if !S::PAIRS || !F::PAIRS => F::quantize(s, rows, self.blocks),
            _ if F::SEARCHES => F::quantize(Pair(s), rows, self.blocks),
            Some(weights) if const { !matches!(F::IMPORTANCE, Importance::Ignored) } => {
                F::quantize(Pair(s), Rows { importance: Some(weights), ..rows }, self.blocks);
            }
            _ => F::quantize(s, Rows { importance: None, ..rows }, self.blocks),
        }
    }
}

/// Restores the values of blocks.
pub(crate) struct Dequantize<'a, F> {
    pub(crate) bytes: &'a [u8],
    pub(crate) out: &'a mut [f32],
    pub(crate) format: PhantomData<F>,
}

impl<F: BlockFormat> LaneOp for Dequantize<'_, F> {
    type Output = ();

    /// Nothing of lanes: the compiler vectorises the loops with what the instruction set has.
    #[inline(always)]
    fn eval<S: Lanes>(self, _: S) {
        let blocks: &[F::Block] = bytemuck::cast_slice(self.bytes);
        for (block, out) in blocks.iter().zip(self.out.chunks_exact_mut(F::TYPE.block_len())) {
            F::dequantize(block, out);
        }
    }
}

/// Improves blocks; returns how many changed.
pub(crate) struct Improve<'a> {
    pub(crate) ty: GgmlType,
    pub(crate) rows: Rows<'a>,
    pub(crate) blocks: &'a mut [u8],
}

impl LaneOp for Improve<'_> {
    type Output = Result<u64, Error>;

    /// As with [`Dequantize`].
    #[inline(always)]
    fn eval<S: Lanes>(self, _: S) -> Result<u64, Error> {
        improve(self.ty, self.rows, self.blocks)
    }
}

/// Quantizes grouped integers.
pub(crate) struct QuantizeGroups<'a> {
    pub(crate) job: Job<'a>,
    pub(crate) out: GroupedMut<'a>,
}

impl LaneOp for QuantizeGroups<'_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> Result<(), Error> {
        quantize_with(s, self.job, self.out)
    }
}

/// To single precision; returns the largest magnitude.
pub(crate) struct Widen<'a> {
    pub(crate) ty: GgmlType,
    pub(crate) bytes: &'a [u8],
    pub(crate) out: &'a mut [f32],
}

impl LaneOp for Widen<'_> {
    type Output = f32;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> f32 {
        convert::widen(s, self.ty, self.bytes, self.out)
    }
}

/// To `F32`, `F16` or `BF16`.
pub(crate) struct Narrow<'a> {
    pub(crate) ty: GgmlType,
    pub(crate) values: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl LaneOp for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) {
        convert::narrow(s, self.ty, self.values, self.out);
    }
}

/// Quantizes activations; returns whether the type is one of activations.
pub(crate) struct QuantizeActivations<'a> {
    pub(crate) ty: GgmlType,
    pub(crate) values: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl LaneOp for QuantizeActivations<'_> {
    type Output = bool;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> bool {
        activation::quantize(s, self.ty, self.values, self.out)
    }
}
