//! Runs language models, to say how good their files are.
#![forbid(unsafe_code)]

pub mod chat;
pub mod generate;
pub mod importance;
pub mod kl;
pub mod kld;
pub mod measure;
pub mod perplexity;
pub mod sample;
