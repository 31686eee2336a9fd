//! `imatrix`: makes an importance matrix, or adds some up.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::Instant,
};

use anyhow::Context;
use gguf_io::{AtomicFile, Limits, OutputOptions, SourceFile, imatrix::ImatrixSums};
use quant_evaluate::{Session, importance::Importance, layered, measure};
use serde_json::json;

use super::running::{Running, Text, in_memory, warn, windows};
use crate::{
    args::ImatrixArgs,
    text::{self, escape},
    warnings::Warnings,
};

/// Tokens that an expert should have seen before its importance means much.
const ENOUGH: u64 = 32;

pub(crate) fn run(args: &ImatrixArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let options = OutputOptions { overwrite: args.force, sync: true };
    // Before minutes are spent.
    AtomicFile::check(&args.output, 0, options)?;
    let start = Instant::now();
    let (importance, memory) =
        if args.merge.is_empty() { measured(args)? } else { (merged(args)?, None) };
    importance.check()?;
    let bytes = importance.to_gguf()?;
    let file = AtomicFile::create(&args.output, bytes.len() as u64, options)?;
    file.write_all_at(&bytes, 0)?;
    file.commit()?;
    let few = importance.few_tokens(ENOUGH);
    let output = text::path(&args.output);
    let warnings = warn(warnings);
    let mut out = io::stdout().lock();
    if args.json {
        let few = few.iter().map(|few| {
            json!({
                "tensor": few.tensor,
                "experts": few.experts,
                "without_tokens": few.without,
                "with_few_tokens": few.with_few,
                "fewest_tokens": few.fewest,
            })
        });
        let json = json!({
            "output": output,
            "tensors": importance.len(),
            "chunks": importance.chunks,
            "ctx": importance.chunk_size,
            "few_tokens": few.collect::<Vec<_>>(),
            "seconds": start.elapsed().as_secs_f64(),
            "memory": memory,
            "warnings": warnings,
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(
            out,
            "wrote {output}: {} tensors, {} windows of {} tokens, {:.1} s{}",
            importance.len(),
            importance.chunks,
            importance.chunk_size,
            start.elapsed().as_secs_f64(),
            in_memory(memory)
        )?;
        for few in &few {
            crate::say(&format!(
                "warning: {}: {} of {} experts saw fewer than {ENOUGH} tokens, {} none; give more text",
                escape(&few.tensor),
                few.with_few,
                few.experts,
                few.without
            ));
        }
    }
    Ok(out.flush()?)
}

/// The matrix, and the bytes that a run layer by layer took at most.
fn measured(args: &ImatrixArgs) -> anyhow::Result<(Importance, Option<u64>)> {
    let (model, file) =
        args.model.as_ref().zip(args.file.as_ref()).context("no model or no text")?;
    refuse_input(&args.output, file)?;
    let text = Text::read(file)?;
    let running = Running::new(&args.threads)?;
    let loaded = running.open_for_windows(model, &args.layers)?;
    for part in loaded.model.source().files() {
        refuse_input(&args.output, part.path())?;
    }
    for entry in fs::read_dir(model).into_iter().flatten().flatten() {
        refuse_input(&args.output, &entry.path())?;
    }
    let tokens = loaded.tokens(&text)?;
    let windows = windows(&tokens, &args.windows, args.from, loaded.bos())?;
    loaded.warn_of_context(windows.size());
    let mut importance =
        Importance::for_model(&loaded.model, args.windows.size(), args.process_output);
    importance.datasets.push(text::path(file));
    let output = args.process_output;
    let result = if loaded.is_layer_by_layer() {
        let progress = &mut running.progress(args.json, "layers")?;
        layered::importance(&loaded.model, &windows, &mut importance, output, progress)
    } else {
        let mut session = Session::new(&loaded.model, windows.size())?;
        let progress = &mut running.progress(args.json, "windows")?;
        measure::importance(&mut session, &windows, &mut importance, output, progress)
    };
    running.check()?;
    result?;
    Ok((importance, loaded.memory(&windows)))
}

/// Refuses to replace what is read, also where --force is given.
fn refuse_input(output: &Path, input: &Path) -> anyhow::Result<()> {
    let is_same = SourceFile::open(input).is_ok_and(|file| file.is_same_file(output));
    if is_same {
        return Err(quant_convert::Error::SameFile { path: output.to_owned() }.into());
    }
    Ok(())
}

fn merged(args: &ImatrixArgs) -> anyhow::Result<Importance> {
    let mut importance = Importance::new(0);
    for path in &args.merge {
        refuse_input(&args.output, path)?;
        let sums = ImatrixSums::open(path, &Limits::default())?;
        importance.merge(&sums).with_context(|| text::path(path))?;
    }
    Ok(importance)
}
