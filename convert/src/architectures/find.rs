//! Which family a checkpoint is of.

use serde_json::Value;

use super::{Architecture, mistral_format};
use crate::{Config, Error, Result};

/// All families.
type Families = &'static [&'static Architecture];

/// The family of a configuration.
pub(super) fn find(families: Families, config: &Config) -> Result<&'static Architecture> {
    if config.is_mistral_format() {
        return Ok(mistral_format::find(config));
    }
    let family = of_class(families, config)?;
    Ok((family.variant)(config).unwrap_or(family))
}

fn of_class(families: Families, config: &Config) -> Result<&'static Architecture> {
    if config.get("architectures").is_none()
        && let Some(family) = by_type(families, config)
    {
        tracing::warn!(
            kind = "architecture",
            "config.json names no class in architectures: the model is converted as its \
             model_type says ({})",
            family.name
        );
        return Ok(family);
    }
    let class = config.class()?;
    let all = || families.iter().flat_map(|family| family.classes.iter().copied());
    let known = families.iter().find(|family| family.classes.contains(&class)).copied();
    let inside =
        text_model(families, config).filter(|_| known.is_none() || WRAPPERS.contains(&class));
    if let (None, Some(family)) = (known, inside) {
        tracing::warn!(
            kind = "text-model",
            "config.json: the class {} is not known; the text model inside is converted, as \
             text_config describes it ({})",
            crate::error::Quoted(class),
            family.name
        );
    }
    if let Some(family) = inside.or(known) {
        warn_of_type(families, config, class, family);
        return Ok(family);
    }
    if let Some(family) = of_body(families, class) {
        tracing::warn!(
            kind = "architecture",
            "config.json: {} is the class of a model without a head, as embedding models are saved; \
             it is converted as the one with a head of the same name ({})",
            crate::error::Quoted(class),
            family.name
        );
        return Ok(family);
    }
    let mut supported: Vec<_> = all().collect();
    supported.sort_unstable();
    let mut closest = supported.clone();
    closest.sort_by_cached_key(|known| (stem(known) != stem(class), distance(class, known)));
    closest.truncate(CLOSEST);
    Err(Error::Architecture {
        path: config.path().to_path_buf(),
        class: class.to_owned(),
        closest: closest.join(", "),
        supported: supported.join(", "),
    })
}

/// Warns of a class of transformers under the type of another architecture: transformers goes by the type,
/// unless the checkpoint brings its own code.
fn warn_of_type(families: Families, config: &Config, class: &str, family: &Architecture) {
    let is_its_own = |model_type: &str| {
        plain(stem(class)) == plain(model_type)
            || family.defaults.iter().any(|d| d.model_type == model_type)
    };
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    // Of classes with a type of their own name.
    let has_type = family.defaults.iter().any(|d| plain(d.model_type) == plain(stem(class)));
    if config.is_wrapper() || config.has("auto_map") || !has_type || is_its_own(model_type) {
        return;
    }
    if let Some(other) = by_type(families, config).filter(|other| other.name != family.name) {
        tracing::warn!(
            kind = "architecture",
            "config.json: the class is {}, but model_type is {}: the model is converted as its class \
             says ({}), transformers loads it as its type says ({}); correct the one that is wrong",
            crate::error::Quoted(class),
            crate::error::Quoted(model_type),
            family.name,
            other.name
        );
    }
}

/// A name without what spellings differ in.
fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "")
}

/// The family of a class without a head, such as `Phi3Model`, by the class that predicts tokens.
fn of_body(families: Families, class: &str) -> Option<&'static Architecture> {
    let stem = class.strip_suffix("Model").filter(|stem| !stem.is_empty())?;
    let heads = ["ForCausalLM", "LMHeadModel"].map(|head| format!("{stem}{head}"));
    let has_head = |family: &Architecture| {
        family.classes.iter().any(|known| heads.iter().any(|head| head == known))
    };
    families.iter().copied().find(|family| has_head(family))
}

/// A class's name without what the model is for.
fn stem(class: &str) -> &str {
    let name = class.split_once("For").map_or(class, |(name, _)| name);
    name.trim_end_matches("Model").trim_end_matches("LMHead")
}

/// Multimodal classes whose text model may be of several families. Where `text_config` names
/// neither a class nor a type, it is of the family that lists them.
const WRAPPERS: [&str; 4] = [
    "AudioFlamingo3ForConditionalGeneration",
    "LlavaForConditionalGeneration",
    "Qwen2AudioForConditionalGeneration",
    "VoxtralForConditionalGeneration",
];

