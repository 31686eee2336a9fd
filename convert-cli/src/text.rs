//! Text for people: tables, sizes, and what files say, with nothing in it that a terminal would obey.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// The table's lines, with the named columns aligned to the right.
pub(crate) fn finish(mut table: Table, right: &[usize]) -> String {
    for &i in right {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Dimensions as `4096 × 32000`, innermost first.
pub(crate) fn shape(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" × ")
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

/// Text from a file with its control characters escaped, so that it cannot steer a terminal.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// As [`escape`], for text of several lines.
pub(crate) fn escape_text(text: &str) -> String {
    text.split_inclusive(['\n', '\t']).fold(String::new(), |mut out, line| {
        let (text, end) = line.split_at(line.trim_end_matches(['\n', '\t']).len());
        out.push_str(&escape(text));
        out.push_str(end);
        out
    })
}

/// A path for JSON and messages.
pub(crate) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
