//! The attention part of a layer.

use gguf_io::metadata::{Array, Value};
use gguf_model::{AttentionKind, Dimension, ScoreScale, Windows};

use super::{Loader, ropes::strength};
use crate::{
    Result,
    run::{
        attend::Sight,
        attention::{Attention, Projection, Temperature},
        latent::{Latent, Up},
    },
};

/// What a projection makes: heads of keys and values, values of a key and of a value.
struct Made {
    projection: Projection,
    kv_heads: usize,
    key: usize,
    value: usize,
    /// What scores are multiplied by, if no key says otherwise.
    scale: f32,
}

impl Loader<'_> {
    pub(super) fn attention(&mut self, layer: u32, prefix: &str) -> Result<Attention> {
        let named = |name: &str| format!("{prefix}{name}");
        let facts = self.forward.attention;
        let heads = self.size_in(Dimension::Heads, Some(layer))?;
        let Made { projection, kv_heads, key, value, scale } = match facts.kind {
            AttentionKind::Heads => self.heads(layer, prefix, heads)?,
            AttentionKind::Latent => self.latent(prefix, heads)?,
        };
        let output = self.matrix(&named("attn_output"), self.size(Dimension::Embedding)?)?;
        let attended = match &projection {
            Projection::Latent(latent) => heads * latent.value,
            _ => heads * value,
        };
        self.expect_columns(&output, attended)?;
        let window = self.window(layer);
        let causal = self.keys.flag("attention.causal").unwrap_or(facts.causal);
        let sight = match window {
            None if causal => Sight::Before(usize::MAX),
            None => Sight::Around(usize::MAX),
            Some((windows, width)) if windows.symmetric => Sight::Around(width / 2),
            Some((_, width)) if causal => Sight::Before(width),
            Some((_, width)) => Sight::Around(width.saturating_sub(1)),
        };
        let (kind, epsilon) = (self.architecture.graph.norm, self.epsilon);
        let given = self.keys.float("attention.scale").filter(|scale| *scale != 0.0);
        let temperature = self.keys.float("attention.temperature_scale").filter(|s| *s != 0.0);
        Ok(Attention {
            projection,
            output,
            heads,
            kv_heads,
            key,
            value,
            head_norm: facts.head_norm,
            query_norm: self.tensors.norm(&named("attn_q_norm"), kind, epsilon)?,
            key_norm: self.tensors.norm(&named("attn_k_norm"), kind, epsilon)?,
            sinks: self.tensors.values(&named("attn_sinks.weight"))?,
            slopes: self.slopes(heads),
            scale: given.unwrap_or(scale),
            cap: facts.cap.map_or(0.0, |(key, default)| self.keys.float(key).unwrap_or(default)),
            sight,
            temperature: temperature.map(|scale| Temperature {
                length: self
                    .keys
                    .number("attention.temperature_length")
                    .unwrap_or_else(|| self.original_context()),
                scale,
            }),
            rope: self.rope(layer, window.map(|(windows, _)| windows).as_ref())?,
            clamp: self.keys.float("attention.clamp_kqv").unwrap_or(0.0),
        })
    }

    /// Ordinary heads.
    fn heads(&mut self, layer: u32, prefix: &str, heads: usize) -> Result<Made> {
        let named = |name: &str| format!("{prefix}{name}");
        let kv_heads = self.size_in(Dimension::KvHeads, Some(layer))?;
        let (key, value) = (self.size(Dimension::Key)?, self.size(Dimension::Value)?);
        let projection = match self.tensors.matrix(&named("attn_qkv"))? {
            Some(mut fused) => {
                // Biases may be apart where the matrix is not.
                if fused.bias.is_none() {
                    let mut all = Vec::new();
                    for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
                        all.extend(self.tensors.values(&named(part))?.unwrap_or_default());
                    }
                    fused.bias = Some(all).filter(|all| !all.is_empty());
                }
                self.expect(&fused, key * heads + (key + value) * kv_heads)?;
                Projection::Fused(fused)
            }
            None => Projection::Apart {
                query: self.matrix(&named("attn_q"), key * heads)?,
                key: self.matrix(&named("attn_k"), key * kv_heads)?,
                value: self.matrix(&named("attn_v"), value * kv_heads)?,
            },
        };
        let per_head = match self.forward.attention.scale {
            ScoreScale::EmbeddingPerHead { layers } if layers == self.parameters.layers => {
                self.size(Dimension::Embedding)? / heads
            }
            ScoreScale::EmbeddingPerHead { .. } | ScoreScale::Head => key,
        };
        Ok(Made { projection, kv_heads, key, value, scale: 1.0 / (per_head as f32).sqrt() })
    }

    /// Compressed keys and values.
    fn latent(&mut self, prefix: &str, heads: usize) -> Result<Made> {
        let named = |name: &str| format!("{prefix}{name}");
        let (kind, epsilon) = (self.architecture.graph.norm, self.epsilon);
        let (rank, turned) = (self.size(Dimension::KvRank)?, self.size(Dimension::Rotary)?);
        let (whole, value) = (self.size(Dimension::LatentKey)?, self.size(Dimension::LatentValue)?);
        let still = whole.checked_sub(turned).filter(|still| *still > 0).ok_or_else(|| {
            self.keys.wrong(format!("RoPE turns {turned} values of keys that have {whole}"))
        })?;
        let query_down = match self.tensors.matrix(&named("attn_q_a"))? {
            None => None,
            Some(down) => {
                let norm = self.tensors.norm(&named("attn_q_a_norm"), kind, epsilon)?;
                Some((down, norm.ok_or_else(|| self.missing(&named("attn_q_a_norm")))?))
            }
        };
        let name = if query_down.is_some() { "attn_q_b" } else { "attn_q" };
        let query = self.matrix(&named(name), heads * whole)?;
        let down = self.matrix(&named("attn_kv_a_mqa"), rank + turned)?;
        let norm = self.tensors.norm(&named("attn_kv_a_norm"), kind, epsilon)?;
        let norm = norm.ok_or_else(|| self.missing(&named("attn_kv_a_norm")))?;
        let (up, kv_heads, key, cached) = match self.tensors.matrix(&named("attn_kv_b"))? {
            Some(both) => {
                self.expect(&both, heads * (still + value))?;
                (Up::Restored(both), heads, whole, value)
            }
            None => {
                let of_key = self.matrix(&named("attn_k_b"), rank)?;
                let of_value = self.matrix(&named("attn_v_b"), value)?;
                (Up::Absorbed { key: of_key, value: of_value }, 1, rank + turned, rank)
            }
        };
        // YaRN strengthens all scores, not only what RoPE turns.
        let mut scale = 1.0 / (whole as f32).sqrt();
        if self.keys.text("rope.scaling.type") == Some("yarn") {
            let factor = self.keys.float("rope.scaling.factor").unwrap_or(1.0);
            let log = self.keys.float("rope.scaling.yarn_log_multiplier").filter(|m| *m != 0.0);
            // The key holds a tenth of the multiplier.
            let by = strength(factor, log.map_or(1.0, |log| log / 0.1))
                * self.keys.float("rope.scaling.attn_factor").unwrap_or(1.0);
            scale *= by * by;
        }
        let latent =
            Latent { query_down, query, down, norm, up, heads, still, turned, rank, value };
        let projection = Projection::Latent(Box::new(latent));
        Ok(Made { projection, kv_heads, key, value: cached, scale })
    }

    /// The windows of the model and their width, if it has any.
    pub(super) fn windows(&self) -> Option<(Windows, usize)> {
        let windows = self.forward.attention.windows?;
        let width =
            self.keys.number("attention.sliding_window").unwrap_or(windows.default as usize);
        let has_them = width > 0 && [0, self.parameters.layers].contains(&windows.layers);
        has_them.then_some((windows, width))
    }

    /// The window of a layer and its width.
    fn window(&self, layer: u32) -> Option<(Windows, usize)> {
        let (windows, width) = self.windows()?;
        let at = layer as usize;
        let every = |period: u32| match period {
            0 => true,
            _ if windows.whole_first => !layer.is_multiple_of(period),
            _ => layer % period < period - 1,
        };
        let is_windowed = match self.keys.get("attention.sliding_window_pattern") {
            Some(Value::Array(Array::Bool(all))) => all.get(at).copied().unwrap_or(false),
            Some(Value::Array(Array::Uint32(all))) => all.get(at).is_some_and(|n| *n != 0),
            Some(Value::Array(Array::Int32(all))) => all.get(at).is_some_and(|n| *n != 0),
            Some(value) => every(value.as_u64().map_or(windows.period, |n| n as u32)),
            None => every(windows.period),
        };
        is_windowed.then_some((windows, width))
    }
}
