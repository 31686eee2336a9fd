//! The recipes against llama.cpp: its results on the fixtures, and its plans for synthetic models
//! of many shapes (`recipe/plans.json`, made by `recipe/oracle.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{collections::HashMap, fs, path::Path};

use gguf_io::metadata::{Metadata, Value as Meta};
use quant_convert::recipe::{
    self, AwkwardReason, Error, FileType, ModelFacts, Pruning, Request, TensorFacts,
};
use quant_core::GgmlType;
use serde_json::Value;

const CHECKPOINTS: [&str; 5] =
    ["tiny-llama2", "tiny-llama3", "tiny-mixtral", "tiny-phi2", "tiny-qwen2"];

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn metadata<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in pairs {
        let value: Meta = match value {
            Value::String(text) => text.as_str().into(),
            Value::Number(n) if n.is_u64() => u32::try_from(n.as_u64().unwrap()).unwrap().into(),
            Value::Array(v) => {
                v.iter().map(|n| n.as_u64().unwrap() as u32).collect::<Vec<_>>().into()
            }
            _ => continue,
        };
        metadata.insert(key.as_str(), value);
    }
    metadata
}

fn shape(value: &Value) -> Vec<u64> {
    let dims = value.as_array().unwrap();
    dims.iter().map(|n| n.as_u64().unwrap()).collect()
}

fn tensor_facts(tensors: &[(String, Vec<u64>)]) -> Vec<TensorFacts<'_>> {
    tensors.iter().map(|(name, shape)| TensorFacts { name, shape, ty: GgmlType::F32 }).collect()
}

