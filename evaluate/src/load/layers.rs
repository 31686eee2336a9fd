//! The layers of a model.

use gguf_model::{Activation, Dimension, FurtherActivation, Gate, Norming, Residual};

use super::Loader;
use crate::{
    Error, Result,
    run::{
        Function, Xielu,
        experts::{Experts, Router},
        feed_forward::{Beside, FeedForward},
        layer::{Layer, LayerInput},
        matrix::Matrix,
        mlp::{Gating, Mlp},
        recurrent::{Recurrent, softplus},
    },
};

impl Loader<'_> {
    pub(super) fn layer(&mut self, layer: u32) -> Result<Layer> {
        let prefix = format!("{}.{layer}.", self.forward.layers);
        let block = self.forward.block;
        let is_parallel = match block.residual {
            Residual::Parallel => true,
            Residual::ParallelIf(key) => self.keys.flag(key).unwrap_or(true),
            Residual::ParallelWithout(name) => !self.tensors.has(&format!("{prefix}{name}.weight")),
            Residual::Sequential => false,
        };
        let attention = self.attention(layer, &prefix)?;
        let recurrent = self.recurrent(&prefix)?;
        let mut attention_norm = self.norm(&prefix, block.attention_norm)?;
        let mut feed_forward_norm = self.norm(&prefix, block.feed_forward_norm)?;
        // The norm of a layer's only part.
        if attention.is_none() && recurrent.is_none() && block.feed_forward_norm == Norming::None {
            feed_forward_norm = attention_norm.take();
        }
        let output_scale = self.tensors.values(&format!("{prefix}layer_output_scale.weight"))?;
        Ok(Layer {
            attention_norm,
            attention,
            recurrent,
            attention_post_norm: self.norm(&prefix, block.attention_post_norm)?,
            attention_sum_norm: self.norm(&prefix, block.attention_sum_norm)?,
            feed_forward_norm,
            feed_forward: self.feed_forward(layer, &prefix)?,
            feed_forward_post_norm: self.norm(&prefix, block.feed_forward_post_norm)?,
            feed_forward_sum_norm: self.norm(&prefix, block.feed_forward_sum_norm)?,
            is_parallel,
            input: self.layer_input(layer, &prefix)?,
            output_scale: output_scale.and_then(|scale| scale.first().copied()),
        })
    }

    /// What a layer makes of its own vectors of the tokens.
    fn layer_input(&mut self, layer: u32, prefix: &str) -> Result<Option<LayerInput>> {
        let Some(gate) = self.tensors.matrix(&format!("{prefix}inp_gate"))? else {
            return Ok(None);
        };
        self.expect(&gate, self.size(Dimension::PerLayerInput)?)?;
        let projection = self.matrix(&format!("{prefix}proj"), self.size(Dimension::Embedding)?)?;
        self.expect_columns(&projection, gate.rows)?;
        let name = format!("{prefix}post_norm");
        let norm = self.norm_named(&name)?.ok_or_else(|| self.missing(&name))?;
        let function = self.function(layer, true)?;
        Ok(Some(LayerInput { gate, function, projection, norm }))
    }

    /// `None` if the layer has none.
    fn feed_forward(&mut self, layer: u32, prefix: &str) -> Result<Option<FeedForward>> {
        let named = |name: &str| format!("{prefix}{name}");
        if !self.tensors.has(&named("ffn_gate_inp.weight")) {
            // Without a router it chooses among nothing.
            self.tensors.find(&named("exp_probs_b"));
            let has_up = self.tensors.has(&named("ffn_up.weight"));
            return Ok(match has_up {
                true => Some(FeedForward::Dense(self.mlp(layer, prefix, "")?)),
                false => None,
            });
        }
        if !self.tensors.has(&named("pre_ffw_norm_2.weight")) {
            let experts = self.experts(layer, prefix)?;
            return Ok(Some(FeedForward::Experts(Box::new(experts))));
        }
        // Experts beside a dense part, each between norms of its own.
        let mut norm = |name: &str| {
            let name = named(name);
            self.norm_named(&name)?.ok_or_else(|| self.missing(&name))
        };
        let dense_post_norm = norm("post_ffw_norm_1")?;
        let experts_norm = norm("pre_ffw_norm_2")?;
        let experts_post_norm = norm("post_ffw_norm_2")?;
        let mut router_norm = self.plain_norm();
        if let Some(mut scale) = self.tensors.values(&named("ffn_gate_inp.scale"))? {
            let shrink = 1.0 / (scale.len() as f32).sqrt();
            scale.iter_mut().for_each(|v| *v *= shrink);
            router_norm.weight = Some(scale);
        }
        let mut experts = self.experts(layer, prefix)?;
        // That scale is one of the router's input.
        experts.router.scale = None;
        Ok(Some(FeedForward::Beside(Box::new(Beside {
            dense: self.mlp(layer, prefix, "")?,
            dense_post_norm,
            experts,
            experts_norm,
            experts_post_norm,
            router_norm,
        }))))
    }

    fn experts(&mut self, layer: u32, prefix: &str) -> Result<Experts> {
        let named = |name: &str| format!("{prefix}{name}");
        let router = self.tensors.matrix(&named("ffn_gate_inp"))?;
        let router = router.ok_or_else(|| self.missing(&named("ffn_gate_inp")))?;
        let count = router.rows;
        let stacked = |loader: &mut Self, name: &str| match loader
            .tensors
            .matrix(&named(&format!("{name}_exps")))?
        {
            Some(matrix) => Ok(Some(matrix)),
            None => loader.tensors.experts_apart(&named(&format!("{name}.{{}}")), count),
        };
        let missing = self.keys.wrong(format!("layer {layer} has a router and no experts"));
        let both = self.tensors.matrix(&named("ffn_gate_up_exps"))?;
        let (up, gate) = match both {
            Some(both) => (Some(both), Gating::InUp),
            None => {
                let up = stacked(self, "ffn_up")?;
                (up, stacked(self, "ffn_gate")?.map_or(Gating::None, Gating::By))
            }
        };
        let (Some(up), Some(down)) = (up, stacked(self, "ffn_down")?) else { return Err(missing) };
        let hidden = match &gate {
            Gating::By(gate) => {
                self.expect(gate, up.rows)?;
                up.rows
            }
            Gating::None => up.rows,
            Gating::InUp => up.rows / 2,
        };
        self.expect_columns(&down, hidden)?;
        let gates = match &gate {
            Gating::By(gate) => Some(gate),
            Gating::None | Gating::InUp => None,
        };
        for matrix in [Some(&up), gates, Some(&down)].into_iter().flatten() {
            if matrix.experts != count {
                return Err(self.keys.wrong(format!(
                    "tensor {} has {} experts, the router of the layer tells {count}",
                    matrix.name, matrix.experts
                )));
            }
        }
        let used = self.keys.at("expert_used_count", layer as usize).unwrap_or(0);
        if used == 0 || used > count {
            return Err(self.keys.wrong(format!(
                "{}.expert_used_count is {used}, expected 1 to {count}, the number of experts",
                self.architecture.name
            )));
        }
        let gating = match self.keys.number("expert_gating_func") {
            Some(1) => Gate::Softmax,
            Some(2) => Gate::Sigmoid,
            Some(3) => Gate::SoftmaxOfChosen,
            Some(0) | None => self.forward.routing.gate,
            Some(other) => {
                return Err(self.keys.wrong(format!(
                    "{}.expert_gating_func is {other}, which cannot be run here",
                    self.architecture.name
                )));
            }
        };
        // Of Hy3 its name has no suffix.
        let selection_bias = match self.tensors.values(&named("exp_probs_b.bias"))? {
            None => self.tensors.values(&named("exp_probs_b"))?,
            bias => bias,
        };
        let routing = Router {
            used,
            gate: gating,
            selection_bias,
            groups: self.keys.number("expert_group_count").unwrap_or(0),
            groups_used: self.keys.number("expert_group_used_count").unwrap_or(0),
            normalized: self
                .keys
                .flag("expert_weights_norm")
                .unwrap_or(self.forward.routing.normalized),
            scale: self.keys.float("expert_weights_scale").filter(|s| *s != 0.0).unwrap_or(1.0),
            weighs_inputs: self.forward.routing.weighs_inputs,
            averaged: self.forward.routing.averaged,
            routes_layer_input: self.forward.routing.routes_layer_input,
        };
        let latent = match self.tensors.matrix(&named("ffn_latent_down"))? {
            None => {
                self.expect_columns(&up, router.columns)?;
                None
            }
            Some(down) => {
                self.expect(&down, up.columns)?;
                let up = self.matrix(&named("ffn_latent_up"), router.columns)?;
                Some((down, up))
            }
        };
        let has_shared = self.tensors.has(&named("ffn_up_shexp.weight"));
        let shared = if has_shared { Some(self.mlp(layer, prefix, "_shexp")?) } else { None };
        let function = self.function(layer, !matches!(gate, Gating::None))?;
        Ok(Experts {
            router,
            routing,
            up,
            gate,
            down,
            function,
            latent,
            shared,
            shared_gate: self.tensors.matrix(&named("ffn_gate_inp_shexp"))?,
        })
    }

    /// A network whose tensors end like this.
    fn mlp(&mut self, layer: u32, prefix: &str, end: &str) -> Result<Mlp> {
        let named = |name: &str| format!("{prefix}{name}{end}");
        let down = self.matrix(&named("ffn_down"), self.size(Dimension::Embedding)?)?;
        let up = match self.tensors.matrix(&named("ffn_up"))? {
            Some(matrix) => matrix,
            None => return Err(self.missing(&named("ffn_up"))),
        };
        let gate = match self.tensors.matrix(&named("ffn_gate"))? {
            Some(matrix) => {
                self.expect(&matrix, up.rows)?;
                Gating::By(matrix)
            }
            None if up.rows == 2 * down.columns => Gating::InUp,
            None => Gating::None,
        };
        let hidden = if matches!(gate, Gating::InUp) { up.rows / 2 } else { up.rows };
        self.expect_columns(&down, hidden)?;
        let divisors = self.tensors.values(&format!("{prefix}ffn.act.scales"))?;
        let function = self.function(layer, !matches!(gate, Gating::None))?;
        Ok(Mlp { up, gate, down, function, divisors })
    }

    fn function(&self, layer: u32, is_gated: bool) -> Result<Function> {
        let gelu = if self.forward.exact_gelu { Function::GeluExact } else { Function::Gelu };
        match self.forward.further_activation {
            Some(FurtherActivation::Relu) => return Ok(Function::Relu),
            Some(FurtherActivation::ReluOrGatedGelu) => {
                return Ok(if is_gated { gelu } else { Function::Relu });
            }
            Some(FurtherActivation::Xielu) => return self.xielu(layer),
            None => {}
        }
        if let Some(name) = self.forward.activation_key.and_then(|key| self.keys.text(key)) {
            return match name {
                "silu" | "swish" => Ok(Function::Silu),
                "gelu" => Ok(gelu),
                "relu" => Ok(Function::Relu),
                other => Err(self.keys.wrong(format!(
                    "the activation function {} cannot be run here",
                    gguf_io::message::Quoted(other)
                ))),
            };
        }
        Ok(match self.architecture.graph.activation {
            Some(Activation::Silu) => Function::Silu,
            Some(Activation::ReluSquared) => Function::ReluSquared,
            Some(Activation::ClampedSwiglu) => Function::ClampedSwiglu,
            _ => gelu,
        })
    }

    /// The function with the numbers of a layer, which are stored as their logarithms are learnt.
    fn xielu(&self, layer: u32) -> Result<Function> {
        let number = |name: &str| {
            let key = format!("xielu.{name}");
            self.keys
                .whole_float(&key, layer as usize)
                .ok_or_else(|| self.keys.wrong(format!("{key} has no number for layer {layer}")))
        };
        let linear = number("beta")?;
        Ok(Function::Xielu(Xielu {
            above: softplus(number("alpha_p")?),
            below: linear + softplus(number("alpha_n")?),
            linear,
            limit: number("eps")?,
        }))
    }

    /// A dimension of the model that is not zero.
    pub(super) fn size(&self, dimension: Dimension) -> Result<usize> {
        self.size_in(dimension, None)
    }

    /// A dimension of a layer that is not zero.
    pub(super) fn size_in(&self, dimension: Dimension, layer: Option<u32>) -> Result<usize> {
        let size = self.parameters.dimension_in(dimension, layer);
        let size = size.and_then(|n| usize::try_from(n).ok());
        size.filter(|n| *n > 0).ok_or_else(|| {
            self.keys.wrong(format!(
                "{}.{} is missing or 0, expected a positive number",
                self.architecture.name,
                dimension.key()
            ))
        })
    }

    pub(super) fn missing(&self, name: &str) -> Error {
        self.keys.wrong(format!("tensor {name}.weight is missing"))
    }

    /// A matrix that has to be there, with so many rows.
    pub(super) fn matrix(&mut self, name: &str, rows: usize) -> Result<Matrix> {
        match self.tensors.matrix(name)? {
            Some(matrix) => {
                self.expect(&matrix, rows)?;
                Ok(matrix)
            }
            None => Err(self.missing(name)),
        }
    }

    pub(super) fn expect(&self, matrix: &Matrix, rows: usize) -> Result<()> {
        if matrix.rows == rows {
            return Ok(());
        }
        Err(self
            .keys
            .wrong(format!("tensor {} has {} rows, expected {rows}", matrix.name, matrix.rows)))
    }

    pub(super) fn expect_columns(&self, matrix: &Matrix, columns: usize) -> Result<()> {
        if matrix.columns == columns {
            return Ok(());
        }
        Err(self.keys.wrong(format!(
            "tensor {} has rows of {}, expected {columns}",
            matrix.name, matrix.columns
        )))
    }
}

impl Layer {
    /// Values per token in all buffers, for a model of this width.
    pub(super) fn width(&self, model: usize) -> usize {
        let heads = self
            .attention
            .as_ref()
            .map_or(0, |attention| attention.heads * (2 * attention.key + 3 * attention.value));
        let recurrent = self.recurrent.as_ref().map_or(0, Recurrent::width);
        let of_experts =
            |experts: &Experts| experts.routing.used * (3 * experts.up.rows + experts.down.rows);
        let hidden = match &self.feed_forward {
            None => 0,
            Some(FeedForward::Dense(mlp)) => 3 * mlp.up.rows,
            Some(FeedForward::Experts(experts)) => of_experts(experts),
            Some(FeedForward::Beside(both)) => 3 * both.dense.up.rows + of_experts(&both.experts),
        };
        4 * model + heads.max(recurrent).max(hidden)
    }
}
