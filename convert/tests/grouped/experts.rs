//! Mixtures of experts.

use super::*;

/// A mixture of experts whose rows have two lengths, 64 and 96.
fn mixture(dir: &Path, names: [&str; 3], layers: &str) -> PathBuf {
    let input = copy("tiny-mixtral", dir);
    let mut tensors: Vec<(String, Vec<u64>)> = Vec::new();
    for (name, shape) in [
        ("model.embed_tokens", vec![1024, 64]),
        ("lm_head", vec![1024, 64]),
        ("model.norm", vec![64]),
    ] {
        tensors.push((format!("{name}.weight"), shape));
    }
    let layer = "model.layers.0";
    for (name, shape) in [
        ("input_layernorm", vec![64]),
        ("post_attention_layernorm", vec![64]),
        ("self_attn.q_proj", vec![64, 64]),
        ("self_attn.k_proj", vec![32, 64]),
        ("self_attn.v_proj", vec![32, 64]),
        ("self_attn.o_proj", vec![64, 64]),
        (if layers == "mlp" { "mlp.gate" } else { "block_sparse_moe.gate" }, vec![4, 64]),
    ] {
        tensors.push((format!("{layer}.{name}.weight"), shape));
    }
    if layers == "mlp" {
        for (name, len) in [("q_norm", 64), ("k_norm", 32)] {
            tensors.push((format!("{layer}.self_attn.{name}.weight"), vec![len]));
        }
    }
    for expert in 0..4 {
        let [gate, up, down] = names;
        for (name, shape) in [(gate, vec![96, 64]), (up, vec![96, 64]), (down, vec![64, 96])] {
            tensors.push((format!("{layer}.{layers}.experts.{expert}.{name}.weight"), shape));
        }
    }
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, shape) in &tensors {
        let start = data.len();
        for i in 0..shape.iter().product::<u64>() {
            let value = ((i * 37 + i / 64 * 11) % 101) as f32 / 1000.0 - 0.05;
            data.extend(half::bf16::from_f32(value).to_le_bytes());
        }
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    fs::write(input.join("model.safetensors"), file).unwrap();
    let mut config = config(&input);
    for (key, value) in [
        ("hidden_size", 64),
        ("intermediate_size", 96),
        ("moe_intermediate_size", 96),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 2),
        ("head_dim", 16),
        ("num_experts", 4),
        ("decoder_sparse_step", 1),
    ] {
        config[key] = value.into();
    }
    config["mlp_only_layers"] = json!([]);
    if layers == "mlp" {
        config["architectures"] = json!(["OlmoeForCausalLM"]);
    }
    fs::write(input.join("config.json"), config.to_string()).unwrap();
    input
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
}

const MIXTRAL: [&str; 3] = ["w1", "w3", "w2"];

/// The schemes of experts and of other layers of a folder's plan.
fn schemes(input: &Path, how: &grouped::Options) -> Result<[Vec<Scheme>; 2], String> {
    let plan = FolderPlan::new(
        input,
        &Options { grouped: Some(*how), ..Options::default() },
        Control::default(),
    );
    let plan = plan.map_err(|error| error.to_string())?;
    let mut found = [Vec::new(), Vec::new()];
    for (tensor, scheme) in plan.tensors().zip(plan.schemes()) {
        let others = usize::from(!tensor.name.contains(".experts."));
        let known = found[others].contains(&scheme);
        if !known && (tensor.name.contains("proj") || others == 0) {
            found[others].push(scheme);
        }
    }
    Ok(found)
}

