//! The checkpoints and importance matrices in the repository.
#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

use std::path::{Path, PathBuf};

use gguf_io::{Checkpoint, Imatrix, Limits};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

const ALL: [&str; 5] = ["tiny-llama2", "tiny-llama3", "tiny-mixtral", "tiny-phi2", "tiny-qwen2"];

#[test]
fn checkpoints_open() {
    for name in ALL {
        let checkpoint = Checkpoint::open(&fixture(name), &Limits::default()).unwrap();
        assert_eq!(checkpoint.files.len(), if name == "tiny-llama2" { 3 } else { 1 }, "{name}");
        assert_eq!(checkpoint.tensors["model.embed_tokens.weight"].shape, [1024, 256], "{name}");
        assert!(!checkpoint.tensors.contains_key("logits"), "{name}: not the reference logits");
        // All data is there.
        for (tensor, info) in &checkpoint.tensors {
            let file = &checkpoint.files[info.file];
            let mut last = [0];
            file.read_exact_at(&mut last, info.offset + info.bytes - 1)
                .unwrap_or_else(|e| panic!("{tensor}: {e}"));
            file.check_unchanged().unwrap();
        }
    }
}

#[test]
fn the_reference_reads_the_same() {
    for name in &ALL[1..] {
        let path = fixture(name).join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let checkpoint = Checkpoint::open(&fixture(name), &Limits::default()).unwrap();
        assert_eq!(reference.len(), checkpoint.tensors.len());
        for (tensor, view) in reference.iter() {
            let info = &checkpoint.tensors[tensor];
            let shape: Vec<u64> = view.shape().iter().map(|d| *d as u64).collect();
            assert_eq!(info.shape, shape, "{tensor}");
            let mut data = vec![0; info.bytes as usize];
            checkpoint.files[info.file].read_exact_at(&mut data, info.offset).unwrap();
            assert!(data == view.data(), "{name}: {tensor}");
        }
    }
}

#[test]
fn importance_matrices_open() {
    for name in ALL {
        let imatrix =
            Imatrix::open(&fixture(name).join("imatrix.gguf"), &Limits::default()).unwrap();
        assert!(imatrix.chunk_count.is_some(), "{name}");
        assert_eq!(imatrix.datasets.len(), 1, "{name}");
        let entry = &imatrix.entries["blk.0.attn_q.weight"];
        assert_eq!((entry.values.len(), entry.matrices), (256, 1), "{name}");
        assert!(entry.values.iter().any(|v| *v > 0.0), "{name}");
        assert!(imatrix.entries.keys().is_sorted(), "{name}");
        let experts: Vec<_> =
            imatrix.entries.values().map(|e| e.matrices).filter(|n| *n > 1).collect();
        assert_eq!(experts.is_empty(), name != "tiny-mixtral", "{name}: {experts:?}");
    }
}
