//! What the tests of several crates share: the types to go through, golden data, values. Never published:
//! tests name it by its path.
//!
//! Integration tests only. Unit tests of `quant-core` are compiled with another copy of that crate, whose
//! types are not the ones here.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::path::Path;

use quant_core::{GgmlType, can_dequantize, can_quantize};
use safetensors::SafeTensors;

/// The block formats that can be quantized, by ggml's list of types.
pub fn quantizable() -> impl Iterator<Item = GgmlType> {
    formats(can_quantize)
}

/// The block formats that can be dequantized, by ggml's list of types.
pub fn dequantizable() -> impl Iterator<Item = GgmlType> {
    formats(can_dequantize)
}

/// The block formats that `has` has.
fn formats(has: fn(GgmlType) -> bool) -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(move |ty| ty.is_quantized() && has(*ty))
}

/// How many cases a property is tried with: `usual`, or fewer where the environment's `PROPTEST_CASES` says so.
/// An emulator takes minutes for what a CPU does in seconds.
pub fn cases(usual: u32) -> u32 {
    let most = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    most.map_or(usual, |most: u32| usual.min(most))
}

/// A file of `fixtures/golden`.
pub struct Golden(Vec<u8>);

impl Golden {
    /// Rows of twenty kinds, what the reference makes of them, and products with them.
    ///
    /// # Panics
    /// If the file cannot be read.
    pub fn rows() -> Self {
        Self::open("quantize-rows.safetensors")
    }

    /// A file by its name.
    ///
    /// # Panics
    /// If the file cannot be read.
    pub fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden");
        Self(std::fs::read(folder.join(name)).unwrap())
    }

    /// The tensors in it.
    ///
    /// # Panics
    /// If it is no safetensors file.
    pub fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }
}

/// Little-endian numbers in single precision.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}
