//! `inspect`: text for people, JSON for programs, from headers alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{collections::BTreeMap, fs, io};

use common::{convert, fixture, quantwright, run, stderr, stdout, text, write_gguf_with};
use serde_json::Value;
use tempfile::tempdir;

fn json(path: &std::path::Path) -> Value {
    let done = quantwright().arg("inspect").arg(path).arg("--json").output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn a_gguf_file_is_described_in_json() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let bytes = convert(&fixture("tiny-llama2"), &output, &["--type", "q4_k_m"]);
    let found = json(&output);

    let keys: Vec<_> = found.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["version", "alignment", "metadata", "tensors"]);
    assert_eq!((&found["version"], &found["alignment"]), (&3.into(), &32.into()));
    let metadata = &found["metadata"];
    let architecture = serde_json::json!({"type": "STRING", "value": "llama"});
    assert_eq!(metadata["general.architecture"], architecture);
    assert_eq!(metadata["general.file_type"]["value"], 15);
    // 1024 tokens are too many to print.
    let tokens = metadata["tokenizer.ggml.tokens"].as_object().unwrap();
    assert_eq!((&tokens["type"], &tokens["length"]), (&"ARRAY".into(), &1024.into()));
    assert!(!tokens.contains_key("value"));

    let mut end = 0;
    for tensor in found["tensors"].as_array().unwrap() {
        for key in ["name", "type", "shape", "offset", "bytes"] {
            assert!(tensor.get(key).is_some(), "{key}");
        }
        let offset = tensor["offset"].as_u64().unwrap();
        assert!(offset >= end && offset.is_multiple_of(32));
        end = offset + tensor["bytes"].as_u64().unwrap();
    }
    assert_eq!(end.next_multiple_of(32), bytes.len() as u64);
}

#[test]
fn a_checkpoint_is_described_from_its_headers() {
    let found = json(&fixture("tiny-llama2"));
    let tensors = found["tensors"].as_array().unwrap().iter();
    let tensors: BTreeMap<_, _> = tensors.map(|t| (text(&t["name"]), t)).collect();
    assert_eq!(tensors.len(), 21);
    let gate = tensors["model.layers.0.mlp.gate_proj.weight"];
    assert_eq!(gate["type"], "F16");
    assert_eq!(gate["shape"], serde_json::json!([256, 768]));
    assert!(text(&gate["file"]).starts_with("model-0000"));
    assert_eq!(found["metadata"]["hidden_size"]["value"], 256);

    let done = run(["inspect".as_ref(), fixture("tiny-llama2").as_os_str()]);
    assert!(done.status.success() && done.stderr.is_empty());
    assert!(stdout(&done).contains("model.layers.0.mlp.gate_proj.weight"));
}

#[test]
fn control_characters_in_a_file_do_not_reach_the_terminal() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    write_gguf_with(&path, 32, 0.5, |metadata| {
        metadata.insert("general.name", "bad\x1b[2J\x07\u{9b}31mname");
    });
    let done = quantwright().arg("inspect").arg(&path).output().unwrap();
    assert!(done.status.success());
    assert!(stdout(&done).contains("name"));
    assert!(!stdout(&done).chars().any(|c| c.is_control() && c != '\n'));
    // In JSON the text is whole, and escaped as JSON has it.
    assert_eq!(json(&path)["metadata"]["general.name"]["value"], "bad\x1b[2J\x07\u{9b}31mname");
}

#[test]
fn a_file_cut_short_can_be_looked_at() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let bytes = convert(&fixture("tiny-llama2"), &path, &["--type", "q4_0"]);
    fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    assert_eq!(json(&path)["tensors"].as_array().unwrap().len(), 21);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    for json in [&["--json"][..], &[]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let done = quantwright()
            .arg("inspect")
            .arg(fixture("tiny-llama2"))
            .args(json)
            .stdout(writer)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", done.status);
        assert_eq!(stderr(&done), "");
    }
}

#[test]
fn an_error_that_nobody_reads_is_still_status_1() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let status = quantwright().args(["inspect", "nowhere"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn files_that_hold_no_language_model_are_shown() {
    let folder = tempdir().unwrap();
    // A type that no program knows.
    let path = folder.path().join("image.gguf");
    let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(b"\x01\0\0\0\0\0\0\0a\x01\0\0\0");
    bytes.extend(8u64.to_le_bytes());
    bytes.extend(4321u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
    fs::write(&path, bytes).unwrap();
    let tensor = &json(&path)["tensors"][0];
    assert_eq!((&tensor["type"], &tensor["bytes"]), (&"type 4321".into(), &64.into()));
    // Weights alone, with what their file says of itself.
    let path = folder.path().join("weights.safetensors");
    let header = r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 12]);
    fs::write(&path, bytes).unwrap();
    let found = json(&path);
    assert_eq!(found["metadata"]["format"]["value"], "pt");
    assert_eq!(found["tensors"][0]["shape"], serde_json::json!([3, 2]));
    // Importance matrices, new and old.
    let matrix = fixture("tiny-llama2/imatrix.gguf");
    assert!(json(&matrix)["tensors"].as_array().unwrap().len() > 10);
    let path = folder.path().join("old.dat");
    let mut bytes = 1i32.to_le_bytes().to_vec();
    bytes.extend(5i32.to_le_bytes());
    bytes.extend(b"blk.0");
    bytes.extend(1i32.to_le_bytes());
    bytes.extend(2i32.to_le_bytes());
    bytes.extend(1f32.to_le_bytes());
    bytes.extend(2f32.to_le_bytes());
    bytes.extend(7i32.to_le_bytes());
    bytes.extend(4i32.to_le_bytes());
    bytes.extend(b"text");
    fs::write(&path, bytes).unwrap();
    let found = json(&path);
    assert_eq!(found["tensors"][0]["name"], "blk.0");
    assert_eq!(found["metadata"]["datasets"]["value"], serde_json::json!(["text"]));
    // A neighbour that is nothing of all this.
    let path = folder.path().join("old.txt");
    fs::write(&path, "just text that is long enough to be anything at all").unwrap();
    let done = quantwright().arg("inspect").arg(&path).output().unwrap();
    assert_eq!(common::refused(&done, &["old.txt", "expected"]), Vec::<String>::new());
}
