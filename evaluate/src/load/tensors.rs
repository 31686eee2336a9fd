//! Tensors of a source, as they are used.

use std::{collections::HashMap, ops::Range};

use gguf_model::Norm as NormKind;
use quant_kernels::{PackedMatrix, PackedMemory, activation_type};
use quant_weights::{Source, Tensor, TensorReader};

use crate::{
    Error, Options, Result,
    run::{
        matrix::Matrix,
        norm::Norm,
        runner::{Runner, Stored},
    },
};

/// Bytes of a matrix that are packed at a time.
const PART: u64 = 32 << 20;
/// Values of a tensor that is not read, at most.
const MOST_VALUES: usize = 1 << 26;
/// Rows that are packed side by side.
const GROUP: u64 = 16;

/// Finds tensors by name and remembers which were used.
pub(crate) struct Tensors<'a> {
    source: &'a dyn Source,
    reader: TensorReader<'a>,
    options: &'a Options,
    by_name: HashMap<&'a str, (&'a Tensor, bool)>,
    memory: PackedMemory,
    pub(crate) bytes: u64,
    /// Whether matrices are read, and the values of small tensors. What is not read is zeros.
    pub(crate) reads_matrices: bool,
    pub(crate) reads_values: bool,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(source: &'a dyn Source, options: &'a Options) -> Self {
        let by_name = source.tensors().iter().map(|t| (t.name.as_str(), (t, false))).collect();
        let reader = source.reader(options.kernels);
        Self {
            source,
            reader,
            options,
            by_name,
            memory: PackedMemory::default(),
            bytes: 0,
            reads_matrices: true,
            reads_values: true,
        }
    }

    /// Reserves room for the matrices whose names begin like this.
    pub(crate) fn reserve(&mut self, prefix: &str) {
        let matrices = self.source.tensors().iter().filter(|t| {
            t.shape.len() > 1
                && t.name.starts_with(prefix)
                && activation_type(t.source_type()).is_some()
        });
        let bytes = matrices.fold(0u64, |sum, t| {
            let row = t.source_type().row_bytes(t.row_len()).unwrap_or(0);
            let size = |axis: usize| t.shape.get(axis).copied().unwrap_or(1);
            let rows = size(1).div_ceil(GROUP).saturating_mul(GROUP).saturating_mul(size(2));
            sum.saturating_add(rows.saturating_mul(row))
        });
        self.memory = PackedMemory::reserve(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    pub(crate) fn runner(&self) -> Runner<'a> {
        Runner::new(self.options.kernels, &*self.options.threads)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The tensor of this name; it counts as used.
    pub(crate) fn find(&mut self, name: &str) -> Option<&'a Tensor> {
        let (tensor, used) = self.by_name.get_mut(name)?;
        *used = true;
        Some(tensor)
    }

    /// The tensors, in the order of the file, that were not used.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &'a Tensor> {
        let unused = |t: &&Tensor| self.by_name.get(t.name.as_str()).is_some_and(|(_, used)| !used);
        self.source.tensors().iter().filter(unused)
    }

    pub(crate) fn error(&self, tensor: &Tensor, message: impl Into<String>) -> Error {
        let files = self.source.files();
        let file = tensor.place().and_then(|(file, _)| files.get(file)).or(files.first());
        let file = file.map(|file| file.path().to_owned()).unwrap_or_default();
        Error::Tensor { file, tensor: tensor.name.clone(), message: message.into() }
    }

    /// A part of a model without values is none.
    fn refuse_empty(&self, tensor: &Tensor) -> Result<()> {
        if tensor.shape.contains(&0) {
            return Err(self.error(tensor, format!("has shape {:?}: it is empty", tensor.shape)));
        }
        Ok(())
    }

    /// The stored blocks of some rows.
    fn read(&mut self, tensor: &Tensor, rows: Range<u64>) -> Result<Vec<u8>> {
        let row = tensor.row_len();
        let ty = tensor.source_type();
        let bytes = (rows.end - rows.start).saturating_mul(ty.row_bytes(row).unwrap_or(0));
        let mut data = Vec::new();
        usize::try_from(bytes).ok().and_then(|len| data.try_reserve_exact(len).ok()).ok_or_else(
            || Error::Memory {
                what: format!("tensor {}", tensor.name),
                needed: bytes,
                available: 0,
                hint: "run a smaller file",
            },
        )?;
        self.reader.blocks(tensor, rows.start * row..rows.end * row, &mut data)?;
        Ok(data)
    }

    /// The values of a small tensor.
    pub(crate) fn values(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.find(name) else { return Ok(None) };
        let values = if self.reads_values {
            self.reader.values(tensor, 0..tensor.elements())?.to_vec()
        } else {
            let len = usize::try_from(tensor.elements()).ok().filter(|len| *len <= MOST_VALUES);
            let says = || self.error(tensor, "has more values than a tensor of its kind may have");
            vec![0.0; len.ok_or_else(says)?]
        };
        self.bytes += 4 * values.len() as u64;
        Ok(Some(values))
    }

    /// A norm by the name of its tensor without the suffix, which some files leave out; `None` if it is
    /// not there.
    pub(crate) fn norm(
        &mut self,
        name: &str,
        kind: NormKind,
        epsilon: f32,
    ) -> Result<Option<Norm>> {
        let weight = match self.values(&format!("{name}.weight"))? {
            Some(weight) => Some(weight),
            None => self.values(name)?,
        };
        let bias = self.values(&format!("{name}.bias"))?;
        Ok(weight.map(|weight| Norm { kind, epsilon, weight: Some(weight), bias }))
    }

    /// A matrix, with its bias and its scale if it has them, by its name without the suffix; `None` if it
    /// is not there.
    pub(crate) fn matrix(&mut self, name: &str) -> Result<Option<Matrix>> {
        let full = format!("{name}.weight");
        let Some(tensor) = self.find(&full) else { return Ok(None) };
        let mut matrix = self.matrix_of(tensor)?;
        matrix.bias = self.values(&format!("{name}.bias"))?;
        matrix.scale = self.values(&format!("{name}.scale"))?;
        // For engines that round activations to four bits: these do not.
        self.find(&format!("{name}.input_scale"));
        Ok(Some(matrix))
    }

    fn matrix_of(&mut self, tensor: &'a Tensor) -> Result<Matrix> {
        let size = |axis: usize| tensor.shape.get(axis).copied().unwrap_or(1);
        let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (columns, rows, experts) = (whole(size(0)), whole(size(1)), whole(size(2)));
        self.refuse_empty(tensor)?;
        let all = size(1).saturating_mul(size(2));
        let ty = tensor.source_type();
        let row_bytes = ty
            .row_bytes(size(0))
            .map_err(|error| self.error(tensor, format!("cannot be used: {error}")))?;
        let threads = self.runner().threads;
        let weights = if !self.reads_matrices {
            let groups = size(1).div_ceil(GROUP).saturating_mul(size(2));
            Stored::Unread(match activation_type(ty) {
                Some(_) => groups.saturating_mul(GROUP).saturating_mul(row_bytes),
                None => all.saturating_mul(row_bytes),
            })
        } else if activation_type(ty).is_none() {
            // Whether it can be restored shows on one row.
            if self.reader.values(tensor, 0..size(0)).is_err() {
                return Err(self.error(tensor, format!("has the type {ty}, which cannot be run")));
            }
            Stored::Plain(ty, self.read(tensor, 0..all)?)
        } else if experts > 1 {
            let data = self.read(tensor, 0..all)?;
            let memory = &mut self.memory;
            let packed =
                PackedMatrix::pack_experts_in(memory, threads, ty, experts, rows, columns, &data);
            Stored::Packed(vec![packed.map_err(|source| product(tensor, source))?])
        } else {
            // Whole groups of rows, so that no part is filled up.
            let per_part = (PART / row_bytes.max(1)).next_multiple_of(64).max(64);
            let mut parts = Vec::new();
            for first in (0..all).step_by(whole(per_part)) {
                let end = all.min(first + per_part);
                let data = self.read(tensor, first..end)?;
                let (memory, rows) = (&mut self.memory, whole(end - first));
                let packed =
                    PackedMatrix::pack_experts_in(memory, threads, ty, 1, rows, columns, &data);
                parts.push(packed.map_err(|source| product(tensor, source))?);
            }
            Stored::Packed(parts)
        };
        let matrix = Matrix {
            name: tensor.name.clone(),
            rows,
            columns,
            experts,
            weights,
            bias: None,
            scale: None,
        };
        self.bytes += matrix.bytes();
        Ok(matrix)
    }

    /// Experts that are a tensor each, as files of early 2024 have them; `pattern` has `{}` in place of
    /// the expert.
    pub(crate) fn experts_apart(&mut self, pattern: &str, count: usize) -> Result<Option<Matrix>> {
        let name = |expert: usize| format!("{}.weight", pattern.replace("{}", &expert.to_string()));
        let Some(first) = self.find(&name(0)) else { return Ok(None) };
        self.refuse_empty(first)?;
        let (ty, size) = (first.source_type(), |axis: usize| {
            first.shape.get(axis).map_or(1, |n| usize::try_from(*n).unwrap_or(usize::MAX))
        });
        let (columns, rows) = (size(0), size(1));
        let (mut data, mut bytes) = (Vec::new(), 0u64);
        for expert in 0..count {
            let Some(tensor) = self.find(&name(expert)) else {
                return Err(self.error(first, format!("is there, but {} is not", name(expert))));
            };
            if (tensor.source_type(), &tensor.shape) != (ty, &first.shape) {
                let message = format!("differs in type or shape from {}", first.name);
                return Err(self.error(tensor, message));
            }
            bytes = bytes.saturating_add(tensor.source_bytes());
            if self.reads_matrices {
                data.extend(self.read(tensor, 0..rows as u64)?);
            }
        }
        let threads = self.runner().threads;
        let weights = match self.reads_matrices {
            false => Stored::Unread(bytes),
            true => {
                let memory = &mut self.memory;
                let packed =
                    PackedMatrix::pack_experts_in(memory, threads, ty, count, rows, columns, &data);
                Stored::Packed(vec![packed.map_err(|source| product(first, source))?])
            }
        };
        let matrix = Matrix {
            // The name that other files give it, for importance matrices.
            name: format!("{}.weight", pattern.replace(".{}", "_exps")),
            rows,
            columns,
            experts: count,
            weights,
            bias: None,
            scale: None,
        };
        self.bytes = self.bytes.saturating_add(matrix.bytes());
        Ok(Some(matrix))
    }
}

