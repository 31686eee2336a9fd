//! Reads hyper-parameters, and finds those that contradict each other.

use gguf_io::Metadata;

use crate::{
    Architecture, Dimension, HyperParameters, Need, Problem, Rope, Size, Turned,
    parameters::number_of, problem::Problems,
};

impl HyperParameters {
    /// Reads the hyper-parameters of an architecture.
    ///
    /// # Errors
    /// All keys that are missing, of another type than loaders take, out of range, or contradict
    /// each other.
    pub fn read(metadata: &Metadata, architecture: &Architecture) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let parameters = Self::collect(metadata, architecture, &mut problems);
        if problems.is_empty() { Ok(parameters) } else { Err(problems.into_vec()) }
    }

    /// Reads what there is to read, and says what is wrong with the rest.
    pub(crate) fn collect(
        metadata: &Metadata,
        architecture: &Architecture,
        problems: &mut Problems,
    ) -> Self {
        use Dimension as D;
        let number =
            |name: &str| metadata.get(&format!("{}.{name}", architecture.name)).and_then(number_of);
        let parameters = Self::gather(metadata, architecture, problems);
        let heads_divide = number("attention.key_length").is_none();
        parameters.check(architecture, heads_divide, problems);
        let group = |name: &str| number(name).unwrap_or(0);
        parameters.check_experts(
            architecture,
            group("expert_used_count"),
            group("expert_group_count"),
            group("expert_group_used_count"),
            problems,
        );
        // The matrices behind the pooling lead from the width of the model to another and back, or
        // llama.cpp aborts.
        for (name, other) in [
            ("dense_2_feat_in", D::Embedding),
            ("dense_3_feat_in", D::Dense2Out),
            ("dense_3_feat_out", D::Embedding),
        ] {
            let is_read = architecture.keys().any(|key| key.name == name);
            if let (Some(width), Some(expected)) = (number(name), parameters.dimension(other))
                && is_read
                && width != expected
                && width > 0
                && expected > 0
            {
                let key = format!("{}.{name}", architecture.name);
                problems.key(&key, format!("is {width}, expected {}, {expected}", other.key()));
            }
        }
        parameters
    }

    /// Numbers that contradict each other. `heads_divide`: the size of a head is not said, but a
    /// part of the embedding.
    fn check(&self, architecture: &Architecture, heads_divide: bool, problems: &mut Problems) {
        let get = |dimension| self.dimension(dimension);
        let mut wrong = |dimension: Dimension, says: String| {
            problems.key(&architecture.key(dimension), says);
        };
        if let (Some(heads), Some(kv)) = (get(Dimension::Heads), get(Dimension::KvHeads))
            && kv > 0
            && heads % kv != 0
        {
            wrong(
                Dimension::Heads,
                format!("is {heads}, expected a multiple of attention.head_count_kv, {kv}"),
            );
        }
        let (heads, embedding) = (get(Dimension::Heads), get(Dimension::Embedding));
        if heads == Some(0) {
            if !architecture.has_attention() {
                return;
            }
            wrong(Dimension::Heads, "is 0, expected a positive number".into());
        } else if let (Some(heads), Some(embedding), Some(head)) =
            (heads, embedding, get(Dimension::Key))
        {
            if heads_divide && embedding % heads != 0 {
                wrong(
                    Dimension::Heads,
                    format!("is {heads}, expected a divisor of embedding_length, {embedding}"),
                );
            } else if architecture.fills_embedding() && heads.checked_mul(head) != Some(embedding) {
                wrong(
                    Dimension::Key,
                    format!(
                        "is {head}, expected {}: embedding_length {embedding} / \
                         attention.head_count {heads}",
                        embedding / heads
                    ),
                );
            }
        }
        // Compressed keys are those of one head: the compressed part and the one that RoPE turns.
        if self.is_latent {
            if let Some(kv) = get(Dimension::KvHeads).filter(|kv| *kv != 1) {
                wrong(Dimension::KvHeads, format!("is {kv}, expected 1: keys are compressed"));
            }
            let (rank, rotary) = (get(Dimension::KvRank), get(Dimension::Rotary));
            if let (Some(key), Some(rank), Some(rotary)) = (get(Dimension::Key), rank, rotary)
                && rank.checked_add(rotary) != Some(key)
            {
                wrong(
                    Dimension::Key,
                    format!(
                        "is {key}, expected attention.kv_lora_rank {rank} + rope.dimension_count \
                         {rotary}"
                    ),
                );
            }
        } else if !architecture.is_compressed()
            && !architecture.has_narrow_values()
            && let (Some(key), Some(value)) = (get(Dimension::Key), get(Dimension::Value))
            && key != value
        {
            wrong(
                Dimension::Value,
                format!("is {value}, expected the size of a head's key, {key}"),
            );
        }
        // Each head has keys and values of its own.
        if architecture.has_equal_heads()
            && let (Some(heads), Some(kv)) = (heads, get(Dimension::KvHeads))
            && kv != heads
        {
            wrong(Dimension::KvHeads, format!("is {kv}, expected attention.head_count, {heads}"));
        }
        use Rope::{Halves, Neighbours};
        if matches!(architecture.graph.rope, Halves(Turned::Any) | Neighbours(Turned::Any))
            && !self.is_latent
            && let (Some(rotary), Some(key)) = (get(Dimension::Rotary), get(Dimension::Key))
            && rotary > key
        {
            wrong(
                Dimension::Rotary,
                format!("is {rotary}, expected at most the size of a head, {key}"),
            );
        }
        if matches!(architecture.graph.rope, Halves(Turned::Whole) | Neighbours(Turned::Whole))
            && let (Some(rotary), Some(key)) = (get(Dimension::Rotary), get(Dimension::Key))
            && rotary != key
        {
            wrong(
                Dimension::Rotary,
                format!("is {rotary}, expected the size of a head, {key} (attention.key_length)"),
            );
        }
    }

    /// Experts that contradict each other, which llama.cpp asserts not to find.
    fn check_experts(
        &self,
        architecture: &Architecture,
        used: u64,
        groups: u64,
        groups_used: u64,
        problems: &mut Problems,
    ) {
        let experts = self.dimension(Dimension::Experts).unwrap_or(0);
        let mut wrong = |key: &str, found: u64, expected: String| {
            let key = format!("{}.{key}", architecture.name);
            problems.key(&key, format!("is {found}, expected {expected}"));
        };
        if experts == 0 {
            for (key, found) in [("expert_used_count", used), ("expert_group_count", groups)] {
                if found > 0 {
                    wrong(key, found, "0 or no such key: expert_count is 0".into());
                }
            }
            return;
        }
        if !(1..=experts).contains(&used) {
            wrong("expert_used_count", used, format!("1 to expert_count, {experts}"));
        }
        if groups >= experts || (groups > 1 && !experts.is_multiple_of(groups)) {
            let expected = format!("a divisor of expert_count, {experts}, that is less");
            wrong("expert_group_count", groups, expected);
        } else if groups > 1 && !(1..groups).contains(&groups_used) {
            let expected = format!("1 to less than expert_group_count, {groups}");
            wrong("expert_group_used_count", groups_used, expected);
        }
    }
}

