//! Small models of every architecture that has a graph, made from the descriptions alone: every
//! tensor that an architecture may have is used, and the cache gives what the whole text does.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;
#[path = "../../gguf-model/tests/common/mod.rs"]
mod descriptions;

use std::ops::ControlFlow;

use common::distance;
use descriptions::Model as Description;
use gguf_io::{GgufFile, Layout, Limits, SourceFile, TensorSpec};
use gguf_model::{FORWARDS, Outcome};
use quant_core::GgmlType;
use quant_evaluate::{
    Model, Options, Pooling, Session,
    importance::Importance,
    layered::{self, LayerByLayer, Reader},
    measure::{self, Keep, Reference},
    perplexity::Windows,
};
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
    let mut metadata = description.metadata.clone();
    if description.architecture.name == "apertus" {
        for (key, value) in [("alpha_n", 0.8f32), ("alpha_p", 0.7), ("beta", 0.5), ("eps", -1e-6)] {
            metadata.insert(&*format!("xielu.{key}"), vec![value; 8]);
        }
    }
    let layout = Layout::new(&metadata, &specs).unwrap();
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
            // Its experts take compressed values that nothing makes.
            Err(error) if what.starts_with("nemotron_h_moe (") && what.ends_with(", Least)") => {
                assert!(error.to_string().contains("has rows of 28, expected 48"), "{error}");
                continue;
            }
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
        if forward.result == Outcome::Embedding {
            let mean = |i: usize| whole.iter().map(|row| row[i]).sum::<f32>() / 50.0;
            let expected = [(0..width).map(mean).collect(), whole[49].clone()];
            let mut session = Session::new(&model, 50).unwrap();
            let pooled = [Pooling::Mean, Pooling::Last]
                .map(|pooling| session.embed(&tokens, pooling).unwrap());
            // With matrices behind the pooling the vector is another one.
            let is_plain = !description.tensors.iter().any(|(name, _)| name.contains("dense_"));
            if is_plain && distance(&expected, &pooled) > 1e-5 {
                failed.push(format!("{what}: pooled otherwise than by hand"));
            }
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

/// NVFP4 files hold a scale beside each quantized tensor, and one for engines that round activations.
#[test]
fn scales_beside_weights_are_used_and_those_of_inputs_need_not_be() {
    let models = descriptions::models();
    let plain = models.iter().find(|model| model.what == "llama (plain, Least)").unwrap();
    let run = |further: &[&str]| {
        let mut description = plain.clone();
        description.tensors.extend(further.iter().map(|name| ((*name).to_owned(), vec![1])));
        let source = Gguf::try_from(file(&description)).unwrap();
        let model = Model::from_source(source, &Options::default())?;
        let mut session = Session::new(&model, 8)?;
        let mut rows = Vec::new();
        session.forward(&[1, 2, 3, 4], 0..4, |_, row| rows.push(row.to_vec()))?;
        Ok::<_, quant_evaluate::Error>(rows)
    };
    let without = run(&[]).unwrap();
    let inputs = ["blk.0.attn_q.input_scale", "blk.0.ffn_down.input_scale"];
    assert_eq!(run(&inputs).unwrap(), without);
    assert!(distance(&run(&["blk.0.attn_v.scale"]).unwrap(), &without) > 1e-3);
    // Of what is not multiplied there is none: it would be left unused without a word.
    let error = run(&["blk.0.attn_norm.input_scale"]).unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_norm.input_scale"), "{error}");
}

fn on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn layer_by_layer_every_bit_is_the_same() {
    let mut failed = Vec::new();
    let tokens: Vec<u32> = (0..150).map(|i| i * i % 37).collect();
    let windows = Windows::new(&tokens, 50, Some(1)).unwrap();
    for description in descriptions::models() {
        let Some(forward) = description.architecture.forward() else { continue };
        let predicts = forward.attention.causal && forward.result == Outcome::Logits;
        // Those with all that they may have are enough.
        if !predicts || !description.what.ends_with("Most)") {
            continue;
        }
        let open = |options: &Options| {
            Model::from_source(Gguf::try_from(file(&description)).unwrap(), options)
        };
        let Ok(whole) = open(&Options::default()) else { continue };
        let mut session = Session::new(&whole, 50).unwrap();
        let perplexity = measure::perplexity(&mut session, &windows, &mut on).unwrap();
        let mut importance = Importance::for_model(&whole, 50, true);
        measure::importance(&mut session, &windows, &mut importance, true, &mut on).unwrap();
        // All windows together, and one after the other.
        for activations in [1 << 30, 1] {
            let mut options = Options::default();
            (options.layer_by_layer, options.activations) = (true, activations);
            let model = open(&options).unwrap();
            assert!(Session::new(&model, 50).is_err());
            let mut layers = on;
            let mut reader = LayerByLayer::new(&model, windows.clone(), usize::MAX, &mut layers);
            let found = measure::perplexity(&mut reader, &windows, &mut on).unwrap();
            let mut sums = Importance::for_model(&model, 50, true);
            layered::importance(&model, &windows, &mut sums, true, &mut on).unwrap();
            let at_once = measure::at_once(model.vocabulary());
            let mut layers = on;
            let mut nothing = |_: &[f32]| {};
            let mut in_memory = Reader::new(&whole, &windows, at_once, &mut layers).unwrap();
            let reference = Reference::Predictor(&mut in_memory, Keep(&mut nothing));
            let mut layers = on;
            let reader = Reader::new(&model, &windows, at_once, &mut layers).unwrap();
            let divergence = measure::divergence(reference, &mut [reader], &windows, &mut on);
            let divergence = divergence.unwrap()[0].statistics().unwrap();
            if found != perplexity
                || sums.to_gguf().unwrap() != importance.to_gguf().unwrap()
                || divergence.max_kld.abs() > 1e-5
            {
                failed.push(format!("{}: {found:?}, expected {perplexity:?}", description.what));
            }
        }
    }
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), failed.join("\n"));
}
