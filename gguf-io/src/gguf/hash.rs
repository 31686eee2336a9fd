//! Checksums: of a file as a hub shows it, of its tensor data, of each tensor.

use std::{num::NonZeroU64, sync::atomic::AtomicU64, sync::atomic::Ordering};

use sha2::{Digest, Sha256};

use super::AnyGguf;
use crate::{Result, SourceFile};

/// A SHA-256 in lower-case hexadecimal digits.
pub type Sum = String;

/// The checksums of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hashes {
    /// Of each file, all of it: what `sha256sum` prints and a hub shows.
    pub files: Vec<Sum>,
    /// Of the data of all tensors in their order, without padding: the same for a model that is
    /// split or merged or whose metadata was edited. llama.cpp's gguf-hash shows the same.
    pub data: Sum,
    /// Of the data of each tensor, in their order; empty if not asked for.
    pub tensors: Vec<Sum>,
}

const BUFFER: usize = 1 << 20;

/// Computes the checksums of a model whose [data is in its place](AnyGguf::check_any), those of
/// single tensors if asked to. `progress` gets the bytes that were hashed and those to be hashed,
/// from several threads.
///
/// # Errors
/// [`crate::Error::Read`]; [`crate::Error::Changed`] if a file changes meanwhile.
pub fn hash(
    model: &AnyGguf,
    each_tensor: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Hashes> {
    let files: u64 = model.files.iter().map(SourceFile::len).fold(0, u64::saturating_add);
    let data = model.tensors.iter().map(|t| t.bytes).fold(0, u64::saturating_add);
    let total = files.saturating_add(data).saturating_add(if each_tensor { data } else { 0 });
    let done = AtomicU64::new(0);
    let step = |bytes: u64| {
        progress(done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes), total);
    };
    let whole = || {
        let sums = model.files.iter().map(|file| {
            let mut hasher = Sha256::new();
            add(&mut hasher, file, 0, file.len(), &step)?;
            Ok(hex(hasher))
        });
        sums.collect::<Result<Vec<_>>>()
    };
    let of_data = || {
        let mut hasher = Sha256::new();
        each(model, |file, from, len| add(&mut hasher, file, from, len, &step))?;
        Ok(hex(hasher))
    };
    let of_tensors = || {
        let mut sums = Vec::new();
        each(model, |file, from, len| {
            let mut hasher = Sha256::new();
            add(&mut hasher, file, from, len, &step)?;
            sums.push(hex(hasher));
            Ok(())
        })?;
        Ok(sums)
    };
    // Each reads for itself: what one has read the others find in memory.
    let (files, data, tensors) = std::thread::scope(|scope| {
        let data = scope.spawn(of_data);
        let tensors = each_tensor.then(|| scope.spawn(of_tensors));
        let files = whole();
        let tensors = tensors.map_or_else(|| Ok(Vec::new()), join);
        (files, join(data), tensors)
    });
    let hashes = Hashes { files: files?, data: data?, tensors: tensors? };
    model.files.iter().try_for_each(SourceFile::check_unchanged)?;
    Ok(hashes)
}

/// The checksum of one file, of any format.
///
/// # Errors
/// [`crate::Error::Read`]; [`crate::Error::Changed`] if the file changes meanwhile.
pub fn file(file: &SourceFile, progress: &dyn Fn(u64, u64)) -> Result<Sum> {
    let mut hasher = Sha256::new();
    let done = std::cell::Cell::new(0u64);
    add(&mut hasher, file, 0, file.len(), &|bytes| {
        done.set(done.get().saturating_add(bytes));
        progress(done.get(), file.len());
    })?;
    file.check_unchanged()?;
    Ok(hex(hasher))
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Visits the data of every tensor: its file, offset and bytes.
fn each(model: &AnyGguf, mut visit: impl FnMut(&SourceFile, u64, u64) -> Result<()>) -> Result<()> {
    for tensor in &model.tensors {
        // The index is that of the file the tensor was read from.
        if let Some(file) = model.files.get(tensor.file) {
            visit(file, tensor.offset, tensor.bytes)?;
        }
    }
    Ok(())
}

fn add(
    hasher: &mut Sha256,
    file: &SourceFile,
    from: u64,
    len: u64,
    step: &dyn Fn(u64),
) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(len).map_or(BUFFER, |len| len.min(BUFFER))];
    let (mut at, mut left) = (from, NonZeroU64::new(len));
    while let Some(n) = left {
        let n = usize::try_from(n.get()).map_or(BUFFER, |left| left.min(BUFFER));
        let piece = buffer.get_mut(..n).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hasher.update(&*piece);
        step(n as u64);
        at = at.saturating_add(n as u64);
        left = left.and_then(|left| NonZeroU64::new(left.get().saturating_sub(n as u64)));
    }
    Ok(())
}

fn hex(hasher: Sha256) -> Sum {
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
