//! The plan of a Hugging Face folder in the pack-quantized layout of compressed-tensors.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use gguf_io::Checkpoint;
use quant_core::grouped::{GroupedType, ScaleType, pack};
use serde_json::Value;

use super::{
    Backup, Options as Grouped, Scheme,
    assign::{Candidate, Rest, assign},
    experts,
    header::{self, Entry},
    layers::{Role, in_layer},
    source, unused,
};
use crate::{
    Config, Control, Error, Options, Result, Split,
    architectures::{self, fp8::Quantization},
    checkpoint::preference,
    importance::{Importance, used_by},
    json as json_file,
    model::{Model, Tensor, TensorData},
    options::Planned,
    packed,
};

/// A folder that is ready to be written.
#[derive(Debug)]
pub struct FolderPlan {
    pub(super) dir: PathBuf,
    pub(super) model: Model,
    pub(super) layers: Vec<Layer>,
    pub(super) placed: Vec<Placed>,
    pub(super) files: Vec<OutputFile>,
    /// Files made here, by name.
    pub(super) texts: Vec<(String, Vec<u8>)>,
    /// Files that are copied as they are, by name.
    pub(super) copies: Vec<String>,
    pub(super) options: Grouped,
    /// The other options it was made with.
    pub(super) planned: Planned,
}

/// What becomes of one tensor of the checkpoint.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) scheme: Scheme,
    pub(super) scale: ScaleType,
    /// Weights of the columns.
    pub(super) importance: Option<Vec<f32>>,
    /// Places of what is written: the weight itself or its packed codes, then the others.
    pub(super) weight: usize,
    pub(super) scales: usize,
    pub(super) zero_points: Option<usize>,
    pub(super) shape: usize,
}

/// A tensor of the output.
#[derive(Debug)]
pub(super) struct Placed {
    entry: Entry,
    pub(super) file: usize,
    /// Absolute offset in its file.
    pub(super) offset: u64,
}

/// A file of weights.
#[derive(Debug)]
pub(super) struct OutputFile {
    pub(super) name: String,
    pub(super) header: Vec<u8>,
    pub(super) total: u64,
}

/// A weight of the plan, as a whole.
#[derive(Clone, Debug)]
pub struct FolderTensor<'a> {
    /// Its name in the checkpoint.
    pub name: &'a str,
    /// Dimensions, innermost first.
    pub shape: &'a [u64],
    /// What it is stored as, in capitals, e.g. `INT4_SYM` or `BF16`.
    pub ty: String,
    /// Bytes of its data, scales and zero points included.
    pub bytes: u64,
}

impl FolderPlan {
    /// Plans a folder. Reads weights only if the ratio is less than 1.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint, and whatever the options ask that it does not allow;
    /// [`Error::Grouped`] if `options` ask for other grouped integers than `grouped`.
    pub fn new(
        dir: &Path,
        grouped: &Grouped,
        options: &Options,
        control: Control<'_>,
    ) -> Result<Self> {
        let dir = &gguf_io::safetensors::locate(dir)?;
        Self::of_folder(dir, grouped, options, control)
            .map_err(|error| crate::neighbours::explain(dir, error))
    }

