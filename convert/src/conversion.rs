//! A conversion from beginning to end: what is read, what is asked for, the plan, the output.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
};

use gguf_io::{Imatrix, metadata::Value};

use crate::{
    Control, Options, Plan, Result, Split,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};

/// A conversion that is to be planned.
///
/// ```no_run
/// use quant_convert::{Conversion, recipe::FileType};
///
/// let plan = Conversion::new("checkpoint").file_type(FileType::Q4_K_M).plan()?;
/// plan.write("model.gguf")?;
/// # Ok::<(), quant_convert::Error>(())
/// ```
///
/// Without further calls it does what the command line does without options: `Q4_K_M`, one file, as
/// many threads as there are cores, and no output is replaced. What has no method here is a field of
/// [`Options`]: [`with_options`](Self::with_options).
#[derive(Clone, Debug)]
#[must_use = "nothing is read before it is planned"]
pub struct Conversion {
    input: PathBuf,
    options: Options,
    folder: bool,
}

impl Conversion {
    /// A conversion of a checkpoint's folder or a GGUF file, of which nothing is read yet.
    pub fn new(input: impl Into<PathBuf>) -> Self {
        let request = Request::new(FileType::Q4_K_M);
        let options = Options { request, ..Options::default() };
        Self { input: input.into(), options, folder: false }
    }

    /// Takes all options at once, in place of those so far.
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// The recipe, by its variant or parsed from its name. Without any, it is Q4_K_M.
    pub fn file_type(mut self, file_type: FileType) -> Self {
        self.options.request.file_type = Some(file_type);
        self
    }

    /// No recipe: every tensor keeps the precision that it has in the input.
    pub fn keep_types(mut self) -> Self {
        self.options.request.file_type = None;
        self
    }

    /// Grouped integers instead of a recipe, in a GGUF file whose blocks hold the same values.
    pub fn grouped(mut self, grouped: grouped::Options) -> Self {
        self.options.request.file_type = None;
        self.options.grouped = Some(grouped);
        self
    }

    /// Writes a Hugging Face folder in the layout of compressed-tensors instead of a GGUF file:
    /// for [grouped integers](Self::grouped) from a checkpoint.
    pub fn folder(self, folder: bool) -> Self {
        Self { folder, ..self }
    }

    /// An importance matrix in a file.
    pub fn imatrix(mut self, path: impl Into<PathBuf>) -> Self {
        (self.options.imatrix, self.options.importance) = (Some(path.into()), None);
        self
    }

    /// An importance matrix in memory; the metadata of the output calls it `name`.
    pub fn importance(mut self, name: impl Into<PathBuf>, matrix: impl Into<Arc<Imatrix>>) -> Self {
        let matrix = Some(matrix.into());
        (self.options.imatrix, self.options.importance) = (Some(name.into()), matrix);
        self
    }

    /// Sets or replaces a key of the metadata.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.override_kv.push((key.into(), value.into()));
        self
    }

    /// Writes several files instead of one.
    pub fn split(mut self, split: Split) -> Self {
        self.options.split = Some(split);
        self
    }

    /// Whether an existing output is replaced.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.options.overwrite = overwrite;
        self
    }

    /// Worker threads; 0 for as many as there are cores.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Opens the input and plans its output: names, types, places and the exact size, before a
    /// weight is read.
    ///
    /// # Errors
    /// As [`open`] and [`Plan::new`], or [`FolderPlan::new`]. What prevents only the writing is left
    /// to [`Planned::check`], so that the plan can be shown.
    pub fn plan(self) -> Result<Planned> {
        self.plan_with(Control::default())
    }

    /// [`plan`](Self::plan) that can be cancelled: grouped integers with a ratio read all weights.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn plan_with(self, control: Control<'_>) -> Result<Planned> {
        let Self { input, options, folder } = self;
        if folder {
            return Ok(Planned::Folder(FolderPlan::new(&input, &options, control)?));
        }
        let model = open(&input, &options)?;
        Ok(Planned::Gguf(Plan::new_with(model, &options, control)?))
    }
}

