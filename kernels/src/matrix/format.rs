//! The list of what is multiplied by its codes.

use quant_core::{GgmlType, formats::Integers, with_integers};

use super::{coded::Coded, int4::Int4Layout};

/// The most columns of inputs that are few.
pub(crate) const FEW: usize = 8;

/// What the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A type of ggml.
    Ggml(GgmlType),
    /// Grouped four-bit integers.
    Int4(Int4Layout),
}

impl Format {
    /// Elements and bytes in a block.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::Ggml(ty) => (ty.block_len(), ty.block_bytes()),
            Self::Int4(layout) => layout.block(),
        }
    }

    /// The most columns that meet packed weights rather than panels.
    pub(crate) fn most_direct(self) -> usize {
        with_coded!(self, F => if F::FEW { FEW } else { 1 }, if self.has_integers() { FEW } else { 1 })
    }

    /// Whether values are looked up in a codebook: [`Integers`](quant_core::formats::Integers).
    pub(crate) fn has_integers(self) -> bool {
        match self {
            Self::Ggml(ty) => with_integers!(ty, F => F::SUB > 0, false),
            Self::Int4(_) => false,
        }
    }
}

/// The list of what is multiplied by its codes: evaluates `$body` with `$name` naming the
/// [`Coded`](super::coded::Coded) of a [`Format`], or `$otherwise` for floats and for
/// [`Integers`](quant_core::formats::Integers), which have a list of their own.
macro_rules! with_coded {
    ($format:expr, $name:ident => $body:expr, $otherwise:expr) => {
        match $format {
            $crate::matrix::format::Format::Ggml(ty) => {
                quant_core::choose_format!(ty, $name => $body, $otherwise;
                    Q4_0 Q4_0, Q4_1 Q4_1, Q5_0 Q5_0, Q5_1 Q5_1, Q8_0 Q8_0,
                    Q2_K Q2K, Q3_K Q3K, Q4_K Q4K, Q5_K Q5K, Q6_K Q6K,
                    IQ4_NL IQ4NL, IQ4_XS IQ4XS, MXFP4 MXFP4,
                    TQ2_0 TQ2_0, Q1_0 Q1_0, Q2_0 Q2_0,
                )
            }
            $crate::matrix::format::Format::Int4(layout) => {
                $crate::matrix::int4::with_int4!(layout, $name => $body)
            }
        }
    };
}
pub(crate) use with_coded;
