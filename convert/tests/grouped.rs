//! Folders and GGUF files of grouped integers, from checkpoints and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;
#[path = "grouped/experts.rs"]
mod experts;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::fixture;
use gguf_io::{Checkpoint, GgufFile, Limits};
use quant_convert::{
    Control, Error, Options, Plan,
    grouped::{self, Backup, FolderPlan, Scheme, Sensitivity},
    open,
    recipe::{FileType, Request},
};
use quant_core::{
    GgmlType, dequantize,
    grouped::{Fallback, GroupSize, GroupedType},
};
use quant_kernels::{Isa, Kernels};
use serde_json::{Value, json};

fn grouped(ty: GroupedType, group_size: i64) -> grouped::Options {
    grouped::Options { group_size: GroupSize::from_number(group_size), ..grouped::Options::new(ty) }
}

fn write_folder(input: &Path, output: &Path, grouped: &grouped::Options, options: &Options) {
    let options = Options { no_sync: true, ..options.clone() };
    let plan = FolderPlan::new(
        input,
        &Options { grouped: Some(*grouped), ..options.clone() },
        Control::default(),
    )
    .unwrap();
    plan.run(output, Control::default()).unwrap();
}

fn write_gguf(input: &Path, output: &Path, options: &Options) {
    let options = Options { no_sync: true, ..options.clone() };
    let plan = Plan::new(open(input, &options).unwrap(), &options).unwrap();
    plan.run(output, Control::default()).unwrap();
}

fn as_f32() -> Options {
    Options { request: Request::new(FileType::F32), ..Options::default() }
}

/// All values of a GGUF file, with the types they have.
fn values(path: &Path) -> BTreeMap<String, (GgmlType, Vec<f32>)> {
    let model = GgufFile::open(path, &Limits::default()).unwrap();
    let tensors = model.tensors.iter().map(|t| {
        let mut bytes = vec![0; t.bytes as usize];
        model.files[t.file].read_exact_at(&mut bytes, t.offset).unwrap();
        let mut values = vec![0.0; t.shape.iter().product::<u64>() as usize];
        dequantize(t.ty, &bytes, &mut values).unwrap();
        (t.name.clone(), (t.ty, values))
    });
    tensors.collect()
}

/// The files of a folder with their bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

