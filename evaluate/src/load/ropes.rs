//! How positions enter: RoPE and ALiBi.

use std::sync::Arc;

use gguf_model::{Alibi, AttentionKind, Dimension, Rope as Pairing, TurnedLayers, Windows};

use super::Loader;
use crate::{
    Result,
    run::{
        rope::{Rope, Scaling, angles},
        sight::Distances,
    },
};

/// `1 + 0.1 · m · ln(factor)`, by which YaRN strengthens attention.
pub(super) fn strength(factor: f32, m: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

impl Loader<'_> {
    /// The rope of a layer, as an index: `None` where it has none.
    pub(super) fn rope(&mut self, layer: u32, window: Option<&Windows>) -> Result<Option<usize>> {
        let pairing = self.architecture.graph.rope;
        if pairing == Pairing::None {
            // A file may hold factors all the same.
            for name in ["rope_freqs", "rope_factors_short", "rope_factors_long"] {
                self.tensors.find(&format!("{name}.weight"));
            }
            return Ok(None);
        }
        let turned = match self.forward.attention.turned {
            TurnedLayers::Windowed => window.is_some() || self.windows().is_none(),
            TurnedLayers::AllBut(n) => !(layer + 1).is_multiple_of(n.max(1)),
            TurnedLayers::WindowedOrLeading => {
                window.is_some() || layer < self.parameters.leading_layers
            }
            TurnedLayers::InModelsOf(layers) => self.parameters.layers == layers,
            TurnedLayers::If(key) => self.keys.flag(key).unwrap_or(true),
            TurnedLayers::All => true,
        };
        let mut dimensions = self.parameters.dimension(Dimension::Rotary).unwrap_or(0) as usize;
        if let Some(own) = self.keys.number("rope.dimension_count_swa").filter(|_| window.is_some())
        {
            dimensions = own;
        }
        let is_listed = self.keys.flag_at("attention.rope_pattern", layer as usize).unwrap_or(true);
        if !turned || !is_listed || dimensions < 2 {
            return Ok(None);
        }
        let keys = self.keys;
        let mut base = keys.float("rope.freq_base").unwrap_or(10_000.0);
        let kind = keys.text("rope.scaling.type").unwrap_or("linear");
        let factor = keys.float("rope.scaling.factor").or_else(|| keys.float("rope.scale_linear"));
        let mut factor = factor.filter(|f| *f != 0.0 && kind != "none").unwrap_or(1.0);
        let mut is_yarn = kind == "yarn";
        if let Some(window) = window {
            base = keys.float("rope.freq_base_swa").or(window.base).unwrap_or(base);
            if !window.scaled {
                (factor, is_yarn) = (1.0, false);
            }
        }
        // Longer texts by a larger base.
        if let Some(alpha) = keys.float("rope.scaling.alpha").filter(|alpha| *alpha > 0.0) {
            let width = dimensions as f32;
            base *= alpha.powf(width / (width - 2.0).max(1.0));
        }
        let trained = keys.number("context_length").unwrap_or(0);
        let original_context =
            keys.number("rope.scaling.original_context_length").unwrap_or(trained);
        let scaling = match is_yarn {
            false => Scaling::Linear,
            true => Scaling::Yarn {
                original_context: original_context as f64,
                beta_fast: f64::from(keys.float("rope.scaling.yarn_beta_fast").unwrap_or(32.0)),
                beta_slow: f64::from(keys.float("rope.scaling.yarn_beta_slow").unwrap_or(1.0)),
            },
        };
        let mut magnitude = keys.float("rope.scaling.attn_factor").unwrap_or(1.0);
        if is_yarn {
            let log = keys.float("rope.scaling.yarn_log_multiplier").filter(|m| *m != 0.0);
            magnitude *= match (self.forward.attention.kind, log) {
                // All scores are strengthened instead.
                (AttentionKind::Latent, Some(_)) => 1.0,
                (AttentionKind::Heads, Some(m)) => strength(factor, 1.0) / strength(factor, m),
                (_, None) => strength(factor, 1.0),
            };
        }
        let mut divisors = self.tensors.values("rope_freqs.weight")?;
        if window.is_some_and(|window| !window.scaled) {
            divisors = None;
        }
        let short = self.tensors.values("rope_factors_short.weight")?;
        let long = self.tensors.values("rope_factors_long.weight")?;
        let of = |divisors: Option<&[f32]>| angles(dimensions, base, factor, scaling, divisors);
        let rope = Rope {
            neighbours: Rope::is_neighbours(pairing) && !self.has_halves(),
            angles: of(divisors.as_deref().or(short.as_deref())),
            long_angles: match (&divisors, long) {
                (None, Some(long)) => Some(of(Some(&long))),
                _ => None,
            },
            original_context,
            magnitude,
        };
        let known = self.ropes.iter().position(|known| *known == rope);
        Ok(Some(known.unwrap_or_else(|| {
            self.ropes.push(rope);
            self.ropes.len() - 1
        })))
    }

    /// Whether pairs are not those of the description, as in models that see.
    fn has_halves(&self) -> bool {
        let sections = self.keys.get("rope.dimension_sections");
        self.forward.attention.halves_with_sections && sections.is_some()
    }

    /// Tokens that the model was trained to see before it was stretched.
    pub(super) fn original_context(&self) -> usize {
        let key = self.keys.number("rope.scaling.original_context_length");
        key.or_else(|| self.keys.number("context_length")).unwrap_or(0)
    }

    /// What is added to each head's scores by the distance. Layers without a table of their own use that
    /// of the first.
    pub(super) fn distances(
        &mut self,
        prefix: &str,
        heads: usize,
    ) -> Result<Option<Arc<Distances>>> {
        let mut name = format!("{prefix}attn_rel_b.weight");
        if !self.tensors.has(&name) {
            name = format!("{}.0.attn_rel_b.weight", self.forward.layers);
        }
        let Some(table) = self.tensors.values(&name)? else { return Ok(None) };
        let buckets = table.len() / heads;
        if buckets < 4 || !buckets.is_multiple_of(4) || buckets * heads != table.len() {
            return Err(self.keys.wrong(format!(
                "tensor {name} has {} values, expected a multiple of four for each of {heads} heads",
                table.len()
            )));
        }
        Ok(Some(Arc::new(Distances::new(heads, &table))))
    }

    /// What each head's scores lose for a token of distance.
    pub(super) fn slopes(&self, heads: usize) -> Option<Vec<f32>> {
        let largest = match self.forward.alibi {
            Alibi::Always(largest) => largest,
            Alibi::Key(key) => self.keys.float(key).unwrap_or(0.0),
            Alibi::InModelsOf { layers, largest } if layers == self.parameters.layers => largest,
            Alibi::InModelsOf { .. } => 0.0,
            Alibi::None => 0.0,
        };
        if largest <= 0.0 || heads == 0 {
            return None;
        }
        // A power of two of heads share the bias evenly; the others stand between them.
        let even = 1usize << heads.ilog2();
        let slope = |head: usize| {
            let (exponent, step) = if head < even {
                (head + 1, largest / even as f32)
            } else {
                (2 * (head - even) + 1, largest / 2.0 / even as f32)
            };
            (-step * exponent as f32).exp2()
        };
        Some((0..heads).map(slope).collect())
    }
}
