//! Commands for GGUF files that exist: `edit`, `split`, `merge`, `hash`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;
#[path = "workbench/other_models.rs"]
mod other_models;

use std::{fs, path::Path};

use common::{convert, fixture, listing, quantwright, refused, run, stderr, stdout, try_convert};
use gguf_io::{GgufFile, Layout, Limits, Metadata, TensorSpec, metadata::Value};
use quant_core::GgmlType;
use tempfile::tempdir;

fn metadata(path: &Path) -> Metadata {
    let model = GgufFile::open(path, &Limits::default()).unwrap();
    model.check_data().unwrap();
    model.metadata
}

fn done(folder: &Path, args: &[&str]) -> String {
    let done = quantwright().current_dir(folder).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", stderr(&done));
    assert_eq!(stderr(&done), "", "{args:?}");
    stdout(&done)
}

#[test]
fn edit_sets_removes_and_renames() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let before = convert(&fixture("tiny-llama2"), &path("m.gguf"), &["-t", "q8_0"]);
    fs::write(path("template"), "{{ 'x' }}\n").unwrap();
    fs::write(path("ids"), "[1, 2]\n").unwrap();
    let text = done(
        folder.path(),
        &[
            "edit",
            "m.gguf",
            "-o",
            "out.gguf",
            "--set",
            "general.name=str:A name",
            "--set",
            "tokenizer.ggml.eot_token_id=u32:2",
            "--set",
            "tokenizer.ggml.eos_token_ids=[u32]:@ids",
            "--remove",
            "general.quantization_version",
            "--rename",
            "general.file_type=was.file_type",
            "--chat-template",
            "template",
        ],
    );
    assert!(text.starts_with("out.gguf: new file, "), "{text}");
    assert_eq!(fs::read(path("m.gguf")).unwrap(), before);
    let after = metadata(&path("out.gguf"));
    assert_eq!(after.get_str("general.name"), Some("A name"));
    assert_eq!(after.get("tokenizer.ggml.eos_token_ids"), Some(&Value::from(vec![1u32, 2])));
    assert_eq!(after.get_u64("was.file_type"), Some(7));
    assert_eq!(after.get_str("tokenizer.chat_template"), Some("{{ 'x' }}\n"));
    assert_eq!(after.get("general.quantization_version"), None);
    // The data is the same, which its checksum says.
    let sums = |name| -> serde_json::Value {
        serde_json::from_str(&done(folder.path(), &["hash", name, "--json"])).unwrap()
    };
    assert_eq!(sums("m.gguf")["data"], sums("out.gguf")["data"]);
    assert_ne!(sums("m.gguf")["file"], sums("out.gguf")["file"]);
    // In place; what is not there cannot be removed twice.
    let text =
        done(folder.path(), &["edit", "m.gguf", "--in-place", "--set", "general.file_type=u32:8"]);
    assert!(text.contains("header written in place"), "{text}");
    assert_eq!(fs::metadata(path("m.gguf")).unwrap().len(), before.len() as u64);
    assert_eq!(metadata(&path("m.gguf")).get_u64("general.file_type"), Some(8));
}

