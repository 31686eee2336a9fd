//! `compare`: how far the tensors of a model are from those it was made from.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use quant_convert::{
    Options,
    compare::{Comparison, compare},
};
use quant_core::Metrics;
use serde_json::{Value, json};

use crate::{
    args::CompareArgs,
    failure::{Failure, Told},
    input::Input,
    reports::{
        self, Destination,
        compare::{HEADER, metrics, numbers},
    },
    text::{self, escape, finish, shape, table},
};

/// A candidate, and how far it is from the reference.
struct Compared<'a> {
    path: &'a Path,
    result: Comparison,
    failure: Option<Failure>,
}

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let others = [&args.reference].into_iter().chain(&args.candidates).map(PathBuf::as_path);
    let html = args.html.as_deref().map(|path| Destination::new(path, others)).transpose()?;
    let options = Options { threads: args.threads.map_or(0, usize::from), ..Options::default() };
    // All of them, before minutes are spent on the first. What is read elsewhere stays until the end.
    let paths = [&args.reference].into_iter().chain(&args.candidates);
    let inputs: Vec<_> = paths.map(|path| Input::open(path)).collect::<Result<_, _>>()?;
    let mut models = inputs.iter().map(|input| {
        let elsewhere = input.files().to_vec();
        quant_convert::open(input.path(), &Options { elsewhere, ..options.clone() })
    });
    let reference = models.next().context("there is a reference")??;
    let models: Vec<_> = models.collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    for (path, candidate) in args.candidates.iter().zip(&models) {
        let result = compare(&reference, candidate, &options)?;
        let problems = problems(&result);
        let failure = (!problems.is_empty()).then(|| {
            let message = format!(
                "{}: {}; it was not made from {}, or only in part",
                path.display(),
                problems.join("; "),
                args.reference.display()
            );
            Failure::of_file(message, text::path(path))
        });
        all.push(Compared { path, result, failure });
    }
    if let Some(html) = &html {
        let names = reports::names(args.candidates.iter().map(PathBuf::as_path));
        let entries = all.iter().zip(&names).map(|(compared, name)| reports::compare::Entry {
            name,
            result: &compared.result,
            problems: problems(&compared.result),
        });
        let entries: Vec<_> = entries.collect();
        html.write(&reports::compare::page(&reports::name(&args.reference), &entries))?;
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let mut objects: Vec<_> = all.iter().map(|compared| as_json(args, compared)).collect();
        let json = match &mut objects[..] {
            [one] => one.take(),
            _ => objects.into(),
        };
        serde_json::to_writer(&mut out, &json).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for compared in &all {
            if all.len() > 1 {
                writeln!(out, "{}", escape(&text::path(compared.path)))?;
            }
            writeln!(out, "{}", text(&compared.result))?;
        }
        if all.len() > 1 {
            writeln!(out, "{}", summary(&all))?;
        }
    }
    out.flush()?;
    let failure = all.into_iter().find_map(|compared| compared.failure);
    failure.map_or(Ok(()), |failure| Err(Told(failure).into()))
}

/// All candidates, a line for each.
fn summary(all: &[Compared<'_>]) -> String {
    let mut table = table(&["candidate", "RMSE", "relative", "max abs", "cosine", "SNR dB"]);
    for compared in all {
        let name = escape(&text::path(compared.path));
        let mut row = vec![name];
        row.extend(numbers(&compared.result.total()));
        table.add_row(row);
    }
    finish(table, &[1, 2, 3, 4, 5])
}

/// What keeps the comparison from being one.
fn problems(result: &Comparison) -> Vec<String> {
    const SHOWN: usize = 4;
    let mut problems = Vec::new();
    let mut add = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            let first: Vec<_> = names.iter().take(SHOWN).map(|name| escape(name)).collect();
            let more = if names.len() > SHOWN { ", …" } else { "" };
            problems.push(format!("{} {what}: {}{more}", names.len(), first.join(", ")));
        }
    };
    add("tensors missing", result.missing.clone());
    add("tensors that the reference does not have", result.extra.clone());
    let shapes = result.shapes.iter();
    let shown =
        shapes.map(|(name, a, b)| format!("{name} (found {}, expected {})", shape(b), shape(a)));
    add("tensors of other shapes", shown.collect());
    add("tensors of types that cannot be compared", result.skipped.clone());
    let bad = result.tensors.iter().filter(|t| t.metrics.rmse().is_nan());
    add("tensors with values that are not finite", bad.map(|t| t.name.clone()).collect());
    problems
}

/// Without error there is no finite ratio of signal to noise: JSON has `null` there.
fn as_json(args: &CompareArgs, compared: &Compared<'_>) -> Value {
    let result = &compared.result;
    let with = |mut map: Value, of: &Metrics| {
        for (key, value) in metrics(of) {
            map[key] = json!(value);
        }
        map
    };
    let tensors = result.tensors.iter().map(|t| {
        let about = json!({
            "name": t.name,
            "shape": t.shape,
            "reference_type": t.reference,
            "type": t.candidate,
        });
        with(about, &t.metrics)
    });
    let shapes = result
        .shapes
        .iter()
        .map(|(name, a, b)| json!({"name": name, "reference_shape": a, "shape": b}));
    let mut json = json!({
        "reference": text::path(&args.reference),
        "candidate": text::path(compared.path),
        "tensors": tensors.collect::<Vec<_>>(),
        "total": with(json!({"values": result.total().count()}), &result.total()),
        "missing": result.missing,
        "extra": result.extra,
        "shape_mismatch": shapes.collect::<Vec<_>>(),
        "skipped": result.skipped,
    });
    if let Some(failure) = &compared.failure {
        json["error"] = json!(failure);
    }
    json
}

fn rows(result: &Comparison) -> Vec<[String; 9]> {
    let mut rows: Vec<_> = result
        .tensors
        .iter()
        .map(|t| {
            let [a, b, c, d, e] = numbers(&t.metrics);
            let (from, to) = (t.reference.clone(), t.candidate.clone());
            [t.name.clone(), shape(&t.shape), from, to, a, b, c, d, e]
        })
        .collect();
    let [a, b, c, d, e] = numbers(&result.total());
    let none = String::new;
    rows.push(["all".into(), none(), none(), none(), a, b, c, d, e]);
    rows
}

fn text(result: &Comparison) -> String {
    let mut table = table(&HEADER);
    for row in rows(result) {
        table.add_row(row.map(|cell| escape(&cell)));
    }
    finish(table, &[4, 5, 6, 7, 8])
}
