//! `convert`: plan, show the plan or run it, report.

use std::time::Instant;

use anyhow::Context;
use quant_convert::{Control, Conversion, Planned, Progress};

use super::{
    ladder, mix,
    outcome::{finish, note, progress},
};
use crate::{args::ConvertArgs, input::Input, report::Report, signals, text, warnings::Warnings};

pub(crate) fn run(mut args: ConvertArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let start = Instant::now();
    let cancel = signals::listen().context("cannot listen for signals")?;
    args.settle_output()?;
    let input = Input::open(&args.input)?;
    let args = &args;
    if args.is_ladder() {
        return ladder::run(args, &input, cancel, warnings);
    }
    if let Some(size) = args.mix.size() {
        return mix::run(args, &input, size, cancel, warnings);
    }
    let mut options = args.options()?;
    options.elsewhere = input.files().to_vec();

    let control = Control { cancel: Some(cancel), ..Control::default() };
    let folder = args.writes_folder(&options);
    let note = note(&options).filter(|_| !folder);
    let plan =
        Conversion::new(input.path()).with_options(options).folder(folder).plan_with(control)?;
    let output = args.output.as_deref();
    let mut report = Report::of(&plan, output)?;
    report.note = note;
    // The first of the files, by which the others are found.
    let first = output.and_then(|output| plan.paths(output).into_iter().next());
    let Some(output) = output.filter(|_| !args.dry_run) else {
        let of_output = output.and_then(|output| plan.check_output(output).err());
        return finish(args, report, warnings, plan.check().err().or(of_output).as_ref());
    };

    if plan.is_there(output)? {
        report.left_alone = true;
        report.output = first.as_deref().map(text::path);
        return finish(args, report, warnings, None);
    }
    let bar = progress(args, plan.source_bytes())?;
    let on_progress = |now: Progress<'_>| bar.set_position(now.done);
    let inexact_scales = match &plan {
        Planned::Gguf(plan) => plan.inexact_scales(),
        _ => None,
    };
    let result = plan.write_with(output, Control { progress: Some(&on_progress), ..control });
    bar.finish_and_clear();
    result?;

    report.inexact_scales = inexact_scales.map(|scales| scales.count());
    report.output = first.as_deref().map(text::path);
    report.seconds = Some(start.elapsed().as_secs_f64());
    finish(args, report, warnings, None)
}