/// A conversion that is ready to be written, as often as wanted.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one of them, and it is not moved about")]
#[must_use = "nothing is written until it is told to"]
pub enum Planned {
    /// A GGUF file, or the shards of one.
    Gguf(Plan),
    /// A Hugging Face folder.
    Folder(FolderPlan),
}

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutputTensor<'a> {
    /// Its name in the output.
    pub name: &'a str,
    /// Dimensions, innermost first.
    pub shape: &'a [u64],
    /// The name of its type, e.g. `Q4_K` or `INT4_SYM`.
    pub ty: Cow<'static, str>,
    /// Bytes of its data.
    pub bytes: u64,
}

impl Planned {
    /// The tensors, in the order they are written.
    pub fn tensors(&self) -> Vec<OutputTensor<'_>> {
        match self {
            Self::Gguf(plan) => plan
                .tensors()
                .map(|t| OutputTensor {
                    name: t.name,
                    shape: t.shape,
                    ty: t.ty.name().into(),
                    bytes: t.bytes,
                })
                .collect(),
            Self::Folder(plan) => plan
                .tensors()
                .map(|t| OutputTensor {
                    name: t.name,
                    shape: t.shape,
                    ty: t.ty.into(),
                    bytes: t.bytes,
                })
                .collect(),
        }
    }

    /// The recipe; `None` if every tensor keeps its type, and for a folder.
    pub fn file_type(&self) -> Option<FileType> {
        match self {
            Self::Gguf(plan) => plan.file_type(),
            Self::Folder(_) => None,
        }
    }

    /// Size of the output in bytes: of its weight files, if it is a folder.
    pub fn total_bytes(&self) -> u64 {
        match self {
            Self::Gguf(plan) => plan.total_bytes(),
            Self::Folder(plan) => plan.total_bytes(),
        }
    }

    /// Bytes that are read from the input.
    pub fn source_bytes(&self) -> u64 {
        match self {
            Self::Gguf(plan) => plan.source_bytes(),
            Self::Folder(plan) => plan.source_bytes(),
        }
    }

    /// Bits per weight over all tensors, headers left out.
    pub fn bits_per_weight(&self) -> f64 {
        match self {
            Self::Gguf(plan) => plan.bits_per_weight(),
            Self::Folder(plan) => plan.bits_per_weight(),
        }
    }

    /// The paths that are written for `output`: itself, or those of its shards.
    pub fn paths(&self, output: impl AsRef<Path>) -> Vec<PathBuf> {
        match self {
            Self::Gguf(plan) => plan.paths(output.as_ref()),
            Self::Folder(_) => vec![output.as_ref().to_owned()],
        }
    }

    /// Whether it can be written, wherever to. Asking changes nothing: the answer stays the same.
    ///
    /// # Errors
    /// As [`Plan::check`]; none of a folder.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Gguf(plan) => plan.check(),
            Self::Folder(_) => Ok(()),
        }
    }

    /// Whether `output` can be written, without creating anything.
    ///
    /// # Errors
    /// As [`Plan::check_output`] and [`FolderPlan::check_output`].
    pub fn check_output(&self, output: impl AsRef<Path>) -> Result<()> {
        match self {
            Self::Gguf(plan) => plan.check_output(output.as_ref()),
            Self::Folder(plan) => plan.check_output(output.as_ref()),
        }
    }

    /// Whether the output of [one shard](Options::shard) is there already.
    ///
    /// # Errors
    /// As [`Plan::is_there`].
    pub fn is_there(&self, output: impl AsRef<Path>) -> Result<bool> {
        match self {
            Self::Gguf(plan) => plan.is_there(output.as_ref()),
            Self::Folder(_) => Ok(false),
        }
    }

    /// Writes the output, which appears under its name when it is complete.
    ///
    /// # Errors
    /// As [`Plan::run`] and [`FolderPlan::run`].
    pub fn write(&self, output: impl AsRef<Path>) -> Result<()> {
        self.write_with(output, Control::default())
    }

    /// [`write`](Self::write), watched and stopped by the caller.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn write_with(&self, output: impl AsRef<Path>, control: Control<'_>) -> Result<()> {
        match self {
            Self::Gguf(plan) => plan.run(output.as_ref(), control),
            Self::Folder(plan) => plan.run(output.as_ref(), control),
        }
    }
}
