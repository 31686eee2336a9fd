//! Experts: which of them a token passes, and what they make of it.

use gguf_model::Gate;

use super::{
    Function,
    matrix::Matrix,
    mlp::{Gating, Mlp},
    runner::Runner,
    split,
    watch::Watch,
};
use crate::Result;

/// The experts of a layer.
pub(crate) struct Experts {
    pub(crate) router: Matrix,
    pub(crate) routing: Router,
    pub(crate) up: Matrix,
    pub(crate) gate: Gating,
    pub(crate) down: Matrix,
    pub(crate) function: Function,
    /// What compresses tokens for the experts, and restores their results.
    pub(crate) latent: Option<(Matrix, Matrix)>,
    /// What all tokens pass.
    pub(crate) shared: Option<Mlp>,
    /// What weighs that.
    pub(crate) shared_gate: Option<Matrix>,
}

/// How experts are chosen.
pub(crate) struct Router {
    /// How many a token passes.
    pub(crate) used: usize,
    pub(crate) gate: Gate,
    /// Added to the weights for the choice alone.
    pub(crate) selection_bias: Option<Vec<f32>>,
    /// Groups of experts, and how many of them a token may use.
    pub(crate) groups: usize,
    pub(crate) groups_used: usize,
    pub(crate) normalized: bool,
    pub(crate) scale: f32,
    /// Whether the weight of an expert multiplies what goes into it; else what comes out.
    pub(crate) weighs_inputs: bool,
    /// Whether experts and shared experts are averaged; else added up.
    pub(crate) averaged: bool,
    /// Whether the router works on the layer's input; else on what the experts get.
    pub(crate) routes_layer_input: bool,
}

/// Tokens whose experts one thread chooses before another could begin.
const ROWS: usize = 16;

impl Router {
    /// The experts of some tokens and their weights, from the router's results: a row of `experts` each.
    fn choose_all(
        &self,
        runner: Runner<'_>,
        results: &mut [f32],
        experts: usize,
        (ids, weights): (&mut [u32], &mut [f32]),
    ) {
        let rows = (results.len() / experts.max(1)).max(1);
        let per_piece = rows.div_ceil(4 * runner.threads.threads().max(1)).max(ROWS);
        let ids = ids.chunks_mut(per_piece * self.used);
        let weights = weights.chunks_mut(per_piece * self.used);
        let pieces = results.chunks_mut(per_piece * experts).zip(ids.zip(weights));
        split::pieces(runner.threads, pieces, &|(results, (ids, weights))| {
            let chosen = ids.chunks_exact_mut(self.used).zip(weights.chunks_exact_mut(self.used));
            for (results, (ids, weights)) in results.chunks_exact_mut(experts).zip(chosen) {
                self.choose(results, ids, weights);
            }
        });
    }

