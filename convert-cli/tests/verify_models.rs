//! `verify` passes what loaders load, and names what keeps them from loading the rest.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gguf_io::{
    GgufFile, Layout, Limits, Metadata, TensorSpec, Value,
    metadata::{Array, GgufString},
};
use quant_core::GgmlType;
use serde_json::Value as Json;
use tempfile::{TempDir, tempdir};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn run(command: &str, paths: &[&Path], options: &[&str]) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_quantwright"));
    run.arg(command).args(paths).args(options).output().unwrap()
}

/// A GGUF file, taken apart.
#[derive(Clone)]
struct Parts {
    metadata: Metadata,
    tensors: Vec<(TensorSpec, Vec<u8>)>,
}

impl Parts {
    fn read(path: &Path) -> Self {
        let model = GgufFile::open(path, &Limits::default()).unwrap();
        let bytes = fs::read(path).unwrap();
        let data = |offset: u64, len: u64| bytes[offset as usize..][..len as usize].to_vec();
        let tensors = model.tensors.iter().map(|t| {
            let spec = TensorSpec { name: t.name.clone(), ty: t.ty, shape: t.shape.clone() };
            (spec, data(t.offset, t.bytes))
        });
        Self { tensors: tensors.collect(), metadata: model.metadata }
    }

    fn converted(name: &str, file_type: &str) -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let options = ["-o", path.to_str().unwrap(), "--no-sync", "-q", "-t", file_type];
        assert!(run("convert", &[&fixture(name)], &options).status.success());
        Self::read(&path)
    }

    /// A tensor of ones.
    fn push(&mut self, name: &str, shape: &[u64]) {
        let count = shape.iter().product::<u64>() as usize;
        let spec = TensorSpec { name: name.into(), ty: GgmlType::F32, shape: shape.to_vec() };
        self.tensors.push((spec, 1f32.to_le_bytes().repeat(count)));
    }

    fn tensor(&mut self, name: &str) -> &mut (TensorSpec, Vec<u8>) {
        self.tensors.iter_mut().find(|(spec, _)| spec.name == name).unwrap()
    }

    fn write(&self, path: &Path) {
        let specs: Vec<_> = self.tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let layout = Layout::new(&self.metadata, &specs).unwrap();
        let mut out = layout.header.clone();
        out.resize(layout.total as usize, 0);
        for ((_, data), placed) in self.tensors.iter().zip(&layout.tensors) {
            out[placed.offset as usize..][..data.len()].copy_from_slice(data);
        }
        fs::write(path, out).unwrap();
    }

    /// What `verify --json` says.
    fn verified(&self, folder: &TempDir) -> (Option<i32>, Json) {
        let path = folder.path().join("m.gguf");
        self.write(&path);
        let done = run("verify", &[&path], &["--json"]);
        (done.status.code(), serde_json::from_slice(&done.stdout).unwrap())
    }
}

fn strings(count: usize) -> Value {
    let token = |i| GgufString::from(format!("t{i}"));
    Value::Array(Array::String((0..count).map(token).collect()))
}

