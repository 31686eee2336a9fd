//! The layout of a model that is written as several files, as llama.cpp's tools split one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    Layout, TensorSpec,
    layout::{Entry, wrong},
    read,
    split::{COUNT, NUMBER, ShardName, TENSORS},
};
use crate::{Metadata, Place, Result};

/// How tensors are distributed over the files of a model. They keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Split<'a> {
    /// A new file where the tensors of one would take more than this many bytes. A tensor that is
    /// larger has a file of its own.
    MaxBytes(u64),
    /// A new file after this many tensors.
    MaxTensors(u64),
    /// This many files of about the same size.
    Files(u64),
    /// The number of the file of each tensor; files without tensors are left out.
    Given(&'a [usize]),
}

/// The most files that the keys of a split can count.
const MOST: usize = u16::MAX as usize;

impl Split<'_> {
    /// The number of tensors in each file. Sizes are in bytes, with padding.
    ///
    /// # Errors
    /// If there would be more files than the keys of a split can count, or than tensors.
    pub fn distribute(&self, sizes: &[u64]) -> Result<Vec<usize>> {
        if let Self::Files(files) = self {
            return even(sizes, *files);
        }
        let mut counts: Vec<usize> = Vec::new();
        let mut bytes = 0u64;
        for (index, padded) in sizes.iter().enumerate() {
            bytes = bytes.saturating_add(*padded);
            let full = match self {
                Self::MaxBytes(most) => bytes > *most,
                Self::MaxTensors(most) => {
                    counts.last().is_some_and(|count| *count as u64 >= (*most).max(1))
                }
                Self::Files(_) => false,
                Self::Given(files) => {
                    index.checked_sub(1).and_then(|before| files.get(before)) != files.get(index)
                }
            };
            match counts.last_mut() {
                Some(count) if !full => *count = count.saturating_add(1),
                _ => {
                    counts.push(1);
                    bytes = *padded;
                }
            }
        }
        if counts.is_empty() {
            counts.push(0);
        }
        if counts.len() > MOST {
            return Err(wrong(
                Place::Field("split", 0),
                format!("{} files", counts.len()),
                format!("at most {MOST}; allow larger ones"),
            ));
        }
        Ok(counts)
    }
}

/// The numbers of tensors in `files` files of about the same size: each ends with the tensor whose
/// end is nearest to its share of the bytes, and has at least one.
fn even(sizes: &[u64], files: u64) -> Result<Vec<usize>> {
    let count = usize::try_from(files).unwrap_or(usize::MAX);
    if count == 0 || count > sizes.len().clamp(1, MOST) {
        return Err(wrong(
            Place::Field("split", 0),
            format!("{files} files"),
            format!("1 to {}, as each has a tensor", sizes.len().clamp(1, MOST)),
        ));
    }
    // In 128 bits no product of a sum of 64-bit sizes and a count of files wraps.
    let total: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
    let mut counts = Vec::with_capacity(count);
    let (mut next, mut bytes) = (0usize, 0u128);
    for number in 1..=count {
        let first = next;
        let goal = total * number as u128 / count as u128;
        // What the files after this one need at least stays.
        let last = sizes.len().saturating_sub(count - number);
        while next < last {
            let end = bytes + u128::from(sizes.get(next).copied().unwrap_or_default());
            if next > first && end.abs_diff(goal) > bytes.abs_diff(goal) && number < count {
                break;
            }
            bytes = end;
            next += 1;
        }
        counts.push(next - first);
    }
    Ok(counts)
}