    /// The experts of a token and their weights, from the router's results.
    fn choose(&self, results: &mut [f32], ids: &mut [u32], weights: &mut [f32]) {
        match self.gate {
            Gate::Softmax => softmax(results),
            Gate::Sigmoid => results.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Gate::SoftmaxOfChosen => {}
        }
        let mut scores = results.to_vec();
        if let Some(bias) = &self.selection_bias {
            scores.iter_mut().zip(bias).for_each(|(score, b)| *score += b);
        }
        if self.groups > 1 {
            self.leave_groups(&mut scores);
        }
        let chosen = ids.iter_mut().zip(&mut *weights);
        for (expert, (id, weight)) in best(&scores, self.used).into_iter().zip(chosen) {
            *id = expert as u32;
            *weight = results.get(expert).copied().unwrap_or(0.0);
        }
        if self.gate == Gate::SoftmaxOfChosen {
            softmax(weights);
        }
        if self.normalized {
            // The smallest normal number of half precision, as llama.cpp has it.
            let sum = weights.iter().sum::<f32>().max(6.103_515_6e-5);
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        weights.iter_mut().for_each(|w| *w *= self.scale);
    }

    /// Hides the groups whose two best experts are not among the best.
    fn leave_groups(&self, scores: &mut [f32]) {
        let size = scores.len() / self.groups;
        let sums: Vec<f32> = scores
            .chunks_exact(size.max(1))
            .map(|group| best(group, 2).into_iter().filter_map(|i| group.get(i)).sum())
            .collect();
        let kept = best(&sums, self.groups_used);
        for (i, group) in scores.chunks_mut(size.max(1)).enumerate() {
            if !kept.contains(&i) {
                group.fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// The indices of the highest values, highest first; of equal ones the first.
fn best(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..values.len()).collect();
    let key = |i: &usize| values.get(*i).copied().unwrap_or(f32::NEG_INFINITY);
    let better = |a: &usize, b: &usize| key(b).total_cmp(&key(a)).then(a.cmp(b));
    if count < order.len() {
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable_by(better);
    order
}

fn softmax(values: &mut [f32]) {
    let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|v| *v = (*v - highest).exp());
    let sum = values.iter().sum::<f32>();
    values.iter_mut().for_each(|v| *v /= sum);
}

impl Experts {
    /// `routed` is what the router works on.
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        x: &[f32],
        routed: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        watch.input(&self.router, routed);
        let mut results = self.router.times(runner, routed, n)?;
        let used = self.routing.used;
        let (mut ids, mut weights) = (vec![0; n * used], vec![0.0; n * used]);
        self.routing.choose_all(runner, &mut results, self.router.rows, (&mut ids, &mut weights));
        let compressed = match &self.latent {
            Some((down, _)) => {
                watch.input(down, x);
                Some(down.times(runner, x, n)?)
            }
            None => None,
        };
        let mut input = compressed.as_deref().unwrap_or(x);
        // Of each row so many ids are.
        let mut per_row = used;
        let weighed: Vec<f32>;
        if self.routing.weighs_inputs {
            let rows = input.chunks_exact(self.up.columns).zip(weights.chunks_exact(used));
            weighed = rows
                .flat_map(|(row, weights)| {
                    weights.iter().flat_map(move |weight| row.iter().map(move |v| v * weight))
                })
                .collect();
            (input, per_row) = (&weighed, 1);
            weights.fill(1.0);
        }
        match &self.gate {
            Gating::By(gate) => watch.expert_inputs(&[&self.up, gate], input, &ids, per_row),
            Gating::None | Gating::InUp => {
                watch.expert_inputs(&[&self.up], input, &ids, per_row);
            }
        }
        let mut hidden = self.up.times_experts(runner, input, &ids, per_row)?;
        match &self.gate {
            Gating::None => self.function.apply(runner, &mut hidden, None),
            Gating::InUp => {
                hidden = self.function.apply_halves(runner, &hidden, self.up.rows);
            }
            Gating::By(matrix) => {
                let mut gate = matrix.times_experts(runner, input, &ids, per_row)?;
                self.function.apply(runner, &mut gate, Some(&hidden));
                hidden = gate;
            }
        }
        watch.expert_inputs(&[&self.down], &hidden, &ids, 1);
        let results = self.down.times_experts(runner, &hidden, &ids, 1)?;
        let width = self.down.rows;
        let mut out = vec![0.0; n * width];
        split::rows(runner.threads, &mut out, width, &|first, out| {
            let tokens = results.chunks_exact(used * width).zip(weights.chunks_exact(used));
            let rows = out.chunks_exact_mut(width).zip(tokens.skip(first));
            for (out, (results, weights)) in rows {
                for (result, weight) in results.chunks_exact(width).zip(weights) {
                    out.iter_mut().zip(result).for_each(|(out, v)| *out += weight * v);
                }
            }
        });
        if let Some((_, up)) = &self.latent {
            watch.input(up, &out);
            out = up.times(runner, &out, n)?;
        }
        if let Some(shared) = &self.shared {
            let result = shared.run(runner, watch, x, n)?;
            let gates = match &self.shared_gate {
                Some(gate) => {
                    watch.input(gate, x);
                    gate.times(runner, x, n)?
                }
                None => Vec::new(),
            };
            let width = shared.down.rows;
            let share = if self.routing.averaged { 0.5 } else { 1.0 };
            split::rows(runner.threads, &mut out, width, &|first, out| {
                let rows = out.chunks_exact_mut(width).zip(result.chunks_exact(width).skip(first));
                for (i, (out, result)) in rows.enumerate() {
                    let weight =
                        gates.get(first + i).map_or(1.0, |gate| 1.0 / (1.0 + (-gate).exp()));
                    out.iter_mut()
                        .zip(result)
                        .for_each(|(out, v)| *out = (*out + weight * v) * share);
                }
            });
        }
        Ok(out)
    }
}
