//! Each description finds each fault it can tell, in small models made from it. Nothing here knows an
//! architecture: a new one is tested as soon as it is listed.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::collections::HashSet;

use common::{Model, models, other_heads, uses};
use gguf_io::metadata::{GgufString, Value};
use gguf_model::{Architecture, Content, Dimension, Kind, Need, ProblemKind, Size, Slot};

/// What is done to the tensors of a model.
type Change<'a> = &'a dyn Fn(&mut Vec<(String, Vec<u64>)>);

/// Adds a line if a model is not refused for this tensor or key.
fn named(model: &Model, what: &str, subject: &str, failures: &mut Vec<String>) {
    let report = model.report();
    if !report.problems.iter().any(|problem| problem.subject == subject) {
        failures.push(format!("{}: {what}: {subject}: {:?}", model.what, report.problems));
    }
    for problem in &report.problems {
        if problem.message.contains('\n') || problem.message.is_empty() {
            failures.push(format!("{}: {what}: {problem:?}", model.what));
        }
    }
}

fn passes(model: &Model, what: &str, failures: &mut Vec<String>) {
    let report = model.report();
    if report.problem_count != 0 || !matches!(report.content, Content::Model(_)) {
        failures.push(format!("{}: {what}: {:?}", model.what, report.problems));
    }
}

fn assert_none(failures: &[String]) {
    let more = failures.len().saturating_sub(20);
    assert!(
        failures.is_empty(),
        "{}\nand {more} more",
        failures[..failures.len() - more].join("\n")
    );
}

#[test]
fn sound_models_pass() {
    let mut failures = Vec::new();
    let models = models();
    assert!(models.len() > 3 * gguf_model::ALL.len());
    for mut model in models {
        passes(&model, "sound", &mut failures);
        // ggml cannot tell [n, 1] from [n].
        model.tensors.iter_mut().filter(|(_, s)| s.len() < 4).for_each(|(_, s)| s.push(1));
        passes(&model, "with a trailing one", &mut failures);
        model.tensors.reverse();
        passes(&model, "in another order", &mut failures);
    }
    assert_none(&failures);
}

#[test]
fn every_faulty_tensor_is_named() {
    let mut failures = Vec::new();
    // Slots of which a tensor was changed, by architecture; and those that were transposed.
    let (mut tested, mut transposed) = (HashSet::new(), HashSet::new());
    for model in models() {
        let slots = model.slots();
        for i in 0..model.tensors.len() {
            let (name, shape) = &model.tensors[i];
            let slot = slots[name];
            let slot = (model.architecture.name, slot.name, slot.suffix);
            // Layers are like each other, and variants like the plain model but for their own slots.
            let is_plain = model.what.contains("plain") && !name.contains(".2.");
            let is_new = tested.insert(slot);
            if !(is_new || is_plain && i <= 100 || i.is_multiple_of(7)) {
                continue;
            }
            let changed = |change: Change<'_>| {
                let mut model = model.clone();
                change(&mut model.tensors);
                model
            };
            let renamed = format!("{name}_");
            named(&changed(&|t| t[i].0.push('_')), "renamed", &renamed, &mut failures);
            named(&changed(&|t| t.push(t[i].clone())), "doubled", name, &mut failures);
            let beyond = name.replacen("blk.0.", "blk.70.", 1);
            if beyond != *name {
                let model = changed(&|t| t.push((beyond.clone(), t[i].1.clone())));
                named(&model, "beyond the layers", &beyond, &mut failures);
            }
            for axis in 0..shape.len() {
                named(&changed(&|t| t[i].1[axis] += 1), "resized", name, &mut failures);
                named(&changed(&|t| t[i].1[axis] = 0), "empty", name, &mut failures);
            }
            named(&changed(&|t| t[i].1.push(2)), "more dimensions", name, &mut failures);
            if shape.len() > 1 && shape[0] != shape[1] {
                transposed.insert(slot);
                named(&changed(&|t| t[i].1.swap(0, 1)), "transposed", name, &mut failures);
            }
        }
    }
    // No slot of any architecture went without, and no matrix but those that are square by description.
    for architecture in gguf_model::ALL {
        for slot in architecture.slots() {
            let key = (architecture.name, slot.name, slot.suffix);
            if !tested.contains(&key) {
                failures.push(format!("{key:?}: in no model"));
            }
            let is_square = slot.shape.len() < 2 || slot.shape[0] == slot.shape[1];
            if is_square || transposed.contains(&key) || is_as_wide_as_its_norm(architecture, slot)
            {
                continue;
            }
            let models = other_heads(architecture);
            if models.is_empty() {
                continue;
            }
            let oblong = models.into_iter().find_map(|model| {
                let slots = model.slots();
                let is_of = |(name, shape): &&(String, Vec<u64>)| {
                    std::ptr::eq(slots[name], slot) && shape[0] != shape[1]
                };
                let name = model.tensors.iter().find(is_of)?.0.clone();
                Some((model, name))
            });
            let Some((mut model, name)) = oblong else {
                failures.push(format!("{key:?}: square in all models"));
                continue;
            };
            passes(&model, "with other heads", &mut failures);
            let tensor = model.tensors.iter_mut().find(|(other, _)| *other == name);
            tensor.unwrap().1.swap(0, 1);
            named(&model, "transposed", &name, &mut failures);
        }
    }
    assert_none(&failures);
}