    fn of_folder(
        dir: &Path,
        grouped: &Grouped,
        options: &Options,
        control: Control<'_>,
    ) -> Result<Self> {
        if let Some(other) = options.grouped.as_ref().filter(|other| *other != grouped) {
            return Err(Error::Grouped {
                problem: format!(
                    "two grouped quantizations are asked for: {grouped:?} and {other:?}"
                ),
                help: "leave the options' own out, or make it the same",
            });
        }
        if !dir.is_dir() {
            return Err(Error::Grouped {
                problem: format!("{}: is not the folder of a checkpoint", crate::error::Shown(dir)),
                help: "a folder of grouped integers is made from one; from a GGUF file only another is made",
            });
        }
        let config = Config::read(dir)?;
        let preference = preference(options.like_reference);
        let checkpoint = packed::open(dir, &config, preference, &options.limits)?;
        let wrapper = config.is_wrapper();
        let quantization = Quantization::read(&config)?;
        let (names, all_names) = gguf_names(dir, config, &checkpoint)?;
        let importance = Importance::open(options)?.filter(|importance| !importance.is_empty());
        let model = source::model(checkpoint, quantization)?;
        let mut squares: Vec<Option<&[f32]>> = vec![None; model.tensors.len()];
        if let Some(importance) = &importance {
            importance.warn_of_strays(all_names.iter().map(String::as_str));
        }
        if let Some(importance) = importance.as_ref().filter(|_| used_by(grouped)) {
            for (tensor, squares) in model.tensors.iter().zip(&mut squares) {
                if let Some((name, shape, expert)) = names.get(&place(tensor)) {
                    let columns = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
                    *squares = importance
                        .of(name, shape)?
                        .and_then(|all| all.chunks_exact(columns.max(1)).nth(*expert));
                }
            }
        }

        let candidates: Vec<_> = model
            .tensors
            .iter()
            .zip(&squares)
            .enumerate()
            .map(|(tensor, (t, squares))| {
                let role = match Role::of(&t.name, t.shape.len()) {
                    // transformers has no embedding that unpacks its weights.
                    Role::Embedding => Role::Other,
                    role => role,
                };
                Candidate { tensor, role, squares: *squares }
            })
            .collect();
        let backup = grouped.backup.unwrap_or(Backup::Int8Sym).ty();
        let rest = Rest { backup, ends: None, experts_as_one: true };
        let schemes = assign(&model, &candidates, grouped, rest, options.threads, control)?;
        unused::warn(&model, &candidates, grouped, rest, &schemes, false);
        if !schemes.iter().any(|scheme| matches!(scheme, Scheme::Groups { .. })) {
            return Err(Error::Grouped {
                problem: format!("{}: no layer would be quantized", crate::error::Shown(dir)),
                help: "the names of this model's layers are not known, or --ratio and --backup, or --group-size-fallback ignore, leave all as they are",
            });
        }
        let informed = squares.iter().any(Option::is_some);
        let importance = squares
            .iter()
            .map(|squares| squares.filter(|_| grouped.refine).map(<[f32]>::to_vec))
            .collect();
        let roles: Vec<_> = candidates.into_iter().map(|candidate| candidate.role).collect();
        experts::check(&model, &roles, &schemes)?;
        warn_of_kept(&model, &roles);
        let names = header::Names { wrapper };
        let all = (&roles[..], names);
        let plan = lay_out(dir, model, all, &schemes, importance, grouped, options)?;
        unused::warn_in_folder(&plan, options, informed);
        Ok(plan)
    }

    /// The weights, in the order of the checkpoint.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = FolderTensor<'_>> {
        self.model.tensors.iter().zip(&self.layers).map(|(tensor, layer)| {
            let parts = layer.places();
            FolderTensor {
                name: &tensor.name,
                shape: &tensor.shape,
                ty: match layer.scheme {
                    Scheme::Keep => source::dtype(tensor.source_type()).into(),
                    Scheme::Groups { ty, .. } => ty.name().to_uppercase(),
                },
                bytes: parts.map(|place| self.placed[place].entry.bytes).sum(),
            }
        })
    }

    /// The scheme of each weight, in the order of [`tensors`](Self::tensors).
    pub fn schemes(&self) -> impl ExactSizeIterator<Item = Scheme> {
        self.layers.iter().map(|layer| layer.scheme)
    }

    /// The options it was made with.
    pub fn options(&self) -> &Grouped {
        &self.options
    }

    /// Bytes of all weight files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.total).sum()
    }

    /// Bits per weight over all tensors, headers left out.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.model.tensors.iter().map(Tensor::elements).sum();
        let bytes: u64 = self.placed.iter().map(|placed| placed.entry.bytes).sum();
        if weights == 0 { 0.0 } else { bytes as f64 * 8.0 / weights as f64 }
    }

    /// Bytes that are read from the checkpoint.
    pub fn source_bytes(&self) -> u64 {
        self.model.tensors.iter().map(crate::plan::source_bytes).sum()
    }
}

impl Layer {
    /// The places of all that is written, each once.
    fn places(&self) -> impl Iterator<Item = usize> {
        let quantized = matches!(self.scheme, Scheme::Groups { .. });
        let more = [Some(self.scales), Some(self.shape), self.zero_points];
        std::iter::once(self.weight).chain(more.into_iter().flatten().filter(move |_| quantized))
    }
}

