//! Models of no architecture that is known here.

use super::*;

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