/// Whether keys and values are as wide as the model in each that loads, because a norm of that width is
/// theirs.
fn is_as_wide_as_its_norm(architecture: &Architecture, slot: &Slot) -> bool {
    let of_keys = ["blk.{}.attn_k", "blk.{}.attn_v"].contains(&slot.name);
    let mut norms = architecture.slots().filter(|slot| slot.name == "blk.{}.attn_k_norm");
    of_keys && norms.any(|norm| norm.shape == [Size::Of(Dimension::Embedding)])
}

#[test]
fn every_missing_tensor_is_named_if_loaders_need_it() {
    let mut failures = Vec::new();
    for model in models() {
        let expected = model.expected();
        for slot in model.architecture.slots() {
            let of_slot: Vec<_> = expected
                .iter()
                .filter(|e| std::ptr::eq(e.slot, slot))
                .map(|e| (e.name(), e.layer))
                .filter(|(name, _)| model.tensors.iter().any(|(other, _)| other == name))
                .collect();
            let without = |names: &[&str]| {
                let mut model = model.clone();
                model.tensors.retain(|(name, _)| !names.contains(&name.as_str()));
                model
            };
            let all: Vec<_> = of_slot.iter().map(|(name, _)| name.as_str()).collect();
            match slot.need {
                // Without it the other form is asked for.
                Need::Unless(_) | Need::With(_) | Need::Sparse if deciding(&model, &all) => {
                    for name in all.iter().take(4) {
                        if without(&[name]).report().problem_count == 0 {
                            failures.push(format!("{}: no {name}", model.what));
                        }
                    }
                }
                Need::Required | Need::With(_) | Need::Unless(_) => {
                    for name in all.iter().take(4) {
                        named(&without(&[name]), "missing", name, &mut failures);
                    }
                }
                Need::Sparse => {
                    for name in all.iter().take(4) {
                        passes(&without(&[name]), "missing somewhere", &mut failures);
                    }
                }
                // What others depend on leaves them without place, or in want.
                _ if deciding(&model, &all) => {}
                _ => {
                    passes(&without(&all), slot.name, &mut failures);
                    // In one layer and not in another it has been lost.
                    let trunk = model.parameters().trunk_layers();
                    let in_layers = of_slot.iter().filter(|(_, l)| l.is_some_and(|n| n < trunk));
                    if let (true, Some((name, _))) =
                        (in_layers.clone().count() > 1, in_layers.clone().nth(1))
                    {
                        named(&without(&[name]), "lost", name, &mut failures);
                    }
                }
            }
        }
    }
    assert_none(&failures);
}

