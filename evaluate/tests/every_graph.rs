//! Small models of every architecture that has a graph, made from the descriptions alone: every
//! tensor that an architecture may have is used, and the cache gives what the whole text does.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;
#[path = "../../gguf-model/tests/common/mod.rs"]
mod descriptions;

use common::distance;
use descriptions::Model as Description;
use gguf_io::{GgufFile, Layout, Limits, SourceFile, TensorSpec};
use gguf_model::{FORWARDS, Outcome};
use quant_core::GgmlType;
use quant_evaluate::{Model, Options, Session};
use quant_weights::Gguf;

/// A file of a description with small random weights.
fn file(description: &Description) -> GgufFile {
    let specs: Vec<_> = description
        .tensors
        .iter()
        .map(|(name, shape)| TensorSpec {
            name: name.clone(),
            ty: GgmlType::F32,
            shape: shape.clone(),
        })
        .collect();
    let layout = Layout::new(&description.metadata, &specs).unwrap();
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    let mut state = 1u32;
    let start = layout.header.len();
    for value in bytes[start..].as_chunks_mut::<4>().0 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        *value = (0.4 * random + 0.02).to_le_bytes();
    }
    GgufFile::read(SourceFile::from_bytes("small.gguf", bytes), &Limits::default()).unwrap()
}

#[test]
fn every_tensor_is_used_and_the_cache_changes_nothing() {
    let mut failed = Vec::new();
    let mut count = 0;
    for forward in FORWARDS {
        let described = gguf_model::Architecture::find(forward.architecture);
        assert!(described.is_some(), "{} is not described", forward.architecture);
    }
    for description in descriptions::models() {
        let Some(forward) = description.architecture.forward() else { continue };
        count += 1;
        let what = &description.what;
        let source = Gguf::try_from(file(&description)).unwrap();
        let model = match Model::from_source(source, &Options::default()) {
            Ok(model) => model,
            Err(error) => {
                failed.push(format!("{what}: {error}"));
                continue;
            }
        };
        let tokens: Vec<u32> = (0..50).map(|i| i * 7 % 40).collect();
        let run = |cuts: &[usize]| {
            let mut session = Session::new(&model, 50).unwrap();
            let mut rows = Vec::new();
            let mut rest = &tokens[..];
            for cut in cuts {
                let (these, after) = rest.split_at(*cut);
                rest = after;
                session.forward(these, 0..50, |_, row| rows.push(row.to_vec())).unwrap();
            }
            rows
        };
        let whole = run(&[50]);
        let width = match forward.result {
            Outcome::Logits => model.vocabulary(),
            Outcome::Embedding => model.width(),
        };
        assert!(whole.len() == 50 && whole.iter().all(|row| row.len() == width), "{what}");
        if !whole.iter().flatten().all(|v| v.is_finite()) {
            failed.push(format!("{what}: not finite"));
        }
        if forward.attention.causal && forward.result == Outcome::Logits {
            let distance = distance(&whole, &run(&[33, 1, 16]));
            if distance > 1e-5 {
                failed.push(format!("{what}: with a cache {distance:e}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
}
