//! The header of one GGUF file: `GGUF`, version, counts, key-value pairs, tensor descriptions.

use quant_core::GgmlType;

use super::{foreign_types, tensor::TensorInfo};
use crate::{
    Array, Budget, Error, GgufString, Metadata, Place, Result, SourceFile, Value, ValueType,
    cursor::Cursor,
    error::{DAMAGED, Quoted},
    metadata::ENTRY_BYTES,
    sniff::{self, Kind},
};

/// Where the tensor data of a file has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataSection {
    /// Offset of the first byte after the tensor descriptions.
    pub(crate) header_end: u64,
    /// That offset rounded up to the alignment.
    pub(crate) start: u64,
    pub(crate) alignment: u64,
}

#[derive(Debug)]
pub(crate) struct Header<T = TensorInfo> {
    pub(crate) version: u32,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<T>,
    pub(crate) data: DataSection,
}

/// A tensor description as it stands in a file.
pub(crate) struct Described {
    /// The name, and where the description begins.
    pub(crate) place: Place,
    pub(crate) name: String,
    /// Never empty: a scalar has `[1]`.
    pub(crate) shape: Vec<u64>,
    /// The number of the type, which may be unknown.
    pub(crate) type_id: u32,
    /// From the beginning of the tensor data.
    pub(crate) offset: u64,
    /// Index of the file.
    pub(crate) file: usize,
}

