//! `convert` to several types: one read of the input.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use quant_convert::{Control, Ladder, Options, Plan, Progress};

use super::outcome::{note, print_text, progress};
use crate::{
    args::ConvertArgs,
    failure::{Failure, Told},
    input::Input,
    report::Report,
    text::{self, escape},
    warnings::{Warning, Warnings},
};

pub(super) fn run(
    args: &ConvertArgs,
    input: &Input,
    cancel: &AtomicBool,
    warnings: &Warnings,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut conversions = args.ladder()?;
    for (options, _) in &mut conversions {
        options.elsewhere = input.files().to_vec();
    }
    let Some((first, _)) = conversions.first() else { return Ok(()) };
    let control = Control { cancel: Some(cancel), ..Control::default() };
    let mut ladder = Ladder::new(quant_convert::open(input.path(), first)?)?;
    let of_input = warnings.take();
    let mut reports = Vec::new();
    for (options, output) in &conversions {
        let report = plan(&mut ladder, options, output.as_deref(), control)?;
        reports.push(with_warnings(report, of_input.iter().cloned().chain(warnings.take())));
    }
    let outputs: Vec<PathBuf> = conversions.into_iter().filter_map(|(_, output)| output).collect();
    if args.dry_run {
        for (i, (plan, report)) in ladder.plans().iter().zip(&mut reports).enumerate() {
            let output = outputs.get(i).map_or(Ok(()), |output| plan.check_output(output));
            report.error = plan.check().and(output).err().as_ref().map(Failure::from);
        }
        return finish(args, &reports);
    }
    let paths = ladder.plans().iter().zip(&outputs).map(|(plan, output)| plan.paths(output));
    let firsts: Vec<_> = paths.map(|paths| paths.into_iter().next()).collect();
    for ((plan, output), report) in ladder.plans().iter().zip(&outputs).zip(&mut reports) {
        report.left_alone = plan.is_there(output)?;
    }
    // Counted while the files are written.
    let inexact_scales: Vec<_> = ladder.plans().iter().map(Plan::inexact_scales).collect();
    let bar = progress(args, ladder.source_bytes())?;
    let on_progress = |now: Progress<'_>| bar.set_position(now.done);
    let result = ladder.run(&outputs, Control { progress: Some(&on_progress), ..control });
    bar.finish_and_clear();
    result?;
    let of_run = warnings.take();
    let seconds = start.elapsed().as_secs_f64();
    for ((report, path), scales) in reports.iter_mut().zip(&firsts).zip(inexact_scales) {
        report.output = path.as_deref().map(text::path);
        report.inexact_scales = scales.map(|scales| scales.count());
        report.seconds = (!report.left_alone).then_some(seconds);
        let own = of_run.iter().filter(|warning| report.is_about(warning)).cloned();
        let own: Vec<_> = own.collect();
        report.warnings.extend(own);
    }
    finish(args, &reports)
}

fn plan(
    ladder: &mut Ladder,
    options: &Options,
    output: Option<&Path>,
    control: Control<'_>,
) -> anyhow::Result<Report> {
    ladder.add(options, control)?;
    let plan = ladder.plans().last().expect("one was added");
    let mut report = Report::new(plan, output);
    report.note = note(options);
    Ok(report)
}

/// A report with the warnings that came up before it, and its own.
fn with_warnings(mut report: Report, warnings: impl Iterator<Item = Warning>) -> Report {
    report.warnings = warnings.collect();
    report.warnings.extend(report.remarks());
    report
}

fn finish(args: &ConvertArgs, reports: &[Report]) -> anyhow::Result<()> {
    print(args, reports)?;
    if let Some(failure) = reports.iter().find_map(|report| report.error.clone()) {
        return Err(Told(failure).into());
    }
    if !args.quiet {
        let mut told = Vec::new();
        for warning in reports.iter().flat_map(|report| &report.warnings) {
            // What is said of the input, every report has.
            if !told.contains(&warning) {
                crate::say(&format!("warning: {}", escape(&warning.message)));
                told.push(warning);
            }
        }
    }
    Ok(())
}

fn print(args: &ConvertArgs, reports: &[Report]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, reports).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for report in reports {
            print_text(args, report, &mut out)?;
        }
    }
    out.flush()
}
