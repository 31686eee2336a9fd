//! `convert` on real checkpoints: what the options do, and that the bytes depend on nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;
#[path = "convert/importance.rs"]
mod importance;

use std::{collections::BTreeSet, fs, path::Path};

use common::{
    convert, copy_checkpoint, fixture, planned, quantwright, run, stderr, stdout, text,
    try_convert, types, write_gguf,
};
use serde_json::{Value, json};
use tempfile::tempdir;

fn inspected(path: &Path) -> Value {
    let done = quantwright().arg("inspect").arg(path).arg("--json").output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn the_defaults_make_q4_k_m_of_the_size_of_the_reference() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    for checkpoint in ["tiny-llama2", "tiny-llama3"] {
        let done = quantwright()
            .arg("convert")
            .arg(fixture(checkpoint))
            .arg("-o")
            .arg(&output)
            .arg("--force")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        assert_eq!(stderr(&done), "", "no terminal, no progress");
        assert!(stdout(&done).starts_with("wrote "), "{}", stdout(&done));
        assert!(stdout(&done).contains("Q4_K_M, 21 tensors"), "{}", stdout(&done));
        let golden = fixture("golden").join(format!("{checkpoint}.json"));
        let golden: Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
        assert_eq!(golden["plain"]["Q4_K_M"]["size"], fs::metadata(&output).unwrap().len());
    }
}

#[test]
fn what_is_said_of_a_saved_mix_makes_the_same_file() {
    let folder = tempdir().unwrap();
    let [first, again, mix] = ["a.gguf", "b.gguf", "mix.txt"].map(|name| folder.path().join(name));
    let input = fixture("tiny-llama3");
    let done = quantwright()
        .arg("convert")
        .arg(&input)
        .args(["--target-size", "900k", "-o"])
        .arg(&first)
        .arg("--save-mix")
        .arg(&mix)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let said = stdout(&done);
    let (_, options) = said.split_once("the same again: ").unwrap();
    let options = options.lines().next().unwrap().split(' ');
    let done = quantwright()
        .arg("convert")
        .arg(&input)
        .args(options)
        .arg("-o")
        .arg(&again)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(fs::read(first).unwrap(), fs::read(again).unwrap());
}

