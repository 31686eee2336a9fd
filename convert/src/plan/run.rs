//! Running a plan.

use std::{cmp::Reverse, collections::HashMap, path::Path};

use gguf_io::{AtomicFile, AtomicSet};

use super::Plan;
use crate::{
    Control, Result,
    inputs::Inputs,
    stream::{Output, Places, sinks, stream},
};

impl Plan {
    /// Runs the plan: writes `output`, which appears under its name only when it is complete. The
    /// files of a split output ([`paths`](Self::paths)) appear together.
    ///
    /// The bytes are the same for any number of threads and any instruction set.
    ///
    /// # Errors
    /// [`Error::SameFile`](crate::Error::SameFile) if the output is one of
    /// the inputs, [`Error::NonFinite`](crate::Error::NonFinite) and
    /// [`Error::Overflow`](crate::Error::Overflow) for weights that cannot be quantized (that some
    /// become zero is only warned of), [`Error::Cancelled`](crate::Error::Cancelled), and
    /// [`Error::Files`](crate::Error::Files) for whatever reading and writing runs into.
    pub fn run(self, output: &Path, control: Control<'_>) -> Result<()> {
        let out = self.create(output)?;
        self.run_into(out, control)
    }

    /// Creates the temporaries that [`run`](Self::run) writes to, for a caller that puts writers of
    /// its own [around them](AtomicSet::wrap_writer).
    ///
    /// # Errors
    /// As [`run`](Self::run), before anything is read.
    pub fn create(&self, output: &Path) -> Result<AtomicSet> {
        self.check()?;
        let paths = self.paths(output);
        for path in &paths {
            self.inputs().refuse_file(path)?;
        }
        let sizes = self.layouts.iter().map(|layout| layout.total);
        let files: Vec<_> = paths.into_iter().zip(sizes).collect();
        let set = AtomicSet::create(&files, self.running.output)?;
        for (file, layout) in set.files().iter().zip(&self.layouts) {
            file.expect_header(layout.header.len() as u64);
        }
        Ok(set)
    }

    /// What [`create`](Self::create) would refuse of an output, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check_output(&self, output: &Path) -> Result<()> {
        for (path, layout) in self.paths(output).iter().zip(&self.layouts) {
            self.inputs().refuse_file(path)?;
            AtomicFile::check(path, layout.total, self.running.output)?;
        }
        Ok(())
    }

    /// [Runs](Self::run) the plan into what [`create`](Self::create) has made.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_into(self, out: AtomicSet, control: Control<'_>) -> Result<()> {
        run_all(&[self], vec![out], control)
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { model: &self.model, imatrix: self.running.imatrix.as_deref() }
    }
}

/// Runs plans of one model, whose tensors are read once, into what [`Plan::create`] has made for each.
pub(super) fn run_all(plans: &[Plan], out: Vec<AtomicSet>, control: Control<'_>) -> Result<()> {
    let Some(first) = plans.first() else { return Ok(()) };
    let mut work = Vec::new();
    let mut files = Vec::new();
    for (plan, out) in plans.iter().zip(&out) {
        let before = files.len();
        files.extend(sinks(out.files()));
        let placed = plan.placed();
        work.extend(plan.tensors.iter().zip(placed).map(|(tensor, (shard, placed))| {
            (&tensor.job, Places::one(before.saturating_add(shard), placed.offset))
        }));
    }
    // Jobs of a tensor side by side, tensors in the order of the first plan.
    let order: HashMap<_, _> = work.iter().map(|(job, _)| job.tensor).rev().zip(0usize..).collect();
    work.sort_by_key(|(job, _)| Reverse(order.get(&job.tensor)));
    let (jobs, places): (Vec<_>, _) = work.into_iter().unzip();
    let output = Output { files, places };
    stream(&first.model, &jobs, &output, &first.running, control)?;
    // The headers go last: a file that has one is whole.
    for (plan, out) in plans.iter().zip(&out) {
        for (file, layout) in out.files().iter().zip(&plan.layouts) {
            file.write_all_at(&layout.header, 0)?;
        }
    }
    control.check()?;
    out.into_iter().try_for_each(|set| Ok(set.commit()?))
}
