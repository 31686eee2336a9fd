//! What a conversion is asked to do.

use std::{path::PathBuf, sync::Arc};

use gguf_io::{
    Imatrix, Limits, OutputOptions, SourceFile, metadata::Value, safetensors::Preference,
};
use quant_core::{GgmlType, can_improve, formats::Rows};
use quant_kernels::Kernels;

use crate::recipe::Request;

/// Options of a conversion, without those that only printing needs. [Opening](crate::open) and
/// [planning](crate::Plan::new) take what concerns them; a plan keeps what its run needs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The recipe and its options.
    pub request: Request,
    /// The importance matrix.
    pub imatrix: Option<PathBuf>,
    /// The importance matrix itself, where it is in memory. [`imatrix`](Self::imatrix) has to be set,
    /// too: it is then no file, but what the metadata of the output calls the matrix.
    pub importance: Option<Arc<Imatrix>>,
    /// Use only entries whose name contains one of these; all if empty.
    pub include_weights: Vec<String>,
    /// Leave out entries whose name contains one of these.
    pub exclude_weights: Vec<String>,
    /// Added to every importance of the matrix, so that none is zero: finite and not negative.
    pub imatrix_prior: f32,
    /// Who searches for the codes of blocks.
    pub search: Search,
    /// Quantize tensors that are quantized already, although that adds errors.
    pub allow_requantize: bool,
    /// Layers to leave out, separated by commas.
    pub prune_layers: Option<String>,
    /// A JSON file with GGUF keys, in the form that gguf-py's converters read. Its values replace
    /// those from the model's own files.
    pub metadata: Option<PathBuf>,
    /// Metadata set or replaced, in order.
    pub override_kv: Vec<(String, Value)>,
    /// llama.cpp's name for the BPE pre-tokenizer; detected if `None`.
    pub pre_tokenizer: Option<String>,
    /// Convert the projector of a multimodal model, its encoder of images or sound, instead of its text
    /// model.
    pub mmproj: bool,
    /// The folder of the base model of a LoRA adapter, or its name on the Hub.
    pub base: Option<PathBuf>,
    /// The folder of the Hugging Face cache, in which base models are looked for.
    pub hub_cache: Option<PathBuf>,
    /// The architecture of safetensors of a kind that is not known: their tensors keep their names.
    pub architecture: Option<String>,
    /// Do as llama.cpp's converter does even where its result is wrong for the user: metadata, and
    /// which of several sets of weights counts.
    pub like_reference: bool,
    /// Write several files instead of one. If `None`, a folder has the same files as the checkpoint.
    pub split: Option<Split>,
    /// Write only this one of the files, counted from 1; all if `None`. Jobs on many machines write a
    /// model so, a file each: see [`Plan::is_there`](crate::Plan::is_there). For GGUF files only.
    pub shard: Option<u64>,
    /// Replace an existing output.
    pub overwrite: bool,
    /// Grouped integers instead of a recipe.
    pub grouped: Option<crate::grouped::Options>,
    /// Skip the flush to the disk before the output gets its name.
    pub no_sync: bool,
    /// Worker threads; 0 for as many as there are cores.
    pub threads: usize,
    /// The kernels to use; the fastest of this CPU if `None`.
    pub kernels: Option<Kernels>,
    /// Limits on what readers may allocate.
    pub limits: Limits,
    /// Files of the model that were opened before and need not be on this machine: weights of a
    /// checkpoint, known by their names, whose folder holds its other files; or a GGUF file, or its
    /// shards.
    pub elsewhere: Vec<SourceFile>,
}

impl Options {
    /// What of them a run needs.
    pub(crate) fn running(&self) -> Running {
        Running {
            output: OutputOptions { overwrite: self.overwrite, sync: !self.no_sync },
            search: self.search,
            threads: self.threads,
            kernels: self.kernels.unwrap_or_default(),
            imatrix: self.imatrix.clone().filter(|_| self.importance.is_none()),
        }
    }
}

