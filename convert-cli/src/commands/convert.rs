//! `convert`: plan, show the plan or run it, report.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use quant_convert::{Control, Plan, grouped::FolderPlan};

use crate::{
    args::ConvertArgs,
    report::{self, Report, escape},
    signals,
    warnings::Warnings,
};

pub(crate) fn run(args: &ConvertArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let start = Instant::now();
    let cancel = signals::listen().context("cannot listen for signals")?;
    let options = args.options()?;
    let silent = args.quiet || args.json;

    let progress_of = |bytes| match !silent && io::stderr().is_terminal() {
        true => progress_bar(bytes),
        false => Ok(ProgressBar::hidden()),
    };

    if args.writes_folder(&options) {
        let control = Control { cancel: Some(cancel), ..Control::default() };
        let grouped = options.grouped.context("no grouped type")?;
        let plan = FolderPlan::new(&args.input, &grouped, &options, control)?;
        let mut report = Report::folder(&plan);
        if let Some(output) = args.output.as_ref().filter(|_| !args.dry_run) {
            let bar = progress_of(plan.source_bytes())?;
            let progress = |done| bar.set_position(done);
            let result =
                plan.run(output, &options, Control { progress: Some(&progress), ..control });
            bar.finish_and_clear();
            result?;
            report.output = Some(report::path(output));
            report.seconds = Some(start.elapsed().as_secs_f64());
        }
        return finish(args, &report, warnings, None);
    }

    let model = quant_convert::open(&args.input, &options)?;
    let plan = Plan::new(model, &options)?;
    let mut report = Report::new(&plan, args.output.as_deref());
    // The first of the files, by which the others are found.
    let first = args.output.as_ref().and_then(|output| plan.paths(output).into_iter().next());
    if let Some(grouped) = &options.grouped {
        report.note = Some(format!(
            "{} in {} is written as {} with the scale of each group repeated: the same values exactly",
            grouped.ty,
            grouped.group_size(),
            if grouped.ty.bits() == 4 { "Q4_0 (and 8-bit layers as Q8_0)" } else { "Q8_0" },
        ));
    }
    let Some(output) = args.output.as_ref().filter(|_| !args.dry_run) else {
        let obstacle = plan.obstacle().map(|e| format!("a real run would fail: {e}"));
        return finish(args, &report, warnings, obstacle);
    };

    let bar = progress_of(plan.source_bytes())?;
    let progress = |done| bar.set_position(done);
    let control = Control { progress: Some(&progress), cancel: Some(cancel), ..Control::default() };
    let result = plan.run(output, &options, control);
    bar.finish_and_clear();
    result?;

    report.output = first.as_deref().map(report::path);
    report.seconds = Some(start.elapsed().as_secs_f64());
    finish(args, &report, warnings, None)
}

fn finish(
    args: &ConvertArgs,
    report: &Report,
    warnings: &Warnings,
    obstacle: Option<String>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if !args.quiet || args.dry_run {
        if args.dry_run {
            writeln!(out, "{}\n", report.by_tensor())?;
        }
        if let Some(shards) = report.by_shard() {
            writeln!(out, "{shards}\n")?;
        }
        writeln!(out, "{}\n{}", report.headline(), report.by_type())?;
        if let Some(note) = &report.note {
            writeln!(out, "{note}")?;
        }
    }
    if !args.quiet {
        warnings.print();
        for remark in report.remarks().into_iter().chain(obstacle) {
            crate::say(&format!("warning: {}", escape(&remark)));
        }
    }
    Ok(())
}

fn progress_bar(bytes: u64) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {percent:>3}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    bar.set_style(ProgressStyle::with_template(template)?);
    bar.enable_steady_tick(Duration::from_millis(100));
    Ok(bar)
}