#[test]
fn edit_warns_of_what_loaders_refuse() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    convert(&fixture("tiny-llama2"), &path, &["-t", "q8_0"]);
    let edit = |args: &[&str]| {
        let out = folder.path().join("out.gguf");
        quantwright()
            .arg("edit")
            .arg(&path)
            .args(["--force", "-o"])
            .arg(out)
            .args(args)
            .output()
            .unwrap()
    };
    for (args, says) in [
        (&["--remove", "llama.block_count"][..], "llama.block_count"),
        (&["--set", "llama.attention.head_count=str:4"], "llama.attention.head_count"),
        (&["--rename", "llama.embedding_length=llama.embedding"], "llama.embedding_length"),
    ] {
        let done = edit(args);
        let text = stderr(&done);
        assert!(done.status.success(), "{text}");
        assert!(text.starts_with("warning: loaders are likely to refuse the file"), "{text}");
        assert!(text.contains(says), "{text}");
    }
    // Of what a file is no longer known as, no key can be missed.
    for (setting, says) in [
        ("general.architecture=str:foo", "architecture \"foo\" is not described here"),
        ("general.architecture=str:clip", "architecture clip"),
        ("general.type=str:adapter", "general.type \"adapter\""),
    ] {
        let done = edit(&["--set", setting]);
        let text = stderr(&done);
        assert!(done.status.success() && text.lines().count() == 1, "{text}");
        let starts = "warning: loaders may no longer take the file for the llama model that it is";
        assert!(text.starts_with(starts) && text.contains(says), "{text}");
    }
    // The last of these is no model of an architecture that cannot be run.
    let done =
        quantwright().args(["generate", "-p", "x"]).arg(folder.path().join("out.gguf")).output();
    let says = ["holds no language model", "general.type is \"adapter\""];
    assert_eq!(refused(&done.unwrap(), &says), Vec::<String>::new());
    for (args, says) in [
        (&["--set", "general.alignment=u32:64"][..], &["general.alignment"][..]),
        (&["--remove", "general.architecture"], &["general.architecture"]),
        (&["--set", "a=u8:@missing"], &["missing", "No such file"]),
    ] {
        assert_eq!(refused(&edit(args), says), Vec::<String>::new());
    }
    // Nothing to do, nowhere to write to: wrong usage.
    for args in [
        &["edit", "m.gguf", "-o", "x"][..],
        &["edit", "m.gguf", "--set", "a=u8:1"],
        &["edit", "m.gguf", "--set", "a=u8:1", "--in-place", "-o", "x"],
        &["edit", "m.gguf", "--set", "a=u8:256", "--in-place"],
        &["edit", "m.gguf", "--set", "a=x8:2", "--in-place"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn split_makes_what_convert_makes_and_merge_undoes_it() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let whole = convert(&fixture("tiny-llama2"), &path("m.gguf"), &["-t", "q4_k_m"]);
    fs::create_dir(path("split")).unwrap();
    fs::create_dir(path("converted")).unwrap();
    done(folder.path(), &["split", "m.gguf", "-o", "split/m.gguf", "--max-tensors", "8"]);
    let options = ["-t", "q4_k_m", "--split-max-tensors", "8", "--quiet", "--no-sync", "-o"];
    let input = fixture("tiny-llama2");
    let mut args = vec!["convert", input.to_str().unwrap()];
    args.extend(options);
    args.push("converted/m.gguf");
    done(folder.path(), &args);
    let mut names: Vec<_> =
        fs::read_dir(path("split")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 3);
    for name in &names {
        let [a, b] = ["split", "converted"].map(|dir| fs::read(path(dir).join(name)).unwrap());
        assert!(a == b, "{name:?}");
    }
    done(folder.path(), &["merge", "split/m-00001-of-00003.gguf", "-o", "merged.gguf"]);
    assert!(fs::read(path("merged.gguf")).unwrap() == whole);
    let text = done(folder.path(), &["split", "m.gguf", "-o", "even", "--shards", "4", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["shards"].as_array().unwrap().len(), 4);
    assert_eq!(json["warnings"], serde_json::json!([]));
    // A tensor that is larger than a shard may be is not divided, which is said.
    let text = done(folder.path(), &["split", "m.gguf", "-o", "s", "--max-size", "32K", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["warnings"][0]["kind"], "large-tensor");
    let shards = json["shards"].as_array().unwrap();
    let large = shards.iter().filter(|shard| shard["bytes"].as_u64() > Some(2 * 32_000)).count();
    assert!(large > 0, "{json}");
    let message = json["warnings"][0]["message"].as_str().unwrap();
    assert!(message.contains("--max-size") && message.contains("not divided"), "{message}");
    // Another shard than the first, and one that is missing.
    let merge = |name: &str| {
        quantwright()
            .current_dir(folder.path())
            .args(["merge", name, "-o", "x.gguf"])
            .output()
            .unwrap()
    };
    let none: Vec<String> = Vec::new();
    let second = merge("split/m-00002-of-00003.gguf");
    assert_eq!(refused(&second, &["m-00002-of-00003.gguf", "not the first"]), none);
    fs::remove_file(path("split/m-00002-of-00003.gguf")).unwrap();
    let missing = merge("split/m-00001-of-00003.gguf");
    assert_eq!(refused(&missing, &["shard 2 is missing"]), none);
    assert!(!path("x.gguf").exists());
}

#[test]
fn one_shard_a_job_makes_what_a_full_run_makes() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for dir in ["all", "jobs"] {
        fs::create_dir(path(dir)).unwrap();
    }
    // From a checkpoint with a matrix, and from a file.
    let matrix = fixture("tiny-llama2/imatrix.gguf");
    let options = ["-t", "iq2_s", "--imatrix", matrix.to_str().unwrap()];
    let whole = convert(&fixture("tiny-llama2"), &path("whole.gguf"), &options);
    let job = |shard: &str, more: &[&str]| {
        let options = [&options, &["--no-sync", "--json", "--shard", shard][..], more].concat();
        try_convert(&fixture("tiny-llama2"), &path("jobs/m.gguf"), &options)
    };
    let json = |done: &std::process::Output| -> serde_json::Value {
        assert!(done.status.success(), "{}", stderr(done));
        serde_json::from_slice(&done.stdout).unwrap()
    };
    let all = [&options, &["--no-sync", "--quiet", "--shards", "6"][..]].concat();
    assert!(try_convert(&fixture("tiny-llama2"), &path("all/m.gguf"), &all).status.success());
    // In any order; a shard that is there does not mind the others.
    let mut bytes = 0;
    for shard in [4, 2, 6, 1, 3, 5] {
        let plan = json(&job(&format!("{shard}/6"), &["--dry-run"]));
        let made = json(&job(&format!("{shard}/6"), &["--threads", "1"]));
        let name = format!("m-{shard:05}-of-00006.gguf");
        assert!(made["output"].as_str().unwrap().ends_with(&name), "{made}");
        assert_eq!(
            (&plan["tensors"], &plan["total_bytes"]),
            (&made["tensors"], &made["total_bytes"])
        );
        assert!(made["tensors"].as_array().unwrap().iter().all(|t| t["shard"] == shard), "{made}");
        bytes += made["total_bytes"].as_u64().unwrap();
        let [a, b] = ["all", "jobs"].map(|dir| fs::read(path(dir).join(&name)).unwrap());
        assert!(a == b, "{name}");
    }
    let sizes = listing(&path("all")).into_values().map(|file| file.len() as u64);
    assert_eq!(bytes, sizes.sum::<u64>());
    done(folder.path(), &["merge", "jobs/m-00001-of-00006.gguf", "-o", "merged.gguf"]);
    assert!(fs::read(path("merged.gguf")).unwrap() == whole);

    // A job that is run again leaves what is there alone, and reads no weight for it.
    let third = path("jobs/m-00003-of-00006.gguf");
    let time = || fs::metadata(&third).unwrap().modified().unwrap();
    let (before, again) = (time(), json(&job("3/6", &[])));
    assert_eq!((&again["left_alone"], again.get("seconds")), (&true.into(), None));
    assert!(json(&job("3/6", &["--dry-run"])).get("error").is_none());
    assert_eq!(time(), before);
    assert_eq!(again["warnings"], serde_json::json!([]));
    // One that is older than what it would be made of may be of another model.
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
    fs::File::options().write(true).open(&third).unwrap().set_modified(old).unwrap();
    let warning = json(&job("3/6", &[]))["warnings"][0].clone();
    let message = warning["message"].as_str().unwrap();
    assert_eq!(warning["kind"], "older-shard");
    assert!(message.contains("m-00003-of-00006.gguf") && message.contains("--force"), "{message}");
    let replaced = json(&job("3/6", &["--force"]));
    assert!(replaced.get("left_alone").is_none() && replaced["seconds"].is_number());

    // Another file in its place is refused: one cut short, one of another type, something else.
    let right = fs::read(&third).unwrap();
    let mut wrong = right.clone();
    wrong[9] ^= 1;
    let same = |done: &std::process::Output, says: &[&str]| {
        let problems = refused(done, says);
        problems.into_iter().filter(|problem| problem != "something on stdout").collect::<Vec<_>>()
    };
    for (bytes, at) in [
        (&right[..right.len() - 1], right.len() - 1),
        (&right[..100], 100),
        (&[], 0),
        (&wrong, 9),
        (b"GGUF of another kind", 4),
    ] {
        fs::write(&third, bytes).unwrap();
        let says = format!("is not the shard that would be written, from byte {at} on");
        for more in [&[][..], &["--dry-run"]] {
            let done = job("3/6", more);
            assert_eq!(
                same(&done, &["m-00003-of-00006.gguf", &says, "--force"]),
                Vec::<String>::new()
            );
        }
        assert_eq!(fs::read(&third).unwrap(), bytes);
    }
    // A full run replaces nothing either.
    let full = try_convert(&fixture("tiny-llama2"), &path("jobs/m.gguf"), &all);
    assert_eq!(refused(&full, &["exists already"]), Vec::<String>::new());
}

#[test]
fn a_shard_of_several_types_is_written_where_it_is_missing() {
    let folder = tempdir().unwrap();
    let job = |types: &str| {
        let options = ["-t", types, "--no-sync", "--json", "--shard", "2/3"];
        let done =
            try_convert(&fixture("tiny-llama2"), &folder.path().join("{type}.gguf"), &options);
        assert!(done.status.success(), "{}", stderr(&done));
        let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        let entry = |json: &serde_json::Value| json.get("left_alone").is_some();
        json.as_array().map_or_else(|| vec![entry(&json)], |all| all.iter().map(entry).collect())
    };
    assert_eq!(job("q8_0"), [false]);
    let before = listing(folder.path());
    assert_eq!(job("q4_0,q8_0"), [false, true]);
    let after = listing(folder.path());
    assert!(after.len() == 2 && before.iter().all(|(path, bytes)| after[path] == *bytes));
    assert_eq!(job("q4_0,q8_0"), [true, true]);
}

#[test]
fn a_shard_of_what_cannot_be_written_is_refused_by_every_job() {
    let folder = tempdir().unwrap();
    // Only some tensors need importance.
    for shard in ["1/6", "6/6"] {
        let options = ["-t", "iq2_xxs", "--quiet", "--no-sync", "--shard", shard];
        let done = try_convert(&fixture("tiny-llama2"), &folder.path().join("m.gguf"), &options);
        assert_eq!(refused(&done, &["needs importance"]), Vec::<String>::new());
    }
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn hash_shows_the_sums_of_files_data_and_tensors() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    convert(&fixture("tiny-llama2"), &path("m.gguf"), &["-t", "f16"]);
    let text = done(folder.path(), &["hash", "m.gguf", "--tensors"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].ends_with("  m.gguf") && lines[1].ends_with("  tensor data"), "{text}");
    let model = GgufFile::open(&path("m.gguf"), &Limits::default()).unwrap();
    assert_eq!(lines.len(), 2 + model.tensors.len());
    let json: serde_json::Value =
        serde_json::from_str(&done(folder.path(), &["hash", "m.gguf", "--tensors", "--json"]))
            .unwrap();
    assert_eq!(json["tensors"].as_object().unwrap().len(), model.tensors.len());
    assert!(lines[0].starts_with(json["file"].as_str().unwrap()), "{text}");
    // Any other file has a sum as well.
    fs::write(path("text"), "abc").unwrap();
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(done(folder.path(), &["hash", "text"]), format!("{sum}  text\n"));
    // Of shards there is one for each file, and one for the data of all.
    done(folder.path(), &["split", "m.gguf", "-o", "s", "--shards", "2"]);
    let of_shards: serde_json::Value =
        serde_json::from_str(&done(folder.path(), &["hash", "s-00001-of-00002.gguf", "--json"]))
            .unwrap();
    assert_eq!(of_shards["files"].as_array().unwrap().len(), 2);
    assert_eq!(of_shards["data"], json["data"]);
}