#[test]
fn the_json_of_a_run_is_that_of_the_plan_and_more() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let input = fixture("tiny-llama3");
    let plan = planned(&input, &["-t", "q5_k_s"]);
    let done = run([
        "convert".as_ref(),
        input.as_os_str(),
        "-o".as_ref(),
        output.as_os_str(),
        "-tq5_k_s".as_ref(),
        "--json".as_ref(),
    ]);
    assert_eq!(stderr(&done), "");
    let mut result: Value = serde_json::from_str(&stdout(&done)).unwrap();
    let object = result.as_object_mut().unwrap();
    assert_eq!(object.remove("output"), output.to_str().map(Value::from));
    assert!(object.remove("seconds").unwrap().as_f64().unwrap() > 0.0);
    assert_eq!(result, plan);

    let keys: Vec<_> = plan.as_object().unwrap().keys().cloned().collect();
    let expected = [
        "file_type",
        "tensors",
        "total_bytes",
        "bits_per_weight",
        "fallbacks",
        "without_importance",
        "left_out",
        "carried",
        "warnings",
    ];
    assert_eq!(BTreeSet::from_iter(keys), expected.map(String::from).into());
    assert_eq!(plan["file_type"], "Q5_K_S");
    assert_eq!(plan["total_bytes"], fs::metadata(&output).unwrap().len());
    for tensor in plan["tensors"].as_array().unwrap() {
        let keys: Vec<_> = tensor.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "type", "shape", "bytes"]);
    }
    // Innermost first: 1024 tokens of 256 elements.
    let embedding = plan["tensors"].as_array().unwrap().iter();
    let embedding = embedding.clone().find(|t| t["name"] == "token_embd.weight").unwrap();
    assert_eq!(embedding["shape"], json!([256, 1024]));
    // The file is what the plan said it would be.
    let found = inspected(&output);
    let of = |tensors: &Value, key: &str| -> Vec<Value> {
        tensors.as_array().unwrap().iter().map(|t| t[key].clone()).collect()
    };
    for key in ["name", "type", "shape", "bytes"] {
        assert_eq!(of(&found["tensors"], key), of(&plan["tensors"], key), "{key}");
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    for json in [&["--json"][..], &[]] {
        let done = quantwright()
            .arg("convert")
            .arg(fixture("tiny-llama2"))
            .arg("-o")
            .arg(&output)
            .arg("--dry-run")
            .args(json)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        assert_eq!(stderr(&done), "");
        assert!(stdout(&done).contains("blk.1.ffn_down.weight"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn one_tensor_changes_and_the_rest_is_copied_llama_cpp_6239() {
    let folder = tempdir().unwrap();
    let (first, second) = (folder.path().join("q4_k_m.gguf"), folder.path().join("out.gguf"));
    convert(&fixture("tiny-llama2"), &first, &[]);
    let before = types(&planned(&first, &["-t", "auto"]));
    for (option, value, changed, ty) in [
        ("--token-embedding-type", "q8_0", "token_embd.weight", "Q8_0"),
        ("--output-tensor-type", "q5_0", "output.weight", "Q5_0"),
        ("--tensor-type", "blk.1.attn_k=q6_k", "blk.1.attn_k.weight", "Q6_K"),
    ] {
        let options = ["-t", "auto", option, value, "--allow-requantize", "--force"];
        convert(&first, &second, &options);
        let mut expected = before.clone();
        expected.insert(changed.into(), ty.into());
        assert_eq!(types(&inspected(&second)), expected, "{option}");
    }
    // Of a checkpoint too, which keeps its own precision.
    let plan = planned(&fixture("tiny-llama3"), &["-t", "auto", "--tensor-type", "attn_v=q8_0"]);
    assert_eq!(types(&plan)["blk.0.attn_v.weight"], "Q8_0");
    assert_eq!(types(&plan)["blk.0.attn_q.weight"], "BF16");
}

#[test]
fn packed_layers_are_called_what_they_are_stored_as_llama_cpp_5461() {
    let folder = tempdir().unwrap();
    let input = fixture("tiny-llama2");
    for (ty, name) in
        [("int4_sym", "INT4_SYM"), ("int4_asym", "INT4_ASYM"), ("int8_asym", "INT8_ASYM")]
    {
        let output = folder.path().join(ty);
        let done = try_convert(&input, &output, &["-t", ty, "--no-sync", "--quiet"]);
        assert!(done.status.success(), "{}", stderr(&done));
        let done =
            run(["compare".as_ref(), input.as_os_str(), output.as_os_str(), "--json".as_ref()]);
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        let named = |name: &str| {
            let mut tensors = found["tensors"].as_array().unwrap().iter();
            let tensor = tensors.find(|t| t["name"] == name).unwrap();
            (text(&tensor["reference_type"]), text(&tensor["type"]))
        };
        assert_eq!(named("blk.0.attn_q.weight"), ("F16".into(), name.into()));
        assert_eq!(named("token_embd.weight"), ("F16".into(), "F16".into()));
    }
}

#[test]
fn threads_and_flushing_do_not_change_the_bytes() {
    let folder = tempdir().unwrap();
    let input = fixture("tiny-llama2");
    let imatrix = input.join("imatrix.gguf");
    for options in
        [&["-t", "q4_k_m"][..], &["-t", "q3_k_l", "--imatrix", imatrix.to_str().unwrap()]]
    {
        let mut files = BTreeSet::new();
        for threads in ["1", "2", "3", "16"] {
            let output = folder.path().join("m.gguf");
            let options = [options, &["--force", "--threads", threads]].concat();
            files.insert(convert(&input, &output, &options));
        }
        // `convert` of these tests leaves out the flush.
        let output = folder.path().join("flushed.gguf");
        let done = quantwright()
            .arg("convert")
            .arg(&input)
            .arg("-o")
            .arg(&output)
            .args(options)
            .args(["--quiet", "--force"])
            .output()
            .unwrap();
        assert!(done.status.success() && done.stdout.is_empty() && done.stderr.is_empty());
        files.insert(fs::read(&output).unwrap());
        assert_eq!(files.len(), 1, "{options:?}");
    }
}

#[test]
fn types_are_known_in_any_case_and_by_their_aliases() {
    let folder = tempdir().unwrap();
    let input = fixture("tiny-llama2");
    let output = folder.path().join("m.gguf");
    let file = |ty| convert(&input, &output, &["--force", "--type", ty]);
    assert_eq!(file("q4_k"), file("Q4_K_M"));
    assert_eq!(file("Q3_K"), file("q3_k_m"));
    for (checkpoint, ty) in [("tiny-llama2", "F16"), ("tiny-llama3", "BF16")] {
        let plan = planned(&fixture(checkpoint), &["--type", "auto"]);
        assert_eq!(plan["file_type"], ty);
        assert_eq!(types(&plan)["blk.0.attn_q.weight"], ty);
        assert_eq!(types(&plan)["blk.0.attn_norm.weight"], "F32");
    }
}

/// Options, and some tensors with the types they get.
type Bent<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

#[test]
fn options_bend_the_recipe() {
    let input = fixture("tiny-llama2");
    let folder = tempdir().unwrap();
    let list = folder.path().join("types.txt");
    fs::write(&list, "blk\\.1\\.attn_k=q8_0\nffn_up=q5_1 attn_v=f16\n").unwrap();
    let list = list.to_str().unwrap();
    let cases: &[Bent<'_>] = &[
        (&[], &[("output", "Q6_K"), ("token_embd", "Q4_K"), ("blk.1.ffn_down", "Q6_K")]),
        (&["--pure"], &[("output", "Q4_K"), ("token_embd", "Q4_K"), ("blk.1.ffn_down", "Q4_K")]),
        (&["--leave-output-tensor"], &[("output", "F32"), ("blk.0.attn_q", "Q4_K")]),
        (&["--output-tensor-type", "Q8_0"], &[("output", "Q8_0"), ("token_embd", "Q4_K")]),
        (&["--token-embedding-type", "bf16"], &[("output", "Q6_K"), ("token_embd", "BF16")]),
        (
            &["--tensor-type", "attn_v=q5_0", "--tensor-type", "attn_=q8_0"],
            &[("blk.0.attn_v", "Q5_0"), ("blk.1.attn_q", "Q8_0"), ("blk.1.ffn_up", "Q4_K")],
        ),
        (
            &["--tensor-type", "ffn_up=q4_0", "--tensor-type-file", list],
            &[
                ("blk.0.ffn_up", "Q4_0"),
                ("blk.0.attn_k", "Q4_K"),
                ("blk.1.attn_k", "Q8_0"),
                ("blk.0.attn_v", "F16"),
            ],
        ),
    ];
    let mut problems = Vec::new();
    for (options, expected) in cases {
        let types = types(&planned(&input, options));
        for (name, ty) in *expected {
            let found = &types[&format!("{name}.weight")];
            if found != ty {
                problems.push(format!("{options:?} {name}: {found}, expected {ty}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn metadata_is_overridden_with_its_type() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let options = [
        "--override-kv",
        "general.name=str:A: name=",
        "--override-kv",
        "my.count=int:7",
        "--override-kv",
        "my.ratio=float:0.25",
        "--override-kv",
        "tokenizer.ggml.add_bos_token=bool:false",
    ];
    convert(&fixture("tiny-llama2"), &output, &options);
    let metadata = &inspected(&output)["metadata"];
    assert_eq!(metadata["general.name"], json!({"type": "STRING", "value": "A: name="}));
    assert_eq!(metadata["my.count"], json!({"type": "UINT32", "value": 7}));
    assert_eq!(metadata["my.ratio"], json!({"type": "FLOAT32", "value": 0.25}));
    let bos = &metadata["tokenizer.ggml.add_bos_token"];
    assert_eq!(*bos, json!({"type": "BOOL", "value": false}));
}

#[test]
fn layers_are_left_out_and_the_others_numbered_anew() {
    let folder = tempdir().unwrap();
    let (whole, pruned) = (folder.path().join("whole.gguf"), folder.path().join("pruned.gguf"));
    let input = fixture("tiny-llama2");
    let all = convert(&input, &whole, &["-t", "q8_0"]);
    let some = convert(&input, &pruned, &["-t", "q8_0", "--prune-layers", "0"]);
    let found = inspected(&pruned);
    assert_eq!(found["metadata"]["llama.block_count"]["value"], 1);
    assert_eq!(found["tensors"].as_array().unwrap().len(), 12);
    let data = |bytes: &[u8], file: &Value, name: &str| {
        let tensor = file["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name);
        let place = |key: &str| tensor.unwrap()[key].as_u64().unwrap() as usize;
        bytes[place("offset")..][..place("bytes")].to_vec()
    };
    assert!(
        data(&some, &found, "blk.0.ffn_up.weight")
            == data(&all, &inspected(&whole), "blk.1.ffn_up.weight")
    );
}

#[test]
fn a_lossless_gguf_file_gives_what_its_checkpoint_gives() {
    let folder = tempdir().unwrap();
    for (checkpoint, lossless) in [("tiny-llama2", "f16"), ("tiny-llama3", "f32")] {
        let path = |name: &str| folder.path().join(format!("{checkpoint}-{name}.gguf"));
        let input = fixture(checkpoint);
        convert(&input, &path("lossless"), &["-t", lossless]);
        let direct = convert(&input, &path("direct"), &[]);
        assert!(convert(&path("lossless"), &path("twice"), &[]) == direct, "{checkpoint}");
    }
}

#[test]
fn what_is_quantized_is_quantized_again_only_with_leave() {
    let folder = tempdir().unwrap();
    let (first, second) = (folder.path().join("q8_0.gguf"), folder.path().join("q4_0.gguf"));
    let bytes = convert(&fixture("tiny-llama2"), &first, &["-t", "q8_0"]);
    convert(&first, &second, &["-t", "q4_0", "--allow-requantize"]);
    assert_eq!(inspected(&second)["metadata"]["general.file_type"]["value"], 2);
    // Keeping every type is a copy and needs no leave.
    assert!(convert(&first, &second, &["--force", "-t", "auto"]) == bytes);
}

#[test]
fn awkward_rows_fall_back_and_are_reported() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("f32.gguf");
    for (columns, ty) in [(96, "Q5_0"), (40, "F16"), (256, "Q4_K")] {
        write_gguf(&input, columns, 0.25);
        let done = quantwright()
            .arg("convert")
            .arg(&input)
            .arg("-o")
            .arg(folder.path().join("out.gguf"))
            .args(["-t", "q4_k_s", "--force"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        let plan = planned(&input, &["-t", "q4_k_s"]);
        assert_eq!(types(&plan)["blk.0.attn_q.weight"], ty);
        if columns == 256 {
            assert_eq!(stderr(&done), "");
            continue;
        }
        let warning = stderr(&done);
        assert!(warning.starts_with("warning: "), "{warning}");
        assert!(warning.contains(" of 5 tensors have rows that do not fit"), "{warning}");
        let part = format!("blk.0.attn_q.weight (Q4_K → {ty}, rows of {columns})");
        assert!(warning.contains(&part), "{warning}");
        let query = plan["tensors"].as_array().unwrap().iter();
        let query = query.clone().find(|t| t["name"] == "blk.0.attn_q.weight").unwrap();
        assert_eq!(query["wanted"], "Q4_K");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_as_a_download_cache_needs() {
    let folder = tempdir().unwrap();
    let checkpoint = copy_checkpoint("tiny-llama2", folder.path());
    for path in common::listing(&checkpoint).into_keys() {
        let blob = folder.path().join(path.file_name().unwrap());
        fs::rename(&path, &blob).unwrap();
        std::os::unix::fs::symlink(&blob, &path).unwrap();
    }
    let (a, b) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    assert!(
        convert(&checkpoint, &a, &["-t", "q8_0"])
            == convert(&fixture("tiny-llama2"), &b, &["-t", "q8_0"])
    );
}

#[test]
fn paths_may_be_relative() {
    let folder = tempdir().unwrap();
    copy_checkpoint("tiny-llama2", folder.path());
    let done = quantwright()
        .args(["convert", "tiny-llama2", "-o", "m.gguf", "-t", "q8_0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(folder.path().join("m.gguf").is_file());
}
