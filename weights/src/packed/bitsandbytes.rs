//! bitsandbytes, as it saves what it has quantized: NF4 and FP4 in blocks along the whole weight, and
//! LLM.int8() with a scale for each row.

use gguf_io::{CheckpointTensor, Dtype, SourceFile};
use quant_core::{Error::TooLarge, GgmlType};
use serde_json::Value;

use super::{
    part::Part,
    parts::{Found, Parts},
    row::Buffers,
};
use crate::{Result, coded::Scales, gather::size};

/// Bytes of a description beyond any.
const MOST_STATE: u64 = 1 << 16;

/// Codes of a layout of two in a byte, the first in the high bits.
const CODES: usize = 16;

/// The tensor that tells a module of four bits.
pub(crate) const ABSMAX: &str = "weight.absmax";

/// The tensor that tells a module of eight bits.
pub(crate) const ROWS: &str = "SCB";

/// A layer: `table[code] · absmax` of its block. Blocks go on from row to row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Blockwise {
    columns: u64,
    pub(super) codes: Part,
    table: [f32; CODES],
    /// Values of a block.
    block: u64,
    absmax: Part,
    nested: Option<Nested>,
}

/// Magnitudes of blocks that are quantized themselves: `table[code] · absmax + offset`.
#[derive(Clone, Debug, PartialEq)]
struct Nested {
    table: Vec<f32>,
    block: u64,
    absmax: Part,
    offset: f32,
}

/// What is said of a layer.
struct State {
    blocksize: u64,
    shape: Vec<u64>,
    nested_blocksize: Option<u64>,
    nested_offset: f32,
}

/// A layer of four bits.
pub(crate) fn blockwise(parts: &Parts<'_>) -> Result<(Found<Blockwise>, Vec<&'static str>)> {
    const STATES: [(&str, &str); 2] = [
        ("weight.quant_state.bitsandbytes__nf4", "BNB_NF4"),
        ("weight.quant_state.bitsandbytes__fp4", "BNB_FP4"),
    ];
    let state = STATES.into_iter().find_map(|(part, name)| {
        parts.find(part, &[Dtype::U8]).transpose().map(|found| (part, name, found))
    });
    let Some((state_name, name, state)) = state else {
        let expected = format!("{:?} beside it", STATES.map(|(part, _)| part)[0]);
        return Err(parts.wrong("weight", "codes without a description", &expected));
    };
    let state = read_state(parts, state_name, &state?)?;
    let (&[rows, columns], block) = (&state.shape[..], state.blocksize) else {
        let found = format!("{} dimensions", state.shape.len());
        return Err(parts.wrong(state_name, &found, "2"));
    };
    if rows == 0 || columns == 0 || block == 0 {
        return Err(parts.wrong(state_name, "a size of 0", "positive sizes"));
    }
    let count = rows.checked_mul(columns).ok_or(TooLarge)?;
    // Some programs call the bytes by another type.
    let codes = parts.need("weight", &[Dtype::U8, Dtype::BF16, Dtype::F16, Dtype::F32])?;
    if codes.bytes() != count.div_ceil(2) {
        let found = format!("{} bytes of codes", codes.bytes());
        let expected = format!("{} for a weight [{rows}, {columns}]", count.div_ceil(2));
        return Err(parts.wrong("weight", &found, &expected));
    }
    let mut used = vec!["weight", ABSMAX, "weight.quant_map", state_name];
    let table = floats(parts, "weight.quant_map", CODES as u64)?;
    let mut codes_table = [0.0; CODES];
    codes_table.iter_mut().zip(table).for_each(|(to, value)| *to = value);
    let blocks = count.div_ceil(block);
    let absmax = parts.need(ABSMAX, &[Dtype::F32, Dtype::U8])?;
    parts.expect(ABSMAX, &absmax, 1, blocks)?;
    let nested = if absmax.dtype == Dtype::U8 {
        let block = state.nested_blocksize.filter(|block| *block > 0);
        let block = block.ok_or_else(|| {
            parts.wrong(state_name, "no nested_blocksize", "one, for magnitudes of eight bits")
        })?;
        let of_blocks = parts.need("weight.nested_absmax", &[Dtype::F32])?;
        parts.expect("weight.nested_absmax", &of_blocks, 1, blocks.div_ceil(block))?;
        used.extend(["weight.nested_absmax", "weight.nested_quant_map"]);
        Some(Nested {
            table: floats(parts, "weight.nested_quant_map", 256)?,
            block,
            absmax: of_blocks,
            offset: state.nested_offset,
        })
    } else {
        None
    };
    let found = Found {
        name: name.to_owned(),
        shape: [rows, columns],
        parts: vec![codes, absmax],
        layout: Blockwise { columns, codes, table: codes_table, block, absmax, nested },
    };
    Ok((found, used))
}