impl Architecture {
    /// Whether the heads together are as wide as the model, whatever the keys of their sizes say.
    fn fills_embedding(&self) -> bool {
        const EMBEDDING: Size = Size::Of(Dimension::Embedding);
        self.slots()
            .any(|slot| slot.name == "blk.{}.attn_output" && slot.shape == [EMBEDDING, EMBEDDING])
    }

    /// Whether keys and values are compressed: then they have sizes of their own.
    fn is_compressed(&self) -> bool {
        self.slots().any(|slot| slot.name == "blk.{}.attn_kv_a_norm")
    }

    /// Whether values may be of another size than keys: what comes out of attention is as wide as they are.
    fn has_narrow_values(&self) -> bool {
        self.slots().any(|slot| {
            let of_values = |size: &Size| match size {
                Size::Product(parts) => parts.contains(&Size::Of(Dimension::Value)),
                _ => false,
            };
            slot.name == "blk.{}.attn_output" && slot.shape.first().is_some_and(of_values)
        })
    }

    /// Whether there are heads at all: state space models have none.
    fn has_attention(&self) -> bool {
        self.slots().any(|slot| slot.name.contains(".attn_q") || slot.name.contains(".attn_k"))
    }

    /// Whether each head has keys and values of its own: T5, and where all keys are normalized at
    /// once by weights as wide as the queries.
    fn has_equal_heads(&self) -> bool {
        const WIDE: &[Size] = &[Size::Of(Dimension::Embedding)];
        self.slots().any(|slot| match slot.name {
            "enc.blk.{}.attn_q" => true,
            "blk.{}.attn_k_norm" => slot.shape == WIDE && slot.need == Need::Required,
            _ => false,
        })
    }
}