/// The family of the text model inside a multimodal one, by the type that its configuration has.
fn text_model(families: Families, config: &Config) -> Option<&'static Architecture> {
    if config.is_wrapper() && !config.is_text_class() { by_type(families, config) } else { None }
}

/// The family of a type of model: of several that take its configuration the one whose class with a
/// head has the type's name, else the first.
fn by_type(families: Families, config: &Config) -> Option<&'static Architecture> {
    let model_type = config.get("model_type")?.as_str()?;
    let name = plain(model_type.trim_end_matches("_text"));
    let is_of = |family: &Architecture| family.defaults.iter().any(|d| d.model_type == model_type);
    let predicts = |class: &str| !class.ends_with("Model") && plain(stem(class)) == name;
    let is_named = |family: &Architecture| family.classes.iter().any(|class| predicts(class));
    let all = || families.iter().copied().filter(|family| is_of(family));
    all().find(|family| is_named(family)).or_else(|| all().next())
}

/// How many supported classes are named before the list of all.
const CLOSEST: usize = 3;

/// The number of letters to change, add or remove to make one name the other.
fn distance(a: &str, b: &str) -> usize {
    // A class name from a file may be of any length; what is beyond this is not a near miss.
    const LONGEST: usize = 128;
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            *cell = left;
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::ALL, *};

    fn find(config: &Config) -> Result<&'static Architecture> {
        super::find(ALL, config)
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn unknown_classes_get_the_closest_and_the_list() {
        let text = br#"{"architectures": ["MistralForCausalM"]}"#;
        let config = Config::parse("config.json", text).unwrap();
        let message = find(&config).unwrap_err().to_string();
        assert!(
            message.contains("\"MistralForCausalM\"")
                && message.contains("closest supported ones are MistralForCausalLM, ")
                && message.contains("LlamaForCausalLM"),
            "{message}"
        );
    }

    /// RND1, LLaMA-Embed and others take the configuration of a family that they were made from.
    #[test]
    fn a_type_is_that_of_the_family_of_its_name() {
        for (model_type, name) in [
            ("qwen3_moe", "qwen3moe"),
            ("llama", "llama"),
            ("mistral", "llama"),
            ("qwen2", "qwen2"),
            ("deepseek_v2", "deepseek2"),
            ("t5", "t5"),
            ("gemma3_text", "gemma3"),
            ("phi3", "phi3"),
        ] {
            for text in [
                format!(r#"{{"model_type": "{model_type}"}}"#),
                format!(
                    r#"{{"architectures": ["NewVisionModel"], "model_type": "new",
                        "text_config": {{"model_type": "{model_type}"}}, "vision_config": {{}}}}"#
                ),
            ] {
                let config = Config::parse("config.json", text.as_bytes()).unwrap();
                assert_eq!(find(&config).unwrap().name, name, "{text}");
            }
        }
    }

    #[test]
    fn classes_without_a_head_are_those_with_one() {
        let found = |class: &str| {
            let text = format!(r#"{{"architectures": ["{class}"]}}"#);
            let config = Config::parse("config.json", text.as_bytes()).unwrap();
            find(&config).map(|family| family.name).map_err(|error| error.to_string())
        };
        for (class, name) in [
            ("Phi3Model", "phi3"),
            ("Qwen3MoeModel", "qwen3moe"),
            ("GPT2Model", "gpt2"),
            ("Qwen3Model", "qwen3"),
            ("BertModel", "bert"),
        ] {
            assert_eq!(found(class), Ok(name));
        }
        for (class, closest) in [
            ("LlamaForSequenceClassification", "LlamaForCausalLM"),
            ("Phi3ForTokenClassification", "Phi3ForCausalLM"),
            ("Model", ""),
            ("NewModel", ""),
        ] {
            let message = found(class).unwrap_err();
            assert!(message.contains(&format!("ones are {closest}")), "{message}");
        }
    }

    /// The family of a configuration, and the configuration with what its class assumes.
    fn completed(text: &str) -> (&'static Architecture, Config) {
        let mut config = Config::parse("config.json", text.as_bytes()).unwrap();
        let family = find(&config).unwrap();
        family.complete(&mut config).unwrap();
        (family, config)
    }

    #[test]
    fn text_models_in_wrappers_may_leave_out_what_their_class_assumes() {
        // As published for LLaVA 1.5 and Pixtral.
        for (text, name, sizes) in [
            (
                r#"{"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
                    "text_config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                    "max_position_embeddings": 4096, "vocab_size": 32064}}"#,
                "llama",
                [32_064, 4096, 11_008, 32, 32, 32, 128],
            ),
            (
                r#"{"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
                    "text_config": {"model_type": "mistral", "hidden_size": 5120, "head_dim": 128,
                    "num_hidden_layers": 40, "vocab_size": 131072}}"#,
                "llama",
                [131_072, 5120, 14_336, 40, 32, 8, 128],
            ),
            (
                r#"{"architectures": ["PaliGemmaForConditionalGeneration"],
                    "text_config": {"model_type": "gemma", "hidden_size": 2048,
                    "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
                    "intermediate_size": 16384, "vocab_size": 257152}}"#,
                "gemma",
                [257_152, 2048, 16_384, 18, 8, 1, 256],
            ),
        ] {
            let (family, config) = completed(text);
            assert_eq!(family.name, name);
            let keys = [
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "head_dim",
            ];
            assert_eq!(keys.map(|key| config.require(key).unwrap()), sizes, "{text}");
        }
        // A text model by itself states them.
        let text = br#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#;
        let mut config = Config::parse("config.json", text).unwrap();
        assert!(find(&config).unwrap().complete(&mut config).is_err());
    }

    /// Classes of one family differ in what they assume, as of transformers 5.23.
    #[test]
    fn sizes_that_are_left_out_are_those_of_the_class() {
        for (text, sizes) in [
            (
                r#"{"architectures": ["GlmOcrForConditionalGeneration"],
                    "text_config": {"model_type": "glm_ocr_text"}}"#,
                [59_392, 1024, 4096, 16, 16, 8],
            ),
            (
                r#"{"architectures": ["Glm4vMoeForConditionalGeneration"],
                    "text_config": {"model_type": "glm4v_moe_text"}}"#,
                [151_424, 4096, 10_944, 46, 96, 8],
            ),
            (
                r#"{"architectures": ["Qwen3OmniMoeForConditionalGeneration"],
                    "thinker_config": {"text_config": {"model_type": "qwen3_omni_moe_text"}}}"#,
                [3584, 2048, 18_944, 28, 28, 4],
            ),
        ] {
            let (_, config) = completed(text);
            let keys = [
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
            ];
            assert_eq!(keys.map(|key| config.require(key).unwrap()), sizes, "{text}");
        }
    }

    #[test]
    fn the_text_model_decides_what_a_wrapper_is() {
        let family = |text: &str| {
            let config = Config::parse("config.json", text.as_bytes()).unwrap();
            find(&config).map(|family| family.name).map_err(|error| error.to_string())
        };
        let wrapper = |class: &str, inner: &str| {
            format!(
                r#"{{"architectures": ["{class}"], "model_type": "x", "text_config": {inner}}}"#
            )
        };
        let qwen2 = r#"{"model_type": "qwen2"}"#;
        assert_eq!(family(&wrapper("LlavaForConditionalGeneration", qwen2)).unwrap(), "qwen2");
        assert_eq!(family(&wrapper("NewVLModel", qwen2)).unwrap(), "qwen2");
        let named = r#"{"model_type": "x", "architectures": ["Qwen3ForCausalLM"]}"#;
        assert_eq!(family(&wrapper("LlavaForConditionalGeneration", named)).unwrap(), "qwen3");
        // Whose graph is another though its text model has a known type.
        let mistral = r#"{"model_type": "mistral"}"#;
        let class = "Mistral3ForConditionalGeneration";
        assert_eq!(family(&wrapper(class, mistral)).unwrap(), "mistral3");
        assert_eq!(family(&wrapper("VoxtralForConditionalGeneration", "{}")).unwrap(), "llama");
        let message = family(&wrapper("NewVLModel", r#"{"model_type": "new"}"#)).unwrap_err();
        assert!(message.contains("\"NewVLModel\" is not supported"), "{message}");
        // A class that nobody knows may be another graph whatever its type.
        let message = family(r#"{"architectures": ["NewModel"], "model_type": "qwen2"}"#);
        assert!(message.unwrap_err().contains("is not supported"));
        // Where there is no class at all, the type tells, as in transformers.
        assert_eq!(family(r#"{"architectures": null, "model_type": "qwen2"}"#).unwrap(), "qwen2");
        assert_eq!(
            family(&wrapper("x", r#"{"model_type": "qwen3", "architectures": []}"#)).unwrap(),
            "qwen3"
        );
        let message = family(r#"{"model_type": "new"}"#).unwrap_err();
        assert!(message.contains("key \"architectures\" is missing"), "{message}");
    }
}