fn product(tensor: &Tensor, source: quant_kernels::MatrixError) -> Error {
    Error::Product { tensor: tensor.name.clone(), source }
}

/// A table whose rows are read from the file as they are needed.
pub(crate) struct Table {
    pub(crate) tensor: Tensor,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl Table {
    /// The tensor of this name; `None` if it is not there.
    pub(crate) fn new(tensors: &mut Tensors<'_>, name: &str) -> Result<Option<Self>> {
        let Some(tensor) = tensors.find(name) else { return Ok(None) };
        tensors.refuse_empty(tensor)?;
        let size = |axis: usize| tensor.shape.get(axis).copied().unwrap_or(1);
        let whole = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        if tensors.reads_values && tensors.reader.values(tensor, 0..size(0)).is_err() {
            let message = format!("has the type {}, which cannot be run", tensor.source_type());
            return Err(tensors.error(tensor, message));
        }
        Ok(Some(Self { tensor: tensor.clone(), rows: whole(size(1)), width: whole(size(0)) }))
    }

    /// Reads a row.
    pub(crate) fn read<'r>(
        &self,
        reader: &'r mut TensorReader<'_>,
        row: usize,
    ) -> Result<&'r [f32]> {
        let (row, width) = (row as u64, self.tensor.row_len());
        Ok(reader.values(&self.tensor, row * width..(row + 1) * width)?)
    }
}
