//! What keys say of layers by their number, and where layers are of different kinds by their number.
//!
//! Who leaves layers out of a model, or counts those of a part of it, needs more than the shapes of
//! tensors: which arrays have an element for each layer, which numbers count some of the layers, and in
//! which periods layers of a kind return.

use crate::{Architecture, Forward, TurnedLayers, keys::ATTENDING};

/// What a key below the architecture's name says of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OfLayers {
    /// How many of the first layers, or of a stack of its own, are of a kind.
    First,
    /// How many of the last layers are of a kind.
    Last,
    /// Unless it is zero, something is stored for all layers together; the text says what.
    Together(&'static str),
    /// Nothing: not even an array that happens to have as many elements as there are layers.
    Nothing,
}

const KEYS: &[(&str, OfLayers)] = &[
    ("leading_dense_block_count", OfLayers::First),
    ("hash_layer_count", OfLayers::First),
    ("decoder_block_count", OfLayers::First),
    ("nextn_predict_layers", OfLayers::Last),
    ("attention.shared_kv_layers", OfLayers::Last),
    (
        "embedding_length_per_layer_input",
        OfLayers::Together("the embeddings of all layers are stored together"),
    ),
    ("hrm.layers_per_stack", OfLayers::Together("the layers are stacks of equal length")),
    (
        "ple.ngram_size",
        OfLayers::Together("layers with embeddings of their own are listed by number"),
    ),
    ("rope.dimension_sections", OfLayers::Nothing),
    ("adapters.token_ids_activate", OfLayers::Nothing),
    ("adapters.token_ids_substitute", OfLayers::Nothing),
    ("classifier.output_labels", OfLayers::Nothing),
    // Numbers of layers, but of another model.
    ("target_layers", OfLayers::Nothing),
    ("ple.layers", OfLayers::Nothing),
    ("ple.layer_multipliers", OfLayers::Nothing),
    ("ple.head_offsets", OfLayers::Nothing),
    ("ple.head_vocab_sizes", OfLayers::Nothing),
];

impl OfLayers {
    /// What a key says, given below the architecture's name. Arrays of other keys have an element for
    /// each layer if they have as many as there are layers.
    ///
    /// ```
    /// use gguf_model::OfLayers;
    ///
    /// assert_eq!(OfLayers::of_key("leading_dense_block_count"), Some(OfLayers::First));
    /// assert_eq!(OfLayers::of_key("attention.head_count_kv"), None);
    /// ```
    pub fn of_key(key: &str) -> Option<Self> {
        KEYS.iter().find(|(name, _)| *name == key).map(|(_, of)| *of)
    }

    /// The keys that say something, with what they say.
    pub fn keys() -> impl Iterator<Item = (&'static str, Self)> {
        KEYS.iter().copied()
    }
}

/// Keys with the period in which layers with other tensors return.
pub const LAYER_PERIODS: [&str; 4] = [
    "full_attention_interval",
    "interleave_moe_layer_step",
    "moe_every_n_layers",
    "attn_res.block_size",
];

/// The period of an architecture whose files need not have the key, one of [`LAYER_PERIODS`].
///
/// ```
/// use gguf_model::layer_period;
///
/// assert_eq!(layer_period("qwen3next", "full_attention_interval"), Some(4));
/// assert_eq!(layer_period("llama", "full_attention_interval"), None);
/// ```
pub fn layer_period(architecture: &str, key: &str) -> Option<u32> {
    if key != "full_attention_interval" {
        return None;
    }
    match architecture {
        // Not described.
        "qwen4exp" => Some(ATTENDING),
        "minimax-01" => Some(8),
        _ => {
            let described = Architecture::find(architecture)?;
            described.keys().any(|known| known.name == key).then_some(ATTENDING)
        }
    }
}

/// Architectures whose graph is not written down, with their [`attention_period`].
const ATTENTION: &[(&str, u32)] = &[
    ("afmoe", 4),
    ("cohere2moe", 4),
    ("exaone-moe", 4),
    ("gemma-embedding", 6),
    ("gemma3n", 5),
    ("gpt-oss", 2),
    ("laguna", 4),
    ("llama4", 4),
    ("mellum", 4),
    ("muse-glimmer", 4),
    ("plamo3", 8),
    ("smallthinker", 4),
];

/// The period in which layers of the same tensors attend to all tokens instead of a sliding window, or
/// go without rotary embeddings, where a file does not list the layers.
///
/// ```
/// assert_eq!(gguf_model::attention_period("gemma3"), Some(6));
/// assert_eq!(gguf_model::attention_period("qwen3"), None);
/// ```
pub fn attention_period(architecture: &str) -> Option<u32> {
    let of_graph = Forward::find(architecture).and_then(|forward| {
        let windows = forward.attention.windows.map(|windows| windows.period);
        windows.filter(|period| *period > 1).or(match forward.attention.turned {
            TurnedLayers::AllBut(period) => Some(period),
            _ => None,
        })
    });
    of_graph.or_else(|| {
        ATTENTION.iter().find(|(name, _)| *name == architecture).map(|(_, period)| *period)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_those_of_llama_cpp() {
        for (architecture, period) in [
            ("cohere2", 4),
            ("exaone4", 4),
            ("gemma2", 2),
            ("gemma3", 6),
            ("gpt-oss", 2),
            ("modern-bert", 3),
            ("olmo2", 4),
            ("smollm3", 4),
            ("llama4", 4),
        ] {
            assert_eq!(attention_period(architecture), Some(period), "{architecture}");
        }
        assert_eq!(attention_period("phi3"), None);
        for architecture in ["qwen3next", "qwen35", "qwen35moe"] {
            assert_eq!(layer_period(architecture, LAYER_PERIODS[0]), Some(4), "{architecture}");
        }
        assert_eq!(layer_period("qwen3next", "moe_every_n_layers"), None);
    }

    /// A graph that is written down later says the same.
    #[test]
    fn graphs_agree_with_the_list() {
        for (architecture, period) in ATTENTION {
            assert_eq!(attention_period(architecture), Some(*period), "{architecture}");
        }
    }
}
