//! How a model is opened and run.

use std::{fmt, sync::Arc};

use gguf_io::Limits;
use quant_kernels::{Kernels, Parallel, Serial};

use crate::CachePrecision;

/// Threads that a model may share with others.
pub type Threads = Arc<dyn Parallel + Send + Sync>;

/// How a model is opened and run.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The threads that products and attention run on.
    pub threads: Threads,
    /// The instructions that they use.
    pub kernels: Kernels,
    /// How keys and values are kept.
    pub cache: CachePrecision,
    /// Limits for reading headers.
    pub limits: Limits,
    /// Bytes that weights and the cache of a session may take together; `None` is no limit.
    pub memory: Option<u64>,
    /// Whether layers stay in the file until they are needed, one at a time. Such a model runs over the
    /// windows of a text, [layer by layer](crate::layered), and in no [`Session`](crate::Session).
    pub layer_by_layer: bool,
    /// Bytes that the vectors of the windows may take that go through a layer together when a model runs
    /// layer by layer, unless one window takes more. The model is read once for each such batch.
    pub activations: u64,
    /// Bytes that the activations of a chunk of text may take. A long text is run in chunks of at most
    /// 512 tokens, fewer in wide models, but never fewer than 32.
    pub working_space: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: Arc::new(Serial),
            kernels: Kernels::best(),
            cache: CachePrecision::default(),
            limits: Limits::default(),
            memory: None,
            layer_by_layer: false,
            activations: 1 << 30,
            working_space: 64 << 20,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("threads", &self.threads.threads())
            .field("kernels", &self.kernels)
            .field("cache", &self.cache)
            .field("memory", &self.memory)
            .field("working_space", &self.working_space)
            .finish_non_exhaustive()
    }
}
