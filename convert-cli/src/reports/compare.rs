//! The page of `compare`, and the figures that it has in common with the table of the command.

use maud::html;
use quant_convert::compare::Comparison;
use quant_core::Metrics;
use serde_json::json;

use super::{Cell, Page, heat, table};
use crate::text::{escape, shape};

/// What heads the columns of the tables, for people and on the page.
pub(crate) const HEADER: [&str; 9] =
    ["tensor", "shape", "from", "to", "RMSE", "relative", "max abs", "cosine", "SNR dB"];

/// The figures by their names in the JSON.
pub(crate) fn metrics(metrics: &Metrics) -> [(&'static str, f64); 5] {
    [
        ("rmse", metrics.rmse()),
        ("relative_rmse", metrics.relative_rmse()),
        ("max_abs", metrics.max_abs()),
        ("cosine", metrics.cosine()),
        ("snr_db", metrics.snr_db()),
    ]
}

/// The same as texts.
pub(crate) fn numbers(m: &Metrics) -> [String; 5] {
    [
        format!("{:.3e}", m.rmse()),
        format!("{:.5}", m.relative_rmse()),
        format!("{:.3e}", m.max_abs()),
        format!("{:.6}", m.cosine()),
        format!("{:.2}", m.snr_db()),
    ]
}

/// A candidate.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) result: &'a Comparison,
    /// What keeps the comparison from being one.
    pub(crate) problems: Vec<String>,
}

pub(crate) fn page(reference: &str, entries: &[Entry<'_>]) -> Page {
    let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    let is_one = entries.len() == 1;
    let range = heat::Range::new(entries.iter().flat_map(|entry| &entry.result.tensors));
    let compared = match &names[..] {
        few if few.len() <= 2 => few.join(" and "),
        _ => format!("{} models", names.len()),
    };
    let body = html! {
        p {
            "How far the tensors are from those of " (reference) ": root mean square error, the same relative "
            "to the reference, largest error, cosine, signal-to-noise ratio. Without error there is no finite ratio."
        }
        @if !is_one {
            @let heads = [&["candidate"], &HEADER[4..]].concat();
            @let rows: Vec<_> = entries.iter().map(|entry| row(&[entry.name], &entry.result.total())).collect();
            (table(&heads, &rows, None))
        }
        @for entry in entries {
            @if !is_one { h2 { (entry.name) } }
            @if !entry.problems.is_empty() {
                ul.problems { @for problem in &entry.problems { li { (problem) } } }
            }
            (heat::maps(&entry.result.tensors, range))
            @let rows: Vec<_> = entry.result.tensors.iter().map(|tensor| {
                row(&[&escape(&tensor.name), &shape(&tensor.shape), &tensor.reference, &tensor.candidate], &tensor.metrics)
            }).collect();
            (table(&HEADER, &rows, Some(&row(&["all", "", "", ""], &entry.result.total()))))
        }
    };
    Page { command: "compare", title: format!("{compared} compared with {reference}"), body }
}

fn row(texts: &[&str], of: &Metrics) -> Vec<Cell> {
    let texts = texts.iter().map(|text| Cell::Text((*text).into()));
    let numbers = numbers(of).into_iter().zip(metrics(of));
    texts.chain(numbers.map(|(text, (_, exact))| Cell::Number(text, json!(exact)))).collect()
}
