use quant_core::grouped::ScaleType;

/// What can go wrong in a matrix product: always the caller's arguments.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The weights do not fit their type, or activations are not finite.
    #[error(transparent)]
    Format(#[from] quant_core::Error),
    /// The size of the matrix does not fit the address space.
    #[error("the matrix does not fit the address space")]
    TooLarge,
    /// A stride is shorter than what it steps over.
    #[error("the stride of {what} is {found}, but each row has {expected} elements")]
    Stride {
        /// `"x"` or `"y"`.
        what: &'static str,
        /// The stride.
        found: usize,
        /// Elements in a row.
        expected: usize,
    },
    /// A buffer ends before its last row does.
    #[error("{what} has {found} elements, its rows need {expected}")]
    Short {
        /// `"x"`, `"y"`, `"ids"` or `"out"`.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it needs.
        expected: usize,
    },
    /// Grouped integers of a layout that is not multiplied.
    #[error(
        "groups of {group_len} weights with scales of {scale_type:?} cannot be multiplied; groups of 32, 64 or 128 with scales of F16 or Bf16 can"
    )]
    Groups {
        /// Weights in a group.
        group_len: usize,
        /// The type of the scales.
        scale_type: ScaleType,
    },
    /// An expert that the matrix does not have.
    #[error("ids[{index}] is expert {expert}, the matrix has {experts}")]
    Expert {
        /// Index in the list of ids.
        index: usize,
        /// The id.
        expert: u32,
        /// Experts in the matrix.
        experts: usize,
    },
    /// A row that the matrix does not have.
    #[error("ids[{index}] is row {row}, the matrix has {rows}")]
    Row {
        /// Index in the list of ids.
        index: usize,
        /// The id.
        row: u32,
        /// Rows in the matrix, of all experts.
        rows: usize,
    },
    /// Values that do not make whole rows of a matrix.
    #[error("x has {found} elements: no whole number of rows of {cols}")]
    Ragged {
        /// Elements.
        found: usize,
        /// Elements in a row.
        cols: usize,
    },
    /// A matrix of several experts was multiplied without saying which.
    #[error("the matrix has {experts} experts; multiply it with a list of ids")]
    NeedsIds {
        /// Experts in the matrix.
        experts: usize,
    },
    /// The threads that the caller brought did not run the whole of a product, whose `y` is
    /// unspecified, or of packing.
    #[error(
        "the threads ran {done} of {parts} parts of the product; Parallel::run has to call its task once for each part"
    )]
    Parts {
        /// Parts that were run.
        done: usize,
        /// Parts that there are.
        parts: usize,
    },
}
