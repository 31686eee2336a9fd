//! LoRA adapters: a folder of PEFT as a GGUF adapter, as llama.cpp's `convert_lora_to_gguf.py` makes
//! it.
//!
//! An adapter holds a pair of thin matrices for each weight that it changes. Its folder does not say
//! how the base model is built, so that the base's config.json is needed; none of its weights are.

mod base;
mod settings;

use std::{collections::HashMap, path::Path};

use gguf_io::{Checkpoint, CheckpointTensor, SourceFile, message::Shape, metadata::Metadata};
use indexmap::IndexMap;
use quant_weights::{Quantization, Weights};

use crate::{
    CheckpointOptions, Config, Error, Model, Result,
    architectures::{
        self,
        adapted::{self, Adapted, Pair, float},
    },
    general,
    model::Origin,
    model_card,
};
use settings::{MERGE, Settings};

const SETTINGS: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const DAMAGED: &str = "the adapter is damaged or incomplete, download it again";

/// Whether this is the folder of an adapter: it has the files of one, and no model of its own.
pub fn is_adapter(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    let own = ["config.json", "model.safetensors", "model.safetensors.index.json"];
    has(SETTINGS) && has(WEIGHTS) && !own.into_iter().any(has)
}

/// Opens the adapter in `dir`. The configuration of its base comes from [`CheckpointOptions::base`],
/// else from [`CheckpointOptions::hub_cache`] by the name that the adapter gives its base; a path in
/// the adapter's own files is not followed.
///
/// # Errors
/// [`Error::Base`] if there is no base; [`Error::Config`] and [`Error::Weights`] for what GGUF cannot
/// hold, and for an adapter of another base; otherwise as [`checkpoint::open`](crate::checkpoint::open).
pub fn open(dir: &Path, options: &CheckpointOptions) -> Result<Model> {
    let overrides = model_card::read_overrides(options.metadata.as_deref())?;
    let settings = Settings::read(&dir.join(SETTINGS))?;
    let base = base::find(dir, &settings, options)?;
    let file = SourceFile::open(&dir.join(WEIGHTS))?;
    let stored = Checkpoint::read(vec![file], &options.limits)?;

    let mut config = Config::read(&base)?;
    config.follow_reference(options.like_reference);
    let architecture = architectures::find(&config)?;
    architecture.complete(&mut config)?;
    architectures::tensors::layers(&config)?;

    let Sorted { wanted, mut pairs, mut left_out } = sort(stored, &settings)?;
    warn_of_ranks(&settings, &pairs);
    let alpha = scale(&settings, options.like_reference, &mut pairs)?;
    let weights = Weights::new(wanted, Quantization::none())?;
    let Adapted { tensors, targets, left_out: other } =
        adapted::map(architecture, &config, &weights, &pairs, dir)?;
    left_out.extend(other);
    crate::checkpoint::warn(&left_out);
    warn_of_vectors(&tensors);

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.name);
    metadata.insert("general.type", "adapter");
    metadata.insert("adapter.type", "lora");
    let folder = general::folder(dir, options.like_reference);
    general::write(dir, folder, &settings.config, &targets, &overrides, &mut metadata);
    metadata.insert("adapter.lora.alpha", alpha as f32);
    if !settings.invocation.is_empty() {
        metadata.insert("adapter.alora.invocation_tokens", settings.invocation.clone());
    }
    metadata.insert("general.quantization_version", crate::model::QUANTIZATION_VERSION);
    let left_out = left_out.into_iter().map(|(name, _)| name).collect();
    let files = weights.into_checkpoint().files;
    Ok(Model { metadata, tensors, files, origin: Origin::Checkpoint, left_out })
}

