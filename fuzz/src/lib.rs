//! What the targets share: a folder in memory, if there is one, and small models.

#![forbid(unsafe_code)]

mod checkpoint;
pub mod models;
mod parts;

use std::{path::Path, sync::OnceLock};

use gguf_io::{Layout, Metadata, TensorSpec};
use quant_core::GgmlType;

pub use checkpoint::{PACKED, Tensors, open_with, packed, save};
pub use parts::{adapter, encoder};

/// A folder of this process, where the environment puts temporaries.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path()
}

/// A model of one layer whose tensors hold the bytes given, over and over.
pub fn model(shape: u64, values: &[u8]) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    for key in ["block_count", "attention.head_count", "context_length", "embedding_length"] {
        metadata.insert(format!("llama.{key}"), 1u32);
    }
    let columns = [32, 64, 256, 288, 512, 1, 33, 0][(shape % 8) as usize];
    let types = [GgmlType::F32, GgmlType::F16, GgmlType::BF16, GgmlType::Q8_0];
    let ty = match types[(shape / 8 % 4) as usize] {
        GgmlType::Q8_0 if columns % 32 != 0 => GgmlType::F32,
        ty => ty,
    };
    let names = ["token_embd", "output", "blk.0.attn_q", "blk.0.attn_v", "blk.0.ffn_down"];
    let specs = names.map(|name| TensorSpec {
        name: format!("{name}.weight"),
        ty,
        shape: vec![columns, 1 + shape / 64],
    });
    let layout = Layout::new(&metadata, &specs).expect("a sound layout");
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    for (i, tensor) in layout.tensors.iter().enumerate() {
        let data = values.iter().cycle().skip(i).take(tensor.bytes as usize);
        let out = &mut bytes[tensor.offset as usize..];
        out.iter_mut().zip(data).for_each(|(out, byte)| *out = *byte);
    }
    bytes
}
