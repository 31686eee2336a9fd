//! The header of one safetensors file: `u64 length | JSON | data`.

use std::{collections::BTreeMap, fmt};

use safetensors::tensor::{Metadata as ReferenceMetadata, TensorInfo as ReferenceInfo};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    Dtype,
    json::{Charge, Skip, Strings},
};
use crate::{
    Budget, Error, Place, Result, SourceFile,
    cursor::Cursor,
    error::{DAMAGED, Quoted},
    sniff::{self, Kind},
};

/// A tensor as the header has it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    /// The range of its data, relative to the end of the header.
    pub(super) start: u64,
    pub(super) end: u64,
}

/// More than any layer has, little enough that a hostile shape costs nothing.
const MAX_DIMS: usize = 8;

/// What one file says.
pub(super) struct Header {
    /// In the order of their data.
    pub(super) entries: Vec<Entry>,
    /// What stands under `__metadata__`.
    pub(super) texts: BTreeMap<String, String>,
    /// Where the data begins.
    pub(super) data: u64,
}

/// Reads a header.
pub(super) fn read(file: &SourceFile, budget: &mut Budget) -> Result<Header> {
    match Kind::of(&sniff::head(file)?) {
        Kind::Safetensors | Kind::Other => {}
        other => return Err(other.error(file, "a safetensors file")),
    }
    let longest = budget.limits().json;
    let mut cursor = Cursor::new(file, budget);
    let place = Place::Field("header length", 0);
    let len = cursor.u64(&place)?;
    if len > longest {
        return Err(cursor.malformed(
            place,
            format!("a header of {len} bytes"),
            format!("at most {longest}"),
            "the file is damaged or not a safetensors file",
        ));
    }
    let place = Place::Field("header", 8);
    let json = cursor.bytes(len, &place)?;
    let start = cursor.position();
    let text = std::str::from_utf8(&json).map_err(|error| {
        let at = start - len + error.valid_up_to() as u64;
        cursor.malformed(
            Place::Field("header", at),
            "bytes that are not UTF-8",
            "JSON text",
            DAMAGED,
        )
    })?;

    let mut charge = Charge::new(file, budget, place.clone());
    let (mut entries, mut texts) = (Vec::new(), BTreeMap::new());
    let mut parser = serde_json::Deserializer::from_str(text);
    let result = Tensors { charge: &mut charge, entries: &mut entries, texts: &mut texts }
        .deserialize(&mut parser)
        .and_then(|()| parser.end());
    charge.finish(result, "a JSON map of tensors as safetensors files have it")?;
    drop(json);
    budget.credit(len);

    check_names(file, &mut entries)?;
    entries.sort_unstable_by(|a, b| (a.start, a.end, &a.name).cmp(&(b.start, b.end, &b.name)));
    check_ranges(file, &entries, start)?;
    ask_reference(file, &entries, place, budget)?;
    Ok(Header { entries, texts, data: start })
}

/// The map of the header.
struct Tensors<'s, 'a> {
    charge: &'s mut Charge<'a>,
    entries: &'s mut Vec<Entry>,
    texts: &'s mut BTreeMap<String, String>,
}

impl<'de> DeserializeSeed<'de> for Tensors<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensors<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut metadata, true) {
                    return Err(de::Error::custom("`__metadata__` twice"));
                }
                map.next_value_seed(Strings { charge: self.charge, texts: self.texts })?;
                continue;
            }
            self.charge.array(name.len(), 1)?;
            let entry = map.next_value_seed(Tensor { charge: self.charge, name })?;
            self.charge.push(self.entries, entry)?;
        }
        Ok(())
    }
}

/// The value under a tensor's name.
struct Tensor<'s, 'a> {
    charge: &'s mut Charge<'a>,
    name: String,
}

impl<'de> DeserializeSeed<'de> for Tensor<'_, '_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensor<'_, '_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the dtype, shape and data_offsets of tensor {}", Quoted(&self.name))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut dtype, mut shape, mut range) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            let twice = match field.as_str() {
                "dtype" => dtype.replace(map.next_value::<String>()?).is_some(),
                "shape" => shape.replace(map.next_value::<Numbers<MAX_DIMS>>()?).is_some(),
                "data_offsets" => range.replace(map.next_value::<Numbers<2>>()?).is_some(),
                // As in the reference implementation.
                _ => {
                    map.next_value::<Skip>()?;
                    false
                }
            };
            if twice {
                return Err(de::Error::custom(format_args!(
                    "`{field}` twice in tensor {}",
                    Quoted(&self.name)
                )));
            }
        }
        let (Some(dtype), Some(shape), Some(range)) = (dtype, shape, range) else {
            return Err(de::Error::custom(format_args!(
                "tensor {} without dtype, shape or data_offsets",
                Quoted(&self.name)
            )));
        };
        let &[start, end] = range.as_slice() else {
            return Err(de::Error::custom(format_args!(
                "tensor {} with {} data_offsets instead of 2",
                Quoted(&self.name),
                range.as_slice().len()
            )));
        };
        let Some(dtype) = Dtype::from_name(&dtype) else {
            let names: Vec<_> = Dtype::ALL.iter().map(|ty| ty.name()).collect();
            let error = Error::Unsupported {
                path: self.charge.file.path().into(),
                place: Place::Tensor(self.name, 8),
                found: format!("dtype {}", Quoted(&dtype)).into(),
                supported: names.join(" ").into(),
                help: "convert the checkpoint to one of these",
            };
            return Err(self.charge.fail(error));
        };
        self.charge.array(shape.as_slice().len(), 8)?;
        Ok(Entry { name: self.name, dtype, shape: shape.as_slice().to_vec(), start, end })
    }
}

