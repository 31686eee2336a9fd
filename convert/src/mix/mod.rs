//! The mix of types that loses least within a size.
//!
//! A recipe chooses types by rules that were made for other models. Here the error of every tensor in
//! every type is measured by quantizing it, what an error costs the model is taken from a measurement
//! ([`Sensitivities`]) or from a prior, and the choice that loses least is found exactly.
//!
//! ```no_run
//! use quant_convert::{Control, Options, mix::{Mixer, Size}, open};
//!
//! let options = Options::default();
//! let mut mixer = Mixer::new(open("checkpoint", &options)?, &options, &[])?;
//! mixer.measure(Control::default())?;
//! let mix = mixer.choose(Size::Bytes(4_000_000_000), None)?;
//! mixer.plan(&mix, Control::default())?.run("model.gguf".as_ref(), Control::default())?;
//! # Ok::<(), quant_convert::Error>(())
//! ```

mod choice;
mod errors;
mod free;
mod fused;
mod losses;
mod solve;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use quant_core::GgmlType;

pub use choice::{Mix, Size};
pub use free::CANDIDATES;
pub use losses::{Measured, Sensitivities};

use crate::{
    Control, Options, Plan, Result,
    importance::Importance,
    mend,
    model::{Model, Origin},
    recipe::{self, FileType, ModelFacts, Role, TensorOverride},
};
use choice::{Rest, choose, pattern};
use free::{Candidate, Free};

/// A trial that tells how sensitive a tensor is.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// The tensor's name in the source.
    pub tensor: &'a str,
    /// The type to quantize it to.
    pub ty: GgmlType,
    /// Importance of the columns of each of its matrices.
    pub importance: Option<&'a [f32]>,
}

/// Chooses types for a model.
#[derive(Debug)]
pub struct Mixer {
    model: Arc<Model>,
    options: Options,
    facts: ModelFacts,
    free: Vec<Free>,
    rest: Rest,
}

impl Mixer {
    /// What can be chosen for a model: types of `candidates`, or of [`CANDIDATES`] if there are none, for all
    /// tensors that a recipe would quantize. Those that an option names a type for keep it, and so do
    /// tensors that are quantized already, unless [`Options::allow_requantize`].
    ///
    /// # Errors
    /// As [`Plan::new`]; [`Error::NoCandidate`](crate::Error::NoCandidate) for a tensor that no candidate suits.
    pub fn new(mut model: Model, options: &Options, candidates: &[GgmlType]) -> Result<Self> {
        if model.origin == Origin::Gguf {
            mend::metadata(&mut model.metadata, &model.files)?;
        }
        let model = Arc::new(model);
        let mut options = options.clone();
        options.request.pure = false;
        options.request.file_type = Some(FileType::F16);
        // Its warnings would be of a plan that nobody runs.
        let base = quietly(|| Plan::of(Arc::clone(&model), &options, Control::default()))?;
        let facts = ModelFacts::from_metadata(base.metadata())?;
        let alignment = base.metadata().get_u64("general.alignment").unwrap_or(32).max(1);
        let padded = |bytes: u64| bytes.checked_next_multiple_of(alignment).unwrap_or(bytes);
        let (mut free, mut kept, mut all) = (Vec::new(), 0u64, 0u64);
        let importance = Importance::open(&options)?;
        for (planned, given) in base.tensors().zip(base.free()) {
            all = all.saturating_add(padded(planned.bytes));
            let Some(index) = given else {
                kept = kept.saturating_add(padded(planned.bytes));
                continue;
            };
            let Some(tensor) = model.tensors.get(index) else { continue };
            let importance = match &importance {
                Some(all) => all.of(&tensor.name, &tensor.shape)?.map(Into::into),
                None => None,
            };
            let source = tensor.source_type();
            let is_fixed = source.is_quantized() && !options.allow_requantize;
            let types = match (is_fixed, candidates.is_empty()) {
                (true, _) => vec![source],
                (_, false) => candidates.to_vec(),
                (_, true) => free::usual_types(tensor),
            };
            free.push(Free::new(index, planned.name, tensor, importance, &types, padded)?);
        }
        let weights = base.tensors().map(|t| t.shape.iter().product::<u64>()).sum();
        let header = base.total_bytes().saturating_sub(all);
        options.request.file_type = None;
        let rest = Rest { fixed: kept.saturating_add(header), header, weights };
        Ok(Self { model, options, facts, free, rest })
    }

