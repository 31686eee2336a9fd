//! Rows 16 to 20 and 30 to 32 of the catalogue of bad inputs, and tokenizers: what is wrong with the
//! folder of a checkpoint or the shards of a model, each beside a neighbour that is accepted.
//!
//! One table; all rows that fail are reported at once. Single files have theirs in `bad_inputs.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Safetensors, copy_checkpoint, edit_json, listing, refused, run, stderr};
use serde_json::{Value, json};

/// A row: name, fixture, options, parts of the message, what is done to the copy: the damage if
/// `bad`, else as much that is none.
struct Row(
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    fn(&Path, bool),
);

const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];
const INDEX: &str = "model.safetensors.index.json";
const UP: &str = "model.layers.1.mlp.up_proj.weight";

/// Gives the tensors of the last shard another file in the index.
fn place_in(dir: &Path, shard: &str) {
    edit_json(&dir.join(INDEX), |index| {
        for file in index["weight_map"].as_object_mut().unwrap().values_mut() {
            if file == SHARDS[2] {
                *file = shard.into();
            }
        }
    });
}

/// Edits the header of the weights of tiny-llama3.
fn header(dir: &Path, edit: impl FnOnce(&mut Safetensors) -> Option<String>) {
    let mut file = Safetensors::open(&dir.join("model.safetensors"));
    match edit(&mut file) {
        Some(header) => file.save_with_header(&header),
        None => file.save(),
    }
}

/// Moves a tensor's bytes.
fn offsets(dir: &Path, edit: impl FnOnce(&mut [u64; 2])) {
    header(dir, |file| {
        let place = &mut file.header[UP]["data_offsets"];
        let mut range = [0, 1].map(|i| place[i].as_u64().unwrap());
        edit(&mut range);
        *place = json!(range);
        None
    });
}

/// Edits a file of text.
fn text(dir: &Path, name: &str, from: &str, to: &str) {
    let path = dir.join(name);
    let old = fs::read_to_string(&path).unwrap();
    let new = old.replacen(from, to, 1);
    assert_ne!(old, new, "{name} has no {from:?}");
    fs::write(path, new).unwrap();
}

fn config(dir: &Path, key: &str, value: Value) {
    edit_json(&dir.join("config.json"), |config| {
        config.insert(key.into(), value);
    });
}

const F16: &[&str] = &["-t", "f16"];
const BPE: &[&str] = &["-t", "f16", "--pre-tokenizer", "llama-bpe"];

