//! What is refused: status 1, one `error:` line that says what and where, and no trace in the
//! output's folder. Every case has a neighbour that differs in one thing and is accepted.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;
#[path = "refusals/folder.rs"]
mod folder;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use common::{
    Safetensors, convert, copy_checkpoint, edit_json, fixture, legacy_imatrix, listing, refused,
    run, stderr, write_gguf,
};
use folder::Folder;
use serde_json::{Value, json};
use tempfile::tempdir;

/// The arguments of a run; `bad` tells the case from its neighbour.
type Prepare = fn(folder: &Folder, bad: bool) -> Vec<OsString>;

const UP: &str = "model.layers.1.mlp.up_proj.weight";

/// What is refused, what the message must contain, how to bring it about.
const CASES: &[(&str, &[&str], Prepare)] = &[
    ("no such input", &["nowhere", "cannot open"], |f, bad| {
        f.convert(if bad { f.input("nowhere") } else { fixture("tiny-llama2") }, &[])
    }),
    ("an empty file", &["in.gguf", "empty"], |f, bad| {
        f.gguf(|b| b.truncate(if bad { 0 } else { b.len() }))
    }),
    ("an HTML page", &["in.gguf", "HTML"], |f, bad| {
        f.gguf(|b| {
            if bad {
                *b = b"<!DOCTYPE html><html><body>404".to_vec()
            }
        })
    }),
    ("an LFS pointer for weights", &["model-00002-of-00003.safetensors", "LFS"], |f, bad| {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1970024\n";
        f.replaced("model-00002-of-00003.safetensors", bad.then_some(&pointer[..]))
    }),
    ("a big-endian file", &["in.gguf", "big-endian"], |f, bad| {
        f.gguf(|b| {
            if bad {
                b[4..8].reverse()
            }
        })
    }),
    ("a version of the future", &["in.gguf", "version", "4"], |f, bad| {
        f.gguf(|b| b[4] = if bad { 4 } else { 3 })
    }),
    ("a GGUF file cut short", &["in.gguf", "needs"], |f, bad| {
        f.gguf(|b| {
            if bad {
                b.truncate(b.len() - 100)
            }
        })
    }),
    ("a huge count of tensors", &["in.gguf", "number of tensors"], |f, bad| {
        f.gguf(|b| {
            if bad {
                b[14] = 1
            }
        })
    }),
    ("a missing shard", &["model-00003-of-00003.safetensors", "missing"], |f, bad| {
        let checkpoint = f.copy("tiny-llama2");
        if bad {
            fs::remove_file(checkpoint.join("model-00003-of-00003.safetensors")).unwrap();
        }
        f.convert(checkpoint, &["-t", "f16"])
    }),
    ("a shard outside the folder", &["model.safetensors.index.json", "../model"], |f, bad| {
        let checkpoint = f.copy("tiny-llama2");
        edit_json(&checkpoint.join("model.safetensors.index.json"), |index| {
            let map = index["weight_map"].as_object_mut().unwrap();
            if bad {
                map.insert("lm_head.weight".into(), json!("../model-00003-of-00003.safetensors"));
            }
        });
        f.convert(checkpoint, &["-t", "f16"])
    }),
    ("pickled weights", &["pytorch_model.bin", "safetensors"], |f, bad| {
        let checkpoint = f.copy("tiny-llama3");
        fs::write(checkpoint.join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
        if bad {
            fs::remove_file(checkpoint.join("model.safetensors")).unwrap();
        }
        f.convert(checkpoint, &["-t", "f16"])
    }),
    ("no config.json", &["config.json"], |f, bad| {
        let checkpoint = f.copy("tiny-llama3");
        if bad {
            fs::remove_file(checkpoint.join("config.json")).unwrap();
        }
        f.convert(checkpoint, &["-t", "f16"])
    }),
    ("a broken config.json", &["config.json", "line 2"], |f, bad| {
        let config = fs::read(fixture("tiny-llama2/config.json")).unwrap();
        f.replaced(
            "config.json",
            Some(if bad { b"{\n  \"architectures\": [\"Ll" } else { &config }),
        )
    }),
    (
        "an unknown architecture",
        &["config.json", "NoSuchForCausalLM", "LlamaForCausalLM"],
        |f, bad| {
            f.config(|c| {
                let class = if bad { "NoSuchForCausalLM" } else { "LlamaForCausalLM" };
                c.insert("architectures".into(), json!([class]));
            })
        },
    ),
    ("an absurd layer count", &["config.json", "num_hidden_layers", "4000000000"], |f, bad| {
        f.config(|c| {
            c.insert("num_hidden_layers".into(), json!(if bad { 4_000_000_000u64 } else { 2 }));
        })
    }),
    ("a negative number of heads", &["config.json", "num_attention_heads", "-4"], |f, bad| {
        f.config(|c| {
            c.insert("num_attention_heads".into(), json!(if bad { -4 } else { 4 }));
        })
    }),
    ("a shape that contradicts config.json", &["model.layers.0.mlp.", "768", "700"], |f, bad| {
        f.config(|c| {
            c.insert("intermediate_size".into(), json!(if bad { 700 } else { 768 }));
        })
    }),
    (
        "weights of another quantization",
        &["config.json", "quantization_config", "bitsandbytes"],
        |f, bad| {
            f.config(|c| {
                if bad {
                    c.insert("quantization_config".into(), json!({"quant_method": "bitsandbytes"}));
                }
            })
        },
    ),
    ("a broken tokenizer.json", &["tokenizer.json"], |f, bad| {
        let checkpoint = f.copy("tiny-llama3");
        let path = checkpoint.join("tokenizer.json");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..if bad { bytes.len() / 2 } else { bytes.len() }]).unwrap();
        f.convert(checkpoint, &["-t", "f16"])
    }),
    ("an unknown pre-tokenizer", &["\"latin\"", "llama-bpe"], |f, bad| {
        let name = if bad { "latin" } else { "llama-bpe" };
        f.convert(fixture("tiny-llama3"), &["--pre-tokenizer", name])
    }),
    ("NaN weights", &["blk.1.ffn_up.weight", "NaN", "2 values", "index 70000"], |f, bad| {
        f.weights(&[], |file| {
            let bits = if bad { 0x7fc0 } else { 0x3f80 };
            file.set(UP, 70_000, bits);
            file.set(UP, 150_000, bits);
        })
    }),
    (
        "an infinite weight in a lossless run",
        &["blk.1.ffn_up.weight", "-inf", "1 value", "index 3;"],
        |f, bad| {
            f.weights(&["-t", "bf16"], |file| file.set(UP, 3, if bad { 0xff80 } else { 0xbf80 }))
        },
    ),
    ("a value too large for F16", &["blk.1.ffn_up.weight", "F16", "6.5536e4", "bf16"], |f, bad| {
        // 65536 rounds to infinity, 65280 does not.
        f.weights(&["-t", "f16"], |file| file.set(UP, 9, if bad { 0x4780 } else { 0x477f }))
    }),
    ("a scale too large for Q8_0", &["blk.1.ffn_up.weight", "Q8_0", "bf16"], |f, bad| {
        f.weights(&["-t", "q8_0"], |file| file.set(UP, 9, if bad { 0x4d00 } else { 0x4a00 }))
    }),
    ("integer weights", &["model.safetensors", UP, "I16"], |f, bad| {
        f.weights(&["-t", "f16"], |file| {
            file.header[UP]["dtype"] = json!(if bad { "I16" } else { "BF16" });
        })
    }),
    ("a missing tensor", &["tiny-llama3", UP], |f, bad| {
        f.weights(&["-t", "f16"], |file| {
            if bad {
                file.remove(UP);
            }
        })
    }),
    ("a tensor without a place", &["model.safetensors", "mlp.upp_proj"], |f, bad| {
        f.weights(&["-t", "f16"], |file| {
            let entry = file.header.remove(UP).unwrap();
            let name = if bad { "model.layers.1.mlp.upp_proj.weight" } else { UP };
            file.header.insert(name.into(), entry);
        })
    }),
    ("a tensor named twice", &["model.safetensors", "duplicate", UP], |f, bad| {
        let checkpoint = f.copy("tiny-llama3");
        let file = Safetensors::open(&checkpoint.join("model.safetensors"));
        let mut header = serde_json::to_string(&file.header).unwrap();
        if bad {
            header.insert_str(1, &format!("\"{UP}\":{},", file.header[UP]));
        }
        file.save_with_header(&header);
        f.convert(checkpoint, &["-t", "f16"])
    }),
    ("weights cut short", &["model.safetensors"], |f, bad| {
        f.weights(&["-t", "f16"], |file| file.data.truncate(file.data.len() - usize::from(bad)))
    }),
    ("a gap between tensors", &["model.safetensors"], |f, bad| {
        f.weights(&["-t", "f16"], |file| file.data.extend(vec![0; 2 * usize::from(bad)]))
    }),
    ("an output that exists", &["m.gguf", "exists", "--force"], |f, bad| {
        fs::write(f.output(), "an old file").unwrap();
        f.convert(fixture("tiny-llama2"), if bad { &[] } else { &["--force"] })
    }),
    ("a failure that must spare the old output", &["NaN"], |f, bad| {
        fs::write(f.output(), "an old file").unwrap();
        f.weights(&["--force"], |file| file.set(UP, 0, if bad { 0x7fc0 } else { 0 }))
    }),
    ("output = input", &["in.gguf", "one of the inputs"], |f, bad| {
        let input = f.input("in.gguf");
        write_gguf(&input, 32, 0.5);
        let output = if bad { input.clone() } else { f.output() };
        f.over(input, &output)
    }),
    ("output = input, by another path", &["in.gguf", "one of the inputs"], |f, bad| {
        let input = f.input("in.gguf");
        write_gguf(&input, 32, 0.5);
        let output = if bad { f.0.join("out").join("..").join("in.gguf") } else { f.output() };
        f.over(input, &output)
    }),
    #[cfg(unix)]
    ("output = input, by symbolic link", &["m.gguf", "one of the inputs"], |f, bad| {
        let (input, other) = (f.input("in.gguf"), f.input("other.gguf"));
        write_gguf(&input, 32, 0.5);
        write_gguf(&other, 32, 0.5);
        std::os::unix::fs::symlink(if bad { &input } else { &other }, f.output()).unwrap();
        f.over(input, &f.output())
    }),
    ("output = input, by hard link", &["m.gguf", "one of the inputs"], |f, bad| {
        let (input, other) = (f.input("in.gguf"), f.input("other.gguf"));
        write_gguf(&input, 32, 0.5);
        write_gguf(&other, 32, 0.5);
        fs::hard_link(if bad { &input } else { &other }, f.output()).unwrap();
        f.over(input, &f.output())
    }),
    ("output = a shard", &["model-00001-of-00003.safetensors", "one of the inputs"], |f, bad| {
        let input = f.copy("tiny-llama2");
        let name = if bad { "model-00001-of-00003.safetensors" } else { "tiny.gguf" };
        f.over(input.clone(), &input.join(name))
    }),
    ("output = the tokenizer", &["tokenizer.model", "one of the inputs"], |f, bad| {
        let input = f.copy("tiny-llama2");
        f.over(input.clone(), &input.join(if bad { "tokenizer.model" } else { "tiny.model" }))
    }),
    ("output = the importance matrix", &["im.gguf", "one of the inputs"], |f, bad| {
        let matrix = f.input("im.gguf");
        fs::copy(fixture("tiny-llama2/imatrix.gguf"), &matrix).unwrap();
        let output = if bad { matrix.clone() } else { f.output() };
        let options = ["--force", "--imatrix", matrix.to_str().unwrap()];
        f.convert_to(fixture("tiny-llama2"), &output, &options)
    }),
    ("an output without a folder", &["m.gguf", "folder that does not exist"], |f, bad| {
        let output = f.0.join(if bad { "nowhere" } else { "out" }).join("m.gguf");
        f.convert_to(fixture("tiny-llama2"), &output, &[])
    }),
    ("an output under a file", &["m.gguf", "Not a directory"], |f, bad| {
        fs::write(f.0.join("file"), "").unwrap();
        let output = f.0.join(if bad { "file" } else { "out" }).join("m.gguf");
        f.convert_to(fixture("tiny-llama2"), &output, &[])
    }),
    ("an output that is a folder", &["m.gguf", "a folder"], |f, bad| {
        if bad {
            fs::create_dir(f.output()).unwrap();
        }
        f.convert(fixture("tiny-llama2"), &["--force"])
    }),
    ("quantizing again", &["output.weight", "Q8_0 already", "--allow-requantize"], |f, bad| {
        let input = f.input("q8_0.gguf");
        convert(&fixture("tiny-llama2"), &input, &["-t", "q8_0"]);
        f.convert(input, if bad { &["-t", "q4_0"] } else { &["-t", "q4_0", "--allow-requantize"] })
    }),
    ("awkward rows, strictly", &["96", "Q4_K", "--strict"], |f, bad| {
        let input = f.input("in.gguf");
        write_gguf(&input, if bad { 96 } else { 256 }, 0.5);
        f.convert(input, &["--strict"])
    }),
    ("a type that needs importance", &["Q2_K", "--imatrix"], |f, bad| {
        let matrix = fixture("tiny-llama2/imatrix.gguf");
        let more = ["--imatrix", matrix.to_str().unwrap()];
        let more: &[&str] = if bad { &[] } else { &more };
        f.convert(fixture("tiny-llama2"), &[&["-t", "q2_k_s"], more].concat())
    }),
    ("a codebook type without importance", &["IQ2_XXS", "--imatrix"], |f, bad| {
        let matrix = fixture("tiny-llama2/imatrix.gguf");
        let more = ["--imatrix", matrix.to_str().unwrap()];
        let more: &[&str] = if bad { &[] } else { &more };
        f.convert(fixture("tiny-llama2"), &[&["-t", "iq2_xxs"], more].concat())
    }),
    ("a type that is not written", &["NVFP4", "does not write", "Q2_K"], |f, bad| {
        let ty = if bad { "attn_q=nvfp4" } else { "attn_q=q6_k" };
        f.convert(fixture("tiny-llama2"), &["--tensor-type", ty])
    }),
    ("no such importance matrix", &["none.gguf", "cannot open"], |f, bad| {
        let name = if bad { "none.gguf" } else { "imatrix.gguf" };
        let path = fixture("tiny-llama2").join(name);
        f.convert(fixture("tiny-llama2"), &["--imatrix", path.to_str().unwrap()])
    }),
    (
        "importance of another length",
        &["imatrix.dat", "blk.0.attn_q.weight", "255", "256"],
        |f, bad| f.matrix(&vec![1.0; if bad { 255 } else { 256 }]),
    ),
    ("importance that is NaN", &["imatrix.dat", "blk.0.attn_q.weight", "NaN"], |f, bad| {
        let mut values = vec![1.0; 256];
        values[7] = if bad { f32::NAN } else { 0.0 };
        f.matrix(&values)
    }),
    ("negative importance", &["imatrix.dat", "blk.0.attn_q.weight", "-1"], |f, bad| {
        let mut values = vec![1.0; 256];
        values[7] = if bad { -1.0 } else { 1.0 };
        f.matrix(&values)
    }),
    ("a layer that is not there", &["\"2\"", "--prune-layers", "2 layers"], |f, bad| {
        f.convert(fixture("tiny-llama2"), &["--prune-layers", if bad { "2" } else { "1" }])
    }),
    ("a damaged file of types", &["types.txt", "q9_9"], |f, bad| {
        let path = f.input("types.txt");
        fs::write(&path, if bad { "attn_v=q9_9\n" } else { "attn_v=q8_0\n" }).unwrap();
        f.convert(fixture("tiny-llama2"), &["--tensor-type-file", path.to_str().unwrap()])
    }),
    ("nothing to look at", &["nowhere.gguf", "cannot open"], |f, bad| {
        let path = f.input(if bad { "nowhere.gguf" } else { "in.gguf" });
        write_gguf(&f.input("in.gguf"), 32, 0.5);
        vec!["inspect".into(), path.into()]
    }),
];

