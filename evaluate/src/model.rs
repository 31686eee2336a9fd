//! A model in memory.

use std::{fmt, path::Path};

use gguf_io::Metadata;
use gguf_model::{Architecture, Content, Forward, check};
use quant_weights::{Gguf, Source};

use crate::{
    Error, Options, Result,
    load::{Loader, Read, Weights},
    run::{Runner, layer::Layer},
};

/// A model whose weights are in memory, packed for products.
pub struct Model {
    pub(crate) source: Box<dyn Source + Send>,
    pub(crate) weights: Weights,
    pub(crate) architecture: &'static Architecture,
    pub(crate) forward: &'static Forward,
    pub(crate) options: Options,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("architecture", &self.forward.architecture)
            .field("weight_bytes", &self.weight_bytes())
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Opens a GGUF file, or the first shard of a split one, and packs its weights.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Model`] if keys and tensors contradict each other,
    /// with the first problem; [`Error::NoGraph`] if it is not known how to run it; [`Error::Tensor`] for
    /// a tensor that running it would ignore; [`Error::Memory`].
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Self::from_source(Gguf::open(path, &options.limits)?, options)
    }

    /// As [`open`](Self::open), of a checkpoint or whatever else shows itself as the GGUF file that it
    /// would become. It is run in its own precision.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_source(source: impl Source + Send + 'static, options: &Options) -> Result<Self> {
        Self::read(source, options, if options.layer_by_layer { Read::Ends } else { Read::All })
    }

    pub(crate) fn read(
        source: impl Source + Send + 'static,
        options: &Options,
        read: Read,
    ) -> Result<Self> {
        let path = || source.files().first().map(|f| f.path().to_owned()).unwrap_or_default();
        let wrong = |message: String| Error::Model { file: path(), message };
        let tensors = source.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice()));
        let report = check(source.metadata(), tensors);
        if let Some(first) = report.problems.first() {
            return Err(wrong(first.of(report.problem_count)));
        }
        let architecture = match report.content {
            Content::Model(architecture) => architecture,
            Content::Vocabulary => {
                return Err(wrong("holds a vocabulary alone, no model that could be run".into()));
            }
            _ => {
                let kind =
                    source.metadata().get_str("general.type").filter(|kind| *kind != "model");
                if let Some(kind) = kind {
                    let kind = gguf_io::message::Quoted(kind);
                    return Err(wrong(format!(
                        "holds no language model: its general.type is {kind}"
                    )));
                }
                let name = source.metadata().get_str("general.architecture").unwrap_or_default();
                return Err(no_graph(path(), name));
            }
        };
        let forward = architecture.forward().ok_or_else(|| no_graph(path(), architecture.name))?;
        let weights = Loader::load(&source, options, architecture, forward, read)?;
        let source = Box::new(source);
        Ok(Self { source, weights, architecture, forward, options: options.clone() })
    }

    /// The file's keys.
    pub fn metadata(&self) -> &Metadata {
        self.source.metadata()
    }

    /// The files and tensors that it was made of.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// How models of its architecture are run.
    pub fn forward_description(&self) -> &'static Forward {
        self.forward
    }

    /// Tokens of the vocabulary: the length of a row of logits. Larger than the tokenizer's list where
    /// the matrix was padded.
    pub fn vocabulary(&self) -> usize {
        self.weights.vocabulary
    }

    /// Values of a token's vector.
    pub fn width(&self) -> usize {
        self.weights.width
    }

    /// Tokens that the model was trained to see, as its file says.
    pub fn trained_context(&self) -> usize {
        self.weights.trained_context
    }

    /// Whether its layers are read one at a time, while it runs.
    pub fn is_layer_by_layer(&self) -> bool {
        self.options.layer_by_layer
    }

    /// Bytes of the weights in memory; of a model whose layers are read one at a time, of all of them.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes
    }

    /// A layer of a model that was opened without its layers.
    pub(crate) fn load_layer(&self, layer: usize) -> Result<Layer> {
        let (source, weights) = (&*self.source, &self.weights);
        Loader::load_layer(source, &self.options, self.architecture, self.forward, weights, layer)
    }

    pub(crate) fn runner(&self) -> Runner<'_> {
        Runner::new(self.options.kernels, &*self.options.threads)
    }

    /// Bytes of what the layers keep of so many tokens: keys and values, and the states of recurrent
    /// layers, which do not grow.
    pub fn cache_bytes(&self, context: usize) -> u64 {
        self.weights.cache_bytes(self.options.cache, context)
    }
}

fn no_graph(file: std::path::PathBuf, architecture: &str) -> Error {
    let known: Vec<_> = gguf_model::FORWARDS.iter().map(|f| f.architecture).collect();
    Error::NoGraph { file, architecture: architecture.to_owned(), known: known.join(", ") }
}
