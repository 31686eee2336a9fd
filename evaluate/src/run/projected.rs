//! What attention works on.

use super::rope::Turns;

/// Where in the sequence a layer is run.
pub(crate) struct Place<'a> {
    /// The position of the first token.
    pub(crate) first: usize,
    /// Tokens.
    pub(crate) count: usize,
    /// Of these, the first whose result is needed.
    pub(crate) needed: usize,
    pub(crate) turns: Option<&'a Turns>,
}

/// Queries, keys and values of some tokens, a row of all heads each.
pub(crate) struct Projected {
    pub(crate) queries: Vec<f32>,
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
    /// What the results of the heads are multiplied by; none if empty.
    pub(crate) gates: Vec<f32>,
}