    /// Whether any mix is as small as asked: known before anything is measured.
    ///
    /// # Errors
    /// [`Error::TooSmall`](crate::Error::TooSmall) with the smallest size there is.
    pub fn check(&self, size: Size) -> Result<()> {
        let nothing: Vec<Vec<f64>> =
            self.free.iter().map(|free| vec![0.0; free.candidates.len()]).collect();
        choose(&self.free, &self.rest, size, &nothing).map(|_| ())
    }

    /// Measures the error of each tensor in each type by quantizing it.
    ///
    /// # Errors
    /// As [`Plan::run`] for weights that cannot be read or are not finite; [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn measure(&mut self, control: Control<'_>) -> Result<()> {
        let found = errors::measure(&self.model, &self.free, &self.options.running(), control)?;
        for (free, errors) in self.free.iter_mut().zip(found) {
            for (candidate, error) in free.candidates.iter_mut().zip(errors) {
                candidate.error = error;
            }
            // What a type cannot hold, as half precision cannot hold 1e5, it is not chosen for.
            if free.candidates.iter().any(|candidate| candidate.error.is_finite()) {
                free.candidates.retain(|candidate| candidate.error.is_finite());
            }
        }
        Ok(())
    }

    /// Bytes that measuring reads.
    pub fn source_bytes(&self) -> u64 {
        let tensors = self.free.iter().filter_map(|free| self.model.tensors.get(free.index));
        tensors.map(|tensor| tensor.source_bytes()).fold(0, u64::saturating_add)
    }

    /// Tensors whose type is free.
    pub fn free_tensors(&self) -> usize {
        self.free.len()
    }

    /// Trials that tell how sensitive the tensors are, at most so many of each: types spread over the
    /// range of its errors. Errors have to be [measured](Self::measure) before.
    pub fn probes(&self, each: usize) -> Vec<Probe<'_>> {
        let mut probes = Vec::new();
        for free in &self.free {
            let Some(tensor) = self.model.tensors.get(free.index) else { continue };
            let is_lossy = |c: &&Candidate| c.error > 0.0 && c.ty.is_quantized();
            let mut lossy: Vec<_> = free.candidates.iter().filter(is_lossy).collect();
            lossy.sort_by(|a, b| b.error.total_cmp(&a.error));
            let last = lossy.len().saturating_sub(1);
            let count = each.min(lossy.len());
            // One alone is of middling error; several reach from the largest on.
            let places = (0..count).map(|i| match count {
                1 => last / 3,
                _ => i * last / (count - 1),
            });
            let chosen = places.filter_map(|place| lossy.get(place));
            probes.extend(chosen.map(|candidate| Probe {
                tensor: &tensor.name,
                ty: candidate.ty,
                importance: free.importance.as_deref(),
            }));
        }
        probes
    }

    /// The mix of least expected loss that is not larger than asked. Errors have to be
    /// [measured](Self::measure) before; without sensitivities a prior says what they cost.
    ///
    /// # Errors
    /// [`Error::TooSmall`](crate::Error::TooSmall) with the smallest size there is.
    pub fn choose(&self, size: Size, sensitivities: Option<&Sensitivities>) -> Result<Mix> {
        let costs = self.costs(sensitivities);
        choose(&self.free, &self.rest, size, &costs)
    }

    /// Tensors whose type is free of which nothing was measured.
    pub fn unmeasured<'a>(
        &'a self,
        sensitivities: &'a Sensitivities,
    ) -> impl Iterator<Item = &'a str> {
        let tensors = self.free.iter().filter_map(|free| self.model.tensors.get(free.index));
        let names = tensors.map(|tensor| tensor.name.as_str());
        names.filter(|name| !sensitivities.tensors.contains_key(*name))
    }

    /// The loss expected of each tensor in each of its types.
    fn costs(&self, sensitivities: Option<&Sensitivities>) -> Vec<Vec<f64>> {
        let layers = self.facts.layers;
        let tied = !self.model.tensors.iter().any(|t| Role::of(&t.name) == Role::Output);
        let cost = |free: &Free, candidate: &Candidate| {
            if candidate.error == 0.0 {
                return 0.0;
            }
            let name = self.model.tensors.get(free.index).map_or("", |tensor| &tensor.name);
            let role = Role::of(name);
            let measured =
                sensitivities.and_then(|all| all.loss(name, candidate.ty, candidate.error));
            measured.unwrap_or_else(|| losses::prior(role, tied, layers, candidate.error))
        };
        let costs = |free: &Free| free.candidates.iter().map(|c| cost(free, c)).collect();
        self.free.iter().map(costs).collect()
    }

    /// The largest file of a recipe that is not larger than asked, as a mix, and its size: what a mix
    /// is to be better than. Recipes that need importance which there is not are no choice.
    ///
    /// # Errors
    /// As [`Plan::new_with`].
    pub fn recipe_within(
        &self,
        size: Size,
        control: Control<'_>,
    ) -> Result<Option<(FileType, u64, Mix)>> {
        let mut best: Option<(FileType, u64, Mix)> = None;
        for &recipe in FileType::ALL.iter().filter(|recipe| recipe.is_quantized()) {
            control.check()?;
            let mut options = self.options.clone();
            options.request.file_type = Some(recipe);
            let plan = quietly(|| Plan::of(Arc::clone(&self.model), &options, control));
            let Ok(plan) = plan else { continue };
            let fits = match size {
                Size::Bytes(most) => plan.total_bytes() <= most,
                Size::BitsPerWeight(most) => plan.bits_per_weight() <= most,
            };
            let bytes = plan.total_bytes();
            let is_larger = best.as_ref().is_none_or(|(_, known, _)| bytes > *known);
            if fits && is_larger && plan.check().is_ok() {
                let free: HashSet<_> = self.free.iter().map(|free| free.name.as_str()).collect();
                let types = plan.tensors().filter(|tensor| free.contains(tensor.name));
                let types = types.map(|tensor| (tensor.name.to_owned(), tensor.ty)).collect();
                best = Some((recipe, bytes, Mix { types, expected_loss: f64::NAN }));
            }
        }
        Ok(best)
    }

    /// Trials of all tensors of a mix at once, to measure what it loses.
    pub fn probes_of<'a>(&'a self, mix: &'a Mix) -> Vec<Probe<'a>> {
        let types: HashMap<_, _> = mix.types().collect();
        let probe = |free: &'a Free| {
            let tensor = self.model.tensors.get(free.index)?;
            let ty = *types.get(free.name.as_str())?;
            let importance = free.importance.as_deref();
            (ty != tensor.source_type()).then_some(Probe { tensor: &tensor.name, ty, importance })
        };
        self.free.iter().filter_map(probe).collect()
    }

    /// The plan of a mix: an ordinary one, whose file says that it is of the recipe that most of its
    /// weights could be of.
    ///
    /// # Errors
    /// As [`Plan::new_with`].
    pub fn plan(&self, mix: &Mix, control: Control<'_>) -> Result<Plan> {
        let mut options = self.options.clone();
        let mut bytes: Vec<(GgmlType, u64)> = Vec::new();
        for (name, ty) in mix.types() {
            let free = self.free.iter().find(|free| free.name == name);
            let tensor = free.and_then(|free| self.model.tensors.get(free.index));
            let weights = tensor.map_or(0, |tensor| tensor.elements());
            match bytes.iter_mut().find(|(known, _)| *known == ty) {
                Some((_, sum)) => *sum = sum.saturating_add(weights),
                None => bytes.push((ty, weights)),
            }
            let pattern = regex::Regex::new(&pattern(name)).map_err(|error| {
                let place = "the mix".to_owned();
                recipe::Error::BadPattern { pattern: name.into(), place, reason: error.to_string() }
            })?;
            let place = "the mix".to_owned();
            options.request.overrides.push(TensorOverride { pattern, ty, place });
        }
        let most = bytes.iter().max_by_key(|(_, weights)| *weights).map(|(ty, _)| *ty);
        let of_type = |ty: GgmlType| {
            let middle = format!("{}_M", ty.name());
            let named = |name: &str| FileType::ALL.iter().copied().find(|f| f.name() == name);
            let built_on = || FileType::ALL.iter().copied().find(|f| f.base() == ty);
            named(ty.name()).or_else(|| named(&middle)).or_else(built_on)
        };
        options.request.file_type = most.and_then(of_type).or(Some(FileType::F16));
        Plan::of(Arc::clone(&self.model), &options, control)
    }

    /// As [`choose`](Self::choose) and [`plan`](Self::plan), and sure to be no larger than asked: what
    /// metadata says of an importance matrix counts too.
    ///
    /// # Errors
    /// As both.
    pub fn plan_for(
        &self,
        size: Size,
        sensitivities: Option<&Sensitivities>,
        control: Control<'_>,
    ) -> Result<(Mix, Plan)> {
        let costs = self.costs(sensitivities);
        let mut asked = size;
        loop {
            let mix = choose(&self.free, &self.rest, asked, &costs)?;
            let plan = self.plan(&mix, control)?;
            let (Size::Bytes(most), Size::Bytes(bytes)) = (size, asked) else {
                return Ok((mix, plan));
            };
            let over = plan.total_bytes().saturating_sub(most);
            if over == 0 {
                return Ok((mix, plan));
            }
            asked = Size::Bytes(bytes.saturating_sub(over));
        }
    }
}

/// Without warnings.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), work)
}
