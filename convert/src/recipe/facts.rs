//! The few facts about a model that the mixes depend on.

use gguf_io::metadata::{Array, Metadata, Value};
use gguf_model::{MAX_EXPERTS, MAX_LAYERS};

use super::Error;

/// What the mixes ask about a model, besides its tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`, e.g. `llama`.
    pub arch: String,
    /// All layers, those that predict further tokens included (`block_count`).
    pub layers: u32,
    /// How many of them predict further tokens (`nextn_predict_layers`).
    pub nextn_layers: u32,
    /// Attention heads of the first layer; 0 if the model has none.
    pub heads: u32,
    /// Key-value heads of the first layer.
    pub kv_heads: u32,
    /// Experts in a mixture-of-experts layer, 0 in a dense model.
    pub experts: u32,
}

/// Models whose size class is 70B: architecture, layers, whether heads must differ from
/// key-value heads. Their `attn_v` is small and gets more bits.
const SEVENTY_B: &[(&str, u32, bool)] = &[
    ("llama", 80, true),
    ("llama-embed", 80, true),
    ("deci", 80, false),
    ("qwen2", 80, false),
    ("olmo", 80, false),
    ("jais2", 68, false),
];

impl ModelFacts {
    /// Reads the facts from a model's metadata: before layers are pruned, and after
    /// `--override-kv` has been applied, as the reference does.
    ///
    /// # Errors
    /// [`Error::MissingKey`] and [`Error::BadValue`]; metadata may come from a hostile file.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        const ARCH: &str = "general.architecture";
        let arch = match metadata.get(ARCH) {
            Some(value) => value
                .as_str()
                .filter(|arch| !arch.is_empty())
                .ok_or_else(|| bad_value(ARCH, value, "the name of an architecture"))?,
            None => return Err(Error::MissingKey { key: ARCH.into() }),
        };
        // Vision and audio towers have no decoder: nothing further is read.
        if arch == "clip" {
            return Ok(Self { arch: arch.into(), ..Self::default() });
        }

        let reader = Reader { metadata, arch };
        let layers = reader.scalar("block_count", 1, MAX_LAYERS)?;
        let layers = layers.ok_or_else(|| Error::MissingKey { key: reader.key("block_count") })?;
        let nextn_layers = reader.scalar("nextn_predict_layers", 0, layers)?;
        let heads = reader.first_layer("attention.head_count", layers)?.unwrap_or(0);
        let kv_heads = reader.first_layer("attention.head_count_kv", layers)?;
        let experts = reader.scalar("expert_count", 0, MAX_EXPERTS)?;
        Ok(Self {
            arch: arch.into(),
            layers,
            nextn_layers: nextn_layers.unwrap_or(0),
            heads,
            kv_heads: kv_heads.unwrap_or(heads),
            experts: experts.unwrap_or(0),
        })
    }

    /// Query heads that share a key-value head, rounded down; 0 if there are no key-value heads.
    pub fn heads_per_kv(&self) -> u32 {
        self.heads.checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Whether this is a model of the 70B class, whose `attn_v` is kept at more bits.
    pub fn is_70b(&self) -> bool {
        let main_layers = self.layers.saturating_sub(self.nextn_layers);
        // A Llama of eight experts is classed by its experts instead.
        let classed_by_experts = self.experts == 8 && self.arch.starts_with("llama");
        !classed_by_experts
            && SEVENTY_B.iter().any(|&(arch, layers, shares_kv)| {
                self.arch == arch
                    && main_layers == layers
                    && (!shares_kv || self.heads != self.kv_heads)
            })
    }
}

/// Access to the keys under an architecture's prefix.
struct Reader<'a> {
    metadata: &'a Metadata,
    arch: &'a str,
}

