//! Folders without weights that are read: what they hold instead, and the way out.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::shards::few;
use crate::{
    Error, SourceFile,
    error::{Quoted, one_line},
    sniff::{self, PICKLE_HELP},
};

const ORIGINAL: &str =
    "take the model's original checkpoint: config.json with model.safetensors or its shards";
pub(super) const ADAPTER: &str = "adapter_config.json";
const ADAPTER_HELP: &str = "merge it into its base model first, and convert that: python -c \
    \"import peft; peft.AutoPeftModelForCausalLM.from_pretrained('ADAPTER').merge_and_unload()\
    .save_pretrained('OUT')\"";

const MLX_ADAPTER_HELP: &str = "merge it into its base model first, and convert that: \
    mlx_lm.fuse --model BASE --adapter-path ADAPTER --save-path OUT --dequantize";

/// Something that is told by the names of its files.
struct Neighbour {
    /// Whether a file belongs to it; the names are in lower case.
    is: fn(&str) -> bool,
    found: &'static str,
    help: &'static str,
}

/// In the order in which they are looked for: what tells most comes first.
const NEIGHBOURS: &[Neighbour] = &[
    Neighbour {
        is: |name| name == "model_index.json",
        found: "a pipeline of diffusers, which makes images, not text",
        help: "its text encoder alone can be converted: give the folder text_encoder in it",
    },
    Neighbour {
        is: |name| name.starts_with("consolidated") && name.ends_with(".pth"),
        found: "a checkpoint in Meta's own format",
        help: "take the form of it for transformers (Hugging Face), with config.json and \
               model*.safetensors, or make that with transformers' convert_llama_weights_to_hf.py",
    },
    Neighbour {
        is: |name| {
            (name.starts_with("consolidated") && name.ends_with(".safetensors"))
                || name == "params.json"
        },
        found: "a checkpoint in Mistral's own format",
        help: "take the form of it for transformers (Hugging Face), with config.json and \
               model*.safetensors: it is in the same repository, or in one that ends in -hf",
    },
    Neighbour {
        is: is_model_gguf,
        found: "a folder with GGUF files",
        help: "give the path of the file; of a split model, that of the first shard",
    },
    Neighbour {
        is: |name| sniff::unfinished(Path::new(name)).is_some(),
        found: "a folder with a download that is not finished or with pieces of a file",
        help: "finish the download, or download again; join pieces with cat, in their order",
    },
    Neighbour {
        is: |name| name == "zero_to_fp32.py" || name.starts_with("global_step"),
        found: "a checkpoint of a training run with DeepSpeed",
        help: "make weights of it: python zero_to_fp32.py DIR OUT --safe_serialization",
    },
    Neighbour {
        is: |name| name.ends_with(".distcp"),
        found: "a distributed checkpoint of PyTorch",
        help: "load it where the model was trained and write it with save_pretrained",
    },
    Neighbour {
        is: |name| {
            (name.starts_with("pytorch_model") && name.ends_with(".bin"))
                || [".pt", ".pth", ".ckpt"].into_iter().any(|ending| name.ends_with(ending))
        },
        found: "a folder with weights only as PyTorch pickles",
        help: PICKLE_HELP,
    },
    Neighbour {
        is: |name| name.ends_with(".nemo"),
        found: "a folder with a NeMo archive",
        help: "take the model in the Hugging Face format, or convert it with NeMo's exporter",
    },
    Neighbour {
        is: |name| name.ends_with(".engine") || name.ends_with(".plan"),
        found: "a folder with TensorRT engines, made for one model of GPU",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| name.ends_with(".onnx") || name == "onnx",
        found: "a folder with an ONNX model",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| name == "openvino_model.xml" || name == "openvino_model.bin",
        found: "a folder with an OpenVINO model",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| {
            [".h5", ".msgpack", ".pb", ".tflite", ".keras"]
                .into_iter()
                .any(|ending| name.ends_with(ending))
                || name.ends_with(".ckpt.index")
        },
        found: "a folder with TensorFlow or Flax weights",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| {
            [".mlpackage", ".mlmodel", ".mlmodelc"].into_iter().any(|end| name.ends_with(end))
                || name == "coreml"
        },
        found: "a folder with a Core ML model",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| name.contains("lora") && name.ends_with(".safetensors"),
        found: "a LoRA adapter for an image model",
        help: "merge it into its base model with the program that made it",
    },
    Neighbour {
        is: |name| name.ends_with(".safetensors"),
        found: "a folder whose safetensors files are not named as weights are",
        help: "rename the file to model.safetensors if it holds the whole model, shards to \
               model-00001-of-00002.safetensors and so on, or take the checkpoint again with its \
               index",
    },
    Neighbour {
        is: |name| name == "manifests",
        found: "a store of Ollama",
        help: "the largest of its blobs are GGUF files: give the path of one",
    },
    Neighbour {
        is: |name| name.starts_with("ggml-") && name.ends_with(".bin"),
        found: "a folder with files in the GGML format of before GGUF",
        help: "no current program reads these; take the model's original checkpoint, or a GGUF file",
    },
    Neighbour {
        is: |name| name == "mlc-chat-config.json" || name.starts_with("params_shard_"),
        found: "a model compiled for MLC",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| name.ends_with(".npz"),
        found: "a folder with weights of MLX or NumPy in .npz files",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| name.ends_with(".ot"),
        found: "a folder with weights for rust-bert",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| [".zip", ".tar", ".tar.gz", ".tgz", ".7z"].iter().any(|end| name.ends_with(end)),
        found: "a folder with an archive, which is not unpacked",
        help: "unpack it and give the folder with config.json",
    },
    Neighbour {
        is: |name| name == "model.bin",
        found: "a folder with model.bin, as CTranslate2 writes it",
        help: ORIGINAL,
    },
    Neighbour {
        is: |name| {
            name.starts_with("tokenizer.")
                || ["tokenizer_config.json", "vocab.json", "vocab.txt", "tekken.json"]
                    .contains(&name)
        },
        found: "a folder with a tokenizer, without weights",
        help: "give the folder with config.json, the weights and the tokenizer; download those \
               that are missing",
    },
    Neighbour {
        is: |name| name == "config.json",
        found: "a folder without weights, with config.json only",
        help: "download the weights as well",
    },
];

