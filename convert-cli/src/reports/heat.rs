//! Heat maps of tensors: a column for each layer, a row for each tensor that layers have.

use std::collections::BTreeSet;

use maud::{Markup, html};
use quant_convert::compare::Difference;

use super::figure;

/// Layers of maps that fit beside each other on a wide screen.
const BESIDE: usize = 24;

/// Where tensors are in a map.
struct Grid<'a> {
    rows: Vec<String>,
    /// The layers there are, by their numbers.
    layers: Vec<u64>,
    /// Row, column and tensor. Column 0 is for tensors outside of layers.
    cells: Vec<(usize, usize, &'a Difference)>,
}

impl<'a> Grid<'a> {
    fn new(tensors: &'a [Difference]) -> Self {
        let places: Vec<_> = tensors.iter().map(|tensor| place(&tensor.name)).collect();
        let layers: BTreeSet<_> = places.iter().filter_map(|(layer, _)| *layer).collect();
        let layers: Vec<_> = layers.into_iter().collect();
        let mut rows = Vec::new();
        let mut numbers = std::collections::HashMap::new();
        let mut cells = Vec::new();
        for ((layer, row), tensor) in places.into_iter().zip(tensors) {
            let row = *numbers.entry(row).or_insert_with_key(|row| {
                rows.push(row.clone());
                rows.len() - 1
            });
            let column = layer.and_then(|layer| layers.binary_search(&layer).ok());
            cells.push((row, column.map_or(0, |column| column + 1), tensor));
        }
        Self { rows, layers, cells }
    }
}

/// The layer of a tensor, and its name there: the first number between dots is that of the layer.
fn place(name: &str) -> (Option<u64>, String) {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let parts: Vec<_> = name.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some(at) = parts.iter().position(is_number) else { return (None, name.into()) };
    let (before, after) = parts.split_at(at);
    let Some((number, after)) = after.split_first() else { return (None, name.into()) };
    let Ok(layer) = number.parse() else { return (None, name.into()) };
    let after = after.join(".");
    match before.join(".").as_str() {
        "blk" => (Some(layer), after),
        before => (Some(layer), format!("{before}.*.{after}")),
    }
}

/// The errors that colours stand for.
#[derive(Clone, Copy)]
pub(super) struct Range {
    least: f64,
    most: f64,
}

impl Range {
    /// Of all candidates, so that their maps can be compared; a decade at least, so that small differences
    /// look small.
    pub(super) fn new<'a>(tensors: impl Iterator<Item = &'a Difference>) -> Self {
        let errors = tensors.map(|tensor| tensor.metrics.relative_rmse());
        let positive = errors.filter(|error| error.is_finite() && *error > 0.0);
        let (least, most) = positive
            .fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), e| (least.min(e), most.max(e)));
        Self { least: least.min(most / 10.0), most }
    }

    fn opacity(self, error: f64) -> f64 {
        let part = (error / self.least).ln() / (self.most / self.least).ln();
        0.12 + 0.88 * part.clamp(0.0, 1.0)
    }
}

