//! Facts about what is done with the tensors of an architecture.

/// What is done with the tensors. Only what is certain is here; a missing fact means that it depends
/// on the file, or is not written down yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Graph {
    /// How activations are normalized, which decides whose epsilon the metadata holds.
    pub norm: Norm,
    /// Which values RoPE turns as a pair.
    pub rope: Rope,
    /// The function in the feed-forward part.
    pub activation: Option<Activation>,
}

/// How activations are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// By their root mean square.
    Rms,
    /// By mean and variance.
    Layer,
}

/// Which values RoPE turns as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rope {
    /// There is no RoPE.
    None,
    /// Neighbours: 0 and 1, 2 and 3.
    Neighbours(Turned),
    /// One from each half: 0 and n/2, 1 and n/2 + 1 (`neox`).
    Halves(Turned),
}

/// How much of a head RoPE turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turned {
    /// All of it: loaders refuse another `rope.dimension_count`.
    Whole,
    /// As much as `rope.dimension_count` says.
    Any,
}

/// The activation function of the feed-forward part. The slots say whether it is gated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the field's own")]
pub enum Activation {
    Silu,
    Gelu,
    ReluSquared,
    /// gpt-oss: clamped, with a steeper sigmoid and a linear part of one more.
    ClampedSwiglu,
}
