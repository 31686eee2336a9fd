//! Checkpoints that look like those that are read and are not: named, with the way out.
//!
//! Looked at when a checkpoint has been refused, so that what this version reads is never in the
//! way.

use std::path::Path;

use gguf_io::{Checkpoint, Dtype, Limits};
use quant_weights::Error as Unread;
use serde_json::Value;

use crate::{Config, Error, error::Quoted};

const ORIGINAL: &str =
    "take the original checkpoint, which the model's authors usually publish too";
const MLX_HELP: &str = "write the weights out with mlx_lm (mlx_lm.convert --hf-path DIR --mlx-path \
    OUT --dequantize), or take the original checkpoint";
const TEXT_MODEL: &str = "a language model in the Hugging Face format";

/// A better error for the checkpoint in `dir`, if it is recognised as something else.
pub(crate) fn explain(dir: &Path, error: Error) -> Error {
    match &error {
        Error::Architecture { .. } | Error::Config { .. } => match Config::read(dir) {
            Ok(config) => of_class(&config, error),
            Err(_) => error,
        },
        // MLX gives its quantization no name, but its layers tell.
        Error::Read(Unread::Quantization { key, .. }) if key.contains("quant_method") => {
            match Config::read(dir) {
                Ok(config) => of_weights(dir).unwrap_or_else(|| of_quantization(&config, error)),
                Err(_) => error,
            }
        }
        Error::Weights { .. } => of_weights(dir).unwrap_or(error),
        _ => error,
    }
}

/// A kind of model by the names of its classes.
struct Kind {
    is: fn(&str) -> bool,
    found: &'static str,
    help: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        is: |class| {
            let encoders = ["CLIP", "Siglip", "SigLIP", "ViT", "Dinov", "DINO", "ConvNext", "Swin"];
            class.contains("Vision") && class.ends_with("Model")
                || class.contains("VisionModelWithProjection")
                || class.ends_with("ForImageClassification")
                || class.ends_with("ImageProcessor")
                || encoders.iter().any(|name| class.starts_with(name))
        },
        found: "an encoder of images on its own",
        help: "give the checkpoint of the language model, or of the multimodal model as a whole",
    },
    Kind {
        is: |class| {
            class.starts_with("Whisper")
                || class.starts_with("Wav2Vec2")
                || class.starts_with("Hubert")
                || class.ends_with("ForCTC")
                || class.ends_with("ForSpeechSeq2Seq")
        },
        found: "a model that reads speech",
        help: "for Whisper use the converter of whisper.cpp",
    },
    Kind {
        is: |class| {
            class.starts_with("UNet")
                || class.starts_with("Autoencoder")
                || class.ends_with("Transformer2DModel")
                || class.ends_with("Transformer3DModel")
                || class.ends_with("Pipeline")
        },
        found: "a part of a pipeline of diffusers, which makes images",
        help: "use the converter of stable-diffusion.cpp; a text encoder alone can be converted",
    },
];

/// What the class of a checkpoint, or what it has instead, tells about it.
fn of_class(config: &Config, error: Error) -> Error {
    let other = |found: String, expected, help| Error::OtherModel {
        path: config.path().to_path_buf(),
        found,
        expected,
        help,
    };
    let text = |key| config.get(key).and_then(Value::as_str);
    let class = match &error {
        Error::Architecture { class, .. } => Some(class.as_str()),
        // A configuration without a class of transformers.
        Error::Config { key, .. } if key == "architectures" => text("_class_name"),
        _ => return error,
    };
    if let Some(class) = class {
        return match KINDS.iter().find(|kind| (kind.is)(class)) {
            Some(kind) => {
                other(format!("{} (class {})", kind.found, Quoted(class)), TEXT_MODEL, kind.help)
            }
            None if config.get("_diffusers_version").is_some() => {
                let found = format!("a part of a pipeline of diffusers (class {})", Quoted(class));
                other(found, TEXT_MODEL, "use the converter of stable-diffusion.cpp")
            }
            None => error,
        };
    }
    let sentence = ["word_embedding_dimension", "pooling_mode_mean_tokens", "activation_function"];
    if config.get("peft_type").is_some() {
        let help = "merge it into its base model first (merge_and_unload of peft)";
        other("a LoRA adapter, not a model".into(), TEXT_MODEL, help)
    } else if config.get("architectures").is_none()
        && config.get("model_type").is_none()
        && sentence.iter().any(|key| config.get(key).is_some())
    {
        let found = "a module of a sentence-transformers model, such as its pooling";
        other(found.into(), TEXT_MODEL, "give the folder above, which holds modules.json")
    } else if config.get("pretrained_config").is_some() || config.get("build_config").is_some() {
        let found = "a TensorRT-LLM engine, made for one model of GPU";
        other(found.into(), TEXT_MODEL, ORIGINAL)
    } else {
        error
    }
}

