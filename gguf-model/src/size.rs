//! Sizes of tensors in terms of hyper-parameters.

use std::fmt;

/// A number that metadata gives and shapes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dimension {
    /// Values of a token's vector.
    Embedding,
    /// Tokens.
    Vocabulary,
    /// Kinds of tokens (BERT's segments).
    TokenTypes,
    /// Positions the model was trained for.
    Context,
    /// Values inside the feed-forward part.
    FeedForward,
    /// Attention heads.
    Heads,
    /// Heads of keys and values.
    KvHeads,
    /// Values of a head's key.
    Key,
    /// Values of a head's value.
    Value,
    /// Values of a head that RoPE turns.
    Rotary,
    /// Experts.
    Experts,
    /// Values inside an expert.
    ExpertFeedForward,
    /// Values inside the shared experts.
    SharedFeedForward,
    /// Shared experts.
    SharedExperts,
    /// Values of a compressed query.
    QueryRank,
    /// Values of a compressed key and value.
    KvRank,
    /// Values of a head's key before compression.
    LatentKey,
    /// Values of a head's value before compression.
    LatentValue,
    /// Classes that a classifier tells.
    Labels,
    /// Distances that T5 tells apart.
    RelativeBuckets,
    /// Values of an embedding after the first matrix behind the pooling.
    Dense2Out,
    /// Values that the second one takes.
    Dense3In,
    /// Tokens that the convolution of a state space model looks at.
    SsmConv,
    /// Values inside a state space model.
    SsmInner,
    /// Values of the state of each of them.
    SsmState,
    /// Values that its time steps are made of; of Mamba 2, its heads.
    SsmRank,
    /// Groups of heads that share what goes into the state.
    SsmGroups,
    /// Tokens that a short convolution looks at.
    ShortConv,
    /// Values of a head's key in a layer with a sliding window.
    SlidingKey,
    /// Values of a head's value in a layer with a sliding window.
    SlidingValue,
    /// Values of a token's vector for each layer.
    PerLayerInput,
    /// Layers.
    Layers,
    /// Values that come out at the end, where they are not as many as a token's vector.
    EmbeddingOut,
    /// Values that an expert takes, where they are compressed.
    ExpertLatent,
    /// Heads of an indexer, which chooses the tokens that attention looks at.
    IndexHeads,
    /// Values of its keys.
    IndexKey,
    /// Values of a head of Kimi's delta attention.
    KdaHead,
    /// Values inside an expert that a group of experts shares.
    ChunkFeedForward,
    /// Experts that share one.
    GroupExperts,
    /// Streams of states that layers mix.
    Streams,
    /// Tokens that an indexer takes together.
    IndexPool,
    /// Layers of each of two stacks that are run through in turns.
    StackLayers,
    /// Groups of heads whose values are taken together at the end of attention.
    OutputGroups,
    /// Values that each of them is compressed to.
    OutputRank,
    /// Experts that a token passes.
    UsedExperts,
}