/// What is in an adapter's file.
struct Sorted {
    /// A tensor for each weight that is changed, under its name in the base; and whole vectors.
    wanted: Checkpoint,
    pairs: HashMap<String, Pair>,
    left_out: Vec<(String, &'static str)>,
}

/// Which matrix of a pair a name is that of, what is before its ending, and whether the pair belongs to
/// an embedding.
fn matrix(name: &str) -> Option<(&str, bool, bool)> {
    const ENDINGS: [(&str, bool, bool); 4] = [
        (".lora_A.weight", true, false),
        (".lora_B.weight", false, false),
        (".lora_embedding_A", true, true),
        (".lora_embedding_B", false, true),
    ];
    ENDINGS.into_iter().find_map(|(end, a, table)| Some((name.strip_suffix(end)?, a, table)))
}

/// Puts the matrices of each pair together.
fn sort(stored: Checkpoint, settings: &Settings) -> Result<Sorted> {
    let path = settings.config.path().with_file_name(WEIGHTS);
    let wrong = |name: &str, found: &str, expected: &str, help| Error::Weights {
        path: path.clone(),
        name: name.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        help,
    };
    type Halves = (Option<CheckpointTensor>, Option<CheckpointTensor>, bool, String);
    let mut halves: IndexMap<String, Halves> = IndexMap::new();
    let mut wanted: IndexMap<String, CheckpointTensor> = IndexMap::new();
    let mut left_out = Vec::new();
    for (name, tensor) in stored.tensors {
        let in_base = name.replace("base_model.model.", "");
        let Some((module, is_a, embedding)) = matrix(&in_base) else {
            if name.contains(".base_layer.") {
                left_out.push((name, "they are weights of the base model, not of the adapter"));
                continue;
            }
            // As mergekit-extract-lora writes them.
            let vector = in_base.contains("_layernorm") || in_base.contains(".norm");
            if vector && tensor.shape.len() == 1 && in_base.ends_with(".weight") {
                wanted.insert(in_base, tensor);
                continue;
            }
            let expected = "pairs of lora_A and lora_B only";
            return Err(wrong(&name, strange(&in_base), expected, MERGE));
        };
        let (a, b, table, first) = halves
            .entry(format!("{module}.weight"))
            .or_insert_with(|| (None, None, embedding, name.clone()));
        if float(tensor.dtype).is_none() || tensor.shape.len() != 2 {
            let found = format!("{} of the shape {}", tensor.dtype.name(), Shape(&tensor.shape));
            return Err(wrong(&name, &found, "a matrix of F32, F16 or BF16", DAMAGED));
        }
        let half = if is_a { a } else { b };
        if half.is_some() || *table != embedding {
            let found =
                format!("another matrix of the same weight beside {}", crate::error::Quoted(first));
            return Err(wrong(&name, &found, "one pair for each weight", DAMAGED));
        }
        *half = Some(tensor);
    }
    let mut pairs = HashMap::new();
    for (name, (a, b, embedding, first)) in halves {
        let (Some(a), Some(b)) = (a, b) else {
            return Err(wrong(&first, "no other matrix of its pair", "lora_A and lora_B", DAMAGED));
        };
        let ([rank, inputs], [outputs, same]) = (&a.shape[..], &b.shape[..]) else { continue };
        if rank != same || *rank == 0 {
            let found = format!("ranks {rank} and {same} in the two matrices of a pair");
            return Err(wrong(&first, &found, "one rank, of at least 1", DAMAGED));
        }
        let shape = if embedding { vec![*inputs, *outputs] } else { vec![*outputs, *inputs] };
        // Stands for the weight; only its name and shape are looked at.
        wanted.insert(name.clone(), CheckpointTensor { shape, ..a.clone() });
        pairs.insert(name, Pair { a, b, embedding, factor: 1.0 });
    }
    if pairs.is_empty() {
        let found = "no pair of matrices";
        return Err(wrong("lora_A.weight", found, "lora_A and lora_B of a weight", DAMAGED));
    }
    Ok(Sorted { wanted: Checkpoint { tensors: wanted, ..stored }, pairs, left_out })
}

/// What a tensor is that no GGUF adapter holds.
fn strange(name: &str) -> &'static str {
    const KINDS: [(&str, &str); 5] = [
        ("lora_magnitude_vector", "the magnitudes of DoRA (use_dora)"),
        ("trainable_tokens", "rows for single tokens (trainable_token_indices)"),
        ("lora_B.bias", "the bias of a pair (lora_bias)"),
        (".bias", "a bias of the base model (bias)"),
        ("lora_", "a matrix of a pair under another name"),
    ];
    let known = KINDS.into_iter().find(|(part, _)| name.contains(part)).map(|(_, kind)| kind);
    known.unwrap_or("a whole tensor, no pair (modules_to_save)")
}

