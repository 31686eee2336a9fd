//! Files and folders of other programs: each is named, with the way out, and beside it stands a
//! neighbour that is read.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{fs, path::Path};

use common::{
    Safetensors, copy_checkpoint, edit_json, fixture, listing, refused, run, stderr, try_convert,
};
use serde_json::{Value, json};

/// What is wrong with the refusal of an input: status 1, one line that says all of this, no output.
fn problems(input: &Path, says: &[&str]) -> Vec<String> {
    problems_as(input, "m.gguf", "f16", says)
}

/// As [`problems`], where a folder of grouped integers is asked for.
fn folder_problems(input: &Path, says: &[&str]) -> Vec<String> {
    problems_as(input, "m", "int8_sym", says)
}

fn problems_as(input: &Path, output: &str, ty: &str, says: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let done = try_convert(input, &folder.path().join(output), &["-t", ty, "--no-sync"]);
    let mut problems = refused(&done, &[&["; "], says].concat());
    if !listing(folder.path()).is_empty() {
        problems.push("something was left behind".into());
    }
    let name = input.file_name().unwrap().to_string_lossy().into_owned();
    problems.iter().map(|problem| format!("{name}: {problem}: {}", stderr(&done))).collect()
}

fn converts(input: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let done = try_convert(input, &folder.path().join("m.gguf"), &["-t", "f16", "--no-sync"]);
    match done.status.success() && stderr(&done).is_empty() {
        true => vec![],
        false => vec![format!("the neighbour {input:?}: {}", stderr(&done))],
    }
}

fn zip(first: &str) -> Vec<u8> {
    let length = u16::try_from(first.len()).unwrap().to_le_bytes();
    [&b"PK\x03\x04"[..], &[0; 22], &length, &[0; 2], first.as_bytes()].concat()
}

