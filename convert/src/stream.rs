//! Running a plan: chunks of every tensor flow from the source to their place in the output.
//!
//! A worker takes the next chunk, reads it, widens it to single precision, looks for values that
//! are not finite, quantizes it, looks whether the blocks hold what they were made of, and writes
//! them where the plan put them. Chunks of several tensors are
//! in flight at once and no step waits for a tensor to be complete. Memory is a fixed window: three
//! buffers per worker, whatever the size of the model.

use std::{
    ops::Range,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use gguf_io::{AtomicFile, AtomicSet};
use quant_core::{
    GgmlType, can_dequantize,
    formats::Rows,
    grouped::{self, Grouped, Refinement, ScaleType},
};
use quant_kernels::Kernels;
use quant_weights::{
    Source, TensorReader,
    finite::{LARGEST_HALF, Stored},
};

use crate::{
    Error, Options, Result,
    chunks::{Chunk, chunks},
    grouped::{Scheme, encode},
    lost::{AllLost, Lost, Written},
    model::{Model, Tensor},
    plan::{Job, Plan},
    workers,
};

/// More than any block with a half-precision scale holds: of all types Q6_K multiplies it with the
/// largest codes.
const MOST_OF_BLOCKS: f32 = LARGEST_HALF * 128.0 * 32.0;

/// How a conversion is watched and stopped.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    /// Called from the workers with the bytes of the source done so far.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
    /// Set to stop: the temporary is removed and [`Error::Cancelled`] returned.
    pub cancel: Option<&'a AtomicBool>,
    /// The kernels to use; the fastest of this CPU if `None`.
    pub kernels: Option<Kernels>,
}

impl std::fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("kernels", &self.kernels).finish_non_exhaustive()
    }
}

impl Control<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        match self.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}

impl Plan {
    /// Runs the plan: writes `output`, which appears under its name only when it is complete. The
    /// files of a split output ([`paths`](Self::paths)) appear together.
    ///
    /// The bytes are the same for any number of threads and any instruction set.
    ///
    /// # Errors
    /// [`Error::OtherOptions`] if the plan was made with other options, but for how outputs are
    /// written; [`Error::SameFile`] if the output is one of the inputs, [`Error::NonFinite`] and
    /// [`Error::Overflow`] for weights that cannot be quantized (that some become zero is only
    /// warned of), [`Error::Cancelled`], and
    /// [`Error::Files`] for whatever reading and writing runs into.
    pub fn run(self, output: &Path, options: &Options, control: Control<'_>) -> Result<()> {
        let out = self.create(output, options)?;
        self.run_into(out, options, control)
    }

    /// Creates the temporaries that [`run`](Self::run) writes to, for a caller that puts writers of
    /// its own [around them](AtomicSet::wrap_writer).
    ///
    /// # Errors
    /// As [`run`](Self::run), before anything is read.
    pub fn create(&self, output: &Path, options: &Options) -> Result<AtomicSet> {
        self.planned.check(options)?;
        self.check()?;
        let paths = self.paths(output);
        for path in &paths {
            self.refuse_inputs(path, options)?;
        }
        let sizes = self.layouts.iter().map(|layout| layout.total);
        let files: Vec<_> = paths.into_iter().zip(sizes).collect();
        let set = AtomicSet::create(&files, options.writing())?;
        for (file, layout) in set.files().iter().zip(&self.layouts) {
            file.expect_header(layout.header.len() as u64);
        }
        Ok(set)
    }

