//! How a family's tensors are declared: names, shapes, and what is done to them.

use crate::{
    Config, Error, Result,
    model::{ElementMap, View},
};

pub use super::dim::Dim;

/// A tensor, or one in each layer (and for each expert) of the checkpoint.
///
/// Names are written without `.weight` and `.bias`; `{}` stands for the number of the layer, a
/// second one for that of the expert.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub(super) source: &'static str,
    pub(super) targets: Targets,
    pub(super) shape: &'static [Dim],
    pub(super) transposed: bool,
    pub(super) exact: bool,
    pub(super) map: Change,
    pub(super) scales: Option<&'static str>,
    pub(super) experts: Option<&'static str>,
    pub(super) bias: Bias,
    pub(super) presence: Presence,
    pub(super) layers: Option<Layers>,
    pub(super) form: Option<&'static str>,
    pub(super) count: Option<&'static str>,
    pub(super) copies: bool,
    pub(super) key: Option<&'static str>,
    pub(super) heads: Option<Dim>,
    pub(super) numbers: bool,
}

/// Whether a layer has the tensor.
pub type Layers = fn(&Config, u64) -> bool;

/// What becomes of a tensor of the checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) enum Targets {
    /// One tensor.
    One(Target),
    /// Several, each of a part of it.
    Many(&'static [Target]),
}

/// A tensor of the output, made of one of the checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// GGUF name.
    pub name: &'static str,
    /// What is taken, one part after the other along the first axis; each by steps from the whole.
    pub parts: &'static [&'static [Step]],
}

/// A step from the stored tensor to what is taken of it. Axes are counted from the outermost.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Cuts an axis into several: those of the lengths given, and one for what is left.
    Unfold(usize, &'static [Dim]),
    /// Keeps so many entries of an axis, from one on.
    Narrow {
        /// The axis.
        axis: usize,
        /// First entry; none is the beginning.
        from: Option<Dim>,
        /// Entries.
        len: Dim,
    },
    /// Keeps every second entry of an axis, from this one (0 or 1) on.
    EverySecond(usize, u64),
    /// Exchanges two axes.
    Swap(usize, usize),
    /// Takes an axis and those after it, so many in all, as one.
    Fold(usize, usize),
}

/// Whether a tensor has a bias beside its weight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bias {
    Never,
    /// Always there.
    Always,
    /// Taken along where it is there.
    Maybe,
    /// Expected where this key of config.json is true, taken along wherever it is.
    If(&'static str),
}

/// What is done to each value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    None,
    Plus(f32),
    /// Times the numbers of these keys of config.json.
    Times(&'static [&'static str]),
    Exp,
    NegativeExp,
    Softplus,
    /// Less the mean of all of them.
    Centred,
    /// The later half of the rows of each head (so many rows) changes its sign.
    TurnedBack(Dim),
    /// What a function makes of config.json.
    With(fn(&Config) -> Result<ElementMap>),
}