/// Where a tensor's data is: what a name in the checkpoint and one in GGUF have in common.
fn place(tensor: &Tensor) -> (usize, u64) {
    match &tensor.data {
        TensorData::Stored { pieces, .. } => pieces.first().map_or((0, 0), |p| (p.file, p.offset)),
        TensorData::Computed(_) => (usize::MAX, 0),
    }
}

/// Name and shape of a tensor in GGUF, and which matrix of it.
type GgufMatrix = (String, Vec<u64>, usize);

/// What is at each place of the files.
type Places = HashMap<(usize, u64), GgufMatrix>;

/// The name and shape in GGUF of the data at each place, and which matrix of it, where the
/// architecture is known, and all names; checks names and shapes on the way.
fn gguf_names(
    dir: &Path,
    mut config: Config,
    checkpoint: &Checkpoint,
) -> Result<(Places, Vec<String>)> {
    let architecture = architectures::find(&config)?;
    architecture.complete(&mut config)?;
    architectures::tensors::layers(&config)?;
    architectures::nextn::count(architecture, &mut config, checkpoint)?;
    let (mut names, mut all) = (HashMap::new(), Vec::new());
    for tensor in architectures::tensors::map(architecture, &config, checkpoint, dir)?.tensors {
        if let TensorData::Stored { pieces, .. } = &tensor.data {
            for (matrix, piece) in pieces.iter().enumerate() {
                let value = (tensor.name.clone(), tensor.shape.clone(), matrix);
                names.insert((piece.file, piece.offset), value);
            }
        }
        all.push(tensor.name);
    }
    Ok((names, all))
}

/// Gives everything its place.
fn lay_out(
    dir: &Path,
    model: Model,
    (roles, names): (&[Role], header::Names),
    schemes: &[Scheme],
    importance: Vec<Option<Vec<f32>>>,
    grouped: &Grouped,
    options: &Options,
) -> Result<FolderPlan> {
    let mut layers = Vec::with_capacity(schemes.len());
    let mut entries: Vec<Entry> = Vec::new();
    // The tensor of the checkpoint that each entry is of.
    let mut sources = Vec::new();
    let (mut quantized, mut ignore) = (Vec::new(), BTreeSet::new());
    let (mut stacked, mut experts) = (false, None);
    let mut tied = true;
    for (i, ((tensor, scheme), importance)) in
        model.tensors.iter().zip(schemes).zip(importance).enumerate()
    {
        let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let scale = match tensor.source_type() {
            quant_core::GgmlType::BF16 => ScaleType::Bf16,
            _ => ScaleType::F16,
        };
        let role = roles.get(i).unwrap_or(&Role::Other);
        tied &= *role != Role::Output;
        let first = entries.len();
        match *scheme {
            Scheme::Keep => {
                let bytes = tensor.source_type().tensor_bytes(&tensor.shape)?;
                let shape = tensor.shape.iter().rev().copied().collect();
                let dtype = source::dtype(tensor.source_type());
                entries.push(Entry { name: tensor.name.clone(), dtype, shape, bytes });
                let embedding = model_embedding(&tensor.name);
                stacked |= tensor.shape.len() > 2 && in_layer(&tensor.name).is_some();
                if experts::is_expert(role) {
                    experts = Some(Scheme::Keep);
                } else if tensor.shape.len() == 2 && !embedding {
                    ignore.insert(names.of(module));
                }
            }
            Scheme::Groups { ty, len, .. } => {
                entries.extend(packed_entries(module, tensor, ty, len, scale)?);
                if experts::is_expert(role) {
                    experts = Some(*scheme);
                } else {
                    quantized.push((names.of(module), *scheme));
                }
            }
        }
        sources.resize(entries.len(), i);
        let asymmetric = matches!(scheme, Scheme::Groups { ty, .. } if !ty.is_symmetric());
        layers.push(Layer {
            scheme: *scheme,
            scale,
            importance,
            weight: first,
            scales: first + 1,
            shape: first + 2,
            zero_points: asymmetric.then_some(first + 3),
        });
    }
    if tied {
        ignore.insert(names.of("lm_head"));
    }
    match experts {
        Some(scheme @ Scheme::Groups { .. }) => {
            quantized.insert(0, (header::EXPERTS.to_owned(), scheme));
        }
        Some(Scheme::Keep) => drop(ignore.insert(header::EXPERTS.to_owned())),
        // vLLM looks for the experts of a stack under the names of single ones.
        None if stacked => drop(ignore.insert(header::EXPERTS.to_owned())),
        None => {}
    }
    let ignore: Vec<String> = ignore.into_iter().collect();

    let (names, file_of) = distribute(&model, &entries, &sources, options.split);
    let mut placed: Vec<Placed> = entries
        .into_iter()
        .zip(&sources)
        .map(|(entry, source)| Placed { entry, file: file_of[*source], offset: 0 })
        .collect();
    let mut files = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let mut order: Vec<usize> =
            (0..placed.len()).filter(|&i| placed[i].file == number).collect();
        order.sort_by(|&a, &b| placed[a].entry.key().cmp(&placed[b].entry.key()));
        let header = header::header(&order.iter().map(|&i| &placed[i].entry).collect::<Vec<_>>());
        let mut at = header.len() as u64;
        for i in order {
            placed[i].offset = at;
            at = at.checked_add(placed[i].entry.bytes).ok_or(quant_core::Error::TooLarge)?;
        }
        files.push(OutputFile { name, header, total: at });
    }

    let mut texts = vec![("config.json".to_owned(), config_json(dir, &quantized, &ignore)?)];
    if files.len() > 1 {
        let map: BTreeMap<&str, &str> =
            placed.iter().map(|p| (p.entry.name.as_str(), files[p.file].name.as_str())).collect();
        let total = placed.iter().map(|p| p.entry.bytes).sum();
        texts.push(("model.safetensors.index.json".to_owned(), header::index(&map, total)));
    }
    let copies = other_files(dir)?;
    Ok(FolderPlan {
        dir: dir.to_path_buf(),
        model,
        layers,
        placed,
        files,
        texts,
        copies,
        options: *grouped,
        planned: options.planned(),
    })
}