/// What a reader makes of a tensor description.
pub(crate) trait Tensor: Sized {
    fn from_description(cursor: &Cursor<'_>, described: Described) -> Result<Self>;
    fn name(&self) -> &str;
    fn file(&self) -> usize;
    /// Where the data begins: relative to the tensor data at first, then in the file.
    fn offset(&self) -> u64;
    fn set_offset(&mut self, offset: u64);
    /// Bytes of the data.
    fn bytes(&self) -> u64;
    /// Called once all tensors of a file have their places.
    fn settle(_tensors: &mut [Self], _file: &SourceFile) {}
}

impl Tensor for TensorInfo {
    fn from_description(cursor: &Cursor<'_>, described: Described) -> Result<Self> {
        let Described { place, name, shape, type_id, offset, file } = described;
        let Some(ty) = GgmlType::from_id(type_id) else {
            return Err(unknown_type(cursor.file, place, type_id));
        };
        let bytes = tensor_bytes(ty, &shape)
            .map_err(|(found, expected)| cursor.malformed(place, found, expected, DAMAGED))?;
        Ok(Self { name, ty, shape, file, offset, bytes })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn file(&self) -> usize {
        self.file
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
/// The longest tensor name llama.cpp loads (`GGML_MAX_NAME` with its NUL).
pub(crate) const MAX_NAME: usize = 63;
pub(crate) const MAX_KEY: usize = 65535;
pub(crate) const MAX_DIMS: usize = 4;

/// Bytes of the smallest key-value pair: length, one byte of key, type, one byte of value.
const MIN_PAIR: u64 = 8 + 1 + 4 + 1;
/// Bytes of the smallest tensor description: length, one byte of name, no dimensions, type, offset.
const MIN_TENSOR: u64 = 8 + 1 + 4 + 4 + 8;

/// Reads the header of `file`, which will be number `index` of the model's files.
pub(crate) fn header<T: Tensor>(
    file: &SourceFile,
    index: usize,
    budget: &mut Budget,
) -> Result<Header<T>> {
    match Kind::of(&sniff::head(file)?) {
        Kind::Gguf => {}
        Kind::BigEndianGguf => {
            return Err(unsupported(
                file,
                Place::Field("version", 4),
                "a big-endian file",
                "little-endian files",
                "convert it with gguf-py's gguf_convert_endian.py or get a little-endian copy",
            ));
        }
        other => return Err(other.error(file, "a GGUF file")),
    }
    let mut cursor = Cursor::new(file, budget);
    cursor.array::<4>(&Place::Field("magic", 0))?;
    let place = Place::Field("version", 4);
    let version = cursor.u32(&place)?;
    if !(2..=3).contains(&version) {
        return Err(unsupported(
            file,
            place,
            format!("GGUF version {version}"),
            "versions 2 and 3",
            "convert the model again with current tools",
        ));
    }
    let tensors_place = Place::Field("number of tensors", cursor.position());
    let n_tensors = cursor.u64(&tensors_place)?;
    let pairs_place = Place::Field("number of key-value pairs", cursor.position());
    let n_pairs = cursor.u64(&pairs_place)?;
    cursor.expect(n_tensors, MIN_TENSOR, &tensors_place)?;
    cursor.expect(n_pairs, MIN_PAIR, &pairs_place)?;

    let (metadata, alignment) = pairs(&mut cursor, n_pairs, &pairs_place)?;
    let mut tensors: Vec<T> = tensors(&mut cursor, n_tensors, index, &tensors_place)?;

    let header_end = cursor.position();
    let start = header_end
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| cursor.truncated(&Place::Field("tensor data", header_end), u64::MAX))?;
    for tensor in &mut tensors {
        place_in_file(&cursor, tensor, start)?;
    }
    T::settle(&mut tensors, file);
    Ok(Header { version, metadata, tensors, data: DataSection { header_end, start, alignment } })
}

fn unsupported(
    file: &SourceFile,
    place: Place,
    found: impl Into<Box<str>>,
    supported: impl Into<Box<str>>,
    help: &'static str,
) -> Error {
    Error::Unsupported {
        path: file.path().into(),
        place,
        found: found.into(),
        supported: supported.into(),
        help,
    }
}

/// Reads the key-value pairs, and the alignment from among them.
fn pairs(cursor: &mut Cursor<'_>, count: u64, place: &Place) -> Result<(Metadata, u64)> {
    // Where each key is, to name both places of a duplicate.
    let mut offsets: Vec<u64> = cursor.vec(count, place)?;
    cursor.budget.debit_array(count, ENTRY_BYTES, cursor.file.path(), place)?;
    let mut metadata = Metadata::with_capacity(offsets.capacity());
    let mut alignment = DEFAULT_ALIGNMENT;
    for _ in 0..count {
        let at = cursor.position();
        let key = name(cursor, "key", MAX_KEY, at)?;
        if let Some(first) = metadata.position(&key).and_then(|i| offsets.get(i)) {
            return Err(Error::Duplicate {
                path: cursor.file.path().into(),
                what: "key",
                first: format!("at byte {first}"),
                second: format!("at byte {at}"),
                name: key,
            });
        }
        let place = Place::Key(key, at);
        let value = value(cursor, &place)?;
        let Place::Key(key, _) = place else { continue };
        if key == "general.alignment" {
            alignment = check_alignment(&value).map_err(|found| {
                cursor.malformed(Place::Key(key.clone(), at), found, ALIGNMENT_RULE, DAMAGED)
            })?;
        }
        metadata.insert(key, value);
        offsets.push(at);
    }
    // The keys are known to be distinct: their places are needed no longer.
    cursor.budget.credit(count.saturating_mul(8));
    Ok((metadata, alignment))
}

pub(crate) const ALIGNMENT_RULE: &str = "a UINT32 that is a power of two from 8 to 1048576 (1 MiB)";

/// The alignment a value of `general.alignment` stands for, or what is wrong with it.
pub(crate) fn check_alignment(value: &Value) -> Result<u64, String> {
    match *value {
        Value::Uint32(n) if n.is_power_of_two() && (8..=1 << 20).contains(&n) => Ok(n.into()),
        Value::Uint32(n) => Err(format!("alignment {n}")),
        ref other => Err(format!("a value of type {}", other.value_type().name())),
    }
}

/// Reads a key or tensor name of 1 to `longest` bytes.
fn name(cursor: &mut Cursor<'_>, what: &'static str, longest: usize, at: u64) -> Result<String> {
    let place = Place::Field(what, at);
    let len = cursor.u64(&place)?;
    if !(1..=longest as u64).contains(&len) {
        return Err(cursor.malformed(
            place,
            format!("a name of {len} bytes"),
            format!("1 to {longest} bytes"),
            DAMAGED,
        ));
    }
    String::from_utf8(cursor.bytes(len, &place)?).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes());
        cursor.malformed(place, format!("{}", Quoted(&text)), "UTF-8 text", DAMAGED)
    })
}

