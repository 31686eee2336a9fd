//! The recurrent part of a layer. Which kind it is, its tensors tell.

use gguf_model::Dimension as D;

use super::Loader;
use crate::{
    Result,
    run::{
        matrix::Matrix,
        norm::Norm,
        recurrence::{Convolution, Recurrence},
        recurrent::{DeltaNet, KeyedDelta, Rates, Recurrent, ShortConvolution, StateSpace, Steps},
    },
};

impl Loader<'_> {
    /// `None` if the layer has none.
    pub(super) fn recurrent(&mut self, prefix: &str) -> Result<Option<Recurrent>> {
        let has = |name: &str| self.tensors.has(&format!("{prefix}{name}"));
        let is_short = has("shortconv.in_proj.weight");
        let is_state_space = has("ssm_in.weight");
        let is_keyed = has("ssm_conv1d_q.weight");
        let is_delta = has("ssm_ba.weight") || has("ssm_beta.weight");
        let is_linear = has("attn_output.weight")
            && !["attn_q", "attn_q_b", "attn_qkv"]
                .iter()
                .any(|name| has(&format!("{name}.weight")));
        if (is_short || is_state_space || is_keyed || is_delta) && !self.is_causal() {
            return Err(self.keys.wrong(
                "recurrent layers whose tokens see those after them cannot be run here".into(),
            ));
        }
        Ok(Some(if is_short {
            Recurrent::ShortConvolution(Box::new(self.short_convolution(prefix)?))
        } else if is_state_space {
            Recurrent::StateSpace(Box::new(self.state_space(prefix)?))
        } else if is_keyed {
            Recurrent::KeyedDelta(Box::new(self.keyed_delta(prefix)?))
        } else if is_linear {
            let width = self.size(D::Embedding)?;
            let matrix = self.matrix(&format!("{prefix}attn_output"), width)?;
            self.expect_columns(&matrix, width)?;
            Recurrent::Linear(Box::new(matrix))
        } else if is_delta {
            Recurrent::DeltaNet(Box::new(self.delta_net(prefix)?))
        } else {
            return Ok(None);
        }))
    }

    fn short_convolution(&mut self, prefix: &str) -> Result<ShortConvolution> {
        let width = self.size(D::Embedding)?;
        Ok(ShortConvolution {
            input: self.matrix(&format!("{prefix}shortconv.in_proj"), 3 * width)?,
            convolution: self.convolution(
                &format!("{prefix}shortconv.conv"),
                width,
                D::ShortConv,
            )?,
            output: self.matrix(&format!("{prefix}shortconv.out_proj"), width)?,
        })
    }

    fn state_space(&mut self, prefix: &str) -> Result<StateSpace> {
        let named = |name: &str| format!("{prefix}{name}");
        let (inner, keys, rank) =
            (self.size(D::SsmInner)?, self.size(D::SsmState)?, self.size(D::SsmRank)?);
        let is_first = self.tensors.has(&named("ssm_x.weight"));
        // The heads of Mamba have one value each.
        let heads = if is_first { inner } else { rank };
        let groups = if is_first { 1 } else { self.size(D::SsmGroups)? };
        self.divides(heads, inner, D::SsmRank, D::SsmInner)?;
        self.divides(groups, heads, D::SsmGroups, D::SsmRank)?;
        let recurrence = Recurrence {
            heads,
            values: inner / heads,
            keys,
            groups,
            neighbours: true,
            corrects: false,
        };
        let norm_of = |loader: &mut Self, name: &str| {
            loader.tensors.norm(&named(name), gguf_model::Norm::Rms, loader.epsilon)
        };
        let (steps, channels, rows) = if is_first {
            let mut norms = Vec::new();
            for name in ["ssm_dt_norm", "ssm_b_norm", "ssm_c_norm"] {
                norms.extend(norm_of(self, name)?);
            }
            if norms.is_empty() && self.keys.flag("ssm.dt_b_c_rms").unwrap_or(false) {
                norms.extend((0..3).map(|_| self.plain_norm()));
            }
            let all = self.matrix(&named("ssm_x"), rank + 2 * keys)?;
            let up = self.matrix(&named("ssm_dt"), inner)?;
            self.expect_columns(&up, rank)?;
            (Steps::Projected { all, up, norms: norms.try_into().ok() }, inner, 2 * inner)
        } else {
            let bias = self.vector(&named("ssm_dt.bias"), heads)?;
            let channels = inner + 2 * groups * keys;
            (Steps::Input { bias }, channels, inner + channels + heads)
        };
        let of_a = if is_first { heads * keys } else { heads };
        let output = self.matrix(&named("ssm_out"), self.size(D::Embedding)?)?;
        self.expect_columns(&output, inner)?;
        Ok(StateSpace {
            input: self.matrix(&named("ssm_in"), rows)?,
            convolution: self.convolution(&named("ssm_conv1d"), channels, D::SsmConv)?,
            steps,
            recurrence,
            a: self.vector(&named("ssm_a"), of_a)?,
            through: self.vector(&named("ssm_d"), heads)?,
            norm: norm_of(self, "ssm_norm")?,
            output,
        })
    }

    fn delta_net(&mut self, prefix: &str) -> Result<DeltaNet> {
        let named = |name: &str| format!("{prefix}{name}");
        let (inner, keys) = (self.size(D::SsmInner)?, self.size(D::SsmState)?);
        let (heads, groups) = (self.size(D::SsmRank)?, self.size(D::SsmGroups)?);
        self.divides(groups, heads, D::SsmGroups, D::SsmRank)?;
        if heads.checked_mul(keys) != Some(inner) {
            return Err(self.keys.wrong(format!(
                "{0}.ssm.inner_size is {inner}, expected {0}.ssm.state_size {keys} × \
                 {0}.ssm.time_step_rank {heads}: keys and values of a delta net are of one size",
                self.architecture.name
            )));
        }
        let mixed = self.matrix(&named("attn_qkv"), inner + 2 * groups * keys)?;
        // Where both rates come from one matrix, they and the values lie beside the key they share.
        let together = self.tensors.matrix(&named("ssm_ba"))?;
        let neighbours = together.is_some();
        let rates = match together {
            Some(matrix) => {
                self.expect(&matrix, 2 * heads)?;
                Rates::Together(matrix)
            }
            None => Rates::Apart {
                learn: self.matrix(&named("ssm_beta"), heads)?,
                forget: self.matrix(&named("ssm_alpha"), heads)?,
            },
        };
        let norm = self.tensors.norm(&named("ssm_norm"), gguf_model::Norm::Rms, self.epsilon)?;
        let output = self.matrix(&named("ssm_out"), self.size(D::Embedding)?)?;
        self.expect_columns(&output, inner)?;
        Ok(DeltaNet {
            convolution: self.convolution(&named("ssm_conv1d"), mixed.rows, D::SsmConv)?,
            mixed,
            gate: self.matrix(&named("attn_gate"), inner)?,
            rates,
            recurrence: Recurrence {
                heads,
                values: keys,
                keys,
                groups,
                neighbours,
                corrects: true,
            },
            a: self.vector(&named("ssm_a"), heads)?,
            bias: self.vector(&named("ssm_dt.bias"), heads)?,
            epsilon: self.epsilon,
            norm: norm.ok_or_else(|| self.missing(&named("ssm_norm")))?,
            output,
        })
    }

    fn keyed_delta(&mut self, prefix: &str) -> Result<KeyedDelta> {
        let named = |name: &str| format!("{prefix}{name}");
        let (heads, width) = (self.size(D::Heads)?, self.size(D::KdaHead)?);
        let (inner, kernel) = (heads.saturating_mul(width), self.size(D::SsmConv)?);
        let mut weights = Vec::new();
        for name in ["ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"] {
            let len = inner.saturating_mul(kernel);
            weights.extend(self.vector(&format!("{prefix}{name}.weight"), len)?);
        }
        let through = |loader: &mut Self, down: &str, up: &str| -> Result<(Matrix, Matrix)> {
            let down = loader.matrix(&named(down), width)?;
            let up = loader.matrix(&named(up), inner)?;
            loader.expect_columns(&up, width)?;
            Ok((down, up))
        };
        let norm = self.tensors.norm(&named("ssm_norm"), gguf_model::Norm::Rms, self.epsilon)?;
        let output = self.matrix(&named("attn_output"), self.size(D::Embedding)?)?;
        self.expect_columns(&output, inner)?;
        Ok(KeyedDelta {
            mixed: [
                self.matrix(&named("attn_q"), inner)?,
                self.matrix(&named("attn_k"), inner)?,
                self.matrix(&named("attn_v"), inner)?,
            ],
            convolution: Convolution::new(3 * inner, &weights, None),
            recurrence: Recurrence {
                heads,
                values: width,
                keys: width,
                groups: heads,
                neighbours: true,
                corrects: true,
            },
            learn: self.matrix(&named("ssm_beta"), heads)?,
            forget: through(self, "ssm_f_a", "ssm_f_b")?,
            a: self.vector(&named("ssm_a"), heads)?,
            bias: self.vector(&named("ssm_dt.bias"), inner)?,
            gate: through(self, "ssm_g_a", "ssm_g_b")?,
            epsilon: self.epsilon,
            norm: norm.ok_or_else(|| self.missing(&named("ssm_norm")))?,
            output,
        })
    }

    /// The weights of a convolution are few: they are kept in single precision.
    fn convolution(&mut self, name: &str, channels: usize, kernel: D) -> Result<Convolution> {
        let kernel = self.size(kernel)?;
        let weights = self.vector(&format!("{name}.weight"), channels.saturating_mul(kernel))?;
        let bias = self.tensors.values(&format!("{name}.bias"))?;
        if bias.as_ref().is_some_and(|bias| bias.len() != channels) {
            return Err(self.keys.wrong(format!("tensor {name}.bias has not {channels} values")));
        }
        Ok(Convolution::new(channels, &weights, bias))
    }

    /// The values of a tensor that has to be there, by its whole name.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        match self.tensors.values(name)? {
            Some(values) if values.len() == len => Ok(values),
            Some(values) => {
                let found = values.len();
                Err(self.keys.wrong(format!("tensor {name} has {found} values, expected {len}")))
            }
            None => Err(self.keys.wrong(format!("tensor {name} is missing"))),
        }
    }

    fn divides(&self, part: usize, whole: usize, part_key: D, whole_key: D) -> Result<()> {
        if whole.is_multiple_of(part) {
            return Ok(());
        }
        Err(self.keys.wrong(format!(
            "{0}.{1} is {whole}, expected a multiple of {0}.{2}, {part}",
            self.architecture.name,
            whole_key.key(),
            part_key.key()
        )))
    }

    /// A norm without weights.
    pub(super) fn plain_norm(&self) -> Norm {
        Norm { kind: self.norm_kind(), epsilon: self.epsilon, weight: None, bias: None }
    }
}
