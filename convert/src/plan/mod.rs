//! The plan: every tensor's type, every output offset and the exact size, before a weight is read.
//!
//! It is made in stages: [`assign`] chooses tensors, names and types, [`describe`] makes the metadata,
//! [`layout`] the files. [`run`] hands the result to the engine.

mod assign;
mod describe;
mod given;
mod ladder;
mod layout;
mod parts;
mod run;
mod unused;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gguf_io::{Layout, Metadata, PlacedTensor, gguf::shards};
use quant_core::{GgmlType, can_dequantize, can_quantize};

use crate::{
    Control, Error, Options, Result,
    carry::is_coded,
    importance::Importance,
    mend,
    model::{Model, Origin, Tensor},
    options::Running,
    recipe::{FileType, ModelFacts, Pruning},
};
use assign::Assigned;
use given::Given;
pub use ladder::Ladder;

/// A conversion that is ready to run.
#[derive(Debug)]
#[must_use = "nothing is written until it is told to"]
pub struct Plan {
    /// Shared by the plans of a [ladder](crate::Ladder).
    model: Arc<Model>,
    /// What is written, which need not be the model's.
    metadata: Metadata,
    /// In the order they are written.
    tensors: Vec<Assigned>,
    /// One, or one for each shard; the same tensors in the same order.
    layouts: Vec<Layout>,
    /// Which files of the output they are, if it is split.
    shards: Option<Shards>,
    /// Whether one shard was asked for.
    is_shard: bool,
    file_type: Option<FileType>,
    allow_requantize: bool,
    running: Running,
}

/// Which files of a split output a plan is of.
#[derive(Clone, Copy, Debug)]
struct Shards {
    /// How many come before them.
    before: usize,
    /// How many the output has in all.
    count: usize,
}

/// A file of a split output, as the plan has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedShard {
    /// Its number, from 1.
    pub number: usize,
    /// How many files the output has in all.
    pub count: usize,
    /// How many tensors it holds.
    pub tensors: usize,
    /// Size in bytes, header and padding included.
    pub bytes: u64,
}

/// A tensor of the output, as the plan has it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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
    /// Whether blocks of the input are copied as they are, or its codes become blocks that hold them.
    pub carried: bool,
    /// Whether the input has codes of few bits that are restored and quantized again.
    pub recomputed: bool,
    /// Bytes of its data.
    pub bytes: u64,
    /// The number of its file, from 0.
    pub shard: usize,
}

/// Counts scales that half precision does not hold; see [`Plan::inexact_scales`].
#[derive(Clone, Debug)]
pub struct InexactScales(Arc<AtomicU64>);

