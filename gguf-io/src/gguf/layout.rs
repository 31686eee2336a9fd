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
        let entries = tensors.iter().map(Entry::new).collect::<Result<Vec<_>>>()?;
        let Placed { header, offsets, total } = place(metadata, &entries)?;
        let placed = tensors.iter().zip(entries).zip(offsets);
        let tensors = placed.map(|((tensor, entry), offset)| PlacedTensor {
            name: tensor.name.clone(),
            ty: tensor.ty,
            shape: entry.shape.to_vec(),
            offset,
            bytes: entry.bytes,
        });
        Ok(Self { tensors: tensors.collect(), header, total })
    }
}

/// A tensor description to be written.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    /// Innermost first, not empty.
    pub(super) shape: &'a [u64],
    pub(super) type_id: u32,
    /// Bytes of the data.
    pub(super) bytes: u64,
}

impl<'a> Entry<'a> {
    pub(super) fn new(tensor: &'a TensorSpec) -> Result<Self> {
        let place = || Place::Tensor(tensor.name.clone(), 0);
        if tensor.shape.len() > read::MAX_DIMS {
            return Err(wrong(place(), format!("{} dimensions", tensor.shape.len()), "at most 4"));
        }
        let shape = if tensor.shape.is_empty() { &[1] } else { tensor.shape.as_slice() };
        let bytes = read::tensor_bytes(tensor.ty, shape)
            .map_err(|(found, expected)| wrong(place(), found, expected))?;
        Ok(Self { name: &tensor.name, shape, type_id: tensor.ty.id(), bytes })
    }

    fn place(&self) -> Place {
        Place::Tensor(self.name.to_owned(), 0)
    }

    /// The bytes it takes with its padding, if that is less than 2^63.
    pub(super) fn padded(&self, alignment: u64) -> Option<u64> {
        self.bytes.checked_next_multiple_of(alignment).filter(|end| i64::try_from(*end).is_ok())
    }
}

/// The header of a file, and where the data of each tensor goes.
pub(super) struct Placed {
    pub(super) header: Vec<u8>,
    /// Absolute offsets.
    pub(super) offsets: Vec<u64>,
    /// Length of the file.
    pub(super) total: u64,
}

pub(super) fn place(metadata: &Metadata, tensors: &[Entry<'_>]) -> Result<Placed> {
    let alignment = alignment(metadata)?;
    let mut header = pairs(metadata, tensors.len())?;
    let mut names = HashSet::new();
    let mut offsets = Vec::with_capacity(tensors.len());
    let mut next = 0u64;
    for tensor in tensors {
        check_name(|| tensor.place(), tensor.name, read::MAX_NAME)?;
        if !names.insert(tensor.name) {
            return Err(wrong(tensor.place(), "the name twice", "distinct names"));
        }
        put_description(&mut header, tensor.name, tensor.shape, tensor.type_id, next);
        offsets.push(next);
        let end = tensor.padded(alignment).and_then(|bytes| bytes.checked_add(next));
        next = end
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| wrong(tensor.place(), "an end at byte 2^63 or later", "less in all"))?;
    }
    let too_large =
        || wrong(Place::Field("file", 0), "tensors of 2^63 bytes or more", "less in all");
    let start = (header.len() as u64).next_multiple_of(alignment);
    header.resize(usize::try_from(start).map_err(|_| too_large())?, 0);
    for offset in &mut offsets {
        *offset = offset.checked_add(start).ok_or_else(too_large)?;
    }
    let total = start
        .checked_add(next)
        .filter(|total| i64::try_from(*total).is_ok())
        .ok_or_else(too_large)?;
    Ok(Placed { header, offsets, total })
}

/// The part of a header before the tensor descriptions.
pub(super) fn pairs(metadata: &Metadata, tensors: usize) -> Result<Vec<u8>> {
    let mut header = Vec::new();
    header.extend(b"GGUF");
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_pair(&mut header, key, value)?;
    }
    Ok(header)
}

pub(super) fn wrong(place: Place, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::Layout { place, found: found.into(), expected: expected.into() }
}

/// Refuses data that is not as long as its tensor.
pub(super) fn check_length(tensor: &PlacedTensor, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 == tensor.bytes {
        return Ok(());
    }
    Err(Error::BufferLength {
        tensor: tensor.name.clone(),
        found: bytes.len() as u64,
        expected: tensor.bytes,
    })
}

pub(super) fn alignment(metadata: &Metadata) -> Result<u64> {
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

/// Puts a tensor description with its offset in the tensor data. At most 4 dimensions: checked when
/// the tensor was made or read.
pub(super) fn put_description(
    out: &mut Vec<u8>,
    name: &str,
    shape: &[u64],
    type_id: u32,
    offset: u64,
) {
    put_bytes(out, name.as_bytes());
    out.extend((shape.len() as u32).to_le_bytes());
    for dim in shape {
        out.extend(dim.to_le_bytes());
    }
    out.extend(type_id.to_le_bytes());
    out.extend(offset.to_le_bytes());
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