#[test]
fn experts_get_one_symmetric_scheme_llm_compressor_2163() {
    let dir = tempfile::tempdir().unwrap();
    let small = mixture(dir.path(), MIXTRAL, "block_sparse_moe");
    let tiny = fixture("tiny-mixtral");
    let groups = |ty, len| Scheme::Groups { ty, len, channel: false };
    let rows = |ty, len| Scheme::Groups { ty, len, channel: true };
    let (int4, int8) = (GroupedType::Int4Sym, GroupedType::Int8Sym);
    let with = |group_size, ratio, backup| grouped::Options {
        ratio,
        backup,
        ..grouped(GroupedType::Int4Sym, group_size)
    };
    let adjust = |group_size| grouped::Options {
        fallback: Fallback::Adjust,
        ..grouped(GroupedType::Int4Sym, group_size)
    };
    let cases = [
        (&tiny, with(64, 1.0, None), vec![groups(int4, 64)]),
        // They hold four fifths of the weights.
        (&tiny, with(64, 0.6, None), vec![rows(int8, 256)]),
        (&tiny, with(64, 0.9, None), vec![groups(int4, 64)]),
        (&tiny, with(64, 0.9, Some(Backup::None)), vec![groups(int4, 64)]),
        (&tiny, with(64, 0.6, Some(Backup::None)), vec![Scheme::Keep]),
        (&small, with(32, 1.0, None), vec![groups(int4, 32)]),
        (&small, with(-1, 1.0, None), vec![rows(int4, 64), rows(int4, 96)]),
        // What divides 64 and 96.
        (&small, adjust(64), vec![groups(int4, 32)]),
        (&small, adjust(512), vec![groups(int4, 32)]),
    ];
    for (input, how, expected) in cases {
        let [experts, _] = schemes(input, &how).unwrap();
        assert_eq!(experts, expected, "{how:?}");
    }
    // The walk goes on without them.
    let [_, others] = schemes(&tiny, &with(64, 0.6, None)).unwrap();
    assert!(others.contains(&groups(int4, 64)), "{others:?}");

    let mut per_layer = with(64, 0.6, None);
    per_layer.per_layer = true;
    let ignore = grouped::Options { fallback: Fallback::Ignore, ..with(64, 1.0, None) };
    for (input, how, message) in [
        (&tiny, grouped(GroupedType::Int4Asym, 64), "would get int4_asym"),
        (&tiny, grouped(GroupedType::Int8Asym, -1), "would get int8_asym"),
        (&tiny, with(64, 0.6, Some(Backup::Int8Asym)), "would get int8_asym"),
        (&tiny, per_layer, "experts only if all are quantized alike"),
        (&small, ignore, "have [64, 96] weights"),
        (&small, with(64, 1.0, None), "has rows of 96"),
    ] {
        let error = schemes(input, &how).unwrap_err();
        assert!(error.contains(message) && error.contains("expert"), "{how:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    // Zero points elsewhere are fine.
    schemes(&fixture("tiny-qwen2"), &grouped(GroupedType::Int4Asym, 64)).unwrap();
}

#[test]
fn targets_of_experts_are_what_engines_ask_for_transformers_47430() {
    const EXPERTS: &str = r"re:.*\.experts\.\d+\..*";
    let write = |input: &Path, how: &grouped::Options| {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        write_folder(input, &output, how, &Options::default());
        config(&output)["quantization_config"].clone()
    };
    let names = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let gate_up_down = ["gate_proj", "up_proj", "down_proj"];
    let olmoe = dir.path().join("olmoe");
    fs::create_dir(&olmoe).unwrap();
    for input in
        [mixture(dir.path(), MIXTRAL, "block_sparse_moe"), mixture(&olmoe, gate_up_down, "mlp")]
    {
        let alone = grouped(GroupedType::Int4Sym, 32);
        let one = write(&input, &alone);
        assert_eq!(names(&one["config_groups"]["group_0"]["targets"]), ["Linear"]);
        let ignored = names(&one["ignore"]);
        assert!(ignored.iter().any(|name| name.ends_with(".gate")), "{ignored:?}");
        assert!(ignored.contains(&"lm_head".to_owned()) && !ignored.iter().any(|n| n == EXPERTS));

        // Two schemes: the experts' comes first, as transformers takes the first expression.
        let two = write(&input, &grouped::Options { ratio: 0.95, ..alone });
        let targets = names(&two["config_groups"]["group_0"]["targets"]);
        assert_eq!(targets.iter().filter(|name| name.contains("experts")).count(), 1);
        assert_eq!(targets[0], EXPERTS);
        let rest = names(&two["config_groups"]["group_1"]["targets"]);
        assert!(!rest.is_empty() && rest.iter().all(|name| name.contains("self_attn")), "{rest:?}");

        // Left alone, the experts are named for vLLM, which asks for gate_proj of all.
        let kept = grouped::Options { ratio: 0.5, backup: Some(Backup::None), ..alone };
        let kept = write(&input, &kept);
        assert!(names(&kept["ignore"]).iter().any(|name| name == EXPERTS));
    }
}