#[test]
fn every_recipe_equals_the_reference_on_every_fixture() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden");
    let mut compared = 0;
    let mut failures = Vec::new();
    for checkpoint in CHECKPOINTS {
        let golden = read(&golden.join(format!("{checkpoint}.json")));
        let pairs = golden["metadata_f32"].as_object().unwrap();
        let metadata = metadata(pairs.iter().map(|(key, v)| (key, &v["value"])));
        let facts = ModelFacts::from_metadata(&metadata).unwrap();
        let mut tensors: Vec<_> = golden["tensors_f32"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, tensor)| (name.clone(), shape(&tensor["shape"])))
            .collect();
        tensors.sort_by(|a, b| recipe::output_order(&a.0, &b.0));

        for mode in ["plain", "imatrix", "pure"] {
            for (name, expected) in golden[mode].as_object().unwrap() {
                let file_type: FileType = name.parse().unwrap();
                assert_eq!(u64::from(file_type.id()), expected["file_type"], "{name}");
                let request = Request { pure: mode == "pure", ..Request::new(file_type) };
                let types =
                    recipe::assign(&facts, &tensor_facts(&tensors), &request, mode == "imatrix")
                        .unwrap();
                let got: Vec<_> = tensors
                    .iter()
                    .zip(&types)
                    .filter(|(_, a)| a.ty != GgmlType::F32)
                    .map(|((name, _), a)| (name.as_str(), a.ty.name()))
                    .collect();
                let expected: Vec<_> = expected["tensors"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(name, pair)| (name.as_str(), pair[0].as_str().unwrap()))
                    .filter(|(_, ty)| *ty != "F32")
                    .collect();
                compared += expected.len();
                if got != expected {
                    failures.push(format!(
                        "{checkpoint} {mode} {name}:\n got {got:?}\n exp {expected:?}"
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared > 4000, "only {compared} tensors compared");
}

#[test]
fn plans_for_synthetic_models_equal_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipe/plans.json");
    let compared = check_plans(&path);
    assert!(compared > 100_000, "only {compared} tensors compared");
}

#[test]
#[ignore = "needs the file that recipe/oracle.py makes with a seed, named by RECIPE_PLANS"]
fn plans_for_random_models_equal_the_reference() {
    let path = std::env::var_os("RECIPE_PLANS").expect("RECIPE_PLANS names a file");
    println!("{} tensors compared", check_plans(Path::new(&path)));
}

fn check_plans(path: &Path) -> usize {
    let mut compared = 0;
    let mut failures = Vec::new();
    for model in read(path).as_array().unwrap() {
        let metadata = metadata(model["metadata"].as_object().unwrap());
        let facts = ModelFacts::from_metadata(&metadata).unwrap();
        let tensors = expand(model);
        for run in model["runs"].as_array().unwrap() {
            let either = run["imatrix"] == "either";
            for has_imatrix in [false, true] {
                if !either && has_imatrix != (run["imatrix"] == true) {
                    continue;
                }
                match check_run(&facts, &tensors, run, has_imatrix) {
                    Ok(n) => compared += n,
                    Err(e) => failures.push(format!("{} {run}: {e}", model["name"])),
                }
            }
        }
    }
    let shown = failures.iter().take(5).cloned().collect::<Vec<_>>();
    assert!(failures.is_empty(), "{} runs differ:\n{}", failures.len(), shown.join("\n"));
    compared
}

/// The tensors of a synthetic model in output order.
fn expand(model: &Value) -> Vec<(String, Vec<u64>)> {
    let list = |key: &str| -> Vec<(String, Vec<u64>)> {
        let list = model[key].as_array().unwrap();
        list.iter().map(|t| (t[0].as_str().unwrap().to_owned(), shape(&t[1]))).collect()
    };
    let mut tensors = list("globals");
    for layer in 0..model["layers"].as_u64().unwrap() {
        for (name, shape) in list("layer") {
            tensors.push((format!("blk.{layer}.{name}"), shape));
        }
    }
    tensors.sort_by(|a, b| recipe::output_order(&a.0, &b.0));
    tensors
}

fn request(run: &Value) -> Request {
    let ty = |value: &Value| value.as_str().map(|n| GgmlType::from_name(n).unwrap());
    let overrides = run["overrides"].as_array().into_iter().flatten();
    Request {
        pure: run["pure"] == true,
        leave_output_tensor: run["leave"] == true,
        output_tensor_type: ty(&run["out"]),
        token_embedding_type: ty(&run["emb"]),
        overrides: overrides
            .map(|o| {
                let text = format!("{}={}", o[0].as_str().unwrap(), o[1].as_str().unwrap());
                recipe::parse_tensor_type(&text).unwrap()
            })
            .collect(),
        ..Request::new(run["file"].as_str().unwrap().parse().unwrap())
    }
}

fn check_run(
    facts: &ModelFacts,
    tensors: &[(String, Vec<u64>)],
    run: &Value,
    has_imatrix: bool,
) -> Result<usize, String> {
    let mut tensors = tensors.to_vec();
    if let Some(layers) = run["prune"].as_array() {
        let text: Vec<_> = layers.iter().map(Value::to_string).collect();
        let pruning = Pruning::parse(&text.join(","), facts.layers).unwrap();
        tensors = tensors
            .into_iter()
            .filter_map(|(name, shape)| Some((pruning.rename(&name)?, shape)))
            .collect();
    }
    let got = recipe::assign(facts, &tensor_facts(&tensors), &request(run), has_imatrix);
    if let Some(message) = run["error"].as_str() {
        let no_type = message.contains("no tensor type fallback");
        return match got {
            // The reference stops at the first tensor; awkward shapes are gathered to the end
            // here, so that another fault may come first.
            Err(Error::NoLayer { .. }) if no_type || message.contains("layer") => Ok(1),
            Err(Error::AwkwardShapes { tensors }) if no_type => {
                let expected = |t: &recipe::AwkwardShape| t.reason == AwkwardReason::NoFallback;
                assert!(tensors.iter().all(expected), "{tensors:?}");
                Ok(1)
            }
            other => Err(format!("expected {message:?}, got {other:?}")),
        };
    }
    let got = got.map_err(|e| e.to_string())?;

    // A group is a tensor's name without its layer; its types are run-length coded.
    let mut left: HashMap<&str, Vec<&str>> = HashMap::new();
    for (group, types) in run["types"].as_object().unwrap() {
        let mut all = Vec::new();
        for item in types.as_str().unwrap().split(' ') {
            let (ty, n) = item.split_once('*').unwrap_or((item, "1"));
            all.extend(std::iter::repeat_n(ty, n.parse().unwrap()));
        }
        all.reverse();
        left.insert(group, all);
    }
    for ((name, shape), got) in tensors.iter().zip(&got) {
        let group = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
            .filter(|(layer, _)| layer.bytes().all(|b| b.is_ascii_digit()))
            .map_or(name.as_str(), |(_, group)| group);
        let expected = match left.get_mut(group) {
            Some(types) => types.pop().ok_or_else(|| format!("too few {group}"))?,
            None if shape.len() == 1 => "F32",
            None => run["rest"].as_str().unwrap(),
        };
        if got.ty.name() != expected {
            return Err(format!("{name} is {}, expected {expected}", got.ty));
        }
    }
    Ok(tensors.len())
}