/// The error for a folder without weights.
pub(super) fn folder(dir: &Path, names: &BTreeSet<String>) -> Error {
    let error = |found, help| Error::NotAModel {
        path: dir.into(),
        found,
        expected: "a folder with config.json and safetensors weights (model.safetensors or shards)",
        help,
    };
    if let Some((adapter, help)) = adapter(dir, names) {
        return error(adapter, help);
    }
    if is_module(dir, names) {
        return error(
            "a module of a sentence-transformers model, such as its pooling".to_owned(),
            "give the folder above, which holds modules.json",
        );
    }
    if let Some(quantizer) = exllama(dir) {
        return error(format!("a checkpoint quantized for ExLlama ({quantizer})"), ORIGINAL);
    }
    if is_incomplete_snapshot(dir) {
        return error(
            "a snapshot of the Hugging Face cache that is not complete".to_owned(),
            "the download did not finish, download the model again",
        );
    }
    for Neighbour { is, found, help } in NEIGHBOURS {
        let there: Vec<_> = names
            .iter()
            .map(String::as_str)
            .filter(|name| !name.starts_with('.') && is(&name.to_lowercase()))
            .collect();
        if !there.is_empty() {
            return error(format!("{found} ({})", few(&there)), help);
        }
    }
    if dir.ends_with("blobs") && dir.with_file_name("snapshots").is_dir() {
        let help = "give the folder above, whose name begins with models--";
        return error("the store of files of the Hugging Face cache".to_owned(), help);
    }
    if names.contains("blobs") && names.contains("refs") {
        let help = "the download did not finish, download the model again";
        let found = "a folder of the Hugging Face cache without a snapshot";
        return error(found.to_owned(), help);
    }
    if names.contains("hub") {
        let help = "give the folder of one model in it: hub/models--ORG--NAME";
        return error("the folder of the Hugging Face cache".to_owned(), help);
    }
    error("a folder without weights".to_owned(), "give the folder that holds them, or a GGUF file")
}

/// Whether this is a snapshot of the Hugging Face cache and a file of its repository was not
/// downloaded to the end, which leaves a part of it among the blobs.
fn is_incomplete_snapshot(dir: &Path) -> bool {
    let Some(snapshots) = dir.parent().filter(|parent| parent.ends_with("snapshots")) else {
        return false;
    };
    let blobs = snapshots.with_file_name("blobs");
    let names = super::folder::names(&blobs).unwrap_or_default();
    names.iter().any(|name| name.ends_with(".incomplete"))
}

/// Whether a name, in lower case, is that of a GGUF model.
pub(super) fn is_model_gguf(name: &str) -> bool {
    name.ends_with(".gguf") && !name.contains("imatrix")
}

/// Whether a folder without weights of a model is that of an adapter.
pub(super) fn is_adapter(names: &BTreeSet<String>) -> bool {
    adapter_file(names).is_some()
}

fn adapter_file(names: &BTreeSet<String>) -> Option<&str> {
    let of_adapter = |name: &&String| {
        name.starts_with("adapter_model.") || name.starts_with("adapters.") || **name == ADAPTER
    };
    names.iter().find(of_adapter).map(String::as_str)
}

/// What an adapter is, if this is the folder of one, with the model it belongs to, and what to do.
fn adapter(dir: &Path, names: &BTreeSet<String>) -> Option<(String, &'static str)> {
    let file = adapter_file(names)?;
    let config = settings(&dir.join(ADAPTER));
    let base = config.get("base_model_name_or_path").and_then(Value::as_str);
    let base = base.map(|base| format!(" for the model {}", Quoted(&one_line(base))));
    let kind = match config.get("peft_type").and_then(Value::as_str) {
        Some(kind) if !kind.to_lowercase().contains("lora") => "an adapter of PEFT",
        _ => "a LoRA adapter",
    };
    let found = format!("{kind}{} ({}), not a model", base.unwrap_or_default(), Quoted(file));
    let of_mlx = names.iter().any(|name| name.starts_with("adapters."))
        || config.get("fine_tune_type").is_some();
    Some((found, if of_mlx { MLX_ADAPTER_HELP } else { ADAPTER_HELP }))
}

/// Whether this is the folder of one module of a sentence-transformers model.
fn is_module(dir: &Path, names: &BTreeSet<String>) -> bool {
    names.contains("config.json") && {
        let config = settings(&dir.join("config.json"));
        config.get("architectures").is_none() && config.get("word_embedding_dimension").is_some()
    }
}

/// EXL2 or EXL3, whose weights have names of their own (`output.safetensors`).
fn exllama(dir: &Path) -> Option<&'static str> {
    let config = settings(&dir.join("config.json"));
    let method = config.get("quantization_config")?.get("quant_method")?.as_str()?;
    ["exl2", "exl3"].into_iter().find(|known| method.eq_ignore_ascii_case(known))
}

/// A small JSON file, as far as it can be read: it only serves to word a message.
fn settings(path: &Path) -> Value {
    /// Bytes of a file with a few dozen settings.
    const LONGEST: u64 = 1 << 20;
    let text = SourceFile::open(path).and_then(|file| file.read_all(LONGEST));
    text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}
