//! One file per block format: its layout, its values, and its quantizer over [`Lanes`].
//!
//! Two lists say what there is: `with_format!` what can be dequantized, `with_quantizer!` what can be
//! quantized. A format joins each by a row. A third, [`GgmlType::floats`], says where the floats of a
//! block are, and a fourth, `with_integers!`, which codebooks products read as integers.

mod batch;
mod codebook;
mod integers;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod k_min;
mod k_signed;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod ternary;

use bytemuck::{Pod, Zeroable};

use crate::{GgmlType, lanes::Lanes};

pub use batch::Rows;
pub use integers::{FACTORS, Integers, SIGNS};
pub use iq1_m::{BlockIQ1M, IQ1M};
pub use iq1_s::{BlockIQ1S, IQ1S};
pub use iq2_s::{BlockIQ2S, IQ2S};
pub use iq2_xs::{BlockIQ2XS, IQ2XS};
pub use iq2_xxs::{BlockIQ2XXS, IQ2XXS};
pub use iq3_s::{BlockIQ3S, IQ3S};
pub use iq3_xxs::{BlockIQ3XXS, IQ3XXS};
pub(crate) use iq4_nl::VALUES as IQ4_VALUES;
pub use iq4_nl::{BlockIQ4NL, IQ4NL};
pub use iq4_xs::{BlockIQ4XS, IQ4XS};
pub use mxfp4::{BlockMXFP4, MXFP4};
pub use nvfp4::{BlockNVFP4, NVFP4};
pub use q1_0::{BlockQ1_0, Q1_0};
pub use q2_0::{BlockQ2_0, Q2_0};
pub use q2_k::{BlockQ2K, Q2K};
pub use q3_k::{BlockQ3K, Q3K};
pub use q4_0::{BlockQ4_0, Q4_0};
pub use q4_1::{BlockQ4_1, Q4_1};
pub use q4_k::{BlockQ4K, Q4K};
pub use q5_0::{BlockQ5_0, Q5_0};
pub use q5_1::{BlockQ5_1, Q5_1};
pub use q5_k::{BlockQ5K, Q5K};
pub use q6_k::{BlockQ6K, Q6K};
pub use q8_0::{BlockQ8_0, Q8_0};
pub use ternary::{BlockTQ1_0, BlockTQ2_0, TQ1_0, TQ2_0};

/// Elements in a super-block of the K-quants.
pub const QK_K: usize = 256;

/// A block format that can be read: its layout and its values.
///
/// Sealed: formats are those of ggml that this crate has.
pub trait BlockFormat: sealed::Sealed {
    /// The block as it is in memory and in files.
    type Block: Pod;
    /// The type this is the format of.
    const TYPE: GgmlType;

    /// The values of one block: `out` has [`GgmlType::block_len`] elements.
    fn dequantize(block: &Self::Block, out: &mut [f32]);
}

mod sealed {
    pub trait Sealed {}

    macro_rules! seal {
        ($($format:ident)*) => { $(impl Sealed for super::$format {})* };
    }
    seal! {
        Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K IQ1S IQ1M IQ2XXS IQ2XS IQ2S IQ3XXS IQ3S IQ4NL
        IQ4XS TQ1_0 TQ2_0 Q1_0 Q2_0 MXFP4 NVFP4
    }
}

/// A block format that can be made from values.
pub trait Quantizer: BlockFormat {
    /// How it uses importance weights.
    const IMPORTANCE: Importance;
    /// Whether it tries several scales when there are no importance weights.
    const SEARCHES: bool;
    /// Whether searches run on [`Pair`](crate::lanes::Pair)s of vectors where an instance has registers for
    /// them.
    const PAIRS: bool = true;

    /// Quantizes whole rows. `blocks` has one entry per block of `rows`, in order.
    ///
    /// Values and importance must be finite: others give unspecified codes, never a panic.
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [Self::Block]);
}

