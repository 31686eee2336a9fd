//! What a plan is made from.

use crate::{
    Options,
    importance::Importance,
    model::Model,
    recipe::{ModelFacts, Pruning},
};

/// What the stages are about: the model, what is asked for, and what both say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) model: &'a Model,
    pub(super) options: &'a Options,
    pub(super) facts: &'a ModelFacts,
    pub(super) pruning: Option<&'a Pruning>,
    pub(super) importance: Option<&'a Importance>,
}

impl Given<'_> {
    /// The key of the number of layers.
    pub(super) fn layers_key(&self) -> String {
        format!("{}.block_count", self.facts.arch)
    }
}
