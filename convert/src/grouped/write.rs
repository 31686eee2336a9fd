//! Writing a folder: chunks of rows of every weight flow to their places in the output files.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use gguf_io::{AtomicFile, AtomicFolder, SourceFile, WriteAt};
use quant_core::{
    GgmlType,
    grouped::{Grouped, Job, Refinement, ScaleType, pack},
};
use quant_weights::{Source, TensorReader};

use super::{FolderPlan, Scheme, folder::Layer};
use crate::{
    Control, Error, Options, Result,
    lost::{AllLost, Lost, Written},
    model::Tensor,
    workers,
};

/// Values in a chunk, unless eight rows are longer.
const CHUNK: u64 = 1 << 18;

/// Bytes that are copied at a time.
const COPY: u64 = 1 << 20;

/// Some rows of a weight, or some elements of one that is kept.
#[derive(Clone, Copy, Debug)]
struct Piece {
    layer: usize,
    start: u64,
    len: u64,
}

impl FolderPlan {
    /// Writes the folder, which appears under its name only when it is complete.
    ///
    /// The bytes are the same for any number of threads and any instruction set.
    ///
    /// # Errors
    /// As [`Plan::run`](crate::Plan::run).
    pub fn run(self, output: &Path, options: &Options, control: Control<'_>) -> Result<()> {
        self.run_with(output, options, control, |writer| writer)
    }

    /// What [`run`](Self::run) would refuse of an output, told without creating anything.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn check_output(&self, output: &Path, options: &Options) -> Result<()> {
        self.planned.check(options)?;
        self.refuse_inputs(output, options)?;
        Ok(AtomicFolder::check(output, options.writing())?)
    }

    /// [`run`](Self::run) with another writer around each in use, for tests of what happens when
    /// writing fails.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with(
        self,
        output: &Path,
        options: &Options,
        control: Control<'_>,
        wrap: impl Fn(Box<dyn WriteAt>) -> Box<dyn WriteAt>,
    ) -> Result<()> {
        self.planned.check(options)?;
        self.refuse_inputs(output, options)?;
        control.check()?;
        let folder = AtomicFolder::create(output, options.writing())?;
        let create =
            |name: &str, len| folder.create_file(name, len).map(|file| file.wrap_writer(&wrap));
        let files = folder.create_files(self.files.iter().map(|f| (f.name.as_str(), f.total)))?;
        let mut outputs = Vec::new();
        for (file, out) in self.files.iter().zip(files) {
            let out = out.wrap_writer(&wrap);
            out.expect_header(file.header.len() as u64);
            outputs.push(out);
        }
        self.write(&outputs, options.threads, control)?;
        for file in &self.model.files {
            file.check_unchanged()?;
        }
        // Headers go last: a file that has one is whole.
        for (file, out) in self.files.iter().zip(outputs) {
            out.write_all_at(&file.header, 0)?;
            out.commit()?;
        }
        for (name, bytes) in &self.texts {
            let out = create(name, bytes.len() as u64)?;
            out.write_all_at(bytes, 0)?;
            out.commit()?;
        }
        for name in &self.copies {
            let source = SourceFile::open(&self.dir.join(name))?;
            let out = create(name, source.len())?;
            let mut at = 0;
            let mut bytes = Vec::new();
            while at < source.len() {
                let len = COPY.min(source.len() - at);
                bytes.resize(usize::try_from(len).unwrap_or(0), 0);
                source.read_exact_at(&mut bytes, at)?;
                out.write_all_at(&bytes, at)?;
                at += len;
            }
            source.check_unchanged()?;
            out.commit()?;
        }
        control.check()?;
        folder.commit()?;
        Ok(())
    }

    /// Puts another reader around each file of weights, for tests of what happens when reading fails.
    ///
    /// # Errors
    /// As `wrap`.
    pub fn wrap_files(
        mut self,
        wrap: impl FnMut(SourceFile) -> gguf_io::Result<SourceFile>,
    ) -> Result<Self> {
        self.model.files = self.model.files.into_iter().map(wrap).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The output replaces a folder as a whole: no input may be in it.
    fn refuse_inputs(&self, output: &Path, options: &Options) -> Result<()> {
        let Ok(target) = output.canonicalize() else { return Ok(()) };
        let inputs = [Some(self.dir.as_path()), options.imatrix.as_deref()];
        let weights = self.model.files.iter().map(|file| file.path());
        let inside = |input: &Path| {
            let real = input.canonicalize().unwrap_or_default();
            // The checkpoint of a download cache is links: the folder they are in counts as well.
            let folder = input.parent().and_then(|p| p.canonicalize().ok());
            real.starts_with(&target) || folder.is_some_and(|f| f.starts_with(&target))
        };
        if inputs.into_iter().flatten().chain(weights).any(inside) || target == self.dir {
            return Err(Error::SameFile { path: output.into() });
        }
        Ok(())
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (layer, (tensor, what)) in self.model.tensors.iter().zip(&self.layers).enumerate() {
            let elements = tensor.elements();
            let unit = match what.scheme {
                Scheme::Keep => 1,
                // Whole words of zero points, which are packed along the rows.
                Scheme::Groups { ty, .. } => {
                    u64::from(32 / ty.bits()).saturating_mul(tensor.row_len())
                }
            };
            let step = (CHUNK / unit.max(1)).max(1).saturating_mul(unit.max(1));
            let mut start = 0;
            while start < elements {
                let len = step.min(elements - start);
                pieces.push(Piece { layer, start, len });
                start += len;
            }
        }
        pieces
    }

    fn write(&self, outputs: &[AtomicFile], threads: usize, control: Control<'_>) -> Result<()> {
        let pieces = self.pieces();
        let done = AtomicU64::new(0);
        let lost = AllLost::default();
        let kernels = control.kernels.unwrap_or_default();
        let worker = || Worker {
            plan: self,
            outputs,
            reader: self.model.reader(kernels),
            groups: Grouped::default(),
            bytes: Vec::new(),
        };
        workers::run(threads, pieces.len(), worker, |worker, index| {
            control.check()?;
            let Some(piece) = pieces.get(index) else { return Ok(()) };
            lost.add(piece.layer, worker.convert(piece)?);
            if let Some(progress) = control.progress {
                let tensor = &self.model.tensors[piece.layer];
                let share = tensor.source_type().row_bytes(piece.len)?;
                progress(done.fetch_add(share, Ordering::Relaxed) + share);
            }
            Ok(())
        })?;
        lost.warn(|layer| {
            let tensor = &self.model.tensors[layer];
            let ty = match self.layers[layer].scheme {
                Scheme::Groups { ty, .. } => ty.name(),
                Scheme::Keep => tensor.source_type().name(),
            };
            let (name, elements) = (&tensor.name, tensor.elements());
            Written { name, elements, ty, unit: "group", has_importance: false }
        });
        Ok(())
    }
}

