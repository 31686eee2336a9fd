//! The feed-forward part of a layer.

use super::{experts::Experts, mlp::Mlp, norm::Norm, runner::Runner, watch::Watch};
use crate::Result;

/// What a layer has for it.
#[allow(clippy::large_enum_variant, reason = "there are as many as layers")]
pub(crate) enum FeedForward {
    Dense(Mlp),
    Experts(Box<Experts>),
    /// Both, added up.
    Beside(Box<Beside>),
}

impl FeedForward {
    /// Whether it needs what went into the layer.
    pub(crate) fn needs_layer_input(&self) -> bool {
        matches!(self, Self::Experts(experts) if experts.routing.routes_layer_input)
    }

    /// `x` has gone through the norm before the part, `raw` has not; `first` is what went into the layer,
    /// if it is [needed](Self::needs_layer_input).
    pub(crate) fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        x: &[f32],
        raw: &[f32],
        first: Option<&[f32]>,
        n: usize,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Dense(mlp) => mlp.run(runner, watch, x, n),
            Self::Experts(experts) => experts.run(runner, watch, x, first.unwrap_or(x), n),
            Self::Beside(both) => both.run(runner, watch, x, raw, n),
        }
    }
}

/// A network for all tokens beside experts, each with norms of its own.
pub(crate) struct Beside {
    pub(crate) dense: Mlp,
    pub(crate) dense_post_norm: Norm,
    pub(crate) experts: Experts,
    pub(crate) experts_norm: Norm,
    pub(crate) experts_post_norm: Norm,
    /// The norm of what the router works on.
    pub(crate) router_norm: Norm,
}

impl Beside {
    fn run(
        &self,
        runner: Runner<'_>,
        watch: &mut Watch<'_>,
        x: &[f32],
        raw: &[f32],
        n: usize,
    ) -> Result<Vec<f32>> {
        let width = raw.len() / n.max(1);
        let normed = |norm: &Norm, mut values: Vec<f32>| {
            norm.apply(runner, &mut values, width);
            values
        };
        let dense = normed(&self.dense_post_norm, self.dense.run(runner, watch, x, n)?);
        let input = normed(&self.experts_norm, raw.to_vec());
        let routed = normed(&self.router_norm, raw.to_vec());
        let experts = self.experts.run(runner, watch, &input, &routed, n)?;
        let mut sum = normed(&self.experts_post_norm, experts);
        sum.iter_mut().zip(dense).for_each(|(sum, v)| *sum += v);
        Ok(sum)
    }
}
