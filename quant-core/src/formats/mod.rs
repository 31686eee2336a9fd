//! One file per block format: its layout, its quantizer over [`Lanes`], its dequantizer.
//!
//! To add a format: one file here with the block struct and its [`BlockFormat`], one arm in
//! [`with_format!`](crate::with_format), golden rows in `fixtures/golden`.

mod batch;
mod k_min;
mod k_signed;
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

use bytemuck::{Pod, Zeroable};

use crate::{GgmlType, lanes::Lanes};

pub use batch::Rows;
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

/// Elements in a super-block of the K-quants.
pub const QK_K: usize = 256;

/// A block format: how elements become blocks and back.
pub trait BlockFormat {
    /// The block as it is in memory and in files.
    type Block: Pod;
    /// The type this is the format of.
    const TYPE: GgmlType;
    /// Whether candidates for a scale are tried also without importance.
    const SEARCHES: bool = Self::TYPE.block_len() == QK_K;

    /// Quantizes whole rows. `blocks` has one entry per block of `rows`, in order.
    ///
    /// Values and importance must be finite: others give unspecified codes, never a panic.
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [Self::Block]);

    /// The values of one block: `out` has [`GgmlType::block_len`] elements.
    fn dequantize(block: &Self::Block, out: &mut [f32]);
}

/// Evaluates `$body` with `$format` naming the [`BlockFormat`] of the type, or `$otherwise` for
/// types that have none.
#[macro_export]
macro_rules! with_format {
    ($ty:expr, $format:ident => $body:expr, $otherwise:expr) => {
        match $ty {
            $crate::GgmlType::Q4_0 => {
                type $format = $crate::formats::Q4_0;
                $body
            }
            $crate::GgmlType::Q4_1 => {
                type $format = $crate::formats::Q4_1;
                $body
            }
            $crate::GgmlType::Q5_0 => {
                type $format = $crate::formats::Q5_0;
                $body
            }
            $crate::GgmlType::Q5_1 => {
                type $format = $crate::formats::Q5_1;
                $body
            }
            $crate::GgmlType::Q8_0 => {
                type $format = $crate::formats::Q8_0;
                $body
            }
            $crate::GgmlType::Q2_K => {
                type $format = $crate::formats::Q2K;
                $body
            }
            $crate::GgmlType::Q3_K => {
                type $format = $crate::formats::Q3K;
                $body
            }
            $crate::GgmlType::Q4_K => {
                type $format = $crate::formats::Q4K;
                $body
            }
            $crate::GgmlType::Q5_K => {
                type $format = $crate::formats::Q5K;
                $body
            }
            $crate::GgmlType::Q6_K => {
                type $format = $crate::formats::Q6K;
                $body
            }
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