/// A copy of a checkpoint that a test can damage.
fn copy(name: &str, to: &Path) -> PathBuf {
    let dir = to.join(name);
    fs::create_dir(&dir).unwrap();
    for (name, bytes) in files(&fixture(name)) {
        fs::write(dir.join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn a_folder_and_a_gguf_file_hold_the_same_values() {
    let dir = tempfile::tempdir().unwrap();
    for (ty, group_size) in
        [(GroupedType::Int4Sym, 32), (GroupedType::Int4Sym, 128), (GroupedType::Int8Sym, -1)]
    {
        let input = fixture("tiny-llama2");
        let at = |name: &str| dir.path().join(format!("{ty}{group_size}{name}"));
        let how = grouped(ty, group_size);
        write_folder(&input, &at("folder"), &how, &Options::default());
        write_gguf(&at("folder"), &at("f32.gguf"), &as_f32());
        let direct = Options { grouped: Some(how), ..Options::default() };
        write_gguf(&input, &at("blocks.gguf"), &direct);

        let (folder, blocks) = (values(&at("f32.gguf")), values(&at("blocks.gguf")));
        let expected = if ty.bits() == 4 { GgmlType::Q4_0 } else { GgmlType::Q8_0 };
        let mut layers = 0;
        for (name, (ty, values)) in blocks.iter().filter(|(name, _)| name.starts_with("blk.")) {
            if name.contains("norm") {
                continue;
            }
            assert_eq!(*ty, expected, "{name}");
            assert!(folder[name].1 == *values, "{name} differs");
            layers += 1;
        }
        assert_eq!(layers, 14);
        for end in ["token_embd.weight", "output.weight"] {
            assert_eq!(blocks[end].0, GgmlType::Q8_0);
        }
    }
}

#[test]
fn what_is_not_quantized_is_carried_over_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (fixture("tiny-llama2"), dir.path().join("out"));
    let how = grouped(GroupedType::Int4Asym, 64);
    write_folder(&input, &output, &how, &Options::default());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary is left");

    let (before, after) = (files(&input), files(&output));
    for name in ["tokenizer.model", "tokenizer_config.json", "generation_config.json"] {
        assert!(before[name] == after[name], "{name}");
    }
    assert!(!after.contains_key("reference_logits.safetensors"));
    assert!(!after.contains_key("imatrix.gguf"));

    let read = |dir: &Path| Checkpoint::open(dir, &Limits::default()).unwrap();
    let (before, after) = (read(&input), read(&output));
    // The same shards as the input's.
    assert_eq!(before.files.len(), after.files.len());
    let bytes = |checkpoint: &Checkpoint, name: &str| {
        let t = &checkpoint.tensors[name];
        let mut bytes = vec![0; t.bytes as usize];
        checkpoint.files[t.file].read_exact_at(&mut bytes, t.offset).unwrap();
        (t.dtype, t.shape.clone(), bytes)
    };
    let mut kept = 0;
    for name in before.tensors.keys() {
        if after.tensors.contains_key(name) {
            assert_eq!(bytes(&before, name), bytes(&after, name), "{name}");
            kept += 1;
        } else {
            let module = name.strip_suffix("weight").unwrap();
            for part in ["packed", "scale", "shape", "zero_point"] {
                assert!(after.tensors.contains_key(&format!("{module}weight_{part}")), "{name}");
            }
        }
    }
    assert_eq!(kept, 7);
}

#[test]
fn bytes_do_not_depend_on_threads_or_instruction_set() {
    let dir = tempfile::tempdir().unwrap();
    let how = grouped::Options { ratio: 0.6, refine: true, ..grouped(GroupedType::Int4Asym, 64) };
    let mut results = Vec::new();
    for (number, (threads, isa)) in
        [(1, None), (3, None), (2, Some(Isa::Scalar))].into_iter().enumerate()
    {
        let output = dir.path().join(number.to_string());
        let kernels = isa.and_then(Kernels::for_isa);
        let grouped = Some(how);
        let options = Options { threads, kernels, grouped, no_sync: true, ..Options::default() };
        let control = Control::default();
        let plan = FolderPlan::new(&fixture("tiny-llama2"), &options, control).unwrap();
        plan.run(&output, control).unwrap();
        results.push(files(&output));
    }
    assert!(results.iter().all(|files| *files == results[0]));
}

#[test]
fn files_are_split_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let options =
        Options { split: Some(quant_convert::Split::MaxBytes(600_000)), ..Options::default() };
    write_folder(&fixture("tiny-llama2"), &output, &grouped(GroupedType::Int4Sym, 128), &options);
    let names: Vec<_> = files(&output).into_keys().filter(|n| n.ends_with("safetensors")).collect();
    assert!(names.len() >= 3, "{names:?}");
    assert_eq!(names[0], format!("model-00001-of-{:05}.safetensors", names.len()));
    for name in &names {
        assert!(fs::metadata(output.join(name)).unwrap().len() < 620_000);
    }
    // The index and all shards fit each other.
    open(&output, &Options::default()).unwrap();
}

#[test]
fn fused_layers_share_a_scheme_unless_told_otherwise() {
    let plan = |per_layer, imatrix: Option<&str>| {
        let how = grouped::Options { ratio: 0.5, per_layer, ..grouped(GroupedType::Int4Sym, 64) };
        let imatrix = imatrix.map(|name| fixture("tiny-llama2").join(name));
        let options = Options { imatrix, ..Options::default() };
        let input = fixture("tiny-llama2");
        let plan = FolderPlan::new(
            &input,
            &Options { grouped: Some(how), ..options.clone() },
            Control::default(),
        )
        .unwrap();
        let names: Vec<_> = plan.tensors().map(|t| t.name.to_owned()).collect();
        names.into_iter().zip(plan.schemes()).collect::<BTreeMap<_, _>>()
    };
    let fused = |schemes: &BTreeMap<String, Scheme>| {
        (0..2).all(|layer| {
            let scheme = |name: &str| match schemes[&format!("model.layers.{layer}.{name}.weight")]
            {
                Scheme::Groups { ty, .. } => Some(ty),
                Scheme::Keep => None,
            };
            scheme("self_attn.q_proj") == scheme("self_attn.k_proj")
                && scheme("self_attn.q_proj") == scheme("self_attn.v_proj")
                && scheme("mlp.gate_proj") == scheme("mlp.up_proj")
        })
    };
    assert!(fused(&plan(false, None)));
    assert!(!fused(&plan(true, None)), "the test needs a case where layers differ");
    assert!(fused(&plan(false, Some("imatrix.gguf"))));
}

/// Squared error of all quantized layers, against the checkpoint.
fn error(input: &Path, how: &grouped::Options, options: &Options) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_folder(input, &at("folder"), how, options);
    write_gguf(&at("folder"), &at("quantized.gguf"), &as_f32());
    write_gguf(input, &at("original.gguf"), &as_f32());
    let (found, expected) = (values(&at("quantized.gguf")), values(&at("original.gguf")));
    let pairs = expected.iter().flat_map(|(name, (_, e))| e.iter().zip(&found[name].1));
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn refined_scales_have_a_smaller_error() {
    let input = fixture("tiny-llama2");
    for ty in [GroupedType::Int4Sym, GroupedType::Int4Asym] {
        let plain = grouped(ty, 64);
        let refined = grouped::Options { refine: true, ..plain };
        let before = error(&input, &plain, &Options::default());
        let after = error(&input, &refined, &Options::default());
        assert!(after < 0.95 * before, "{ty}: {after} {before}");
    }
}

#[test]
fn refusals_say_what_to_do_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let input = copy("tiny-llama2", dir.path());
    let output = dir.path().join("out");
    let try_folder = |how: &grouped::Options, options: &Options| {
        let control = Control::default();
        FolderPlan::new(&input, &Options { grouped: Some(*how), ..options.clone() }, control)
            .and_then(|plan| plan.run(&output, control))
    };
    let int4 = grouped(GroupedType::Int4Sym, 128);
    let defaults = Options { no_sync: true, ..Options::default() };

    let error = try_folder(&grouped(GroupedType::Int4Sym, 96), &defaults).unwrap_err();
    assert!(matches!(error, Error::GroupSize { row: 256, group: 96, .. }), "{error}");
    let informed = grouped::Options { ratio: 0.5, sensitivity: Some(Sensitivity::Hessian), ..int4 };
    let error = try_folder(&informed, &defaults).unwrap_err().to_string();
    assert!(error.contains("give an importance matrix"), "{error}");
    for (how, message) in [
        (grouped(GroupedType::Int4Asym, 64), "int4_asym exactly"),
        (grouped::Options { backup: Some(Backup::Int8Asym), ..int4 }, "int8_asym exactly"),
        (grouped(GroupedType::Int4Sym, 16), "whole blocks of 32"),
    ] {
        let options = Options { grouped: Some(how), ..Options::default() };
        let model = open(&input, &options).unwrap();
        let error = Plan::new(model, &options).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
    }

    // The checkpoint's own folder, also when it may be replaced.
    let replace = Options { overwrite: true, ..defaults.clone() };
    let plan = FolderPlan::new(
        &input,
        &Options { grouped: Some(int4), ..replace.clone() },
        Control::default(),
    )
    .unwrap();
    let error = plan.run(&input, Control::default()).unwrap_err();
    assert!(matches!(error, Error::SameFile { .. }), "{error}");

    // A weight that is not a number: half-precision NaN in the middle of the data.
    let shard = input.join("model-00001-of-00003.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let at = bytes.len() - 1000;
    bytes[at..at + 2].copy_from_slice(&[0x00, 0x7e]);
    fs::write(&shard, bytes).unwrap();
    let error = try_folder(&int4, &defaults).unwrap_err();
    assert!(matches!(error, Error::NonFinite { count: 1, .. }), "{error}");
    assert!(!output.exists());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny-llama2"]);
}

#[test]
fn awkward_rows_fall_back_as_asked() {
    let types = |fallback| {
        let how = grouped::Options { fallback, ..grouped(GroupedType::Int4Sym, 512) };
        let input = fixture("tiny-llama2");
        let plan = FolderPlan::new(
            &input,
            &Options { grouped: Some(how), ..Options::default() },
            Control::default(),
        );
        plan.map(|plan| plan.schemes().collect::<Vec<_>>())
    };
    let adjusted = types(Fallback::Adjust).unwrap();
    let groups = |len| Scheme::Groups { ty: GroupedType::Int4Sym, len, channel: false };
    assert_eq!(adjusted.iter().filter(|s| **s == groups(256)).count(), 14);
    let ignored = types(Fallback::Ignore).unwrap_err().to_string();
    assert!(ignored.contains("no layer would be quantized"), "{ignored}");
}
