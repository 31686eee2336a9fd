//! Whether a model file can be trusted: its structure, what loaders need of it, and every value.

mod findings;
mod values;

use std::{ffi::OsStr, path::Path};

use gguf_io::{AnyGguf, AnyTensor, Checkpoint, GgufFile, Imatrix, SourceFile, message::listed};
use gguf_model::Content;

use crate::{
    Error, Options, Result,
    error::{Quoted, Shown},
};
pub use findings::Findings;
use values::Range;

const STRUCTURE: &str = "structure: header, names, types, shapes, offsets, sizes";
const PLACES: &str = "data: complete, aligned, in order, without gap or overlap";
const PADDING: &str = "padding is zero";
const NEEDS: &str = "metadata and tensors that loaders need";

/// Checks a model: a GGUF file (the first shard, if it is split), the folder of a checkpoint, a
/// safetensors file, or an importance matrix. Only the named files are read, in a memory window
/// that does not depend on their size.
///
/// # Errors
/// [`Error::Threads`] only: all that is wrong with the files is among the findings.
pub fn verify(path: impl AsRef<Path>, options: &Options) -> Result<Findings> {
    verify_path(path.as_ref(), options)
}

fn verify_path(path: &Path, options: &Options) -> Result<Findings> {
    let mut found = Findings::default();
    if path.is_dir() {
        folder(path, options, &mut found)?;
    } else if path.extension() == Some(OsStr::new("safetensors")) {
        found.format = "safetensors".into();
        let opened = found
            .check(STRUCTURE, |_| Checkpoint::read(vec![SourceFile::open(path)?], &options.limits));
        if let Some(checkpoint) = opened {
            safetensors(&checkpoint, options, &mut found)?;
        }
    } else {
        match GgufFile::open(path, &options.limits) {
            Ok(model) if model.metadata.get_str("general.type") == Some("imatrix") => {
                imatrix(path, Imatrix::open(path, &options.limits), &mut found);
                gguf(&model, options, &mut found)?;
            }
            Ok(model) => {
                found.check(STRUCTURE, |_| Ok::<_, Error>(()));
                gguf(&model, options, &mut found)?;
            }
            // The older format of importance matrices has no mark of its own.
            Err(error) if matches!(error, gguf_io::Error::NotAModel { .. }) => {
                match Imatrix::open(path, &options.limits) {
                    Ok(matrix) => imatrix(path, Ok(matrix), &mut found),
                    Err(other) if path.extension() == Some(OsStr::new("dat")) => {
                        imatrix(path, Err(other), &mut found);
                    }
                    Err(_) => drop(found.check(STRUCTURE, |_| Err::<(), _>(error))),
                }
            }
            Err(error) => {
                found.format = "GGUF".into();
                let is_type = matches!(error, gguf_io::Error::Unsupported { .. });
                found.check(STRUCTURE, |_| Err::<(), _>(error));
                // Types that are not known keep nothing else from being looked at.
                if is_type && let Ok(model) = AnyGguf::open_any(path, &options.limits) {
                    with_unknown_types(&model, options, &mut found)?;
                }
            }
        }
    }
    Ok(found)
}

fn count(files: &[SourceFile], tensors: usize, found: &mut Findings) {
    found.files = files.len() as u64;
    found.tensors = tensors as u64;
    found.bytes = files.iter().fold(0, |sum, f| sum.saturating_add(f.len()));
}

fn imatrix(path: &Path, matrix: Result<Imatrix, gguf_io::Error>, found: &mut Findings) {
    found.format = "importance matrix".into();
    const ENTRIES: &str = "entries: sums and counts are finite, not negative and fit together";
    if let Some(matrix) = found.check(ENTRIES, |_| matrix) {
        found.files = 1;
        found.tensors = matrix.entries.len() as u64;
        found.bytes = std::fs::metadata(path).map_or(0, |stat| stat.len());
        found.check("there are entries", |_| match matrix.entries.len() {
            0 => Err(format!("{}: holds no entries", Shown(path))),
            _ => Ok(()),
        });
    }
}

