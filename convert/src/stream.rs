//! The engine: chunks of every tensor flow from the source to their places in the output.
//!
//! A worker takes the next chunk, reads it, widens it to single precision, looks for values that
//! are not finite, quantizes it, looks whether the blocks hold what they were made of, and writes
//! them where the plan put them. A tensor that is to become several types is read once. Chunks of
//! several tensors are in flight at once and no step waits for a tensor to be complete; the shards of a
//! split output are filled side by side. Memory is a fixed window: three buffers per worker, whatever
//! the size of the model.
//!
//! What the files are, and where in them the tensors are, is the caller's: see [`Output`].

mod groups;
mod limits;

use std::sync::{Mutex, PoisonError, atomic::Ordering};

use gguf_io::{AtomicFile, SourceFile};
use quant_core::{
    GgmlType,
    formats::Rows,
    grouped::{Grouped, Job as Quantization, Refinement, ScaleType},
};
use quant_weights::{CodeBlock, Source, TensorReader, finite::Stored};

use crate::{
    Control, Progress, Result,
    carry::{Carried, carry},
    chunks::{Chunk, chunks},
    grouped::blocks,
    job::{Form, Groups, Job},
    lost::{AllLost, Lost, Written},
    model::{Model, Tensor},
    options::Running,
    turns::turns,
    workers,
};

/// Where what is made goes.
pub(crate) trait Sink: Sync {
    /// Takes bytes at an offset. Threads do so at the same time, at different places.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
}

impl Sink for AtomicFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        Ok(self.write_all_at(bytes, offset)?)
    }
}

/// The files that are written, and where in them each job's tensor is.
pub(crate) struct Output<'a> {
    pub(crate) files: Vec<&'a dyn Sink>,
    /// In the order of the jobs.
    pub(crate) places: Vec<Places>,
}

/// Where the parts of a tensor go. All but packed groups are one part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Values, blocks or packed codes.
    pub(crate) data: Place,
    pub(crate) scales: Option<Place>,
    pub(crate) zero_points: Option<Place>,
    pub(crate) shape: Option<Place>,
}

/// A place in the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Index of the file.
    pub(crate) file: usize,
    /// Absolute offset in it.
    pub(crate) offset: u64,
}

impl Places {
    /// A tensor that is one part.
    pub(crate) fn one(file: usize, offset: u64) -> Self {
        let data = Place { file, offset };
        Self { data, scales: None, zero_points: None, shape: None }
    }
}

/// Files as sinks.
pub(crate) fn sinks(files: &[AtomicFile]) -> Vec<&dyn Sink> {
    files.iter().map(|file| file as &dyn Sink).collect()
}

/// Brings the tensors of all jobs to their places, then looks whether the inputs have changed
/// meanwhile. The bytes are the same for any number of threads and any instruction set.
pub(crate) fn stream(
    model: &Model,
    jobs: &[&Job],
    out: &Output<'_>,
    running: &Running,
    control: Control<'_>,
) -> Result<()> {
    let chunks = chunks(model, jobs);
    // What is fetched ahead comes in the order in which it was announced: that of the tensors.
    let is_ordered = model.files.iter().any(SourceFile::is_fetched_ahead);
    let turns = turns(&chunks, |chunk| match out.places.get(chunk.jobs.start) {
        Some(places) if !is_ordered => places.data.file,
        _ => 0,
    });
    model.will_read(jobs.iter().map(|job| &model.tensors[job.tensor]));
    let done = Mutex::new(0);
    let total = chunks.iter().map(|chunk| source_share(model, jobs, chunk)).sum();
    let lost = AllLost::default();
    let worker = || Worker {
        model,
        out,
        reader: model.reader(running.kernels),
        groups: Grouped::default(),
        codes: vec![],
        bytes: vec![],
    };
    let work = |worker: &mut Worker<'_>, chunk: &Chunk| -> Result<()> {
        control.check()?;
        let Some(first) = jobs.get(chunk.jobs.start) else { return Ok(()) };
        let tensor = &model.tensors[first.tensor];
        let copies = |job: &Job| job.form.copies(tensor.source_type());
        let read = worker.read(tensor, chunk, &jobs[chunk.jobs.clone()])?;
        // Those that copy go first, while the bytes are those that were read.
        for copied in [true, false] {
            for index in chunk.jobs.clone().filter(|&index| copies(jobs[index]) == copied) {
                let (job, places) = (jobs[index], &out.places[index]);
                lost.add(index, worker.convert(job, chunk, places, read)?);
            }
        }
        if let Some(progress) = control.progress {
            // Told under the lock, so that it never goes back.
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done += source_share(model, jobs, chunk);
            progress(Progress { done: *done, total, tensor: &tensor.name });
        }
        Ok(())
    };
    workers::run(running.threads, turns.len(), worker, |worker, turn| {
        let turn = turns.get(turn).and_then(|turn| chunks.get(turn.clone()));
        turn.unwrap_or_default().iter().try_for_each(|chunk| work(worker, chunk))
    })?;
    warn_of_scales(jobs);
    lost.warn(|job| {
        let job = jobs[job];
        let tensor = &model.tensors[job.tensor];
        Written {
            name: &tensor.name,
            elements: tensor.elements(),
            ty: job.form.name(),
            unit: job.form.unit(),
            has_importance: job.importance.is_some(),
        }
    });
    for file in &model.files {
        file.check_unchanged()?;
    }
    Ok(())
}

