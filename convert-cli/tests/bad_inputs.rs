//! Every kind of bad file known to have hurt a program of this kind, as a byte recipe: what the
//! library calls it, what the command line says, and a neighbour that is accepted.
//!
//! One table; all rows that fail are reported at once. Checkpoints have theirs in
//! `bad_checkpoints.rs`; refusals that depend on options, folders and signals are in `refusals.rs`,
//! `signals.rs` and `faults.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;
#[path = "bad_inputs/files.rs"]
mod files;

use std::{fs, path::Path};

use common::{legacy_imatrix, listing, run, stderr};
use files::*;
use gguf_io::{GgufFile, Limits};
use quant_convert::{
    Control, Error, Options, Plan, open,
    recipe::{FileType, Request},
};
use quant_core::GgmlType;

/// A conversion that keeps every type, inside this process, up to the point where it would write.
fn kind(input: &Path, output: &Path) -> Result<(), Error> {
    let options = Options { request: Request::default(), no_sync: true, ..Options::default() };
    let plan = Plan::new(open(input, &options)?, &options)?;
    plan.run(output, Control::default())
}

#[test]
fn every_bad_gguf_file_is_refused_and_its_neighbour_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    let mut failures = Vec::new();
    for Row(name, expected, says, bad, good) in vulnerabilities().into_iter().chain(structure()) {
        fs::write(&input, bad).unwrap();
        let before = listing(folder.path());
        match kind(&input, &output) {
            Ok(()) => failures.push(format!("{name}: accepted by the library")),
            Err(error) => {
                let debug = format!("{error:?}");
                if !debug.starts_with(expected) {
                    failures.push(format!("{name}: not {expected}: {debug}"));
                }
            }
        }
        for command in ["convert", "verify"] {
            let mut args = vec![command.as_ref(), input.as_os_str()];
            if command == "convert" {
                args.extend(["-t".as_ref(), "auto".as_ref(), "-o".as_ref(), output.as_os_str()]);
            }
            let done = run(args);
            let error = stderr(&done);
            let one_line = error.starts_with("error: ") && error.lines().count() == 1;
            if done.status.code() != Some(1) || !one_line {
                failures.push(format!("{name}: {command}: {:?}: {error}", done.status));
            }
            // What was found against what should be, and what to do about it.
            let against = ["expected", "supported:", "needs", "duplicate"];
            if !against.iter().any(|word| error.contains(word)) || !error.contains("; ") {
                failures.push(format!("{name}: {command}: lacks what to expect or do: {error}"));
            }
            for part in says.iter().chain(&["in.gguf"]).filter(|part| !error.contains(**part)) {
                failures.push(format!("{name}: {command}: lacks {part:?}: {error}"));
            }
        }
        // A damaged file can be looked at or is refused; nothing else happens.
        let looked = run(["inspect".as_ref(), input.as_os_str()]);
        if !matches!(looked.status.code(), Some(0 | 1)) {
            failures.push(format!("{name}: inspect: {:?}", looked.status));
        }
        if listing(folder.path()) != before {
            failures.push(format!("{name}: something was left behind"));
            fs::remove_file(&output).ok();
        }
        fs::write(&input, good).unwrap();
        if let Err(error) = kind(&input, &output) {
            failures.push(format!("{name}: the neighbour is refused: {error}"));
        }
        fs::remove_file(&output).ok();
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// #26690: lists of the tokenizer whose elements have another type than loaders take them to have.
/// What `verify` says of them is in `verify.rs`.
#[test]
fn tokenizer_lists_of_another_type_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    let mut failures = Vec::new();
    for (key, bad, says, good) in [
        ("scores", array(0, 4, [0; 4]), "UINT8, expected an array of FLOAT32", array(6, 1, [0; 4])),
        ("scores", array(7, 1, [0]), "BOOL, expected", array(5, 1, [0; 4])),
        ("tokens", array(4, 1, [0; 4]), "UINT32, expected an array of STRING", array(8, 1, n(0))),
        ("token_type", array(6, 1, [0; 4]), "FLOAT32, expected", array(5, 1, [0; 4])),
        ("merges", array(7, 1, [1]), "BOOL, expected", array(8, 1, text("a b"))),
    ] {
        let key = format!("tokenizer.ggml.{key}");
        fs::write(&input, with_pair(pair(&key, 9, bad))).unwrap();
        match kind(&input, &output) {
            Err(error @ Error::Tokenizer { .. }) => {
                let text = error.to_string();
                for part in ["in.gguf", &key, says, "faulty program"] {
                    if !text.contains(part) {
                        failures.push(format!("{key}: lacks {part:?}: {text}"));
                    }
                }
            }
            other => failures.push(format!("{key}: {other:?}")),
        }
        if output.exists() {
            failures.push(format!("{key}: something was left behind"));
        }
        fs::write(&input, with_pair(pair(&key, 9, good))).unwrap();
        if let Err(error) = kind(&input, &output) {
            failures.push(format!("{key}: the neighbour is refused: {error}"));
        }
        fs::remove_file(&output).ok();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Rows 8 and 9: a scalar stays in single precision, what has no elements is not divided by.
#[test]
fn scalars_and_empty_tensors_are_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    for (dims, data, shape) in [
        (&[][..], 4, &[1][..]),
        (&[0], 0, &[0]),
        (&[0, 4], 0, &[0, 4]),
        (&[32, 0], 0, &[32, 0]),
        (&[32, 0, 3], 0, &[32, 0, 3]),
    ] {
        let bytes = gguf(&[], &[tensor("blk.0.attn_q.weight", dims, 0, 0)], data);
        fs::write(&input, bytes).unwrap();
        let request = Request::new(FileType::Q4_K_M);
        let options = Options { request, no_sync: true, overwrite: true, ..Options::default() };
        let plan = Plan::new(open(&input, &options).unwrap(), &options).unwrap();
        plan.run(&output, Control::default()).unwrap();
        let made = GgufFile::open(&output, &Limits::default()).unwrap();
        made.check_data().unwrap();
        assert_eq!(made.tensors[0].shape, shape, "{dims:?}");
        assert!(dims.len() > 1 || made.tensors[0].ty == GgmlType::F32, "{dims:?}");
    }
}

/// Row 15: importance matrices, and weights that a type cannot hold (rows 13 and 14).
#[test]
fn bad_importance_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    common::write_gguf(&path("in.gguf"), 32, 1.0);
    let name = "blk.0.ffn_down.weight";
    let mut failures = Vec::new();
    for (what, bytes, says) in [
        ("NaN", legacy_imatrix(name, &[f32::NAN; 32]), Some("NaN as value 0")),
        ("infinite", legacy_imatrix(name, &[f32::INFINITY; 32]), Some("inf as value 0")),
        ("negative", legacy_imatrix(name, &[-1.0; 32]), Some("-1 as value 0")),
        ("length", legacy_imatrix(name, &[1.0; 31]), Some("31 values")),
        ("cut", legacy_imatrix(name, &[1.0; 32])[..40].to_vec(), Some("cut short")),
        ("sound", legacy_imatrix(name, &[1.0; 32]), None),
    ] {
        fs::write(path("i.dat"), bytes).unwrap();
        let (input, output, matrix) = (path("in.gguf"), path("out.gguf"), path("i.dat"));
        let options = ["-t", "q4_0", "-q", "--no-sync", "--imatrix"];
        let mut args =
            vec!["convert".as_ref(), input.as_os_str(), "-o".as_ref(), output.as_os_str()];
        args.extend(options.iter().map(std::ffi::OsStr::new));
        args.push(matrix.as_os_str());
        let done = run(args);
        let error = stderr(&done);
        let right = match says {
            Some(says) => done.status.code() == Some(1) && error.contains(says),
            None => done.status.success(),
        };
        if !right || output.exists() != says.is_none() {
            failures.push(format!("{what}: {:?}: {error}", done.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Row 13, for blocks that are carried over as they are: found by the fuzz target
/// `convert_any_checkpoint`.
#[test]
fn copied_blocks_are_finite_too() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    let q8_0 = |scale: [u8; 2]| {
        let mut bytes = with_tensor(&[64], 8, 96);
        let start = bytes.len() - 96;
        bytes[start + 34..start + 36].copy_from_slice(&scale);
        bytes[start + 36] = 1;
        bytes
    };
    fs::write(&input, q8_0([0, 0x7c])).unwrap();
    let error = kind(&input, &output).unwrap_err();
    assert!(matches!(error, Error::NonFinite { index: 32, .. }), "{error:?}");
    assert!(!output.exists());
    fs::write(&input, q8_0([0xff, 0x7b])).unwrap();
    kind(&input, &output).unwrap();
}
