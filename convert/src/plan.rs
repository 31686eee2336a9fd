//! The plan: every tensor's type, every output offset and the exact size, before a weight is read.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use gguf_io::{Layout, PlacedTensor, TensorSpec, gguf::shards};
use quant_core::{GgmlType, can_dequantize, can_quantize};

use crate::{
    Control, Error, Options, Result,
    grouped::{self, Scheme},
    importance::{self, Importance},
    loadable, mend,
    model::{Model, Origin, Tensor, TensorData},
    options::{Planned, Split},
    recipe::{self, FileType, ModelFacts, Pruning, TensorFacts},
    unused,
};

/// A conversion that is ready to run.
#[derive(Debug)]
pub struct Plan {
    pub(crate) model: Model,
    pub(crate) jobs: Vec<Job>,
    /// One, or one for each shard; the tensors of the jobs in their order.
    pub(crate) layouts: Vec<Layout>,
    is_split: bool,
    file_type: Option<FileType>,
    obstacle: Option<Error>,
    allow_requantize: bool,
    /// The options it was made with.
    pub(crate) planned: Planned,
}

/// What is done to one tensor.
#[derive(Debug)]
pub(crate) struct Job {
    /// Index into the model's tensors.
    pub(crate) tensor: usize,
    pub(crate) ty: GgmlType,
    /// Weights of the columns of each matrix of the tensor.
    pub(crate) importance: Option<Vec<f32>>,
    /// How groups are quantized that become blocks of the type.
    pub(crate) scheme: Scheme,
    pub(crate) refine: bool,
    wanted: Option<GgmlType>,
    without_importance: bool,
    /// Whether the type needs importance and there is none.
    lacks_importance: bool,
}

/// A file of a split output, as the plan has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedShard {
    /// How many tensors it holds.
    pub tensors: usize,
    /// Size in bytes, header and padding included.
    pub bytes: u64,
}

/// A tensor of the output, as the plan has it.
#[derive(Clone, Copy, Debug)]
pub struct PlannedTensor<'a> {
    /// GGUF name.
    pub name: &'a str,
    /// Dimensions, innermost first.
    pub shape: &'a [u64],
    /// The type it gets.
    pub ty: GgmlType,
    /// The type the recipe asked for, if the tensor's rows do not fit its blocks.
    pub wanted: Option<GgmlType>,
    /// Whether an importance matrix was given that has no entry for this tensor.
    pub without_importance: bool,
    /// Whether blocks of the input are copied as they are.
    pub carried: bool,
    /// Bytes of its data.
    pub bytes: u64,
    /// The number of its file, from 0.
    pub shard: usize,
}

impl Plan {
    /// Plans a conversion. Reads the importance matrix; weights only for grouped integers with a
    /// ratio below 1.
    ///
    /// # Errors
    /// Options that the model does not allow. What prevents only the run, so that the plan can still be
    /// shown, is kept for [`check`](Self::check).
    pub fn new(model: Model, options: &Options) -> Result<Self> {
        Self::new_with(model, options, Control::default())
    }

