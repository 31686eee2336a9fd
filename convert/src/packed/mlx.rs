//! MLX: codes along the rows without gaps, each group with a scale and a bias.

use std::sync::Arc;

use gguf_io::{Checkpoint, CheckpointTensor, Dtype, SourceFile};
use quant_core::grouped::pack;

use super::{
    Layer, Part, Parts,
    reader::{Blocks, floats},
};
use crate::Result;

/// The widths of codes.
pub(super) const BITS: [u64; 6] = [2, 3, 4, 5, 6, 8];

const FLOATS: &[Dtype] = &[Dtype::F16, Dtype::BF16, Dtype::F32];

/// What the name of a module holds in which all experts of a layer are.
pub(super) const STACK: &str = ".switch_mlp.";

/// Experts beyond any model: each gets a tensor with a name.
pub(super) const MOST_EXPERTS: u64 = 4096;

/// Bits of a code, and codes in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    pub(crate) bits: u32,
    pub(crate) group: u64,
}

/// The width of most modules, and of those that have another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) usual: Width,
    pub(crate) modules: Vec<(String, Width)>,
}

/// A packed layer: `code · scale + bias`.
#[derive(Debug)]
struct Affine {
    files: Arc<Vec<SourceFile>>,
    width: Width,
    rows: u64,
    columns: u64,
    codes: Part,
    scales: Part,
    biases: Part,
}

/// A layer of the width that config.json gives it.
pub(super) fn layer(parts: &Parts<'_>, widths: &Widths) -> Result<Layer> {
    let own = widths.modules.iter().find(|(module, _)| module == parts.module);
    let width = own.map_or(widths.usual, |(_, width)| *width);
    let codes = parts.need("weight", &[Dtype::U32])?;
    let scales = parts.need("scales", FLOATS)?;
    let biases = parts.need("biases", FLOATS)?;
    let rows = codes.rows;
    let columns = scales.columns.checked_mul(width.group).ok_or(quant_core::Error::TooLarge)?;
    parts.expect("scales", &scales, rows, scales.columns)?;
    parts.expect("biases", &biases, rows, scales.columns)?;
    // Rows are whole words.
    let bits = columns.checked_mul(u64::from(width.bits)).ok_or(quant_core::Error::TooLarge)?;
    if codes.columns.checked_mul(32) != Some(bits) {
        let found = format!("rows of {} words", codes.columns);
        let expected = format!(
            "{} groups of {} codes of {} bits by config.json",
            scales.columns, width.group, width.bits
        );
        return Err(parts.wrong("weight", &found, &expected));
    }
    let files = Arc::clone(parts.files);
    let layer = Affine { files, width, rows, columns, codes, scales, biases };
    Ok((Box::new(layer), vec!["weight", "scales", "biases"]))
}

/// The names that the experts of a stack have in the original checkpoint.
pub(super) fn experts(module: &str, count: u64) -> Vec<String> {
    let (layer, part) = module.split_once(STACK).unwrap_or((module, ""));
    let part = match part {
        // Mixtral has names of its own.
        "gate_proj" if layer.ends_with("block_sparse_moe") => "w1",
        "down_proj" if layer.ends_with("block_sparse_moe") => "w2",
        "up_proj" if layer.ends_with("block_sparse_moe") => "w3",
        part => part,
    };
    (0..count).map(|expert| format!("{layer}.experts.{expert}.{part}.weight")).collect()
}

/// Gives each expert of a stack that is not packed a tensor of its own.
pub(super) fn unstack(checkpoint: &mut Checkpoint) {
    let stacks: Vec<(String, CheckpointTensor)> = checkpoint
        .tensors
        .iter()
        .filter(|(name, tensor)| {
            name.contains(STACK) && name.ends_with(".weight") && tensor.dtype != Dtype::U32
        })
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    for (name, tensor) in stacks {
        let ([count, rows, columns], Some(module)) = (
            tensor.shape[..].first_chunk().copied().unwrap_or_default(),
            name.strip_suffix(".weight"),
        ) else {
            continue;
        };
        let sound = tensor.shape.len() == 3 && (1..=MOST_EXPERTS).contains(&count);
        if !sound || !tensor.bytes.is_multiple_of(count) {
            continue;
        }
        let experts = experts(module, count);
        // Two weights for one place are for the architecture to refuse.
        if experts.iter().any(|expert| checkpoint.tensors.contains_key(expert)) {
            continue;
        }
        checkpoint.tensors.shift_remove(&name);
        let bytes = tensor.bytes / count;
        for (number, expert) in (0u64..).zip(experts) {
            let offset = tensor.offset.saturating_add(number.saturating_mul(bytes));
            let shape = vec![rows, columns];
            checkpoint
                .tensors
                .insert(expert, CheckpointTensor { shape, offset, bytes, ..tensor.clone() });
        }
    }
}

impl Affine {
    /// Reads a row of a part.
    fn read(&self, part: &Part, row: u64, bytes: &mut Vec<u8>) -> gguf_io::Result<()> {
        let size = part.dtype.bits() / 8;
        let len = usize::try_from(part.columns.saturating_mul(size)).unwrap_or(usize::MAX);
        bytes.resize(len, 0);
        match self.files.get(part.file) {
            Some(file) => file.read_exact_at(bytes, part.offset + row * part.columns * size),
            None => Ok(()),
        }
    }
}

impl Blocks for Affine {
    fn shape(&self) -> [u64; 2] {
        [self.rows, self.columns]
    }

    fn rows(&self, first: u64, out: &mut [f32]) -> gguf_io::Result<()> {
        let columns = usize::try_from(self.columns).unwrap_or(usize::MAX);
        let group = usize::try_from(self.width.group).unwrap_or(usize::MAX);
        let bits = self.width.bits;
        let (mut bytes, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        for (row, out) in (first..).zip(out.chunks_exact_mut(columns.max(1))) {
            self.read(&self.scales, row, &mut bytes)?;
            floats(self.scales.dtype, &bytes, &mut scales);
            self.read(&self.biases, row, &mut bytes)?;
            floats(self.biases.dtype, &bytes, &mut biases);
            self.read(&self.codes, row, &mut bytes)?;
            let mut at = 0;
            let pairs = scales.iter().zip(&biases);
            for (out, (scale, bias)) in out.chunks_mut(group.max(1)).zip(pairs) {
                for out in out {
                    *out = f32::from(pack::stream_code(&bytes, at, bits)) * scale + bias;
                    at += bits as usize;
                }
            }
        }
        Ok(())
    }
}
