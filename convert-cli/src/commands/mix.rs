//! `convert --target-size`: the types that lose least within a size.

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::atomic::AtomicBool,
    time::Instant,
};

use anyhow::{Context, bail};
use gguf_io::{AtomicFile, OutputOptions, message::listed};
use indicatif::{ProgressBar, ProgressStyle};
use quant_convert::{
    Control, Progress, Search,
    mix::{Measured, Mix, Mixer, Probe, Sensitivities, Size},
};
use quant_evaluate::sensitivity::{Effort, Prober, Trial, measure};

use super::{
    outcome::{finish, progress},
    running::{Loaded, Running, Text},
};
use crate::{
    args::{ConvertArgs, Threads},
    input::Input,
    report::{RecipeReport, Report},
    text,
    warnings::Warnings,
};

pub(super) fn run(
    args: &ConvertArgs,
    input: &Input,
    size: Size,
    cancel: &'static AtomicBool,
    warnings: &Warnings,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut options = args.options()?;
    options.elsewhere = input.files().to_vec();
    let mix_args = &args.mix;
    if mix_args.calibration.is_some() && !input.files().is_empty() {
        bail!("--calibration runs the model, which has to be on this machine for that");
    }
    let text = mix_args.calibration.as_deref().map(Text::read).transpose()?;
    let read = mix_args.sensitivities.as_deref().filter(|_| text.is_none());
    let mut sensitivities = read.map(Sensitivities::read).transpose()?;
    // Before minutes are spent.
    let written = mix_args.sensitivities.as_deref().filter(|_| text.is_some());
    for path in written.into_iter().chain(mix_args.save_mix.as_deref()) {
        AtomicFile::check(path, 0, OutputOptions { overwrite: args.force, sync: false })?;
    }
    let better = options.search == Search::Better;
    let control = Control { cancel: Some(cancel), ..Control::default() };
    let model = quant_convert::open(input.path(), &options)?;
    let mut mixer = Mixer::new(model, &options, &mix_args.candidates)?;
    if let (Some(path), Some(read)) = (read, &sensitivities) {
        check_covers(&mixer, path, read)?;
    }
    // A size that there is no mix for is refused at once.
    mixer.check(size)?;
    let bar = progress(args, mixer.source_bytes())?;
    let on_progress = |now: Progress<'_>| bar.set_position(now.done);
    let measured = mixer.measure(Control { progress: Some(&on_progress), ..control });
    bar.finish_and_clear();
    measured?;
    let mut judged = None;
    let (mix, plan) = match &text {
        None => mixer.plan_for(size, sensitivities.as_ref(), control)?,
        Some(text) => {
            let running = Running::new(&Threads { threads: args.threads })?;
            let loaded = running.open(input.path())?;
            let effort = Effort::of(&loaded.model, mixer.free_tensors());
            let mut prober = prober(&running, &loaded, text, effort)?;
            let found = measure_losses(args, &mixer, &running, &mut prober, text, effort, better)?;
            if let Some(path) = written {
                write(path, &found.to_json(), args.force)?;
            }
            let (mix, plan) = mixer.plan_for(size, Some(&found), control)?;
            sensitivities = Some(found);
            let found = judge(&mixer, &mut prober, size, &mix, better, control)?;
            let recipe = found.recipe.as_ref().filter(|recipe| recipe.loss < found.loss);
            let settled = match recipe {
                // Losses did not add up as they should.
                Some(recipe) => (recipe.mix.clone(), mixer.plan(&recipe.mix, control)?),
                None => (mix, plan),
            };
            judged = Some(found);
            settled
        }
    };
    if let Some(path) = mix_args.save_mix.as_deref().filter(|_| !args.dry_run) {
        write(path, &mix.to_file(), args.force)?;
    }
    let mut report = Report::new(&plan, args.output.as_deref());
    report.expected_loss = mix.expected_loss.is_finite().then_some(mix.expected_loss);
    let mut note = note(sensitivities.is_some(), &mix, judged.as_ref());
    let saved = mix_args.save_mix.as_deref().filter(|_| !args.dry_run);
    if let (Some(path), Some(ty)) = (saved, plan.file_type()) {
        let (ty, path) = (ty.name().to_lowercase(), text::path(path));
        note += &format!("; the same again: --type {ty} --tensor-type-file {path}");
    }
    report.note = Some(note);
    if let Some(judged) = judged {
        report.measured_loss = Some(judged.loss);
        report.recipe = judged.recipe.map(|recipe| recipe.report);
    }
    let Some(output) = args.output.as_ref().filter(|_| !args.dry_run) else {
        let output = args.output.as_ref().and_then(|output| plan.check_output(output).err());
        return finish(args, report, warnings, plan.check().err().or(output).as_ref());
    };
    let first = plan.paths(output).into_iter().next();
    let bar = progress(args, plan.source_bytes())?;
    let on_progress = |now: Progress<'_>| bar.set_position(now.done);
    let result = plan.run(output, Control { progress: Some(&on_progress), ..control });
    bar.finish_and_clear();
    result?;
    report.output = first.as_deref().map(text::path);
    report.seconds = Some(start.elapsed().as_secs_f64());
    finish(args, report, warnings, None)
}

