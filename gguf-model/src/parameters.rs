//! Reads the hyper-parameters of a model.

use gguf_io::metadata::{Array, Metadata, Value};

use crate::{
    Architecture, Dimension, Key, Kind, Need, Problem, Rope, Size, Turned,
    layered::ATTENDING,
    problem::{Problems, described},
};

/// Most layers a model may have; llama.cpp refuses more.
pub const MAX_LAYERS: u32 = 512;
/// Most experts a layer may have; llama.cpp refuses more.
pub const MAX_EXPERTS: u32 = 1024;

const ROPE_SCALING: Kind = Kind::OneOf(&["none", "linear", "yarn", "longrope"]);

/// Keys that llama.cpp reads for every architecture, below its name. It starts without a number of
/// heads, for architectures without attention, of which none is described here.
pub const COMMON: &[Key] = &[
    Key::required("block_count", Kind::Integer(1, MAX_LAYERS)),
    Key::required("context_length", Kind::Integer(1, u32::MAX)),
    Key::required("embedding_length", Kind::Integer(1, u32::MAX)),
    Key::optional("embedding_length_out", Kind::COUNT),
    Key::optional("vocab_size", Kind::COUNT),
    Key::optional("feed_forward_length", Kind::Integers),
    Key::optional("nextn_predict_layers", Kind::Integer(0, MAX_LAYERS)),
    Key::required("attention.head_count", Kind::Integers),
    Key::optional("attention.head_count_kv", Kind::Integers),
    Key::optional("attention.key_length", Kind::COUNT),
    Key::optional("attention.value_length", Kind::COUNT),
    Key::optional("attention.key_length_swa", Kind::COUNT),
    Key::optional("attention.value_length_swa", Kind::COUNT),
    Key::optional("attention.causal", Kind::Bool),
    Key::optional("pooling_type", Kind::COUNT),
    Key::optional("classifier.pooling_type", Kind::COUNT),
    Key::optional("expert_count", Kind::Integer(0, MAX_EXPERTS)),
    Key::optional("expert_used_count", Kind::Integers),
    Key::optional("expert_group_count", Kind::Integer(0, MAX_EXPERTS)),
    Key::optional("expert_group_used_count", Kind::Integer(0, MAX_EXPERTS)),
    Key::optional("rope.dimension_count", Kind::COUNT),
    Key::optional("rope.dimension_count_swa", Kind::COUNT),
    Key::optional("rope.freq_base", Kind::Float),
    Key::optional("rope.scale_linear", Kind::Float),
    Key::optional("rope.scaling.type", ROPE_SCALING),
    Key::optional("rope.scaling.factor", Kind::Float),
    Key::optional("rope.scaling.attn_factor", Kind::Float),
    Key::optional("rope.scaling.alpha", Kind::Float),
    Key::optional("rope.scaling.original_context_length", Kind::COUNT),
    Key::optional("rope.scaling.finetuned", Kind::Bool),
];

/// What a model's metadata says about its sizes. Of a key with a number for each layer the first
/// positive one stands for the model where no layer is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HyperParameters {
    /// All layers, those that predict further tokens included; those of the encoder, if there is one.
    pub layers: u32,
    /// How many of them predict further tokens.
    pub further_layers: u32,
    /// Layers of a decoder beside an encoder.
    pub decoder_layers: u32,
    /// Layers at the beginning that have no experts, in a model whose other layers have.
    pub leading_layers: u32,
    pub(crate) has_shared_experts: bool,
    moe_step: u32,
    pub(crate) is_latent: bool,
    pub(crate) is_long_rope: bool,
    dimensions: Dimensions,
    /// How many of the last layers use the keys and values of others.
    pub(crate) shared_keys: u32,
    recurrent: Vec<bool>,
    sliding: Vec<bool>,
    /// Dimensions with a number for each layer.
    by_layer: Vec<(Dimension, Vec<u64>)>,
}

/// Numbers in the order of [`Dimension::ALL`].
#[derive(Clone, Debug)]
struct Dimensions([Option<u64>; Dimension::ALL.len()]);

impl Dimensions {
    fn get(&self, dimension: Dimension) -> Option<u64> {
        self.0.get(dimension as usize).copied().flatten()
    }

    /// Sets a number.
    fn set(&mut self, dimension: Dimension, number: Option<u64>) {
        if let Some(known) = self.0.get_mut(dimension as usize) {
            *known = number;
        }
    }