#[test]
fn files_of_other_programs_are_named() {
    let tar = [&[0; 257][..], b"ustar\0"].concat();
    let legacy = common::legacy_imatrix("blk.0.ffn_down.weight", &[1.0; 4]);
    let piece = "a piece of a file that was cut up";
    let unfinished = "a download that is not finished";
    let rows: &[(&str, &[u8], &[&str])] = &[
        // The magics of ggml, ggmf and ggjt, numbers that are stored little end first.
        ("a.bin", b"lmgg\x01\0\0\0", &["GGML file", "before GGUF", "original checkpoint"]),
        ("b.bin", b"fmgg\x01\0\0\0", &["GGML file", "before GGUF"]),
        ("c.bin", b"tjgg\x03\0\0\0", &["GGML file", "ggjt"]),
        ("lora.bin", b"algg\x01\0\0\0", &["LoRA adapter", "merge"]),
        ("state.bin", b"nsgg\x01\0\0\0", &["session"]),
        ("m.llamafile", b"MZqFpD='\n", &["llamafile", "unzip"]),
        ("m.exe", b"MZqFpD='\n", &["llamafile", "unzip"]),
        ("l.llamafile", &zip("m.gguf"), &["llamafile", "unzip"]),
        ("pytorch_model.bin", b"\x80\x02\x8a\x0a", &["pickle", "save_pretrained"]),
        ("consolidated.00.pth", &zip("consolidated/data.pkl"), &["pickle", "save_pretrained"]),
        ("m.ckpt", &zip("archive/version"), &["pickle", "save_pretrained"]),
        ("m.nemo", &tar, &["NeMo"]),
        ("m.tar", &tar, &["archive", "unpack"]),
        ("m.tar.gz", b"\x1f\x8b\x08\0", &["archive", "unpack"]),
        ("m.zip", &zip("model/config.json"), &["zip archive", "unpack"]),
        ("m.npz", &zip("a.npy"), &["NumPy", "original checkpoint"]),
        ("m.onnx", b"\x08\x07\x12\x07pytorch\x1a", &["ONNX", "original checkpoint"]),
        ("onnx_model", b"\x08\x07\x12\x07pytorch\x1a", &["ONNX"]),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n", &["HDF5", "original checkpoint"]),
        ("flax_model.msgpack", b"\x81\xa5model", &["Flax", "original checkpoint"]),
        ("saved_model.pb", b"\x08\x01\x12\xff", &["TensorFlow", "original checkpoint"]),
        ("m.tflite", b"\x1c\0\0\0TFL3", &["TensorFlow Lite"]),
        ("rank0.engine", b"ftrt\0\0\0\0", &["TensorRT", "original checkpoint"]),
        ("openvino_model.xml", b"<?xml version=\"1.0\"?>\n<net name=\"m\">", &["OpenVINO"]),
        ("tokenizer.json", b"{\"version\": \"1.0\"}", &["a tokenizer", "config.json"]),
        ("params.json", b"{\"dim\": 1}", &["JSON", "config.json"]),
        ("adapter_config.json", b"{\"r\": 1}", &["LoRA adapter", "merge"]),
        ("adapter_model.safetensors", b"\x02\0\0\0\0\0\0\0{}", &["LoRA adapter", "merge"]),
        ("consolidated.safetensors", b"\x02\0\0\0\0\0\0\0{}", &["Mistral's own format"]),
        ("tokenizer.model", b"\x0a\x0e\x0a\x05<unk>\x15\0", &["SentencePiece tokenizer"]),
        ("imatrix.dat", &legacy, &["importance matrix", "model here"]),
        ("base.kld", b"_logits_\0\0", &["logits"]),
        ("m.gguf.part1of2", b"GGUF\x03\0\0\0", &[piece, "cat "]),
        ("m.gguf.part2of2", b"\x01\x02\x03\x04\x05", &[piece, "cat "]),
        ("m.gguf-split-a", b"GGUF\x03\0\0\0", &[piece, "cat "]),
        ("m.gguf.part-ab", b"\x01\x02\x03\x04\x05", &[piece, "cat "]),
        ("m.gguf.part", b"GGUF\x03\0\0\0", &[unfinished, "download"]),
        ("m.gguf.downloading", &[0; 64], &[unfinished, "download"]),
        ("0123abcd.incomplete", b"GGUF\x03\0\0\0", &[unfinished, "download"]),
        ("empty.gguf.part", b"", &[unfinished]),
        ("error.gguf", b"{\"error\":\"Repository not found\"}", &["server", "access token"]),
        ("entry.gguf", b"Entry not found", &["server", "download it again"]),
        ("denied.gguf", b"Invalid username or password.", &["server", "access token"]),
        ("zeros.gguf", &[0; 4096], &["nothing but zeros", "download it again"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for (name, bytes, says) in rows {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        failures.extend(problems(&path, says));
        let verified = run(["verify".as_ref(), path.as_os_str()]);
        if verified.status.code() == Some(0)
            && ![".dat", ".safetensors"].iter().any(|end| name.ends_with(end))
        {
            failures.push(format!("{name}: verify passes it"));
        }
    }
    let name = "org-of-nobody/name-7B";
    let done = try_convert(Path::new(name), &folder.path().join("m.gguf"), &[]);
    let found = refused(&done, &["; ", "hf://ORG/NAME", "hf download"]);
    failures.extend(found.iter().map(|problem| format!("{name}: {problem}")));
    // A whole model is read whatever its name.
    let whole = folder.path().join("whole.gguf");
    common::write_gguf(&whole, 32, 1.0);
    for name in ["m.bin", "m.onnx", "m.llamafile", "m.gguf.part", "m.gguf.part1of2", "m.tmp"] {
        let path = folder.path().join(name);
        fs::copy(&whole, &path).unwrap();
        failures.extend(converts(&path));
    }
    // Data that is missing at the end of such a file is explained by the name as well.
    let bytes = fs::read(&whole).unwrap();
    for (name, says) in [("w.gguf.part", unfinished), ("w.gguf.part1of2", piece)] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes[..bytes.len() - 32]).unwrap();
        failures.extend(problems(&path, &[says]));
    }
    let cut = folder.path().join("cut.gguf");
    fs::write(&cut, &bytes[..bytes.len() - 32]).unwrap();
    failures.extend(problems(&cut, &["cut short"]));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn types_of_other_programs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    common::write_gguf(&path, 256, 1.0);
    let sound = fs::read(&path).unwrap();
    // The type of a tensor stands after its name, the number of dimensions and the dimensions.
    let name = b"blk.0.ffn_down.weight";
    let at = sound.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4 + 2 * 8;
    assert_eq!(sound[at..at + 4], [0; 4]);
    let mut failures = converts(&path);
    for (id, says) in [
        (4u32, &["Q4_2", "removed"][..]),
        (31, &["Q4_0_4_4", "removed", "quantize the original model again"]),
        (33, &["Q4_0_8_8", "removed"]),
        (36, &["I2_S", "BitNet", "IQ4_NL_4_4", "TQ2_0"]),
        (37, &["I8_S", "BitNet", "IQ4_NL_4_8"]),
        (38, &["TL1", "BitNet", "IQ4_NL_8_8"]),
        (133, &["Q6_0", "ik_llama.cpp"]),
        (135, &["IQ2_BN", "ik_llama.cpp"]),
        (137, &["IQ2_K,", "ik_llama.cpp", "quantize the original model again"]),
        (144, &["IQ4_KS,", "ik_llama.cpp"]),
        (155, &["IQ4_KT", "ik_llama.cpp"]),
        (212, &["Q4_K_R4", "ik_llama.cpp"]),
        (339, &["IQ4_K_R4", "ik_llama.cpp"]),
        (399, &["Q8_K_R8", "ik_llama.cpp"]),
        (43, &["unknown type 43", "newer than this program"]),
        (100_000, &["unknown type 100000"]),
    ] {
        let mut bytes = sound.clone();
        bytes[at..at + 4].copy_from_slice(&id.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        failures.extend(problems(&path, &[&["blk.0.ffn_down", "Q4_K"], says].concat()));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_matrix_for_a_model_and_a_model_for_a_matrix_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    common::write_gguf(&model, 32, 1.0);
    let matrix = fixture("tiny-llama2").join("imatrix.gguf");
    let weights = fixture("tiny-llama3").join("model.safetensors");
    let config = fixture("tiny-llama3").join("config.json");
    let mut failures = problems(&matrix, &["an importance matrix", "--imatrix"]);
    let given = |path: &Path| path.to_str().unwrap().to_owned();
    for (file, says) in [
        (given(&model), &["a GGUF model of architecture \"llama\"", "llama-imatrix"][..]),
        (given(&weights), &["a safetensors file", "expected an importance matrix"]),
        (given(&config), &["a JSON file", "expected an importance matrix"]),
        (given(&fixture("tiny-llama3")), &["is a folder"]),
    ] {
        let done = try_convert(&model, &folder.path().join("o.gguf"), &["--imatrix", &file]);
        failures.extend(refused(&done, says).iter().map(|p| format!("{p}: {}", stderr(&done))));
    }
    let input = fixture("tiny-llama2");
    let output = folder.path().join("o.gguf");
    let done = try_convert(&input, &output, &["--no-sync", "--imatrix", &given(&matrix)]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn folders_of_other_programs_are_named() {
    let adapter = json!({"peft_type": "LORA", "base_model_name_or_path": "org/base"}).to_string();
    let pooling = json!({"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true});
    let pooling = pooling.to_string();
    // Name, files with their text, parts of the message.
    type Files<'a> = &'a [(&'a str, &'a str)];
    let rows: &[(&str, Files<'_>, &[&str])] = &[
        (
            "peft",
            &[("adapter_config.json", &adapter), ("adapter_model.safetensors", "")],
            &["LoRA adapter", "\"org/base\"", "merge_and_unload"],
        ),
        ("peft-bin", &[("adapter_model.bin", "")], &["LoRA adapter", "merge_and_unload"]),
        (
            "mlx-lora",
            &[("adapter_config.json", "{}"), ("adapters.safetensors", "")],
            &["LoRA adapter", "mlx_lm.fuse"],
        ),
        (
            "mistral",
            &[("params.json", "{}"), ("consolidated.safetensors", ""), ("tekken.json", "{}")],
            &["params.json"],
        ),
        (
            "mistral-shards",
            &[("params.json", "{}"), ("consolidated-00001-of-00002.safetensors", "")],
            &["params.json"],
        ),
        (
            "mistral-with-config",
            &[("config.json", "{}"), ("consolidated.safetensors", "")],
            &["Mistral's own format"],
        ),
        (
            "meta",
            &[("params.json", "{}"), ("consolidated.00.pth", ""), ("tokenizer.model", "")],
            &["Meta's own format", "convert_llama_weights_to_hf"],
        ),
        (
            "gguf",
            &[("m-Q4_K_M.gguf", "GGUF"), ("m-Q8_0.gguf", "GGUF"), ("config.json", "{}")],
            &["GGUF files", "m-Q4_K_M.gguf", "path of the file"],
        ),
        ("pieces", &[("m.gguf.part1of2", ""), ("m.gguf.part2of2", "")], &["part1of2", "cat"]),
        ("download", &[("config.json", "{}"), ("model.safetensors.part", "")], &["not finished"]),
        (
            "pickles",
            &[("config.json", "{}"), ("pytorch_model-00001-of-00002.bin", "")],
            &["pickles", "pytorch_model-00001-of-00002.bin", "runs code", "save_pretrained"],
        ),
        ("ckpt", &[("config.json", "{}"), ("model.ckpt", "")], &["pickles", "model.ckpt"]),
        ("nemo", &[("model.nemo", "")], &["NeMo"]),
        ("onnx", &[("config.json", "{}"), ("onnx/model.onnx", "")], &["ONNX"]),
        ("onnx-flat", &[("model.onnx", ""), ("model.onnx_data", "")], &["ONNX"]),
        ("tf", &[("config.json", "{}"), ("tf_model.h5", "")], &["TensorFlow or Flax"]),
        ("flax", &[("config.json", "{}"), ("flax_model.msgpack", "")], &["TensorFlow or Flax"]),
        ("tensorrt", &[("config.json", "{}"), ("rank0.engine", "")], &["TensorRT"]),
        ("openvino", &[("config.json", "{}"), ("openvino_model.xml", "")], &["OpenVINO"]),
        ("deepspeed", &[("zero_to_fp32.py", ""), ("latest", "")], &["DeepSpeed", "zero_to_fp32"]),
        ("fsdp", &[("__0_0.distcp", ""), (".metadata", "")], &["distributed checkpoint"]),
        (
            "diffusers",
            &[
                ("model_index.json", "{}"),
                ("text_encoder/config.json", "{}"),
                ("text_encoder/model.safetensors", ""),
            ],
            &["diffusers", "text_encoder"],
        ),
        ("pooling", &[("config.json", &pooling)], &["sentence-transformers", "folder above"]),
        ("ollama", &[("manifests/m", "{}"), ("blobs/sha256-0", "GGUF")], &["Ollama", "GGUF"]),
        ("ct2", &[("config.json", "{}"), ("model.bin", "")], &["CTranslate2"]),
        (
            "ia3",
            &[("adapter_config.json", "{\"peft_type\": \"IA3\"}"), ("adapter_model.bin", "")],
            &["an adapter of PEFT", "merge_and_unload"],
        ),
        ("mlx-npz-lora", &[("adapters.npz", "")], &["LoRA adapter", "mlx_lm.fuse"]),
        ("kohya", &[("pytorch_lora_weights.safetensors", "")], &["LoRA adapter", "image model"]),
        ("npz", &[("config.json", "{}"), ("weights.npz", "")], &["MLX or NumPy", "original"]),
        ("coreml", &[("config.json", "{}"), ("coreml/x.mlpackage/y", "")], &["Core ML"]),
        ("global-step", &[("global_step9/x_states.pt", ""), ("latest", "")], &["DeepSpeed"]),
        ("ggml", &[("ggml-model-q4_0.bin", "")], &["before GGUF", "original checkpoint"]),
        ("mlc", &[("mlc-chat-config.json", "{}"), ("params_shard_0.bin", "")], &["MLC"]),
        ("rust-bert", &[("config.json", "{}"), ("rust_model.ot", "")], &["rust-bert"]),
        ("archive", &[("config.json", "{}"), ("model.zip", "")], &["archive", "unpack"]),
        ("hf-home", &[("hub/version.txt", "1"), ("token", "")], &["Hugging Face cache", "hub/"]),
        ("no-snapshot", &[("blobs/x", ""), ("refs/main", "")], &["without a snapshot"]),
        (
            "other-name",
            &[("config.json", "{}"), ("llama-7b.safetensors", "")],
            &["llama-7b.safetensors", "rename"],
        ),
        (
            "exl2",
            &[
                (
                    "config.json",
                    "{\"architectures\": [\"LlamaForCausalLM\"], \"quantization_config\": \
                     {\"quant_method\": \"exl2\"}}",
                ),
                ("output-00001-of-00002.safetensors", ""),
            ],
            &["ExLlama", "exl2", "original checkpoint"],
        ),
        ("tokenizer", &[("tokenizer.json", "{}")], &["tokenizer", "without weights"]),
        (
            "tokenizer-and-config",
            &[("config.json", "{}"), ("tokenizer.model", ""), ("tokenizer_config.json", "{}")],
            &["tokenizer", "without weights", "download"],
        ),
        ("config", &[("config.json", "{}")], &["config.json only", "download the weights"]),
        ("empty", &[], &["a folder without weights"]),
    ];
    let root = tempfile::tempdir().unwrap();
    let mut failures = Vec::new();
    for (name, files, says) in rows {
        let dir = root.path().join(name);
        fs::create_dir(&dir).unwrap();
        for (file, text) in *files {
            fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            fs::write(dir.join(file), text).unwrap();
        }
        failures.extend(problems(&dir, says));
        // A folder is written from the same input, and refused alike.
        failures.extend(folder_problems(&dir, says));
        let verified = run(["verify".as_ref(), dir.as_os_str()]);
        if verified.status.code() != Some(1) {
            failures.push(format!("{name}: verify: {:?}", verified.status));
        }
    }
    // All of these beside a checkpoint's own files change nothing; what transformers or Mistral's
    // programs would read instead is mentioned.
    let mentioned = |file: &str| file.starts_with("consolidated") || file == "adapter_config.json";
    let dir = copy_checkpoint("tiny-llama3", root.path());
    for (file, text) in rows.iter().flat_map(|(_, files, _)| files.iter()) {
        let own = ["config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"];
        if !own.contains(file) && !mentioned(file) {
            fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            fs::write(dir.join(file), text).unwrap();
        }
    }
    failures.extend(converts(&dir));
    for (file, says) in [
        ("consolidated.safetensors", "Mistral's own format"),
        ("adapter_config.json", "without the adapter"),
    ] {
        fs::write(dir.join(file), "{}").unwrap();
        let done =
            try_convert(&dir, &root.path().join("m.gguf"), &["-t", "f16", "--no-sync", "--force"]);
        let said = stderr(&done);
        if !done.status.success() || said.matches(says).count() != 1 || !said.contains(file) {
            failures.push(format!("{file} beside the weights: {said}"));
        }
        fs::remove_file(dir.join(file)).unwrap();
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Packs a layer of tiny-llama3 as MLX does, in shape: eight codes a word, groups of 32.
fn pack_as_mlx(dir: &Path, part: &str) {
    let mut file = Safetensors::open(&dir.join("model.safetensors"));
    let name = "model.layers.0.mlp.up_proj.weight";
    let shape = file.header[name]["shape"].clone();
    let [rows, columns] = [0, 1].map(|i| shape[i].as_u64().unwrap());
    file.remove(name);
    for (name, dtype, columns, width) in [
        (name.to_owned(), "U32", columns / 8, 4),
        (name.replace("weight", part), "F16", columns / 32, 2),
        (name.replace("weight", "biases"), "F16", columns / 32, 2),
    ] {
        let start = file.data.len() as u64;
        let end = start + rows * columns * width;
        file.data.resize(end as usize, 0);
        let entry = json!({"dtype": dtype, "shape": [rows, columns], "data_offsets": [start, end]});
        file.header.insert(name, entry);
    }
    file.save();
}

/// ggml-org/llama.cpp#14467, and the other quantizations that config.json names.
#[test]
fn checkpoints_of_other_quantizers_are_named_llama_cpp_14467() {
    type Prepare = fn(&Path);
    let config = |dir: &Path, key: &str, value: Value| {
        edit_json(&dir.join("config.json"), |config| drop(config.insert(key.into(), value)));
    };
    let mut failures = Vec::new();
    let mut check = |prepare: &dyn Fn(&Path), says: Option<&[&str]>| {
        let root = tempfile::tempdir().unwrap();
        let dir = copy_checkpoint("tiny-llama3", root.path());
        prepare(&dir);
        match says {
            Some(says) => {
                failures.extend(problems(&dir, says));
                failures.extend(folder_problems(&dir, says));
            }
            None => failures.extend(converts(&dir)),
        }
    };
    for (method, says) in [
        ("bitsandbytes", &["bitsandbytes", "dequantize()"][..]),
        ("exl2", &["ExLlamaV2", "original checkpoint"]),
        ("exl3", &["ExLlamaV3", "original checkpoint"]),
        ("aqlm", &["AQLM", "original checkpoint"]),
        ("quip", &["QuIP#", "original checkpoint"]),
        ("vptq", &["VPTQ"]),
        ("spqr", &["SpQR"]),
        ("higgs", &["HIGGS"]),
        ("hqq", &["HQQ", "dequantize"]),
        ("torchao", &["torchao", "original checkpoint"]),
        ("quanto", &["quanto", "dequantize"]),
        ("eetq", &["EETQ"]),
        ("bitnet", &["BitNet", "TQ2_0"]),
        ("something-new", &["\"something-new\"", "original checkpoint"]),
    ] {
        let prepare =
            |dir: &Path| config(dir, "quantization_config", json!({"quant_method": method}));
        check(&prepare, Some(&[&["config.json", "quant_method"], says].concat()));
    }
    check(&|dir| config(dir, "quantization_config", Value::Null), None);
    check(&|dir| config(dir, "quantization_config", json!({})), None);
    // Of before the key quant_method.
    let older = json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"});
    let says: &[&str] = &["bitsandbytes", "dequantize()"];
    check(&|dir| config(dir, "quantization_config", older.clone()), Some(says));

    let mlx: &[&str] = &["MLX", "mlx_lm.convert", "--dequantize"];
    let rows: [(Prepare, Option<&[&str]>); 3] = [
        (|dir| pack_as_mlx(dir, "scales"), Some(mlx)),
        (|dir| pack_as_mlx(dir, "other"), Some(&["up_proj"])),
        (|_| {}, None),
    ];
    for (prepare, says) in rows {
        check(&prepare, says);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn checkpoints_that_are_no_language_model_are_named() {
    let mut failures = Vec::new();
    for (settings, says) in [
        (json!({"architectures": ["CLIPVisionModel"]}), &["images", "CLIPVisionModel"][..]),
        (json!({"architectures": ["CLIPVisionModelWithProjection"]}), &["images"]),
        (json!({"architectures": ["SiglipVisionModel"]}), &["images", "multimodal"]),
        (json!({"architectures": ["ViTForImageClassification"]}), &["images"]),
        (json!({"architectures": ["WhisperForConditionalGeneration"]}), &["speech", "whisper.cpp"]),
        (
            json!({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.31"}),
            &["diffusers", "UNet2DConditionModel"],
        ),
        (
            json!({"_class_name": "SomethingNew", "_diffusers_version": "0.31"}),
            &["diffusers", "SomethingNew"],
        ),
        (json!({"pretrained_config": {}, "build_config": {}}), &["TensorRT-LLM"]),
        (json!({"in_features": 8, "activation_function": "x"}), &["sentence-transformers"]),
        (json!({"architectures": ["LlamaForCausalM"]}), &["LlamaForCausalLM", "closest"]),
        (json!({}), &["architectures", "missing"]),
    ] {
        let root = tempfile::tempdir().unwrap();
        let dir = copy_checkpoint("tiny-llama3", root.path());
        fs::write(dir.join("config.json"), settings.to_string()).unwrap();
        failures.extend(problems(&dir, &[&["config.json"], says].concat()));
        // Such a checkpoint may be sound all the same.
        let verified = run(["verify".as_ref(), dir.as_os_str()]);
        let sound = settings.get("architectures").is_some();
        if sound && verified.status.code() != Some(0) {
            failures.push(format!("verify {settings}: {}", common::stdout(&verified)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