#[test]
fn what_no_loader_takes_is_named_llama_cpp_6702() {
    type Change = Box<dyn Fn(&mut Parts)>;
    let folder = tempdir().unwrap();
    let drop_tensor = |name: &'static str| -> Change {
        Box::new(move |parts| parts.tensors.retain(|(spec, _)| spec.name != name))
    };
    let set = |key: &'static str, value: Value| -> Change {
        Box::new(move |parts| drop(parts.metadata.insert(key, value.clone())))
    };
    let turn = |name: &'static str| -> Change {
        Box::new(move |parts| parts.tensor(name).0.shape.swap(0, 1))
    };
    let add = |name: &'static str, shape: &'static [u64]| -> Change {
        Box::new(move |parts| parts.push(name, shape))
    };
    let rows: Vec<(&str, Change, &str)> = vec![
        ("tiny-llama2", Box::new(|_| {}), ""),
        ("tiny-llama2", drop_tensor("blk.1.ffn_down.weight"), "blk.1.ffn_down.weight"),
        ("tiny-llama2", drop_tensor("output_norm.weight"), "output_norm.weight"),
        ("tiny-llama2", set("llama.attention.head_count", 7u32.into()), "head_count"),
        ("tiny-llama2", set("llama.attention.head_count", 4i32.into()), "head_count"),
        ("tiny-llama2", set("llama.feed_forward_length", 1u32.into()), "ffn_gate"),
        ("tiny-llama2", set("llama.rope.freq_base", 10_000f64.into()), "rope.freq_base"),
        ("tiny-llama2", set("llama.rope.scaling.type", "dynamic".into()), "rope.scaling.type"),
        ("tiny-llama2", turn("blk.1.ffn_down.weight"), "blk.1.ffn_down.weight"),
        ("tiny-llama2", add("blk.1.ffn_side.weight", &[256]), "blk.1.ffn_side.weight"),
        ("tiny-llama2", add("blk.1.attn_q.bias", &[256]), "blk.0.attn_q.bias"),
        ("tiny-phi2", drop_tensor("output.bias"), "output.bias"),
        ("tiny-phi2", drop_tensor("blk.0.attn_q.bias"), "blk.0.attn_q.bias"),
        ("tiny-qwen2", drop_tensor("output.weight"), ""),
        ("tiny-mixtral", drop_tensor("blk.0.ffn_gate_inp.weight"), "blk.0.ffn_gate_inp.weight"),
        ("tiny-mixtral", drop_tensor("blk.0.ffn_gate_exps.weight"), "blk.0.ffn_gate_exps.weight"),
        ("tiny-mixtral", set("llama.expert_count", 3u32.into()), "ffn_gate_inp.weight"),
        ("tiny-mixtral", set("llama.expert_used_count", 5u32.into()), "expert_used_count"),
    ];
    let mut failures = Vec::new();
    for (name, change, says) in rows {
        // Matrices of floats have as many values either way round.
        let mut parts = Parts::converted(name, "f16");
        change(&mut parts);
        let (code, found) = parts.verified(&folder);
        let first = found["problems"][0].as_str().unwrap_or_default();
        if code != Some(i32::from(!says.is_empty())) || !first.contains(says) {
            failures.push(format!("{name}: {says}: {code:?}: {found}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_t5_encoder_passes_stable_diffusion_cpp_487() {
    let folder = tempdir().unwrap();
    let mut parts = Parts { metadata: Metadata::new(), tensors: Vec::new() };
    let metadata = &mut parts.metadata;
    metadata.insert("general.architecture", "t5encoder");
    for (key, value) in [
        ("block_count", 2u32),
        ("context_length", 64),
        ("embedding_length", 32),
        ("feed_forward_length", 48),
        ("attention.head_count", 4),
        ("attention.key_length", 16),
        ("attention.value_length", 16),
        ("attention.relative_buckets_count", 32),
    ] {
        metadata.insert(format!("t5encoder.{key}"), value);
    }
    metadata.insert("t5encoder.attention.layer_norm_rms_epsilon", 1e-6f32);
    metadata.insert("tokenizer.ggml.model", "t5");
    metadata.insert("tokenizer.ggml.tokens", strings(40));
    metadata.insert("tokenizer.ggml.scores", vec![0f32; 40]);
    metadata.insert("tokenizer.ggml.padding_token_id", 40u32);
    parts.push("token_embd.weight", &[32, 40]);
    parts.push("enc.output_norm.weight", &[32]);
    parts.push("enc.blk.0.attn_rel_b.weight", &[4, 32]);
    for layer in 0..2 {
        for (name, shape) in [
            ("attn_norm", &[32u64] as &[u64]),
            ("attn_q", &[32, 64]),
            ("attn_k", &[32, 64]),
            ("attn_v", &[32, 64]),
            ("attn_o", &[64, 32]),
            ("ffn_norm", &[32]),
            ("ffn_up", &[32, 48]),
            ("ffn_down", &[48, 32]),
        ] {
            parts.push(&format!("enc.blk.{layer}.{name}.weight"), shape);
        }
    }
    let (code, found) = parts.verified(&folder);
    assert_eq!(code, Some(0), "{found}");
    let notes = found["notes"].to_string();
    assert!(notes.contains("padding_token_id"), "{notes}");
    for name in ["enc.blk.1.attn_o.weight", "enc.output_norm.weight", "enc.blk.0.attn_rel_b.weight"]
    {
        let mut parts = parts.clone();
        parts.tensors.retain(|(spec, _)| spec.name != name);
        let (code, found) = parts.verified(&folder);
        assert_eq!(code, Some(1), "{found}");
        assert!(found["problems"][0].as_str().unwrap().contains(name), "{found}");
    }
}

#[test]
fn what_holds_no_language_model_passes_with_a_note() {
    let folder = tempdir().unwrap();
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let rows: &[Row<'_>] = &[
        (
            &[("general.type", "adapter"), ("general.architecture", "llama")],
            "blk.0.attn_q.weight.lora_a",
            "adapter",
        ),
        (&[("general.architecture", "clip")], "v.blk.0.attn_q.weight", "clip"),
        (&[("general.architecture", "controlvector")], "direction.1", "controlvector"),
        (&[("general.architecture", "flux")], "img_in.weight", "flux"),
        (&[], "model.diffusion_model.input_blocks.0.0.weight", "general.architecture"),
    ];
    for (pairs, tensor, says) in rows {
        let mut parts = Parts { metadata: Metadata::new(), tensors: Vec::new() };
        for (key, value) in *pairs {
            parts.metadata.insert(*key, *value);
        }
        parts.push(tensor, &[32, 4]);
        let (code, found) = parts.verified(&folder);
        assert_eq!(code, Some(0), "{says}: {found}");
        assert!(found["notes"].to_string().contains(says), "{says}: {found}");
        // A line about what loaders need would promise more than was done.
        assert!(!found["checks"].to_string().contains("loaders need"), "{found}");
    }
    let mut vocabulary = Parts::converted("tiny-llama3", "f16");
    vocabulary.tensors.clear();
    let (code, found) = vocabulary.verified(&folder);
    assert_eq!(code, Some(0), "{found}");
    assert!(found["notes"].to_string().contains("vocabulary"), "{found}");
}

#[test]
fn zeros_are_found() {
    let folder = tempdir().unwrap();
    for file_type in ["f16", "q8_0", "q4_k_m"] {
        let parts = Parts::converted("tiny-mixtral", file_type);
        let zeroed = |name: &str, from: usize, parts_of: usize| {
            let mut parts = parts.clone();
            let (_, data) = parts.tensor(name);
            let size = data.len() / parts_of;
            data[from * size..][..size].fill(0);
            parts.verified(&folder)
        };
        assert_eq!(parts.verified(&folder).0, Some(0));
        for name in ["blk.1.attn_norm.weight", "output_norm.weight", "token_embd.weight"] {
            let (code, found) = zeroed(name, 0, 1);
            assert_eq!(code, Some(1), "{found}");
            let expected = format!("tensor \"{name}\" holds zeros only");
            assert!(found["problems"][0].as_str().unwrap().starts_with(&expected), "{found}");
        }
        let (code, found) = zeroed("blk.1.attn_k.weight", 0, 1);
        assert_eq!(code, Some(0), "{found}");
        let notes = found["notes"].to_string();
        assert!(notes.contains("blk.1.attn_k.weight\\\" holds zeros only"), "{notes}");
        let (code, found) = zeroed("blk.0.ffn_up_exps.weight", 2, 4);
        assert_eq!(code, Some(0), "{found}");
        let notes = found["notes"].to_string();
        assert!(notes.contains("1 of 4 matrices hold zeros only, the first is 2"), "{notes}");
    }
}

#[test]
fn every_conversion_of_the_fixtures_passes() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    for name in ["tiny-llama2", "tiny-llama3", "tiny-phi2", "tiny-qwen2", "tiny-mixtral"] {
        for file_type in ["f32", "q8_0", "q4_k_m", "q2_k"] {
            let options =
                ["-o", path.to_str().unwrap(), "--no-sync", "-q", "--force", "-t", file_type];
            assert!(run("convert", &[&fixture(name)], &options).status.success(), "{name}");
            let done = run("verify", &[&path], &[]);
            assert!(
                done.status.success(),
                "{name} {file_type}: {:?}",
                String::from_utf8(done.stderr)
            );
            let text = String::from_utf8(done.stdout).unwrap();
            assert!(!text.contains("note"), "{name} {file_type}: {text}");
        }
    }
}