/// Says how many scales of carried codes half precision does not hold: of several outputs, the most.
fn warn_of_scales(jobs: &[&Job]) {
    let counts = jobs.iter().filter_map(|job| job.carries.as_ref());
    let count = counts.map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0);
    if count > 0 {
        tracing::warn!(
            kind = "carried-scales",
            "{count} scale{} of the checkpoint's codes {} not exact in half precision: the blocks \
             with {} were quantized anew",
            if count == 1 { "" } else { "s" },
            if count == 1 { "is" } else { "are" },
            if count == 1 { "it" } else { "them" },
        );
    }
}

/// Bytes of the source that a chunk takes. Those of all chunks of a tensor are the tensor's.
fn source_share(model: &Model, jobs: &[&Job], chunk: &Chunk) -> u64 {
    let Some(job) = jobs.get(chunk.jobs.start) else { return 0 };
    let tensor = &model.tensors[job.tensor];
    let (bytes, elements) = (tensor.source_bytes(), tensor.elements().max(1));
    let before = |element: u64| {
        let bytes = u128::from(bytes) * u128::from(element) / u128::from(elements);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    };
    before(chunk.range().end).saturating_sub(before(chunk.start))
}

/// The buffers of one thread.
struct Worker<'a> {
    model: &'a Model,
    out: &'a Output<'a>,
    reader: TensorReader<'a>,
    groups: Grouped,
    codes: Vec<CodeBlock>,
    bytes: Vec<u8>,
}

