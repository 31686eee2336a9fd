//! `perplexity`: how well a model predicts a text.

use std::{
    io::{self, Write},
    time::Instant,
};

use quant_evaluate::measure;
use serde_json::json;

use super::running::{Running, Text, in_memory, warn, windows};
use crate::{args::PerplexityArgs, warnings::Warnings};

pub(crate) fn run(args: &PerplexityArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let text = Text::read(&args.file)?;
    let running = Running::new(&args.threads)?;
    let loaded = running.open_for_windows(&args.model, &args.layers)?;
    loaded.check_predicts()?;
    let tokens = loaded.tokens(&text)?;
    let windows = windows(&tokens, &args.windows, 0, loaded.bos())?;
    loaded.warn_of_context(windows.size());
    let mut layers = running.progress(args.json, "layers")?;
    let mut reader = loaded.reader(&windows, usize::MAX, &mut layers)?;
    let silent = args.json || loaded.is_layer_by_layer();
    let progress = &mut running.progress(silent, "windows")?;
    let start = Instant::now();
    let found = measure::perplexity(&mut reader, &windows, progress);
    running.check()?;
    let found = found?;
    let seconds = start.elapsed().as_secs_f64();
    let warnings = warn(warnings);
    let mut out = io::stdout().lock();
    if args.json {
        let json = json!({
            "ppl": found.value(),
            "ppl_error": found.error(),
            "tokens": found.count(),
            "chunks": windows.len(),
            "ctx": windows.size(),
            "seconds": seconds,
            "memory": loaded.memory(&windows),
            "warnings": warnings,
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(
            out,
            "{}: perplexity {:.4} ± {:.4} ({} {} of {} tokens, {} predictions, {seconds:.1} s{})",
            loaded.name,
            found.value(),
            found.error(),
            windows.len(),
            if windows.len() == 1 { "window" } else { "windows" },
            windows.size(),
            found.count(),
            in_memory(loaded.memory(&windows))
        )?;
    }
    Ok(out.flush()?)
}