fn value_type(cursor: &mut Cursor<'_>, place: &Place) -> Result<ValueType> {
    let id = cursor.u32(place)?;
    ValueType::from_id(id).ok_or_else(|| {
        cursor.malformed(
            place.clone(),
            format!("value type {id}"),
            "a type from 0 (UINT8) to 12 (FLOAT64)",
            DAMAGED,
        )
    })
}

/// A scalar of fixed size in the file.
trait Scalar: Sized {
    fn read(cursor: &mut Cursor<'_>, place: &Place) -> Result<Self>;
}

macro_rules! scalars {
    ($($ty:ty),*) => {
        $(impl Scalar for $ty {
            fn read(cursor: &mut Cursor<'_>, place: &Place) -> Result<Self> {
                cursor.array(place).map(Self::from_le_bytes)
            }
        })*
    };
}
scalars!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

impl Scalar for bool {
    fn read(cursor: &mut Cursor<'_>, place: &Place) -> Result<Self> {
        match u8::read(cursor, place)? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(cursor.malformed(place.clone(), format!("bool {n}"), "0 or 1", DAMAGED)),
        }
    }
}

impl Scalar for GgufString {
    fn read(cursor: &mut Cursor<'_>, place: &Place) -> Result<Self> {
        let len = cursor.u64(place)?;
        cursor.bytes(len, place).map(Self::from)
    }
}

/// Reads `count` values that take at least `wire` bytes each.
fn array<T: Scalar>(cursor: &mut Cursor<'_>, wire: u64, place: &Place) -> Result<Vec<T>> {
    let count = cursor.u64(place)?;
    cursor.expect(count, wire, place)?;
    let mut values = cursor.vec(count, place)?;
    for _ in 0..count {
        values.push(T::read(cursor, place)?);
    }
    Ok(values)
}

/// Reads the type and value of a pair.
fn value(cursor: &mut Cursor<'_>, place: &Place) -> Result<Value> {
    use ValueType as T;
    Ok(match value_type(cursor, place)? {
        T::Uint8 => Value::Uint8(Scalar::read(cursor, place)?),
        T::Int8 => Value::Int8(Scalar::read(cursor, place)?),
        T::Uint16 => Value::Uint16(Scalar::read(cursor, place)?),
        T::Int16 => Value::Int16(Scalar::read(cursor, place)?),
        T::Uint32 => Value::Uint32(Scalar::read(cursor, place)?),
        T::Int32 => Value::Int32(Scalar::read(cursor, place)?),
        T::Float32 => Value::Float32(Scalar::read(cursor, place)?),
        T::Bool => Value::Bool(Scalar::read(cursor, place)?),
        T::String => Value::String(Scalar::read(cursor, place)?),
        T::Uint64 => Value::Uint64(Scalar::read(cursor, place)?),
        T::Int64 => Value::Int64(Scalar::read(cursor, place)?),
        T::Float64 => Value::Float64(Scalar::read(cursor, place)?),
        T::Array => Value::Array(match value_type(cursor, place)? {
            T::Uint8 => Array::Uint8(array(cursor, 1, place)?),
            T::Int8 => Array::Int8(array(cursor, 1, place)?),
            T::Uint16 => Array::Uint16(array(cursor, 2, place)?),
            T::Int16 => Array::Int16(array(cursor, 2, place)?),
            T::Uint32 => Array::Uint32(array(cursor, 4, place)?),
            T::Int32 => Array::Int32(array(cursor, 4, place)?),
            T::Float32 => Array::Float32(array(cursor, 4, place)?),
            T::Bool => Array::Bool(array(cursor, 1, place)?),
            // The length alone takes 8 bytes.
            T::String => Array::String(array(cursor, 8, place)?),
            T::Uint64 => Array::Uint64(array(cursor, 8, place)?),
            T::Int64 => Array::Int64(array(cursor, 8, place)?),
            T::Float64 => Array::Float64(array(cursor, 8, place)?),
            T::Array => {
                return Err(cursor.malformed(
                    place.clone(),
                    "an array of arrays",
                    "an array of scalars or strings",
                    DAMAGED,
                ));
            }
        }),
    })
}