/// Says which large matrices of layers stay as they are because no linear layer is in them.
fn warn_of_kept(model: &Model, roles: &[Role]) {
    let matrices = || {
        model.tensors.iter().zip(roles).filter(|(tensor, _)| {
            tensor.shape.iter().filter(|&&size| size > 1).count() > 1
                && in_layer(&tensor.name).is_some()
        })
    };
    let weights = |tensor: &Tensor| tensor.elements();
    let all: u64 = matrices().map(|(tensor, _)| weights(tensor)).fold(0, u64::saturating_add);
    let kept: Vec<_> = matrices().filter(|(_, role)| **role == Role::Other).collect();
    let sum = kept.iter().map(|(tensor, _)| weights(tensor)).fold(0, u64::saturating_add);
    // Routers and the like are small, and no one expects them quantized.
    if let Some((first, _)) = kept.first()
        && sum > all / 20
    {
        tracing::warn!(
            "{} matrices, {:.0} % of the weights, keep their precision: they are no linear layers, \
             but stacked experts or the like (the first is {:?})",
            kept.len(),
            sum as f64 / all as f64 * 100.0,
            first.name
        );
    }
}

fn model_embedding(name: &str) -> bool {
    Role::of(name, 2) == Role::Embedding
}

/// The tensors that a quantized weight becomes.
fn packed_entries(
    module: &str,
    tensor: &Tensor,
    ty: GroupedType,
    len: usize,
    scale: ScaleType,
) -> Result<Vec<Entry>> {
    let too_large = || quant_core::Error::TooLarge;
    let (rows, columns) = (tensor.shape.get(1).copied().unwrap_or(1), tensor.row_len());
    let groups = columns / (len as u64).max(1);
    let per_word = pack::per_word(ty.bits())? as u64;
    let entry = |part: &str, dtype: &'static str, size: u64, shape: [u64; 2]| {
        let elements = shape[0].checked_mul(shape[1]).and_then(|n| n.checked_mul(size));
        let name = format!("{module}.{part}");
        let bytes = elements.ok_or_else(too_large)?;
        Ok::<_, Error>(Entry { name, dtype, shape: shape.to_vec(), bytes })
    };
    let words = columns.div_ceil(per_word);
    let scale = if scale == ScaleType::Bf16 { "BF16" } else { "F16" };
    let mut entries = vec![
        entry("weight_packed", "I32", 4, [rows, words])?,
        entry("weight_scale", scale, 2, [rows, groups])?,
        Entry { name: format!("{module}.weight_shape"), dtype: "I64", shape: vec![2], bytes: 16 },
    ];
    if !ty.is_symmetric() {
        let words = rows.div_ceil(per_word);
        entries.push(entry("weight_zero_point", "I32", 4, [words, groups])?);
    }
    Ok(entries)
}