/// Runs a case in a folder of its own and says what is wrong with how it ended.
fn problems(name: &str, says: &[&str], prepare: Prepare, bad: bool) -> Vec<String> {
    let temporary = tempdir().unwrap();
    let folder = Folder(temporary.path().into());
    fs::create_dir(folder.0.join("out")).unwrap();
    let args = prepare(&folder, bad);
    let folders = || -> Vec<_> {
        let inner = listing(&folder.0).into_keys().filter(|path| path.is_dir());
        std::iter::once(folder.0.clone()).chain(inner).map(|path| listing(&path)).collect()
    };
    let before = folders();
    let done = run(args);
    if !bad {
        let line = format!("the neighbour of {name} is refused: {}", stderr(&done));
        return if done.status.success() { vec![] } else { vec![line] };
    }
    let mut problems = refused(&done, says);
    if folders() != before {
        problems.push("the files are not what they were".into());
    }
    problems.iter().map(|problem| format!("{name}: {problem}\n    {}", stderr(&done))).collect()
}

#[test]
fn what_is_wrong_is_refused_and_what_is_not_is_accepted() {
    let all: Vec<_> = CASES
        .iter()
        .flat_map(|(name, says, prepare)| {
            let mut found = problems(name, says, *prepare, true);
            found.extend(problems(name, says, *prepare, false));
            found
        })
        .collect();
    assert!(all.is_empty(), "{} problems\n{}", all.len(), all.join("\n"));
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let temporary = tempdir().unwrap();
    let folder = temporary.path().join("out");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("probe"), "").is_ok() {
        eprintln!("skipped: this user (root?) may write to read-only folders");
        return;
    }
    let output = folder.join("m.gguf");
    let done = run(Folder(folder.clone()).convert_to(fixture("tiny-llama2"), &output, &[]));
    assert_eq!(refused(&done, &["m.gguf", "Permission denied"]), [""; 0], "{}", stderr(&done));
}

