//! The attention part of a layer.

use std::sync::Arc;

use gguf_model::HeadNorm;

use super::{
    attend::Attend,
    cache::LayerCache,
    latent::Latent,
    matrix::Matrix,
    norm::Norm,
    projected::{Place, Projected},
    runner::Runner,
    sight::{Distances, Sight},
    split::{self, split_rows},
    watch::Watch,
};
use crate::Result;

/// The weights of attention, and how they are used.
pub(crate) struct Attention {
    pub(crate) projection: Projection,
    pub(crate) output: Matrix,
    /// Heads of queries, and of keys and values as they are cached.
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Values of a head's key and of its value, as they are cached.
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) head_norm: HeadNorm,
    pub(crate) query_norm: Option<Norm>,
    pub(crate) key_norm: Option<Norm>,
    pub(crate) value_norm: Option<Norm>,
    /// Whether behind each query is a gate for the head's result.
    pub(crate) is_gated: bool,
    /// Makes such gates, where they are not behind the queries.
    pub(crate) gate: Option<Matrix>,
    /// The layer whose keys and values it uses, if it has none.
    pub(crate) lender: Option<usize>,
    pub(crate) sinks: Option<Vec<f32>>,
    pub(crate) slopes: Option<Vec<f32>>,
    pub(crate) distances: Option<Arc<Distances>>,
    pub(crate) scale: f32,
    pub(crate) cap: f32,
    pub(crate) sight: Sight,
    pub(crate) temperature: Option<Temperature>,
    /// Which of the model's ropes turns it.
    pub(crate) rope: Option<usize>,
    /// Queries, keys and values are held to this magnitude; 0 is none.
    pub(crate) clamp: f32,
}

/// What makes queries, keys and values.
#[allow(clippy::large_enum_variant, reason = "there are as many as layers")]
pub(crate) enum Projection {
    /// One matrix for all three.
    Fused(Matrix),
    /// One for each; values may be the keys.
    Apart { query: Matrix, key: Matrix, value: Option<Matrix> },
    /// Queries alone: another layer has the keys and values.
    Query(Matrix),
    /// Keys and values are compressed to a few values for all heads.
    Latent(Box<Latent>),
}

/// Queries grow with their position.
#[derive(Clone, Copy)]
pub(crate) struct Temperature {
    /// Positions after which they grow by a step.
    pub(crate) length: usize,
    pub(crate) scale: f32,
    /// What is added to the position.
    pub(crate) offset: usize,
}

impl Attention {
    /// Heads of the cache, and values of their keys and values.
    pub(crate) fn cached(&self) -> (usize, usize, usize) {
        (self.kv_heads, self.key, self.value)
    }

    /// The result for the tokens from `place.needed` on. Their keys and values go into the cache.
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        cache: &mut LayerCache,
        place: &Place<'_>,
        x: &[f32],
    ) -> Result<Vec<f32>> {
        let Projected { mut queries, keys, values, gates } =
            self.project(runner, watch, place, x)?;
        let width = self.heads * self.key;
        if let Some(temperature) = self.temperature {
            for (i, row) in queries.chunks_exact_mut(width).enumerate() {
                let position = place.first + i + temperature.offset;
                let step = (position / temperature.length.max(1) + 1) as f32;
                let scale = step.ln() * temperature.scale + 1.0;
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
        if self.lender.is_none() {
            cache.store(runner, place.first, &keys, &values);
        }
        let needed = place.count - place.needed;
        let mut attended = vec![0.0; needed * self.heads * self.value];
        let attend = Attend {
            heads: self.heads,
            scale: self.scale,
            cap: self.cap,
            sight: self.sight,
            slopes: self.slopes.as_deref(),
            distances: self.distances.as_deref(),
            sinks: self.sinks.as_deref(),
        };
        let queries = queries.get(place.needed * width..).unwrap_or_default();
        let (first, all) = (place.first + place.needed, place.first + place.count);
        attend.run(runner, cache, queries, first, all, &mut attended);
        if let Projection::Latent(latent) = &self.projection {
            attended = latent.restore(runner, watch, attended)?;
        }
        if !gates.is_empty() {
            let width = self.heads * self.value;
            let gates = gates.get(place.needed * width..).unwrap_or_default();
            split::rows(runner.threads, &mut attended, width, &|first, attended| {
                let gates = gates.get(first * width..).unwrap_or_default();
                attended.iter_mut().zip(gates).for_each(|(v, gate)| *v /= 1.0 + (-gate).exp());
            });
        }
        watch.input(&self.output, &attended);
        self.output.times(runner, &attended, needed)
    }

    /// Queries, keys and values, normalized and turned.
    fn project(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        place: &Place<'_>,
        x: &[f32],
    ) -> Result<Projected> {
        let n = place.count;
        let mut projected = match &self.projection {
            Projection::Latent(latent) => return latent.project(runner, watch, place, x),
            Projection::Fused(matrix) => {
                watch.input(matrix, x);
                let all = matrix.times(runner, x, n)?;
                let (keys, values) = (self.kv_heads * self.key, self.kv_heads * self.value);
                let widths = [matrix.rows.saturating_sub(keys + values), keys, values];
                let [queries, keys, values] = split_rows(runner.threads, &all, matrix.rows, widths);
                Projected { queries, keys, values, gates: Vec::new() }
            }
            Projection::Apart { query, key, value } => {
                let three = [Some(query), Some(key), value.as_ref()];
                watch.inputs(&three.into_iter().flatten().collect::<Vec<_>>(), x);
                let (queries, keys) = (query.times(runner, x, n)?, key.times(runner, x, n)?);
                let values = match value {
                    Some(value) => value.times(runner, x, n)?,
                    None => keys.clone(),
                };
                Projected { queries, keys, values, gates: Vec::new() }
            }
            Projection::Query(query) => {
                watch.input(query, x);
                let queries = query.times(runner, x, n)?;
                Projected { queries, keys: Vec::new(), values: Vec::new(), gates: Vec::new() }
            }
        };
        let Projected { queries, keys, values, gates } = &mut projected;
        if self.is_gated {
            [*queries, *gates] = split_rows(runner.threads, queries, 2 * self.key, [self.key; 2]);
        }
        if let Some(gate) = &self.gate {
            watch.input(gate, x);
            *gates = gate.times(runner, x, n)?;
        }
        if let Some(norm) = &self.value_norm {
            norm.apply(runner, values, self.value);
        }
        if self.clamp > 0.0 {
            for values in [&mut *queries, &mut *keys, &mut *values] {
                values.iter_mut().for_each(|v| *v = v.clamp(-self.clamp, self.clamp));
            }
        }
        let (query_width, key_width) = (self.heads * self.key, self.kv_heads * self.key);
        let norms = |queries: &mut [f32], keys: &mut [f32]| {
            let width = |all| if self.head_norm == HeadNorm::Whole { all } else { self.key };
            if let Some(norm) = &self.query_norm {
                norm.apply(runner, queries, width(query_width));
            }
            if let Some(norm) = &self.key_norm {
                norm.apply(runner, keys, width(key_width));
            }
        };
        if self.head_norm != HeadNorm::EachTurned {
            norms(queries, keys);
        }
        if let Some(turns) = place.turns {
            turns.apply(runner, queries, query_width, self.key, 0);
            turns.apply(runner, keys, key_width, self.key, 0);
        }
        if self.head_norm == HeadNorm::EachTurned {
            norms(queries, keys);
        }
        Ok(projected)
    }
}