/// Whether other tensors depend on one of these.
fn deciding(model: &Model, names: &[&str]) -> bool {
    model.expected().iter().any(|e| match e.slot.need {
        Need::Unless(p) | Need::OptionalUnless(p) | Need::With(p) | Need::OptionalWith(p) => {
            names.contains(&e.beside(p).as_str())
        }
        _ => false,
    })
}

#[test]
fn every_faulty_key_is_named() {
    let (mut failures, mut tested) = (Vec::new(), HashSet::new());
    for model in models() {
        for key in model.architecture.keys() {
            let whole = model.key(key.name);
            let Some(value) = model.metadata.get(&whole) else { continue };
            tested.insert(whole.clone());
            let with = |value: Option<Value>| {
                let mut model = model.clone();
                match value {
                    Some(value) => drop(model.metadata.insert(whole.as_str(), value)),
                    None => drop(model.metadata.remove(&whole)),
                }
                model
            };
            if key.required {
                named(&with(None), "missing", &whole, &mut failures);
            }
            let wider = match value {
                Value::Uint32(n) => vec![Value::Uint64((*n).into()), Value::Int32(*n as i32)],
                Value::Float32(v) => vec![Value::Float64((*v).into()), Value::Float32(f32::NAN)],
                _ => Vec::new(),
            };
            let others = [vec![GgufString::from("text")].into(), vec![1u8].into()];
            for value in wider.into_iter().chain(others) {
                named(&with(Some(value)), "mistyped", &whole, &mut failures);
            }
        }
        // Sizes that nothing else tells.
        for dimension in [Dimension::FeedForward, Dimension::Heads] {
            if model.what.contains("plain") && uses(model.architecture, dimension) {
                let mut model = model.clone();
                let key = model.key(dimension.key());
                model.metadata.remove(&key);
                named(&model, "missing", &key, &mut failures);
            }
        }
    }
    for architecture in gguf_model::ALL {
        for key in architecture.keys().filter(|key| key.required) {
            let whole = format!("{}.{}", architecture.name, key.name);
            if !tested.contains(&whole) {
                failures.push(format!("{whole}: in no model"));
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn heads_that_contradict_the_shapes_are_named_llama_cpp_6702() {
    for model in models().into_iter().filter(|m| m.what.contains("plain")) {
        let mut model = model.clone();
        let key = model.key("attention.head_count");
        model.metadata.insert(key.as_str(), 7u32);
        let report = model.report();
        assert!(
            report.problems.iter().any(|p| p.subject == key || p.message.contains("head_count")),
            "{}: {:?}",
            model.what,
            report.problems
        );
    }
}

#[test]
fn a_number_for_each_layer_is_taken() {
    for mut model in models().into_iter().filter(|m| m.what.contains("plain")) {
        for name in ["feed_forward_length", "attention.head_count"] {
            let key = model.key(name);
            // Where a small model's layers differ it has one for each already.
            let Some(n) = model.metadata.get_u64(&key) else { continue };
            model.metadata.insert(key.as_str(), vec![n as i32; 3]);
            assert_eq!(model.report().problem_count, 0, "{}", model.what);
            model.metadata.insert(key.as_str(), vec![n as u32; 2]);
            assert_eq!(model.report().problems[0].subject, key);
            model.metadata.insert(key.as_str(), n as u32);
        }
    }
}

#[test]
fn a_key_has_values_of_one_type_in_all_architectures() {
    let of = |kind: Kind| match kind {
        Kind::Integer(..) | Kind::Integers | Kind::Pattern => "integers",
        Kind::Float | Kind::Positive => "floats",
        Kind::Text | Kind::OneOf(_) => "text",
        Kind::Bool => "flags",
        Kind::Sections => "sections",
        other => panic!("{other:?}"),
    };
    for architecture in gguf_model::ALL {
        for key in architecture.keys() {
            let first = Kind::of_key(key.name).map(of);
            assert_eq!(first, Some(of(key.kind)), "{} of {}", key.name, architecture.name);
        }
    }
}

#[test]
fn sections_of_rope_are_four() {
    let required =
        |m: &Model| m.architecture.keys().any(|key| key.kind == Kind::Sections && key.required);
    let models: Vec<_> =
        models().into_iter().filter(|m| m.what.contains("plain") && required(m)).collect();
    assert!(models.len() >= 3);
    for mut model in models {
        let key = model.key("rope.dimension_sections");
        for (sections, fits) in [
            (Value::from(vec![2i32, 3, 3, 0]), true),
            (vec![8u32, 0, 0, 0].into(), true),
            (vec![2i32, 3, 3].into(), false),
            (vec![2i32, 3, 3, 0, 0].into(), false),
            (vec![0i32, 0, 0, 8].into(), false),
            (vec![9i32, -1, 0, 0].into(), false),
            (vec![u32::MAX, 1, 1, 0].into(), false),
            (vec![2i64, 3, 3, 0].into(), false),
            (vec![2f32, 3.0, 3.0, 0.0].into(), false),
            (8u32.into(), false),
        ] {
            let what = format!("{}: {sections:?}", model.what);
            model.metadata.insert(key.as_str(), sections);
            let report = model.report();
            let subjects: Vec<_> = report.problems.iter().map(|p| p.subject.as_str()).collect();
            assert_eq!(subjects, if fits { vec![] } else { vec![key.as_str()] }, "{what}");
        }
    }
}

#[test]
fn matrices_behind_the_pooling_fit_the_model_and_each_other() {
    for model in models().into_iter().filter(|m| m.what.contains("gemma-embedding")) {
        for name in ["dense_2_feat_in", "dense_3_feat_out", "dense_3_feat_in"] {
            let mut model = model.clone();
            let key = model.key(name);
            if name != "dense_3_feat_in" {
                model.metadata.insert(key.as_str(), 0u32);
                assert_eq!(model.report().problem_count, 0, "{}", model.what);
            }
            model.metadata.insert(key.as_str(), 47u32);
            assert_eq!(model.report().problems[0].subject, key);
        }
    }
}

#[test]
fn hostile_numbers_neither_panic_nor_allocate() {
    for model in models().into_iter().filter(|m| m.what.contains("plain")) {
        for key in model.architecture.keys() {
            for value in [0u32.into(), u32::MAX.into(), vec![-1i32; 3].into(), Value::Int64(-1)] {
                let mut model = model.clone();
                let whole = model.key(key.name);
                model.metadata.insert(whole.as_str(), value);
                let report = model.report();
                assert!(report.problems.len() <= 256);
                assert!(report.problem_count >= report.problems.len() as u64);
            }
        }
    }
}

#[test]
fn problems_can_be_told_apart() {
    let model = models().into_iter().find(|m| m.what.starts_with("llama (plain")).unwrap();
    let kinds =
        |model: &Model| -> Vec<_> { model.report().problems.iter().map(|p| p.kind).collect() };
    let mut less = model.clone();
    less.tensors.retain(|(name, _)| name != "blk.1.ffn_down.weight");
    assert_eq!(kinds(&less), [ProblemKind::MissingTensor]);
    less.tensors.push(("blk.1.ffn_dawn.weight".into(), vec![80, 48]));
    assert_eq!(kinds(&less), [ProblemKind::MissingTensor, ProblemKind::UnknownTensor]);
    let mut turned = model.clone();
    turned.tensors[0].1.swap(0, 1);
    assert_eq!(kinds(&turned), [ProblemKind::WrongShape]);
    let mut keyless = model.clone();
    keyless.metadata.remove("llama.context_length");
    assert_eq!(kinds(&keyless), [ProblemKind::MissingKey]);
}