    /// What [`create`](Self::create) would refuse of an output, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check_output(&self, output: &Path, options: &Options) -> Result<()> {
        self.planned.check(options)?;
        for (path, layout) in self.paths(output).iter().zip(&self.layouts) {
            self.refuse_inputs(path, options)?;
            AtomicFile::check(path, layout.total, options.writing())?;
        }
        Ok(())
    }

    /// [Runs](Self::run) the plan into what [`create`](Self::create) has made.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_into(self, out: AtomicSet, options: &Options, control: Control<'_>) -> Result<()> {
        self.planned.check(options)?;
        self.write(out.files(), options.threads, control)?;
        for file in &self.model.files {
            file.check_unchanged()?;
        }
        // The headers go last: a file that has one is whole.
        for (file, layout) in out.files().iter().zip(&self.layouts) {
            file.write_all_at(&layout.header, 0)?;
        }
        control.check()?;
        out.commit()?;
        Ok(())
    }

    fn refuse_inputs(&self, output: &Path, options: &Options) -> Result<()> {
        let weights = self.model.files.iter();
        let beside = weights.clone().filter_map(|f| f.path().parent());
        let mut same = weights.clone().any(|f| f.is_same_file(output));
        // Every file of a checkpoint's folder counts as an input, whether or not it was read.
        for folder in beside.collect::<std::collections::BTreeSet<_>>() {
            same |= self.model.origin.is_checkpoint() && holds(folder, output);
        }
        same |= options.imatrix.as_ref().is_some_and(|imatrix| {
            gguf_io::SourceFile::open(imatrix).is_ok_and(|f| f.is_same_file(output))
        });
        if same { Err(Error::SameFile { path: output.into() }) } else { Ok(()) }
    }

    fn write(&self, out: &[AtomicFile], threads: usize, control: Control<'_>) -> Result<()> {
        let placed: Vec<_> = self.placed().collect();
        let chunks = chunks(&self.model, &self.jobs);
        let done = AtomicU64::new(0);
        let lost = AllLost::default();
        let kernels = control.kernels.unwrap_or_else(Kernels::best);
        let worker = || Worker {
            model: &self.model,
            reader: self.model.reader(kernels),
            groups: Grouped::default(),
            bytes: vec![],
        };
        workers::run(threads, chunks.len(), worker, |worker, index| {
            control.check()?;
            let Some(chunk) = chunks.get(index) else { return Ok(()) };
            let job = &self.jobs[chunk.job];
            lost.add(chunk.job, worker.convert(job, chunk)?);
            let (shard, placed) = placed[chunk.job];
            out[shard].write_all_at(&worker.bytes, placed.offset + chunk.offset(job.ty))?;
            if let Some(progress) = control.progress {
                let tensor = &self.model.tensors[job.tensor];
                let share = source_share(tensor, chunk);
                progress(done.fetch_add(share, Ordering::Relaxed) + share);
            }
            Ok(())
        })?;
        lost.warn(|job| {
            let job = &self.jobs[job];
            let tensor = &self.model.tensors[job.tensor];
            let unit = match job.scheme {
                Scheme::Keep => Stored::from(job.ty).noun(),
                Scheme::Groups { .. } => "group",
            };
            Written {
                name: &tensor.name,
                elements: tensor.elements(),
                ty: job.ty.name(),
                unit,
                has_importance: job.importance.is_some(),
            }
        });
        Ok(())
    }
}

/// Whether a folder has an entry, other than an output of before, that is the same file as
/// `output`.
fn holds(folder: &Path, output: &Path) -> bool {
    if !output.exists() {
        return false;
    }
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let of_before = entry.path().extension().is_some_and(|e| e == "gguf");
            !of_before
                && gguf_io::SourceFile::open(&entry.path()).is_ok_and(|f| f.is_same_file(output))
        })
    })
}

fn source_share(tensor: &Tensor, chunk: &Chunk) -> u64 {
    let elements = tensor.elements().max(1);
    let share = u128::from(tensor.source_bytes()) * u128::from(chunk.len) / u128::from(elements);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The buffers of one thread.
struct Worker<'a> {
    model: &'a Model,
    reader: TensorReader<'a>,
    groups: Grouped,
    bytes: Vec<u8>,
}

