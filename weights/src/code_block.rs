//! Codes of few bits as they are stored, a block at a time.

/// Values in a block of codes, as many as in the blocks of ggml's simple types.
pub(crate) const BLOCK: u64 = 32;

/// Codes of neighbours in a row, which share a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeBlock {
    /// From 0 on.
    pub codes: [u8; BLOCK as usize],
    /// What codes are multiplied with.
    pub scale: f32,
    /// What is added.
    pub offset: Offset,
    /// Whether the block is the first of those that share this scale.
    pub is_first: bool,
}

/// How a code becomes a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offset {
    /// `(code − zero) · scale`, of a whole number.
    Zero(f32),
    /// `code · scale + bias`.
    Bias(f32),
}

impl Default for CodeBlock {
    fn default() -> Self {
        Self { codes: [0; 32], scale: 0.0, offset: Offset::Zero(0.0), is_first: false }
    }
}
