//! Which weights of a folder count, which folder a path stands for, and what a model is called by
//! it: folders as people have them.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Safetensors, copy_checkpoint, edit_json, fixture, refused, stderr, try_convert};
use gguf_io::{GgufFile, Limits};
use serde_json::json;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const COMMIT: &str = "fe8a4ea1ffedaf415f4da2f062534de366a451e6";
const OTHER: &str = "0123456789abcdef0123456789abcdef01234567";

fn shard(number: usize) -> String {
    format!("model-{number:05}-of-00003.safetensors")
}

/// What came of a conversion to F32: the first value of the token embedding, or nothing, and what
/// was said.
struct Outcome {
    first: Option<f32>,
    name: Option<String>,
    done: std::process::Output,
}

fn outcome(input: &Path, options: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let done = try_convert(input, &output, &[&["-t", "f32", "--no-sync"], options].concat());
    let (mut first, mut name) = (None, None);
    if done.status.success() {
        let model = GgufFile::open(&output, &Limits::default()).unwrap();
        let tensor = model.tensors.iter().find(|t| t.name == "token_embd.weight").unwrap();
        let mut bytes = [0; 4];
        model.files[tensor.file].read_exact_at(&mut bytes, tensor.offset).unwrap();
        first = Some(f32::from_le_bytes(bytes));
        name = model.metadata.get_str("general.name").map(str::to_owned);
    }
    Outcome { first, name, done }
}

/// Writes the shards of tiny-llama2 as one file, with other values in the token embedding.
fn write_single(dir: &Path) {
    let mut whole = Safetensors::open(&dir.join(shard(1)));
    for number in [2, 3] {
        let more = Safetensors::open(&dir.join(shard(number)));
        for (name, mut entry) in more.header.into_iter().filter(|(name, _)| name != "__metadata__")
        {
            let place = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap());
            entry["data_offsets"] = json!(place.map(|at| at + whole.data.len() as u64));
            whole.header.insert(name, entry);
        }
        whole.data.extend(more.data);
    }
    // 1.0 in BF16, 1.875 in F16: neither is in the shards.
    whole.set("model.embed_tokens.weight", 0, 0x3f80);
    let bytes = {
        let header = serde_json::to_string(&whole.header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &whole.data].concat()
    };
    fs::write(dir.join(SINGLE), bytes).unwrap();
}

/// tiny-llama2, as its shards and their index, with a newer single file beside them.
fn two_sets(to: &Path) -> PathBuf {
    let dir = copy_checkpoint("tiny-llama2", to);
    write_single(&dir);
    dir
}

fn remove(dir: &Path, names: &[String]) {
    names.iter().for_each(|name| fs::remove_file(dir.join(name)).unwrap());
}