/// Maps of the error and of the type of each tensor; nothing where no tensor belongs to a layer.
pub(super) fn maps(tensors: &[Difference], range: Range) -> Markup {
    let grid = Grid::new(tensors);
    if grid.layers.is_empty() {
        return html! {};
    }
    let errors = || tensors.iter().map(|tensor| tensor.metrics.relative_rmse());
    let mut types: Vec<(&str, usize)> = Vec::new();
    for tensor in tensors {
        match types.iter_mut().find(|(name, _)| *name == tensor.candidate) {
            Some((_, count)) => *count += 1,
            None => types.push((&tensor.candidate, 1)),
        }
    }
    types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    // Colours that can be told apart are few: the rare types share the last.
    let class = |ty: &str| {
        let at = types.iter().position(|(name, _)| *name == ty).unwrap_or(usize::MAX);
        format!("t{}", at.min(8))
    };
    let swatch = |class: &str, opacity: f64| {
        html! {
            svg width="12" height="12" aria-hidden="true" {
                rect class=(class) fill-opacity=(format!("{opacity:.2}")) x="0.5" y="0.5" width="11" height="11" {}
            }
        }
    };
    html! {
        // Beside each other where both fit.
        div.plots[grid.layers.len() <= BESIDE] {
        figure {
            figcaption {
                "Relative error of each tensor: the stronger the colour, the larger. A column is a layer; the first "
                "is for tensors outside of layers."
            }
            ul.key {
                @if range.most > 0.0 {
                    @for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
                        @let error = range.least * (range.most / range.least).powf(part);
                        li { (swatch("heat", range.opacity(error))) (figure(error)) }
                    }
                }
                @if errors().any(|error| error == 0.0) { li { (swatch("nil", 1.0)) "0" } }
                @if errors().any(|error| !error.is_finite()) { li { (swatch("bad", 1.0)) "not finite" } }
            }
            (draw(&grid, "error of each tensor", |tensor| {
                match tensor.metrics.relative_rmse() {
                    0.0 => ("nil".into(), 1.0),
                    error if error.is_finite() => ("heat".into(), range.opacity(error)),
                    _ => ("bad".into(), 1.0),
                }
            }))
        }
        figure {
            figcaption { "Type of each tensor." }
            ul.key {
                @for (i, (ty, count)) in types.iter().enumerate() {
                    li { (swatch(&format!("t{}", i.min(8)), 1.0)) (ty) span.soft { " × " (count) } }
                }
            }
            (draw(&grid, "type of each tensor", |tensor| (class(&tensor.candidate), 1.0)))
        }
        }
    }
}

fn draw(grid: &Grid<'_>, what: &str, look: impl Fn(&Difference) -> (String, f64)) -> Markup {
    const CELL: usize = 15;
    // As wide as the longest name, at most so many letters of it.
    const LONGEST: usize = 32;
    let longest = grid.rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
    let left = longest.min(LONGEST) * 7 + 10;
    let at = |column: usize| left + column * CELL + if column > 0 { 6 } else { 0 };
    let (width, height) = (at(grid.layers.len() + 1), (grid.rows.len() + 1) * CELL + 6);
    let every = if grid.layers.len() > 12 { 4 } else { 1 };
    html! {
        div.scroll tabindex="0" {
            svg width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(what) {
                @for (column, layer) in grid.layers.iter().enumerate().step_by(every) {
                    text x=(at(column + 1) + CELL / 2) y="12" text-anchor="middle" { (layer) }
                }
                @for (row, name) in grid.rows.iter().enumerate() {
                    @let shown: String = name.chars().take(LONGEST).collect();
                    text x="0" y=((row + 2) * CELL) { (crate::text::escape(&shown)) }
                }
                @for (row, column, tensor) in &grid.cells {
                    @let (class, opacity) = look(tensor);
                    rect class=(class) fill-opacity=(format!("{opacity:.2}")) x=(at(*column))
                        y=((row + 1) * CELL + 4) width=(CELL - 2) height=(CELL - 2)
                    {
                        title {
                            (crate::text::escape(&tensor.name)) ": " (tensor.candidate) ", "
                            (figure(tensor.metrics.relative_rmse()))
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_in_names() {
        let found =
            ["blk.3.attn_q.weight", "v.blk.0.ln1.bias", "token_embd.weight", "blk..x", "a.7"];
        let found = found.map(place);
        assert_eq!(found[0], (Some(3), "attn_q".into()));
        assert_eq!(found[1], (Some(0), "v.blk.*.ln1.bias".into()));
        assert_eq!(found[2], (None, "token_embd".into()));
        assert_eq!(found[3], (None, "blk..x".into()));
        assert_eq!(found[4], (Some(7), "a.*.".into()));
        assert_eq!(place("blk.99999999999999999999999.x").0, None);
    }
}
