//! The importance matrices of before 2025, `.dat`:
//! `i32 entries | (i32 length | name | i32 calls | i32 values | f32…)… | i32 chunks | i32 length | dataset`.

use super::{BrokenEntry, Imatrix, ImatrixEntry, check_values};
use crate::{
    Budget, Error, Place, Result, SourceFile,
    cursor::Cursor,
    error::{DAMAGED, Quoted},
};

/// Bytes of the smallest entry: length, one byte of name, calls, count, one value.
const MIN_ENTRY: u64 = 4 + 1 + 4 + 4 + 4;
const NOT_ONE: &str = "the file is damaged or not an importance matrix";

pub(super) fn read(file: &SourceFile, budget: &mut Budget) -> Result<Imatrix> {
    let mut cursor = Cursor::new(file, budget);
    let place = Place::Field("number of entries", 0);
    let count = positive(&mut cursor, &place, NOT_ONE)?;
    cursor.expect(count, MIN_ENTRY, &place)?;
    cursor.budget.debit_array(count, super::ENTRY_BYTES, file.path(), &place)?;
    let mut imatrix = Imatrix::new(Vec::new(), None);
    for _ in 0..count {
        let (name, at, entry) = entry(&mut cursor)?;
        if imatrix.entries.contains_key(&name) || imatrix.broken.contains_key(&name) {
            return Err(Error::Duplicate {
                path: file.path().into(),
                what: "entry",
                name,
                first: "earlier in the file".to_owned(),
                second: format!("at byte {at}"),
            });
        }
        imatrix.insert(name, entry, cursor.budget)?;
    }
    imatrix.entries.sort_unstable_keys();
    imatrix.broken.sort_unstable_keys();

    // What follows was added later and may be missing.
    if cursor.left() > 0 {
        let place = Place::Field("number of chunks", cursor.position());
        imatrix.chunk_count = u32::try_from(cursor.i32(&place)?).ok().filter(|n| *n > 0);
    }
    if cursor.left() > 0 {
        let place = Place::Field("dataset name", cursor.position());
        let len = cursor.i32(&place)?;
        if let Ok(len) = u64::try_from(len)
            && len > 0
        {
            let bytes = cursor.bytes(len, &place)?;
            // It is only carried into a file as a remark.
            imatrix.datasets.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    if cursor.left() > 0 {
        return Err(cursor.malformed(
            Place::Field("end of the entries", cursor.position()),
            format!("{} more bytes", cursor.left()),
            "the end of the file",
            NOT_ONE,
        ));
    }
    Ok(imatrix)
}

fn positive(cursor: &mut Cursor<'_>, place: &Place, help: &'static str) -> Result<u64> {
    let n = cursor.i32(place)?;
    u64::try_from(n)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| cursor.malformed(place.clone(), n.to_string(), "a positive number", help))
}

type Named = (String, u64, Result<ImatrixEntry, BrokenEntry>);

/// The next entry with its name and where it begins.
fn entry(cursor: &mut Cursor<'_>) -> Result<Named> {
    let at = cursor.position();
    let place = Place::Field("entry name", at);
    let len = positive(cursor, &place, NOT_ONE)?;
    let name = String::from_utf8(cursor.bytes(len, &place)?).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes());
        cursor.malformed(place, Quoted(&text).to_string(), "UTF-8 text", NOT_ONE)
    })?;
    let place = Place::Tensor(name, at);
    let calls = cursor.i32(&place)?;
    let count = positive(cursor, &place, DAMAGED)?;
    cursor.expect(count, 4, &place)?;
    let mut values: Vec<f32> = cursor.vec(count, &place)?;
    for _ in 0..count {
        let sum = f32::from_le_bytes(cursor.array(&place)?);
        // The file holds means times calls. llama-quantize divides in single precision.
        values.push(if calls > 0 { sum / calls as f32 } else { sum });
    }
    let checked = check_values(cursor.file, &place, &values);
    let Place::Tensor(name, _) = place else {
        return Err(cursor.malformed(place, "no name", "an entry", DAMAGED));
    };
    Ok((name, at, checked.map(|()| ImatrixEntry { values, matrices: 1 })))
}
