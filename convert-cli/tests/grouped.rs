//! Grouped integers on the command line.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{fs, path::Path};

use common::{fixture, planned, quantwright, run, stderr, stdout, try_convert, types};
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn a_folder_is_written_and_reported() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("out");
    let input = fixture("tiny-llama2");
    let options =
        ["-t", "INT4_SYM", "--group-size", "64", "--ratio", "0.8", "--backup", "int8_sym"];
    let plan = planned(&input, &options);
    let done = quantwright()
        .args(["convert", "--json", "--no-sync"])
        .args(options)
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let mut result: Value = serde_json::from_slice(&done.stdout).unwrap();
    let object = result.as_object_mut().unwrap();
    assert_eq!(object.remove("output"), output.to_str().map(Value::from));
    assert!(object.remove("seconds").is_some());
    assert_eq!(result, plan);
    assert_eq!(result["file_type"], "INT4_SYM");
    let types: std::collections::BTreeSet<_> = types(&result).into_values().collect();
    assert!(types.iter().eq(["F16", "INT4_SYM", "INT8_SYM"]), "{types:?}");
    let weights = fs::read_dir(&output).unwrap().map(|e| e.unwrap());
    let weights = weights.filter(|e| e.path().extension().is_some_and(|e| e == "safetensors"));
    let bytes: u64 = weights.map(|e| e.metadata().unwrap().len()).sum();
    assert_eq!(result["total_bytes"], bytes);
}

#[test]
fn a_gguf_file_is_written_where_it_holds_the_same_values() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("m.gguf");
    let input = fixture("tiny-llama2");
    let done = run([
        "convert".as_ref(),
        input.as_os_str(),
        "-o".as_ref(),
        output.as_os_str(),
        "-tint4_sym".as_ref(),
    ]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).contains("int4_sym in groups of 128 is written as Q4_0"));
    let done = try_convert(&input, Path::new("m.gguf"), &["--dry-run", "-tint8_sym"]);
    let text = stdout(&done);
    assert!(text.contains("would write Q8_0, 21 tensors"), "{text}");
    assert!(text.contains("int8_sym per channel is written as Q8_0 with"), "{text}");
}

#[test]
fn folders_of_experts_load_or_are_warned_of_llm_compressor_2163() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("out");
    let input = fixture("tiny-mixtral");
    let ratio = ["-tint4_sym", "--group-size", "64", "--ratio"];
    for (options, status, message) in [
        (&["-tint4_sym", "--group-size", "64"][..], 0, None),
        (&[&ratio[..], &["0.9"]].concat(), 0, None),
        (&[&ratio[..], &["0.6"]].concat(), 0, Some("a ratio above 0.800 gives them int4_sym")),
        (&[&ratio[..], &["0.6", "--backup", "none"]].concat(), 0, Some("transformers 5 does not")),
        (&["-tint4_asym", "--group-size", "64"], 1, Some("experts would get int4_asym")),
    ] {
        // A dry run says what the run would.
        for more in [&["--dry-run", "--force"][..], &["--force", "--no-sync"]] {
            let done = try_convert(&input, &output, &[options, more].concat());
            let text = stderr(&done);
            assert_eq!(done.status.code(), Some(status), "{options:?}: {text}");
            match message {
                Some(message) => assert!(text.contains(message), "{options:?}: {text}"),
                None => assert!(!text.contains("expert"), "{options:?}: {text}"),
            }
        }
    }
}

#[test]
fn presets_are_listed_and_taken() {
    let done = run(["presets", "--json"]);
    let presets: Value = serde_json::from_slice(&done.stdout).unwrap();
    let names: Vec<_> = presets.as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert!(names.contains(&&Value::from("phi-2")));
    assert!(stdout(&run(["presets"])).contains("microsoft/phi-2"));
    let input = fixture("tiny-llama2");
    assert_eq!(planned(&input, &["--preset", "phi-2"])["file_type"], "INT4_ASYM");
    let mixed = planned(&input, &["--preset", "phi-2", "-t", "int8_sym", "--group-size", "-1"]);
    assert_eq!(mixed["file_type"], "INT8_SYM");
}

#[test]
fn options_that_do_not_go_together_are_wrong_usage() {
    let dir = tempdir().unwrap();
    let output = dir.path().join("out");
    for options in [
        &["-tq4_0", "--ratio", "0.5"][..],
        &["--group-size", "64"],
        &["-tint4_sym", "--pure"],
        &["-tint4_sym", "--prune-layers", "0"],
        &["-tint4_sym", "--override-kv", "a.b=int:3"],
        &["-tint4_sym", "--metadata", "none.json"],
        &["-tint4_sym", "--pre-tokenizer", "qwen2"],
        &["-tint4_sym", "--strict", "--group-size-fallback", "adjust"],
        &["-tint4_sym", "--ratio", "1.5"],
        &["-tint4_sym", "--group-size", "0"],
        &["-tint4_sym", "--backup", "int2"],
        &["--preset", "gpt-5"],
        &["-tq8_0", "--preset", "phi-2"],
    ] {
        let done = try_convert(&fixture("tiny-llama2"), &output, options);
        assert_eq!(done.status.code(), Some(2), "{options:?}");
        assert!(stderr(&done).starts_with("error: ") && !output.exists());
    }
    // A wrong path is no wrong kind of input.
    for (input, says) in [("none", "cannot open"), ("m.gguf", "is not the folder of a checkpoint")]
    {
        let input = dir.path().join(input);
        if says.starts_with("is") {
            fs::write(&input, "GGUF").unwrap();
        }
        let done = try_convert(&input, &output, &["-tint4_sym"]);
        assert_eq!(done.status.code(), Some(1));
        assert!(stderr(&done).contains(says), "{}", stderr(&done));
    }
}