/// Quantizations that are not read, under the names that config.json has for them, with the way
/// out.
const METHODS: &[(&str, &str, &str)] = &[
    (
        "bitsandbytes",
        "codes of bitsandbytes without what belongs to them",
        "remove the key if the weights are floats; else take the original checkpoint, or write the \
         weights out with transformers: \
         AutoModelForCausalLM.from_pretrained('DIR').dequantize().save_pretrained('OUT')",
    ),
    ("exl2", "codes of ExLlamaV2 (EXL2), of a width that varies inside a layer", ORIGINAL),
    ("exl3", "codes of ExLlamaV3 (EXL3), a trellis code", ORIGINAL),
    ("aqlm", "codes of AQLM, which point into learned codebooks", ORIGINAL),
    ("quip", "codes of QuIP#, which point into a lattice", ORIGINAL),
    ("vptq", "codes of VPTQ, which point into learned codebooks", ORIGINAL),
    ("spqr", "codes of SpQR with sparse outliers", ORIGINAL),
    ("higgs", "codes of HIGGS, which point into a grid after a rotation", ORIGINAL),
    (
        "hqq",
        "codes of HQQ in a layout of its own",
        "take the original checkpoint, or write the weights out with hqq (dequantize each layer)",
    ),
    (
        "torchao",
        "tensor classes of torchao, which are pickled",
        "take the original checkpoint, or write plain weights where torchao is installed",
    ),
    (
        "quanto",
        "codes of optimum-quanto in a layout of its own",
        "take the original checkpoint, or write the weights out with optimum-quanto (dequantize)",
    ),
    ("eetq", "codes of EETQ, arranged for its GPU kernels", ORIGINAL),
    ("marlin", "codes arranged for the Marlin GPU kernel", ORIGINAL),
    (
        "bitnet",
        "packed ternary weights of BitNet",
        "take the checkpoint with BF16 weights, which the authors publish too; TQ1_0 and TQ2_0 \
         hold its weights as they are",
    ),
];

/// Says whose a quantization is that is not read.
fn of_quantization(config: &Config, error: Error) -> Error {
    let Error::Read(Unread::Quantization { path, key, expected, .. }) = &error else {
        return error;
    };
    let name = config.get("quantization_config").and_then(|object| object.get("quant_method"));
    let settings = config.get("quantization_config");
    let has = |key: &str| settings.is_some_and(|settings| settings.get(key).is_some());
    let name = match name.and_then(Value::as_str) {
        Some(name) => name,
        // As transformers reads files older than the key.
        None if has("load_in_4bit") || has("load_in_8bit") => "bitsandbytes",
        None => "",
    };
    let method = name.to_lowercase();
    let known = METHODS.iter().find(|(known, ..)| method.starts_with(known));
    match known {
        Some((_, what, help)) => Error::Read(Unread::Quantization {
            path: path.clone(),
            key: key.clone(),
            found: format!("{} ({what})", Quoted(name)),
            expected: expected.clone(),
            help,
        }),
        None => error,
    }
}

/// The first layer that MLX packed without a word about it in config.json: codes in words of 32
/// bits, with scales beside them.
fn of_weights(dir: &Path) -> Option<Error> {
    let checkpoint = Checkpoint::open(dir, &Limits::default()).ok()?;
    let packed = |name: &str| {
        let module = name.strip_suffix(".weight")?;
        checkpoint.tensors.get(&format!("{module}.scales"))
    };
    let (name, tensor) = checkpoint
        .tensors
        .iter()
        .find(|(name, tensor)| tensor.dtype == Dtype::U32 && packed(name).is_some())?;
    let path = checkpoint.files.get(tensor.file).map(|file| file.path().to_path_buf());
    Some(Error::Read(Unread::Packed {
        path: path.unwrap_or_default(),
        tensor: name.clone(),
        found: "codes of MLX in words of 32 bits, with scales beside them".into(),
        expected: "weights".into(),
        help: MLX_HELP,
    }))
}