    /// [`new`](Self::new) that can be cancelled. Grouped integers with a ratio read all weights to
    /// choose layers, which takes time.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Cancelled`].
    pub fn new_with(mut model: Model, options: &Options, control: Control<'_>) -> Result<Self> {
        if model.origin == Origin::Gguf {
            mend::metadata(&mut model.metadata, &model.files)?;
        }
        let importance = Importance::open(options)?.filter(|importance| !importance.is_empty());
        if let Some(importance) = &importance {
            importance.warn_of_strays(model.tensors.iter().map(|tensor| tensor.name.as_str()));
        }

        // The order of llama-quantize: overrides are seen by the recipe, pruning is not.
        let mut metadata = model.metadata.clone();
        for (key, value) in &options.override_kv {
            metadata.insert(key.clone(), value.clone());
        }
        let facts = ModelFacts::from_metadata(&metadata)?;
        let pruning = match &options.prune_layers {
            Some(layers) => Some(Pruning::parse(layers, facts.layers)?),
            None => None,
        };

        // Sorted by the names before pruning, which keeps layers in order.
        let mut order: Vec<usize> = (0..model.tensors.len()).collect();
        let keep = options.split == Some(Split::Keep);
        if keep && model.origin == Origin::Gguf {
            // llama-quantize then takes them, and counts them for its mixes, as they are stored.
            order.sort_by_key(|&i| place(&model.tensors[i]));
        } else {
            order.sort_by(|&a, &b| {
                recipe::output_order(&model.tensors[a].name, &model.tensors[b].name)
            });
        }
        let mut names = HashMap::new();
        order.retain(|&i| {
            let name = &model.tensors[i].name;
            let renamed = pruning.as_ref().map_or(Some(name.clone()), |p| p.rename(name));
            renamed.is_some_and(|renamed| names.insert(i, renamed).is_none())
        });

        let mut request = options.request.clone();
        if let Some(grouped) = &options.grouped {
            // What GGUF files of these blocks are called; which tensors get them is chosen below.
            let eight_bits = grouped.ty.bits() == 8;
            request.file_type = Some(if eight_bits { FileType::Q8_0 } else { FileType::Q4_0 });
        }
        request.has_imatrix = importance.is_some();
        if request.file_type.is_none() && model.origin == Origin::Checkpoint {
            let types = model.tensors.iter().map(|t| (&t.shape[..], t.source_type()));
            request.file_type = Some(FileType::detect(types));
        }
        let tensor_facts: Vec<_> = order
            .iter()
            .map(|i| (&model.tensors[*i], &names[i]))
            .map(|(t, name)| TensorFacts { name, shape: &t.shape, ty: kept_type(&model, t) })
            .collect();
        let mut assignments = recipe::assign(&facts, &tensor_facts, &request)?;
        // Blocks that a checkpoint came with are carried over, whatever the rest becomes, as the
        // reference converter does; quantizing them again has to be asked for.
        let mut carried = false;
        if model.origin == Origin::Checkpoint && !options.allow_requantize {
            for (&i, assignment) in order.iter().zip(&mut assignments) {
                let source = model.tensors[i].source_type();
                // Another type that an option names for it is no matter of the recipe: refused below.
                let asked = assignment.asked && assignment.ty != source;
                if source.is_quantized() && !asked {
                    carried = true;
                    assignment.ty = source;
                    assignment.requires_imatrix = false;
                    assignment.wanted = None;
                }
            }
        }

        let mut importance_used = false;
        let schemes = match &options.grouped {
            None => assignments.iter().map(|a| (Scheme::Keep, a.ty)).collect(),
            Some(grouped) => {
                let mut wanted = Vec::with_capacity(order.len());
                for (&tensor, assignment) in order.iter().zip(&assignments) {
                    let quantizable = assignment.quantizable;
                    let Tensor { name, shape, .. } = &model.tensors[tensor];
                    let squares = match &importance {
                        Some(importance) if quantizable && importance::used_by(grouped) => {
                            importance.of(name, shape)?
                        }
                        _ => None,
                    };
                    importance_used |= squares.is_some();
                    let kept = if quantizable {
                        model.tensors[tensor].source_type()
                    } else {
                        assignment.ty
                    };
                    wanted.push(grouped::Wanted { tensor, quantizable, kept, squares });
                }
                grouped::plan(&model, &wanted, grouped, options.threads, control)?
            }
        };
        let refine = options.grouped.is_some_and(|grouped| grouped.refine);

        let mut jobs = Vec::with_capacity(order.len());
        for ((&i, assignment), (scheme, ty)) in order.iter().zip(&assignments).zip(schemes) {
            let tensor = &model.tensors[i];
            let changes = ty != tensor.source_type();
            // Grouped types use importance for a better scale only.
            let searches = if scheme == Scheme::Keep { importance::bends(ty) } else { refine };
            let uses_importance = assignment.quantizable && changes && searches;
            let weights = match &importance {
                Some(importance) if uses_importance => {
                    importance.of(&tensor.name, &tensor.shape)?
                }
                _ => None,
            };
            if let Some(weights) = weights.filter(|_| scheme == Scheme::Keep) {
                importance::warn_of_zeros(tensor, ty, weights);
            }
            jobs.push(Job {
                tensor: i,
                ty,
                scheme,
                refine,
                importance: weights.map(<[f32]>::to_vec),
                wanted: assignment.wanted.filter(|_| options.grouped.is_none()),
                without_importance: importance
                    .as_ref()
                    .is_some_and(|importance| importance.is_wanted(&tensor.name))
                    && uses_importance
                    && weights.is_none(),
                lacks_importance: assignment.requires_imatrix
                    && changes
                    && weights.is_none()
                    && options.grouped.is_none(),
            });
        }

        importance_used |= jobs.iter().any(|job| job.importance.is_some());
        if !importance_used {
            unused::importance(options, importance.as_ref(), &jobs, &model);
        }
        // What says where weights come from would be untrue of a file that has none of them.
        let importance = importance.filter(|_| importance_used || options.like_reference);
        unused::leave(options, &jobs, &model, importance_used);
        let layers_key = format!("{}.block_count", facts.arch);
        unused::overrides(options, &model.metadata, |key| {
            let of_matrix = importance.is_some() && key.starts_with("quantize.imatrix.");
            let of_layers = pruning.is_some() && key == layers_key;
            of_matrix.then_some("--imatrix").or(of_layers.then_some("--prune-layers"))
        })?;

        metadata = model.metadata.clone();
        if !options.like_reference && (importance.is_some() || !copies_blocks(&model, &jobs)) {
            // What the input says of a matrix is of blocks that the output does not have.
            let keys = metadata.iter().map(|(key, _)| key.to_owned());
            let keys: Vec<_> = keys.filter(|key| key.starts_with("quantize.imatrix.")).collect();
            keys.iter().for_each(|key| _ = metadata.remove(key));
        }
        if let Some(pruning) = &pruning {
            pruning.apply(&facts, &mut metadata)?;
        }
        metadata.replace_at_end("general.quantization_version", 2u32);
        let file_type = match request.file_type {
            // Floats around such blocks make the kind of file that has them.
            Some(FileType::F32 | FileType::F16 | FileType::BF16) if carried => {
                Some(FileType::MXFP4_MOE)
            }
            other => other,
        };
        match file_type {
            Some(file_type) => {
                metadata.replace_at_end("general.file_type", file_type.id());
            }
            None => {
                let kept = metadata.get_u64("general.file_type").and_then(|v| v.try_into().ok());
                metadata.replace_at_end("general.file_type", kept.unwrap_or(0u32));
            }
        }
        for (key, value) in &options.override_kv {
            metadata.replace_at_end(key.clone(), value.clone());
        }
        if let Some(importance) = &importance {
            importance.describe(&mut metadata);
        }
        if let Some(pruning) = &pruning {
            metadata.replace_at_end(layers_key, pruning.kept());
        }

        // A packed layer reads as a file of its own, but counts as the one that it is in.
        let mut by_path = HashMap::new();
        let paths = model.files.iter().enumerate();
        let on_disk: Vec<usize> =
            paths.map(|(i, file)| *by_path.entry(file.path()).or_insert(i)).collect();
        let file_of = |job: &Job| {
            let file = place(&model.tensors[job.tensor]).0;
            on_disk.get(file).copied().unwrap_or(file)
        };
        if keep {
            // Stable: within a file of a checkpoint the order stays.
            jobs.sort_by_key(file_of);
        }
        let specs: Vec<_> = jobs
            .iter()
            .map(|job| TensorSpec {
                name: names.remove(&job.tensor).unwrap_or_default(),
                ty: job.ty,
                shape: written_shape(&model.tensors[job.tensor].shape),
            })
            .collect();
        if model.origin == Origin::Gguf || !options.override_kv.is_empty() {
            let tensors = specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice()));
            loadable::check(&model, &metadata, &options.override_kv, tensors)?;
        }
        let files: Vec<usize> = jobs.iter().map(file_of).collect();
        let layouts = match options.split {
            None => vec![Layout::new(&metadata, &specs)?],
            Some(split) => shards::layout(&metadata, &specs, split.by(&files))?,
        };
        unused::split(options.split, &layouts);
        model.metadata = metadata;
        let mut plan = Self {
            model,
            jobs,
            layouts,
            is_split: options.split.is_some(),
            file_type,
            obstacle: None,
            allow_requantize: options.allow_requantize,
            planned: options.planned(),
        };
        plan.obstacle = plan.find_obstacle();
        Ok(plan)
    }

    /// The first of what stands in the way of running the plan.
    fn find_obstacle(&self) -> Option<Error> {
        self.jobs.iter().find_map(|job| {
            let tensor = &self.model.tensors[job.tensor];
            let obstacle = obstacle(&self.model, tensor, job.ty, self.allow_requantize);
            // An importance matrix would not help a type that is not written.
            let hopeless = matches!(obstacle, Some(Error::CannotWrite { .. }));
            match job.lacks_importance && !hopeless {
                true => Some(Error::ImportanceNeeded { tensor: tensor.name.clone(), ty: job.ty }),
                false => obstacle,
            }
        })
    }

    /// Whether the plan can run.
    ///
    /// # Errors
    /// The first of: weights of an importance matrix that a type needs and that are missing, a
    /// type this version cannot write, tensors that are quantized already, without
    /// [`Options::allow_requantize`].
    pub fn check(&self) -> Result<()> {
        self.find_obstacle().map_or(Ok(()), Err)
    }

    /// What [`check`](Self::check) would report.
    pub fn obstacle(&self) -> Option<&Error> {
        self.obstacle.as_ref()
    }

    /// The recipe; `None` if every tensor keeps its type.
    pub fn file_type(&self) -> Option<FileType> {
        self.file_type
    }

    /// The tensors in the order they are written.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = PlannedTensor<'_>> {
        let placed: Vec<_> = self.placed().collect();
        self.jobs.iter().zip(placed).map(|(job, (shard, placed))| PlannedTensor {
            name: &placed.name,
            shape: &placed.shape,
            ty: placed.ty,
            wanted: job.wanted,
            without_importance: job.without_importance,
            carried: job.ty.is_quantized()
                && self.model.tensors[job.tensor].source_type() == job.ty,
            bytes: placed.bytes,
            shard,
        })
    }

    /// Names of the checkpoint's tensors that have no place in the output.
    pub fn left_out(&self) -> &[String] {
        &self.model.left_out
    }

    /// The place of every job's tensor: the number of its file, and where it is in that.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (usize, &PlacedTensor)> {
        let files = self.layouts.iter().enumerate();
        files.flat_map(|(shard, layout)| layout.tensors.iter().map(move |t| (shard, t)))
    }

    /// The files of the output if it is to be split, be it into one.
    pub fn shards(&self) -> Option<impl ExactSizeIterator<Item = PlannedShard>> {
        let shard = |l: &Layout| PlannedShard { tensors: l.tensors.len(), bytes: l.total };
        self.is_split.then(|| self.layouts.iter().map(shard))
    }

    /// The paths of the output's files: `output` itself, or if it is to be split
    /// `NAME-00001-of-00003.gguf` and so on.
    pub fn paths(&self, output: &Path) -> Vec<PathBuf> {
        match self.is_split {
            true => shards::paths(output, self.layouts.len()),
            false => vec![output.to_owned()],
        }
    }

    /// The metadata that is written.
    pub fn metadata(&self) -> &gguf_io::Metadata {
        &self.model.metadata
    }

    /// Size of the output in bytes, headers and padding included.
    pub fn total_bytes(&self) -> u64 {
        self.layouts.iter().fold(0, |sum, layout| sum.saturating_add(layout.total))
    }

    /// Bytes that are read from the source.
    pub fn source_bytes(&self) -> u64 {
        self.jobs.iter().map(|job| self.model.tensors[job.tensor].source_bytes()).sum()
    }

    /// Bits per weight over all tensors, the header left out.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.jobs.iter().map(|j| self.model.tensors[j.tensor].elements()).sum();
        let bytes: u64 = self.placed().map(|(_, t)| t.bytes).sum();
        if weights == 0 { 0.0 } else { bytes as f64 * 8.0 / weights as f64 }
    }
}

