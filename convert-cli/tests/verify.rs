//! `verify` finds one changed byte that matters; `compare` measures what a conversion costs.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gguf_io::{GgufFile, Layout, Limits, Metadata, TensorInfo, TensorSpec, Value};
use quant_core::GgmlType;
use serde_json::Value as Json;
use tempfile::{TempDir, tempdir};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn run(command: &str, paths: &[&Path], options: &[&str]) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_quantwright"));
    run.arg(command).args(paths).args(options).output().unwrap()
}

fn converted(file_type: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let options = ["-o", path.to_str().unwrap(), "--no-sync", "-q", "-t", file_type];
    assert!(run("convert", &[&fixture("tiny-llama2")], &options).status.success());
    (folder, path)
}

/// What `verify` says amiss: no parts, no problem; else one line with these parts.
fn check(what: &str, path: &Path, says: &[&str]) -> Vec<String> {
    let done = run("verify", &[path], &[]);
    let error = String::from_utf8(done.stderr).unwrap();
    let mut failures = Vec::new();
    let lines = usize::from(!says.is_empty());
    if done.status.code() != Some(lines as i32) || error.lines().count() != lines {
        failures.push(format!("{what}: status {:?}: {error:?}", done.status.code()));
    }
    let lacks = |part: &&&str| !error.contains(**part);
    failures.extend(says.iter().filter(lacks).map(|part| format!("{what}: no {part:?}: {error}")));
    failures
}

fn tensor<'a>(model: &'a GgufFile, name: &str) -> &'a TensorInfo {
    model.tensors.iter().find(|t| t.name == name).unwrap()
}