/// How a quantizer uses importance weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Importance {
    /// They do not change the bytes: there is no search.
    Ignored,
    /// They weigh the errors of a search.
    Used,
    /// Without them the result is useless, and quantizing is refused.
    Needed,
}

/// Evaluates `$body` with `$format` naming the [`BlockFormat`](crate::formats::BlockFormat) of the
/// type, or `$otherwise` for types that cannot be dequantized.
#[doc(hidden)]
#[macro_export]
macro_rules! with_format {
    ($ty:expr, $format:ident => $body:expr, $otherwise:expr) => {
        $crate::choose_format!($ty, $format => $body, $otherwise;
            Q4_0 Q4_0, Q4_1 Q4_1, Q5_0 Q5_0, Q5_1 Q5_1, Q8_0 Q8_0,
            Q2_K Q2K, Q3_K Q3K, Q4_K Q4K, Q5_K Q5K, Q6_K Q6K,
            IQ1_S IQ1S, IQ1_M IQ1M,
            IQ2_XXS IQ2XXS, IQ2_XS IQ2XS, IQ2_S IQ2S, IQ3_XXS IQ3XXS, IQ3_S IQ3S,
            IQ4_NL IQ4NL, IQ4_XS IQ4XS,
            TQ1_0 TQ1_0, TQ2_0 TQ2_0, Q1_0 Q1_0, Q2_0 Q2_0,
            MXFP4 MXFP4, NVFP4 NVFP4,
        )
    };
}

/// Evaluates `$body` with `$format` naming the [`Quantizer`](crate::formats::Quantizer) of the type,
/// or `$otherwise` for types that cannot be quantized.
#[doc(hidden)]
#[macro_export]
macro_rules! with_quantizer {
    ($ty:expr, $format:ident => $body:expr, $otherwise:expr) => {
        $crate::choose_format!($ty, $format => $body, $otherwise;
            Q4_0 Q4_0, Q4_1 Q4_1, Q5_0 Q5_0, Q5_1 Q5_1, Q8_0 Q8_0,
            Q2_K Q2K, Q3_K Q3K, Q4_K Q4K, Q5_K Q5K, Q6_K Q6K,
            IQ1_S IQ1S, IQ1_M IQ1M,
            IQ2_XXS IQ2XXS, IQ2_XS IQ2XS, IQ2_S IQ2S, IQ3_XXS IQ3XXS, IQ3_S IQ3S,
            IQ4_NL IQ4NL, IQ4_XS IQ4XS,
            TQ1_0 TQ1_0, TQ2_0 TQ2_0, Q1_0 Q1_0, Q2_0 Q2_0,
            MXFP4 MXFP4,
        )
    };
}

/// How the lists of formats choose: each row is a [`GgmlType`] and its type in
/// [`formats`](crate::formats).
#[doc(hidden)]
#[macro_export]
macro_rules! choose_format {
    ($ty:expr, $format:ident => $body:expr, $otherwise:expr; $($variant:ident $name:ident,)*) => {
        match $ty {
            $($crate::GgmlType::$variant => {
                type $format = $crate::formats::$name;
                $body
            })*
            _ => $otherwise,
        }
    };
}

/// A half-precision float as stored in a block: two bytes, little-endian, so that blocks have no
/// alignment and any byte buffer can hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct F16Le([u8; 2]);

impl F16Le {
    /// From IEEE half-precision bits.
    #[inline(always)]
    pub fn from_bits(bits: u16) -> Self {
        Self(bits.to_le_bytes())
    }

    /// The nearest half-precision value, ties to even; too large becomes infinity.
    #[inline(always)]
    pub fn from_f32(v: f32) -> Self {
        Self::from_bits(half::f16::from_f32(v).to_bits())
    }

    /// The IEEE half-precision bits.
    #[inline(always)]
    pub fn to_bits(self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    /// The value.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        half::f16::from_bits(self.to_bits()).to_f32()
    }
}
