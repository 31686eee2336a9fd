//! The layout of a GGUF file that is to be written: everything but the tensor data.

use std::collections::HashSet;

use quant_core::GgmlType;

use super::read;
use crate::{Array, Error, GgufString, Metadata, Place, Result, Value, ValueType};

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Name, e.g. `blk.0.attn_q.weight`: 1 to 63 bytes.
    pub name: String,
    /// How the values are stored.
    pub ty: GgmlType,
    /// Dimensions in GGUF order, innermost first; at most 4. A scalar has none and is written
    /// as `[1]`.
    pub shape: Vec<u64>,
}

/// A tensor with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedTensor {
    /// Name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// How the values are stored.
    pub ty: GgmlType,
    /// Dimensions in GGUF order, innermost first.
    pub shape: Vec<u64>,
    /// Absolute offset of the data in the file.
    pub offset: u64,
    /// Bytes of the data. Zeros up to the next multiple of the alignment belong after it.
    pub bytes: u64,
}

/// A GGUF file that is to be written: its header and the place of every tensor.
///
/// The header goes to offset 0 and each tensor's data to its offset, in any order; the bytes
/// between are zero. The file is version 3 and little-endian. Tensors follow each other in the
/// order given, each padded to the alignment, the last one too, as llama.cpp writes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The bytes before the tensor data, padded to the alignment.
    pub header: Vec<u8>,
    /// The tensors in file order.
    pub tensors: Vec<PlacedTensor>,
    /// Length of the file in bytes.
    pub total: u64,
}

const VERSION: u32 = 3;

impl Layout {
    /// Lays out a file. The alignment is what `general.alignment` in `metadata` says, else 32.
    ///
    /// # Errors
    /// [`Error::Layout`] for anything a reader would refuse: a name or key of the wrong length or
    /// twice, a row that is not a whole number of blocks, a size that does not fit the format.
    pub fn new(metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Self> {
        let alignment = alignment(metadata)?;
        let mut header = Vec::new();
        header.extend(b"GGUF");
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            put_pair(&mut header, key, value)?;
        }
        let mut names = HashSet::new();
        let mut placed = Vec::with_capacity(tensors.len());
        let mut next = 0u64;
        for tensor in tensors {
            let (one, end) = place_tensor(tensor, next, alignment)?;
            if !names.insert(tensor.name.as_str()) {
                return Err(wrong(tensor_place(tensor), "the name twice", "distinct names"));
            }
            put_bytes(&mut header, one.name.as_bytes());
            // At most 4: checked when it was placed.
            header.extend((one.shape.len() as u32).to_le_bytes());
            for dim in &one.shape {
                header.extend(dim.to_le_bytes());
            }
            header.extend(one.ty.id().to_le_bytes());
            header.extend(one.offset.to_le_bytes());
            next = end;
            placed.push(one);
        }
        let too_large =
            || wrong(Place::Field("file", 0), "tensors of 2^63 bytes or more", "less in all");
        let start = (header.len() as u64).next_multiple_of(alignment);
        header.resize(usize::try_from(start).map_err(|_| too_large())?, 0);
        for tensor in &mut placed {
            tensor.offset = tensor.offset.checked_add(start).ok_or_else(too_large)?;
        }
        let total = start
            .checked_add(next)
            .filter(|total| i64::try_from(*total).is_ok())
            .ok_or_else(too_large)?;
        Ok(Self { header, tensors: placed, total })
    }
}

pub(super) fn wrong(place: Place, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::Layout { place, found: found.into(), expected: expected.into() }
}

fn tensor_place(tensor: &TensorSpec) -> Place {
    Place::Tensor(tensor.name.clone(), 0)
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    match metadata.get(KEY) {
        None => Ok(read::DEFAULT_ALIGNMENT),
        Some(value) => read::check_alignment(value)
            .map_err(|found| wrong(Place::Key(KEY.to_owned(), 0), found, read::ALIGNMENT_RULE)),
    }
}

fn check_name(place: impl FnOnce() -> Place, name: &str, longest: usize) -> Result<()> {
    if (1..=longest).contains(&name.len()) {
        return Ok(());
    }
    Err(wrong(place(), format!("a name of {} bytes", name.len()), format!("1 to {longest} bytes")))
}

/// Checks a tensor and puts it at `offset` of the tensor data. Also returns where the next begins.
fn place_tensor(tensor: &TensorSpec, offset: u64, alignment: u64) -> Result<(PlacedTensor, u64)> {
    check_name(|| tensor_place(tensor), &tensor.name, read::MAX_NAME)?;
    if tensor.shape.len() > read::MAX_DIMS {
        return Err(wrong(
            tensor_place(tensor),
            format!("{} dimensions", tensor.shape.len()),
            "at most 4",
        ));
    }
    let mut shape = tensor.shape.clone();
    if shape.is_empty() {
        shape.push(1);
    }
    let bytes = read::tensor_bytes(tensor.ty, &shape)
        .map_err(|(found, expected)| wrong(tensor_place(tensor), found, expected))?;
    let end = offset
        .checked_add(bytes)
        .and_then(|end| end.checked_next_multiple_of(alignment))
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or_else(|| {
            wrong(tensor_place(tensor), "an end at byte 2^63 or later", "less in all")
        })?;
    let placed = PlacedTensor { name: tensor.name.clone(), ty: tensor.ty, shape, offset, bytes };
    Ok((placed, end))
}

/// The bytes a tensor takes with its padding.
pub(super) fn padded(tensor: &TensorSpec, alignment: u64) -> Result<u64> {
    place_tensor(tensor, 0, alignment).map(|(_, end)| end)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn put_pair(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<()> {
    check_name(|| Place::Key(key.to_owned(), 0), key, read::MAX_KEY)?;
    put_bytes(out, key.as_bytes());
    out.extend(value.value_type().id().to_le_bytes());
    match value {
        Value::Uint8(v) => v.put(out),
        Value::Int8(v) => v.put(out),
        Value::Uint16(v) => v.put(out),
        Value::Int16(v) => v.put(out),
        Value::Uint32(v) => v.put(out),
        Value::Int32(v) => v.put(out),
        Value::Float32(v) => v.put(out),
        Value::Bool(v) => v.put(out),
        Value::String(v) => v.put(out),
        Value::Uint64(v) => v.put(out),
        Value::Int64(v) => v.put(out),
        Value::Float64(v) => v.put(out),
        Value::Array(array) => put_array(out, array),
    }
    Ok(())
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn all<T: Put>(out: &mut Vec<u8>, ty: ValueType, values: &[T]) {
        out.extend(ty.id().to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        for value in values {
            value.put(out);
        }
    }
    let ty = array.element_type();
    match array {
        Array::Uint8(v) => all(out, ty, v),
        Array::Int8(v) => all(out, ty, v),
        Array::Uint16(v) => all(out, ty, v),
        Array::Int16(v) => all(out, ty, v),
        Array::Uint32(v) => all(out, ty, v),
        Array::Int32(v) => all(out, ty, v),
        Array::Float32(v) => all(out, ty, v),
        Array::Bool(v) => all(out, ty, v),
        Array::String(v) => all(out, ty, v),
        Array::Uint64(v) => all(out, ty, v),
        Array::Int64(v) => all(out, ty, v),
        Array::Float64(v) => all(out, ty, v),
    }
}

/// A value as its bytes in the file.
trait Put {
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! puts {
    ($($ty:ty),*) => {
        $(impl Put for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        })*
    };
}
puts!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }
}

impl Put for GgufString {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
}
