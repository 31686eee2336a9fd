//! `edit`: other metadata in a GGUF file.

use std::{
    collections::HashSet,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, anyhow};
use gguf_io::{
    AnyGguf, Limits, Metadata, SourceFile,
    gguf::edit::{self, Change, Edit},
    metadata::Value,
};
use gguf_model::Content;
use serde_json::json;

use crate::{
    args::{EditArgs, Setting, parse_file},
    text::{self, escape, size},
    warnings::Warnings,
};

/// The longest file that a value is read from.
const LONGEST: u64 = 64 << 20;

pub(crate) fn run(args: &EditArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let path = &args.input;
    let changes = changes(args)?;
    if edit::restore(path)? {
        let path = text::path(path);
        tracing::warn!(
            kind = "restored",
            "{path}: an edit was cut off; its old header was put back"
        );
    }
    let model = AnyGguf::open_any(path, &Limits::default())?;
    let mut metadata = model.metadata.clone();
    edit::apply(&mut metadata, &changes)?;
    warn_of_problems(&model, &metadata);
    let edit = Edit::new(&model, &metadata)?;
    let (what, output) = match &args.output {
        Some(output) => {
            edit.save(output, args.writing.options())?;
            ("new file", output)
        }
        None => {
            edit.in_place(!args.writing.no_sync)?;
            (if edit.fits() { "header written in place" } else { "file written anew" }, path)
        }
    };
    let bytes = std::fs::metadata(output).map_or_else(|_| edit.total(), |file| file.len());
    let mut out = io::stdout().lock();
    let warnings = warnings.take();
    if args.json {
        let json = json!({
            "output": text::path(output),
            "header_only": args.in_place && edit.fits(),
            "bytes": bytes,
            "warnings": warnings,
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(out, "{}: {what}, {}", text::path(output), size(bytes))?;
    }
    out.flush()?;
    for warning in &warnings {
        crate::say(&format!("warning: {}", escape(&warning.message)));
    }
    Ok(())
}

/// Renames and removals first, so that a key can be set to another type in the place of the old.
fn changes(args: &EditArgs) -> anyhow::Result<Vec<Change>> {
    let renames = args.rename.iter().map(|(from, to)| Change::Rename(from.clone(), to.clone()));
    let removals = args.remove.iter().map(|key| Change::Remove(key.clone()));
    let mut changes: Vec<_> = renames.chain(removals).collect();
    for setting in &args.set {
        changes.push(match setting {
            Setting::Value(key, value) => Change::Set(key.clone(), value.clone()),
            Setting::File { key, ty, path } => {
                let value = parse_file(*ty, read(path)?)
                    .map_err(|problem| anyhow!("{}: {problem}", text::path(path)))?;
                Change::Set(key.clone(), value)
            }
        });
    }
    if let Some(path) = &args.chat_template {
        let template = String::from_utf8(read(path)?)
            .ok()
            .with_context(|| format!("{}: is not UTF-8 text", text::path(path)))?;
        changes.push(Change::Set("tokenizer.chat_template".into(), Value::from(template)));
    }
    Ok(changes)
}

fn read(path: &Path) -> gguf_io::Result<Vec<u8>> {
    SourceFile::open(path)?.read_all(LONGEST)
}

/// Warns of what keeps loaders from using the file and did not before.
fn warn_of_problems(model: &AnyGguf, metadata: &Metadata) {
    let report = |metadata: &Metadata| {
        let tensors = model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice()));
        gguf_model::check(metadata, tensors)
    };
    let (before, after) = (report(&model.metadata), report(metadata));
    let known: HashSet<_> = before.problems.into_iter().map(|p| p.message).collect();
    let mut new = after.problems;
    new.retain(|problem| !known.contains(&problem.message));
    if let Some(first) = new.first() {
        let problems = first.of(new.len() as u64);
        tracing::warn!(kind = "not-loadable", "loaders are likely to refuse the file: {problems}");
    } else if let (Content::Model(was), Content::Other) = (before.content, after.content) {
        let note = after.notes.first().map_or("what it holds is not known", String::as_str);
        tracing::warn!(
            kind = "not-loadable",
            "loaders may no longer take the file for the {} model that it is: {note}",
            was.name
        );
    }
}
