//! What is no language model is told from one, and the keys of the tokenizer are looked at.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use common::{Model, models};
use gguf_io::metadata::{GgufString, Metadata, Value};
use gguf_model::{Content, ProblemKind, Report, check};

fn model(name: &str) -> Model {
    models().into_iter().find(|m| m.what.starts_with(&format!("{name} (plain"))).unwrap()
}

fn report(pairs: &[(&str, Value)], tensors: &[(&str, &[u64])]) -> Report {
    let mut metadata = Metadata::new();
    for (key, value) in pairs {
        metadata.insert(*key, value.clone());
    }
    check(&metadata, tensors.iter().copied())
}

fn strings(count: usize) -> Value {
    (0..count).map(|i| GgufString::from(format!("t{i}"))).collect::<Vec<_>>().into()
}

#[test]
fn what_is_no_language_model_passes_with_a_note() {
    const ARCH: &str = "general.architecture";
    let lora: &[(&str, &[u64])] =
        &[("blk.0.attn_q.weight.lora_a", &[64, 8]), ("blk.0.attn_q.weight.lora_b", &[8, 64])];
    let text = |text: &str| Value::from(text);
    type Row<'a> = (&'a str, Vec<(&'a str, Value)>, &'a [(&'a str, &'a [u64])], &'a str);
    let rows: &[Row<'_>] = &[
        (
            "adapter",
            vec![("general.type", text("adapter")), (ARCH, text("llama"))],
            lora,
            "adapter",
        ),
        ("projector", vec![("general.type", text("mmproj")), (ARCH, text("clip"))], &[], "mmproj"),
        ("old projector", vec![(ARCH, text("clip"))], &[("v.blk.0.ln1.weight", &[8])], "clip"),
        (
            "control",
            vec![(ARCH, text("controlvector"))],
            &[("direction.1", &[64])],
            "controlvector",
        ),
        ("image model", vec![(ARCH, text("flux"))], &[("img_in.weight", &[64, 8])], "flux"),
        ("nameless", vec![], &[("first_stage_model.conv.weight", &[3, 3, 8, 8])], "missing"),
        ("unknown", vec![(ARCH, text("llama9")), ("llama9.x", text("y"))], &[], "llama9"),
    ];
    for (what, pairs, tensors, says) in rows {
        let report = report(pairs, tensors);
        assert_eq!(report.problem_count, 0, "{what}: {:?}", report.problems);
        assert!(matches!(report.content, Content::Other), "{what}");
        assert!(report.notes.iter().any(|note| note.contains(says)), "{what}: {:?}", report.notes);
    }
    // A language model without its name is none of these.
    for tensors in
        [&[("blk.0.attn_norm.weight", &[8u64] as &[u64])][..], &[("token_embd.weight", &[8, 8])]]
    {
        assert_eq!(report(&[], tensors).problems[0].subject, ARCH);
    }
    assert_eq!(report(&[("tokenizer.ggml.model", text("llama"))], &[]).problems[0].subject, ARCH);
    assert_eq!(report(&[(ARCH, 3u32.into())], &[]).problems[0].kind, ProblemKind::WrongKey);
}

#[test]
fn a_vocabulary_alone_passes() {
    let mut vocabulary = model("llama");
    vocabulary.tensors.clear();
    let report = vocabulary.report();
    assert_eq!(report.problem_count, 0, "{:?}", report.problems);
    assert!(matches!(report.content, Content::Vocabulary));
    // It is a vocabulary still when its types are wrong.
    vocabulary.metadata.insert("tokenizer.ggml.token_type", vec![1u32; 40]);
    assert_eq!(vocabulary.report().problems[0].subject, "tokenizer.ggml.token_type");
    vocabulary.metadata.remove("tokenizer.ggml.tokens");
    assert!(vocabulary.report().problems[0].message.contains("no tensors"));
}

#[test]
fn faulty_tokenizers_are_named_candle_2215() {
    let rows: &[(&str, Value, bool)] = &[
        ("model", "sentencepiece".into(), false),
        ("model", 3u32.into(), false),
        ("model", "gpt2".into(), false),
        ("model", "bert".into(), true),
        ("tokens", strings(39), false),
        ("tokens", vec![1u32; 40].into(), false),
        ("scores", vec![0f32; 41].into(), true),
        ("scores", vec![0i32; 40].into(), true),
        ("scores", vec![0f64; 40].into(), false),
        ("scores", vec![0f32; 39].into(), false),
        ("scores", vec![f32::NAN; 40].into(), false),
        ("token_type", vec![1u32; 40].into(), false),
        ("token_type", vec![1i32; 39].into(), false),
        ("token_type", "normal".into(), false),
        ("pre", 1u32.into(), false),
        ("add_bos_token", 1u32.into(), false),
        ("add_bos_token", true.into(), true),
        ("bos_token_id", 39u32.into(), true),
        ("bos_token_id", 40u32.into(), false),
        ("eos_token_id", 1i32.into(), false),
        ("eos_token_id", 1u64.into(), false),
        // llama.cpp goes without a padding token that is none.
        ("padding_token_id", 40u32.into(), true),
        ("padding_token_id", u32::MAX.into(), true),
        ("padding_token_id", (-1i32).into(), false),
    ];
    for (name, value, passes) in rows {
        let mut model = model("llama");
        model.metadata.insert(format!("tokenizer.ggml.{name}"), value.clone());
        let report = model.report();
        assert_eq!(report.problem_count == 0, *passes, "{name} {value:?}: {:?}", report.problems);
    }
    let mut padded = model("llama");
    padded.metadata.insert("tokenizer.ggml.padding_token_id", 40u32);
    let notes = padded.report().notes;
    assert!(notes[0].contains("padding_token_id") && notes[0].contains("40"), "{notes:?}");
    let mut merged = model("llama");
    merged.metadata.insert("tokenizer.ggml.model", "gpt2");
    assert_eq!(merged.report().problems[0].subject, "tokenizer.ggml.merges");
    merged.metadata.insert("tokenizer.ggml.merges", strings(3));
    assert_eq!(merged.report().problem_count, 0);
    // A model without tokenizer says how many tokens it has.
    let mut bare = model("llama");
    for key in ["tokens", "scores", "token_type"] {
        bare.metadata.remove(&format!("tokenizer.ggml.{key}"));
    }
    bare.metadata.insert("tokenizer.ggml.model", "none");
    bare.metadata.insert("llama.vocab_size", 40u32);
    assert_eq!(bare.report().problem_count, 0, "{:?}", bare.report().problems);
    bare.metadata.insert("llama.vocab_size", 41u32);
    assert_eq!(bare.report().problems[0].subject, "token_embd.weight");
}

#[test]
fn numbers_that_contradict_each_other_are_named() {
    let experts = |pairs: &[(&str, u32)]| {
        let mut model = models().into_iter().find(|m| m.what.starts_with("qwen3moe")).unwrap();
        for (key, value) in pairs {
            let key = model.key(key);
            model.metadata.insert(key, *value);
        }
        model.report().problems.first().map(|problem| problem.subject.clone())
    };
    assert_eq!(experts(&[]), None);
    assert_eq!(experts(&[("expert_group_count", 3), ("expert_group_used_count", 2)]), None);
    for (key, value) in [
        ("expert_used_count", 7),
        ("expert_used_count", 0),
        ("expert_group_count", 6),
        ("expert_group_count", 4),
        ("attention.head_count_kv", 3),
        ("attention.value_length", 12),
        ("rope.dimension_count", 12),
    ] {
        let subject = experts(&[(key, value)]).unwrap();
        let expected = if key.ends_with("_kv") { "attention.head_count" } else { key };
        assert_eq!(subject, format!("qwen3moe.{expected}"), "{key} {value}");
    }
    assert_eq!(
        experts(&[("expert_group_count", 3), ("expert_group_used_count", 3)]).unwrap(),
        "qwen3moe.expert_group_used_count"
    );
}

/// llama.cpp stops at them, though they say nothing about the graph.
#[test]
fn general_keys_of_another_type_are_named() {
    let problems = |key: &str, value: Value| {
        let mut model = model("llama");
        model.metadata.insert(key, value);
        model.report().problems
    };
    assert!(problems("general.name", "a name".into()).is_empty());
    assert!(problems("general.file_type", 1u32.into()).is_empty());
    for (key, value, says) in [
        ("general.name", Value::from(1u32), "is UINT32 1, expected a STRING"),
        ("general.file_type", 1u64.into(), "is UINT64 1, expected a UINT32"),
        ("general.file_type", (-1i32).into(), "is INT32 -1, expected a UINT32"),
        ("general.file_type", 0.5f32.into(), "is FLOAT32 0.5, expected a UINT32"),
    ] {
        let found = problems(key, value);
        assert_eq!(found.len(), 1, "{key}");
        assert!(found[0].subject == key && found[0].message.contains(says), "{}", found[0]);
    }
}

/// A part of a head may be turned, but no more than there is of it.
#[test]
fn no_more_of_a_head_is_turned_than_there_is() {
    let problems = |turned: u32| {
        let mut model = model("phi2");
        let key = model.key("rope.dimension_count");
        model.metadata.insert(key, turned);
        model.report().problems
    };
    assert!(problems(2).is_empty());
    let found = problems(97);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].subject, "phi2.rope.dimension_count");
    assert!(
        found[0].message.contains("is 97, expected at most the size of a head"),
        "{}",
        found[0]
    );
}

