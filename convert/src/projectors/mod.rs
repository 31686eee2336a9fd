//! Projectors of multimodal models: the encoders of images and sound, and what carries their output
//! into the text model, as a file of their own (`mmproj`).
//!
//! A projector is one file that declares a [`Projector`], listed in [`ALL`]. Its encoders are described
//! as families are: hyper-parameters, and rules for tensors. An encoder reads its own block of
//! config.json; under names with blanks, which no file can set, it finds what else it depends on: keys
//! of the whole model (`whole KEY`), of its text model (`text KEY`) and of the preprocessor
//! (`preprocessor KEY`), and the width of the text model.

mod batch_norm;
mod cogvlm;
mod deepseek_ocr;
mod dots_ocr;
mod gemma3;
mod gemma4;
mod glm4v;
mod granite_speech;
mod hunyuan_vl;
mod idefics3;
mod internvl;
mod janus;
mod kimi;
mod lfm2;
mod ling3vl;
mod llama4;
mod minicpmv;
mod minimax_m3;
mod paddleocr;
mod pixtral;
mod qwen2vl;
mod qwen3vl;
mod qwen_omni;
mod reading;
mod shared;
mod step3vl;
mod whisper;
mod youtu;

use std::path::Path;

use gguf_io::metadata::Metadata;
use serde_json::Value;

use crate::{
    CheckpointOptions, Config, Error, Model, Result,
    architectures::Architecture,
    general,
    json::{self, Object},
    model::{Origin, Tensor},
    model_card,
};

/// All projectors.
pub const ALL: &[&Projector] = &[
    &cogvlm::COGVLM,
    &deepseek_ocr::DEEPSEEK_OCR,
    &dots_ocr::DOTS_OCR,
    &gemma3::GEMMA3,
    &gemma4::GEMMA4,
    &glm4v::GLM4V,
    &glm4v::GLM5V,
    &granite_speech::GRANITE_SPEECH,
    &hunyuan_vl::HUNYUAN_VL,
    &idefics3::IDEFICS3,
    &internvl::INTERNVL,
    &janus::JANUS,
    &kimi::KIMI_K25,
    &kimi::KIMI_VL,
    &lfm2::LFM2,
    &ling3vl::LING3VL,
    &llama4::LLAMA4,
    &minicpmv::MINICPMV4_6,
    &minimax_m3::MINIMAX_M3,
    &paddleocr::PADDLEOCR,
    &pixtral::LIGHTON_OCR,
    &pixtral::PIXTRAL,
    &qwen2vl::EXAONE4_5,
    &qwen2vl::QWEN2VL,
    &qwen2vl::QWEN2_5VL,
    &qwen3vl::QWEN3VL,
    &qwen_omni::QWEN2_5_OMNI,
    &qwen_omni::QWEN3_OMNI,
    &step3vl::STEP3VL,
    &whisper::AUDIO_FLAMINGO,
    &whisper::QWEN2_AUDIO,
    &whisper::ULTRAVOX,
    &whisper::VOXTRAL,
    &youtu::YOUTU_VL,
];

/// Keys with the name of a projector, or of its part for each kind of input.
pub const NAMES: [&str; 3] =
    ["clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type"];

/// A kind of projector.
#[derive(Debug)]
pub struct Projector {
    /// The Hugging Face classes it belongs to.
    pub classes: &'static [&'static str],
    /// llama.cpp's name for it, as one of [`NAMES`] has it.
    pub name: &'static str,
    /// What it encodes with, in the order in which their keys are written. Of several a checkpoint may
    /// lack some. One without tensors has keys of an encoder that come after those of another.
    pub encoders: &'static [Encoder],
    /// Tensors that do not follow the type of the file: what their names in the output begin with, or
    /// hold if that begins with a dot, and what they are kept in. The first that fits counts.
    pub types: &'static [(&'static str, Kept)],
}

/// An encoder of images or sound.
#[derive(Debug)]
pub struct Encoder {
    /// Where its configuration is in config.json: keys, from the outermost on.
    pub config: &'static [&'static str],
    /// What the names of its tensors begin with, after a `model.` that some checkpoints have.
    pub starts: &'static [&'static str],
    /// What its configuration has beyond what its own block says.
    pub prepare: fn(&Path, &mut Object) -> Result<()>,
    /// Keys and tensors.
    pub family: &'static Architecture,
}

