//! `convert`: plan, show the plan or run it, report.

use std::{
    io::{self, IsTerminal, Write},
    time::Instant,
};

use anyhow::Context;
use indicatif::ProgressBar;
use quant_convert::{Control, Options, Plan, grouped::FolderPlan};
use quant_core::grouped::GroupSize;

use super::ladder;
use crate::{
    args::ConvertArgs,
    commands::progress_bar,
    failure::{Failure, Told},
    input::Input,
    report::{self, Report, escape},
    signals,
    warnings::Warnings,
};

pub(crate) fn run(mut args: ConvertArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let start = Instant::now();
    let cancel = signals::listen().context("cannot listen for signals")?;
    args.settle_output()?;
    let args = &args;
    let input = Input::open(&args.input)?;
    if args.is_ladder() {
        return ladder::run(args, &input, cancel, warnings);
    }
    let mut options = args.options()?;
    options.elsewhere = input.files().to_vec();

    let control = Control { cancel: Some(cancel), ..Control::default() };
    if args.writes_folder(&options) {
        let plan = FolderPlan::new(input.path(), &options, control)?;
        let mut report = Report::folder(&plan);
        let mut obstacle = None;
        if let Some(output) = args.output.as_ref().filter(|_| args.dry_run) {
            obstacle = plan.check_output(output).err();
        } else if let Some(output) = &args.output {
            let bar = progress(args, plan.source_bytes())?;
            let on_progress = |done| bar.set_position(done);
            let result = plan.run(output, Control { progress: Some(&on_progress), ..control });
            bar.finish_and_clear();
            result?;
            report.output = Some(report::path(output));
            report.seconds = Some(start.elapsed().as_secs_f64());
        }
        return finish(args, report, warnings, obstacle.as_ref());
    }

    let model = quant_convert::open(input.path(), &options)?;
    let plan = Plan::new_with(model, &options, control)?;
    let mut report = Report::new(&plan, args.output.as_deref());
    // The first of the files, by which the others are found.
    let first = args.output.as_ref().and_then(|output| plan.paths(output).into_iter().next());
    report.note = note(&options);
    let Some(output) = args.output.as_ref().filter(|_| !args.dry_run) else {
        let output = args.output.as_ref().and_then(|o| plan.check_output(o).err());
        return finish(args, report, warnings, plan.check().err().or(output).as_ref());
    };

    if plan.is_there(output)? {
        report.left_alone = true;
        report.output = first.as_deref().map(report::path);
        return finish(args, report, warnings, None);
    }
    let bar = progress(args, plan.source_bytes())?;
    let on_progress = |done| bar.set_position(done);
    let inexact_scales = plan.inexact_scales();
    let result = plan.run(output, Control { progress: Some(&on_progress), ..control });
    bar.finish_and_clear();
    result?;

    report.inexact_scales = inexact_scales.map(|scales| scales.count());
    report.output = first.as_deref().map(report::path);
    report.seconds = Some(start.elapsed().as_secs_f64());
    finish(args, report, warnings, None)
}

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

fn finish(
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