fn read_state(parts: &Parts<'_>, name: &str, state: &Part) -> Result<State> {
    let mut bytes = Vec::new();
    if state.bytes() > MOST_STATE {
        let found = format!("{} bytes", state.bytes());
        return Err(parts.wrong(name, &found, &format!("at most {MOST_STATE}")));
    }
    state.read(&parts.checkpoint.files, (0, 0), size(state.bytes())?, &mut bytes)?;
    let state: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let number = |key: &str| state.get(key).and_then(Value::as_u64);
    let shape = state.get("shape").and_then(Value::as_array);
    let shape = shape.and_then(|shape| shape.iter().map(Value::as_u64).collect());
    let (Some(blocksize), Some(shape)) = (number("blocksize"), shape) else {
        let expected = "a JSON object with blocksize and shape";
        return Err(parts.wrong(name, "another description", expected));
    };
    let offset = state.get("nested_offset").and_then(Value::as_f64).unwrap_or(0.0);
    Ok(State {
        blocksize,
        shape,
        nested_blocksize: number("nested_blocksize"),
        nested_offset: offset as f32,
    })
}

/// A small table.
fn floats(parts: &Parts<'_>, name: &'static str, count: u64) -> Result<Vec<f32>> {
    let part = parts.need(name, &[Dtype::F32])?;
    parts.expect(name, &part, 1, count)?;
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    part.read(&parts.checkpoint.files, (0, 0), size(count)?, &mut bytes)?;
    part.push_floats(&bytes, &mut values);
    Ok(values)
}

/// A layer of eight bits: `code · scale of the row / 127`.
pub(crate) fn by_rows(parts: &Parts<'_>) -> Result<(CheckpointTensor, Scales, Vec<&'static str>)> {
    let codes = parts.need("weight", &[Dtype::I8])?;
    let scales = parts.need(ROWS, &[Dtype::F32])?;
    parts.expect(ROWS, &scales, 1, codes.rows)?;
    let mut used = vec!["weight", ROWS];
    if let Some(format) = parts.find("weight_format", &[Dtype::U8])? {
        let mut bytes = Vec::new();
        format.read(&parts.checkpoint.files, (0, 0), 1, &mut bytes)?;
        if bytes != [0] {
            return Err(parts.wrong("weight_format", &format!("{bytes:?}"), "0, rows"));
        }
        used.push("weight_format");
    }
    let scales = Scales {
        file: scales.file,
        offset: scales.offset,
        ty: GgmlType::F32,
        rows: 1,
        columns: codes.columns,
        per_row: 1,
        zeros: None,
        // As bitsandbytes has it.
        factor: 7.874_016e-3,
    };
    let weight = CheckpointTensor {
        dtype: Dtype::I8,
        shape: vec![codes.rows, codes.columns],
        file: codes.file,
        offset: codes.offset,
        bytes: codes.bytes(),
    };
    Ok((weight, scales, used))
}

impl Blockwise {
    /// Restores whole rows, from `first` on.
    pub(super) fn restore(
        &self,
        files: &[SourceFile],
        first: u64,
        out: &mut [f32],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Buffers { words, scales, bytes, .. } = buffers;
        let start = first.checked_mul(self.columns).ok_or(TooLarge)?;
        let end = start.checked_add(out.len() as u64).ok_or(TooLarge)?;
        let first_block = start / self.block;
        self.read_absmax(files, first_block..end.div_ceil(self.block), (bytes, scales))?;
        // Two codes in a byte, whatever the type of the tensor.
        words.resize(size(end.div_ceil(2).saturating_sub(start / 2))?, 0);
        let file = files.get(self.codes.file).ok_or(TooLarge)?;
        let at = self.codes.offset.checked_add(start / 2).ok_or(TooLarge)?;
        file.read_exact_at(words, at)?;
        let skipped = start % 2;
        for (out, value) in out.iter_mut().zip(start..) {
            let at = value - start + skipped;
            let pair = words.get(size(at / 2)?).copied().unwrap_or(0);
            let code = if at.is_multiple_of(2) { pair >> 4 } else { pair & 15 };
            let absmax = scales.get(size(value / self.block - first_block)?);
            let value = self.table.get(usize::from(code)).copied().unwrap_or(f32::NAN);
            *out = value * absmax.copied().unwrap_or(f32::NAN);
        }
        Ok(())
    }

    /// Reads the magnitudes of some blocks.
    fn read_absmax(
        &self,
        files: &[SourceFile],
        blocks: std::ops::Range<u64>,
        (bytes, out): (&mut Vec<u8>, &mut Vec<f32>),
    ) -> Result<()> {
        out.clear();
        let count = size(blocks.end.saturating_sub(blocks.start))?;
        let Some(nested) = &self.nested else {
            self.absmax.read(files, (0, blocks.start), count, bytes)?;
            self.absmax.push_floats(bytes, out);
            return Ok(());
        };
        let first = blocks.start / nested.block;
        let outer = blocks.end.div_ceil(nested.block).saturating_sub(first);
        let mut of_outer = Vec::new();
        nested.absmax.read(files, (0, first), size(outer)?, bytes)?;
        nested.absmax.push_floats(bytes, &mut of_outer);
        self.absmax.read(files, (0, blocks.start), count, bytes)?;
        for (block, code) in blocks.zip(&*bytes) {
            let value = nested.table.get(usize::from(*code)).copied().unwrap_or(f32::NAN);
            let absmax = of_outer.get(size(block / nested.block - first)?);
            out.push(value * absmax.copied().unwrap_or(f32::NAN) + nested.offset);
        }
        Ok(())
    }
}