impl Reader<'_> {
    /// The whole key: the file's own spelling, which error messages shorten.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    /// An integer in a range, if the key is there.
    fn scalar(&self, name: &str, min: u32, max: u32) -> Result<Option<u32>, Error> {
        let key = self.key(name);
        let Some(value) = self.metadata.get(&key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        number
            .filter(|n| (min..=max).contains(n))
            .map(Some)
            .ok_or_else(|| bad_value(&key, value, &format!("an integer from {min} to {max}")))
    }

    /// The first layer's value of a key that holds one integer, or one for each layer.
    fn first_layer(&self, name: &str, layers: u32) -> Result<Option<u32>, Error> {
        let key = self.key(name);
        let Some(Value::Array(array)) = self.metadata.get(&key) else {
            return self.scalar(name, 0, u32::MAX);
        };
        let expected = || format!("an integer, or {layers} integers, none negative");
        let first = first_integer(array)
            .filter(|_| u32::try_from(array.len()) == Ok(layers))
            .ok_or_else(|| Error::BadValue {
                key: key.clone(),
                found: format!("an array of {} {}", array.len(), array.element_type().name()),
                expected: expected(),
            })?;
        Ok(Some(first))
    }
}

fn first_integer(array: &Array) -> Option<u32> {
    match array {
        Array::Uint8(v) => v.first().map(|&n| n.into()),
        Array::Int8(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::Uint16(v) => v.first().map(|&n| n.into()),
        Array::Int16(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::Uint32(v) => v.first().copied(),
        Array::Int32(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::Uint64(v) => v.first().and_then(|&n| n.try_into().ok()),
        Array::Int64(v) => v.first().and_then(|&n| n.try_into().ok()),
        _ => None,
    }
}

fn bad_value(key: &str, found: &Value, expected: &str) -> Error {
    let found = match found {
        Value::Array(array) => {
            format!("an array of {} {}", array.len(), array.element_type().name())
        }
        Value::String(_) => "a string".into(),
        other => match other.as_u64() {
            Some(n) => n.to_string(),
            None => format!("{other:?}"),
        },
    };
    Error::BadValue { key: key.into(), found, expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: Vec<(&str, Value)>) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", "llama");
        for (key, value) in pairs {
            metadata.insert(key, value);
        }
        metadata
    }

    #[test]
    fn optional_keys_have_defaults() {
        let facts = ModelFacts::from_metadata(&metadata(vec![
            ("llama.block_count", 3u32.into()),
            ("llama.attention.head_count", vec![8i32, 4, 2].into()),
        ]))
        .unwrap();
        assert_eq!((facts.layers, facts.heads, facts.kv_heads, facts.experts), (3, 8, 8, 0));
        let facts = ModelFacts::from_metadata(&metadata(vec![
            ("llama.block_count", 1u32.into()),
            ("llama.attention.head_count", 8u32.into()),
            ("llama.attention.head_count_kv", 0u32.into()),
        ]))
        .unwrap();
        assert_eq!(facts.heads_per_kv(), 0);
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let refused = |key: &str, value: Value| {
            let mut metadata = metadata(vec![("llama.block_count", 2u32.into())]);
            metadata.insert(key, value);
            let error = ModelFacts::from_metadata(&metadata).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        };
        refused("general.architecture", "".into());
        refused("general.architecture", 3u32.into());
        refused("general.architecture", vec![0xffu8].into());
        refused("llama.block_count", 0u32.into());
        refused("llama.block_count", 513u32.into());
        refused("llama.block_count", "2".into());
        refused("llama.expert_count", u64::MAX.into());
        refused("llama.nextn_predict_layers", 3u32.into());
        refused("llama.attention.head_count", (-1i32).into());
        refused("llama.attention.head_count", vec![1u32].into());
        refused("llama.attention.head_count_kv", vec![-1i64, 2].into());
        refused("llama.attention.head_count_kv", vec![1.0f32, 2.0].into());
        assert!(matches!(
            ModelFacts::from_metadata(&Metadata::new()),
            Err(Error::MissingKey { .. })
        ));
        assert!(matches!(
            ModelFacts::from_metadata(&metadata(vec![])),
            Err(Error::MissingKey { .. })
        ));
    }
}
