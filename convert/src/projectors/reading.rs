//! The tensors and configurations of a projector's encoders.

use std::{collections::HashMap, path::Path};

use gguf_io::{Checkpoint, SourceFile};
use quant_weights::Weights;
use serde_json::Value;

use super::{Encoder, Projector, batch_norm, in_order, shared};
use crate::{
    CheckpointOptions, Config, Result,
    architectures::{self, tensors::Mapped},
    config::is_derived,
    json::{self, Object},
    model::Tensor,
    options, packed,
};

/// What is read of a checkpoint.
pub(super) struct Read {
    pub(super) tensors: Vec<Tensor>,
    /// The encoders that the checkpoint has, each with its configuration.
    pub(super) encoders: Vec<(&'static Encoder, Config)>,
    pub(super) files: Vec<SourceFile>,
    /// Tensors that have no place in the output.
    pub(super) left_out: Vec<String>,
}

pub(super) fn read(
    projector: &'static Projector,
    dir: &Path,
    whole: &Config,
    values: &Object,
    options: &CheckpointOptions,
) -> Result<Read> {
    let preference = options::preference(options.like_reference);
    let preprocessor = preprocessor(dir)?;
    let (mut ordered, mut encoders, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut left_out = Vec::new();
    for encoder in present(projector, values) {
        let mut part = part(encoder, whole, values, &preprocessor)?;
        (encoder.prepare)(dir, &mut part)?;
        if encoder.family.tensors.is_empty() {
            let (derived, own) = part.into_iter().partition(|(key, _)| is_derived(key));
            let mut config = whole.of_part(own, derived);
            encoder.family.complete(&mut config)?;
            encoders.push((encoder, config));
            continue;
        }
        let quantization = packed::quantization(whole)?;
        let mut stored =
            Checkpoint::open_elsewhere(dir, &options.elsewhere, preference, &options.limits)?;
        let quantization = quantization.or_older(dir, &stored, json::read_optional)?;
        let places: HashMap<_, _> =
            stored.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.file)).collect();
        left_out.extend(stored.tensors.keys().filter(|name| !is_of(projector, name)).cloned());
        stored.tensors.retain(|name, _| belongs(encoder, name));
        for (name, tensor) in stored.tensors.iter().filter(|(name, _)| !name.contains("layers.")) {
            // What a matrix is as wide as where no key says it.
            part.extend(
                tensor
                    .shape
                    .first()
                    .map(|rows| (format!("{} rows", name.replace('.', "_")), (*rows).into())),
            );
        }
        let (derived, own) = part.into_iter().partition(|(key, _)| is_derived(key));
        let mut config = whole.of_part(own, derived);
        encoder.family.complete(&mut config)?;
        architectures::tensors::layers(&config)?;
        let weights = Weights::new(stored, quantization)?;
        let Mapped { mut tensors, sources, left_out: other, .. } =
            architectures::tensors::map(encoder.family, &config, &weights, dir)?;
        let biases = batch_norm::fold(&weights.checkpoint().files, &mut tensors)?;
        // After the shapes were found to be those of config.json.
        let computed =
            (encoder.family.computed)(&config, &mut encoder.family.keys(&mut Default::default()))?;
        left_out.extend(other.into_iter().map(|(name, _)| name));
        let of: HashMap<&str, &str> =
            sources.iter().map(|source| (&*source.tensor, &*source.name)).collect();
        ordered.extend(computed.into_iter().map(|tensor| ((0, String::new(), false), tensor)));
        ordered.extend(tensors.into_iter().map(|tensor| {
            let weight = biases.get(&tensor.name).map(String::as_str);
            let source = of.get(weight.unwrap_or(&tensor.name)).copied().unwrap_or_default();
            let file = places.get(source).map_or(0, |file| file.saturating_add(1));
            ((file, source.to_owned(), weight.is_some()), tensor)
        }));
        files = weights.into_checkpoint().files;
        encoders.push((encoder, config));
    }
    // The files are the same for each encoder, and so are their numbers.
    left_out.sort_unstable();
    left_out.dedup();
    Ok(Read { tensors: in_order(ordered), encoders, files, left_out })
}

