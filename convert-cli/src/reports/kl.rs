//! The page of `kl`.

use maud::{Markup, html};
use serde_json::Value;

use super::{Cell, Format, Page, figure, plot, plot::Point, table};

/// Bins of a histogram in a decade.
const IN_DECADE: f64 = 4.0;
/// The decade that histograms begin with; what is smaller is in their first bin.
const FIRST_DECADE: f64 = -8.0;
const BINS: usize = 40;
/// Groups of positions in a window, at most.
const GROUPS: usize = 32;

/// How the divergences of a candidate's predictions are spread.
pub(crate) struct Spread {
    /// How many lie in each bin, by their logarithms.
    histogram: [u64; BINS],
    /// Their means over the positions of a window, in groups.
    by_position: Vec<f64>,
    /// The first position that is scored, and the one behind the last.
    scored: std::ops::Range<usize>,
}

impl Spread {
    /// Of the divergences of all predictions in order, for windows of which these positions are scored.
    pub(crate) fn new(divergences: &[f32], scored: std::ops::Range<usize>) -> Self {
        let groups = scored.len().clamp(1, GROUPS);
        let mut histogram = [0; BINS];
        let (mut sums, mut counts) = (vec![0.0; groups], vec![0u64; groups]);
        for (i, divergence) in divergences.iter().map(|d| f64::from(*d)).enumerate() {
            let bin = match divergence {
                d if !d.is_finite() => BINS - 1,
                d => ((d.max(f64::MIN_POSITIVE).log10() - FIRST_DECADE) * IN_DECADE) as usize,
            };
            if let Some(count) = histogram.get_mut(bin.min(BINS - 1)) {
                *count += 1;
            }
            let group = i % scored.len().max(1) * groups / scored.len().max(1);
            if let (Some(sum), Some(count)) = (sums.get_mut(group), counts.get_mut(group)) {
                *sum += divergence;
                *count += 1;
            }
        }
        let by_position =
            sums.iter().zip(&counts).map(|(sum, n)| sum / (*n).max(1) as f64).collect();
        Self { histogram, by_position, scored }
    }

    fn predictions(&self) -> u64 {
        self.histogram.iter().sum()
    }

    /// The parts of the predictions in these bins, in percent.
    fn percents(&self, bins: &std::ops::RangeInclusive<usize>) -> Vec<f64> {
        let counts = self.histogram.get(bins.clone()).unwrap_or_default().iter();
        counts.map(|n| 100.0 * *n as f64 / self.predictions().max(1) as f64).collect()
    }
}

const FIGURES: [(&str, &str, Format); 18] = [
    ("bytes", "size", Format::Size),
    ("bits_per_weight", "bits per weight", Format::Fixed(2)),
    ("mean_kld", "mean KLD", Format::Figure),
    ("mean_kld_error", "±", Format::Figure),
    ("median_kld", "median", Format::Figure),
    ("kld_90", "90 %", Format::Figure),
    ("kld_95", "95 %", Format::Figure),
    ("kld_99", "99 %", Format::Figure),
    ("kld_999", "99.9 %", Format::Figure),
    ("max_kld", "greatest", Format::Figure),
    ("same_top_p", "same top %", Format::Fixed(2)),
    ("rms_dp", "rms Δp %", Format::Fixed(2)),
    ("ppl", "perplexity", Format::Fixed(4)),
    ("ppl_error", "±", Format::Fixed(4)),
    ("ln_ratio", "ln ratio", Format::Figure),
    ("ln_ratio_error", "±", Format::Figure),
    ("predictions", "predictions", Format::Whole),
    ("memory", "memory", Format::Size),
];