#[test]
fn an_output_larger_than_the_disk_is_refused_before_anything_is_read() {
    let temporary = tempdir().unwrap();
    let folder = Folder(temporary.path().into());
    let checkpoint = folder.copy("tiny-llama3");
    // Layers of 12 TB, in a file that is a hole.
    let rows = 4_000_000_000u64;
    edit_json(&checkpoint.join("config.json"), |config| {
        config.insert("intermediate_size".into(), json!(rows));
    });
    let path = checkpoint.join("model.safetensors");
    let mut file = Safetensors::open(&path);
    let mut end = 0;
    for (name, entry) in file.header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        if name.contains(".mlp.") {
            let inner = usize::from(name.contains("down_proj"));
            entry["shape"][inner] = json!(rows);
        }
        let shape = entry["shape"].as_array().unwrap().iter();
        let bytes = 2 * shape.map(|n| n.as_u64().unwrap()).product::<u64>();
        entry["data_offsets"] = json!([end, end + bytes]);
        end += bytes;
    }
    file.data.clear();
    file.save();
    let file = fs::File::options().write(true).open(&path).unwrap();
    if file.set_len(file.metadata().unwrap().len() + end).is_err() {
        eprintln!("skipped: this file system has no files of {end} bytes");
        return;
    }
    let done = run(folder.convert_to(checkpoint, &folder.input("m.gguf"), &["-t", "bf16"]));
    assert_eq!(refused(&done, &["m.gguf", "space"]), [""; 0], "{}", stderr(&done));
    assert!(!folder.input("m.gguf").exists());
}