/// Refuses what was measured of another model.
fn check_covers(
    mixer: &Mixer,
    path: &Path,
    sensitivities: &Sensitivities,
) -> Result<(), quant_convert::Error> {
    let without: Vec<_> = mixer.unmeasured(sensitivities).map(str::to_owned).collect();
    let all = mixer.free_tensors();
    if all > 0 && without.len() == all {
        let problem = "none of its tensors is one of the model's to choose for".to_owned();
        return Err(quant_convert::Error::Sensitivities { path: path.into(), problem });
    }
    if !without.is_empty() {
        tracing::warn!(
            kind = "sensitivities",
            "{} says nothing of {} of {all} tensors, for which a prior is taken: {}",
            path.display(),
            without.len(),
            listed(without.iter().cloned())
        );
    }
    Ok(())
}

/// What people are told of the choice.
fn note(measured: bool, mix: &Mix, judged: Option<&Judged>) -> String {
    let Some(Judged { loss, recipe }) = judged else {
        return match measured {
            true => format!("expected KL divergence {:.6}", mix.expected_loss),
            false => {
                "chosen by a prior; --calibration TEXT measures what this model suffers from".into()
            }
        };
    };
    match recipe {
        None => format!("KL divergence on the calibration text {loss:.6}"),
        Some(RecipeLoss { loss: of_recipe, report, .. }) if of_recipe < loss => format!(
            "the types of {}, which lose less here than any mix expected to: KL divergence on the \
             calibration text {of_recipe:.6}",
            report.name
        ),
        Some(RecipeLoss { loss: of_recipe, report, .. }) => format!(
            "KL divergence on the calibration text {loss:.6}; of {}, the largest recipe of this size, \
             {of_recipe:.6}",
            report.name
        ),
    }
}

/// What a mix loses, all of it at once, and what the recipe loses that could be had for its size.
struct Judged {
    loss: f64,
    recipe: Option<RecipeLoss>,
}

struct RecipeLoss {
    loss: f64,
    mix: Mix,
    report: RecipeReport,
}

fn judge(
    mixer: &Mixer,
    prober: &mut Prober<'_>,
    size: Size,
    mix: &Mix,
    better: bool,
    control: Control<'_>,
) -> anyhow::Result<Judged> {
    let mut loss = |mix: &Mix| {
        let probes = mixer.probes_of(mix);
        let trials = trials(&probes, better);
        prober.loss_of(&trials)
    };
    let found = loss(mix)?;
    let recipe = match mixer.recipe_within(size, control)? {
        None => None,
        Some((recipe, bytes, mix)) => {
            let loss = loss(&mix)?;
            let report = RecipeReport { name: recipe.to_string(), total_bytes: bytes, loss };
            Some(RecipeLoss { loss, mix, report })
        }
    };
    Ok(Judged { loss: found, recipe })
}

/// What is measured is what will be written: with `--search better` improved blocks.
fn trials<'a>(probes: &[Probe<'a>], better: bool) -> Vec<Trial<'a>> {
    let trial =
        |&Probe { tensor, ty, importance }: &Probe<'a>| Trial { tensor, ty, importance, better };
    probes.iter().map(trial).collect()
}

/// Runs the model as it is.
fn prober<'m>(
    running: &Running,
    loaded: &'m Loaded,
    text: &Text,
    effort: Effort,
) -> anyhow::Result<Prober<'m>> {
    loaded.check_predicts()?;
    let tokens = loaded.tokens(text)?;
    let passages = effort.passages(&tokens, loaded.bos());
    if passages.is_empty() {
        bail!(
            "{}: the text has {} tokens, too few to measure on: give at least {}",
            text.name(),
            tokens.len(),
            Effort::SHORTEST
        );
    }
    let prober = Prober::new(&loaded.model, passages, &mut |_, _| running.flow())?;
    running.check()?;
    Ok(prober)
}

/// Runs the model with one tensor after the other quantized.
fn measure_losses(
    args: &ConvertArgs,
    mixer: &Mixer,
    running: &Running,
    prober: &mut Prober<'_>,
    text: &Text,
    effort: Effort,
    better: bool,
) -> anyhow::Result<Sensitivities> {
    let bar = match !args.quiet && !args.json && io::stderr().is_terminal() {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos} of {len} trials  {eta} left")?);
    let probes = mixer.probes(effort.trials_of_each);
    let trials = trials(&probes, better);
    let found = measure(prober, &trials, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        running.flow()
    });
    bar.finish_and_clear();
    let found = found?;
    running.check()?;
    let mut all = Sensitivities::new(text.name().to_owned(), prober.predictions() as u64);
    for (trial, found) in trials.iter().zip(&found) {
        if let Some(found) = found {
            all.insert(trial.tensor, trial.ty, Measured { error: found.error, loss: found.loss });
        }
    }
    Ok(all)
}

fn write(path: &Path, text: &str, overwrite: bool) -> anyhow::Result<()> {
    let options = OutputOptions { overwrite, sync: false };
    let file = AtomicFile::create(path, text.len() as u64, options)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.commit().with_context(|| text::path(path))
}
