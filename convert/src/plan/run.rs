//! Running a plan.

use std::{cmp::Reverse, collections::HashMap, path::Path};

use gguf_io::{AtomicFile, AtomicSet, Layout, SourceFile};

use super::Plan;
use crate::{
    Control, Error, Result,
    error::Shown,
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
    pub fn run(&self, output: &Path, control: Control<'_>) -> Result<()> {
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

    /// Whether the file of a plan of [one shard](crate::Options::shard) is there already: it has the
    /// planned header and length, so that it was complete when it got its name. It need not be
    /// written again, and [`run`](Self::run) would refuse to.
    ///
    /// The header tells names, types and shapes, and in the first shard the metadata. Whether the
    /// weights are those of the same model it does not tell; inputs that are newer than the file are
    /// warned of.
    ///
    /// `false` for other plans, and where outputs may be [replaced](crate::Options::overwrite).
    ///
    /// # Errors
    /// [`Error::OtherShard`] if there is another file, [`Error::Files`] if it cannot be read.
    pub fn is_there(&self, output: &Path) -> Result<bool> {
        if !self.is_shard || self.running.output.overwrite {
            return Ok(false);
        }
        for (path, layout) in self.paths(output).iter().zip(&self.layouts) {
            if std::fs::symlink_metadata(path).is_err() {
                return Ok(false);
            }
            if let Some(byte) = difference(path, layout)? {
                return Err(Error::OtherShard { path: path.clone(), byte });
            }
            self.warn_of_newer(path);
        }
        Ok(true)
    }

    /// Warns if an input was written after the output: what is there may have been made of another.
    fn warn_of_newer(&self, output: &Path) {
        let time = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let Some(written) = time(output) else { return };
        let Inputs { model, imatrix } = self.inputs();
        let mut inputs = model.files.iter().map(SourceFile::path).chain(imatrix);
        if let Some(newer) = inputs.find(|input| time(input).is_some_and(|time| time > written)) {
            tracing::warn!(
                kind = "older-shard",
                "{} is left alone though {} was written after it; if that is another file than the \
                 shard was made of, write the shard again with `overwrite`",
                Shown(output),
                Shown(newer)
            );
        }
    }

    /// What [`create`](Self::create) would refuse of an output, told without creating anything.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn check_output(&self, output: &Path) -> Result<()> {
        if self.is_there(output)? {
            return Ok(());
        }
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
    pub fn run_into(&self, out: AtomicSet, control: Control<'_>) -> Result<()> {
        run_all(std::slice::from_ref(self), vec![out], control)
    }

    /// Gives complete files their names.
    fn commit(&self, out: AtomicSet) -> Result<()> {
        let path = out.files().first().map(|file| file.path().to_owned());
        match (out.commit(), path, self.layouts.first()) {
            // A job that was started twice has been the first to finish.
            (Err(gguf_io::Error::Exists { .. }), Some(path), Some(layout))
                if self.is_shard && difference(&path, layout)?.is_none() =>
            {
                Ok(())
            }
            (result, ..) => Ok(result?),
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { model: &self.model, imatrix: self.running.imatrix.as_deref() }
    }
}

/// The first byte in which a file is not what is planned, by its header and its length.
fn difference(path: &Path, layout: &Layout) -> Result<Option<u64>> {
    const PIECE: usize = 64 << 10;
    let file = SourceFile::open(path)?;
    let (mut buffer, mut at) = ([0; PIECE], 0);
    for planned in layout.header.chunks(PIECE) {
        let left = usize::try_from(file.len().saturating_sub(at)).unwrap_or(PIECE);
        let found = &mut buffer[..planned.len().min(left)];
        file.read_exact_at(found, at)?;
        let same = found.iter().zip(planned).take_while(|(a, b)| a == b).count();
        at += same as u64;
        if same < planned.len() {
            return Ok(Some(at));
        }
    }
    Ok((file.len() != layout.total).then(|| file.len().min(layout.total)))
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
    plans.iter().zip(out).try_for_each(|(plan, out)| plan.commit(out))
}