impl Worker<'_> {
    /// Leaves the chunk's output in `bytes`. Returns the weights that have become zero.
    fn convert(&mut self, job: &Job, chunk: &Chunk) -> Result<Lost> {
        let tensor = &self.model.tensors[job.tensor];
        let len = usize::try_from(chunk.len).map_err(|_| quant_core::Error::TooLarge)?;
        let source = tensor.source_type();
        if source == job.ty && !is_float(source) {
            // Integers and blocks already of the type asked for are carried over as they are.
            self.reader.blocks(tensor, chunk.range(), &mut self.bytes)?;
            self.check_copied(tensor, chunk)?;
            return Ok(Lost::default());
        }

        let magnitude = self.reader.load_finite(tensor, chunk.range())?;
        let row_len = match &job.importance {
            Some(_) => {
                usize::try_from(tensor.row_len()).map_err(|_| quant_core::Error::TooLarge)?
            }
            None => len.max(1),
        };
        let importance = job
            .importance
            .as_deref()
            .and_then(|weights| weights.chunks(row_len.max(1)).nth(chunk.matrix(tensor)));
        let bytes = job.ty.row_bytes(chunk.len)?;
        self.bytes.resize(usize::try_from(bytes).map_err(|_| quant_core::Error::TooLarge)?, 0);
        let values = self.reader.loaded();
        let most = importance.map(|row| row.iter().fold(0.0, |most: f32, v| most.max(*v)));
        if most.is_some_and(|most| sums_overflow(most, magnitude)) {
            return Err(self.overflow(tensor, job.ty, chunk, 0..len, most));
        }
        if let Scheme::Groups { ty, len: group_len, .. } = job.scheme {
            let stored = ScaleType::F16;
            let refinement = job.refine.then_some(Refinement { importance, stored });
            self.groups.resize(values.len(), group_len);
            let groups = grouped::Job { ty, values, group_len, refinement };
            self.reader.kernels().quantize_groups(groups, self.groups.view_mut())?;
            encode(&self.groups, group_len, job.ty, &mut self.bytes);
            self.check_finite(tensor, job.ty, chunk, magnitude)?;
            let values = self.reader.loaded();
            return Ok(Lost::in_groups(&self.groups, ty, group_len, chunk.start, values));
        }
        let rows = Rows { values, row_len, importance };
        self.reader.kernels().quantize_unchecked(job.ty, rows, &mut self.bytes)?;
        let may_be_lost = self.check_finite(tensor, job.ty, chunk, magnitude)?;
        let values = self.reader.loaded();
        Ok(match (may_be_lost, Stored::from(job.ty)) {
            (false, _) => Lost::default(),
            (true, stored @ Stored::Blocks(..)) => {
                Lost::in_blocks(stored, &self.bytes, chunk.start, values, importance)
            }
            (true, _) => Lost::of_floats(chunk.start, values, magnitude),
        })
    }

    /// Refuses output that is not finite, as llama-quantize does when it validates rows, and weights
    /// beyond what blocks hold, whose scales need not be infinite but mean nothing. Returns whether
    /// there may be blocks, or floats, all of which are zero though their weights are not.
    fn check_finite(
        &self,
        tensor: &Tensor,
        ty: GgmlType,
        chunk: &Chunk,
        magnitude: f32,
    ) -> Result<bool> {
        let all = || 0..self.reader.loaded().len();
        let stored = Stored::from(ty);
        if let Stored::Blocks(..) = stored {
            let scales = stored.scales(&self.bytes);
            if !scales.finite {
                let (block, _) = stored.find(&self.bytes).unwrap_or_default();
                let start =
                    usize::try_from(block).unwrap_or_default().saturating_mul(ty.block_len());
                let end = start.saturating_add(ty.block_len());
                return Err(self.overflow(tensor, ty, chunk, start..end, None));
            }
            if magnitude > MOST_OF_BLOCKS && stored.is_scaled_by_halves() {
                return Err(self.overflow(tensor, ty, chunk, all(), None));
            }
            return Ok(scales.zero);
        }
        let (least, too_large) = match ty {
            // Halfway to the least number, and to the one after the largest: ties go to the even
            // zero and to infinity.
            GgmlType::F16 => (2f32.powi(-25), 65520.0),
            GgmlType::BF16 => (f32::from_bits(0x8000), f32::from_bits(0x7f7f_8000)),
            _ => return Ok(false),
        };
        if magnitude >= too_large {
            return Err(self.overflow(tensor, ty, chunk, all(), None));
        }
        Ok(magnitude > 0.0 && magnitude <= least)
    }

    /// The error that refuses some values of a chunk, with the largest of them.
    fn overflow(
        &self,
        tensor: &Tensor,
        ty: GgmlType,
        chunk: &Chunk,
        within: Range<usize>,
        importance: Option<f32>,
    ) -> Error {
        let (index, magnitude) = self.reader.largest(within);
        let index = chunk.start.saturating_add(index);
        Error::Overflow { tensor: tensor.name.clone(), ty, magnitude, index, importance }
    }

    /// What is carried over is as finite as what is converted.
    fn check_copied(&mut self, tensor: &Tensor, chunk: &Chunk) -> Result<()> {
        let source = tensor.source_type();
        let Some((first, count)) = Stored::from(source).find(&self.bytes) else { return Ok(()) };
        if can_dequantize(source) {
            // Finds the very values.
            self.reader.load_finite(tensor, chunk.range())?;
        }
        let len = source.block_len() as u64;
        Err(Error::NonFinite {
            tensor: tensor.name.clone(),
            index: chunk.start.saturating_add(first.saturating_mul(len)),
            value: f32::NAN,
            count: count.saturating_mul(len),
        })
    }
}

/// Whether single precision may not hold what quantizers sum up of a block: products of importance,
/// the weight and the square of the weight or of its code, of which 256 are less than this.
fn sums_overflow(importance: f32, magnitude: f32) -> bool {
    let (importance, magnitude) = (f64::from(importance), f64::from(magnitude));
    let square = (magnitude * magnitude).max(128.0 * 128.0);
    256.0 * 1.5 * importance * magnitude * square >= f64::from(f32::MAX)
}

fn is_float(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
}
