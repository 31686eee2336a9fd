//! The layout of a model that is written as several files, as llama.cpp's tools split one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    Layout, TensorSpec,
    layout::wrong,
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
    /// The number of the file of each tensor; files without tensors are left out.
    Given(&'a [usize]),
}

/// The most files that the keys of a split can count.
const MOST: usize = u16::MAX as usize;

impl Split<'_> {
    /// The number of tensors in each file.
    fn distribute(&self, tensors: &[TensorSpec]) -> Result<Vec<usize>> {
        let mut counts: Vec<usize> = Vec::new();
        let mut bytes = 0u64;
        for (index, tensor) in tensors.iter().enumerate() {
            let padded = match self {
                Self::MaxBytes(_) => super::layout::padded(tensor, read::DEFAULT_ALIGNMENT)?,
                _ => 0,
            };
            bytes = bytes.saturating_add(padded);
            let full = match self {
                Self::MaxBytes(most) => bytes > *most,
                Self::MaxTensors(most) => {
                    counts.last().is_some_and(|count| *count as u64 >= (*most).max(1))
                }
                Self::Given(files) => {
                    index.checked_sub(1).and_then(|before| files.get(before)) != files.get(index)
                }
            };
            match counts.last_mut() {
                Some(count) if !full => *count = count.saturating_add(1),
                _ => {
                    counts.push(1);
                    bytes = padded;
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
    let counts = split.distribute(tensors)?;
    let mut rest = tensors;
    let mut layouts = Vec::with_capacity(counts.len());
    for (number, tensors_here) in counts.iter().enumerate() {
        let mut pairs = if number == 0 { metadata.clone() } else { Metadata::new() };
        // A model that keeps its one file has no keys of a split.
        if counts.len() > 1 || !matches!(split, Split::Given(_)) {
            put_keys(&mut pairs, number, counts.len(), tensors.len(), split)?;
        }
        let (here, after) = rest.split_at_checked(*tensors_here).unwrap_or((rest, &[]));
        rest = after;
        layouts.push(Layout::new(&pairs, here)?);
    }
    Ok(layouts)
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
        let five = tensors(&[8, 9, 1, 24, 8]);
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
        let many = tensors(&vec![1; MOST + 1]);
        let message = Split::MaxTensors(1).distribute(&many).unwrap_err().to_string();
        assert!(message.contains("65536 files, expected at most 65535"), "{message}");
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