    /// Sets what the metadata does not tell.
    fn fill(&mut self, dimension: Dimension, derived: Option<u64>) {
        if let Some(known) = self.0.get_mut(dimension as usize) {
            *known = known.or(derived);
        }
    }
}

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
        let at = |name: &str| metadata.get(&format!("{}.{name}", architecture.name));
        let number = |name: &str| at(name).and_then(number_of);
        let small = |name: &str| number(name).and_then(|n| u32::try_from(n).ok());
        let layers = small("block_count").filter(|n| (1..=MAX_LAYERS).contains(n));
        for key in architecture.keys() {
            check_key(architecture, key, at(key.name), layers, problems);
        }
        let layers = layers.unwrap_or(0);
        let dimensions = Dimension::ALL.map(|(dimension, key)| match dimension {
            Dimension::Vocabulary => vocabulary(metadata, number("vocab_size")),
            Dimension::Labels => Some(match at(key) {
                Some(Value::Array(labels)) if !labels.is_empty() => labels.len() as u64,
                _ => 1,
            }),
            // Here 0 stands for what is said elsewhere.
            Dimension::ExpertFeedForward
            | Dimension::SharedFeedForward
            | Dimension::LatentKey
            | Dimension::LatentValue => number(key).filter(|n| *n > 0),
            _ if key.starts_with("tokenizer.") => metadata.get(key).and_then(number_of),
            _ => number(key),
        });
        let mut dimensions = Dimensions(dimensions);
        use Dimension as D;
        let ratio = |whole: Option<u64>, part: Option<u64>| whole?.checked_div(part?);
        let head = ratio(dimensions.get(D::Embedding), dimensions.get(D::Heads));
        let of_expert = ratio(dimensions.get(D::FeedForward), number("expert_used_count"));
        if dimensions.get(D::ExpertLatent).is_none_or(|n| n == 0) {
            dimensions.set(D::ExpertLatent, dimensions.get(D::Embedding));
        }
        dimensions.fill(D::KvHeads, dimensions.get(D::Heads));
        dimensions.fill(D::Key, head);
        dimensions.fill(D::Value, head);
        dimensions.fill(D::Rotary, dimensions.get(D::Key));
        dimensions.fill(D::ExpertFeedForward, of_expert);
        dimensions.fill(D::SharedFeedForward, dimensions.get(D::FeedForward));
        let is_latent = number("attention.key_length_mla").is_some_and(|n| n > 0);
        if !is_latent {
            dimensions.fill(D::LatentKey, dimensions.get(D::Key));
            dimensions.fill(D::LatentValue, dimensions.get(D::Value));
        }
        let by_layer = [D::Heads, D::KvHeads, D::FeedForward]
            .into_iter()
            .filter_map(|dimension| Some((dimension, numbers_of(at(dimension.key())?)?)))
            .collect();
        let heads_divide = number("attention.key_length").is_none();
        let further_layers = small("nextn_predict_layers").unwrap_or(0).min(layers);
        let flags = |name: &str| at(name).and_then(flags_of);
        let has_key = |name: &str| architecture.keys().any(|key| key.name == name);
        let recurrent = match flags("attention.recurrent_layers") {
            Some(flags) => flags,
            None if has_key("full_attention_interval") => {
                let interval = small("full_attention_interval").unwrap_or(ATTENDING).max(1);
                let trunk = layers.saturating_sub(further_layers);
                (0..trunk).map(|layer| (layer + 1) % interval != 0).collect()
            }
            None => Vec::new(),
        };
        let parameters = Self {
            layers,
            further_layers,
            shared_keys: small("attention.shared_kv_layers").unwrap_or(0),
            recurrent,
            sliding: flags("attention.sliding_window_pattern").unwrap_or_default(),
            decoder_layers: small("decoder_block_count").unwrap_or(layers).min(MAX_LAYERS),
            leading_layers: small("leading_dense_block_count").unwrap_or(0),
            moe_step: small("interleave_moe_layer_step").unwrap_or(0),
            has_shared_experts: number("expert_shared_feed_forward_length").is_some_and(|n| n > 0),
            is_latent,
            is_long_rope: at("rope.scaling.type").and_then(Value::as_str) == Some("longrope"),
            dimensions,
            by_layer,
        };
        if architecture.slots().any(|slot| slot.name == "token_types")
            && parameters.dimension(D::TokenTypes).is_none_or(|n| n == 0)
        {
            problems.missing_key(D::TokenTypes.key(), "a positive UINT32");
        }
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

    /// A number of the metadata, or what stands for it where it is missing.
    pub fn dimension(&self, dimension: Dimension) -> Option<u64> {
        self.dimensions.get(dimension)
    }

    /// Whether a layer has a state in place of attention.
    pub(crate) fn is_recurrent(&self, layer: u32) -> bool {
        self.recurrent.get(layer as usize).copied().unwrap_or(false)
    }

    /// Whether a layer has keys and values of its own.
    pub(crate) fn has_keys(&self, layer: u32) -> bool {
        layer < self.layers.saturating_sub(self.shared_keys)
    }

    /// Whether a layer has a sliding window.
    pub(crate) fn is_sliding(&self, layer: u32) -> bool {
        self.sliding.get(layer as usize).copied().unwrap_or(false)
    }

    /// As [`dimension`](Self::dimension), in a layer.
    pub fn dimension_in(&self, dimension: Dimension, layer: Option<u32>) -> Option<u64> {
        let own = self.by_layer.iter().find(|(other, _)| *other == dimension).zip(layer);
        match own {
            Some(((_, numbers), layer)) => numbers.get(layer as usize).copied(),
            None => self.dimension(dimension),
        }
    }

    /// A size; `None` if the metadata does not tell, or it is larger than any tensor could be.
    pub fn size(&self, size: Size) -> Option<u64> {
        self.size_in(size, None)
    }

    /// As [`size`](Self::size), in a layer.
    pub fn size_in(&self, size: Size, layer: Option<u32>) -> Option<u64> {
        match size {
            Size::Of(dimension) => self.dimension_in(dimension, layer),
            Size::Is(number) => Some(number),
            Size::Sum(parts) => parts
                .iter()
                .try_fold(0u64, |sum, part| sum.checked_add(self.size_in(*part, layer)?)),
            Size::Product(parts) => parts
                .iter()
                .try_fold(1u64, |product, part| product.checked_mul(self.size_in(*part, layer)?)),
            Size::Difference(whole, part) => {
                self.size_in(*whole, layer)?.checked_sub(self.size_in(*part, layer)?)
            }
            Size::Half(whole) => Some(self.size_in(*whole, layer)? / 2),
            Size::Quotient(whole, part) => {
                self.size_in(*whole, layer)?.checked_div(self.size_in(*part, layer)?)
            }
        }
    }

    /// Whether a layer is the last of so many (`interleave_moe_layer_step`).
    pub(crate) fn is_step(&self, layer: u32) -> bool {
        layer.wrapping_add(1).checked_rem(self.moe_step) == Some(0)
    }

    /// Layers that predict the next token.
    pub fn trunk_layers(&self) -> u32 {
        self.layers.saturating_sub(self.further_layers)
    }

    /// The dimensions of a size that the metadata does not tell.
    pub(crate) fn unknown(&self, size: Size, missing: &mut Vec<Dimension>) {
        match size {
            Size::Of(dimension) if self.dimension(dimension).is_none() => {
                // What is derived from another key is missing because that one is.
                let cause = match dimension {
                    Dimension::Key | Dimension::Value | Dimension::KvHeads | Dimension::Rotary => {
                        Dimension::Heads
                    }
                    Dimension::SharedFeedForward => Dimension::FeedForward,
                    other => other,
                };
                if !missing.contains(&cause) {
                    missing.push(cause);
                }
            }
            Size::Of(_) | Size::Is(_) => {}
            Size::Sum(parts) | Size::Product(parts) => {
                parts.iter().for_each(|part| self.unknown(*part, missing));
            }
            Size::Difference(whole, part) | Size::Quotient(whole, part) => {
                self.unknown(*whole, missing);
                self.unknown(*part, missing);
            }
            Size::Half(whole) => self.unknown(*whole, missing),
        }
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

    /// The whole key of a dimension.
    pub(crate) fn key(&self, dimension: Dimension) -> String {
        match dimension.key() {
            key if key.starts_with("tokenizer.") => key.to_owned(),
            key => format!("{}.{key}", self.name),
        }
    }
}

