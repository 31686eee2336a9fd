//! Several conversions of a model from one read of it.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{Plan, run::run_all};
use crate::{
    Control, Options, Result, mend,
    model::{Model, Origin},
};

/// Several conversions of one model, which is read once for all of them.
///
/// Each file holds the bytes that a [`Plan`] of its own would write. Memory is that of the largest of
/// the plans: a chunk is read, and quantized to one type after the other.
///
/// ```no_run
/// use quant_convert::{Control, Ladder, Options, open, recipe::{FileType, Request}};
///
/// let options = [FileType::Q4_K_M, FileType::Q8_0].map(|recipe| Options {
///     request: Request::new(recipe),
///     ..Options::default()
/// });
/// let mut ladder = Ladder::new(open("checkpoint", &options[0])?)?;
/// for options in &options {
///     ladder.add(options, Control::default())?;
/// }
/// ladder.run(&["small.gguf", "large.gguf"], Control::default())?;
/// # Ok::<(), quant_convert::Error>(())
/// ```
#[derive(Debug)]
pub struct Ladder {
    model: Arc<Model>,
    plans: Vec<Plan>,
}

impl Ladder {
    /// No conversion of a model yet.
    ///
    /// # Errors
    /// Metadata of a GGUF file that cannot be mended.
    pub fn new(mut model: Model) -> Result<Self> {
        if model.origin == Origin::Gguf {
            mend::metadata(&mut model.metadata, &model.files)?;
        }
        Ok(Self { model: Arc::new(model), plans: Vec::new() })
    }

    /// Plans one more conversion. How many threads work and which kernels they use, the first says.
    ///
    /// # Errors
    /// As [`Plan::new_with`].
    pub fn add(&mut self, options: &Options, control: Control<'_>) -> Result<()> {
        let mut plan = Plan::of(Arc::clone(&self.model), options, control)?;
        if let Some(first) = self.plans.first() {
            share_importance(first, &mut plan);
        }
        self.plans.push(plan);
        Ok(())
    }

    /// The plans, in the order of the options.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Bytes that are read from the source.
    pub fn source_bytes(&self) -> u64 {
        self.plans.first().map_or(0, Plan::source_bytes)
    }

    /// Runs all plans, but for those of shards that [are there](Plan::is_there). Each output appears under its name when all of them are complete, one after the
    /// other in the order of the plans.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`Error::Outputs`](crate::Error::Outputs) unless there is one output for each
    /// plan. If giving a name fails, the outputs before it stay.
    pub fn run(self, outputs: &[impl AsRef<Path>], control: Control<'_>) -> Result<()> {
        let (plans, found) = (self.plans.len(), outputs.len());
        if plans != found {
            return Err(crate::Error::Outputs { found, plans });
        }
        // Before space is claimed for any.
        let (mut plans, mut missing) = (Vec::new(), Vec::new());
        for (plan, output) in self.plans.into_iter().zip(outputs) {
            plan.check()?;
            plan.check_output(output.as_ref())?;
            if !plan.is_there(output.as_ref())? {
                plans.push(plan);
                missing.push(output.as_ref());
            }
        }
        let out = plans.iter().zip(missing).map(|(plan, output)| plan.create(output));
        let out = out.collect::<Result<Vec<_>>>()?;
        run_all(&plans, out, control)
    }
}

/// Keeps the importance of a tensor once, where two plans have the same.
fn share_importance(first: &Plan, plan: &mut Plan) {
    let jobs = first.tensors.iter().map(|tensor| &tensor.job);
    let known: HashMap<_, _> =
        jobs.filter_map(|job| Some((job.tensor, job.importance.as_ref()?))).collect();
    for job in plan.tensors.iter_mut().map(|tensor| &mut tensor.job) {
        if let Some(importance) = &mut job.importance
            && let Some(&shared) = known.get(&job.tensor).filter(|shared| **shared == importance)
        {
            *importance = Arc::clone(shared);
        }
    }
}
