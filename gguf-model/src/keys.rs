//! Keys, the values that they may have, and those that every architecture has.

use gguf_io::metadata::{Array, Value};

use crate::{
    problem::{Problems, described},
    vocabulary,
};

/// A metadata key, without the architecture in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// E.g. `attention.head_count`.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Whether loaders refuse a file without it. A key that gives the size of a tensor is needed
    /// wherever that tensor is, without being required here.
    pub required: bool,
}

impl Key {
    /// A key that loaders refuse to go without.
    pub(crate) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }

    /// A key that may be missing.
    pub(crate) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }
}

/// The type of a key's value. llama.cpp takes no other, not even a wider integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// UINT32 within these bounds.
    Integer(u32, u32),
    /// UINT32, or an array of UINT32 or INT32, one for each layer.
    Integers,
    /// FLOAT32.
    Float,
    /// FLOAT32 that is finite and positive.
    Positive,
    /// BOOL.
    Bool,
    /// STRING.
    Text,
    /// STRING that is one of these.
    OneOf(&'static [&'static str]),
    /// Which layers slide: every n-th (UINT32), or an array of BOOL, UINT32 or INT32.
    Pattern,
    /// Array of four INT32 or UINT32, none negative and one of the first three positive.
    Sections,
}

impl Kind {
    /// UINT32 of any value.
    pub(crate) const COUNT: Self = Self::Integer(0, u32::MAX);

    /// The kind of a key of the tokenizer that holds one number or flag. The name is the part below
    /// `tokenizer.ggml.`.
    ///
    /// ```
    /// use gguf_model::Kind;
    ///
    /// assert_eq!(Kind::of_tokenizer_key("add_bos_token"), Some(Kind::Bool));
    /// assert_eq!(Kind::of_tokenizer_key("tokens"), None);
    /// ```
    pub fn of_tokenizer_key(name: &str) -> Option<Self> {
        match name {
            "token_type_count" => Some(Self::COUNT),
            _ if name.ends_with("_token_id") => Some(Self::COUNT),
            _ => vocabulary::FLAGS.contains(&name).then_some(Self::Bool),
        }
    }
}

/// Most layers a model may have; llama.cpp refuses more.
pub const MAX_LAYERS: u32 = 512;
/// Most experts a layer may have; llama.cpp refuses more.
pub const MAX_EXPERTS: u32 = 1024;

/// Every how many layers one attends where a file does not say so (`full_attention_interval`).
pub(crate) const ATTENDING: u32 = 4;

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

impl Key {
    /// Checks the value of the key in a model of an architecture with so many layers.
    pub(crate) fn check(
        self,
        architecture: &str,
        value: Option<&Value>,
        layers: Option<u32>,
        problems: &mut Problems,
    ) {
        let Some(value) = value else {
            if self.required {
                problems.missing_key(
                    &format!("{architecture}.{}", self.name),
                    &expected(self.kind, layers),
                );
            }
            return;
        };
        let length = |array: &Array| layers.is_none_or(|n| array.len() as u64 == u64::from(n));
        let fits = match (self.kind, value) {
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
            let whole = format!("{architecture}.{}", self.name);
            let expected = expected(self.kind, layers);
            problems.key(&whole, format!("is {}, expected {expected}", described(value)));
        }
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