/// Lays out the files of a split model. The first one has all of the metadata, the others only the
/// keys of the split.
///
/// # Errors
/// As [`Layout::new`]; if there would be more files than the keys can count.
pub fn layout(
    metadata: &Metadata,
    tensors: &[TensorSpec],
    split: Split<'_>,
) -> Result<Vec<Layout>> {
    let sizes = tensors.iter().map(|tensor| {
        let padded = Entry::new(tensor)?.padded(read::DEFAULT_ALIGNMENT);
        padded.ok_or_else(|| {
            let place = Place::Tensor(tensor.name.clone(), 0);
            wrong(place, "an end at byte 2^63 or later", "less in all")
        })
    });
    let counts = split.distribute(&sizes.collect::<Result<Vec<_>>>()?)?;
    let mut rest = tensors;
    let mut layouts = Vec::with_capacity(counts.len());
    for (number, tensors_here) in counts.iter().enumerate() {
        let pairs = pairs(metadata, number, counts.len(), tensors.len(), split)?;
        let (here, after) = rest.split_at_checked(*tensors_here).unwrap_or((rest, &[]));
        rest = after;
        layouts.push(Layout::new(&pairs, here)?);
    }
    Ok(layouts)
}

/// The metadata of a file of a split model.
pub(super) fn pairs(
    metadata: &Metadata,
    number: usize,
    count: usize,
    tensors: usize,
    split: Split<'_>,
) -> Result<Metadata> {
    let mut pairs = if number == 0 { metadata.clone() } else { Metadata::new() };
    // A model that keeps its one file has no keys of a split.
    if count > 1 || !matches!(split, Split::Given(_)) {
        put_keys(&mut pairs, number, count, tensors, split)?;
    }
    Ok(pairs)
}

/// The keys in the order in which llama-gguf-split leaves them, or llama-quantize where it keeps
/// the files there were.
fn put_keys(
    pairs: &mut Metadata,
    number: usize,
    count: usize,
    tensors: usize,
    split: Split<'_>,
) -> Result<()> {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let tensors = i32::try_from(tensors).map_err(|_| {
        wrong(Place::Field("split", 0), format!("{tensors} tensors"), "fewer than 2^31")
    })?;
    pairs.replace_at_end(NUMBER, number);
    match split {
        Split::Given(_) => {
            pairs.replace_at_end(COUNT, count);
            pairs.replace_at_end(TENSORS, tensors);
        }
        _ => {
            pairs.replace_at_end(TENSORS, tensors);
            pairs.replace_at_end(COUNT, count);
        }
    }
    Ok(())
}