/// Up to `N` numbers.
struct Numbers<const N: usize> {
    numbers: [u64; N],
    len: usize,
}

impl<const N: usize> Numbers<N> {
    fn as_slice(&self) -> &[u64] {
        self.numbers.get(..self.len).unwrap_or_default()
    }
}

impl<'de, const N: usize> de::Deserialize<'de> for Numbers<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumbersVisitor<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for NumbersVisitor<N> {
            type Value = Numbers<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} whole numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers<N>, A::Error> {
                let mut list = Numbers { numbers: [0; N], len: 0 };
                while let Some(number) = seq.next_element()? {
                    let slot = list
                        .numbers
                        .get_mut(list.len)
                        .ok_or_else(|| de::Error::invalid_length(N + 1, &self))?;
                    *slot = number;
                    list.len += 1;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(NumbersVisitor::<N>)
    }
}

/// Refuses names that occur twice, which maps would quietly merge.
fn check_names(file: &SourceFile, entries: &mut [Entry]) -> Result<()> {
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for pair in entries.windows(2) {
        if let [a, b] = pair
            && a.name == b.name
        {
            let range = |e: &Entry| format!("with data_offsets [{}, {}]", e.start, e.end);
            return Err(Error::Duplicate {
                path: file.path().into(),
                what: "tensor",
                name: a.name.clone(),
                first: range(a),
                second: range(b),
            });
        }
    }
    Ok(())
}

/// Bytes of a tensor of this shape, if they are whole bytes and do not wrap.
fn shape_bytes(entry: &Entry) -> Option<u64> {
    let bits = entry.shape.iter().try_fold(entry.dtype.bits(), |n, dim| n.checked_mul(*dim))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Checks that the data of sorted entries covers the rest of the file, each byte once, and that
/// every range has the size its shape asks for.
fn check_ranges(file: &SourceFile, entries: &[Entry], data: u64) -> Result<()> {
    let stored = file.len().saturating_sub(data);
    let mut expected = 0;
    for entry in entries {
        let &Entry { start, end, .. } = entry;
        let place = || Place::Tensor(entry.name.clone(), data.saturating_add(start));
        let malformed = |found: String, expected: String| Error::Malformed {
            path: file.path().into(),
            place: place(),
            found: found.into(),
            expected: expected.into(),
            help: DAMAGED,
        };
        let size = end.checked_sub(start).ok_or_else(|| {
            malformed(
                format!("data_offsets [{start}, {end}]"),
                "the begin before the end".to_owned(),
            )
        })?;
        if start != expected {
            let problem = if start < expected { "an overlap" } else { "a hole" };
            return Err(malformed(
                format!("{problem}: data_offsets [{start}, {end}]"),
                format!("a begin at {expected}, where the data before it ends"),
            ));
        }
        if shape_bytes(entry) != Some(size) {
            return Err(malformed(
                format!("shape {:?} of {} in {size} bytes", entry.shape, entry.dtype),
                match shape_bytes(entry) {
                    Some(bytes) => format!("{bytes} bytes"),
                    None => "a shape whose size is a whole number of bytes below 2^61".to_owned(),
                },
            ));
        }
        if end > stored {
            return Err(Error::Truncated {
                path: file.path().into(),
                place: place(),
                needed: size,
                left: stored.saturating_sub(start),
            });
        }
        expected = end;
    }
    if expected != stored {
        return Err(Error::Malformed {
            path: file.path().into(),
            place: Place::Field("end of the tensor data", data.saturating_add(expected)),
            found: format!("{} more bytes", stored.saturating_sub(expected)).into(),
            expected: "the end of the file".into(),
            help: DAMAGED,
        });
    }
    Ok(())
}

/// Asks the reference implementation for a second opinion on the ranges. It decides what a
/// safetensors file is; this reader may refuse more, but must not accept what it refuses.
fn ask_reference(
    file: &SourceFile,
    entries: &[Entry],
    place: Place,
    budget: &mut Budget,
) -> Result<()> {
    let bytes = entries
        .iter()
        .map(|e| e.shape.len() as u64 * 8 + 16)
        .fold(0, u64::saturating_add)
        .saturating_add(
            (entries.len() as u64).saturating_mul(size_of::<(String, ReferenceInfo)>() as u64 * 2),
        );
    budget.debit(bytes, file.path(), &place)?;
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let infos = entries
        .iter()
        .map(|e| {
            let info = ReferenceInfo {
                dtype: e.dtype.reference(),
                shape: e.shape.iter().copied().map(number).collect(),
                data_offsets: (number(e.start), number(e.end)),
            };
            // Names were checked here and would only cost memory there.
            (String::new(), info)
        })
        .collect();
    let result = ReferenceMetadata::new(None, infos);
    budget.credit(bytes);
    result.map(drop).map_err(|error| Error::Malformed {
        path: file.path().into(),
        place,
        found: error.to_string().into(),
        expected: "what the safetensors library accepts".into(),
        help: DAMAGED,
    })
}
