//! Commands for GGUF files that exist: `edit`, `split`, `merge`, `hash`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

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

/// A file of these keys and F16 tensors, with some values in them.
fn write_file(path: &Path, metadata: &Metadata, tensors: &[(&str, &[u64])]) {
    let spec = |(name, shape): &(&str, &[u64])| TensorSpec {
        name: (*name).into(),
        ty: GgmlType::F16,
        shape: shape.to_vec(),
    };
    let layout = Layout::new(metadata, &tensors.iter().map(spec).collect::<Vec<_>>()).unwrap();
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    for tensor in &layout.tensors {
        let data = &mut bytes[tensor.offset as usize..][..tensor.bytes as usize];
        // Halves from 1 to 2, whatever the low byte.
        data.chunks_exact_mut(2).enumerate().for_each(|(i, half)| {
            half.copy_from_slice(&[(i * 37) as u8, 0x3c]);
        });
    }
    fs::write(path, bytes).unwrap();
}

/// Image models, adapters, vocabularies and files that name no architecture: what no type depends on
/// need not be there.
#[test]
fn any_gguf_file_is_copied_and_quantized() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let keys = |pairs: &[(&str, &str)]| {
        let mut metadata = Metadata::new();
        pairs.iter().for_each(|(key, value)| _ = metadata.insert(*key, *value));
        metadata
    };
    let image: &[(&str, &[u64])] = &[
        ("img_in.weight", &[64, 32]),
        ("double_blocks.0.img_mlp.0.weight", &[256, 64]),
        ("double_blocks.0.img_mlp.0.bias", &[64]),
        ("vae.conv_in.weight", &[3, 3, 4, 8]),
    ];
    let adapter: &[(&str, &[u64])] =
        &[("blk.0.attn_q.weight.lora_a", &[64, 8]), ("blk.0.attn_q.weight.lora_b", &[8, 64])];
    let dense: &[(&str, &[u64])] =
        &[("blk.0.attn_v.weight", &[256, 64]), ("blk.0.ffn_down.weight", &[256, 64])];
    let llama = [("general.architecture", "llama")];
    let lora = [llama[0], ("general.type", "adapter")];
    for (name, metadata, tensors) in [
        ("image", keys(&[("general.architecture", "flux")]), image),
        ("nameless", keys(&[]), image),
        ("adapter", keys(&lora), adapter),
        ("vocabulary", keys(&llama), &[]),
        ("layers", keys(&llama), dense),
    ] {
        let file = path(&format!("{name}.gguf"));
        write_file(&file, &metadata, tensors);
        let sums = |path: &Path| -> serde_json::Value {
            let text =
                done(folder.path(), &["hash", path.to_str().unwrap(), "--json", "--tensors"]);
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["tensors"].clone()
        };
        let before = sums(&file);
        for (ty, more) in [
            ("auto", &[][..]),
            ("auto", &["--tensor-type", "img_mlp=q8_0"]),
            ("f32", &[]),
            ("bf16", &[]),
            ("q8_0", &[]),
            ("q4_0", &[]),
            ("q4_k_m", &["--pure"]),
        ] {
            let out = path("out.gguf");
            let args = [&["-t", ty, "--force"], more].concat();
            let done = try_convert(&file, &out, &args);
            assert!(done.status.success(), "{name} {args:?}: {}", stderr(&done));
            let after = sums(&out);
            let same = |name: &str| after[name] == before[name];
            let model = GgufFile::open(&out, &Limits::default()).unwrap();
            for (tensor, _) in tensors {
                let written = model.tensors.iter().find(|t| t.name == *tensor).unwrap();
                let asked = more.contains(&"img_mlp=q8_0") && tensor.contains("img_mlp.0.w");
                assert!(ty != "auto" || same(tensor) != asked, "{name} {args:?} {tensor}");
                assert!(!asked || written.ty == GgmlType::Q8_0);
                let is_plain = tensor.ends_with(".weight") && tensors[0].0 != adapter[0].0;
                assert!(
                    ty != "q8_0"
                        || !is_plain
                        || written.ty != GgmlType::F16
                        || tensor.contains("conv")
                );
            }
            if ty == "auto" {
                assert_eq!(model.metadata.get("general.file_type"), None, "{name}");
            }
        }
    }
    // Nothing in silence, and where a mixture goes by the layers, it has to be known how many there are.
    let warned = try_convert(&path("adapter.gguf"), &path("out.gguf"), &["-t", "q8_0", "--force"]);
    assert!(stderr(&warned).contains("--type Q8_0 has no effect"), "{}", stderr(&warned));
    let mixed = try_convert(&path("image.gguf"), &path("mixed.gguf"), &["-t", "q4_k_m"]);
    assert!(mixed.status.success(), "{}", stderr(&mixed));
    let mut problems = Vec::new();
    for (input, options, says) in [
        ("layers.gguf", &["-t", "q4_k_m"][..], ["\"llama.block_count\" is missing", "; --pure"]),
        ("image.gguf", &["--prune-layers", "0"], ["does not say how many layers", "--prune"]),
    ] {
        problems.extend(refused(&try_convert(&path(input), &path("no.gguf"), options), &says));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A safetensors file of these tensors: name, type, shape, bytes of a value.
fn write_safetensors(path: &Path, tensors: &[(&str, &str, &[u64], usize)]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, size) in tensors {
        let bytes = shape.iter().product::<u64>() as usize * size;
        // BF16 and F32 values around one.
        let values =
            (0..bytes).map(|i| if i % size == size - 1 { 0x3f } else { (i * 37) as u8 & 0x7f });
        let offsets = [data.len(), data.len() + bytes];
        data.extend(values);
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let len = (header.len() as u64).to_le_bytes();
    fs::write(path, [&len[..], &header, &data].concat()).unwrap();
}

/// Safetensors of image models and the like: a file or a folder, whatever its files are called.
#[test]
fn safetensors_of_no_known_architecture_keep_their_names() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let tensors: &[(&str, &str, &[u64], usize)] = &[
        ("img_in.weight", "BF16", &[32, 64], 2),
        ("double_blocks.0.img_attn.norm.query_norm.scale", "BF16", &[64], 2),
        ("vae.conv_in.weight", "F32", &[8, 4, 3, 3], 4),
        ("logit_scale", "F32", &[], 4),
        ("text_model.embeddings.position_ids", "I64", &[1, 77], 8),
    ];
    write_safetensors(&path("flux.safetensors"), tensors);
    fs::create_dir(path("transformer")).unwrap();
    fs::write(path("transformer/config.json"), r#"{"_class_name": "FluxTransformer2DModel"}"#)
        .unwrap();
    let (first, second) = tensors.split_at(2);
    let shard =
        |number| path(&format!("transformer/diffusion_model-0000{number}-of-00002.safetensors"));
    write_safetensors(&shard(1), first);
    write_safetensors(&shard(2), second);
    let out = path("out.gguf");
    let flux = ["--architecture", "flux", "--force"];
    for input in ["flux.safetensors", "transformer"] {
        let done = try_convert(&path(input), &out, &[&flux[..], &["-t", "auto"]].concat());
        assert!(done.status.success(), "{input}: {}", stderr(&done));
        let model = GgufFile::open(&out, &Limits::default()).unwrap();
        model.check_data().unwrap();
        assert_eq!(model.metadata.get_str("general.architecture"), Some("flux"));
        let found: Vec<_> = model.tensors.iter().map(|t| (&*t.name, t.ty, &t.shape[..])).collect();
        let expected: [(&str, GgmlType, &[u64]); 4] = [
            ("double_blocks.0.img_attn.norm.query_norm.scale", GgmlType::F32, &[64]),
            ("img_in.weight", GgmlType::BF16, &[64, 32]),
            ("logit_scale", GgmlType::F32, &[1]),
            ("vae.conv_in.weight", GgmlType::BF16, &[3, 3, 4, 8]),
        ];
        for tensor in expected {
            assert!(found.contains(&tensor), "{input}: no {tensor:?} in {found:?}");
        }
        assert_eq!(found.len(), expected.len());
        let text = fs::read(&out).unwrap();
        let stored = fs::read(path("flux.safetensors")).unwrap();
        let data = 8 + u64::from_le_bytes(stored[..8].try_into().unwrap()) as usize;
        let tensor = model.tensors.iter().find(|t| t.name == "img_in.weight").unwrap();
        let written = &text[tensor.offset as usize..][..tensor.bytes as usize];
        assert_eq!(written, &stored[data..][..written.len()], "{input}: values");
        let done = try_convert(&path(input), &out, &[&flux[..], &["-t", "q8_0"]].concat());
        assert!(done.status.success(), "{input}: {}", stderr(&done));
        let model = GgufFile::open(&out, &Limits::default()).unwrap();
        let tensor = model.tensors.iter().find(|t| t.name == "img_in.weight").unwrap();
        assert_eq!(tensor.ty, GgmlType::Q8_0);
    }
    write_safetensors(&path("video.safetensors"), &[("conv.weight", "F32", &[1, 2, 3, 4, 5], 4)]);
    write_safetensors(&path("packed.safetensors"), &[("linear.weight", "I32", &[2, 2], 4)]);
    fs::create_dir(path("two")).unwrap();
    write_safetensors(&path("two/a.safetensors"), first);
    write_safetensors(&path("two/b.safetensors"), second);
    let mut problems = Vec::new();
    for (input, architecture, says) in [
        ("video.safetensors", "wan", ["conv.weight", "at most 4 dimensions"]),
        ("packed.safetensors", "wan", ["linear.weight", "I32"]),
        ("flux.safetensors", "llama", ["architecture llama", "leave the name out"]),
        ("flux.safetensors", "my model", ["\"my model\" is no name", "letters"]),
        ("two", "flux", ["two", "; "]),
        ("none.safetensors", "flux", ["none.safetensors", "cannot open"]),
    ] {
        let options = ["--architecture", architecture, "-t", "f16"];
        problems.extend(refused(&try_convert(&path(input), &path("no.gguf"), &options), &says));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
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