/// The encoders that a checkpoint has: of several those whose configuration is there, else the first.
fn present(projector: &'static Projector, values: &Object) -> Vec<&'static Encoder> {
    let has = |encoder: &&Encoder| {
        let mut blocks = encoder.config.iter();
        let block = blocks.try_fold(values, |block, key| block.get(*key)?.as_object());
        block.is_some()
    };
    let found: Vec<_> = projector.encoders.iter().filter(has).collect();
    if found.is_empty() { projector.encoders.iter().take(1).collect() } else { found }
}

/// Whether a tensor is one of an encoder's.
fn belongs(encoder: &Encoder, name: &str) -> bool {
    let bare = name.strip_prefix("model.").unwrap_or(name);
    encoder.starts.iter().any(|start| name.starts_with(start) || bare.starts_with(start))
}

fn is_of(projector: &Projector, name: &str) -> bool {
    projector.encoders.iter().any(|encoder| belongs(encoder, name))
}

/// Where config.json describes the text model.
const TEXT: [&str; 5] = ["text_config", "llm_config", "lm_config", "language_config", "lfm"];

/// The keys of an encoder, and under names with blanks those of what is around it.
fn part(
    encoder: &Encoder,
    whole: &Config,
    values: &Object,
    preprocessor: &Object,
) -> Result<Object> {
    let mut own = values;
    for key in encoder.config {
        own = own.get(*key).and_then(Value::as_object).ok_or_else(|| {
            whole.missing(&encoder.config.join("."), "the configuration of an encoder")
        })?;
    }
    let mut part = own.clone();
    part.retain(|key, _| !is_derived(key));
    let inner = values.get("thinker_config").and_then(Value::as_object).unwrap_or(values);
    let text = TEXT.iter().find_map(|key| inner.get(*key)?.as_object());
    let width = |keys: &Object| {
        ["hidden_size", "n_embd"].into_iter().find_map(|key| keys.get(key).cloned())
    };
    let assumed = assumed(whole);
    let of_class = |key: &str| assumed.as_ref().and_then(|text| text.get(key).cloned());
    let width = text.and_then(width).or_else(|| width(values)).or_else(|| of_class("hidden_size"));
    let blocks = [("whole", Some(values)), ("text", text), ("preprocessor", Some(preprocessor))];
    for (name, keys) in blocks {
        for (key, value) in keys.into_iter().flatten() {
            part.insert(format!("{name} {key}"), value.clone());
        }
    }
    for key in ["vocab_size", "rms_norm_eps", "intermediate_size"] {
        let name = format!("text {key}");
        if !part.contains_key(&name) {
            let value = values.get(key).cloned().or_else(|| of_class(key));
            part.extend(value.map(|value| (name, value)));
        }
    }
    if let Some(width) = width {
        part.insert(shared::TEXT_WIDTH_KEY.into(), width);
    }
    if !part.contains_key("num_hidden_layers")
        && let Some(layers) = shared::LAYERS.iter().find_map(|key| part.get(*key).cloned())
    {
        part.insert("num_hidden_layers".into(), layers);
    }
    Ok(part)
}

/// The text model's configuration with what its class assumes.
fn assumed(whole: &Config) -> Option<Config> {
    let family = architectures::find(whole).ok()?;
    let mut text = whole.clone();
    family.complete(&mut text).ok()?;
    Some(text)
}

/// What the files of the preprocessor say, those of newer versions last.
fn preprocessor(dir: &Path) -> Result<Object> {
    let mut all = Object::new();
    for (file, inner) in [
        ("preprocessor_config.json", "media_proc_cfg"),
        ("processor_config.json", "image_processor"),
    ] {
        let Some(keys) = json::read_optional(&dir.join(file))? else { continue };
        let nested = keys.get(inner).and_then(Value::as_object).cloned();
        all.extend(keys);
        all.extend(nested.into_iter().flatten());
    }
    Ok(all)
}
