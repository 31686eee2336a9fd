//! The list of what can be multiplied.

use quant_core::GgmlType;

use super::int4::Int4Layout;

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
}

/// The list of what can be multiplied: evaluates `$body` with `$name` naming the [`Coded`](super::coded::Coded) of a
/// [`Format`], or `$otherwise` for floats.
macro_rules! with_coded {
    ($format:expr, $name:ident => $body:expr, $otherwise:expr) => {
        match $format {
            $crate::matrix::format::Format::Ggml(ty) => {
                quant_core::choose_format!(ty, $name => $body, $otherwise;
                    Q4_0 Q4_0, Q4_1 Q4_1, Q5_0 Q5_0, Q5_1 Q5_1, Q8_0 Q8_0,
                    Q2_K Q2K, Q3_K Q3K, Q4_K Q4K, Q5_K Q5K, Q6_K Q6K,
                )
            }
            $crate::matrix::format::Format::Int4(layout) => {
                $crate::matrix::int4::with_int4!(layout, $name => $body)
            }
        }
    };
}
pub(crate) use with_coded;
