//! Projectors: what llama.cpp's converter makes of the encoders of multimodal models.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gguf_io::{GgufFile, Limits, metadata::Value};
use quant_convert::{
    Control, Error, Options, Plan, open,
    projectors::{ALL, NAMES},
    recipe::{FileType, Request},
};
use serde_json::{Value as Json, json};
use tempfile::{TempDir, tempdir};

use super::{hex, plain, values};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projectors")
}

fn snapshot(name: &str) -> Json {
    serde_json::from_slice(&fs::read(folder().join(format!("{name}.json"))).unwrap()).unwrap()
}

fn generate(at: &Path, snapshot: &Json) {
    fs::write(at.join("config.json"), snapshot["config"].to_string()).unwrap();
    let preprocessor = at.join("preprocessor_config.json");
    fs::write(preprocessor, snapshot["preprocessor"].to_string()).unwrap();
    let token = json!({"added_tokens_decoder": {"12": {"content": "[IMG_BREAK]"}}});
    fs::write(at.join("tokenizer_config.json"), token.to_string()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, entry) in snapshot["checkpoint"].as_object().unwrap() {
        let (dtype, start) = (entry[0].as_str().unwrap(), data.len());
        let shape: Vec<u64> = serde_json::from_value(entry[1].clone()).unwrap();
        let mut stored = values(name, dtype, shape.iter().product());
        if name.ends_with("running_var") {
            // A variance is not negative: these are BF16, the sign is in the second byte.
            stored.iter_mut().skip(1).step_by(2).for_each(|byte| *byte &= 0x7f);
        }
        data.extend(stored);
        let offsets = [start, data.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
    }
    let header = Json::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(at.join("model.safetensors"), bytes).unwrap();
}

fn options(ty: FileType) -> Options {
    Options {
        request: Request::new(ty),
        mmproj: true,
        like_reference: true,
        no_sync: true,
        threads: 2,
        ..Options::default()
    }
}

/// A generated checkpoint, changed.
fn changed(name: &str, change: impl FnOnce(&mut Json)) -> TempDir {
    let (mut snapshot, at) = (snapshot(name), tempdir().unwrap());
    change(&mut snapshot);
    generate(at.path(), &snapshot);
    at
}

fn convert(at: &Path, options: &Options) -> Result<(GgufFile, Vec<u8>), Error> {
    let out = tempdir().unwrap();
    let output = out.path().join("mmproj.gguf");
    Plan::new(open(at, options)?, options)?.run(&output, Control::default())?;
    Ok((GgufFile::open(&output, &Limits::default())?, fs::read(&output).unwrap()))
}

#[test]
fn projectors_equal_the_reference() {
    let (mut problems, mut names) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let snapshot = snapshot(&name);
        let at = changed(&name, |_| {});
        let (file, bytes) = match convert(at.path(), &options(FileType::F16)) {
            Ok(made) => made,
            Err(error) => {
                problems.push(format!("{name}: {error}"));
                continue;
            }
        };
        names.extend(NAMES.iter().filter_map(|key| Some(file.metadata.get_str(key)?.to_owned())));
        let kept = |key: &&str| {
            let general = ["general.architecture", "general.type", "general.file_type"];
            !key.starts_with("general.") || general.contains(key)
        };
        let keys: Vec<_> = file.metadata.iter().filter(|(key, _)| kept(key)).collect();
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), plain(value))).collect();
        if Json::Object(keys) != snapshot["metadata"] {
            problems.push(format!("{name}: keys {:?}", file.metadata));
        }
        let found = file.tensors.iter().map(|tensor| {
            let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
            let mut shape = tensor.shape.clone();
            while shape.len() > 1 && shape.last() == Some(&1) {
                shape.pop();
            }
            (tensor.name.clone(), json!([tensor.ty.name(), shape, hex(data)]))
        });
        let (found, expected): (Vec<_>, _) = (found.collect(), &snapshot["tensors"]);
        let expected_names: Vec<_> = expected.as_object().unwrap().keys().collect();
        if found.iter().map(|(name, _)| name).ne(expected_names) {
            problems.push(format!("{name}: other names, or in another order"));
        }
        for (tensor, found) in found {
            if found != expected[&tensor] {
                problems.push(format!("{name}: {tensor} {found}, expected {}", expected[&tensor]));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // A projector without a snapshot is not one that is known to be right.
    for projector in ALL {
        assert!(names.iter().any(|name| name == projector.name), "{}", projector.name);
    }
}

#[test]
fn tensors_that_engines_read_as_floats_stay_floats() {
    let types = |name: &str, ty| {
        let at = changed(name, |_| {});
        let (file, _) = convert(at.path(), &options(ty)).unwrap();
        move |tensor: &str| {
            file.tensors.iter().find(|t| t.name == tensor).map(|t| t.ty.name().to_owned()).unwrap()
        }
    };
    for (ty, patches, projection, layer) in [
        (FileType::F32, "F32", "F16", "F32"),
        (FileType::BF16, "F32", "F16", "BF16"),
        (FileType::Q8_0, "F32", "F16", "Q8_0"),
    ] {
        // ggml-org/llama.cpp#13025
        let of = types("gemma3", ty);
        assert_eq!(of("v.patch_embd.weight"), patches);
        assert_eq!(of("mm.input_projection.weight"), projection);
        assert_eq!(of("v.blk.0.attn_q.weight"), layer);
        assert_eq!(of("v.position_embd.weight"), "F32");
    }
    // Rows of 48 values are no whole blocks.
    assert_eq!(types("gemma3", FileType::Q8_0)("v.blk.0.ffn_down.weight"), "F16");
    assert_eq!(types("qwen2vl", FileType::F16)("v.patch_embd.weight.1"), "F16");
    assert_eq!(types("qwen2vl", FileType::BF16)("v.patch_embd.weight.1"), "F32");
    assert_eq!(types("voxtral", FileType::BF16)("a.conv1d.1.weight"), "F16");
    assert_eq!(types("audio-flamingo3", FileType::F16)("a.conv1d.1.weight"), "F32");
}

/// llama.cpp does not load such a file without it.
#[test]
fn pixtral_takes_the_embedding_of_the_token_between_rows() {
    const EMBEDDING: &str = "language_model.model.embed_tokens.weight";
    let at = changed("mistral3", |_| {});
    let (file, bytes) = convert(at.path(), &options(FileType::F32)).unwrap();
    let tensor = file.tensors.iter().find(|t| t.name == "v.token_embd.img_break").unwrap();
    let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
    let stored = values(EMBEDDING, "BF16", 1024 * 64);
    let row: Vec<u8> =
        stored[12 * 64 * 2..13 * 64 * 2].chunks(2).flat_map(|v| [0, 0, v[0], v[1]]).collect();
    assert_eq!((tensor.shape.as_slice(), data), (&[64][..], &row[..]));
    fs::remove_file(at.path().join("tokenizer_config.json")).unwrap();
    let newer = json!({"added_tokens": [{"id": 12, "content": "[IMG_BREAK]"}], "model": {}});
    fs::write(at.path().join("tokenizer.json"), newer.to_string()).unwrap();
    let model = open(at.path(), &options(FileType::F32)).unwrap();
    assert!(model.tensors.iter().any(|tensor| tensor.name == "v.token_embd.img_break"));
    fs::remove_file(at.path().join("tokenizer.json")).unwrap();
    let message = open(at.path(), &options(FileType::F32)).map(drop).unwrap_err().to_string();
    assert!(message.contains("no token [IMG_BREAK]"), "{message}");
}

/// The reference's converter gives Llama 4 the name of Gemma 4's norm after attention.
#[test]
fn what_an_encoder_leaves_out_is_what_its_class_assumes() {
    let with = |values: &[(&str, Json)]| {
        let at = changed("exaone4_5", |snapshot| {
            let vision = snapshot["config"]["vision_config"].as_object_mut().unwrap();
            vision.remove("window_size");
            vision.remove("fullatt_block_indexes");
            vision.extend(values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        });
        let (file, _) = convert(at.path(), &options(FileType::F16)).unwrap();
        let keys = ["clip.vision.window_size", "clip.vision.n_wa_pattern"];
        keys.map(|key| file.metadata.get(key).map(plain))
    };
    let given = [("window_size", json!(112)), ("fullatt_block_indexes", json!([7, 15, 23, 31]))];
    assert_eq!(with(&[]), with(&given));
    assert_ne!(with(&[]), with(&[("window_size", json!(224))]));
}

#[test]
fn llama4_keeps_the_norm_before_its_feed_forward_part() {
    let at = changed("llama4", |_| {});
    for (like_reference, name) in
        [(false, "v.blk.0.ln2.weight"), (true, "v.blk.0.attn_post_norm.weight")]
    {
        let options = Options { like_reference, ..options(FileType::F16) };
        let (file, _) = convert(at.path(), &options).unwrap();
        assert!(file.tensors.iter().any(|tensor| tensor.name == name), "{name}");
    }
}

#[test]
fn the_files_of_the_preprocessor_count_the_newer_last() {
    let at = changed("gemma3", |_| {});
    let newer = json!({"image_processor": {"image_std": [1, 2, 3]}, "image_mean": [0.5, 0.5, 0.5]});
    fs::write(at.path().join("processor_config.json"), newer.to_string()).unwrap();
    let (file, _) = convert(at.path(), &options(FileType::F16)).unwrap();
    let numbers = |key: &str| plain(file.metadata.get(key).unwrap());
    assert_eq!(numbers("clip.vision.image_mean"), json!([0.5, 0.5, 0.5]));
    assert_eq!(numbers("clip.vision.image_std"), json!([1.0, 2.0, 3.0]));
}

/// Sixteen patches a side; engines assume four for a token.
#[test]
fn patches_of_a_token_are_told_unless_engines_assume_them() {
    for (tokens, factor) in [(256, Some(1)), (64, Some(2)), (16, None), (4, Some(8))] {
        let set = |snapshot: &mut Json| {
            snapshot["preprocessor"]["image_seq_length"] = tokens.into();
        };
        let at = changed("deepseek-ocr", set);
        let (file, _) = convert(at.path(), &options(FileType::F16)).unwrap();
        let told = file.metadata.get_u64("clip.vision.projector.scale_factor");
        assert_eq!(told, factor, "{tokens} tokens");
    }
}

#[test]
fn a_missing_preprocessor_is_named_and_not_config_json() {
    let of = |at: &Path| convert(at, &options(FileType::F16)).unwrap_err().to_string();
    for model in ["gemma3", "qwen2vl"] {
        let at = changed(model, |_| {});
        let file = at.path().join("preprocessor_config.json");
        fs::remove_file(&file).unwrap();
        let message = of(at.path());
        let start = format!("{}: key ", file.display());
        assert!(message.starts_with(&start) && message.contains("whole file"), "{message}");
        // Of the newer file, if that is what there is.
        fs::write(at.path().join("processor_config.json"), "{}").unwrap();
        let message = of(at.path());
        assert!(message.contains("/processor_config.json: key "), "{model}: {message}");
        assert!(!message.contains("whole file"), "{message}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    type Row<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Json), &'a [&'a str]);
    let vision = |key: &'static str, value: Json| {
        move |json: &mut Json| json["config"]["vision_config"][key] = value.clone()
    };
    const PROJECTION: &str = "multi_modal_projector.mm_soft_emb_norm.weight";
    let rows: &[Row<'_>] = &[
        ("sound", "gemma3", &|_| {}, &[]),
        (
            "no encoder",
            "gemma3",
            &|json| json["config"]["vision_config"] = Json::Null,
            &["vision_config", "missing"],
        ),
        (
            "class",
            "gemma3",
            &|json| json["config"]["architectures"] = json!(["LlamaForCausalLM"]),
            &["LlamaForCausalLM", "no encoder of images or sound that is converted", "Gemma3For"],
        ),
        ("size", "gemma3", &vision("patch_size", json!(0)), &["patch_size", "is 0"]),
        ("text", "gemma3", &vision("hidden_size", json!("32")), &["hidden_size", "\"32\""]),
        (
            "layers",
            "gemma3",
            &vision("num_hidden_layers", json!(3_000_000)),
            &["num_hidden_layers", "at most"],
        ),
        (
            "a layer more",
            "gemma3",
            &vision("num_hidden_layers", json!(5)),
            &["encoder.layers.4", "no such tensor"],
        ),
        (
            "a layer less",
            "gemma3",
            &vision("num_hidden_layers", json!(3)),
            &["layer 3", "layers 0 to 2"],
        ),
        ("width", "gemma3", &vision("hidden_size", json!(48)), &["expected [48, 64]"]),
        (
            "no norm",
            "gemma3",
            &|json| {
                json["checkpoint"].as_object_mut().unwrap().remove(PROJECTION);
            },
            &[PROJECTION.trim_end_matches(".weight"), "no such tensor"],
        ),
        (
            "stranger",
            "gemma3",
            &|json| {
                json["checkpoint"]["vision_tower.vision_model.extra.weight"] =
                    json!(["BF16", [3, 4]]);
            },
            &["vision_model.extra.weight", "only tensors"],
        ),
        (
            "colours",
            "gemma3",
            &|json| json["preprocessor"]["image_mean"] = json!([0.5, 0.5]),
            &["/preprocessor_config.json: key \"image_mean\" is a list", "three numbers"],
        ),
        (
            "no colours",
            "gemma3",
            &|json| json["preprocessor"] = json!({}),
            &["/preprocessor_config.json: key \"image_mean\" is missing, expected three"],
        ),
        (
            "made up",
            "gemma3",
            &|json| {
                json["config"]["vision_config"]["width of the text model"] = json!(7);
                json["config"]["vision_config"]["preprocessor image_mean"] = json!([9, 9, 9]);
            },
            &[],
        ),
        (
            "activation",
            "mistral3",
            &vision("hidden_act", json!("relu")),
            &["hidden_act", "silu or gelu"],
        ),
        (
            "another encoder",
            "mistral3",
            &vision("model_type", json!("clip_vision_model")),
            &["pixtral"],
        ),
        (
            "deep",
            "qwen3vl",
            &vision("deepstack_visual_indexes", json!([0, 9])),
            &["deepstack_visual_indexes", "a list with 9"],
        ),
        (
            "deep twice",
            "qwen3vl",
            &vision("deepstack_visual_indexes", json!([0, 0, 0, 0, 0, 0, 0])),
            &["deepstack_visual_indexes", "a list of 7"],
        ),
        (
            "not a list",
            "qwen3vl",
            &vision("deepstack_visual_indexes", json!({"a": 1})),
            &["deepstack_visual_indexes"],
        ),
        (
            "pattern",
            "qwen2_5vl",
            &vision("fullatt_block_indexes", json!([1, 2])),
            &["fullatt_block_indexes", "same distance"],
        ),
        (
            "huge pattern",
            "qwen2_5vl",
            &vision("fullatt_block_indexes", json!([u64::MAX])),
            &["fullatt_block_indexes"],
        ),
        (
            "ratio",
            "internvl",
            &|json| json["config"]["downsample_ratio"] = json!(1e-30),
            &["downsample_ratio"],
        ),
        (
            "odd width of sound",
            "qwen3-asr",
            &|json| json["config"]["thinker_config"]["audio_config"]["d_model"] = json!(33),
            &["d_model", "even"],
        ),
        (
            "no encoder at all",
            "qwen3-omni",
            &|json| json["config"]["thinker_config"] = json!({"text_config": {"hidden_size": 64}}),
            &["thinker_config.vision_config"],
        ),
        (
            "channels of sound",
            "gemma4",
            &|json| {
                json["config"]["audio_config"]["subsampling_conv_channels"] = json!([16]);
            },
            &["subsampling_conv_channels", "a list of 1"],
        ),
        (
            "layers that are put together",
            "granite-speech",
            &|json| json["config"]["encoder_config"]["cat_hidden_layers"] = json!([0, 1]),
            &["projector_config.encoder_hidden_size", "expected 96"],
        ),
        (
            "no window",
            "granite-speech",
            &|json| json["config"]["downsample_rate"] = json!(4),
            &["window_size"],
        ),
        (
            "distance between patches",
            "step3-vl",
            &|json| json["config"]["understand_projector_stride"] = json!(3),
            &["understand_projector_stride", "expected 2"],
        ),
        ("without colours", "step3-vl", &|json| json["preprocessor"] = json!({}), &[]),
        (
            "no SAM",
            "deepseek-ocr",
            &|json| json["config"]["vision_config"]["width"] = json!({"clip-l-14-224": {}}),
            &["config.json"],
        ),
        (
            "heads",
            "minimax-m3",
            &vision("num_attention_heads", json!(4)),
            &["num_attention_heads", "40 values a head", "80"],
        ),
        (
            "layers with full attention",
            "youtu-vl",
            &vision("fullatt_block_indexes", json!("all")),
            &["fullatt_block_indexes", "a list of layers"],
        ),
        ("shuffle", "llama4", &vision("pixel_shuffle_ratio", json!(7)), &["pixel_shuffle_ratio"]),
        (
            "feature layer",
            "lfm2-vl",
            &|json| json["config"]["vision_feature_layer"] = json!(-9),
            &["vision_feature_layer"],
        ),
    ];
    let mut problems = Vec::new();
    for (what, name, change, says) in rows {
        let at = changed(name, change);
        let made = open(at.path(), &options(FileType::F16));
        match (made.map_err(|error| error.to_string()), says) {
            (Ok(model), []) => {
                let width = model.metadata.get("clip.vision.projection_dim");
                assert_eq!(width, Some(&Value::Uint32(64)), "{what}");
            }
            (Err(message), [_, ..]) => {
                let all = says.iter().all(|part| message.contains(part));
                if !all || message.contains('\n') {
                    problems.push(format!("{what}: {message}"));
                }
            }
            (found, _) => problems.push(format!("{what}: {:?}", found.map(|m| m.metadata))),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_head_that_pools_images_is_left_out() {
    const HEAD: [&str; 4] =
        ["attention.in_proj_weight", "attention.in_proj_bias", "probe", "mlp.fc1.weight"];
    let name = |part: &str| format!("vision_tower.vision_model.head.{part}");
    let at = changed("gemma3", |json| {
        for part in HEAD {
            json["checkpoint"][name(part)] = json!(["BF16", [3, 4]]);
        }
    });
    let model = open(at.path(), &options(FileType::F16)).unwrap();
    for part in HEAD {
        assert!(model.left_out.contains(&name(part)), "{part}: {:?}", model.left_out);
    }
}

#[test]
fn a_batch_norm_has_the_name_that_engines_look_for() {
    let at = changed("granite-speech", |_| {});
    for (like_reference, name) in [(false, "conv_norm"), (true, "conv_norm_var")] {
        let options = Options { like_reference, ..options(FileType::F16) };
        let (file, _) = convert(at.path(), &options).unwrap();
        let norms: Vec<_> = file
            .tensors
            .iter()
            .filter(|t| t.name.contains(".conv_norm"))
            .map(|t| &t.name)
            .collect();
        let expected: Vec<_> = (0..3)
            .flat_map(|layer| [".weight", ".bias"].map(|end| format!("a.blk.{layer}.{name}{end}")))
            .collect();
        assert_eq!(norms, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn the_book_lists_every_projector() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/architectures.md");
    let book = fs::read_to_string(book).unwrap();
    let (_, table) = book.split_once("## Projectors").unwrap();
    let names = ALL.iter().flat_map(|p| p.classes.iter().copied().chain([p.name]));
    let missing: Vec<_> = names.filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
