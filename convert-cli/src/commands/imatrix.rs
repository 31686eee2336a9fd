//! `imatrix`: makes an importance matrix, or adds some up.

use std::{
    io::{self, Write},
    time::Instant,
};

use anyhow::Context;
use gguf_io::{AtomicFile, Limits, OutputOptions, imatrix::ImatrixSums};
use quant_evaluate::{Session, importance::Importance, measure};
use serde_json::json;

use super::running::{Running, windows};
use crate::{
    args::ImatrixArgs,
    report::{self, escape},
};

/// Tokens that an expert should have seen before its importance means much.
const ENOUGH: u64 = 32;

pub(crate) fn run(args: &ImatrixArgs) -> anyhow::Result<()> {
    let options = OutputOptions { overwrite: args.force, sync: true };
    // Before minutes are spent.
    AtomicFile::check(&args.output, 0, options)?;
    let start = Instant::now();
    let importance = if args.merge.is_empty() { measured(args)? } else { merged(args)? };
    importance.check()?;
    let bytes = importance.to_gguf()?;
    let file = AtomicFile::create(&args.output, bytes.len() as u64, options)?;
    file.write_all_at(&bytes, 0)?;
    file.commit()?;
    let few = importance.few_tokens(ENOUGH);
    let output = report::path(&args.output);
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
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(
            out,
            "wrote {output}: {} tensors, {} windows of {} tokens, {:.1} s",
            importance.len(),
            importance.chunks,
            importance.chunk_size,
            start.elapsed().as_secs_f64()
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

fn measured(args: &ImatrixArgs) -> anyhow::Result<Importance> {
    let (model, text) =
        args.model.as_ref().zip(args.file.as_ref()).context("no model or no text")?;
    let running = Running::new(&args.threads)?;
    let loaded = running.open(model)?;
    let tokens = loaded.tokens(text)?;
    let windows = windows(&tokens, &args.windows, args.from, loaded.bos())?;
    let mut session = Session::new(&loaded.model, windows.size())?;
    let mut importance =
        Importance::for_model(&loaded.model, args.windows.ctx, args.process_output);
    importance.datasets.push(report::path(text));
    let progress = &mut running.progress(args.json)?;
    measure::importance(&mut session, &windows, &mut importance, args.process_output, progress)?;
    running.check()?;
    Ok(importance)
}

fn merged(args: &ImatrixArgs) -> anyhow::Result<Importance> {
    let mut importance = Importance::new(0);
    for path in &args.merge {
        let sums = ImatrixSums::open(path, &Limits::default())?;
        importance.merge(&sums).with_context(|| report::path(path))?;
    }
    Ok(importance)
}
