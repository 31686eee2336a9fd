//! Runs a model.

pub(crate) mod attend;
pub(crate) mod attention;
mod block;
pub(crate) mod cache;
mod chunk;
mod embed;
pub(crate) mod experts;
pub(crate) mod feed_forward;
mod functions;
pub(crate) mod latent;
pub(crate) mod layer;
pub(crate) mod matrix;
pub(crate) mod mlp;
pub(crate) mod norm;
mod projected;
pub(crate) mod recurrence;
pub(crate) mod recurrent;
pub(crate) mod rope;
pub(crate) mod runner;
mod session;
pub(crate) mod sight;
pub(crate) mod split;
mod watch;

pub use cache::CachePrecision;
pub(crate) use chunk::{Chunk, chunk_len};
pub use embed::Pooling;
pub(crate) use functions::{Function, Xielu};
pub(crate) use layer::Memory;
pub(crate) use rope::Turns;
pub(crate) use runner::{Replaced, Runner};
pub use session::Session;
pub use watch::Observer;
pub(crate) use watch::Watch;
