//! Whether the tensor data of a GGUF file is all there and where llama.cpp looks for it.

use super::read::{DataSection, Tensor};
use crate::{Error, Place, Result, SourceFile, error::DAMAGED};

/// Checks one file: its tensors one after the other, each padded to the alignment, nothing between
/// or after them.
pub(crate) fn file<'a, T: Tensor + 'a>(
    file: &SourceFile,
    data: &DataSection,
    tensors: impl Iterator<Item = &'a T>,
) -> Result<()> {
    let malformed = |place, found: String, expected: String| Error::Malformed {
        path: file.path().into(),
        place,
        found: found.into(),
        expected: expected.into(),
        help: DAMAGED,
    };
    let mut expected = data.start;
    // The end of the last byte that has to be there: padding at the end of a file may be missing.
    let mut end = data.header_end;
    for tensor in tensors {
        let place = || Place::Tensor(tensor.name().to_owned(), tensor.offset());
        if tensor.offset() != expected {
            let relative = tensor.offset().saturating_sub(data.start);
            let problem = if !relative.is_multiple_of(data.alignment) {
                format!("data not aligned to {} bytes", data.alignment)
            } else if tensor.offset() < expected {
                "data that overlaps the tensor before it or is out of order".to_owned()
            } else {
                "a gap before the data".to_owned()
            };
            return Err(malformed(
                place(),
                problem,
                format!("its data at byte {expected}, where the tensor before it ends"),
            ));
        }
        // Neither sum wraps: the reader has checked that the data ends before 2^63.
        let stop = tensor.offset().saturating_add(tensor.bytes());
        expected = stop.checked_next_multiple_of(data.alignment).unwrap_or(u64::MAX);
        // What has no bytes needs none to be there, nor the padding before it.
        if tensor.bytes() == 0 {
            continue;
        }
        end = stop;
        if end > file.len() {
            return Err(Error::Truncated {
                path: file.path().into(),
                place: place(),
                needed: tensor.bytes(),
                left: file.len().saturating_sub(tensor.offset()),
            });
        }
    }
    if file.len() > expected.max(end) {
        return Err(malformed(
            Place::Field("end of the tensor data", expected),
            format!("{} more bytes", file.len().saturating_sub(expected)),
            "the end of the file".to_owned(),
        ));
    }
    Ok(())
}

/// Checks that the padding of one file is zero: whatever else is there, no reader sees it.
pub(crate) fn padding<'a, T: Tensor + 'a>(
    file: &SourceFile,
    data: &DataSection,
    tensors: impl Iterator<Item = &'a T>,
) -> Result<()> {
    let mut start = data.header_end;
    let ends = tensors.map(|t| t.offset().saturating_add(t.bytes()));
    let mut buffer = Vec::new();
    for end in ends.map(Some).chain([None]) {
        // As in a sound file: padded to the alignment, or up to where the file ends.
        let stop = start.checked_next_multiple_of(data.alignment).unwrap_or(start).min(file.len());
        let len = usize::try_from(stop.saturating_sub(start)).unwrap_or_default();
        if len > 0 {
            buffer.resize(len, 0);
            file.read_exact_at(&mut buffer, start)?;
            if let Some((at, byte)) = (start..).zip(&buffer).find(|(_, byte)| **byte != 0) {
                return Err(Error::Malformed {
                    path: file.path().into(),
                    place: Place::Field("padding", at),
                    found: format!("byte {byte:#04x}").into(),
                    expected: "zero".into(),
                    help: "no reader sees it; converting the file again removes it",
                });
            }
        }
        start = end.unwrap_or(start);
    }
    Ok(())
}