/// Warns if a pair has another rank than the settings say. PEFT does not load such an adapter; engines
/// divide by the rank of the pair, which may not be what alpha was chosen for.
fn warn_of_ranks(settings: &Settings, pairs: &HashMap<String, Pair>) {
    let other = |(name, pair): (&String, &Pair)| {
        let rank = pair.a.shape.first().copied()?;
        let said = settings.rank_of(name).filter(|said| *said != rank as f64)?;
        Some((name.clone(), rank, said))
    };
    let mut others: Vec<_> = pairs.iter().filter_map(other).collect();
    others.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some((name, rank, said)) = others.first() {
        tracing::warn!(
            kind = "adapter-rank",
            "{}: says rank {said} (r, rank_pattern), {} of {} pairs have another, such as {} with {rank}; \
             it may belong to another adapter, and the scale, lora_alpha divided by the rank, be wrong",
            crate::error::Shown(settings.config.path()),
            others.len(),
            pairs.len(),
            crate::error::Quoted(name),
        );
    }
}

/// The scale of the whole adapter, which engines divide by the rank of each pair. What pairs have
/// beyond that goes into their own values, which the reference's converter leaves out.
fn scale(
    settings: &Settings,
    like_reference: bool,
    pairs: &mut HashMap<String, Pair>,
) -> Result<f64> {
    if like_reference {
        return Ok(settings.alpha);
    }
    let mut alphas = HashMap::new();
    for (name, pair) in &*pairs {
        let rank = pair.a.shape.first().copied().unwrap_or(1);
        alphas.insert(name.clone(), settings.alpha_of(name, rank));
    }
    let first = alphas.values().next().copied().unwrap_or(settings.alpha);
    let alpha = if alphas.values().all(|alpha| *alpha == first) { first } else { settings.alpha };
    for (name, pair) in pairs {
        let own = alphas.get(name).copied().unwrap_or(alpha);
        pair.factor = if own == alpha { 1.0 } else { (own / alpha) as f32 };
    }
    if alpha != settings.alpha || alphas.values().any(|own| *own != alpha) {
        tracing::warn!(
            kind = "adapter-scale",
            "{}: the scale of {} differs from lora_alpha divided by the rank; it is written as \
             adapter.lora.alpha {alpha}{}, which llama.cpp's converter does not do",
            crate::error::Shown(settings.config.path()),
            if settings.rslora { "use_rslora" } else { "alpha_pattern" },
            if alpha == settings.alpha { " and into the matrices" } else { "" },
        );
    }
    Ok(alpha)
}

/// Norms come along as the reference's converter writes them, though llama.cpp does not apply them.
fn warn_of_vectors(tensors: &[crate::model::Tensor]) {
    let mut vectors = tensors.iter().filter(|tensor| !tensor.name.contains(".lora_"));
    if let Some(first) = vectors.next() {
        tracing::warn!(
            kind = "adapter-norm",
            tensor = %first.name,
            "{} whole norms of the adapter are written, such as {}; llama.cpp loads the adapter \
             without them",
            vectors.count().saturating_add(1),
            crate::error::Quoted(&first.name)
        );
    }
}
