//! `perplexity`: how well a model predicts a text.

use std::{
    io::{self, Write},
    time::Instant,
};

use quant_evaluate::{Session, measure};
use serde_json::json;

use super::running::{Running, Text, warn, windows};
use crate::{args::PerplexityArgs, warnings::Warnings};

pub(crate) fn run(args: &PerplexityArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let text = Text::read(&args.file)?;
    let running = Running::new(&args.threads)?;
    let loaded = running.open(&args.model)?;
    loaded.check_predicts()?;
    let tokens = loaded.tokens(&text)?;
    let windows = windows(&tokens, &args.windows, 0, loaded.bos())?;
    let mut session = Session::new(&loaded.model, windows.size())?;
    let start = Instant::now();
    let found = measure::perplexity(&mut session, &windows, &mut running.progress(args.json)?)?;
    running.check()?;
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
            "warnings": warnings,
        });
        writeln!(out, "{json}")?;
    } else {
        writeln!(
            out,
            "{}: perplexity {:.4} ± {:.4} ({} windows of {} tokens, {} predictions, {seconds:.1} s)",
            loaded.name,
            found.value(),
            found.error(),
            windows.len(),
            windows.size(),
            found.count()
        )?;
    }
    Ok(out.flush()?)
}
