//! Plots as SVG: points over sizes, and bars.

use maud::{Markup, html};

use super::figure;

/// A model in a plot.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) value: f64,
    /// What the value may be wrong by, up and down.
    pub(super) error: f64,
}

/// Values to places on paper.
struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let of = |value: f64| if self.is_log { value.ln() } else { value };
        let value = value.max(self.low);
        let part = (of(value) - of(self.low)) / (of(self.high) - of(self.low));
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values, with their texts.
    fn ticks(&self) -> Vec<(f64, String)> {
        if self.is_log { self.decades() } else { self.steps() }
    }

    fn steps(&self) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / 5.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * decade);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let places = (-(step * 1.001).log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil();
        let values = (0..12).map(|i| (first + f64::from(i)) * step);
        values.filter(|v| *v <= self.high).map(|v| (v, format!("{v:.places$}"))).collect()
    }

    fn decades(&self) -> Vec<(f64, String)> {
        let exponents = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let is_wide = self.high / self.low > 2000.0;
        let digits: &[u8] = if is_wide { &[1] } else { &[1, 2, 5] };
        let ticks = exponents.flat_map(|exponent| {
            digits.iter().map(move |digit| (value(*digit, exponent), decimal(*digit, exponent)))
        });
        ticks.filter(|(v, _)| (self.low..=self.high).contains(v)).collect()
    }
}

fn value(digit: u8, exponent: i32) -> f64 {
    f64::from(digit) * 10f64.powi(exponent)
}

/// The same as people write it.
pub(super) fn decimal(digit: u8, exponent: i32) -> String {
    match exponent {
        ..-4 => format!("{digit}e{exponent}"),
        -4..0 => format!("{:.*}", exponent.unsigned_abs() as usize, value(digit, exponent)),
        0.. => value(digit, exponent).to_string(),
    }
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 468.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 254.0;

/// Models by their sizes: how `what` goes with them, on a logarithmic scale or from 0, with a caption.
///
/// Values without bounds are not shown; on a logarithmic scale, those too small for it lie at its lower
/// edge as triangles.
pub(super) fn by_size(points: &[Point], what: &str, is_log: bool, caption: &str) -> Markup {
    let points: Vec<_> = points.iter().filter(|point| point.value.is_finite()).collect();
    let (unit, divisor) = unit(points.iter().map(|point| point.bytes).max().unwrap_or(0));
    let sizes: Vec<_> = points.iter().map(|point| point.bytes as f64 / divisor).collect();
    let least = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let most = sizes.iter().copied().fold(0.0, f64::max);
    let Some(y) = upright(&points, is_log) else { return html! {} };
    let pad = ((most - least) * 0.12).max(most * 0.05).max(f64::MIN_POSITIVE);
    let x = Scale {
        is_log: false,
        low: (least - pad).max(0.0),
        high: most + pad,
        from: LEFT,
        to: RIGHT,
    };
    let is_below = |point: &Point| is_log && point.value < y.low;
    let places = points.iter().zip(&sizes).map(|(point, size)| {
        let [top, bottom] = [point.error, -point.error].map(|error| y.place(point.value + error));
        Place { x: x.place(*size), y: y.place(point.value), top, bottom }
    });
    let places: Vec<_> = places.collect();
    let names: Vec<_> = points.iter().map(|point| point.name.as_str()).collect();
    let labels = labels(&places, &short(&names));
    let drawing = html! {
        svg.plot.fluid viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (what) " by size" } {
            @for (value, text) in y.ticks() {
                @let at = y.place(value);
                line.grid x1=(LEFT) x2=(RIGHT) y1=(n(at)) y2=(n(at)) {}
                text x=(LEFT - 6.0) y=(n(at + 4.0)) text-anchor="end" { (text) }
            }
            @for (value, text) in x.ticks() {
                @let at = x.place(value);
                line.axis x1=(n(at)) x2=(n(at)) y1=(BOTTOM) y2=(BOTTOM + 4.0) {}
                text x=(n(at)) y=(BOTTOM + 18.0) text-anchor="middle" { (text) }
            }
            line.axis x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) {}
            text x="4" y="14" { (what) }
            text x=(RIGHT) y=(HEIGHT - 8.0) text-anchor="end" { "size in " (unit) }
            @for ((point, place), label) in points.iter().zip(&places).zip(&labels) {
                g {
                    title { (point.name) ": " (figure(point.value)) ", " (crate::text::size(point.bytes)) }
                    @if label.is_apart {
                        line.lead x1=(n(place.x)) y1=(n(place.y)) x2=(n(label.x)) y2=(n(label.y)) {}
                    }
                    @if is_below(point) {
                        path.below d={ "M" (n(place.x - 5.0)) " " (n(place.y - 9.0)) "h10l-5 8z" } {}
                    } @else {
                        line.error x1=(n(place.x)) x2=(n(place.x)) y1=(n(place.top)) y2=(n(place.bottom)) {}
                        circle.dot cx=(n(place.x)) cy=(n(place.y)) r="5" {}
                    }
                    text.label x=(n(label.x)) y=(n(label.y + 4.0)) text-anchor=(label.anchor) { (label.text) }
                }
            }
        }
    };
    html! {
        figure {
            (drawing)
            figcaption {
                (caption)
                @if points.iter().any(|point| is_below(point)) { " A triangle lies below the scale." }
            }
        }
    }
}

