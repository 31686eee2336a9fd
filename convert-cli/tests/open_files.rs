//! Models of many shards, where a process may have few files open.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::{convert, fixture, listing, refused, stderr};
use gguf_io::{Layout, Metadata, TensorSpec};
use quant_core::GgmlType;
use serde_json::json;
use tempfile::tempdir;

/// Runs the program under a limit: `-S -n 64` is one that it may raise, `-n 64` is not.
fn under(limit: &str, args: &[&OsStr]) -> Output {
    let mut run = Command::new("sh");
    run.arg("-c").arg(format!("ulimit {limit}; exec \"$@\"")).arg("sh");
    run.arg(env!("CARGO_BIN_EXE_quantwright")).args(args).output().unwrap()
}

fn convert_under(limit: &str, input: &Path, output: &Path, options: &[&str]) -> Output {
    let mut args =
        ["convert".as_ref(), input.as_os_str(), "-o".as_ref(), output.as_os_str()].to_vec();
    args.extend(["--no-sync", "--quiet"].iter().chain(options).map(OsStr::new));
    under(limit, &args)
}

/// A GGUF file of 300 small tensors.
fn model_of_many_tensors(folder: &Path) -> PathBuf {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("llama.block_count", 150u32);
    metadata.insert("llama.attention.head_count", 1u32);
    metadata.insert("llama.attention.head_count_kv", 1u32);
    let spec = |layer: u32, what: &str| TensorSpec {
        name: format!("blk.{layer}.{what}.weight"),
        ty: GgmlType::F32,
        shape: vec![32, 2],
    };
    let specs: Vec<_> =
        (0..150).flat_map(|layer| [spec(layer, "attn_q"), spec(layer, "attn_k")]).collect();
    let layout = Layout::new(&metadata, &specs).unwrap();
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    let path = folder.join("m.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

/// The number that a refusal asks for.
fn needed(refusal: &Output) -> u64 {
    let text = stderr(refusal);
    let number = text.split_once("ulimit -n ").unwrap().1.split_once(')').unwrap().0;
    number.parse().unwrap()
}

fn assert_refused(done: &Output, says: &[&str]) {
    assert_eq!(refused(done, says), [""; 0]);
}

#[test]
fn as_many_shards_as_a_process_may_have_open() {
    let folder = tempdir().unwrap();
    let input = model_of_many_tensors(folder.path());
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let output = out.join("s.gguf");
    let options = ["-t", "f16", "--split-max-tensors", "1"];

    // Before anything is written, and with the number that is enough.
    let done = convert_under("-n 64", &input, &output, &options);
    assert_refused(&done, &["s-00", "have to be open at the same time", "may have 64"]);
    assert_eq!(listing(&out).len(), 0);
    let needed = needed(&done);
    assert!((301..400).contains(&needed), "{needed}");
    let done = convert_under(&format!("-n {needed}"), &input, &output, &options);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(listing(&out).len(), 300);
    fs::remove_dir_all(&out).unwrap();
    fs::create_dir(&out).unwrap();
    // The limit that can be raised is.
    let done = convert_under("-S -n 64", &input, &output, &options);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(listing(&out).len(), 300);

    // The same shards as an input.
    let first = out.join("s-00001-of-00300.gguf");
    let again = folder.path().join("again.gguf");
    let done = convert_under("-n 64", &first, &again, &["-t", "q8_0"]);
    assert_refused(&done, &["of-00300.gguf", "have to be open at the same time", "may have 64"]);
    assert!(!again.exists());
    let done = convert_under("-S -n 64", &first, &again, &["-t", "q8_0"]);
    assert!(done.status.success(), "{}", stderr(&done));
    for command in ["inspect", "verify"] {
        let done = under("-S -n 64", &[command.as_ref(), first.as_os_str()]);
        assert!(!stderr(&done).contains("open"), "{command}: {}", stderr(&done));
    }
}

/// One handle for each file: half of them would not be enough for two.
#[test]
fn an_output_has_one_handle() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let input = model_of_many_tensors(folder.path());
    let options = ["-t", "f16", "--split-max-tensors", "5"];
    let done = convert_under("-n 80", &input, &out.join("s.gguf"), &options);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(listing(&out).len(), 60);
}

/// tiny-llama2 with a shard for each tensor; returns how many.
fn checkpoint_of_many_shards(to: &Path) -> usize {
    let mut tensors = BTreeMap::new();
    for (path, bytes) in listing(&fixture("tiny-llama2")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("model") {
            fs::write(to.join(name), bytes).unwrap();
        } else if name.ends_with(".safetensors") {
            let file = common::Safetensors::open(&path);
            for (tensor, entry) in file.header.iter().filter(|(name, _)| *name != "__metadata__") {
                let at = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize);
                let data = file.data[at[0]..at[1]].to_vec();
                tensors.insert(tensor.clone(), (entry.clone(), data));
            }
        }
    }
    let count = tensors.len();
    let mut map = serde_json::Map::new();
    for (i, (tensor, (mut entry, data))) in tensors.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        entry["data_offsets"] = json!([0, data.len()]);
        let header = json!({ &tensor: entry }).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&data);
        fs::write(to.join(&name), bytes).unwrap();
        map.insert(tensor, json!(name));
    }
    let index = json!({ "metadata": {}, "weight_map": map }).to_string();
    fs::write(to.join("model.safetensors.index.json"), index).unwrap();
    count
}

#[test]
fn a_checkpoint_of_more_shards_than_a_process_may_have_open() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("tiny-llama2");
    fs::create_dir(&input).unwrap();
    let shards = checkpoint_of_many_shards(&input);
    assert_eq!(shards, 21);
    let output = folder.path().join("m.gguf");
    let options = ["-t", "q8_0"];
    let done = convert_under("-n 16", &input, &output, &options);
    assert_refused(&done, &["model-000", "have to be open at the same time", "may have 16"]);
    assert!(!output.exists());
    let done = convert_under("-S -n 16", &input, &output, &options);
    assert!(done.status.success(), "{}", stderr(&done));
    let expected = convert(&fixture("tiny-llama2"), &folder.path().join("e.gguf"), &options);
    assert!(fs::read(output).unwrap() == expected);
    // A folder of grouped integers reads and writes as many. What it asks for is enough.
    let grouped = folder.path().join("grouped");
    let done = convert_under("-n 30", &input, &grouped, &["-t", "int8_sym"]);
    assert_refused(&done, &["safetensors", "have to be open at the same time", "may have 30"]);
    let enough = format!("-n {}", needed(&done));
    let done = convert_under(&enough, &input, &folder.path().join("enough"), &["-t", "int8_sym"]);
    assert!(done.status.success(), "{enough}: {}", stderr(&done));
    let done = convert_under("-S -n 16", &input, &grouped, &["-t", "int8_sym"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let written = listing(&grouped).into_keys();
    assert_eq!(
        written.filter(|path| path.extension() == Some("safetensors".as_ref())).count(),
        shards
    );
}