const ROWS: &[Row] = &[
    Row(
        "16 shards missing",
        "tiny-llama2",
        F16,
        &[
            INDEX,
            "model-00002-of-00003.safetensors\" is missing",
            "model-00003-of-00003.safetensors",
        ],
        |dir, bad| {
            if bad {
                SHARDS[1..].iter().for_each(|shard| fs::remove_file(dir.join(shard)).unwrap());
            }
        },
    ),
    Row(
        "16 a shard too many",
        "tiny-llama2",
        F16,
        &["model-00004-of-00004.safetensors", "not in the index"],
        |dir, bad| {
            let name = if bad { "model-00004-of-00004.safetensors" } else { "other.safetensors" };
            fs::copy(dir.join(SHARDS[2]), dir.join(name)).unwrap();
        },
    ),
    Row(
        "17 a shard in the folder above",
        "tiny-llama2",
        F16,
        &[INDEX, "../model-00003-of-00003.safetensors\" is not a plain file name"],
        |dir, bad| {
            let up = dir.parent().unwrap().join(SHARDS[2]);
            fs::copy(dir.join(SHARDS[2]), up).unwrap();
            if bad {
                place_in(dir, &format!("../{}", SHARDS[2]));
            }
        },
    ),
    Row(
        "17 a shard by absolute path",
        "tiny-llama2",
        F16,
        &[INDEX, "is not a plain file name"],
        |dir, bad| {
            if bad {
                place_in(dir, dir.join(SHARDS[2]).to_str().unwrap());
            }
        },
    ),
    Row(
        "17 a shard with a separator",
        "tiny-llama2",
        F16,
        &[INDEX, "sub/a.safetensors\" is not a plain file name"],
        |dir, bad| {
            fs::create_dir(dir.join("sub")).unwrap();
            fs::copy(dir.join(SHARDS[2]), dir.join("sub/a.safetensors")).unwrap();
            if bad {
                place_in(dir, "sub/a.safetensors");
            }
        },
    ),
    #[cfg(unix)]
    Row(
        "18 a link to what is no regular file",
        "tiny-llama2",
        F16,
        &["model-00003-of-00003.safetensors", "expected a regular file"],
        |dir, bad| {
            let (shard, blob) = (dir.join(SHARDS[2]), dir.join("blob"));
            fs::rename(&shard, &blob).unwrap();
            let target = if bad { Path::new("/dev/null") } else { &blob };
            std::os::unix::fs::symlink(target, shard).unwrap();
        },
    ),
    Row("19 overlap", "tiny-llama3", F16, &["model.safetensors", "overlap"], |dir, bad| {
        offsets(dir, |range| *range = range.map(|at| at - 2 * u64::from(bad)));
    }),
    Row("19 hole", "tiny-llama3", F16, &["model.safetensors", "byte"], |dir, bad| {
        header(dir, |file| {
            if bad {
                file.remove("model.norm.weight");
                file.data.extend([0; 512]);
            }
            None
        });
    }),
    Row(
        "19 reversed offsets",
        "tiny-llama3",
        F16,
        &["model.safetensors", UP, "data_offsets"],
        |dir, bad| {
            offsets(dir, |range| {
                if bad {
                    range.reverse();
                }
            });
        },
    ),
    Row("19 duplicate", "tiny-llama3", F16, &["duplicate", UP, "again"], |dir, bad| {
        header(dir, |file| {
            let mut text = serde_json::to_string(&file.header).unwrap();
            if bad {
                text.insert_str(1, &format!("\"{UP}\":{},", file.header[UP]));
            }
            Some(text)
        });
    }),
    Row(
        "19 header larger than the file",
        "tiny-llama3",
        F16,
        &["model.safetensors", "header length at byte 0", "100000000"],
        |dir, bad| {
            let path = dir.join("model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            if bad {
                bytes[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
            }
            fs::write(path, bytes).unwrap();
        },
    ),
    Row(
        "19 deep JSON",
        "tiny-llama3",
        F16,
        &["model.safetensors", "header at byte 8", "expected"],
        |dir, bad| {
            header(dir, |file| {
                let depth = if bad { 100_000 } else { 10 };
                let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
                let text = serde_json::to_string(&file.header).unwrap();
                Some(if bad { format!("{{\"x\":{deep},{}", &text[1..]) } else { text })
            });
        },
    ),
    Row(
        "30 pickles",
        "tiny-llama3",
        F16,
        &["model.pt", "pickles", "runs code", "save_pretrained"],
        |dir, bad| {
            fs::write(dir.join("model.pt"), b"PK\x03\x04").unwrap();
            if bad {
                fs::remove_file(dir.join("model.safetensors")).unwrap();
            }
        },
    ),
    Row(
        "32 Infinity",
        "tiny-llama3",
        F16,
        &["config.json: key", "rms_norm_eps", "Infinity"],
        |dir, bad| {
            text(dir, "config.json", "1e-05", if bad { "Infinity" } else { "1e-06" });
        },
    ),
    Row("32 NaN", "tiny-llama3", F16, &["config.json: key", "rms_norm_eps"], |dir, bad| {
        text(dir, "config.json", "1e-05", if bad { "NaN" } else { "1e-4" });
    }),
    Row(
        "32 a huge number",
        "tiny-llama3",
        F16,
        &["config.json", "vocab_size", "expected"],
        |dir, bad| {
            config(dir, "vocab_size", if bad { json!(1u64 << 60) } else { json!(1024) });
        },
    ),
    Row("32 a missing key", "tiny-llama3", F16, &["config.json", "hidden_size"], |dir, bad| {
        let gone = if bad { "hidden_size" } else { "transformers_version" };
        edit_json(&dir.join("config.json"), |config| drop(config.remove(gone)));
    }),
    Row(
        "a token twice",
        "tiny-llama3",
        BPE,
        &["tokenizer.json", "model.vocab", "\"dup\" twice", "each token once"],
        |dir, bad| {
            let again = if bad { "dup" } else { "other" };
            with_words(dir, &format!("\"dup\": 1016, \"{again}\": 1017"));
        },
    ),
    Row(
        "an id twice",
        "tiny-llama3",
        BPE,
        &["tokenizer.json", "model.vocab", "id 1016 for", "an id for each token"],
        |dir, bad| {
            let again = if bad { 1016 } else { 1017 };
            with_words(dir, &format!("\"word one\": 1016, \"word two\": {again}"));
        },
    ),
    Row(
        "an unsupported kind of tokenizer",
        "tiny-llama3",
        BPE,
        &["tokenizer.json", "model.type", "\"WordLevel\"", "expected BPE", "tokenizer.model"],
        |dir, bad| {
            edit_json(&dir.join("tokenizer.json"), |json| {
                json["model"]["type"] = json!(if bad { "WordLevel" } else { "BPE" });
            });
        },
    ),
    Row(
        "only a tokenizer that is damaged",
        "tiny-llama3",
        F16,
        &["tekken.json", "missing field", "download it again"],
        |dir, bad| {
            fs::write(dir.join("tekken.json"), "{}").unwrap();
            if bad {
                fs::remove_file(dir.join("tokenizer.json")).unwrap();
            }
        },
    ),
];

/// Gives the last words of the vocabulary of tiny-llama3 other names and ids, as text: a map would
/// not hold a name twice.
fn with_words(dir: &Path, words: &str) {
    let path = dir.join("tokenizer.json");
    edit_json(&path, |json| {
        let model = json["model"].as_object_mut().unwrap();
        model["vocab"].as_object_mut().unwrap().retain(|_, id| id.as_u64().unwrap() < 1016);
    });
    text(dir, "tokenizer.json", "\"vocab\":{", &format!("\"vocab\":{{{words},"));
}

#[test]
fn every_bad_checkpoint_is_refused_and_its_neighbour_is_not() {
    let mut failures = Vec::new();
    for Row(name, fixture, options, says, prepare) in ROWS {
        for bad in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let dir = copy_checkpoint(fixture, folder.path());
            prepare(&dir, bad);
            let before = (listing(&dir), listing(folder.path()));
            let output = folder.path().join("m.gguf");
            let mut args = vec!["convert".as_ref(), dir.as_os_str(), "-o".as_ref()];
            args.extend([output.as_os_str(), "--no-sync".as_ref(), "--quiet".as_ref()]);
            args.extend(options.iter().map(std::ffi::OsStr::new));
            let done = run(args);
            if !bad {
                if !done.status.success() {
                    failures.push(format!("the neighbour of {name}: {}", stderr(&done)));
                }
                continue;
            }
            for problem in refused(&done, says) {
                failures.push(format!("{name}: {problem}: {}", stderr(&done)));
            }
            if (listing(&dir), listing(folder.path())) != before {
                failures.push(format!("{name}: the files are not what they were"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Row 20: the shards of a split file.
#[test]
fn bad_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound");
    fs::create_dir(&sound).unwrap();
    let made = common::quantwright()
        .arg("convert")
        .arg(common::fixture("tiny-llama2"))
        .args(["-t", "f16", "--quiet", "--no-sync", "--split-max-tensors", "8", "-o"])
        .arg(sound.join("m.gguf"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let shards: Vec<PathBuf> = listing(&sound).into_keys().collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    type Damage = fn(&[PathBuf]);
    let rows: [(&str, &[&str], Option<Damage>); 5] = [
        ("whole", &[], None),
        ("one missing", &["00002-of-00003"], Some(|s| fs::remove_file(&s[1]).unwrap())),
        (
            "in the wrong order",
            &["00002-of-00003", "split.no"],
            Some(|s| {
                let (a, b) = (fs::read(&s[1]).unwrap(), fs::read(&s[2]).unwrap());
                fs::write(&s[1], b).unwrap();
                fs::write(&s[2], a).unwrap();
            }),
        ),
        (
            "of another count",
            &["split.count"],
            Some(|s| {
                let from = b"split.count\x02\x00\x00\x00\x03";
                let mut bytes = fs::read(&s[0]).unwrap();
                let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
                bytes[at + from.len() - 1] = 4;
                fs::write(&s[0], bytes).unwrap();
            }),
        ),
        ("one twice", &["split.no"], Some(|s| assert!(fs::copy(&s[1], &s[2]).unwrap() > 0))),
    ];
    let mut failures = Vec::new();
    for (name, says, damage) in rows {
        let dir = folder.path().join(name);
        fs::create_dir(&dir).unwrap();
        let copies: Vec<_> = shards.iter().map(|s| dir.join(s.file_name().unwrap())).collect();
        for (from, to) in shards.iter().zip(&copies) {
            fs::copy(from, to).unwrap();
        }
        if let Some(damage) = damage {
            damage(&copies);
        }
        let output = dir.join("out.gguf");
        let done = run([
            "convert".as_ref(),
            copies[0].as_os_str(),
            "-o".as_ref(),
            output.as_os_str(),
            "-q".as_ref(),
        ]);
        match damage {
            None if !done.status.success() => failures.push(format!("{name}: {}", stderr(&done))),
            None => {}
            Some(_) => failures.extend(
                refused(&done, says).iter().map(|p| format!("{name}: {p}: {}", stderr(&done))),
            ),
        }
        if output.exists() != damage.is_none() {
            failures.push(format!("{name}: the output"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