/// The scale of the values; `None` without any.
fn upright(points: &[&Point], is_log: bool) -> Option<Scale> {
    let most = points.iter().map(|p| p.value + p.error.max(0.0)).fold(f64::NEG_INFINITY, f64::max);
    points.first()?;
    let (low, high) = if is_log {
        // Whatever is this far below the greatest is as good as nothing.
        let most = if most > 0.0 { most } else { 1.0 };
        let values = points.iter().map(|point| point.value).filter(|value| *value > most * 1e-6);
        (values.fold(most, f64::min) / 2.0, most * 1.5)
    } else {
        (0.0, if most > 0.0 { most * 1.05 } else { 1.0 })
    };
    Some(Scale { is_log, low, high, from: BOTTOM, to: TOP })
}

/// A unit for sizes of which this is the largest.
fn unit(bytes: u64) -> (&'static str, f64) {
    match bytes {
        0x4000_0000.. => ("GiB", f64::from(1 << 30)),
        0x10_0000.. => ("MiB", f64::from(1 << 20)),
        _ => ("KiB", 1024.0),
    }
}

/// A place on paper, to a tenth.
fn n(place: f64) -> String {
    format!("{place:.1}")
}

/// Where a point is, and how far its error reaches.
struct Place {
    x: f64,
    y: f64,
    top: f64,
    bottom: f64,
}

struct Label {
    text: String,
    x: f64,
    y: f64,
    anchor: &'static str,
    /// Whether it is not right beside its point.
    is_apart: bool,
}

/// Finds room for the names beside the points.
fn labels(points: &[Place], names: &[String]) -> Vec<Label> {
    type Area = (f64, f64, f64, f64);
    let overlap = |a: &Area, b: &Area| a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3;
    let dots = points.iter().map(|p| (p.x - 6.0, p.y - 6.0, p.x + 6.0, p.y + 6.0));
    let errors: Vec<_> = points.iter().map(|p| (p.x - 1.0, p.top, p.x + 1.0, p.bottom)).collect();
    let mut taken: Vec<Area> = dots.collect();
    let mut found = Vec::new();
    for (&Place { x, y, .. }, text) in points.iter().zip(names) {
        // A letter is less than this wide, also in the larger letters of narrow screens.
        let width = text.chars().count() as f64 * 8.5;
        let area = |side: f64, down: f64| {
            let near = x + side * if down == 0.0 { 9.0 } else { 14.0 };
            let far = near + side * width;
            (near.min(far), y + down - 7.0, near.max(far), y + down + 7.0)
        };
        let downs = [0.0, -14.0, 14.0, -28.0, 28.0, -42.0, 42.0, -56.0, 56.0, -70.0, 70.0];
        let all = downs.iter().flat_map(|down| [(1.0, *down), (-1.0, *down)]);
        // A name that crosses the line of an error can still be read.
        let is_free = |(side, down): (f64, f64), errors: &[Area]| {
            let area = area(side, down);
            let inside =
                area.0 > LEFT - 2.0 && area.2 < WIDTH && area.1 > TOP - 14.0 && area.3 < BOTTOM;
            inside && !taken.iter().chain(errors).any(|other| overlap(&area, other))
        };
        let mut free = all.clone().filter(|at| is_free(*at, &errors));
        let free = free.next().or_else(|| all.clone().find(|at| is_free(*at, &[])));
        let crowded = if x + 9.0 + width < WIDTH { 1.0 } else { -1.0 };
        let (side, down) = free.unwrap_or((crowded, 0.0));
        let area = area(side, down);
        taken.push(area);
        let (x, anchor) = if side > 0.0 { (area.0, "start") } else { (area.2, "end") };
        found.push(Label { text: text.clone(), x, y: y + down, anchor, is_apart: down != 0.0 });
    }
    found
}