/// What a tensor is kept in that does not follow the type of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// Half precision in files of F16, otherwise single precision.
    Float,
}

/// Tensors that no projector has in the type of the file.
const TYPES: &[(&str, Kept)] = &[
    (".patch_embd.weight", Kept::Float),
    (".patch_merger.weight", Kept::Float),
    ("v.position_embd.weight", Kept::F32),
    ("a.position_embd.weight", Kept::F32),
];

/// What a tensor of a projector is kept in, if that is not the type of the file.
pub(crate) fn kept(metadata: &Metadata, tensor: &str) -> Option<Kept> {
    let names = NAMES.map(|key| metadata.get_str(key));
    let own = ALL.iter().filter(|projector| names.contains(&Some(projector.name)));
    let own = own.flat_map(|projector| projector.types);
    let fits = |part: &str| match part.strip_prefix('.') {
        Some(_) => tensor.contains(part),
        None => tensor.starts_with(part),
    };
    own.chain(TYPES).find(|(part, _)| fits(part)).map(|(_, kept)| *kept)
}

/// The projector of a checkpoint, if it has one that is converted.
pub(crate) fn of(values: &Object) -> Option<&'static Projector> {
    let class = class(values)?;
    ALL.iter().copied().find(|projector| projector.classes.contains(&class))
}

/// The class that tells: that of the encoder, if its configuration names one.
fn class(values: &Object) -> Option<&str> {
    let first =
        |values: &'_ Value| values.get("architectures")?.get(0)?.as_str().map(str::to_owned);
    let inner = values.get("vision_config").and_then(first);
    let known = |class: &str| ALL.iter().any(|projector| projector.classes.contains(&class));
    match inner {
        Some(class) if known(&class) => {
            values.get("vision_config")?.get("architectures")?.get(0)?.as_str()
        }
        _ => values.get("architectures")?.get(0)?.as_str(),
    }
}

/// Opens the projector of the checkpoint in `dir`: its configuration, and the headers of its weights.
///
/// # Errors
/// [`Error::Architecture`] if the checkpoint has no projector that is converted; otherwise as
/// [`checkpoint::open`](crate::checkpoint::open).
pub fn open(dir: &Path, options: &CheckpointOptions) -> Result<Model> {
    let overrides = model_card::read_overrides(options.metadata.as_deref())?;
    let mut config = Config::read(dir)?;
    config.follow_reference(options.like_reference);
    let values = json::read_object(config.path())?;
    let Some(projector) = of(&values) else { return Err(unknown(&config, &values)) };
    let reading::Read { tensors, encoders, files, left_out } =
        reading::read(projector, dir, &config, &values, options)?;

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "clip");
    metadata.insert("general.type", "mmproj");
    let folder = general::folder(dir, options.like_reference);
    general::write(dir, folder, &config, &tensors, &overrides, &mut metadata);
    for (encoder, config) in &encoders {
        encoder.family.write(config, &mut metadata)?;
    }
    metadata.insert("general.quantization_version", crate::model::QUANTIZATION_VERSION);
    Ok(Model { metadata, tensors, files, origin: Origin::Checkpoint, left_out })
}

fn unknown(config: &Config, values: &Object) -> Error {
    let mut supported: Vec<_> = ALL.iter().flat_map(|p| p.classes.iter().copied()).collect();
    supported.sort_unstable();
    let list = supported.join(", ");
    Error::Projector {
        path: config.path().to_path_buf(),
        class: class(values).unwrap_or("none").to_owned(),
        supported: list,
    }
}

/// What an encoder needs beyond its configuration where that is all.
fn nothing(_: &Path, _: &mut Object) -> Result<()> {
    Ok(())
}

/// The tensors of encoders, in the order in which the reference converter meets their sources.
pub(super) fn in_order(mut tensors: Vec<((usize, String, bool), Tensor)>) -> Vec<Tensor> {
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors.into_iter().map(|(_, tensor)| tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_class_is_claimed_twice_and_every_name_is_one_projector() {
        let mut classes: Vec<_> = ALL.iter().flat_map(|projector| projector.classes).collect();
        let count = classes.len();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), count);
        let mut names: Vec<_> = ALL.iter().map(|projector| projector.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
