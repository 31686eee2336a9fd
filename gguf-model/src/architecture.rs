//! The form of a description: keys, tensor slots, and facts about the graph.

use crate::{COMMON, Dimension, Graph, Key, Kind, Norm, Slot};

/// What a model of one GGUF architecture consists of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Architecture {
    /// The value of `general.architecture`, e.g. `llama`.
    pub name: &'static str,
    /// Keys below `{name}.` that loaders read, besides those of [every architecture](crate::COMMON).
    pub keys: &'static [Key],
    /// Tensors, in groups that architectures share.
    pub slots: &'static [&'static [Slot]],
    /// What is done with the tensors, as far as it is written down.
    pub graph: Graph,
}

impl Architecture {
    /// Every slot, whether or not a given model has it.
    pub fn slots(&self) -> impl Iterator<Item = &'static Slot> + use<> {
        self.slots.iter().flat_map(|group| group.iter())
    }

    /// The keys that loaders read: those of every architecture, the epsilon of its norms, its own.
    pub fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let epsilon = match self.graph.norm {
            Norm::Rms => Key::required("attention.layer_norm_rms_epsilon", Kind::Positive),
            Norm::Layer => Key::required("attention.layer_norm_epsilon", Kind::Positive),
        };
        COMMON.iter().copied().chain([epsilon]).chain(self.keys.iter().copied())
    }

    /// The whole key of a dimension.
    pub(crate) fn key(&self, dimension: Dimension) -> String {
        match dimension.key() {
            key if key.starts_with("tokenizer.") => key.to_owned(),
            key => format!("{}.{key}", self.name),
        }
    }
}