/// Whether a checkpoint has the tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Presence {
    Required,
    /// Taken along where it is there.
    Optional,
    /// May be left out where this key of config.json is true.
    Unless(&'static str),
    /// The head that predicts tokens: where it is absent, the token embedding takes its place.
    Head,
    /// As [`Head`](Self::Head), and left out for the reason given where this key of config.json is
    /// true.
    HeadUnless(&'static str, &'static str),
    /// Required where this key of config.json is true.
    If(&'static str),
    /// Required where this key of config.json has a value.
    With(&'static str),
    /// Required where this key of config.json has none.
    Without(&'static str),
    /// Required where this holds of config.json.
    When(fn(&Config) -> Result<bool>),
    /// Not a part of the output, whether it is there or not; for this reason.
    LeftOut(&'static str),
}

impl Rule {
    /// A weight of this shape, outermost dimension first, as Hugging Face and PyTorch write it.
    pub const fn new(source: &'static str, target: &'static str, shape: &'static [Dim]) -> Self {
        Self {
            source,
            targets: Targets::One(Target { name: target, parts: &[&[]] }),
            shape,
            transposed: false,
            exact: false,
            map: Change::None,
            scales: None,
            experts: None,
            bias: Bias::Never,
            presence: Presence::Required,
            layers: None,
            form: None,
            count: None,
            copies: false,
            key: None,
            heads: None,
            numbers: false,
        }
    }

    /// A tensor whose full names these are: nothing is added to them.
    pub const fn exact(source: &'static str, target: &'static str, shape: &'static [Dim]) -> Self {
        Self { exact: true, ..Self::new(source, target, shape) }
    }

    /// A tensor of the checkpoint that becomes several.
    pub const fn split(
        source: &'static str,
        targets: &'static [Target],
        shape: &'static [Dim],
    ) -> Self {
        Self { targets: Targets::Many(targets), ..Self::new(source, "", shape) }
    }

    /// As [`split`](Self::split), under full names.
    pub const fn split_exact(
        source: &'static str,
        targets: &'static [Target],
        shape: &'static [Dim],
    ) -> Self {
        Self { exact: true, ..Self::split(source, targets, shape) }
    }

    /// A tensor that the output does not have, for this reason. Its shape is not looked at.
    pub const fn left_out(source: &'static str, reason: &'static str) -> Self {
        Self {
            presence: Presence::LeftOut(reason),
            bias: Bias::Maybe,
            ..Self::new(source, "", &[])
        }
    }

    /// What is taken of it, one part after the other along the first axis.
    pub const fn parts(mut self, parts: &'static [&'static [Step]]) -> Self {
        if let Targets::One(target) = &mut self.targets {
            target.parts = parts;
        }
        self
    }

    /// As [`parts`](Self::parts), of each of so many heads by itself, one after the other.
    pub const fn by_head(mut self, heads: Dim, parts: &'static [&'static [Step]]) -> Self {
        self.heads = Some(heads);
        self.parts(parts)
    }

    /// A matrix stored by columns: GGUF has its rows. Its bias, if any, is as long as a row.
    pub const fn transposed(mut self) -> Self {
        self.transposed = true;
        self.parts(&[&[Step::Swap(0, 1)]])
    }

    /// One is added to each value, but not to those of its bias.
    pub const fn plus_one(self) -> Self {
        self.plus(1.0)
    }

    /// This is added to each value, but not to those of its bias.
    pub const fn plus(mut self, more: f32) -> Self {
        self.map = Change::Plus(more);
        self
    }

    /// Each value is multiplied by the numbers of these keys of config.json, one after the other, at
    /// most two; a missing one is 1.
    pub const fn times(mut self, keys: &'static [&'static str]) -> Self {
        self.map = Change::Times(keys);
        self
    }

    /// What is done to each value follows from config.json.
    pub const fn map_with(mut self, map: fn(&Config) -> Result<ElementMap>) -> Self {
        self.map = Change::With(map);
        self
    }

    /// Each value becomes the negative of its exponential, as decays of state space models are kept.
    pub const fn negative_exp(mut self) -> Self {
        self.map = Change::NegativeExp;
        self
    }

    /// Each value becomes its exponential.
    pub const fn exp(mut self) -> Self {
        self.map = Change::Exp;
        self
    }

    /// Each value becomes the logarithm of one more than its exponential.
    pub const fn softplus(mut self) -> Self {
        self.map = Change::Softplus;
        self
    }

    /// The mean of all values is taken from each. They are read when the model is opened: for vectors.
    pub const fn centred(mut self) -> Self {
        self.map = Change::Centred;
        self
    }

    /// The later half of the rows of each head, which has so many, changes its sign: rotation in the
    /// other direction becomes the usual one.
    pub const fn turned_back(mut self, head: Dim) -> Self {
        self.map = Change::TurnedBack(head);
        self
    }

    /// There are as many layers of it as this key of config.json says.
    pub const fn counted(mut self, key: &'static str) -> Self {
        self.count = Some(key);
        self
    }

    /// One value in each layer, which the output has not as tensors but as an array under this key; as
    /// one number where it is in no layer.
    pub const fn value(source: &'static str, key: &'static str) -> Self {
        Self { key: Some(key), ..Self::split_exact(source, &[], &[]) }
    }

    /// One of several names for the same weights: the first that is there counts, the others are
    /// left out.
    pub const fn any_of(mut self) -> Self {
        self.copies = true;
        self
    }

    /// May be codes of MXFP4, in rows or with 32 of them in a last axis of 16 bytes, whose scales are in
    /// the tensor of this name.
    pub const fn mxfp4(mut self, scales: &'static str) -> Self {
        self.scales = Some(scales);
        self
    }

    /// Holds whole numbers, not weights: those of 64 bits become such of 32.
    pub const fn numbers(mut self) -> Self {
        self.numbers = true;
        self
    }

    /// One tensor for each of as many experts as `key` says, stacked into one.
    pub const fn stacked(mut self, key: &'static str) -> Self {
        self.experts = Some(key);
        self
    }

    /// Has a bias.
    pub const fn bias(mut self) -> Self {
        self.bias = Bias::Always;
        self
    }

    /// May have a bias.
    pub const fn maybe_bias(mut self) -> Self {
        self.bias = Bias::Maybe;
        self
    }

    /// Has a bias if `key` is true.
    pub const fn bias_if(mut self, key: &'static str) -> Self {
        self.bias = Bias::If(key);
        self
    }

    /// May be absent.
    pub const fn optional(mut self) -> Self {
        self.presence = Presence::Optional;
        self
    }

    /// May be absent if `key` is true.
    pub const fn unless(mut self, key: &'static str) -> Self {
        self.presence = Presence::Unless(key);
        self
    }

    /// Is the head that predicts tokens: where it is absent, the token embedding takes its place.
    pub const fn head(mut self) -> Self {
        self.presence = Presence::Head;
        self
    }

    /// As [`head`](Self::head), and left out if `key` is true, for this reason.
    pub const fn head_unless(mut self, key: &'static str, reason: &'static str) -> Self {
        self.presence = Presence::HeadUnless(key, reason);
        self
    }

    /// Is there if `key` is true, and may be otherwise.
    pub const fn if_true(mut self, key: &'static str) -> Self {
        self.presence = Presence::If(key);
        self
    }

    /// Is there if `key` has a value.
    pub const fn with(mut self, key: &'static str) -> Self {
        self.presence = Presence::With(key);
        self
    }

    /// Is there if `key` has no value.
    pub const fn without(mut self, key: &'static str) -> Self {
        self.presence = Presence::Without(key);
        self
    }

    /// Is there if this holds of config.json, and may be otherwise.
    pub const fn when(mut self, condition: fn(&Config) -> Result<bool>) -> Self {
        self.presence = Presence::When(condition);
        self
    }

    /// Is there in some layers only.
    pub const fn in_layers(mut self, layers: Layers) -> Self {
        self.layers = Some(layers);
        self
    }

    /// One of several forms in which checkpoints keep the same weights: rules with the name of a
    /// form apply where a tensor of that form is there, those of the first form where none is.
    pub const fn form(mut self, form: &'static str) -> Self {
        self.form = Some(form);
        self
    }

    /// The name of the first tensor that it becomes.
    pub(super) fn first_target(&self) -> &'static str {
        match &self.targets {
            Targets::One(target) => target.name,
            Targets::Many(targets) => targets.first().map_or("", |target| target.name),
        }
    }

    pub(super) fn targets(&self) -> &[Target] {
        match &self.targets {
            Targets::One(target) => std::slice::from_ref(target),
            Targets::Many(targets) => targets,
        }
    }
}

/// Takes a step; the error says what does not fit.
pub(super) fn take(
    view: View,
    step: Step,
    config: &Config,
    layer: Option<u64>,
) -> Result<Result<View, String>> {
    let shape = view.shape();
    let taken = match step {
        Step::Unfold(axis, dims) => {
            let lens =
                dims.iter().map(|dim| dim.size_in(config, layer)).collect::<Result<Vec<_>>>()?;
            view.unfold(axis, &lens)
        }
        Step::Narrow { axis, from, len } => {
            let from = from.map_or(Ok(0), |from| from.size_in(config, layer))?;
            view.narrow(axis, from, len.size_in(config, layer)?)
        }
        Step::EverySecond(axis, first) => view.every(axis, 2, first),
        Step::Swap(a, b) => view.swap(a, b),
        // Only what the output's shape is counted as; the view itself has no need of it.
        Step::Fold(..) => Some(view),
    };
    Ok(taken.ok_or_else(|| format!("dimensions {shape:?} that {step:?} does not divide")))
}

/// The error for a rule that cannot be applied.
pub(super) fn no_rule(config: &Config) -> Error {
    config.wrong("architectures", "no rule", "a rule for each tensor")
}
