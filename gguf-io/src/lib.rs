//! Model files.
#![forbid(unsafe_code)]

pub mod metadata;