/// Names of the weight files, and which one each tensor of the checkpoint goes to: as it was, or
/// filled one after the other up to a size.
fn distribute(
    model: &Model,
    entries: &[Entry],
    sources: &[usize],
    split: Option<Split>,
) -> (Vec<String>, Vec<usize>) {
    let mut names: Vec<String> = Vec::new();
    let mut file_of = Vec::with_capacity(model.tensors.len());
    let limit = match split {
        Some(Split::MaxBytes(most)) => {
            let mut sizes = vec![0u64; model.tensors.len()];
            for (entry, source) in entries.iter().zip(sources) {
                sizes[*source] = sizes[*source].saturating_add(entry.bytes);
            }
            Some((sizes, most))
        }
        // The parts of a layer count as the one tensor they are in the checkpoint.
        Some(Split::MaxTensors(most)) => Some((vec![1; model.tensors.len()], most)),
        Some(Split::Keep) | None => None,
    };
    if let Some((sizes, most)) = limit {
        let (mut file, mut filled) = (0, 0u64);
        for size in sizes {
            if filled > 0 && filled.saturating_add(size) > most {
                (file, filled) = (file + 1, 0);
            }
            filled = filled.saturating_add(size);
            file_of.push(file);
        }
        names = (0..=file)
            .map(|n| format!("model-{:05}-of-{:05}.safetensors", n + 1, file + 1))
            .collect();
    } else {
        for tensor in &model.tensors {
            let path = model.files.get(place(tensor).0).map(|file| file.path());
            let name = path.and_then(Path::file_name).unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            let file = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            file_of.push(file);
        }
    }
    if let [only] = &mut names[..] {
        *only = "model.safetensors".to_owned();
    }
    (names, file_of)
}

/// The checkpoint's config.json with the description of the quantization.
fn config_json(dir: &Path, layers: &[(String, Scheme)], ignore: &[String]) -> Result<Vec<u8>> {
    let mut config = json_file::read_object(&dir.join("config.json"))?;
    // What it says of the packed weights it had: MLX, and text models with a key of their own.
    config.shift_remove("quantization");
    for part in config.values_mut().filter_map(Value::as_object_mut) {
        part.shift_remove("quantization_config");
    }
    config.insert("quantization_config".into(), header::quantization_config(layers, ignore));
    Ok(header::pretty(&Value::Object(config)))
}

/// Extensions of files that hold weights, which are not carried over.
const WEIGHTS: &[&str] = &[
    "safetensors",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "h5",
    "msgpack",
    "onnx",
    "ot",
    "dat",
    "npz",
];

/// Files written anew, or that would describe what they no longer belong to.
const REPLACED: &[&str] = &[
    "config.json",
    "model.safetensors.index.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
];

/// Bytes a file may be long to count as small.
const LONGEST: u64 = json_file::TOKENIZER;

/// The other files of the folder, sorted: tokenizer, generation settings, license.
fn other_files(dir: &Path) -> Result<Vec<String>> {
    let io =
        |error| Error::Files(gguf_io::Error::Io { path: dir.into(), action: "cannot list", error });
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let Ok(name) = entry.map_err(io)?.file_name().into_string() else { continue };
        let path = dir.join(&name);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let weights = WEIGHTS.iter().any(|known| known.eq_ignore_ascii_case(extension))
            || name.ends_with(".index.json");
        // Links are followed: caches of downloads are made of them.
        let small = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= LONGEST);
        if small && !weights && !name.starts_with('.') && !REPLACED.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