/// Who searches for the codes of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Search {
    /// ggml's searches: tensors equal llama-quantize's.
    #[default]
    Reference,
    /// [`quant_core::improve`] after them, in the types that it knows: the same formats with smaller errors.
    /// The metadata say so under `quantize.search`.
    Better,
}

impl Search {
    /// The key that says who searched, where it was not the reference.
    pub(crate) const KEY: &str = "quantize.search";
    /// What [`Search::Better`] is called there.
    pub(crate) const BETTER: &str = "better";

    /// Who searches for the codes of this type: the reference where they cannot be improved.
    pub(crate) fn of(self, ty: GgmlType) -> Self {
        if can_improve(ty) { self } else { Self::Reference }
    }

    /// Quantizes rows, and improves the blocks where that is asked for and can be done.
    pub(crate) fn quantize(
        self,
        kernels: Kernels,
        ty: GgmlType,
        rows: Rows<'_>,
        blocks: &mut [u8],
    ) -> Result<(), quant_core::Error> {
        kernels.quantize_unchecked(ty, rows, blocks)?;
        if self.of(ty) == Self::Better {
            kernels.improve(ty, rows, blocks)?;
        }
        Ok(())
    }
}

/// What a plan keeps of its options for the time when it runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// How outputs are written.
    pub(crate) output: OutputOptions,
    /// Who searches for the codes of blocks.
    pub(crate) search: Search,
    /// Worker threads; 0 for as many as there are cores.
    pub(crate) threads: usize,
    pub(crate) kernels: Kernels,
    /// The importance matrix, which no output may replace.
    pub(crate) imatrix: Option<PathBuf>,
}

/// How the output is split into several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Split {
    /// As llama-gguf-split does by size: a new file where the tensors of one would take more bytes.
    MaxBytes(u64),
    /// As llama-gguf-split does by number: a new file after this many tensors.
    MaxTensors(u64),
    /// This many files of about the same size.
    Files(u64),
    /// As llama-quantize does with `--keep-split`: the files of the source are kept.
    Keep,
}

impl Split {
    /// The rule for a layout; `files` are the numbers of the files that the tensors come from.
    pub(crate) fn by(self, files: &[usize]) -> gguf_io::Split<'_> {
        match self {
            Self::MaxBytes(most) => gguf_io::Split::MaxBytes(most),
            Self::MaxTensors(most) => gguf_io::Split::MaxTensors(most),
            Self::Files(files) => gguf_io::Split::Files(files),
            Self::Keep => gguf_io::Split::Given(files),
        }
    }
}

/// How to read a checkpoint.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// llama.cpp's name for the BPE pre-tokenizer, instead of finding it out.
    pub pre_tokenizer: Option<String>,
    /// A JSON file with keys of GGUF that replace those of the model card and the like.
    pub metadata: Option<PathBuf>,
    /// Open the projector of a multimodal model instead of its text model.
    pub mmproj: bool,
    /// The folder of the base model of a LoRA adapter, or its name on the Hub.
    pub base: Option<PathBuf>,
    /// The folder of the Hugging Face cache, in which base models are looked for.
    pub hub_cache: Option<PathBuf>,
    /// Do as llama.cpp's converter does even where its result is wrong for the user.
    pub like_reference: bool,
    /// Limits on what the headers of the weights may allocate.
    pub limits: Limits,
    /// Weights that were opened before, known by the names of their files: they come before those in
    /// the folder.
    pub elsewhere: Vec<SourceFile>,
}

impl From<&Options> for CheckpointOptions {
    fn from(options: &Options) -> Self {
        Self {
            pre_tokenizer: options.pre_tokenizer.clone(),
            metadata: options.metadata.clone(),
            mmproj: options.mmproj,
            base: options.base.clone(),
            hub_cache: options.hub_cache.clone(),
            like_reference: options.like_reference,
            limits: options.limits,
            elsewhere: options.elsewhere.clone(),
        }
    }
}

/// Which of two sets of weights counts: the reference goes by the index, transformers does not.
pub(crate) fn preference(like_reference: bool) -> Preference {
    if like_reference { Preference::Index } else { Preference::SingleFile }
}