/// A shape without outer dimensions of 1, which ggml counts and writes no tensor with.
pub(crate) fn written_shape(shape: &[u64]) -> Vec<u64> {
    let dimensions = shape.iter().rposition(|n| *n != 1).map_or(1, |last| last.saturating_add(1));
    shape.iter().copied().take(dimensions).collect()
}

/// Whether blocks of the input are in the output.
fn copies_blocks(model: &Model, jobs: &[Job]) -> bool {
    let source = |job: &Job| model.tensors[job.tensor].source_type();
    jobs.iter().any(|job| job.ty.is_quantized() && source(job) == job.ty)
}

/// Where a tensor is stored: the number of the file and the offset in it.
fn place(tensor: &Tensor) -> (usize, u64) {
    match &tensor.data {
        TensorData::Stored { pieces, .. } => pieces.first().map_or((0, 0), |p| (p.file, p.offset)),
        TensorData::Computed(_) => (0, 0),
    }
}

/// The type a tensor has where no recipe applies: in a checkpoint that is what the reference's
/// lossless conversion would hold.
fn kept_type(model: &Model, tensor: &Tensor) -> GgmlType {
    match model.origin {
        Origin::Checkpoint if !tensor.source_type().is_quantized() => GgmlType::F32,
        // Blocks of a checkpoint, such as MXFP4, are carried over.
        _ => tensor.source_type(),
    }
}

/// Why a tensor cannot be brought to its type, if so.
fn obstacle(model: &Model, tensor: &Tensor, ty: GgmlType, allow_requantize: bool) -> Option<Error> {
    let source = tensor.source_type();
    if source == ty {
        return None;
    }
    let name = tensor.name.clone();
    if source.is_quantized() && !allow_requantize {
        return Some(Error::Requantize { tensor: name, source_type: source, ty });
    }
    let supported = || {
        let names = GgmlType::ALL.iter().filter(|ty| can_quantize(**ty)).map(|ty| ty.name());
        names.collect::<Vec<_>>().join(", ")
    };
    if !can_quantize(ty) {
        return Some(Error::CannotWrite { tensor: name, ty, supported: supported() });
    }
    if !can_dequantize(source) {
        let file = model.files.first().map_or_else(Default::default, |f| f.path().into());
        return Some(Error::CannotRead { path: file, tensor: name, ty: source });
    }
    None
}
