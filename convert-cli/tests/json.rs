//! What scripts see: the exit status of a dry run, and JSON of warnings and errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{
    Safetensors, convert, copy_checkpoint, edit_json, fixture, planned, run, stderr, stdout,
    try_convert, write_gguf,
};
use serde_json::{Value, json};
use tempfile::tempdir;

#[test]
fn a_dry_run_ends_as_the_real_run_would_llama_cpp_19526() {
    let folder = tempdir().unwrap();
    let existing = folder.path().join("m.gguf");
    fs::write(&existing, "old").unwrap();
    let slash = folder.path().join("model/");
    for (output, options, says) in [
        (existing.clone(), &[][..], "exists already"),
        (existing.clone(), &["--force"], ""),
        (slash, &[], "is a folder"),
        (folder.path().join("none/m.gguf"), &[], "none/m.gguf: is in a folder that does not"),
        (fixture("tiny-llama2").join("config.json"), &["--force"], "is one of the inputs"),
        (folder.path().to_owned(), &["-tint4_sym", "--force"], "a folder with other things"),
        (
            folder.path().join("none/int4"),
            &["-tint4_sym"],
            "none/int4: is in a folder that does not",
        ),
        (folder.path().join("m2.gguf"), &["-tiq2_xxs", "--quiet"], "IQ2_XXS"),
        (folder.path().join("m2.gguf"), &["-tq4_0", "--imatrix", "none"], "none: cannot open"),
    ] {
        let options = [&["--dry-run"], options].concat();
        let done = try_convert(&fixture("tiny-llama2"), &output, &options);
        if says.is_empty() {
            assert!(done.status.success() && stderr(&done).is_empty(), "{}", stderr(&done));
            continue;
        }
        let text = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{output:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains(says), "{output:?}: {text}");
        let real = try_convert(&fixture("tiny-llama2"), &output, &options[1..]);
        assert_eq!((real.status.code(), stderr(&real)), (Some(1), text), "{output:?}");

        // The plan is shown where there is one, with what stands in its way.
        let done =
            try_convert(&fixture("tiny-llama2"), &output, &[&options[..], &["--json"]].concat());
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(format!("error: {}\n", text_of(&json["error"]["message"])), stderr(&done));
        assert_eq!(json["tensors"].is_array(), !options.contains(&"none"), "{json}");
    }
    assert_eq!(fs::read(&existing).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Arguments, and fields of the error with their values.
type Refusal<'a> = (&'a [&'a str], &'a [(&'a str, Value)]);

#[test]
fn errors_are_objects_with_their_places() {
    let folder = tempdir().unwrap();
    let (q8_0, awkward) = (folder.path().join("q8_0.gguf"), folder.path().join("awkward.gguf"));
    convert(&fixture("tiny-llama2"), &q8_0, &["-t", "q8_0"]);
    write_gguf(&awkward, 96, 0.25);
    let cut = folder.path().join("cut.gguf");
    let bytes = fs::read(&q8_0).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 64]).unwrap();
    let none = folder.path().join("none");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (q8_0, awkward, cut, none) = (path(&q8_0), path(&awkward), path(&cut), path(&none));
    let output = path(&folder.path().join("out.gguf"));
    let existing = path(&folder.path().join("existing.gguf"));
    fs::write(&existing, "old").unwrap();
    let (checkpoint, text) = (fixture("tiny-llama2"), fixture("text").join("test.txt"));
    let (checkpoint, text) = (path(&checkpoint), path(&text));
    let cut_short = "the file is cut short or damaged, download it again";
    let cases: [Refusal<'_>; 13] = [
        (&["convert", &none, "-o", &output], &[("file", json!(none))]),
        (
            &["convert", &q8_0, "-o", &output, "-t", "q4_0"],
            &[("tensor", json!("output.weight")), ("hint", json!(REQUANTIZE))],
        ),
        (
            &["convert", &awkward, "-o", &output, "--strict"],
            &[("tensor", json!("token_embd.weight"))],
        ),
        (
            &["convert", &awkward, "-o", &output, "--override-kv", "llama.block_count=int:0"],
            &[("key", json!("llama.block_count"))],
        ),
        (&["convert", &q8_0, "-o", &q8_0, "-t", "auto"], &[("file", json!(q8_0))]),
        (
            &["convert", &cut, "-o", &output],
            &[("file", json!(cut)), ("tensor", json!("blk.1.ffn_up.weight"))],
        ),
        (&["inspect", &none], &[("file", json!(none))]),
        (&["verify", &cut], &[("file", json!(cut))]),
        (&["compare", &q8_0, &awkward], &[("file", json!(awkward))]),
        // In the words of the command line.
        (
            &["convert", &checkpoint, "-o", &existing],
            &[("hint", json!("choose another name or allow it to be replaced (--force)"))],
        ),
        // What runs a model tells as much as what converts it.
        (&["perplexity", &none, "-f", &text], &[("file", json!(none))]),
        (&["generate", &cut, "-p", "x"], &[("file", json!(cut)), ("hint", json!(cut_short))]),
        (
            &["kl", &q8_0, &cut, "-f", &text],
            &[("file", json!(cut)), ("tensor", json!("blk.1.ffn_up.weight"))],
        ),
    ];
    let mut problems = Vec::new();
    for (args, fields) in cases {
        let done = run([args, &["--json"]].concat());
        let found: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        let line = format!("error: {}\n", text_of(&found["error"]["message"]));
        let mut fine = done.status.code() == Some(1) && line == stderr(&done);
        fine &= fields.iter().all(|(key, value)| found["error"][key] == *value);
        if !fine {
            problems.push(format!(
                "{args:?}: {}, {}\n    {}",
                done.status,
                found["error"],
                stderr(&done)
            ));
        }
        // A line on standard error is all there is without --json, but for what was found.
        let plain = run(args);
        assert_eq!((plain.status.code(), stderr(&plain)), (done.status.code(), stderr(&done)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let byte = run(["convert", &cut, "-o", &output, "--json"]);
    let byte: Value = serde_json::from_slice(&byte.stdout).unwrap();
    assert!(byte["error"]["byte"].as_u64().unwrap() > 0);
}

const REQUANTIZE: &str = "start from the original checkpoint, or insist with --allow-requantize";

#[test]
fn warnings_are_in_the_json() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("f32.gguf");
    write_gguf(&input, 96, 0.25);
    let output = folder.path().join("m.gguf");
    let matrix = fixture("tiny-llama2/imatrix.gguf");
    let options =
        ["-t", "q4_k_s", "--imatrix", matrix.to_str().unwrap(), "--include-weights", "attn_q"];
    // The matrix is for rows of 256.
    let refused = try_convert(&input, &output, &options);
    assert!(stderr(&refused).contains("blk.0.attn_q.weight"), "{}", stderr(&refused));

    let options = ["-t", "q4_k_s", "--pure", "--tensor-type", "attn_v=f16,attn_w=f16"];
    let done = try_convert(&input, &output, &[&options[..], &["--json"]].concat());
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    let warnings = found["warnings"].as_array().unwrap();
    let lines: String =
        warnings.iter().map(|w| format!("warning: {}\n", text_of(&w["message"]))).collect();
    assert_eq!(lines, stderr(&done));
    let kinds: Vec<_> = warnings.iter().map(|w| text_of(&w["kind"])).collect();
    assert_eq!(kinds, ["unused-option", "fallback"]);
    assert_eq!(
        found["fallbacks"][0],
        json!({"tensor": "output.weight", "wanted": "Q4_K", "type": "Q5_0", "row": 96})
    );
    for empty in ["without_importance", "left_out", "carried"] {
        assert_eq!(found[empty], json!([]), "{empty}");
    }
    // They do not depend on whether they are printed.
    let quiet = [&options[..], &["--json", "--quiet", "--force"]].concat();
    let quiet = try_convert(&input, &output, &quiet);
    assert_eq!(stderr(&quiet), "");
    let quiet: Value = serde_json::from_slice(&quiet.stdout).unwrap();
    assert_eq!(quiet["warnings"], found["warnings"]);
    // Blocks that are copied.
    let again = planned(&output, &["-t", "auto"]);
    assert_eq!(again["carried"].as_array().unwrap().len(), 4);
}

/// tiny-llama3 with one matrix as codes of eight bits, of whose scales one is not exact in half precision.
fn with_codes(to: &Path) -> PathBuf {
    const WEIGHT: &str = "model.layers.0.self_attn.v_proj.weight";
    let folder = copy_checkpoint("tiny-llama3", to);
    let mut weights = Safetensors::open(&folder.join("model.safetensors"));
    let [rows, columns] = [0, 1].map(|i| weights.header[WEIGHT]["shape"][i].as_u64().unwrap());
    weights.remove(WEIGHT);
    let codes = (0..rows * columns).map(|i| (i * 37 % 255) as u8);
    let scales: Vec<f32> =
        (0..rows * columns / 32).map(|i| if i == 7 { 0.1 } else { 0.25 }).collect();
    let scales = scales.iter().flat_map(|scale| scale.to_le_bytes());
    for (name, dtype, shape, bytes) in [
        (WEIGHT.to_owned(), "I8", [rows, columns], codes.collect::<Vec<u8>>()),
        (format!("{WEIGHT}_scale"), "F32", [rows, columns / 32], scales.collect()),
    ] {
        let start = weights.data.len();
        weights.data.extend(bytes);
        let place = [start, weights.data.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": place});
        weights.header.insert(name, entry);
    }
    weights.save();
    edit_json(&folder.join("config.json"), |config| {
        let of_weights = json!({"num_bits": 8, "type": "int", "strategy": "group", "group_size": 32,
            "symmetric": true});
        let groups = json!({"group_0": {"targets": ["Linear"], "weights": of_weights}});
        let quantization = json!({"quant_method": "compressed-tensors", "format": "int-quantized",
            "config_groups": groups});
        config.insert("quantization_config".to_owned(), quantization);
    });
    folder
}

#[test]
fn codes_that_are_carried_over_are_counted_llama_cpp_17083() {
    let folder = tempdir().unwrap();
    let checkpoint = with_codes(folder.path());
    let counts = |report: &Value| {
        ["carried", "recomputed", "inexact_scales"].map(|key| match &report[key] {
            Value::Array(names) => Some(names.len() as u64),
            count => count.as_u64(),
        })
    };
    let name = json!(["blk.0.attn_v.weight"]);
    let output = folder.path().join("q8.gguf");
    let one = try_convert(&checkpoint, &output, &["-t", "q8_0", "--json"]);
    let one: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(one["carried"], name);
    assert_eq!(counts(&one), [Some(1), None, Some(1)], "{one}");
    // Nothing is counted before anything is read.
    let plan = planned(&checkpoint, &["-t", "q8_0"]);
    assert_eq!(counts(&plan), [Some(1), None, None]);

    // Of several types each has counts of its own.
    let several = folder.path().join("{type}.gguf");
    let several = try_convert(&checkpoint, &several, &["-t", "q8_0,q4_0", "--json"]);
    let several: Value = serde_json::from_slice(&several.stdout).unwrap();
    assert_eq!(counts(&several[0]), [Some(1), None, Some(1)], "{several}");
    assert_eq!(several[1]["recomputed"], name);
    assert_eq!(counts(&several[1]), [Some(0), Some(1), None], "{several}");

    // In words.
    let text = try_convert(&checkpoint, &output, &["-t", "q8_0", "--force"]);
    let line =
        "1 tensors carried over with the codes they have, 1 scales not exact in half precision";
    assert!(stdout(&text).contains(line), "{}", stdout(&text));
    let text = try_convert(&checkpoint, &output, &["-t", "q4_0", "--force"]);
    let line = "0 tensors carried over with the codes they have, 1 restored and quantized again";
    assert!(stdout(&text).contains(line), "{}", stdout(&text));
}

#[test]
fn wrong_usage_is_an_error_in_the_json() {
    let llama = fixture("tiny-llama2");
    let llama = llama.to_str().unwrap();
    for (args, says) in [
        (&["convert", llama][..], "--output <OUTPUT>"),
        (&["convert", llama, "-o", "x.gguf", "-t", "zz"], "unknown type \"zz\""),
        (&["convert", llama, "-o", "x.gguf", "--ratio", "1"], "--ratio is for grouped integers"),
        (&["verify"], "<FILE>"),
        (&["inspect", "a", "b"], "unexpected argument 'b'"),
        (&["nonsense"], "unrecognized subcommand"),
    ] {
        let done = run([args, &["--json"]].concat());
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        let message = text_of(&json["error"]["message"]);
        assert!(message.contains(says) && !message.starts_with("error"), "{args:?}: {message}");
        let text = stderr(&done);
        assert!(text.starts_with("error: "), "{text}");
        // For people there is nothing on standard output, and help is no error.
        assert!(run(args).stdout.is_empty(), "{args:?}");
    }
    let help = run(["convert", "--help", "--json"]);
    assert!(help.status.success() && !help.stdout.starts_with(b"{"));
}

/// Several types make several files from one read, and a list of what a single run prints.
#[test]
fn several_types_give_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let input = fixture("tiny-llama3");
    let named = |name: &str| folder.path().join(name);
    let output = named("m-{type}.gguf");
    let done = try_convert(&input, &output, &["--type", "Q4_0,q8_0", "--json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let list: Vec<Value> = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(list.len(), 2);
    for (report, ty) in list.iter().zip(["Q4_0", "q8_0"]) {
        let path = named(&format!("m-{ty}.gguf"));
        assert_eq!(report["output"], path.to_str().unwrap());
        let alone = convert(&input, &named(&format!("alone-{ty}.gguf")), &["--type", ty]);
        assert_eq!(std::fs::read(&path).unwrap(), alone);
        let mut plan = planned(&input, &["--type", ty]);
        for key in ["output", "seconds"] {
            plan[key] = report[key].clone();
        }
        assert_eq!(*report, plan);
    }
    // A dry run needs no output, and fails as the run would.
    let dry = run(["convert", input.to_str().unwrap(), "-t", "q4_0,iq1_s", "--dry-run", "--json"]);
    let list: Vec<Value> = serde_json::from_str(&stdout(&dry)).unwrap();
    assert!(list[0].get("error").is_none() && list[1].get("error").is_some());
    assert_eq!(dry.status.code(), Some(1));
    // The name of a single type is put in its place too.
    let done = try_convert(&input, &named("one-{type}.gguf"), &["--type", "q4_0"]);
    assert!(done.status.success() && named("one-q4_0.gguf").exists());
}

#[test]
fn several_types_need_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    for (output, types, says) in [
        ("m.gguf", "q4_0,q8_0", "with {type} in it"),
        ("{type}.gguf", "q4_k,q4_k_m", "--type names q4_k_m twice"),
        ("{type}", "q4_0,int4_sym", "several types are for GGUF files"),
        ("{type}.gguf", "q4_0,", "invalid value ''"),
    ] {
        let output = folder.path().join(output);
        let done = try_convert(&fixture("tiny-llama3"), &output, &["--type", types]);
        assert_eq!(done.status.code(), Some(2), "{types}");
        assert!(stderr(&done).contains(says), "{types}: {}", stderr(&done));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