/// The buffers of one thread.
struct Worker<'a> {
    plan: &'a FolderPlan,
    outputs: &'a [AtomicFile],
    reader: TensorReader<'a>,
    groups: Grouped,
    bytes: Vec<u8>,
}

impl Worker<'_> {
    /// Writes a piece. Returns the weights that have become zero.
    fn convert(&mut self, piece: &Piece) -> Result<Lost> {
        let plan = self.plan;
        let (tensor, layer) = (&plan.model.tensors[piece.layer], &plan.layers[piece.layer]);
        let range = piece.start..piece.start + piece.len;
        self.reader.load_finite(tensor, range.clone())?;
        match layer.scheme {
            Scheme::Keep => {
                self.reader.blocks(tensor, range, &mut self.bytes)?;
                self.put(layer.weight, tensor.source_type().row_bytes(piece.start)?)?;
                Ok(Lost::default())
            }
            Scheme::Groups { ty, len, .. } => {
                let values = self.reader.loaded();
                let refinement = plan.options.refine.then_some(Refinement {
                    importance: layer.importance.as_deref(),
                    stored: layer.scale,
                });
                self.groups.resize(values.len(), len);
                let job = Job { ty, values, group_len: len, refinement };
                self.reader.kernels().quantize_groups(job, self.groups.view_mut())?;
                self.put_groups(tensor, layer, piece, ty.bits())?;
                let values = self.reader.loaded();
                Ok(Lost::in_groups(&self.groups, ty, len, piece.start, values))
            }
        }
    }

    /// Writes codes, scales and zero points of some rows.
    fn put_groups(
        &mut self,
        tensor: &Tensor,
        layer: &Layer,
        piece: &Piece,
        bits: u32,
    ) -> Result<()> {
        let row_len = usize::try_from(tensor.row_len()).map_err(|_| quant_core::Error::TooLarge)?;
        let row = piece.start / tensor.row_len().max(1);
        let rows = self.groups.codes.len() / row_len.max(1);
        let groups = self.groups.scales.len() / rows.max(1);

        let words = pack::words(bits, row_len)?;
        self.bytes.resize(4 * words * rows, 0);
        pack::rows(bits, &self.groups.codes, row_len, &mut self.bytes)?;
        self.put(layer.weight, row * 4 * words as u64)?;

        self.bytes.clear();
        let group_len = self.groups.codes.len() / self.groups.scales.len().max(1);
        for (group, scale) in self.groups.scales.iter().enumerate() {
            let stored = layer.scale.round(*scale);
            if !stored.is_finite() {
                let start = group.saturating_mul(group_len);
                let (index, magnitude) =
                    self.reader.largest(start..start.saturating_add(group_len));
                let index = piece.start.saturating_add(index);
                let (tensor, ty, importance) = (tensor.name.clone(), GgmlType::F16, None);
                return Err(Error::Overflow { tensor, ty, magnitude, index, importance });
            }
            let bits = match layer.scale {
                ScaleType::Bf16 => half::bf16::from_f32(stored).to_bits(),
                _ => half::f16::from_f32(stored).to_bits(),
            };
            self.bytes.extend(bits.to_le_bytes());
        }
        self.put(layer.scales, row * 2 * groups as u64)?;

        if let Some(place) = layer.zero_points {
            let per_word = pack::per_word(bits)?;
            self.bytes.resize(4 * groups * rows.div_ceil(per_word), 0);
            pack::columns(bits, &self.groups.zero_points, groups, &mut self.bytes)?;
            self.put(place, row / per_word as u64 * 4 * groups as u64)?;
        }
        if row == 0 {
            let shape = [tensor.shape.get(1).copied().unwrap_or(1), tensor.row_len()];
            self.bytes.clear();
            self.bytes.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
            self.put(layer.shape, 0)?;
        }
        Ok(())
    }

    /// Writes `bytes` at an offset in an output tensor.
    fn put(&self, place: usize, offset: u64) -> Result<()> {
        let placed = &self.plan.placed[place];
        Ok(self.outputs[placed.file].write_all_at(&self.bytes, placed.offset + offset)?)
    }
}