#[test]
fn damage_in_a_gguf_file_is_found() {
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let (folder, good) = converted("q4_k_m");
    let bytes = fs::read(&good).unwrap();
    let model = GgufFile::open(&good, &Limits::default()).unwrap();
    let at = |name: &str, ty| {
        let tensor = tensor(&model, name);
        assert_eq!(tensor.ty, ty);
        tensor.offset as usize
    };
    let q4 = at("blk.0.attn_q.weight", GgmlType::Q4_K);
    let q6 = at("output.weight", GgmlType::Q6_K);
    let f32 = at("blk.0.attn_norm.weight", GgmlType::F32);
    let first = model.tensors.iter().map(|t| t.offset).min().unwrap() as usize;
    let set = |at: usize, new: &'static [u8]| -> Change {
        Box::new(move |bytes| bytes[at..at + new.len()].copy_from_slice(new))
    };
    let rename = |from: &str, to: &'static str| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        set(at, to.as_bytes())
    };
    let rows: Vec<(&str, Change, &[&str])> = vec![
        ("whole", Box::new(|_| {}), &[]),
        ("codes are any", set(q4 + 20, &[0xff]), &[]),
        ("largest half", set(q4, &[0xff, 0x7b]), &[]),
        (
            "infinite scale",
            set(q4 + 144, &[0, 0x7c]),
            &["attn_q.weight\" has 1 blocks", "block 1 at"],
        ),
        ("NaN minimum", set(q4 + 2, &[1, 0xfe]), &["blk.0.attn_q.weight", "block 0"]),
        ("NaN in Q6_K", set(q6 + 208, &[0xff, 0x7f]), &["\"output.weight\"", "block 0"]),
        ("NaN weight", set(f32 + 8, &[0, 0, 0xc0, 0x7f]), &["blk.0.attn_norm", "value 2"]),
        ("infinite weight", set(f32, &[0, 0, 0x80, 0xff]), &["blk.0.attn_norm", "value 0"]),
        ("largest weight", set(f32, &[0xff, 0xff, 0x7f, 0x7f]), &[]),
        ("padding", set(first - 1, &[1]), &["padding at byte", "0x01", "zero"]),
        ("cut", Box::new(|b| b.truncate(b.len() - 40)), &["needs", "cut short"]),
        ("more", Box::new(|b| b.extend([0; 32])), &["32 more bytes"]),
        ("magic", set(0, b"GGUX"), &["unknown format"]),
        (
            "key",
            rename("llama.context_length", "llama.kontext_length"),
            &["llama.context_length\" is missing"],
        ),
        ("tokens", rename("tokenizer.ggml.tokens", "tokenizer.ggml.tokenz"), &["array of strings"]),
        (
            "embedding",
            rename("token_embd.weight", "token_embx.weight"),
            &["token_embd.weight is missing"],
        ),
        ("layer", rename("blk.1.attn_norm", "blk.9.attn_norm"), &["blk.9", "block_count is 2"]),
    ];
    let path = folder.path().join("changed.gguf");
    let mut failures = Vec::new();
    for (what, change, says) in rows {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        failures.extend(check(what, &path, says));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A type that is not known keeps no other tensor from being looked at.
#[test]
fn what_has_no_known_type_is_named_and_the_rest_is_checked() {
    let (folder, good) = converted("f16");
    let mut bytes = fs::read(&good).unwrap();
    let model = GgufFile::open(&good, &Limits::default()).unwrap();
    let name = "blk.0.ffn_up.weight";
    // Name, number of dimensions, two dimensions, type.
    let at = bytes.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
    bytes[at + name.len() + 4 + 16..][..4].copy_from_slice(&43u32.to_le_bytes());
    let path = folder.path().join("changed.gguf");
    let verify = |bytes: &[u8]| -> Json {
        fs::write(&path, bytes).unwrap();
        let done = run("verify", &[&path], &["--json"]);
        assert_eq!(done.status.code(), Some(1));
        serde_json::from_slice(&done.stdout).unwrap()
    };
    let found = verify(&bytes);
    assert_eq!(found["problem_count"], 1, "{found}");
    assert!(found["problems"][0].as_str().unwrap().contains("unknown type 43"), "{found}");
    let note = found["notes"][0].as_str().unwrap();
    assert!(note.contains("1 of ") && note.contains("\"blk.0.ffn_up.weight\" (type 43)"), "{note}");
    assert_eq!(found["tensors"], model.tensors.len());
    // What is wrong with the others is found all the same.
    let other = tensor(&model, "blk.1.ffn_up.weight").offset as usize;
    bytes[other..other + 2].copy_from_slice(&[0, 0x7e]);
    let found = verify(&bytes);
    assert_eq!(found["problem_count"], 2, "{found}");
    assert!(found["problems"][1].as_str().unwrap().contains("blk.1.ffn_up.weight"), "{found}");
    bytes.pop();
    let found = verify(&bytes);
    assert!(found["problems"][1].as_str().unwrap().contains("cut short"), "{found}");
}

#[test]
fn metadata_that_loaders_trip_over_is_found() {
    let (folder, good) = converted("q8_0");
    let model = GgufFile::open(&good, &Limits::default()).unwrap();
    let bytes = fs::read(&good).unwrap();
    let path = folder.path().join("changed.gguf");
    let write = |metadata: &Metadata| {
        let spec =
            |t: &TensorInfo| TensorSpec { name: t.name.clone(), ty: t.ty, shape: t.shape.clone() };
        let specs: Vec<_> = model.tensors.iter().map(spec).collect();
        let layout = Layout::new(metadata, &specs).unwrap();
        let mut out = layout.header.clone();
        out.resize(layout.total as usize, 0);
        for (old, new) in model.tensors.iter().zip(&layout.tensors) {
            let data = &bytes[old.offset as usize..][..old.bytes as usize];
            out[new.offset as usize..][..data.len()].copy_from_slice(data);
        }
        fs::write(&path, out).unwrap();
    };
    let rows: Vec<(&str, Value, &[&str])> = vec![
        ("general.name", Value::from("other"), &[]),
        ("tokenizer.ggml.scores", Value::from(vec![0u8; 1024]), &["scores", "UINT8", "FLOAT32"]),
        ("tokenizer.ggml.scores", Value::from(vec![0f32; 1023]), &["1023 FLOAT32", "1024"]),
        ("tokenizer.ggml.scores", Value::from(vec![f32::NAN; 1024]), &["scores", "numbers"]),
        ("tokenizer.ggml.scores", Value::from(vec![0f32; 1024]), &[]),
        ("tokenizer.ggml.token_type", Value::from(vec![0u32; 1024]), &["token_type", "INT32"]),
        ("tokenizer.ggml.bos_token_id", Value::from(1024u32), &["bos_token_id", "below 1024"]),
        ("tokenizer.ggml.bos_token_id", Value::from(1023u32), &[]),
        ("tokenizer.ggml.model", Value::from(3u32), &["tokenizer.ggml.model", "UINT32 3"]),
        ("llama.block_count", Value::from(3u32), &["layer 2 of 3 has no tensors"]),
        ("llama.block_count", Value::from(0u32), &["llama.block_count", "1 to 512"]),
        ("llama.embedding_length", Value::from(128u32), &["token_embd.weight", "[128, 1024]"]),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::from(f32::INFINITY),
            &["positive FLOAT32"],
        ),
        ("general.architecture", Value::from(""), &["general.architecture"]),
    ];
    let mut failures = Vec::new();
    for (key, value, says) in rows {
        let what = format!("{key} {:?}", value.value_type());
        let mut metadata = model.metadata.clone();
        metadata.insert(key, value);
        write(&metadata);
        failures.extend(check(&what, &path, says));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn checkpoints_and_importance_matrices_are_checked() {
    let folder = tempdir().unwrap();
    let mut failures = Vec::new();
    for name in ["tiny-llama2", "tiny-llama3", "tiny-phi2", "tiny-qwen2", "tiny-mixtral"] {
        failures.extend(check(name, &fixture(name), &[]));
        failures.extend(check(name, &fixture(name).join("imatrix.gguf"), &[]));
    }
    // A quantization that is not read does not make its files unsound.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture("tiny-llama3").join(name), other.join(name)).unwrap();
    }
    let config = fs::read(other.join("config.json")).unwrap();
    let mut config: Json = serde_json::from_slice(&config).unwrap();
    config["quantization_config"] = serde_json::json!({"quant_method": "bitsandbytes"});
    fs::write(other.join("config.json"), config.to_string()).unwrap();
    failures.extend(check("bitsandbytes", &other, &[]));
    let weights = fixture("tiny-llama3/model.safetensors");
    failures.extend(check("one file", &weights, &[]));
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last..].copy_from_slice(&[0x80, 0x7f]);
    let changed = folder.path().join("m.safetensors");
    fs::write(&changed, &bytes).unwrap();
    failures.extend(check("infinite BF16", &changed, &["m.safetensors", "1 values", "not finite"]));
    fs::write(&changed, &bytes[..last]).unwrap();
    failures.extend(check("cut", &changed, &["m.safetensors"]));

    let matrix = fixture("tiny-llama3/imatrix.gguf");
    let model = GgufFile::open(&matrix, &Limits::default()).unwrap();
    let mut bytes = fs::read(&matrix).unwrap();
    let sums = model.tensors.iter().find(|t| t.name.ends_with("in_sum2")).unwrap();
    bytes[sums.offset as usize..][..4].copy_from_slice(&(-1f32).to_le_bytes());
    let changed = folder.path().join("i.gguf");
    fs::write(&changed, &bytes).unwrap();
    failures.extend(check("negative sum", &changed, &["i.gguf", "-1", "not negative"]));
    let legacy = folder.path().join("i.dat");
    fs::write(&legacy, b"\x01\0\0\0\x01\0\0\0a\x01\0\0\0\x01\0\0\0\0\0\x80\x3f").unwrap();
    failures.extend(check("legacy", &legacy, &[]));
    fs::write(&legacy, b"\x01\0\0\0\x01\0\0\0a\x01\0\0\0\x01\0\0\0\0\0\xc0\x7f").unwrap();
    failures.extend(check("legacy NaN", &legacy, &["i.dat", "NaN"]));
    failures.extend(check("nothing", &folder.path().join("none.gguf"), &["none.gguf", "open"]));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn problems_are_counted_and_given_as_json() {
    let (_folder, path) = converted("f32");
    let model = GgufFile::open(&path, &Limits::default()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for (name, index) in [("blk.0.ffn_up.weight", 7), ("blk.1.ffn_up.weight", 100_000)] {
        let at = tensor(&model, name).offset as usize + 4 * index;
        bytes[at..at + 8].copy_from_slice(&[0xff; 8]);
    }
    fs::write(&path, bytes).unwrap();
    let outputs = ["1", "2", "7"].map(|threads| {
        let done = run("verify", &[&path], &["--json", "--threads", threads]);
        assert_eq!(done.status.code(), Some(1));
        done.stdout
    });
    assert!(outputs.iter().all(|output| *output == outputs[0]));
    let found: Json = serde_json::from_slice(&outputs[0]).unwrap();
    assert_eq!(found["ok"], false);
    assert_eq!(found["problem_count"], 2);
    assert_eq!(found["tensors"], 21);
    for (i, says) in [
        "blk.0.ffn_up.weight\" has 2 values that are not finite, the first is value 7 ",
        "the first is value 100000 ",
    ]
    .iter()
    .enumerate()
    {
        assert!(found["problems"][i].as_str().unwrap().contains(says), "{found}");
    }
}

#[test]
fn compare_measures_each_tensor() {
    let (folder, lossless) = converted("f32");
    let (_other, lossy) = converted("q4_k_m");
    let checkpoint = fixture("tiny-llama2");
    // Half precision widens without loss; rotary rows are put in order.
    let done = run("compare", &[&checkpoint, &lossless], &["--json"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let same: Json = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(same["total"]["rmse"], 0.0);
    assert_eq!(same["total"]["snr_db"], Json::Null);
    assert!(same["total"]["cosine"].as_f64().unwrap() > 0.999_999_999);

    let html = folder.path().join("report.html");
    let measured = |threads: &str| {
        let options = ["--json", "--threads", threads, "--html", html.to_str().unwrap()];
        let done = run("compare", &[&checkpoint, &lossy], &options);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let one = measured("1");
    assert_eq!(one, measured("3"));
    let one: Json = serde_json::from_slice(&one).unwrap();
    let tensors = one["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 21);
    for tensor in tensors {
        let relative = tensor["relative_rmse"].as_f64().unwrap();
        match tensor["type"].as_str().unwrap() {
            "Q4_K" => assert!((0.05..0.1).contains(&relative), "{tensor}"),
            "Q6_K" => assert!((0.01..0.03).contains(&relative), "{tensor}"),
            _ => assert_eq!(relative, 0.0, "{tensor}"),
        }
    }
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.contains("<td>blk.1.attn_v.weight</td>") && page.ends_with("</html>\n"));
    // A report replaces a report, nothing else.
    let done = run("compare", &[&checkpoint, &lossless], &["--html", lossy.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    assert!(run("verify", &[&lossy], &[]).status.success());
}

/// Several candidates give a list of what each gives alone.
#[test]
fn compare_takes_many_candidates() {
    let (_folder, lossless) = converted("f32");
    let (other, lossy) = converted("q8_0");
    let checkpoint = fixture("tiny-llama2");
    let html = other.path().join("report.html");
    let options = ["--json", "--html", html.to_str().unwrap()];
    let done = run("compare", &[&checkpoint, &lossless, &lossy], &options);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let list: Vec<Json> = serde_json::from_slice(&done.stdout).unwrap();
    for (found, candidate) in list.iter().zip([&lossless, &lossy]) {
        let alone = run("compare", &[&checkpoint, candidate], &["--json"]);
        assert_eq!(found, &serde_json::from_slice::<Json>(&alone.stdout).unwrap());
    }
    let page = fs::read_to_string(&html).unwrap();
    assert_eq!(page.matches("<h2>").count(), 2);
    let text = run("compare", &[&checkpoint, &lossless, &lossy], &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("\ncandidate ") || text.contains("\n candidate "), "{text}");
    // The first that is not made from the reference is the error.
    let pruned = other.path().join("pruned.gguf");
    let options = ["-o", pruned.to_str().unwrap(), "--prune-layers", "1", "-t", "q8_0", "-q"];
    assert!(run("convert", &[&checkpoint], &options).status.success());
    let done = run("compare", &[&checkpoint, &lossy, &pruned], &["--json"]);
    assert_eq!(done.status.code(), Some(1));
    let list: Vec<Json> = serde_json::from_slice(&done.stdout).unwrap();
    assert!(list[0].get("error").is_none() && list[1].get("error").is_some());
}

#[test]
fn compare_refuses_what_is_not_the_same_model() {
    let (folder, whole) = converted("q8_0");
    let pruned = folder.path().join("pruned.gguf");
    let options = ["-o", pruned.to_str().unwrap(), "--prune-layers", "1", "-t", "q8_0", "-q"];
    assert!(run("convert", &[&fixture("tiny-llama2")], &options).status.success());
    // The same bytes under another shape.
    let turned = folder.path().join("turned.gguf");
    let mut bytes = fs::read(&whole).unwrap();
    let name = b"blk.0.attn_k.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4;
    assert_eq!((bytes[at + 1], bytes[at + 8]), (1, 128));
    bytes[at..at + 16].rotate_left(8);
    fs::write(&turned, bytes).unwrap();
    let rows: [(&Path, &Path, &[&str]); 3] = [
        (&whole, &pruned, &["9 tensors missing: blk.1."]),
        (&pruned, &whole, &["9 tensors that the reference does not have: blk.1."]),
        (
            &whole,
            &turned,
            &["other shapes: blk.0.attn_k.weight (found 128 × 256, expected 256 × 128)"],
        ),
    ];
    for (reference, candidate, says) in rows {
        let done = run("compare", &[reference, candidate], &[]);
        let error = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    }
}
