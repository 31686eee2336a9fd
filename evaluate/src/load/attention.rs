//! The attention part of a layer.

use gguf_io::metadata::Value;
use gguf_model::{AttentionKind, Dimension, HeadNorm, ScoreScale, Windows};

use super::{Loader, ropes::strength};
use crate::{
    Result,
    run::{
        attention::{Attention, Projection, Temperature},
        latent::{Latent, Up},
        sight::Sight,
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
    /// `None` if the layer has none.
    pub(super) fn attention(&mut self, layer: u32, prefix: &str) -> Result<Option<Attention>> {
        let named = |name: &str| format!("{prefix}{name}");
        let has = |name: &str| self.tensors.has(&named(name));
        let output = match (has("attn_output.weight"), has("attn_o.weight")) {
            // Delta attention, and a matrix in the place of attention, have an output of that name too.
            _ if has("ssm_conv1d_q.weight") => return Ok(None),
            _ if self.parameters.dimension_in(Dimension::KvHeads, Some(layer)) == Some(0) => {
                return Ok(None);
            }
            (true, _) => "attn_output",
            (false, true) => "attn_o",
            (false, false) => return Ok(None),
        };
        let facts = self.forward.attention;
        let heads = self.size_in(Dimension::Heads, Some(layer))?;
        let lender = self.lender(layer)?;
        let Made { projection, kv_heads, key, value, scale } = match facts.kind {
            AttentionKind::Heads => self.heads(layer, prefix, heads, lender)?,
            AttentionKind::Latent => self.latent(prefix, heads)?,
        };
        let output = self.matrix(&named(output), self.size(Dimension::Embedding)?)?;
        let attended = match &projection {
            Projection::Latent(latent) => heads * latent.value,
            _ => heads * value,
        };
        self.expect_columns(&output, attended)?;
        let gate = match facts.kind {
            AttentionKind::Heads => self.tensors.matrix(&named("attn_gate"))?,
            AttentionKind::Latent => None,
        };
        if let Some(gate) = &gate {
            self.expect(gate, attended)?;
        }
        let window = self.window(layer);
        let causal = self.keys.flag("attention.causal").unwrap_or(facts.causal);
        let sight = match window {
            None if causal => Sight::Before(usize::MAX),
            None => Sight::Around(usize::MAX),
            Some((windows, width)) if windows.symmetric => Sight::Around(width / 2),
            Some((windows, width)) if windows.chunked && causal => Sight::Chunk(width),
            Some((_, width)) if causal => Sight::Before(width),
            Some((_, width)) => Sight::Around(width.saturating_sub(1)),
        };
        let given = self.keys.float("attention.scale").filter(|scale| *scale != 0.0);
        let rope = self.rope(layer, window.map(|(windows, _)| windows).as_ref())?;
        let (head_norm, query_norm, key_norm) = match facts.head_norm {
            HeadNorm::PlainTurned { but_for_experts } => {
                let experts = self.parameters.dimension(Dimension::Experts);
                let has = rope.is_some() && experts != Some(but_for_experts.into());
                let norm = || has.then(|| self.plain_norm());
                (HeadNorm::EachTurned, norm(), norm())
            }
            other => {
                let key_norm = match lender {
                    None => self.norm_named(&named("attn_k_norm"))?,
                    Some(_) => None,
                };
                (other, self.norm_named(&named("attn_q_norm"))?, key_norm)
            }
        };
        Ok(Some(Attention {
            projection,
            output,
            heads,
            kv_heads,
            key,
            value,
            head_norm,
            query_norm,
            key_norm,
            value_norm: facts.value_norm.then(|| self.plain_norm()),
            is_gated: facts.gated,
            gate,
            lender,
            sinks: self.tensors.values(&named("attn_sinks.weight"))?,
            slopes: self.slopes(heads),
            distances: self.distances(prefix, heads)?,
            scale: given.unwrap_or(scale),
            cap: facts.cap.map_or(0.0, |(key, default)| self.keys.float(key).unwrap_or(default)),
            sight,
            temperature: self.temperature(rope.is_some()),
            rope,
            clamp: self.keys.float("attention.clamp_kqv").unwrap_or(0.0),
        }))
    }

    fn temperature(&self, is_turned: bool) -> Option<Temperature> {
        let facts = self.forward.attention.temperature;
        if facts.is_some_and(|facts| facts.unturned && is_turned) {
            return None;
        }
        let scale = self.keys.float("attention.temperature_scale");
        let scale = scale.or(facts.map(|facts| facts.scale)).filter(|scale| *scale != 0.0)?;
        let length = self.keys.number("attention.temperature_length");
        let length = length.or(facts.map(|facts| facts.length as usize));
        Some(Temperature {
            length: length.unwrap_or_else(|| self.original_context()),
            scale,
            offset: facts.map_or(0, |facts| facts.offset as usize),
        })
    }

    /// The layer whose keys and values this one uses: the last of its kind that has its own.
    fn lender(&self, layer: u32) -> Result<Option<usize>> {
        let shared = self.keys.number("attention.shared_kv_layers").unwrap_or(0);
        let owners = (self.parameters.layers as usize).saturating_sub(shared) as u32;
        if layer < owners {
            return Ok(None);
        }
        let is_windowed = self.window(layer).is_some();
        let lender = (0..owners).rev().find(|other| self.window(*other).is_some() == is_windowed);
        lender.map(|lender| Some(lender as usize)).ok_or_else(|| {
            self.keys.wrong(format!(
                "layer {layer} has no keys, and no layer of its kind before it has any"
            ))
        })
    }

    /// Values of a key and of a value of each head.
    fn head(&self, layer: u32) -> Result<(usize, usize)> {
        let own = |dimension| self.parameters.dimension(dimension).filter(|n| *n > 0);
        let sliding = self.window(layer).is_some();
        let size = |sliding_size, size| match own(sliding_size).filter(|_| sliding) {
            Some(_) => self.size(sliding_size),
            None => self.size(size),
        };
        Ok((
            size(Dimension::SlidingKey, Dimension::Key)?,
            size(Dimension::SlidingValue, Dimension::Value)?,
        ))
    }

    /// Ordinary heads.
    fn heads(
        &mut self,
        layer: u32,
        prefix: &str,
        heads: usize,
        lender: Option<usize>,
    ) -> Result<Made> {
        let named = |name: &str| format!("{prefix}{name}");
        let kv_heads = self.size_in(Dimension::KvHeads, Some(layer))?;
        let (key, value) = self.head(layer)?;
        // A query may have its gate behind it.
        let query = if self.forward.attention.gated { 2 * key } else { key };
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.keys.wrong(format!(
                "layer {layer} has {heads} heads of queries, expected a multiple of the {kv_heads} \
                 heads of keys"
            )));
        }
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
                self.expect(&fused, query * heads + (key + value) * kv_heads)?;
                Projection::Fused(fused)
            }
            None if lender.is_some() => {
                // These may be in the file all the same.
                for name in ["attn_k.weight", "attn_k_norm.weight", "attn_v.weight"] {
                    self.tensors.find(&named(name));
                }
                Projection::Query(self.matrix(&named("attn_q"), query * heads)?)
            }
            None => Projection::Apart {
                query: self.matrix(&named("attn_q"), query * heads)?,
                key: self.matrix(&named("attn_k"), key * kv_heads)?,
                value: match self.tensors.matrix(&named("attn_v"))? {
                    Some(matrix) => {
                        self.expect(&matrix, value * kv_heads)?;
                        Some(matrix)
                    }
                    // The description says where values may be the keys.
                    None if key == value => None,
                    None => return Err(self.missing(&named("attn_v"))),
                },
            },
        };
        let per_head = match self.forward.attention.scale {
            ScoreScale::EmbeddingPerHead { layers } if layers == self.parameters.layers => {
                self.size(Dimension::Embedding)? / heads
            }
            ScoreScale::EmbeddingPerHead { .. } | ScoreScale::Head => key,
            ScoreScale::One => 1,
        };
        Ok(Made { projection, kv_heads, key, value, scale: 1.0 / (per_head as f32).sqrt() })
    }

    /// Compressed keys and values.
    fn latent(&mut self, prefix: &str, heads: usize) -> Result<Made> {
        let named = |name: &str| format!("{prefix}{name}");
        let (rank, turned) = (self.size(Dimension::KvRank)?, self.size(Dimension::Rotary)?);
        let (whole, value) = (self.size(Dimension::LatentKey)?, self.size(Dimension::LatentValue)?);
        let still = whole.checked_sub(turned).filter(|still| *still > 0).ok_or_else(|| {
            self.keys.wrong(format!("RoPE turns {turned} values of keys that have {whole}"))
        })?;
        let query_down = match self.tensors.matrix(&named("attn_q_a"))? {
            None => None,
            Some(down) => {
                let norm = self.norm_named(&named("attn_q_a_norm"))?;
                Some((down, norm.ok_or_else(|| self.missing(&named("attn_q_a_norm")))?))
            }
        };
        let name = if query_down.is_some() { "attn_q_b" } else { "attn_q" };
        let query = self.matrix(&named(name), heads * whole)?;
        let down = self.matrix(&named("attn_kv_a_mqa"), rank + turned)?;
        let norm = self.norm_named(&named("attn_kv_a_norm"))?;
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
        let width = match self.keys.number("attention.sliding_window") {
            Some(width) => width,
            None if [0, self.parameters.layers].contains(&windows.layers) => {
                windows.default as usize
            }
            None => 0,
        };
        (width > 0).then_some((windows, width))
    }

    /// The window of a layer and its width.
    pub(super) fn window(&self, layer: u32) -> Option<(Windows, usize)> {
        let (windows, width) = self.windows()?;
        let at = layer as usize;
        let every = |period: u32| match period {
            0 => true,
            _ if windows.whole_first => !layer.is_multiple_of(period),
            _ => layer % period < period - 1,
        };
        let pattern = "attention.sliding_window_pattern";
        let is_windowed = match self.keys.get(pattern) {
            Some(Value::Array(_)) => self.keys.flag_at(pattern, at).unwrap_or(false),
            Some(value) => every(value.as_u64().map_or(windows.period, |n| n as u32)),
            None => every(windows.period),
        };
        is_windowed.then_some((windows, width))
    }
}
