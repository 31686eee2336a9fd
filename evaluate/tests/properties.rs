//! What holds for every model, whatever its logits are.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;

use common::{FIXTURES, convert, distance, fixture, logits, model, options, reference};
use proptest::prelude::*;
use quant_evaluate::{CachePrecision, Error, Model, Observer, Session};
use quant_kernels::Kernels;

/// How far two ways of adding up may be apart.
const ROUNDING: f32 = 2e-5;

/// Activations are quantized to eight bits: a value between two codes may fall to either, and the
/// difference grows in the layers behind.
const CODES: f32 = 5e-3;

fn rows_of(session: &mut Session<'_>, tokens: &[u32]) -> Vec<Vec<f32>> {
    let first = session.tokens();
    let mut rows = Vec::new();
    session
        .forward(tokens, first..first + tokens.len(), |position, row| {
            assert_eq!(position, first + rows.len());
            rows.push(row.to_vec());
        })
        .unwrap();
    rows
}

#[test]
fn tokens_one_by_one_give_what_all_at_once_do() {
    for checkpoint in FIXTURES {
        let (tokens, _) = reference(checkpoint);
        for (file_type, bound) in [("f32", ROUNDING), ("q8_0", CODES), ("q4_k_m", CODES)] {
            let model = model(checkpoint, file_type);
            let whole = logits(&model, &tokens);
            let mut session = Session::new(&model, tokens.len()).unwrap();
            let single: Vec<_> =
                tokens.iter().flat_map(|token| rows_of(&mut session, &[*token])).collect();
            let distance = distance(&whole, &single);
            assert!(distance < bound, "{checkpoint} {file_type}: {distance:e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_text_may_be_cut_anywhere(cuts in prop::collection::vec(1usize..40, 1..6), which in 0..5usize) {
        let checkpoint = FIXTURES[which];
        let (tokens, _) = reference(checkpoint);
        let model = model(checkpoint, "f32");
        let whole = logits(&model, &tokens);
        let mut session = Session::new(&model, tokens.len()).unwrap();
        let mut rows = Vec::new();
        let mut rest = &tokens[..];
        for cut in cuts {
            let (these, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            if !these.is_empty() {
                rows.extend(rows_of(&mut session, these));
            }
        }
        if !rest.is_empty() {
            rows.extend(rows_of(&mut session, rest));
        }
        prop_assert!(distance(&whole, &rows) < ROUNDING);
    }

    #[test]
    fn what_comes_later_changes_nothing(at in 1usize..63, token in 0u32..1024) {
        let (mut tokens, _) = reference("tiny-llama3");
        let model = model("tiny-llama3", "q8_0");
        let before = logits(&model, &tokens);
        tokens[at] = token;
        let after = logits(&model, &tokens);
        prop_assert!(distance(&before[..at], &after[..at]) < ROUNDING);
    }
}

/// A long text goes through in chunks: the same as in one session with room for less at a time.
#[test]
fn chunks_give_what_the_whole_does() {
    let (tokens, _) = reference("tiny-mixtral");
    let tokens: Vec<u32> = tokens.iter().cycle().take(700).copied().collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    convert(&fixture("tiny-mixtral"), "f32", &path);
    let mut large = options(2);
    large.cache = CachePrecision::Single;
    let whole = logits(&Model::open(&path, &large).unwrap(), &tokens);
    let mut small = large.clone();
    small.working_space = 0;
    let model = Model::open(&path, &small).unwrap();
    let chunked = logits(&model, &tokens);
    assert!(distance(&whole, &chunked) < ROUNDING);
    // As many a call as go together give the same bits.
    let mut session = Session::new(&model, tokens.len()).unwrap();
    let at_once = session.tokens_at_once();
    assert!((1..700).contains(&at_once), "{at_once}");
    let parts = tokens.chunks(at_once).flat_map(|part| rows_of(&mut session, part));
    assert!(parts.eq(chunked));
}

#[test]
fn only_wanted_rows_are_made_and_they_are_the_same() {
    let (tokens, _) = reference("tiny-phi2");
    let model = model("tiny-phi2", "f32");
    let all = logits(&model, &tokens);
    for wanted in [0..1, 63..64, 20..40, 64..70, 5..5] {
        let mut session = Session::new(&model, 64).unwrap();
        let mut found = Vec::new();
        session
            .forward(&tokens, wanted.clone(), |position, row| found.push((position, row.to_vec())))
            .unwrap();
        let positions: Vec<_> = found.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, (wanted.start..wanted.end.min(64)).collect::<Vec<_>>());
        for (position, row) in found {
            let distance = distance(&all[position..=position], &[row]);
            assert!(distance < ROUNDING, "{position}: {distance:e}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (tokens, _) = reference("tiny-mixtral");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for file_type in ["f16", "q4_k_m"] {
        convert(&fixture("tiny-mixtral"), file_type, &path);
        let of = |threads| logits(&Model::open(&path, &options(threads)).unwrap(), &tokens);
        let one = of(1);
        assert!(one == of(2) && one == of(7), "{file_type}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn instruction_sets_agree_within_rounding() {
    let (tokens, _) = reference("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    for (file_type, bound) in [("f32", ROUNDING), ("f16", ROUNDING), ("q8_0", CODES)] {
        let path = folder.path().join(file_type);
        convert(&fixture("tiny-llama2"), file_type, &path);
        let of = |kernels| {
            let mut options = options(2);
            options.kernels = kernels;
            options.cache = CachePrecision::Single;
            logits(&Model::open(&path, &options).unwrap(), &tokens)
        };
        let best = of(Kernels::best());
        for kernels in Kernels::supported() {
            let distance = distance(&best, &of(kernels));
            assert!(distance < bound, "{file_type} {:?}: {distance:e}", kernels.isa());
        }
    }
}

#[test]
fn a_session_forgets_what_it_is_told_to() {
    let (tokens, _) = reference("tiny-qwen2");
    let model = model("tiny-qwen2", "f32");
    let mut session = Session::new(&model, 64).unwrap();
    let first = rows_of(&mut session, &tokens);
    session.truncate(30);
    assert_eq!(session.tokens(), 30);
    let again = rows_of(&mut session, &tokens[30..]);
    assert!(distance(&first[30..], &again) < ROUNDING);
}

#[derive(Default)]
struct Seen(Vec<(String, Option<usize>, usize)>);

impl Observer for Seen {
    fn matmul_input(&mut self, tensor: &str, expert: Option<usize>, rows: &[f32], columns: usize) {
        assert!(rows.iter().all(|v| v.is_finite()));
        assert_eq!(rows.len() % columns, 0);
        self.0.push((tensor.to_owned(), expert, rows.len() / columns));
    }
}

#[test]
fn an_observer_sees_every_product() {
    let (tokens, _) = reference("tiny-mixtral");
    let model = model("tiny-mixtral", "f16");
    let mut session = Session::new(&model, 64).unwrap();
    let mut seen = Seen::default();
    session.observe(&tokens, 0..64, &mut seen, |_, _| {}).unwrap();
    let rows = |tensor: &str| {
        seen.0.iter().filter(|(name, _, _)| name == tensor).map(|(_, _, rows)| rows).sum::<usize>()
    };
    for (tensor, expected) in [
        ("blk.0.attn_q.weight", 64),
        ("blk.1.attn_v.weight", 64),
        ("blk.1.attn_output.weight", 64),
        ("blk.0.ffn_gate_inp.weight", 64),
        // Two of four experts each.
        ("blk.0.ffn_up_exps.weight", 128),
        ("blk.1.ffn_down_exps.weight", 128),
        ("output.weight", 64),
    ] {
        assert_eq!(rows(tensor), expected, "{tensor}");
    }
    let experts = seen
        .0
        .iter()
        .filter_map(|(name, expert, _)| (name == "blk.0.ffn_gate_exps.weight").then_some(*expert));
    assert!(experts.eq((0..4).map(Some)));
}

#[test]
fn bad_input_is_refused_before_anything_runs() {
    let model = model("tiny-llama2", "q8_0");
    let mut session = Session::new(&model, 4).unwrap();
    let never = |_: usize, _: &[f32]| panic!("something was run");
    let says = |error: Error, text: &str| assert_eq!(error.to_string(), text);
    let empty = session.forward(&[], 0..1, never).unwrap_err();
    says(empty, "the text is empty: there is no token to run");
    let unknown = session.forward(&[1, 1024], 0..2, never).unwrap_err();
    says(unknown, "token 1 of the text is 1024, the model's vocabulary has 1024 tokens");
    let long = session.forward(&[1; 5], 0..5, never).unwrap_err();
    says(long, "5 tokens do not fit the context of 4");
    session.forward(&[1; 3], 0..0, never).unwrap();
    let long = session.forward(&[1; 2], 0..5, never).unwrap_err();
    says(long, "5 tokens do not fit the context of 4");
    // The neighbour is accepted.
    let mut count = 0;
    session.forward(&[1023], 0..5, |_, _| count += 1).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn too_little_memory_is_said_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    convert(&fixture("tiny-llama2"), "f32", &path);
    let mut options = options(1);
    options.memory = Some(1 << 20);
    let error = Model::open(&path, &options).unwrap_err().to_string();
    assert!(error.starts_with("the model takes 9 MiB, 1 MiB are left"), "{error}");
    options.memory = Some(16 << 20);
    let model = Model::open(&path, &options).unwrap();
    let error = Session::new(&model, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("the cache for 1048576 tokens takes"), "{error}");
    let huge = Session::new(&model, usize::MAX).unwrap_err().to_string();
    assert!(huge.contains("the cache for"), "{huge}");
    Session::new(&model, 512).unwrap();
}
