//! The page of `bench`.

use maud::html;
use serde_json::Value;

use super::{Cell, Format, Page, plot, plot::Point, table};

/// Of the list that the command prints as JSON, with a name for the model of each test.
pub(crate) fn page(tests: &[Value], names: &[String]) -> Page {
    let kind = |test: &Value| test["test"].as_str().unwrap_or_default().to_owned();
    let mut kinds: Vec<String> = Vec::new();
    for kind in tests.iter().map(kind) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let points = |wanted: &str| -> Vec<Point> {
        let tests = tests.iter().zip(names).filter(|(test, _)| kind(test) == wanted);
        let point = |(test, name): (&Value, &String)| Point {
            name: name.clone(),
            bytes: test["bytes"].as_u64().unwrap_or_default(),
            value: test["mean"].as_f64().unwrap_or(f64::NAN),
            error: test["sd"].as_f64().unwrap_or_default(),
        };
        tests.map(point).collect()
    };
    let rows: Vec<_> = tests
        .iter()
        .zip(names)
        .map(|(test, name)| {
            let text = |text: &str| Cell::Text(text.into());
            vec![
                text(name),
                text(&kind(test)),
                Format::Size.cell(&test["bytes"]),
                Format::Whole.cell(&test["threads"]),
                Format::Fixed(2).cell(&test["mean"]),
                Format::Fixed(2).cell(&test["sd"]),
            ]
        })
        .collect();
    let body = html! {
        p {
            "pp: tokens of a prompt, read at once. tg: tokens generated one by one. A number behind @ d is the "
            "count of tokens that were in the cache before. ± is the standard deviation of the runs."
        }
        div.plots {
            @for kind in &kinds {
                (plot::by_size(&points(kind), &format!("{kind}, tokens/s"), false, "Higher is faster."))
            }
        }
        (table(&["model", "test", "size", "threads", "tokens/s", "±"], &rows, None))
    };
    Page { command: "bench", title: "Tokens a second".into(), body }
}
