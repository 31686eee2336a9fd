//! How far a model's predictions are from another's: KL divergence and what llama-perplexity prints
//! beside it.

use crate::{
    logits::{self, exponentials},
    perplexity::{Perplexity, standard_error},
};

/// Log-probabilities below this do not count: a [`.kld` file](crate::kld) does not hold them.
const LEAST: f32 = -16.0;

/// Writes the logarithms of the probabilities that logits stand for into `output`.
pub fn log_probabilities(logits: &[f32], output: &mut Vec<f32>) {
    let (greatest, sum) = exponentials(logits);
    let log_sum = sum.ln() as f32;
    output.clear();
    output.extend(logits.iter().map(|logit| logit - greatest - log_sum));
}

/// Compares a candidate with a reference, prediction by prediction.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    reference: Perplexity,
    candidate: Perplexity,
    /// The sum of the products of both losses.
    products: f64,
    divergences: Vec<f32>,
    sum: f64,
    squares: f64,
    same_top: u64,
    /// Sums of the differences of the probabilities of the token that came, to the second and the
    /// fourth power.
    differences2: f64,
    differences4: f64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Predictions that were compared.
    pub count: u64,
    /// The reference's perplexity.
    pub reference_ppl: f64,
    /// Its standard error.
    pub reference_ppl_error: f64,
    /// The candidate's perplexity.
    pub ppl: f64,
    /// Its standard error.
    pub ppl_error: f64,
    /// The logarithm of the candidate's perplexity over the reference's.
    pub ln_ratio: f64,
    /// Its standard error; both models saw the same text, which makes it smaller than that of either.
    pub ln_ratio_error: f64,
    /// The mean KL divergence, in nats.
    pub mean_kld: f64,
    /// Its standard error.
    pub mean_kld_error: f64,
    /// The greatest KL divergence.
    pub max_kld: f64,
    /// The KL divergence that 99.9 % of the predictions stay below.
    pub kld_999: f64,
    /// That of 99 %.
    pub kld_99: f64,
    /// That of 95 %.
    pub kld_95: f64,
    /// That of 90 %.
    pub kld_90: f64,
    /// That of half of them.
    pub median_kld: f64,
    /// Predictions whose likeliest token is the same, in percent.
    pub same_top_p: f64,
    /// Its standard error, in percent.
    pub same_top_p_error: f64,
    /// The root of the mean square of the differences in the probability of the token that came, in
    /// percent.
    pub rms_dp: f64,
    /// Its standard error, in percent.
    pub rms_dp_error: f64,
}

impl Divergence {
    /// Adds a prediction: the reference's [`log_probabilities`], the candidate's logits, and the token
    /// that came.
    ///
    /// Both have a number for each token; where one has more, those do not count.
    pub fn add(&mut self, reference: &[f32], candidate: &[f32], next: u32) {
        let (greatest, sum) = exponentials(candidate);
        let log_sum = greatest + sum.ln() as f32;
        let divergence = logits::divergence(reference, candidate, log_sum, LEAST);
        let both = reference.len().min(candidate.len());
        let top = |row: &[f32]| row.get(..both).and_then(logits::greatest).map(|(token, _)| token);
        let of = |values: &[f32]| values.get(next as usize).copied();
        let loss = of(candidate).map_or(f32::INFINITY, |logit| log_sum - logit);
        let reference_loss = of(reference).map_or(f32::INFINITY, |log| -log);
        self.candidate.add_loss(loss.into());
        self.reference.add_loss(reference_loss.into());
        self.products += f64::from(loss) * f64::from(reference_loss);
        self.divergences.push(divergence as f32);
        self.sum += divergence;
        self.squares += divergence * divergence;
        self.same_top += u64::from(top(candidate) == top(reference));
        let difference = f64::from((-loss).exp() - (-reference_loss).exp());
        self.differences2 += difference.powi(2);
        self.differences4 += difference.powi(4);
    }

    /// Predictions so far.
    pub fn count(&self) -> u64 {
        self.candidate.count()
    }

    /// The candidate's perplexity so far.
    pub fn perplexity(&self) -> &Perplexity {
        &self.candidate
    }

    /// The mean KL divergence so far, NaN without predictions.
    pub fn mean(&self) -> f64 {
        self.sum / self.count() as f64
    }

    /// The KL divergence of each prediction, in nats, in the order in which they were added.
    pub fn divergences(&self) -> &[f32] {
        &self.divergences
    }

