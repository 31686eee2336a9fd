//! Block formats of ggml.
#![forbid(unsafe_code)]

mod error;
mod types;

pub use error::Error;
pub use types::GgmlType;
