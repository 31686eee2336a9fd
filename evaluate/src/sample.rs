//! Picks the next token.

use crate::logits::greatest;

/// How tokens are picked, in llama.cpp's order: the likeliest few, those that make up most of the
/// probability, the temperature, a throw of the dice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    /// What logits are divided by; 0 picks the likeliest token.
    pub temperature: f32,
    /// The likeliest tokens that are considered; 0 considers all.
    pub top_k: usize,
    /// The part of the probability that the likeliest tokens have to make up to be considered; 1
    /// considers all.
    pub top_p: f32,
    /// Where the dice begin. The same seed gives the same tokens.
    pub seed: u64,
}

impl Default for SampleOptions {
    /// llama.cpp's, but that the seed is fixed.
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, seed: 0 }
    }
}

/// Picks tokens one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SampleOptions,
    state: u64,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// Begins with the seed of the options.
    pub fn new(options: SampleOptions) -> Self {
        Self { options, state: options.seed, candidates: Vec::new() }
    }

    /// A token for these logits, a number for each token; `None` if none of them is a number, or they
    /// are all negative infinity.
    pub fn pick(&mut self, logits: &[f32]) -> Option<u32> {
        let numbers = (0u32..).zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        let SampleOptions { temperature, top_k, top_p, .. } = self.options;
        if temperature.is_nan() || temperature <= 0.0 {
            return greatest(logits).and_then(|(token, _)| u32::try_from(token).ok());
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let least = bound(logits, top_k);
        let likely = numbers.filter(|(_, logit)| **logit >= least);
        candidates.extend(likely.map(|(token, logit)| (*logit, token)));
        let better = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, better);
            candidates.truncate(top_k);
        }
        candidates.sort_unstable_by(better);
        if top_p < 1.0 {
            let weights = weights(&candidates, 1.0);
            let enough = f64::from(top_p) * weights.iter().sum::<f64>();
            let mut sum = 0.0;
            let reaches = |weight: &f64| {
                sum += weight;
                sum >= enough
            };
            // At least one is left.
            let kept = weights.iter().position(reaches).map_or(candidates.len(), |at| at + 1);
            candidates.truncate(kept);
        }
        let weights = weights(&candidates, temperature);
        let mut rest = self.next_unit() * weights.iter().sum::<f64>();
        let hit = weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        let picked = hit.and_then(|at| candidates.get(at)).or(candidates.first());
        let picked = picked.map(|(_, token)| *token);
        self.candidates = candidates;
        picked
    }

    /// The next number from 0 up to 1, after SplitMix64.
    fn next_unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Logits of which the greatest says whether the others can be among the likeliest.
const RUN: usize = 64;

/// A number below which none of the `count` greatest logits is: so many runs of logits hold one at least as
/// great. There are a hundred thousand logits and more, of which few need be sorted.
fn bound(logits: &[f32], count: usize) -> f32 {
    let runs = logits.chunks(RUN).filter_map(|run| greatest(run).map(|(_, greatest)| greatest));
    let mut runs: Vec<f32> = if count == 0 { Vec::new() } else { runs.collect() };
    if count == 0 || count > runs.len() {
        return f32::NEG_INFINITY;
    }
    *runs.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
}

/// What the likelihood of each is in proportion to; the first is the likeliest.
fn weights(candidates: &[(f32, u32)], temperature: f32) -> Vec<f64> {
    let greatest = candidates.first().map_or(0.0, |best| best.0);
    let weight = |logit: f32| {
        // An infinite logit leaves nothing to the others.
        if logit == greatest { 1.0 } else { f64::from((logit - greatest) / temperature).exp() }
    };
    candidates.iter().map(|(logit, _)| weight(*logit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(options: SampleOptions, logits: &[f32], throws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options);
        let mut counts = vec![0; logits.len()];
        (0..throws).for_each(|_| counts[sampler.pick(logits).unwrap() as usize] += 1);
        counts
    }

    const ALL: SampleOptions = SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 7 };

    #[test]
    fn greedy_picks_the_first_of_the_likeliest() {
        let mut sampler = Sampler::new(SampleOptions { temperature: 0.0, ..ALL });
        assert_eq!(sampler.pick(&[1.0, 3.0, f32::NAN, 3.0]), Some(1));
        assert_eq!(sampler.pick(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(sampler.pick(&[]), None);
        assert_eq!(Sampler::new(ALL).pick(&[]), None);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let logits = [4f32.ln(), 0.0, 3f32.ln(), f32::NEG_INFINITY, f32::NAN];
        let found = counts(ALL, &logits, 8000);
        for (count, expected) in found.iter().zip([4000usize, 1000, 3000, 0, 0]) {
            assert!(count.abs_diff(expected) <= 200, "{found:?}");
        }
        let cold = counts(SampleOptions { temperature: 0.5, ..ALL }, &logits, 2600);
        assert!(cold[0].abs_diff(1600) <= 120 && cold[1].abs_diff(100) <= 40, "{cold:?}");
    }

    #[test]
    fn unlikely_tokens_are_left_out() {
        let logits = [4f32.ln(), 0.0, 3f32.ln()];
        assert_eq!(counts(SampleOptions { top_k: 2, ..ALL }, &logits, 500)[1], 0);
        assert_eq!(counts(SampleOptions { top_k: 1, ..ALL }, &logits, 50), [50, 0, 0]);
        assert_eq!(counts(SampleOptions { top_p: 0.8, ..ALL }, &logits, 500)[1], 0);
        assert_eq!(counts(SampleOptions { top_p: 0.0, ..ALL }, &logits, 50), [50, 0, 0]);
        assert!(counts(SampleOptions { top_p: 0.9, ..ALL }, &logits, 500)[1] > 0);
    }

    #[test]
    fn the_likeliest_are_the_same_however_they_are_found() {
        let logits: Vec<f32> = (0..5000u32).map(|i| (i * 7919 % 1009) as f32 / 100.0).collect();
        let odd = logits.iter().enumerate().map(|(i, v)| match i % 97 {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            _ => *v,
        });
        for logits in [odd.collect(), logits] {
            for top_k in [1, 40, 79, 80, 4999] {
                let least = bound(&logits, top_k);
                let mut sorted: Vec<f32> = logits.iter().copied().filter(|v| !v.is_nan()).collect();
                sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                assert!(sorted[top_k.min(sorted.len()) - 1] >= least, "{top_k}");
            }
        }
        assert_eq!(bound(&[1.0; 10], 2), f32::NEG_INFINITY);
    }

    #[test]
    fn a_seed_tells_all_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(SampleOptions { seed, ..ALL });
            (0..20).map(|_| sampler.pick(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn an_infinite_logit_wins() {
        assert_eq!(counts(ALL, &[0.0, f32::INFINITY], 20), [0, 20]);
    }
}