#[test]
fn scales_beside_weights_are_taken() {
    let mut model = model("qwen2");
    model.tensors.push(("blk.0.ffn_up.scale".into(), vec![1]));
    model.tensors.push(("blk.0.ffn_up.input_scale".into(), vec![1]));
    assert_eq!(model.report().problem_count, 0, "{:?}", model.report().problems);
    model.tensors.last_mut().unwrap().1 = vec![2];
    assert_eq!(model.report().problems[0].kind, ProblemKind::WrongShape);
    model.tensors.last_mut().unwrap().0 = "blk.0.attn_norm.scale".into();
    assert_eq!(model.report().problems[0].kind, ProblemKind::UnknownTensor);
}

#[test]
fn experts_of_early_2024_pass_with_a_note() {
    let model = models().into_iter().find(|m| m.what == "llama (experts, Other)").unwrap();
    assert!(model.tensors.iter().any(|(name, _)| name == "blk.2.ffn_down.5.weight"));
    let report = model.report();
    assert_eq!(report.problem_count, 0, "{:?}", report.problems);
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn layers_that_predict_further_tokens_may_be_apart() {
    let all = models();
    let parts = |name: &str, keep: fn(&str) -> bool| {
        let what = format!("{name} (further tokens, Least)");
        let model = all.iter().find(|m| m.what == what).unwrap();
        let tensors = model.tensors.iter().filter(|(name, _)| keep(name));
        check(&model.metadata, tensors.map(|(name, shape)| (name.as_str(), shape.as_slice())))
    };
    let trunk = |name: &str| !name.starts_with("blk.3.");
    let further = |name: &str| !name.starts_with("blk.") || name.starts_with("blk.3.");
    // What llama.cpp loads of each without the layers that the next token, or further ones, need.
    for (name, without_further, without_trunk) in [
        ("bailingmoe3", true, true),
        ("deepseek2", true, true),
        ("deepseek32", true, true),
        ("exaone4", false, false),
        ("glm4moe", true, true),
        ("hy_v3", true, true),
        ("mimo2", true, true),
        ("nemotron_h_moe", false, true),
        ("qwen35", false, true),
        ("qwen35moe", false, true),
        ("qwen3next", false, true),
        ("step35", true, true),
    ] {
        for (keep, loads) in
            [(trunk as fn(&str) -> bool, without_further), (further, without_trunk)]
        {
            let report = parts(name, keep);
            let lacks = report.problems.iter().any(|p| p.message.contains("has no tensors"));
            assert_eq!((report.problem_count == 0, lacks), (loads, !loads), "{name}: {report:?}");
        }
    }
    // Neither is a file without any layer.
    let report = parts("deepseek2", |name| !name.starts_with("blk."));
    assert_eq!(report.problem_count, 3, "{:?}", report.problems);
}

#[test]
fn layers_of_another_kind_are_unknown() {
    let mut model = model("llama");
    model.tensors.push(("enc.blk.0.attn_q.weight".into(), vec![48, 64]));
    let report = model.report();
    assert_eq!(report.problem_count, 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].subject, "enc.blk.0.attn_q.weight");
}