/// Tokens: those of the tokenizer, or what a model without one says.
fn vocabulary(metadata: &Metadata, size: Option<u64>) -> Option<u64> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(tokens))) => Some(tokens.len() as u64),
        _ => match metadata.get_str("tokenizer.ggml.model") {
            Some("none" | "no_vocab") => size,
            _ => None,
        },
    }
}

/// An integer; of several the first that is positive, else the first.
fn number_of(value: &Value) -> Option<u64> {
    match numbers_of(value) {
        Some(numbers) => {
            numbers.iter().find(|number| **number > 0).or_else(|| numbers.first()).copied()
        }
        None => value.as_u64(),
    }
}

/// Flags, one for each layer.
fn flags_of(value: &Value) -> Option<Vec<bool>> {
    match value {
        Value::Array(Array::Bool(flags)) => Some(flags.clone()),
        other => Some(numbers_of(other)?.iter().map(|number| *number != 0).collect()),
    }
}

/// Integers, if there are several; a negative one ends them.
fn numbers_of(value: &Value) -> Option<Vec<u64>> {
    match value {
        Value::Array(Array::Uint32(numbers)) => Some(numbers.iter().map(|&n| n.into()).collect()),
        Value::Array(Array::Int32(numbers)) => {
            Some(numbers.iter().map_while(|&n| n.try_into().ok()).collect())
        }
        _ => None,
    }
}

