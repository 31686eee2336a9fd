//! `compare`: how far the tensors of a model are from those it was made from.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::Context;
use gguf_io::{AtomicFile, OutputOptions};
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
    report::{self, escape, finish, shape, table},
};

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let options = Options { threads: args.threads.map_or(0, usize::from), ..Options::default() };
    let inputs = [Input::open(&args.reference)?, Input::open(&args.candidate)?];
    let [reference, candidate] = inputs.each_ref().map(|input| {
        let elsewhere = input.files().to_vec();
        quant_convert::open(input.path(), &Options { elsewhere, ..options.clone() })
    });
    let (reference, candidate) = (reference?, candidate?);
    let result = compare(&reference, &candidate, &options)?;
    if let Some(path) = &args.html {
        let page = html(args, &result);
        let same = [&reference, &candidate]
            .iter()
            .any(|model| model.files.iter().any(|file| file.is_same_file(path)));
        anyhow::ensure!(!same, "{}: is one of the inputs; choose another name", path.display());
        // A report may replace an older report, but nothing else.
        let overwrite = is_report(path);
        anyhow::ensure!(
            overwrite || !path.is_file(),
            "{}: exists and is not a report of this program; choose another name",
            path.display()
        );
        let options = OutputOptions { overwrite, sync: false };
        let file = AtomicFile::create(path, page.len() as u64, options)?;
        file.write_all_at(page.as_bytes(), 0)?;
        file.commit().context("cannot write the report")?;
    }
    let problems = problems(&result);
    let failure = (!problems.is_empty()).then(|| {
        let (candidate, reference) = (&args.candidate, &args.reference);
        let message = format!(
            "{}: {}; it was not made from {}, or only in part",
            candidate.display(),
            problems.join("; "),
            reference.display()
        );
        Failure::of_file(message, report::path(candidate))
    });
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let mut json = as_json(args, &result);
        if let Some(failure) = &failure {
            json["error"] = json!(failure);
        }
        serde_json::to_writer(&mut out, &json).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&result).as_bytes())?;
    }
    out.flush()?;
    failure.map_or(Ok(()), |failure| Err(Told(failure).into()))
}

/// Whether a file is an older report.
fn is_report(path: &Path) -> bool {
    let mut start = Vec::new();
    path.is_file()
        && fs::File::open(path)
            .and_then(|file| file.take(MARK.len() as u64).read_to_end(&mut start))
            .is_ok()
        && start == MARK.as_bytes()
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

fn metrics(metrics: &Metrics) -> [(&'static str, f64); 5] {
    [
        ("rmse", metrics.rmse()),
        ("relative_rmse", metrics.relative_rmse()),
        ("max_abs", metrics.max_abs()),
        ("cosine", metrics.cosine()),
        ("snr_db", metrics.snr_db()),
    ]
}

/// Without error there is no finite ratio of signal to noise: JSON has `null` there.
fn as_json(args: &CompareArgs, result: &Comparison) -> Value {
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
    json!({
        "reference": report::path(&args.reference),
        "candidate": report::path(&args.candidate),
        "tensors": tensors.collect::<Vec<_>>(),
        "total": with(json!({"values": result.total().count()}), &result.total()),
        "missing": result.missing,
        "extra": result.extra,
        "shape_mismatch": shapes.collect::<Vec<_>>(),
        "skipped": result.skipped,
    })
}

const HEADER: [&str; 9] =
    ["tensor", "shape", "from", "to", "RMSE", "relative", "max abs", "cosine", "SNR dB"];

fn rows(result: &Comparison) -> Vec<[String; 9]> {
    let numbers = |m: &Metrics| {
        [
            format!("{:.3e}", m.rmse()),
            format!("{:.5}", m.relative_rmse()),
            format!("{:.3e}", m.max_abs()),
            format!("{:.6}", m.cosine()),
            format!("{:.2}", m.snr_db()),
        ]
    };
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
    finish(table, &[4, 5, 6, 7, 8]) + "\n"
}

const MARK: &str = "<!DOCTYPE html><!-- quantwright compare -->";

/// A page that needs nothing but itself.
fn html(args: &CompareArgs, result: &Comparison) -> String {
    let safe = |text: &str| {
        let text = escape(text).replace('&', "&amp;").replace('<', "&lt;");
        text.replace('>', "&gt;").replace('"', "&quot;")
    };
    let title = safe(&format!(
        "{} compared with {}",
        report::path(&args.candidate),
        report::path(&args.reference)
    ));
    let mut page = format!(
        "{MARK}\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<style>\
         body{{font:14px sans-serif;margin:2em}}table{{border-collapse:collapse}}\
         td,th{{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}}\
         td:first-child,th:first-child{{text-align:left;font-family:monospace}}\
         tr:last-child{{font-weight:bold}}li{{color:#a00}}</style>\n<h1>{title}</h1>\n"
    );
    let problems = problems(result);
    if !problems.is_empty() {
        page += "<ul>\n";
        problems.iter().for_each(|problem| page += &format!("<li>{}</li>\n", safe(problem)));
        page += "</ul>\n";
    }
    let line = |tag: &str, cells: &[String]| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", safe(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    page += "<table>\n";
    page += &line("th", &HEADER.map(String::from));
    rows(result).iter().for_each(|row| page += &line("td", row));
    page + "</table>\n</html>\n"
}