impl InexactScales {
    /// As many as have been met so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Plan {
    /// Plans a conversion. Reads the importance matrix; of weights the first rows of codes that may be
    /// carried, all only for grouped integers with a ratio below 1.
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
        Self::of(Arc::new(model), options, control)
    }

    /// Plans for a model whose metadata has been mended.
    pub(crate) fn of(model: Arc<Model>, options: &Options, control: Control<'_>) -> Result<Self> {
        let part = parts::of(&model);
        if let Some(part) = part {
            parts::refuse(part, options)?;
        }
        let importance = Importance::open(options)?.filter(|importance| !importance.is_empty());
        if let Some(importance) = &importance {
            importance.warn_of_strays(model.tensors.iter().map(|tensor| tensor.name.as_str()));
        }
        // The order of llama-quantize: overrides are seen by the recipe, pruning is not.
        let mut overridden = model.metadata.clone();
        for (key, value) in &options.override_kv {
            overridden.insert(key.clone(), value.clone());
        }
        let facts = match part {
            Some(_) => ModelFacts::default(),
            None => ModelFacts::from_metadata(&overridden)?,
        };
        let pruning = match &options.prune_layers {
            Some(layers) => Some(Pruning::parse(layers, facts.layers)?),
            None => None,
        };
        let given = Given {
            model: &model,
            options,
            facts: &facts,
            pruning: pruning.as_ref(),
            importance: importance.as_ref(),
        };

        let mut assigned = match part {
            Some(_) => parts::assign(&given)?,
            None => assign::assign(&given, control)?,
        };
        unused::warn(&given, &assigned);
        // What says where weights come from would be untrue of a file that has none of them.
        let told = assigned.uses_importance || options.like_reference;
        let importance = given.importance.filter(|_| told);
        unused::overrides(&given, importance.is_some())?;
        let metadata = describe::describe(&given, &assigned, importance)?;
        let layouts = layout::lay_out(&given, &mut assigned.tensors, &metadata)?;
        unused::split(options.split, &layouts);
        let shards = options.split.map(|_| Shards { before: 0, count: layouts.len() });
        let mut plan = Self {
            model,
            metadata,
            tensors: assigned.tensors,
            layouts,
            shards,
            is_shard: false,
            file_type: assigned.file_type,
            allow_requantize: options.allow_requantize,
            running: options.running(),
        };
        if let Some(number) = options.shard {
            plan.keep_shard(number)?;
        }
        Ok(plan)
    }

    /// Leaves one file of the output in the plan.
    fn keep_shard(&mut self, number: u64) -> Result<()> {
        // What no whole run would write, none of the jobs writes a part of.
        self.check()?;
        let count = self.layouts.len();
        let before = number.checked_sub(1).and_then(|before| usize::try_from(before).ok());
        let before =
            before.filter(|before| *before < count).ok_or(Error::Shard { number, count })?;
        let first: usize = self.layouts[..before].iter().map(|layout| layout.tensors.len()).sum();
        let layout = self.layouts.swap_remove(before);
        self.tensors.drain(..first);
        self.tensors.truncate(layout.tensors.len());
        self.layouts = vec![layout];
        self.shards = self.shards.map(|shards| Shards { before, ..shards });
        self.is_shard = true;
        Ok(())
    }

    /// Whether the plan can run.
    ///
    /// # Errors
    /// The first of: weights of an importance matrix that a type needs and that are missing, a
    /// type this version cannot write, tensors that are quantized already, without
    /// [`Options::allow_requantize`].
    pub fn check(&self) -> Result<()> {
        self.tensors.iter().try_for_each(|planned| {
            let tensor = &self.model.tensors[planned.job.tensor];
            let obstacle = obstacle(&self.model, tensor, planned.ty, self.allow_requantize);
            // An importance matrix would not help a type that is not written.
            let hopeless = matches!(obstacle, Some(Error::CannotWrite { .. }));
            match planned.lacks_importance && !hopeless {
                true => {
                    Err(Error::ImportanceNeeded { tensor: tensor.name.clone(), ty: planned.ty })
                }
                false => obstacle.map_or(Ok(()), Err),
            }
        })
    }

    /// The recipe; `None` if every tensor keeps its type.
    pub fn file_type(&self) -> Option<FileType> {
        self.file_type
    }

    /// The tensors in the order they are written.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = PlannedTensor<'_>> {
        let placed: Vec<_> = self.placed().collect();
        let before = self.shards.map_or(0, |shards| shards.before);
        self.tensors.iter().zip(placed).map(move |(tensor, (shard, placed))| PlannedTensor {
            name: &placed.name,
            shape: &placed.shape,
            ty: placed.ty,
            wanted: tensor.wanted,
            without_importance: tensor.without_importance,
            carried: self.is_carried(tensor),
            recomputed: tensor.ty.is_quantized()
                && !self.is_carried(tensor)
                && is_coded(self.source(tensor)),
            bytes: placed.bytes,
            shard: before + shard,
        })
    }

    /// Names of the checkpoint's tensors that have no place in the output.
    pub fn left_out(&self) -> &[String] {
        &self.model.left_out
    }

    /// For each tensor of [`tensors`](Self::tensors) its index in the model, if its type is the
    /// recipe's to choose.
    pub(crate) fn free(&self) -> impl Iterator<Item = Option<usize>> {
        self.tensors.iter().map(|tensor| tensor.is_free.then_some(tensor.job.tensor))
    }

    /// How many scales of carried codes half precision does not hold. Their blocks are quantized anew.
    /// The run counts them: keep the counter, and ask it afterwards. `None` if no codes are carried.
    pub fn inexact_scales(&self) -> Option<InexactScales> {
        // All have the same counter.
        let counter = self.tensors.iter().find_map(|tensor| tensor.job.carries.as_ref());
        counter.map(|counter| InexactScales(Arc::clone(counter)))
    }

    fn is_carried(&self, tensor: &Assigned) -> bool {
        let copies = self.source(tensor).source_type() == tensor.ty;
        tensor.job.carries.is_some() || tensor.ty.is_quantized() && copies
    }

    fn source(&self, tensor: &Assigned) -> &Tensor {
        &self.model.tensors[tensor.job.tensor]
    }

    /// The place of every tensor: the number of its file, and where it is in that.
    fn placed(&self) -> impl Iterator<Item = (usize, &PlacedTensor)> {
        let files = self.layouts.iter().enumerate();
        files.flat_map(|(shard, layout)| layout.tensors.iter().map(move |t| (shard, t)))
    }

    /// The files of the output if it is to be split, be it into one.
    pub fn shards(&self) -> Option<impl ExactSizeIterator<Item = PlannedShard>> {
        let Shards { before, count } = self.shards?;
        Some(self.layouts.iter().enumerate().map(move |(index, layout)| PlannedShard {
            number: before + index + 1,
            count,
            tensors: layout.tensors.len(),
            bytes: layout.total,
        }))
    }

    /// The paths of the output's files: `output` itself, or if it is to be split
    /// `NAME-00001-of-00003.gguf` and so on.
    pub fn paths(&self, output: &Path) -> Vec<PathBuf> {
        let Some(Shards { before, count }) = self.shards else { return vec![output.to_owned()] };
        let paths = shards::paths(output, count).into_iter();
        paths.skip(before).take(self.layouts.len()).collect()
    }

    /// The metadata that is written.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Size of the output in bytes, headers and padding included.
    pub fn total_bytes(&self) -> u64 {
        self.layouts.iter().fold(0, |sum, layout| sum.saturating_add(layout.total))
    }

    /// Bytes that are read from the source.
    pub fn source_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| self.source(tensor).source_bytes()).sum()
    }

    /// Bits per weight over all tensors, the header left out.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.tensors.iter().map(|tensor| self.source(tensor).elements()).sum();
        let bytes: u64 = self.placed().map(|(_, t)| t.bytes).sum();
        if weights == 0 { 0.0 } else { bytes as f64 * 8.0 / weights as f64 }
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