    /// What was found; `None` without predictions.
    pub fn statistics(&self) -> Option<Statistics> {
        let count = self.count();
        let mut sorted = self.divergences.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let max_kld = f64::from(*sorted.last()?);
        let n = count as f64;
        let (candidate, reference) = (&self.candidate, &self.reference);
        let (error, reference_error) = (candidate.loss_error(), reference.loss_error());
        let covariance = if count < 10 {
            0.0
        } else {
            (self.products / n - candidate.mean_loss() * reference.mean_loss()) / (n - 1.0)
        };
        let ratio_variance = error * error + reference_error * reference_error - 2.0 * covariance;
        let rms = (self.differences2 / n).sqrt();
        let squares_error = standard_error(self.differences2, self.differences4, count);
        let same = self.same_top as f64 / n;
        Some(Statistics {
            count,
            reference_ppl: reference.value(),
            reference_ppl_error: reference.error(),
            ppl: candidate.value(),
            ppl_error: candidate.error(),
            ln_ratio: candidate.mean_loss() - reference.mean_loss(),
            ln_ratio_error: ratio_variance.max(0.0).sqrt(),
            mean_kld: self.mean(),
            mean_kld_error: standard_error(self.sum, self.squares, count),
            max_kld,
            kld_999: quantile(&sorted, 0.999),
            kld_99: quantile(&sorted, 0.99),
            kld_95: quantile(&sorted, 0.95),
            kld_90: quantile(&sorted, 0.9),
            median_kld: quantile(&sorted, 0.5),
            same_top_p: 100.0 * same,
            same_top_p_error: 100.0 * (same * (1.0 - same) / (n - 1.0).max(1.0)).sqrt(),
            rms_dp: 100.0 * rms,
            rms_dp_error: if rms > 0.0 { 100.0 * 0.5 / rms * squares_error } else { 0.0 },
        })
    }
}

/// The value that a part of sorted values stays below, between two of them in proportion.
fn quantile(sorted: &[f32], part: f64) -> f64 {
    let place = part * sorted.len().saturating_sub(1) as f64;
    let below = place as usize;
    let at = |i: usize| sorted.get(i).or(sorted.last()).map_or(f64::NAN, |v| f64::from(*v));
    let rest = place - below as f64;
    (1.0 - rest) * at(below) + rest * at(below + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(logits: &[f32]) -> Vec<f32> {
        let mut output = Vec::new();
        log_probabilities(logits, &mut output);
        output
    }

    #[test]
    fn equal_models_do_not_differ() {
        let mut divergence = Divergence::default();
        for next in 0..20 {
            let logits = [1.0, 2.0, 0.5 * next as f32, -3.0];
            divergence.add(&logs(&logits), &logits, next % 4);
        }
        let found = divergence.statistics().unwrap();
        assert!(found.mean_kld.abs() < 1e-6 && found.max_kld < 1e-6, "{found:?}");
        assert!(found.ln_ratio.abs() < 1e-6 && found.ln_ratio_error < 1e-6);
        assert!((found.ppl - found.reference_ppl).abs() < 1e-5 * found.ppl);
        assert_eq!((found.same_top_p, found.count), (100.0, 20));
        assert!(found.rms_dp < 1e-4);
        assert!(Divergence::default().statistics().is_none());
    }

    #[test]
    fn figures_of_a_known_pair() {
        // Probabilities of (3/4, 1/4) and (1/4, 3/4).
        let (reference, candidate) = ([3f32.ln(), 0.0], [0.0, 3f32.ln()]);
        let mut divergence = Divergence::default();
        divergence.add(&logs(&reference), &candidate, 0);
        let found = divergence.statistics().unwrap();
        let expected = 0.5 * 3f64.ln();
        assert!((found.mean_kld - expected).abs() < 1e-6, "{found:?}");
        assert!((found.median_kld - expected).abs() < 1e-6);
        assert!((found.ppl - 4.0).abs() < 1e-5 && (found.reference_ppl - 4.0 / 3.0).abs() < 1e-6);
        assert!((found.ln_ratio - 3f64.ln()).abs() < 1e-6);
        assert_eq!(divergence.divergences().len(), 1);
        assert!((f64::from(divergence.divergences()[0]) - expected).abs() < 1e-6);
        assert_eq!(found.same_top_p, 0.0);
        assert!((found.rms_dp - 50.0).abs() < 1e-4);
    }

    #[test]
    fn quantiles_lie_between_values() {
        let values: Vec<f32> = (0..=10).map(|v| v as f32).collect();
        assert_eq!(quantile(&values, 0.5), 5.0);
        assert!((quantile(&values, 0.95) - 9.5).abs() < 1e-9);
        assert_eq!(quantile(&[3.0], 0.999), 3.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
    }

    #[test]
    fn rows_of_different_lengths_and_tokens_out_of_range_do_not_panic() {
        let mut divergence = Divergence::default();
        divergence.add(&[], &[], 0);
        divergence.add(&logs(&[1.0]), &[1.0, f32::NAN], 9);
        assert_eq!(divergence.statistics().unwrap().count, 2);
    }
}
