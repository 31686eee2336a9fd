//! Commands for GGUF files that exist: `edit`, `split`, `merge`, `hash`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{fs, path::Path};

use common::{convert, fixture, quantwright, refused, run, stderr, stdout};
use gguf_io::{GgufFile, Limits, Metadata, metadata::Value};
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