/// Of what the command prints as JSON, with the names of the models. `text` is that of the run; without,
/// the reference is a file that holds its own.
pub(crate) fn page(
    json: &Value,
    reference: &str,
    names: &[String],
    text: Option<&str>,
    spreads: &[&Spread],
) -> Page {
    let no_candidates = Vec::new();
    let candidates = json["candidates"].as_array().unwrap_or(&no_candidates);
    let points: Vec<_> = candidates
        .iter()
        .zip(names)
        .map(|(candidate, name)| Point {
            name: name.clone(),
            bytes: candidate["bytes"].as_u64().unwrap_or_default(),
            value: candidate["mean_kld"].as_f64().unwrap_or(f64::NAN),
            error: candidate["mean_kld_error"].as_f64().unwrap_or_default(),
        })
        .collect();
    // What nobody has is no column.
    let figures = FIGURES.iter().filter(|(key, ..)| candidates.iter().any(|c| !c[*key].is_null()));
    let figures: Vec<_> = figures.collect();
    let heads: Vec<_> =
        ["model"].into_iter().chain(figures.iter().map(|(_, head, _)| *head)).collect();
    let rows = candidates.iter().zip(names).map(|(candidate, name)| {
        let numbers = figures.iter().map(|(key, _, format)| format.cell(&candidate[*key]));
        [Cell::Text(name.clone())].into_iter().chain(numbers).collect()
    });
    let rows: Vec<_> = rows.collect();
    let number = |key: &str| json["reference"][key].as_f64().unwrap_or(f64::NAN);
    let body = html! {
        p {
            "How far the predictions of " (candidates.len()) (if candidates.len() == 1 { " model is" } else { " models are" })
            " from those of " strong { (reference) }
            @if let Some(spread) = spreads.first() {
                ", over " (spread.predictions()) " predictions of "
                (text.map_or_else(|| "the text that the reference holds".into(), str::to_owned))
            }
            ". The reference has a perplexity of "
            span data-value=(json["reference"]["ppl"].to_string()) { (format!("{:.4}", number("ppl"))) } " ± "
            span data-value=(json["reference"]["ppl_error"].to_string()) { (format!("{:.4}", number("ppl_error"))) } "."
        }
        h2 { "KL divergence by size" }
        (plot::by_size(
            &points,
            "mean KL divergence in nats",
            true,
            "Lower is nearer to the reference, further left is smaller. Lines are standard errors.",
        ))
        h2 { "All figures" }
        (table(&heads, &rows, None))
        p.soft {
            "KLD: KL divergence of the predictions of a token, in nats; 99 % is what that part of them stays below. "
            "Same top: how often both models think the same token likeliest. Δp: difference in the probability of "
            "the token that came. Ln ratio: logarithm of the perplexity over the reference's. ±: standard error."
        }
        (spread(names, spreads))
    };
    Page { command: "kl", title: format!("KL divergence from {reference}"), body }
}

/// Histograms of all candidates.
fn spread(names: &[String], spreads: &[&Spread]) -> Markup {
    let is_used =
        |bin: &usize| spreads.iter().any(|s| s.histogram.get(*bin).is_some_and(|n| *n > 0));
    let (Some(first), Some(last)) = ((0..BINS).find(is_used), (0..BINS).rev().find(is_used)) else {
        return html! {};
    };
    // Whole decades.
    let decade = IN_DECADE as usize;
    let (first, last) = (first / decade, last / decade + 1);
    let bins = first * decade..=last * decade - 1;
    let edge = |bin: usize| 10f64.powf(FIRST_DECADE + bin as f64 / IN_DECADE);
    let titles = |percents: &[f64]| -> Vec<String> {
        let bars = percents.iter().zip(bins.clone());
        bars.map(|(part, bin)| {
            format!("{part:.2} %: {} to {}", figure(edge(bin)), figure(edge(bin + 1)))
        })
        .collect()
    };
    let ends = [(0.0, first), (1.0, last)];
    let ends = ends.map(|(at, n)| (at, plot::decimal(1, FIRST_DECADE as i32 + n as i32)));
    let most =
        |values: &[f64]| values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    html! {
        h2 { "Spread" }
        p.soft {
            "On the left the predictions by their KL divergence, on a logarithmic scale that is the same for all "
            "models; on the right the mean over the positions in a window. The number above is that of the "
            "highest bar."
        }
        div.plots {
            @for (name, spread) in names.iter().zip(spreads) {
                div.card {
                    h3 { (name) }
                    div.pair {
                        figure {
                            figcaption { "Predictions by their KLD" }
                            @let percents = spread.percents(&bins);
                            (plot::bars(&percents, most(&percents), " %", &titles(&percents), &ends))
                        }
                        figure {
                            figcaption { "Mean KLD by position" }
                            @let scored = &spread.scored;
                            @let ends = [(0.0, scored.start.to_string()), (1.0, scored.end.saturating_sub(1).to_string())];
                            @let titles: Vec<_> = spread.by_position.iter().map(|mean| figure(*mean)).collect();
                            (plot::bars(&spread.by_position, most(&spread.by_position), "", &titles, &ends))
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
    fn every_prediction_has_a_bin_and_a_position() {
        let divergences = [0.0, -1e-9, 1e-3, 1e9, f32::NAN, 0.5, 1.5, 1e-8, 2.0];
        let spread = Spread::new(&divergences, 4..7);
        assert_eq!(spread.predictions(), 9);
        assert_eq!((spread.histogram[0], spread.histogram[BINS - 1]), (3, 2));
        assert_eq!(spread.by_position.len(), 3);
        assert!((Spread::new(&[0.0, 1.0, 3.0, 2.0], 2..4).by_position[0] - 1.5).abs() < 1e-6);
        assert_eq!(Spread::new(&[], 0..0).predictions(), 0);
    }
}
