//! Another pre-tokenizer for a GGUF file.

use std::path::Path;

use gguf_io::metadata::Metadata;

use super::pre;
use crate::{Error, Result, error::Quoted};

/// Sets the name of the pre-tokenizer in the metadata of a GGUF file.
///
/// # Errors
/// [`Error::PreTokenizerName`] for a name that llama.cpp does not know, [`Error::Tokenizer`] if the
/// file's vocabulary is not byte-level BPE, which alone has a pre-tokenizer.
pub(crate) fn set_pre_tokenizer(path: &Path, name: &str, metadata: &mut Metadata) -> Result<()> {
    const MODEL: &str = "tokenizer.ggml.model";
    pre::check_name(name)?;
    let found = match metadata.get(MODEL) {
        Some(value) if value.as_str() == Some("gpt2") => {
            metadata.insert("tokenizer.ggml.pre", name);
            return Ok(());
        }
        Some(value) => value.as_str().map_or("no text".into(), |text| Quoted(text).to_string()),
        None => "nothing".into(),
    };
    Err(Error::Tokenizer {
        path: path.into(),
        place: format!("key {}", Quoted(MODEL)),
        found,
        expected: format!("\"gpt2\", byte-level BPE, for the pre-tokenizer {name}"),
        help: "llama.cpp has pre-tokenizers for byte-level BPE alone; leave out `pre_tokenizer`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_byte_level_bpe_gets_another_pre_tokenizer_llama_cpp_7627() {
        let set = |model: &str, name: &str| {
            let mut metadata = Metadata::new();
            metadata.insert("tokenizer.ggml.model", model);
            metadata.insert("tokenizer.ggml.pre", "default");
            let done = set_pre_tokenizer(Path::new("m.gguf"), name, &mut metadata);
            let text = done.map_or_else(|error| error.to_string(), |()| String::new());
            (text, metadata.get_str("tokenizer.ggml.pre").map(str::to_owned))
        };
        assert_eq!(set("gpt2", "qwen2"), (String::new(), Some("qwen2".into())));
        let (error, pre) = set("gpt2", "nonsense");
        assert!(error.starts_with("pre-tokenizer \"nonsense\" is unknown"), "{error}");
        assert_eq!(pre.as_deref(), Some("default"));
        for model in ["llama", "bert", "t5"] {
            let (error, pre) = set(model, "qwen2");
            assert!(error.starts_with("m.gguf: key \"tokenizer.ggml.model\": found"), "{error}");
            assert_eq!(pre.as_deref(), Some("default"));
        }
    }
}