fn tensors<T: Tensor>(
    cursor: &mut Cursor<'_>,
    count: u64,
    file: usize,
    place: &Place,
) -> Result<Vec<T>> {
    cursor.expect(count, MIN_TENSOR, place)?;
    let mut tensors: Vec<T> = cursor.vec(count, place)?;
    let mut starts: Vec<u64> = cursor.vec(count, place)?;
    for _ in 0..count {
        starts.push(cursor.position());
        let described = tensor(cursor, file)?;
        tensors.push(T::from_description(cursor, described)?);
    }
    // Sorting finds duplicates in less memory than a set of names.
    let mut order: Vec<usize> = cursor.vec(count, place)?;
    order.extend(0..tensors.len());
    let name = |i: &usize| tensors.get(*i).map(Tensor::name);
    order.sort_by(|a, b| name(a).cmp(&name(b)).then(a.cmp(b)));
    for pair in order.windows(2) {
        if let [a, b] = pair
            && name(a) == name(b)
        {
            let at = |i: &usize| format!("at byte {}", starts.get(*i).copied().unwrap_or_default());
            return Err(Error::Duplicate {
                path: cursor.file.path().into(),
                what: "tensor",
                name: name(a).unwrap_or_default().to_owned(),
                first: at(a),
                second: at(b),
            });
        }
    }
    cursor.budget.credit(count.saturating_mul(16));
    Ok(tensors)
}

/// Reads one tensor description.
fn tensor(cursor: &mut Cursor<'_>, file: usize) -> Result<Described> {
    let at = cursor.position();
    let name = name(cursor, "tensor name", MAX_NAME, at)?;
    let place = Place::Tensor(name.clone(), at);
    let n_dims = cursor.u32(&place)?;
    if n_dims as usize > MAX_DIMS {
        return Err(cursor.malformed(place, format!("{n_dims} dimensions"), "at most 4", DAMAGED));
    }
    let mut shape = cursor.vec(n_dims.max(1).into(), &place)?;
    for _ in 0..n_dims {
        shape.push(cursor.u64(&place)?);
    }
    if shape.is_empty() {
        shape.push(1);
    }
    let type_id = cursor.u32(&place)?;
    let offset = cursor.u64(&place)?;
    Ok(Described { place, name, shape, type_id, offset, file })
}

/// Bytes of a tensor that ggml can hold, or what was found and expected instead.
pub(crate) fn tensor_bytes(ty: GgmlType, shape: &[u64]) -> Result<u64, (String, String)> {
    // ggml counts elements and bytes in 64-bit signed integers.
    let fits = |n: &u64| i64::try_from(*n).is_ok();
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(fits);
    if elements.is_none() || !shape.iter().all(fits) {
        return Err((format!("shape {shape:?}"), "fewer than 2^63 elements".to_owned()));
    }
    let row = shape.first().copied().unwrap_or(1);
    if !row.is_multiple_of(ty.block_len() as u64) {
        return Err((
            format!("rows of {row} values"),
            format!("a multiple of {}, the block of {ty}", ty.block_len()),
        ));
    }
    ty.tensor_bytes(shape)
        .ok()
        .filter(fits)
        .ok_or_else(|| (format!("shape {shape:?} of {ty}"), "fewer than 2^63 bytes".to_owned()))
}

fn unknown_type(file: &SourceFile, place: Place, id: u32) -> Error {
    let names: Vec<_> = GgmlType::ALL.iter().map(|ty| ty.name()).collect();
    let (found, help) = match foreign_types::describe(id) {
        Some((name, help)) => (format!("type {id} ({name})"), help),
        None => (format!("unknown type {id}"), "the file is damaged or newer than this program"),
    };
    unsupported(file, place, found, names.join(" "), help)
}

/// Makes a tensor's offset absolute. Files cannot be longer than 2^63-1 bytes, so nothing that is
/// later computed from offset and size wraps.
fn place_in_file<T: Tensor>(cursor: &Cursor<'_>, tensor: &mut T, start: u64) -> Result<()> {
    let (relative, bytes) = (tensor.offset(), tensor.bytes());
    let end = start
        .checked_add(relative)
        .and_then(|offset| offset.checked_add(bytes))
        .filter(|end| i64::try_from(*end).is_ok());
    match end {
        Some(end) => {
            tensor.set_offset(end - bytes);
            Ok(())
        }
        None => Err(cursor.malformed(
            Place::Tensor(tensor.name().to_owned(), start),
            format!("offset {relative} and {bytes} bytes"),
            "data that ends before byte 2^63",
            DAMAGED,
        )),
    }
}