impl Worker<'_> {
    /// Reads a chunk: codes, if any job carries them, values, unless all jobs copy blocks or carry
    /// codes, and blocks, if any copies them. Returns the largest magnitude of the values.
    fn read(&mut self, tensor: &Tensor, chunk: &Chunk, jobs: &[&Job]) -> Result<f32> {
        let copies = |job: &&Job| job.form.copies(tensor.source_type());
        if jobs.iter().any(|job| job.carries.is_some()) {
            self.reader.code_blocks(tensor, chunk.range(), &mut self.codes)?;
            if self.carry_everything(jobs, chunk)? {
                return Ok(0.0);
            }
        }
        if !jobs.iter().any(copies) {
            return Ok(self.reader.load_finite(tensor, chunk.range())?);
        }
        if !jobs.iter().all(copies) {
            let magnitude =
                self.reader.blocks_and_values(tensor, chunk.range(), &mut self.bytes)?;
            return Ok(magnitude);
        }
        self.reader.blocks(tensor, chunk.range(), &mut self.bytes)?;
        Ok(0.0)
    }

    /// Writes a chunk that was [read](Self::read). Returns the weights that have become zero.
    fn convert(
        &mut self,
        job: &Job,
        chunk: &Chunk,
        places: &Places,
        magnitude: f32,
    ) -> Result<Lost> {
        let tensor = &self.model.tensors[job.tensor];
        let source = tensor.source_type();
        if job.form.copies(source) {
            // Integers and blocks already of the type asked for are carried over as they are.
            self.check_copied(tensor, chunk)?;
            self.put(places.data, chunk.offset(source))?;
            return Ok(Lost::default());
        }
        if let Some(count) = &job.carries {
            let carried = self.carry(job, chunk)?;
            count.fetch_add(carried.inexact_scales, Ordering::Relaxed);
            if carried.blocks == self.codes.len() as u64 {
                self.put(places.data, chunk.offset(job.form.ty()))?;
                return Ok(Lost::default());
            }
        }
        let row_len = match &job.importance {
            Some(_) => size(tensor.row_len())?,
            None => size(chunk.len)?.max(1),
        };
        let importance = job
            .importance
            .as_deref()
            .and_then(|weights| weights.chunks(row_len.max(1)).nth(chunk.matrix(tensor)));
        self.check_sums(job, chunk, importance, magnitude)?;
        match job.form {
            Form::Ggml(ty) => {
                self.resize(ty, chunk)?;
                let rows = Rows { values: self.reader.loaded(), row_len, importance };
                job.search.quantize(self.reader.kernels(), ty, rows, &mut self.bytes)?;
                if job.carries.is_some() {
                    carry(ty, &self.codes, &mut self.bytes);
                }
                let may_be_lost = self.check_finite(tensor, ty, chunk, magnitude)?;
                self.put(places.data, chunk.offset(ty))?;
                let values = self.reader.loaded();
                Ok(match (may_be_lost, Stored::from(ty)) {
                    (false, _) => Lost::default(),
                    (true, stored @ Stored::Blocks(..)) => {
                        Lost::in_blocks(stored, &self.bytes, chunk.start, values, importance)
                    }
                    (true, _) => Lost::of_floats(chunk.start, values, magnitude),
                })
            }
            Form::Blocks { groups, ty } => {
                self.resize(ty, chunk)?;
                self.quantize_groups(job, groups, ScaleType::F16, importance)?;
                blocks::encode(&self.groups, groups.len, ty, &mut self.bytes);
                self.check_finite(tensor, ty, chunk, magnitude)?;
                self.put(places.data, chunk.offset(ty))?;
                Ok(self.lost_groups(groups, chunk))
            }
            Form::Packed { groups, scale } => {
                self.quantize_groups(job, groups, scale, importance)?;
                self.put_groups(tensor, chunk, groups.ty.bits(), scale, places)?;
                Ok(self.lost_groups(groups, chunk))
            }
        }
    }

    /// Puts what codes can be carried of a chunk into `bytes`.
    fn carry(&mut self, job: &Job, chunk: &Chunk) -> Result<Carried> {
        self.resize(job.form.ty(), chunk)?;
        Ok(carry(job.form.ty(), &self.codes, &mut self.bytes))
    }

    /// Whether all jobs can carry all codes of a chunk, so that nothing else is read of it.
    fn carry_everything(&mut self, jobs: &[&Job], chunk: &Chunk) -> Result<bool> {
        for job in jobs {
            let all = self.codes.len() as u64;
            if job.carries.is_none() || self.carry(job, chunk)?.blocks != all {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes `bytes` as long as the chunk is in this type.
    fn resize(&mut self, ty: GgmlType, chunk: &Chunk) -> Result<()> {
        self.bytes.resize(size(ty.row_bytes(chunk.len)?)?, 0);
        Ok(())
    }

    /// Leaves the loaded values in `groups`.
    fn quantize_groups(
        &mut self,
        job: &Job,
        groups: Groups,
        stored: ScaleType,
        importance: Option<&[f32]>,
    ) -> Result<()> {
        let values = self.reader.loaded();
        let refinement = job.refine.then_some(Refinement { importance, stored });
        self.groups.resize(values.len(), groups.len);
        let job = Quantization { ty: groups.ty, values, group_len: groups.len, refinement };
        Ok(self.reader.kernels().quantize_groups(job, self.groups.view_mut())?)
    }

    fn lost_groups(&self, groups: Groups, chunk: &Chunk) -> Lost {
        Lost::in_groups(&self.groups, groups.ty, groups.len, chunk.start, self.reader.loaded())
    }

    /// Writes `bytes` at an offset in a part of a tensor.
    fn put(&self, place: Place, offset: u64) -> Result<()> {
        self.out.files[place.file].write_all_at(&self.bytes, place.offset + offset)
    }
}

fn size(n: u64) -> Result<usize> {
    Ok(usize::try_from(n).map_err(|_| quant_core::Error::TooLarge)?)
}
