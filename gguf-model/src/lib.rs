//! What a GGUF model is.

#![forbid(unsafe_code)]

mod architecture;
mod architectures;
mod check;
mod parameters;
mod problem;
mod size;
mod vocabulary;

pub use architecture::{
    Activation, Architecture, Expected, Graph, Key, Kind, Need, Norm, Rope, Slot, Turned, When,
};
pub use architectures::ALL;
pub use check::{Content, Report, check, check_file};
pub use parameters::{COMMON, HyperParameters, MAX_EXPERTS, MAX_LAYERS};
pub use problem::{Problem, ProblemKind};
pub use size::{Dimension, Size};
