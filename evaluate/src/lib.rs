//! Runs language models, to say how good their files are.
#![forbid(unsafe_code)]
