//! Whole conversions equal the reference's: every tensor's type and bytes, every metadata key,
//! the size of the file.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use std::path::{Path, PathBuf};

use gguf_io::{GgufFile, Limits};
use quant_convert::{Control, Options, Plan, open, recipe::Request};
use quant_core::{GgmlType, can_quantize};
use sha2::{Digest, Sha256};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn golden(checkpoint: &str) -> serde_json::Value {
    let path = fixture("golden").join(format!("{checkpoint}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Converts as `kind` has it and lists what differs from the reference.
fn differences(
    checkpoint: &str,
    kind: &str,
    file_type: &str,
    expected: &serde_json::Value,
) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.gguf");
    let dir = fixture(checkpoint);
    let options = Options {
        request: Request { pure: kind == "pure", ..Request::new(file_type.parse().unwrap()) },
        imatrix: (kind == "imatrix").then(|| dir.join("imatrix.gguf")),
        no_sync: true,
        threads: 2,
        ..Options::default()
    };
    let plan = Plan::new(open(&dir, &options).unwrap(), &options).unwrap();
    let total = plan.total_bytes();
    plan.run(&output, Control::default()).unwrap();

    let bytes = std::fs::read(&output).unwrap();
    let found = GgufFile::open(&output, &Limits::default()).unwrap();
    found.check_data().unwrap();
    let mut problems = Vec::new();
    let mut check = |what: &str, found: String, expected: String| {
        if found != expected {
            problems
                .push(format!("{checkpoint} {kind} {file_type} {what}: {found}, not {expected}"));
        }
    };
    check("planned size", total.to_string(), bytes.len().to_string());
    // The golden files were made with the imatrix under another path: its key's length differs.
    if kind != "imatrix" {
        check("size", bytes.len().to_string(), expected["size"].to_string());
    }
    let recorded = found.metadata.get_u64("general.file_type").unwrap();
    check("file type", recorded.to_string(), expected["file_type"].to_string());
    let golden = golden(checkpoint);
    let tensors = golden["tensors_f32"].as_object().unwrap();
    check("tensors", found.tensors.len().to_string(), tensors.len().to_string());
    for tensor in &found.tensors {
        let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
        // F32 tensors are left out of the lists: they equal the lossless conversion.
        let (ty, hash) = match &expected["tensors"][&tensor.name] {
            serde_json::Value::Array(entry) => (entry[0].clone(), entry[1].clone()),
            _ => ("F32".into(), tensors[&tensor.name]["sha256"].clone()),
        };
        check(&tensor.name, format!("{:?}", tensor.ty.name()), ty.to_string());
        check(&tensor.name, format!("{:?}", sha256(data)), hash.to_string());
    }
    problems
}

fn implemented(file: &serde_json::Value) -> bool {
    let entries = file["tensors"].as_object().unwrap().values();
    entries
        .map(|entry| entry[0].as_str().unwrap())
        .all(|name| can_quantize(GgmlType::from_name(name).unwrap()))
}

fn check_all(checkpoint: &str, least: usize) {
    let golden = golden(checkpoint);
    let mut problems = Vec::new();
    let mut files = 0;
    for kind in ["plain", "imatrix", "pure"] {
        for (file_type, expected) in golden[kind].as_object().unwrap() {
            if implemented(expected) {
                files += 1;
                problems.extend(differences(checkpoint, kind, file_type, expected));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(files >= least, "only {files} files compared");
}

#[test]
fn tiny_llama2_equals_the_reference() {
    check_all("tiny-llama2", 38);
}

#[test]
fn tiny_llama3_equals_the_reference() {
    check_all("tiny-llama3", 38);
}

#[test]
fn tiny_qwen2_equals_the_reference() {
    check_all("tiny-qwen2", 38);
}

#[test]
fn tiny_phi2_equals_the_reference() {
    check_all("tiny-phi2", 38);
}

#[test]
fn tiny_mixtral_equals_the_reference() {
    check_all("tiny-mixtral", 38);
}