impl Dimension {
    /// Every dimension with its key, in the order of the variants: below the architecture's name, or whole if it begins with
    /// `tokenizer.`.
    pub(crate) const ALL: [(Self, &'static str); 45] = [
        (Self::Embedding, "embedding_length"),
        (Self::Vocabulary, "tokenizer.ggml.tokens"),
        (Self::TokenTypes, "tokenizer.ggml.token_type_count"),
        (Self::Context, "context_length"),
        (Self::FeedForward, "feed_forward_length"),
        (Self::Heads, "attention.head_count"),
        (Self::KvHeads, "attention.head_count_kv"),
        (Self::Key, "attention.key_length"),
        (Self::Value, "attention.value_length"),
        (Self::Rotary, "rope.dimension_count"),
        (Self::Experts, "expert_count"),
        (Self::ExpertFeedForward, "expert_feed_forward_length"),
        (Self::SharedFeedForward, "expert_shared_feed_forward_length"),
        (Self::SharedExperts, "expert_shared_count"),
        (Self::QueryRank, "attention.q_lora_rank"),
        (Self::KvRank, "attention.kv_lora_rank"),
        (Self::LatentKey, "attention.key_length_mla"),
        (Self::LatentValue, "attention.value_length_mla"),
        (Self::Labels, "classifier.output_labels"),
        (Self::RelativeBuckets, "attention.relative_buckets_count"),
        (Self::Dense2Out, "dense_2_feat_out"),
        (Self::Dense3In, "dense_3_feat_in"),
        (Self::SsmConv, "ssm.conv_kernel"),
        (Self::SsmInner, "ssm.inner_size"),
        (Self::SsmState, "ssm.state_size"),
        (Self::SsmRank, "ssm.time_step_rank"),
        (Self::SsmGroups, "ssm.group_count"),
        (Self::ShortConv, "shortconv.l_cache"),
        (Self::SlidingKey, "attention.key_length_swa"),
        (Self::SlidingValue, "attention.value_length_swa"),
        (Self::PerLayerInput, "embedding_length_per_layer_input"),
        (Self::Layers, "block_count"),
        (Self::EmbeddingOut, "embedding_length_out"),
        (Self::ExpertLatent, "moe_latent_size"),
        (Self::IndexHeads, "attention.indexer.head_count"),
        (Self::IndexKey, "attention.indexer.key_length"),
        (Self::KdaHead, "kda.head_dim"),
        (Self::ChunkFeedForward, "expert_chunk_feed_forward_length"),
        (Self::GroupExperts, "experts_per_group"),
        (Self::Streams, "hyper_connection.count"),
        (Self::IndexPool, "attention.indexer.kpool"),
        (Self::StackLayers, "hrm.layers_per_stack"),
        (Self::OutputGroups, "attention.output_group_count"),
        (Self::OutputRank, "attention.output_lora_rank"),
        (Self::UsedExperts, "expert_used_count"),
    ];

    /// Its key: below the architecture's name, or whole if it begins with `tokenizer.`.
    pub fn key(self) -> &'static str {
        Self::ALL.get(self as usize).map_or("", |(_, key)| key)
    }
}

/// A size of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Size {
    /// A number of the metadata.
    Of(Dimension),
    /// Always this.
    Is(u64),
    /// These, one after the other.
    Sum(&'static [Size]),
    /// So many of so many.
    Product(&'static [Size]),
    /// The first without the second.
    Difference(&'static Size, &'static Size),
    /// Half of it, rounded down.
    Half(&'static Size),
    /// The first divided by the second, rounded down.
    Quotient(&'static Size, &'static Size),
    /// The first or the second: loaders take both, and the tensor tells. It counts as the first where one
    /// number is asked for.
    Either(&'static Size, &'static Size),
}

/// As a formula of keys, e.g. `attention.head_count × attention.key_length`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], sign: &str, open: bool| {
            for (i, part) in parts.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { sign })?;
                match part {
                    Self::Sum(_) | Self::Difference(..) if open => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Of(dimension) => f.write_str(match dimension {
                Dimension::Vocabulary => "tokens",
                _ => dimension.key(),
            }),
            Self::Is(number) => write!(f, "{number}"),
            Self::Sum(parts) => list(f, parts, " + ", false),
            Self::Product(parts) => list(f, parts, " × ", true),
            Self::Difference(whole, part) => write!(f, "{whole} - {part}"),
            Self::Half(whole) => write!(f, "{whole} / 2"),
            Self::Quotient(whole, part) => write!(f, "{whole} / {part}"),
            Self::Either(one, other) => write!(f, "{one} or {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_are_listed_in_their_order() {
        for (i, (dimension, key)) in Dimension::ALL.into_iter().enumerate() {
            assert_eq!(dimension as usize, i);
            assert_eq!(dimension.key(), key);
        }
    }

    #[test]
    fn formulas_read_as_keys() {
        const HEADS: Size = Size::Of(Dimension::Heads);
        const KEY: Size = Size::Of(Dimension::Key);
        let shown = |size: Size| size.to_string();
        assert_eq!(
            shown(Size::Product(&[HEADS, KEY])),
            "attention.head_count × attention.key_length"
        );
        assert_eq!(shown(Size::Half(&Size::Of(Dimension::Rotary))), "rope.dimension_count / 2");
        let sum = Size::Product(&[HEADS, Size::Sum(&[Size::Is(2), KEY])]);
        assert_eq!(shown(sum), "attention.head_count × (2 + attention.key_length)");
    }
}