fn gguf(model: &GgufFile, options: &Options, found: &mut Findings) -> Result<()> {
    let kind = model.metadata.get_str("general.type").unwrap_or("model").to_owned();
    let matrix = kind == "imatrix";
    if !matrix {
        found.format = format!("GGUF version {}", model.version);
        count(&model.files, model.tensors.len(), found);
    }
    let placed = found.check(PLACES, |_| model.check_data());
    if placed.is_some() {
        found.check(PADDING, |_| model.check_padding());
    }
    let is_model = !matrix && needs(model, found);
    if placed.is_some() {
        let ranges = model.tensors.iter().map(|t| Range {
            name: &t.name,
            file: t.file,
            offset: t.offset,
            bytes: t.bytes,
            stored: t.ty.into(),
            shape: &t.shape,
        });
        let ranges: Vec<_> = ranges.collect();
        let zeros = values::check(&model.files, &ranges, options, found)?;
        if !matrix {
            values::zeros(&ranges, &zeros, is_model, found);
        }
    }
    Ok(())
}

/// Checks what does not depend on types that are not known, and says what does.
fn with_unknown_types(model: &AnyGguf, options: &Options, found: &mut Findings) -> Result<()> {
    found.format = format!("GGUF version {}", model.version);
    count(&model.files, model.tensors.len(), found);
    let unknown: Vec<_> = model.tensors.iter().filter(|tensor| tensor.ty().is_none()).collect();
    let shown = |tensor: &&&AnyTensor| format!("{} ({})", Quoted(&tensor.name), tensor.type_name());
    let names: Vec<_> = unknown.iter().map(|tensor| shown(&tensor)).collect();
    found.note(&format!(
        "{} of {} tensors have types that are not known, so that their sizes and values were not \
         checked: {}",
        unknown.len(),
        model.tensors.len(),
        listed(names.into_iter())
    ));
    if found.check(PLACES, |_| model.check_any()).is_some() {
        let known = model.tensors.iter().filter_map(|tensor| {
            let AnyTensor { name, shape, file, offset, bytes, .. } = tensor;
            let stored = tensor.ty()?.into();
            Some(Range { name, file: *file, offset: *offset, bytes: *bytes, stored, shape })
        });
        values::check(&model.files, &known.collect::<Vec<_>>(), options, found)?;
    }
    Ok(())
}

/// Checks what loaders need; returns whether the file holds a model whose architecture is known.
fn needs(model: &GgufFile, found: &mut Findings) -> bool {
    let report = gguf_model::check_file(model);
    report.notes.iter().for_each(|note| found.note(note));
    if matches!(report.content, Content::Other) && report.problem_count == 0 {
        return false;
    }
    found.check(NEEDS, |found| {
        let kept = report.problems.len() as u64;
        report.problems.into_iter().for_each(|problem| found.problem(|| problem.message));
        found.count = found.count.saturating_add(report.problem_count.saturating_sub(kept));
        Ok::<_, Error>(())
    });
    matches!(report.content, Content::Model(_))
}

fn folder(path: &Path, options: &Options, found: &mut Findings) -> Result<()> {
    found.format = "safetensors checkpoint".into();
    let located = found.check("what the folder holds", |_| gguf_io::safetensors::locate(path));
    let Some(path) = located.as_deref() else { return Ok(()) };
    let opened = found.check(STRUCTURE, |_| Checkpoint::open(path, &options.limits));
    if !path.join("config.json").exists() {
        found.note("config.json: not there, so the tensors are compared with no architecture");
    } else if opened.is_some() {
        match crate::checkpoint::open(path, &options.into()) {
            // Not being able to convert a model does not make it unsound.
            Err(
                error @ (Error::Architecture { .. }
                | Error::PreTokenizer { .. }
                | Error::PreTokenizerName { .. }),
            ) => found.note(&format!("not checked against its architecture: {error}")),
            // Nor is a quantization that is not read; tensors that do not fit each other are.
            Err(error @ Error::Read(quant_weights::Error::Quantization { .. })) => {
                found.note(&format!("not checked against its architecture: {error}"));
            }
            result => drop(found.check("config, tokenizer, names and shapes", |_| result)),
        }
    }
    match opened {
        Some(checkpoint) => safetensors(&checkpoint, options, found),
        None => Ok(()),
    }
}

fn safetensors(checkpoint: &Checkpoint, options: &Options, found: &mut Findings) -> Result<()> {
    count(&checkpoint.files, checkpoint.tensors.len(), found);
    let ranges = checkpoint.tensors.iter().map(|(name, t)| Range {
        name,
        file: t.file,
        offset: t.offset,
        bytes: t.bytes,
        stored: t.dtype.into(),
        shape: &t.shape,
    });
    values::check(&checkpoint.files, &ranges.collect::<Vec<_>>(), options, found).map(drop)
}