/// The paths of `count` shards: `model.gguf` becomes `model-00001-of-00003.gguf` and so on.
///
/// A path that is named like a shard already stands for the set it would belong to.
pub fn paths(output: &Path, count: usize) -> Vec<PathBuf> {
    let stem = match ShardName::parse(output) {
        Some(name) => OsString::from(name.prefix()),
        None if output.extension().is_some_and(|extension| extension == "gguf") => {
            output.file_stem().unwrap_or_default().to_owned()
        }
        None => output.file_name().unwrap_or_default().to_owned(),
    };
    (1..=count)
        .map(|number| {
            let mut name = stem.clone();
            name.push(format!("-{number:05}-of-{count:05}.gguf"));
            output.with_file_name(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use quant_core::GgmlType;

    use super::*;

    fn sizes(lengths: &[u64]) -> Vec<u64> {
        lengths.iter().map(|len| (4 * len).next_multiple_of(32)).collect()
    }

    fn tensors(lengths: &[u64]) -> Vec<TensorSpec> {
        let spec = |(i, len): (usize, &u64)| TensorSpec {
            name: format!("t{i}"),
            ty: GgmlType::F32,
            shape: vec![*len],
        };
        lengths.iter().enumerate().map(spec).collect()
    }

    #[test]
    fn files_are_filled_as_the_reference_fills_them() {
        // 32, 64, 32, 96 and 32 bytes with their padding.
        let five = sizes(&[8, 9, 1, 24, 8]);
        for (split, expected) in [
            (Split::MaxTensors(2), &[2, 2, 1][..]),
            (Split::MaxTensors(5), &[5]),
            (Split::MaxTensors(1), &[1; 5]),
            (Split::MaxBytes(256), &[5]),
            (Split::MaxBytes(255), &[4, 1]),
            (Split::MaxBytes(128), &[3, 2]),
            (Split::MaxBytes(95), &[1, 1, 1, 1, 1]),
            (Split::MaxBytes(64), &[1, 1, 1, 1, 1]),
            (Split::MaxBytes(96), &[2, 1, 1, 1]),
            (Split::Given(&[0, 0, 2, 2, 5]), &[2, 2, 1]),
        ] {
            assert_eq!(split.distribute(&five).unwrap(), expected, "{split:?}");
        }
        assert_eq!(Split::MaxTensors(1).distribute(&[]).unwrap(), [0]);
        let many = vec![32; MOST + 1];
        let message = Split::MaxTensors(1).distribute(&many).unwrap_err().to_string();
        assert!(message.contains("65536 files, expected at most 65535"), "{message}");
    }

    #[test]
    fn files_of_about_the_same_size() {
        let five = [32, 64, 32, 96, 32];
        for (files, expected) in
            [(1, &[5][..]), (2, &[3, 2]), (3, &[2, 1, 2]), (4, &[2, 1, 1, 1]), (5, &[1; 5])]
        {
            assert_eq!(Split::Files(files).distribute(&five).unwrap(), expected, "{files}");
        }
        // One large tensor does not take the others their files, nor zeros and huge ones the sums.
        assert_eq!(Split::Files(3).distribute(&[1, 1, 1000]).unwrap(), [1, 1, 1]);
        assert_eq!(Split::Files(3).distribute(&[1000, 1, 1]).unwrap(), [1, 1, 1]);
        assert_eq!(Split::Files(2).distribute(&[u64::MAX, u64::MAX]).unwrap(), [1, 1]);
        assert_eq!(Split::Files(2).distribute(&[0, 0]).unwrap(), [1, 1]);
        assert_eq!(Split::Files(1).distribute(&[]).unwrap(), [0]);
        for (files, sizes) in [(0, &five[..]), (6, &five), (2, &[1])] {
            let message = Split::Files(files).distribute(sizes).unwrap_err().to_string();
            assert!(message.contains("as each has a tensor"), "{message}");
        }
    }

    #[test]
    fn the_keys_are_those_of_the_reference_in_its_order() {
        let mut metadata = Metadata::new();
        metadata.insert("a", "b");
        let keys = |split| {
            let layouts = layout(&metadata, &tensors(&[1, 1, 1]), split).unwrap();
            let headers = layouts.into_iter().map(|layout| {
                let file = crate::SourceFile::from_bytes("x", layout.header);
                let model = crate::GgufFile::read(file, &crate::Limits::default()).unwrap();
                model.metadata.iter().map(|(key, value)| format!("{key}={value:?}")).collect()
            });
            headers.collect::<Vec<Vec<String>>>()
        };
        assert_eq!(
            keys(Split::MaxTensors(2)),
            [
                vec![
                    "a=String(\"b\")",
                    "split.no=Uint16(0)",
                    "split.tensors.count=Int32(3)",
                    "split.count=Uint16(2)"
                ],
                vec!["split.no=Uint16(1)", "split.tensors.count=Int32(3)", "split.count=Uint16(2)"],
            ]
        );
        assert_eq!(
            keys(Split::Given(&[0, 1, 1])).last().unwrap(),
            &["split.no=Uint16(1)", "split.count=Uint16(2)", "split.tensors.count=Int32(3)"]
        );
        assert_eq!(keys(Split::Given(&[0, 0, 0])), [["a=String(\"b\")"]]);
        assert_eq!(keys(Split::MaxTensors(9)).concat().len(), 4);
    }

    #[test]
    fn shards_are_named_after_the_output() {
        for (output, first) in [
            ("dir/model.gguf", "dir/model-00001-of-00002.gguf"),
            ("model", "model-00001-of-00002.gguf"),
            ("v1.5", "v1.5-00001-of-00002.gguf"),
            ("dir/m-00001-of-00007.gguf", "dir/m-00001-of-00002.gguf"),
        ] {
            assert_eq!(paths(Path::new(output), 2)[0], Path::new(first));
        }
    }
}