fn check_key(
    architecture: &Architecture,
    key: Key,
    value: Option<&Value>,
    layers: Option<u32>,
    problems: &mut Problems,
) {
    let Some(value) = value else {
        if key.required {
            problems.missing_key(
                &format!("{}.{}", architecture.name, key.name),
                &expected(key.kind, layers),
            );
        }
        return;
    };
    let length = |array: &Array| layers.is_none_or(|n| array.len() as u64 == u64::from(n));
    let fits = match (key.kind, value) {
        (Kind::Integer(least, most), Value::Uint32(n)) => (least..=most).contains(n),
        (Kind::Integers | Kind::Pattern, Value::Uint32(_)) => true,
        (Kind::Integers, Value::Array(array)) => {
            length(array)
                && match array {
                    Array::Uint32(_) => true,
                    Array::Int32(numbers) => numbers.iter().all(|n| *n >= 0),
                    _ => false,
                }
        }
        (Kind::Pattern, Value::Array(array)) => {
            array.len() as u64 <= u64::from(MAX_LAYERS)
                && matches!(array, Array::Bool(_) | Array::Uint32(_) | Array::Int32(_))
        }
        (Kind::Sections, Value::Array(Array::Int32(numbers))) => {
            numbers.iter().all(|n| *n >= 0) && are_sections(numbers)
        }
        (Kind::Sections, Value::Array(Array::Uint32(numbers))) => {
            numbers.iter().all(|n| i32::try_from(*n).is_ok()) && are_sections(numbers)
        }
        (Kind::Float, Value::Float32(number)) => number.is_finite(),
        (Kind::Positive, Value::Float32(number)) => number.is_finite() && *number > 0.0,
        (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::String(_)) => true,
        (Kind::OneOf(names), Value::String(name)) => {
            name.as_str().is_some_and(|name| names.contains(&name))
        }
        _ => false,
    };
    if !fits {
        let whole = format!("{}.{}", architecture.name, key.name);
        let expected = expected(key.kind, layers);
        problems.key(&whole, format!("is {}, expected {expected}", described(value)));
    }
}

fn expected(kind: Kind, layers: Option<u32>) -> String {
    let layers = layers.map_or_else(String::new, |n| format!("{n} "));
    match kind {
        Kind::Integer(0, u32::MAX) => "a UINT32".into(),
        Kind::Integer(1, u32::MAX) => "a positive UINT32".into(),
        Kind::Integer(least, most) => format!("a UINT32 from {least} to {most}"),
        Kind::Integers => format!("a UINT32, or an array of {layers}UINT32, one for each layer"),
        Kind::Float => "a finite FLOAT32".into(),
        Kind::Positive => "a positive FLOAT32".into(),
        Kind::Bool => "a BOOL".into(),
        Kind::Text => "a STRING".into(),
        Kind::OneOf(names) => format!("one of the STRINGs {}", names.join(", ")),
        Kind::Pattern => "a UINT32, or an array of BOOL, one for each layer".into(),
        Kind::Sections => "an array of 4 INT32, one of the first three positive".into(),
    }
}

/// Whether RoPE can share its angles among axes like this: ggml asserts it.
fn are_sections<T: Default + PartialEq>(numbers: &[T]) -> bool {
    numbers.len() == 4 && numbers.iter().take(3).any(|n| *n != T::default())
}
