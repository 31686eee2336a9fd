//! What `convert` shows while it works and says in the end, whether it writes a file, several, or a mix.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use indicatif::ProgressBar;
use quant_convert::Options;
use quant_core::grouped::GroupSize;

use super::progress_bar;
use crate::{
    args::ConvertArgs,
    failure::{Failure, Told},
    report::Report,
    text::escape,
    warnings::Warnings,
};

/// A bar for a conversion, if somebody sees it.
pub(super) fn progress(args: &ConvertArgs, bytes: u64) -> anyhow::Result<ProgressBar> {
    match !args.quiet && !args.json && io::stderr().is_terminal() {
        true => progress_bar(bytes),
        false => Ok(ProgressBar::hidden()),
    }
}

/// What there is to say of grouped integers in a GGUF file.
pub(super) fn note(options: &Options) -> Option<String> {
    let grouped = options.grouped.as_ref()?;
    Some(format!(
        "{} {}{} is written as {} with the scale of each group repeated: the same values exactly",
        grouped.ty,
        if grouped.group_size() == GroupSize::Channel { "" } else { "in " },
        grouped.group_size(),
        if grouped.ty.bits() == 4 { "Q4_0 (and 8-bit layers as Q8_0)" } else { "Q8_0" },
    ))
}

pub(super) fn finish(
    args: &ConvertArgs,
    mut report: Report,
    warnings: &Warnings,
    obstacle: Option<&quant_convert::Error>,
) -> anyhow::Result<()> {
    report.warnings = warnings.take();
    report.warnings.extend(report.remarks());
    report.error = obstacle.map(Failure::from);
    print(args, &report).with_context(|| match &report.output {
        Some(output) => format!("{output} is complete, but standard output cannot be written"),
        None => "standard output cannot be written".into(),
    })?;
    // A dry run ends as the real run would: after a refusal there is nothing to warn of.
    if let Some(failure) = report.error {
        return Err(Told(failure).into());
    }
    if !args.quiet {
        for warning in &report.warnings {
            crate::say(&format!("warning: {}", escape(&warning.message)));
        }
    }
    Ok(())
}

fn print(args: &ConvertArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print_text(args, report, &mut out)?;
    }
    out.flush()
}

/// What people see of a result.
pub(super) fn print_text(
    args: &ConvertArgs,
    report: &Report,
    out: &mut impl Write,
) -> io::Result<()> {
    if args.quiet && !args.dry_run {
        return Ok(());
    }
    if args.dry_run {
        writeln!(out, "{}\n", report.by_tensor())?;
    }
    if let Some(shards) = report.by_shard() {
        writeln!(out, "{shards}\n")?;
    }
    writeln!(out, "{}\n{}", report.headline(), report.by_type())?;
    if let Some(line) = report.by_codes() {
        writeln!(out, "{line}")?;
    }
    if let Some(note) = &report.note {
        writeln!(out, "{note}")?;
    }
    Ok(())
}