/// Names without what all of them begin and end with, and not too long.
fn short(names: &[&str]) -> Vec<String> {
    const LONGEST: usize = 24;
    let common = |same: fn(&str, &str) -> usize| {
        let first = names.first().copied().unwrap_or_default();
        names.iter().map(|name| same(first, name)).min().unwrap_or(0)
    };
    let first = names.first().copied().unwrap_or_default();
    let start = common(|a, b| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count());
    // Whole words alone.
    let is_end = |c: char| matches!(c, '-' | '.' | ' ');
    let bytes = first.as_bytes().get(..start).unwrap_or_default();
    let start = bytes.iter().rposition(|b| is_end(char::from(*b))).map_or(0, |at| at + 1);
    names
        .iter()
        .map(|name| {
            let rest = if names.len() > 1 { name.get(start..).unwrap_or(name) } else { name };
            let rest = rest.strip_suffix(".gguf").unwrap_or(rest);
            let rest = if rest.is_empty() { name } else { rest };
            let count = rest.chars().count();
            match count > LONGEST {
                true => rest.chars().take(LONGEST - 1).chain(['…']).collect(),
                false => rest.to_owned(),
            }
        })
        .collect()
}

/// Bars beside each other up to `most`, with what each says when pointed at, and texts below at parts of
/// the width.
pub(super) fn bars(
    values: &[f64],
    most: f64,
    unit: &str,
    titles: &[String],
    below: &[(f64, String)],
) -> Markup {
    const WIDE: f64 = 300.0;
    const HIGH: f64 = 110.0;
    const BASE: f64 = 88.0;
    let step = WIDE / values.len().max(1) as f64;
    let most = if most > 0.0 { most } else { 1.0 };
    html! {
        svg.fluid viewBox={ "0 0 " (WIDE) " " (HIGH) } role="img" {
            line.grid x1="0" x2=(WIDE) y1="18" y2="18" {}
            text x="0" y="13" { (figure(most)) (unit) }
            @for (i, (value, title)) in values.iter().zip(titles).enumerate() {
                @let part = if value.is_finite() { (value / most).clamp(0.0, 1.0) } else { 0.0 };
                @let height = part * (BASE - 18.0);
                rect.bar x=(n(i as f64 * step)) y=(n(BASE - height)) height=(n(height)) width=(n((step - 1.0).max(0.5))) {
                    title { (title) }
                }
            }
            line.axis x1="0" x2=(WIDE) y1=(BASE) y2=(BASE) {}
            @for (part, text) in below {
                @let anchor = match *part { ..=0.05 => "start", 0.95.. => "end", _ => "middle" };
                text x=(n(part * WIDE)) y=(HIGH - 6.0) text-anchor=(anchor) { (text) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(is_log: bool, low: f64, high: f64) -> Scale {
        Scale { is_log, low, high, from: 0.0, to: 100.0 }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let texts =
            |scale: Scale| scale.ticks().into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(scale(false, 0.0, 1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(scale(false, 82.0, 137.0)), ["100", "120"]);
        assert_eq!(texts(scale(true, 0.004, 0.06)), ["0.005", "0.01", "0.02", "0.05"]);
        assert_eq!(texts(scale(true, 1e-6, 0.5)).first().map(String::as_str), Some("1e-6"));
        assert_eq!(scale(true, 0.01, 1.0).place(0.1).round(), 50.0);
    }

    #[test]
    fn names_lose_what_they_share() {
        assert_eq!(short(&["m-q4_0.gguf", "m-q4_k_m.gguf"]), ["q4_0", "q4_k_m"]);
        assert_eq!(short(&["m-q4_0.gguf"]), ["m-q4_0"]);
        assert_eq!(short(&["a.gguf", "a.gguf"]), ["gguf", "gguf"]);
        assert_eq!(short(&["é-1", "è-2"]), ["é-1", "è-2"]);
        assert_eq!(short(&["x".repeat(99).as_str()])[0].chars().count(), 24);
    }

    #[test]
    fn any_values_can_be_drawn() {
        let point = |value, error| Point { name: "<m>".into(), bytes: 0, value, error };
        for values in [vec![], vec![f64::NAN], vec![0.0], vec![-1.0, 1e-300, 1e300], vec![2.0; 40]]
        {
            for is_log in [false, true] {
                let points: Vec<_> = values.iter().map(|value| point(*value, 0.1)).collect();
                let drawn = by_size(&points, "x", is_log, "y").into_string();
                assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{values:?}: {drawn}");
                assert!(!drawn.contains("<m>"));
            }
        }
        assert!(
            !bars(&[0.0, f64::NAN], 0.0, "", &["".into(), "".into()], &[])
                .into_string()
                .contains("NaN")
        );
    }
}
