//! Splitting a GGUF file into shards and merging shards into a file, whatever is in them.

use std::path::{Path, PathBuf};

use super::{AnyGguf, AnyTensor, Split, layout, read, shards, split};
use crate::{AtomicFile, AtomicSet, Metadata, OutputOptions, Place, Result, SourceFile, output};

/// A model whose tensors go to other files than those they are in.
#[derive(Debug)]
pub struct Regrouping<'a> {
    model: &'a AnyGguf,
    files: Vec<NewFile>,
}

#[derive(Debug)]
struct NewFile {
    path: PathBuf,
    header: Vec<u8>,
    total: u64,
    copies: Vec<Range>,
}

/// Bytes that go from one file to another.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// Index of the source.
    source: usize,
    from: u64,
    len: u64,
    to: u64,
}

impl<'a> Regrouping<'a> {
    /// Distributes the tensors over shards beside `output`, as llama-gguf-split does: the first has
    /// all of the metadata.
    ///
    /// # Errors
    /// As [`AnyGguf::check_any`]; [`crate::Error::Layout`] if there would be more files than the
    /// format can count.
    pub fn split(model: &'a AnyGguf, output: &Path, by: Split<'_>) -> Result<Self> {
        let sizes: Vec<u64> = model
            .tensors
            .iter()
            .map(|tensor| tensor.bytes.next_multiple_of(read::DEFAULT_ALIGNMENT))
            .collect();
        let counts = by.distribute(&sizes)?;
        let mut rest = model.tensors.as_slice();
        let mut parts = Vec::with_capacity(counts.len());
        let paths = shards::paths(output, counts.len());
        for (number, (count, path)) in counts.iter().zip(paths).enumerate() {
            let pairs =
                shards::pairs(&model.metadata, number, counts.len(), model.tensors.len(), by)?;
            let (here, after) = rest.split_at_checked(*count).unwrap_or((rest, &[]));
            rest = after;
            parts.push((path, pairs, here));
        }
        Self::new(model, parts)
    }

    /// Brings all tensors into one file, without the keys of a split.
    ///
    /// # Errors
    /// As [`AnyGguf::check_any`].
    pub fn merge(model: &'a AnyGguf, output: &Path) -> Result<Self> {
        let mut pairs = model.metadata.clone();
        for key in [split::COUNT, split::NUMBER, split::TENSORS] {
            pairs.remove(key);
        }
        Self::new(model, vec![(output.to_owned(), pairs, model.tensors.as_slice())])
    }

    fn new(model: &'a AnyGguf, parts: Vec<(PathBuf, Metadata, &[AnyTensor])>) -> Result<Self> {
        model.check_any()?;
        let files = parts.into_iter().map(|(path, pairs, tensors)| {
            let entries: Vec<_> = tensors.iter().map(entry).collect();
            let placed = layout::place(&pairs, &entries)?;
            let copies = copies(tensors, &placed.offsets);
            Ok(NewFile { path, header: placed.header, total: placed.total, copies })
        });
        Ok(Self { model, files: files.collect::<Result<_>>()? })
    }

    /// The files to be written, with their lengths in bytes.
    pub fn outputs(&self) -> Vec<(PathBuf, u64)> {
        self.files.iter().map(|file| (file.path.clone(), file.total)).collect()
    }

    /// Writes all files and gives them their names together.
    ///
    /// # Errors
    /// As [`AtomicSet::create`], [`write`](Self::write) and [`AtomicSet::commit`];
    /// [`crate::Error::WrongKind`] if an output is one of the files that are read.
    pub fn save(&self, options: OutputOptions) -> Result<()> {
        for file in &self.files {
            output::refuse_inputs(&file.path, &self.model.files)?;
        }
        let set = AtomicSet::create(&self.outputs(), options)?;
        self.write(&set)?;
        set.commit()
    }

    /// Writes the files of a set that was created for [`outputs`](Self::outputs), headers last.
    ///
    /// # Errors
    /// [`crate::Error::Read`], [`crate::Error::Write`], [`crate::Error::Changed`]; and
    /// [`crate::Error::Layout`] if the set is for other files.
    pub fn write(&self, set: &AtomicSet) -> Result<()> {
        if set.files().len() != self.files.len() {
            let found = format!("{} files", set.files().len());
            let expected = self.files.len().to_string();
            return Err(layout::wrong(Place::Field("split", 0), found, expected));
        }
        for (file, output) in self.files.iter().zip(set.files()) {
            self.write_one(file, output)?;
        }
        self.model.files.iter().try_for_each(SourceFile::check_unchanged)?;
        let mut headers = self.files.iter().zip(set.files());
        headers.try_for_each(|(file, output)| output.write_all_at(&file.header, 0))
    }

    fn write_one(&self, file: &NewFile, output: &AtomicFile) -> Result<()> {
        output.expect_header(file.header.len() as u64);
        for range in &file.copies {
            // The index is that of a tensor that was read from there.
            if let Some(source) = self.model.files.get(range.source) {
                output.copy_from(source, range.from, range.len, range.to)?;
            }
        }
        Ok(())
    }
}

fn entry(tensor: &AnyTensor) -> layout::Entry<'_> {
    let dims = tensor.shape.iter().rposition(|dim| *dim != 1).map_or(1, |last| last + 1);
    layout::Entry {
        name: &tensor.name,
        // As ggml writes shapes: without ones at the end.
        shape: tensor.shape.get(..dims).unwrap_or(&tensor.shape),
        type_id: tensor.type_id,
        bytes: tensor.bytes,
    }
}

/// What is to be copied; neighbours that stay neighbours in one piece.
fn copies(tensors: &[AnyTensor], offsets: &[u64]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (tensor, to) in tensors.iter().zip(offsets) {
        let next = Range { source: tensor.file, from: tensor.offset, len: tensor.bytes, to: *to };
        match ranges.last_mut() {
            // Padding between them is not copied: who knows what it holds.
            Some(last)
                if last.source == next.source
                    && last.from.checked_add(last.len) == Some(next.from)
                    && last.to.checked_add(last.len) == Some(next.to) =>
            {
                last.len = last.len.saturating_add(next.len);
            }
            _ => ranges.push(next),
        }
    }
    ranges
}