/// ggml-org/llama.cpp#5678: transformers loads model.safetensors.
#[test]
fn the_single_file_counts_and_the_warning_names_both_llama_cpp_5678() {
    let old = outcome(&fixture("tiny-llama2"), &[]).first.unwrap();
    /// Name, what is done to the folder, options, whether the single file is read, what is said.
    type Row =
        (&'static str, fn(&Path), &'static [&'static str], bool, Option<&'static [&'static str]>);
    let rows: [Row; 8] = [
        ("index and shards", |_| {}, &[], true, Some(&[INDEX, "model-00001-of-00003", SINGLE])),
        (
            "as the reference",
            |_| {},
            &["--like-reference"],
            false,
            Some(&[INDEX, "model.safetensors is not"]),
        ),
        (
            "shards alone",
            |d| remove(d, &[INDEX.into()]),
            &[],
            true,
            Some(&["the shards \"model-0"]),
        ),
        (
            "an index whose shards are gone",
            |d| remove(d, &[1, 2, 3].map(shard)),
            &[],
            true,
            Some(&[INDEX, "model-00003-of-00003"]),
        ),
        (
            "an index that leads out of the folder",
            |d| {
                let map = json!({"weight_map": {"a": "/etc/passwd"}});
                fs::write(d.join(INDEX), map.to_string()).unwrap();
            },
            &[],
            true,
            Some(&[INDEX, "/etc/passwd"]),
        ),
        (
            "an index that is no JSON",
            |d| fs::write(d.join(INDEX), "{").unwrap(),
            &[],
            true,
            Some(&[INDEX, "cannot be read"]),
        ),
        (
            "an index of an earlier single file",
            |d| {
                remove(d, &[1, 2, 3].map(shard));
                let map = json!({"weight_map": {"lm_head.weight": SINGLE, "gone.weight": SINGLE}});
                fs::write(d.join(INDEX), map.to_string()).unwrap();
            },
            &[],
            true,
            Some(&[INDEX, "\"gone.weight\" is not in model.safetensors", "differences"]),
        ),
        (
            "its own index",
            |d| {
                remove(d, &[1, 2, 3].map(shard));
                edit_json(&d.join(INDEX), |index| {
                    let map = index["weight_map"].as_object_mut().unwrap();
                    map.values_mut().for_each(|file| *file = SINGLE.into());
                });
            },
            &[],
            true,
            None,
        ),
    ];
    let mut failures = Vec::new();
    for (name, edit, options, single, says) in rows {
        let folder = tempfile::tempdir().unwrap();
        let dir = two_sets(folder.path());
        edit(&dir);
        let Outcome { first, done, .. } = outcome(&dir, options);
        let text = stderr(&done);
        if first.map(|first| first != old) != Some(single) {
            failures.push(format!("{name}: {first:?} where the shards have {old}: {text}"));
        }
        let right = match says {
            Some(says) => says.iter().all(|part| text.contains(part)) && text.lines().count() == 1,
            None => text.is_empty(),
        };
        if !right {
            failures.push(format!("{name}: {text}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// ggml-org/llama.cpp#17286: DeepSeek writes six digits, Qwen3.5 `model.safetensors-00001-of-…`.
#[test]
fn shards_need_no_index_and_no_five_digits_llama_cpp_17286() {
    let old = outcome(&fixture("tiny-llama2"), &[]).first;
    let mut failures = Vec::new();
    for pattern in [
        ["model-0000", "-of-00003"],
        ["model-0000", "-of-000003"],
        ["model-00000", "-of-000003"],
        ["model-", "-of-3"],
        ["model.safetensors-0000", "-of-00003"],
        ["model_text-0000", "-of-00003"],
    ] {
        let name = |n: usize| format!("{}{n}{}.safetensors", pattern[0], pattern[1]);
        let folder = tempfile::tempdir().unwrap();
        let dir = copy_checkpoint("tiny-llama2", folder.path());
        fs::remove_file(dir.join(INDEX)).unwrap();
        (1..=3).for_each(|n| fs::rename(dir.join(shard(n)), dir.join(name(n))).unwrap());
        // None of these is a weight here.
        for other in
            ["consolidated.safetensors", "pytorch_model-00001-of-00001.bin", "x.safetensors"]
        {
            fs::write(dir.join(other), "").unwrap();
        }
        let Outcome { first, done, .. } = outcome(&dir, &[]);
        // Only what is a form of the same weights is mentioned.
        let said = stderr(&done);
        if first != old
            || said.lines().count() != 1
            || !said.contains("\"consolidated.safetensors\": weights in Mistral's own format")
        {
            failures.push(format!("{}: {said}", name(1)));
        }
        fs::remove_file(dir.join(name(2))).unwrap();
        let missing = format!("{} is missing", name(2));
        let says = ["2 there of 3", &*name(1), &*name(3), &*missing];
        for problem in refused(&outcome(&dir, &[]).done, &says) {
            failures.push(format!("{} without the second: {problem}", name(1)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn two_sets_of_shards_are_refused_and_a_drafter_beside_the_set_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = copy_checkpoint("tiny-llama2", folder.path());
    // Of another model, not named by the index.
    fs::write(dir.join("model-mtp-00001-of-00001.safetensors"), "").unwrap();
    let sound = outcome(&dir, &[]);
    assert!(sound.first.is_some() && stderr(&sound.done).is_empty(), "{}", stderr(&sound.done));
    fs::remove_file(dir.join("model-mtp-00001-of-00001.safetensors")).unwrap();

    fs::copy(dir.join(shard(1)), dir.join("model-00001-of-00002.safetensors")).unwrap();
    let says = ["model-00001-of-00002.safetensors\" is not in the index", "left over"];
    assert_eq!(refused(&outcome(&dir, &[]).done, &says), [""; 0]);
    fs::remove_file(dir.join(INDEX)).unwrap();
    let says = [
        "shards of different sets",
        "model-*-of-3 (3 files)",
        "model-*-of-2 (1 files)",
        "model-00002-of-00002.safetensors is missing",
        "leave only the shards of one set",
    ];
    assert_eq!(refused(&outcome(&dir, &[]).done, &says), [""; 0]);
    fs::remove_file(dir.join("model-00001-of-00002.safetensors")).unwrap();
    assert!(outcome(&dir, &[]).first.is_some());

    // The same shard twice, with more digits.
    fs::copy(dir.join(shard(1)), dir.join("model-000001-of-00003.safetensors")).unwrap();
    assert_eq!(refused(&outcome(&dir, &[]).done, &["under another name as well"]), [""; 0]);
}

/// A folder as huggingface_hub leaves it in its cache.
fn cache(to: &Path) -> (PathBuf, PathBuf) {
    let root = to.join("hub/models--TinyLlama--TinyLlama-1.1B");
    let snapshot = root.join("snapshots").join(COMMIT);
    for folder in ["blobs", "refs", "snapshots"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::rename(copy_checkpoint("tiny-llama3", to), &snapshot).unwrap();
    fs::write(root.join("refs/main"), COMMIT).unwrap();
    (root, snapshot)
}

/// ggml-org/llama.cpp#6239: the name is that of the repository, not of a commit.
#[test]
fn a_folder_of_the_cache_is_its_snapshot_and_has_the_name_of_the_repository_llama_cpp_6239() {
    let folder = tempfile::tempdir().unwrap();
    let (root, snapshot) = cache(folder.path());
    let mut paths = vec![
        root.clone(),
        root.join("snapshots"),
        root.join(""),
        snapshot.clone(),
        snapshot.join(""),
    ];
    paths.push(snapshot.join("../").join(COMMIT));
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&snapshot, &link).unwrap();
        paths.push(link);
    }
    for path in paths {
        let Outcome { name, done, .. } = outcome(&path, &[]);
        assert_eq!(name.as_deref(), Some("TinyLlama 1.1B"), "{path:?}: {}", stderr(&done));
        assert_eq!(stderr(&done), "", "{path:?}");
    }
    // Where there is one model only, the cache as a whole stands for it.
    let hub = outcome(root.parent().unwrap(), &[]);
    assert_eq!(hub.name.as_deref(), Some("TinyLlama 1.1B"));
    assert!(stderr(&hub.done).contains("models--TinyLlama--TinyLlama-1.1B is read"));
    let reference = outcome(&snapshot, &["--like-reference"]);
    assert_eq!(reference.name.map(|name| name.to_lowercase()).as_deref(), Some(COMMIT));

    // A second snapshot: refs/main decides, and the warning names both.
    fs::rename(copy_checkpoint("tiny-llama2", folder.path()), root.join("snapshots").join(OTHER))
        .unwrap();
    let two = outcome(&root, &[]);
    let first = outcome(&snapshot, &[]).first;
    assert_eq!(two.first, first);
    let text = stderr(&two.done);
    assert!(text.contains(OTHER) && text.contains(&format!("snapshots/{COMMIT}")), "{text}");
    fs::write(root.join("refs/main"), format!("{OTHER}\n")).unwrap();
    assert_ne!(outcome(&root, &[]).first, first);
    // The commit of refs/main may not have been downloaded.
    let set_aside = folder.path().join("aside");
    fs::rename(root.join("snapshots").join(OTHER), &set_aside).unwrap();
    let only = outcome(&root, &[]);
    assert_eq!(only.first, first);
    let text = stderr(&only.done);
    assert!(text.contains(OTHER) && text.contains(&format!("snapshots/{COMMIT}")), "{text}");
    fs::rename(set_aside, root.join("snapshots").join(OTHER)).unwrap();
    for main in ["../../..", "/etc", "", "0000"] {
        fs::write(root.join("refs/main"), main).unwrap();
        let says = ["Hugging Face cache", COMMIT, OTHER, "give the path of one"];
        assert_eq!(refused(&outcome(&root, &[]).done, &says), [""; 0], "{main:?}");
    }

    // What a download that was cut off leaves.
    fs::remove_dir_all(root.join("snapshots").join(OTHER)).unwrap();
    fs::write(root.join("refs/main"), COMMIT).unwrap();
    #[cfg(unix)]
    {
        fs::rename(snapshot.join(SINGLE), root.join("blobs/4567")).unwrap();
        std::os::unix::fs::symlink("../../blobs/4567", snapshot.join(SINGLE)).unwrap();
        let linked = outcome(&root, &[]);
        assert_eq!(linked.first, first, "{}", stderr(&linked.done));
        fs::remove_file(root.join("blobs/4567")).unwrap();
        let says = [COMMIT, "\"model.safetensors\" is a link that leads nowhere", "download"];
        assert_eq!(refused(&outcome(&root, &[]).done, &says), [""; 0]);
    }
    fs::remove_file(snapshot.join(SINGLE)).unwrap();
    fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
    fs::remove_file(snapshot.join("config.json")).unwrap();
    fs::write(root.join("blobs/0123.incomplete"), "").unwrap();
    let done = outcome(&root, &[]).done;
    assert_eq!(refused(&done, &[COMMIT, "not complete", "download"]), [""; 0], "{}", stderr(&done));
}

#[test]
fn a_file_of_a_checkpoint_and_the_folder_around_it_stand_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let around = folder.path().join("around");
    fs::create_dir(&around).unwrap();
    let dir = copy_checkpoint("tiny-llama2", &around);
    let first = outcome(&dir, &[]).first;
    for (input, shown) in [
        (dir.join("config.json"), "config.json"),
        (dir.join(INDEX), INDEX),
        (dir.join(shard(2)), "model-00002-of-00003"),
        (around.clone(), "its folder tiny-llama2"),
    ] {
        let found = outcome(&input, &[]);
        assert_eq!(found.first, first, "{input:?}: {}", stderr(&found.done));
        assert_eq!(found.name.as_deref(), Some("Tiny Llama2"));
        assert!(stderr(&found.done).contains(shown), "{}", stderr(&found.done));
        let inspected = common::run(["inspect".as_ref(), input.as_os_str()]);
        assert!(inspected.status.success(), "{}", stderr(&inspected));
    }
    // By a relative path too.
    let done = common::quantwright()
        .current_dir(&dir)
        .args(["convert", "config.json", "-t", "f32", "--dry-run"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));

    fs::create_dir(around.join("empty")).unwrap();
    assert_eq!(outcome(&around, &[]).first, first);
    let other = copy_checkpoint("tiny-llama3", &around);
    let says = ["several checkpoints", "\"tiny-llama2\"", "\"tiny-llama3\"", "one of them"];
    assert_eq!(refused(&outcome(&around, &[]).done, &says), [""; 0]);
    fs::remove_file(other.join("config.json")).unwrap();
    assert_eq!(outcome(&around, &[]).first, first);
    // A file that leads to no checkpoint.
    let says = ["model.safetensors", "folder that holds it and its config.json"];
    assert_eq!(refused(&outcome(&other.join(SINGLE), &[]).done, &says), [""; 0]);
}
