//! Figures of a fixture on the text of the fixtures, against those that llama.cpp 0c1e570 prints for the
//! same file, text and windows.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../examples/collect_importance.rs"]
mod collect_importance;
mod common;
#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/evaluate.rs"]
mod evaluate;
#[path = "../examples/generate.rs"]
mod generate;
#[path = "../examples/next_token.rs"]
mod next_token;

use std::{fs, ops::ControlFlow};

use common::{convert, fixture, model};
use gguf_io::{Limits, SourceFile, imatrix::ImatrixSums};
use gguf_model::{Tokenizer, tokenizer::EncodeOptions};
use quant_evaluate::{
    Model, Session,
    importance::Importance,
    measure::{self, Keep, Reference},
    perplexity::Windows,
};

const CONTEXT: usize = 128;

fn tokens(model: &Model) -> (Vec<u32>, Option<u32>) {
    let tokenizer = Tokenizer::from_metadata(model.metadata()).unwrap();
    let text = fs::read_to_string(fixture("text").join("test.txt")).unwrap();
    // The windows that are used come from its beginning.
    let end = (0..=16 << 10).rev().find(|end| text.is_char_boundary(*end));
    let text = &text[..end.unwrap()];
    (tokenizer.encode(text, EncodeOptions::default()), tokenizer.bos())
}

fn on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn close(found: f64, expected: f64, part: f64) -> bool {
    (found - expected).abs() <= part * expected
}

/// `llama-perplexity -c 128 --chunks 8`, and the same with `--kl-divergence`.
#[test]
fn perplexity_and_divergence_are_llama_cpps() {
    let (base, candidate) = (model("tiny-llama2", "f16"), model("tiny-llama2", "q4_0"));
    let (tokens, bos) = tokens(&base);
    let windows = Windows::new(&tokens, CONTEXT, bos).unwrap().at_most(8);
    let session = |model| Session::new(model, CONTEXT).unwrap();
    let found = measure::perplexity(&mut session(&base), &windows, &mut on).unwrap();
    assert!(close(found.value(), 10.8534, 0.003), "{}", found.value());
    assert!(close(found.error(), 1.12017, 0.01), "{}", found.error());
    let mut reference = session(&base);
    let reference = Reference::Predictor(&mut reference, Keep(&mut |_| {}));
    let found = measure::divergence(reference, &mut [session(&candidate)], &windows, &mut on);
    let found = found.unwrap()[0].statistics().unwrap();
    assert!(close(found.ppl, 11.648721, 0.003), "{found:?}");
    assert!((found.mean_kld - 0.069534).abs() < 0.0007 + 0.06 * 0.069534, "{found:?}");
    assert!((found.ln_ratio - 0.070722).abs() < 0.006, "{found:?}");
    assert!((found.same_top_p - 85.119).abs() < 1.5, "{found:?}");
}

/// `llama-imatrix -c 128 --chunks 4`.
#[test]
fn importance_is_llama_imatrix_s() {
    let model = model("tiny-llama2", "f16");
    let (tokens, bos) = tokens(&model);
    let windows = Windows::new(&tokens, CONTEXT, bos).unwrap().at_most(4);
    let mut importance = Importance::for_model(&model, CONTEXT as u32, false);
    let mut session = Session::new(&model, CONTEXT).unwrap();
    measure::importance(&mut session, &windows, &mut importance, false, &mut on).unwrap();
    importance.check().unwrap();
    let file = SourceFile::from_bytes("imatrix.gguf", importance.to_gguf().unwrap());
    let sums = ImatrixSums::read(file, &Limits::default()).unwrap();
    assert_eq!((sums.entries.len(), sums.chunk_count, sums.chunk_size), (14, Some(4), 128));
    for (tensor, norm) in [
        ("blk.0.attn_q.weight", 3016.074),
        ("blk.0.ffn_down.weight", 4589.448),
        ("blk.1.attn_output.weight", 3740.713),
    ] {
        let entry = &sums.entries[tensor];
        assert_eq!(entry.counts, [512.0]);
        let found = entry.sums.iter().map(|sum| f64::from(*sum).powi(2)).sum::<f64>().sqrt();
        assert!(close(found, norm, 0.01), "{tensor}: {found}");
    }
}

/// The examples of the library do what they say.
#[test]
fn examples_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (f16, q4_0) = (file("f16.gguf"), file("q4_0.gguf"));
    convert(&fixture("tiny-llama2"), "f16", &f16);
    convert(&fixture("tiny-llama2"), "q4_0", &q4_0);
    let text = fs::read_to_string(fixture("text").join("test.txt")).unwrap();
    let text: String = text.chars().take(4000).collect();

    let likeliest = next_token::next_tokens(&f16, "A vector of").unwrap();
    assert!(likeliest.len() == 5 && likeliest[0].1 >= likeliest[4].1, "{likeliest:?}");
    assert!(likeliest.iter().map(|(_, probability)| probability).sum::<f32>() <= 1.0);
    let longer = generate::generate(&f16, "A vector of", 8).unwrap();
    let first = likeliest[0].0.replace('▁', " ");
    assert!(longer.starts_with(&first), "{longer:?} after {likeliest:?}");

    let (perplexity, divergence) = evaluate::evaluate(&f16, Some(&q4_0), &text, 128).unwrap();
    let (perplexity, divergence) = (perplexity.value(), divergence.unwrap());
    assert!(perplexity > 5.0 && perplexity < 20.0, "{perplexity}");
    assert!(divergence > 0.03 && divergence < 0.15, "{divergence}");

    let bytes = collect_importance::importance(&f16, &text, 128).unwrap();
    let sums = ImatrixSums::read(SourceFile::from_bytes("imatrix.gguf", bytes), &Limits::default());
    assert_eq!(sums.unwrap().entries.len(), 14);

    let texts = ["A vector of bytes.".to_owned(), "A vector of bytes?".to_owned()];
    let vectors = embed::embed(&f16, &texts).unwrap();
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!((product(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
    assert!(product(&vectors[0], &vectors[1]) < 0.9999);
}
