//! MLX: codes along the rows without gaps, each group with a scale and a bias.

use gguf_io::{Checkpoint, CheckpointTensor, Dtype, SourceFile};
use quant_core::{Error::TooLarge, grouped::pack};

use super::{
    part::{FLOATS, Part},
    parts::{Found, MOST_EXPERTS, Parts, STACK},
    row::{Buffers, EachRow, Groups, Row},
};
use crate::{Result, gather::size};

/// The widths of codes.
pub(crate) const BITS: [u64; 6] = [2, 3, 4, 5, 6, 8];

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
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(super) bits: u32,
    columns: u64,
    pub(super) groups: Groups,
    pub(super) codes: Part,
    scales: Part,
    biases: Part,
}

/// The parts of a packed layer.
pub(crate) const PARTS: [&str; 3] = ["weight", "scales", "biases"];

/// A layer of the width that config.json gives it: one weight, or one for each expert of a stack,
/// with the names that they have in the original checkpoint.
pub(crate) fn layers(parts: &Parts<'_>, widths: &Widths) -> Result<Vec<(String, Found<Affine>)>> {
    let own = widths.modules.iter().find(|(module, _)| module == parts.module);
    let width = own.map_or(widths.usual, |(_, width)| *width);
    let codes = parts.need("weight", &[Dtype::U32])?;
    let scales = parts.need("scales", FLOATS)?;
    let biases = parts.need("biases", FLOATS)?;
    let rows = codes.rows;
    let columns = scales.columns.checked_mul(width.group).ok_or(TooLarge)?;
    parts.expect("scales", &scales, rows, scales.columns)?;
    parts.expect("biases", &biases, rows, scales.columns)?;
    // Rows are whole words.
    let bits = columns.checked_mul(u64::from(width.bits)).ok_or(TooLarge)?;
    if codes.columns.checked_mul(32) != Some(bits) {
        let found = format!("rows of {} words", codes.columns);
        let expected = format!(
            "{} groups of {} codes of {} bits by config.json",
            scales.columns, width.group, width.bits
        );
        return Err(parts.wrong("weight", &found, &expected));
    }
    let names = match parts.stack() {
        Some(experts) => experts_of(parts.module, experts),
        None => vec![format!("{}.weight", parts.module)],
    };
    // Experts are one below the other.
    let rows = rows.checked_div(names.len() as u64).ok_or(TooLarge)?;
    let one = |(number, name): (u64, String)| {
        let first = number.saturating_mul(rows);
        let [codes, scales, biases] = [codes, scales, biases].map(|part| part.narrow(first, rows));
        let Width { bits, group } = width;
        let groups = Groups::Even(group);
        let found = Found {
            name: format!("MLX_INT{bits}"),
            shape: [rows, columns],
            parts: vec![codes, scales, biases],
            layout: Affine { bits, columns, groups, codes, scales, biases },
        };
        (name, found)
    };
    Ok((0..).zip(names).map(one).collect())
}

/// The names that the experts of a stack have in the original checkpoint.
fn experts_of(module: &str, count: u64) -> Vec<String> {
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
pub(crate) fn unstack(checkpoint: &mut Checkpoint) {
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
        let experts = experts_of(module, count);
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
    pub(super) fn each_row(
        &self,
        files: &[SourceFile],
        first: u64,
        rows: usize,
        buffers: &mut Buffers,
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        let Buffers { words, codes, scales, zeros: biases, bytes, .. } = buffers;
        let [columns, line, groups] =
            [size(self.columns)?, size(self.codes.columns)?, size(self.scales.columns)?];
        let bits = self.bits;
        let count = |line: usize| line.checked_mul(rows).ok_or(TooLarge);
        self.codes.read(files, (first, 0), count(line)?, words)?;
        for (part, values) in [(&self.scales, &mut *scales), (&self.biases, &mut *biases)] {
            part.read(files, (first, 0), count(groups)?, bytes)?;
            values.clear();
            part.push_floats(bytes, values);
        }
        codes.resize(columns, 0);
        let lines = words.chunks_exact((4 * line).max(1)).take(rows);
        let ways = scales.chunks_exact(groups.max(1)).zip(biases.chunks_exact(groups.max(1)));
        for (words, (scales, biases)) in lines.zip(ways) {
            for (i, code) in codes.iter_mut().enumerate() {
                *code = pack::stream_code(words, i * bits as usize, bits);
            }
            each(Row { codes, scales, zeros: biases });
        }
        Ok(())
    }
}
