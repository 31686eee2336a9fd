//! Pages for people to look at, each one file that needs no other: no network, and no paths of this
//! machine.
//!
//! Plots are small SVG drawings by hand, because their colours follow the reader's light or dark scheme,
//! which a drawing with fixed colours cannot.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use gguf_io::{AtomicFile, OutputOptions};
use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use crate::{
    text::{self, escape, size},
    version,
};

pub(crate) mod bench;
pub(crate) mod compare;
mod heat;
pub(crate) mod kl;
mod plot;

/// What every page begins with.
const MARK: &str = "<!DOCTYPE html><!-- quantwright ";

/// Where a page goes. A page may replace an older one, but nothing else.
pub(crate) struct Destination<'a> {
    path: &'a Path,
}

impl<'a> Destination<'a> {
    /// Checks before the work begins that a page can be written there, and that none of `others`, which
    /// the same run reads or writes, is there.
    pub(crate) fn new(
        path: &'a Path,
        others: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<Self> {
        let place = |path: &Path| -> Option<PathBuf> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
            path.canonicalize().ok().or_else(|| Some(folder.join(path.file_name()?)))
        };
        let (to, mut others) = (place(path), others.into_iter());
        let taken = others.any(|other| to.is_some() && place(other) == to);
        ensure!(
            !taken,
            "{}: is another file of this run; choose another name for the page",
            path.display()
        );
        let destination = Self { path };
        AtomicFile::check(path, 0, destination.options()?)?;
        Ok(destination)
    }

    fn options(&self) -> anyhow::Result<OutputOptions> {
        let overwrite = is_report(self.path);
        ensure!(
            overwrite || !self.path.is_file(),
            "{}: exists and is not a report of this program; choose another name",
            self.path.display()
        );
        Ok(OutputOptions { overwrite, sync: false })
    }

    pub(crate) fn write(&self, page: &Page) -> anyhow::Result<()> {
        let text = page.text();
        let file = AtomicFile::create(self.path, text.len() as u64, self.options()?)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.commit().context("cannot write the report")
    }
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

/// A page of a command.
pub(crate) struct Page {
    command: &'static str,
    title: String,
    body: Markup,
}

impl Page {
    fn text(&self) -> String {
        let html = html! {
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                    style { (PreEscaped(include_str!("style.css"))) }
                }
                body {
                    main { h1 { (self.title) } (self.body) }
                    footer { "Made by quantwright " (version::program()) ", " code { (self.command) } "." }
                    script { (PreEscaped(include_str!("sort.js"))) }
                }
            }
        };
        format!("{MARK}{} -->\n{}\n", self.command, html.into_string())
    }
}

/// The names of files without their folders; equal ones get numbers.
pub(crate) fn names<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<String> {
    let names: Vec<_> = paths.into_iter().map(name).collect();
    let (mut all, mut so_far) = (HashMap::<&str, usize>::new(), HashMap::<&str, usize>::new());
    names.iter().for_each(|name| *all.entry(name).or_default() += 1);
    let numbered = names.iter().map(|name| {
        let number = so_far.entry(name).or_default();
        *number += 1;
        match all.get(name.as_str()) {
            Some(2..) => format!("{name} ({number})"),
            _ => name.clone(),
        }
    });
    numbered.collect()
}

/// The name of a file, or the last part of an address.
pub(crate) fn name(path: &Path) -> String {
    let text = text::path(path);
    if let Some((_, address)) = text.split_once("://") {
        // A query may hold what is nobody's business.
        let address = address.split(['?', '#']).next().unwrap_or_default();
        return escape(address.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
    }
    let whole = path.canonicalize();
    let name = path.file_name().or_else(|| whole.as_ref().ok()?.file_name());
    name.map_or_else(|| "model".into(), |name| escape(&name.to_string_lossy()))
}

/// A cell of a table.
enum Cell {
    Text(String),
    /// As people read it, and as JSON has it.
    Number(String, Value),
}

impl Cell {
    fn show(&self) -> Markup {
        match self {
            Self::Text(text) => html! { td { (text) } },
            Self::Number(text, Value::Null) => html! { td data-value="" { (text) } },
            Self::Number(text, exact) => html! { td data-value=(exact.to_string()) { (text) } },
        }
    }
}

/// How a figure of the JSON is shown.
#[derive(Clone, Copy)]
enum Format {
    /// Bytes, with a unit.
    Size,
    /// So many decimal places.
    Fixed(usize),
    /// Four digits that count.
    Figure,
    Whole,
}

impl Format {
    fn cell(self, value: &Value) -> Cell {
        let text = match (self, value.as_f64()) {
            (_, None) => "–".into(),
            (Self::Size, _) => size(value.as_u64().unwrap_or_default()),
            (Self::Fixed(places), Some(number)) => format!("{number:.places$}"),
            (Self::Figure, Some(number)) => figure(number),
            (Self::Whole, _) => value.to_string(),
        };
        Cell::Number(text, value.clone())
    }
}

/// A number with four digits that count.
fn figure(number: f64) -> String {
    let places = match number.abs() {
        0.0 => return "0".into(),
        least if least < 1e-4 => return format!("{number:.2e}"),
        least => 3.0 - least.log10().floor(),
    };
    format!("{number:.*}", places.clamp(0.0, 8.0) as usize)
}

/// A table that scrolls inside the page, and that readers can sort. Columns are as wide as their cells:
/// text to the left, numbers to the right.
fn table(heads: &[&str], rows: &[Vec<Cell>], foot: Option<&[Cell]>) -> Markup {
    let is_text = |i: usize| matches!(rows.first().and_then(|row| row.get(i)), Some(Cell::Text(_)));
    html! {
        div.scroll tabindex="0" {
            table.sortable {
                thead {
                    tr {
                        @for (i, head) in heads.iter().enumerate() {
                            th.number[!is_text(i)] scope="col" { (head) }
                        }
                    }
                }
                tbody { @for row in rows { tr { @for cell in row { (cell.show()) } } } }
                @if let Some(foot) = foot {
                    tfoot { tr { @for cell in foot { (cell.show()) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_no_folders_and_no_queries() {
        let paths =
            ["/home/me/a/m.gguf", "b/m.gguf", "x/", "hf://org/m2/", "https://h/f.gguf?key=1"];
        let found = names(paths.iter().map(Path::new));
        assert_eq!(found, ["m.gguf (1)", "m.gguf (2)", "x", "m2", "f.gguf"]);
        assert_eq!(name(Path::new("a\u{1b}[2J.gguf")), "a\\u{1b}[2J.gguf");
    }

    #[test]
    fn figures_have_four_digits() {
        let found = [0.0, 0.012_345_6, 1.0 / 3.0, 12.345_67, 123_456.7, 1.234e-7].map(figure);
        assert_eq!(found, ["0", "0.01235", "0.3333", "12.35", "123457", "1.23e-7"]);
    }
}
