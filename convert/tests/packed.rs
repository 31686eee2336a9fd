//! Checkpoints packed by GPTQ, AWQ, AutoRound, compressed-tensors and MLX: made here from the
//! descriptions of the layouts.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

#[path = "packed/bitsandbytes.rs"]
mod bitsandbytes;
#[path = "packed/carrying.rs"]
mod carrying;
mod common;
#[path = "packed/layer.rs"]
mod layer;
#[path = "packed/mlx.rs"]
mod mlx;
#[path = "packed/nvfp4.rs"]
mod nvfp4;
#[path = "packed/scales.rs"]
mod scales;
#[path = "packed/settings.rs"]
mod settings;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::fixture;
use gguf_io::{Checkpoint, GgufFile, Limits};
use layer::{Layer, stream};
use quant_convert::{
    Control, Error, Options, Plan,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};
use quant_core::grouped::{GroupSize, GroupedType};
use serde_json::{Value, json};

/// A tensor of a safetensors file: type, shape, bytes.
type Tensor = (&'static str, Vec<u64>, Vec<u8>);
type Tensors = BTreeMap<String, Tensor>;

const GROUP: usize = 64;

fn save(dir: &Path, tensors: &Tensors, quantization: Value) {
    fs::create_dir_all(dir).unwrap();
    for name in ["config.json", "tokenizer.model", "tokenizer_config.json"] {
        fs::copy(fixture("tiny-llama2").join(name), dir.join(name)).unwrap();
    }
    let config = fs::read(dir.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["quantization_config"] = quantization;
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    fs::write(dir.join("model.safetensors"), file).unwrap();
}

/// The tensors of tiny-llama2, with linear layers replaced by what `pack` makes of one.
fn checkpoint(
    bits: u32,
    act_order: bool,
    pack: impl Fn(&Layer) -> Vec<(&'static str, Tensor)>,
) -> (Tensors, Tensors) {
    let source = Checkpoint::open(&fixture("tiny-llama2"), &Limits::default()).unwrap();
    let (mut packed, mut plain) = (Tensors::new(), Tensors::new());
    for (name, tensor) in &source.tensors {
        if !name.contains(".layers.") || tensor.shape.len() != 2 {
            let mut bytes = vec![0; tensor.bytes as usize];
            source.files[tensor.file].read_exact_at(&mut bytes, tensor.offset).unwrap();
            let tensor = (tensor.dtype.name(), tensor.shape.clone(), bytes);
            packed.insert(name.clone(), tensor.clone());
            plain.insert(name.clone(), tensor);
            continue;
        }
        let layer = Layer::new(tensor.shape[0] as usize, tensor.shape[1] as usize, bits, act_order);
        let module = name.strip_suffix("weight").unwrap();
        packed.extend(pack(&layer).into_iter().map(|(part, t)| (format!("{module}{part}"), t)));
        plain.insert(name.clone(), layer.weight());
    }
    (packed, plain)
}

fn convert(dir: &Path, output: &Path) -> Result<Vec<u8>, Error> {
    let request = Request::new(FileType::Q6_K);
    let options = Options { request, no_sync: true, ..Options::default() };
    let plan = Plan::new(open(dir, &options)?, &options)?;
    plan.run(output, Control::default())?;
    Ok(fs::read(output).unwrap())
}

fn gptq(bits: u32) -> Value {
    json!({"quant_method": "gptq", "bits": bits, "group_size": GROUP})
}

#[test]
fn packed_weights_are_restored_exactly() {
    let version_2 = json!({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"});
    let awq = json!({"quant_method": "awq", "bits": 4, "version": "gemm"});
    let cases = [
        ("gptq v1", gptq(4), checkpoint(4, false, |layer| layer.gptq(4, 1))),
        ("gptq v2", version_2, checkpoint(4, false, |layer| layer.gptq(4, 2))),
        ("gptq act-order", gptq(4), checkpoint(4, true, |layer| layer.gptq(4, 1))),
        ("gptq 8 bits", gptq(8), checkpoint(8, false, |layer| layer.gptq(8, 1))),
        ("gptq 2 bits", gptq(2), checkpoint(2, false, |layer| layer.gptq(2, 1))),
        ("gptq 3 bits", gptq(3), checkpoint(3, true, |layer| layer.gptq(3, 1))),
        ("awq", awq, checkpoint(4, false, Layer::awq)),
    ];
    for (what, quantization, (packed, plain)) in cases {
        let dir = tempfile::tempdir().unwrap();
        // The same name for both, from which general.name comes.
        let (a, b) = (dir.path().join("packed/model"), dir.path().join("plain/model"));
        save(&a, &packed, quantization);
        save(&b, &plain, Value::Null);
        let found = convert(&a, &dir.path().join("a.gguf")).unwrap();
        let expected = convert(&b, &dir.path().join("b.gguf")).unwrap();
        assert!(found == expected, "{what}");
    }
}

#[test]
fn a_packed_file_stays_one_where_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, _) = checkpoint(4, false, |layer| layer.gptq(4, 1));
    save(dir.path(), &packed, gptq(4));
    let options = Options {
        request: Request::new(FileType::Q8_0),
        split: Some(quant_convert::Split::Keep),
        ..Options::default()
    };
    let plan = Plan::new(open(dir.path(), &options).unwrap(), &options).unwrap();
    assert_eq!(plan.shards().unwrap().len(), 1);
}

#[test]
fn packed_layers_are_named_as_they_are_stored_llama_cpp_5461() {
    let awq = json!({"quant_method": "awq", "bits": 4, "version": "gemm"});
    for (name, quantization, (packed, _)) in [
        ("GPTQ_INT3", gptq(3), checkpoint(3, true, |layer| layer.gptq(3, 1))),
        ("GPTQ_INT8", gptq(8), checkpoint(8, false, |layer| layer.gptq(8, 1))),
        ("AWQ_INT4", awq, checkpoint(4, false, Layer::awq)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &packed, quantization);
        let model = open(dir.path(), &Options::default()).unwrap();
        let stored = |name: &str| {
            let tensor = model.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            tensor.stored_type()
        };
        assert_eq!(stored("blk.0.attn_q.weight"), name);
        assert!(["F32", "F16", "BF16"].contains(&stored("output_norm.weight")), "{name}");
    }
}

/// Damages the tensor of a name.
type Damage = fn(&mut Tensors, &str);

#[test]
fn damaged_layers_are_refused_by_name() {
    const MODULE: &str = "model.layers.0.self_attn.q_proj";
    let damage: [(&str, Damage, &str); 6] = [
        ("qzeros", |t, n| drop(t.remove(n)), "no such tensor"),
        ("scales", |t, n| drop(t.remove(n)), "no such tensor"),
        (
            "g_idx",
            |t, n| t.get_mut(n).unwrap().2[..4].copy_from_slice(&(-1i32).to_le_bytes()),
            "group -1, expected groups 0 to 3",
        ),
        ("g_idx", |t, n| t.get_mut(n).unwrap().0 = "F32", "type F32"),
        ("qzeros", |t, n| t.get_mut(n).unwrap().1 = vec![2, 64], "shape [2, 64]"),
        ("qweight", |t, n| t.get_mut(n).unwrap().1 = vec![8, 4, 256], "3 dimensions"),
    ];
    for (part, damage, message) in damage {
        let dir = tempfile::tempdir().unwrap();
        let (mut packed, _) = checkpoint(4, false, |layer| layer.gptq(4, 1));
        let name = format!("{MODULE}.{part}");
        damage(&mut packed, &name);
        let input: PathBuf = dir.path().join("model");
        save(&input, &packed, gptq(4));
        let output = dir.path().join("out.gguf");
        let error = convert(&input, &output).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains(message), "{error}");
        assert!(!error.contains('\n') && !output.exists());
    }
}

/// Sizes of a small model: rows and columns of its down projection.
const ROWS: usize = 64;
const COLUMNS: usize = 96;

const DOWN: &str = "model.layers.0.mlp.down_proj";

fn tensor(dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    (dtype, shape.iter().map(|n| *n as u64).collect(), bytes)
}

fn floats(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Tensor {
    tensor("F32", shape, values.into_iter().flat_map(f32::to_le_bytes).collect())
}

/// Scales that BF16 holds.
fn scale(i: usize) -> f32 {
    (1 + i % 100) as f32 / 512.0
}

fn scales(shape: &[usize]) -> Tensor {
    let scales = (0..shape.iter().product()).map(|i| half::bf16::from_f32(scale(i)));
    tensor("BF16", shape, scales.flat_map(half::bf16::to_le_bytes).collect())
}

/// A model of one layer whose down projection is in these parts, all else as it was, as people
/// have it when some layers are left alone.
fn small(dir: &Path, quantization: &Value, parts: &[(&str, Tensor)]) {
    let mut tensors = Tensors::new();
    for (name, shape) in [
        ("model.embed_tokens", &[1024, 64][..]),
        ("lm_head", &[1024, 64]),
        ("model.norm", &[64]),
        ("model.layers.0.input_layernorm", &[64]),
        ("model.layers.0.post_attention_layernorm", &[64]),
        ("model.layers.0.self_attn.q_proj", &[64, 64]),
        ("model.layers.0.self_attn.k_proj", &[32, 64]),
        ("model.layers.0.self_attn.v_proj", &[32, 64]),
        ("model.layers.0.self_attn.o_proj", &[64, 64]),
        ("model.layers.0.mlp.gate_proj", &[COLUMNS, ROWS]),
        ("model.layers.0.mlp.up_proj", &[COLUMNS, ROWS]),
    ] {
        let count = shape.iter().product();
        tensors.insert(format!("{name}.weight"), floats(shape, vec![0.5; count]));
    }
    tensors.extend(parts.iter().map(|(part, tensor)| (format!("{DOWN}.{part}"), tensor.clone())));
    save(dir, &tensors, quantization.clone());
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("hidden_size", 64),
        ("intermediate_size", COLUMNS),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 2),
        ("head_dim", 16),
    ] {
        config[key] = value.into();
    }
    fs::write(path, config.to_string()).unwrap();
}

/// The values of a tensor of what a checkpoint becomes.
fn restored(dir: &Path, name: &str) -> Result<Vec<f32>, Error> {
    let output = dir.join("out.gguf");
    let request = Request::new(FileType::F32);
    let options = Options { request, no_sync: true, overwrite: true, ..Options::default() };
    let plan = Plan::new(open(dir, &options)?, &options)?;
    plan.run(&output, Control::default())?;
    let file = GgufFile::open(&output, &Limits::default()).unwrap();
    let tensor = file.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let mut bytes = vec![0; tensor.bytes as usize];
    file.files[tensor.file].read_exact_at(&mut bytes, tensor.offset).unwrap();
    Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// A way of storing, and the value it stands for at a row and column.
type Case = (&'static str, Value, Vec<(&'static str, Tensor)>, Box<dyn Fn(usize, usize) -> f32>);

fn assert_restored(cases: Vec<Case>) {
    for (what, quantization, parts, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        small(dir.path(), &quantization, &parts);
        let found = restored(dir.path(), "blk.0.ffn_down.weight");
        let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found.len(), ROWS * COLUMNS, "{what}");
        for (i, found) in found.into_iter().enumerate() {
            let (row, column) = (i / COLUMNS, i % COLUMNS);
            assert_eq!(found, expected(row, column), "{what}: row {row}, column {column}");
        }
    }
}

fn refused(quantization: &Value, parts: &[(&str, Tensor)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    small(dir.path(), quantization, parts);
    let message = restored(dir.path(), "blk.0.ffn_down.weight").unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn compressed(format: &str, weights: Value) -> Value {
    json!({"quant_method": "compressed-tensors", "format": format,
           "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}})
}

/// Any code of eight bits.
fn code(row: usize, column: usize) -> u8 {
    (row * 7 + column * 13 + row * column) as u8
}

fn codes(dtype: &'static str) -> Tensor {
    let code = |i| code(i / COLUMNS, i % COLUMNS);
    tensor(dtype, &[ROWS, COLUMNS], (0..ROWS * COLUMNS).map(code).collect())
}

/// A layer of GPTQ of so many bits, its group size the tests' own, with the values it stands for.
fn gptq_down(bits: u32, version: u8) -> (Vec<(&'static str, Tensor)>, Vec<f32>) {
    // Groups of 64 do not divide 96 columns: one group.
    let mut layer = Layer::new(ROWS, 128, bits, false);
    layer.columns = COLUMNS;
    layer.groups = vec![0; COLUMNS];
    layer.codes.truncate(ROWS * COLUMNS);
    let groups = layer.group_count();
    layer.scales.truncate(ROWS * groups);
    layer.zeros.truncate(ROWS * groups);
    let (_, _, bytes) = layer.weight();
    let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (layer.gptq(bits, version), values)
}

/// A layer of MLX.
fn mlx(rows: usize, columns: usize, bits: u32, group: usize) -> Vec<(&'static str, Tensor)> {
    let mask = (1u32 << bits) - 1;
    let code = |row, column| (u32::from(code(row, column)) & mask) as u8;
    let words = |row| stream(&(0..columns).map(|c| code(row, c)).collect::<Vec<_>>(), bits);
    let words: Vec<u32> = (0..rows).flat_map(words).collect();
    let width = words.len() / rows;
    let words = words.into_iter().flat_map(u32::to_le_bytes).collect();
    let groups = columns / group;
    let biases = (0..rows * groups).map(|i| -scale(i + 7));
    vec![
        ("weight", tensor("U32", &[rows, width], words)),
        ("scales", scales(&[rows, groups])),
        ("biases", floats(&[rows, groups], biases)),
    ]
}

const EXPERTS: &str = "model.layers.0.block_sparse_moe";

/// A model of one layer with four experts, whose weights are these, all else as it was.
fn mixture(dir: &Path, quantization: Value, experts: Tensors) {
    small(dir, &quantization, &[]);
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let source = Checkpoint::open(dir, &Limits::default()).unwrap();
    let mut tensors = experts;
    for (name, t) in source.tensors.iter().filter(|(name, _)| !name.contains(".mlp.")) {
        let mut bytes = vec![0; t.bytes as usize];
        source.files[t.file].read_exact_at(&mut bytes, t.offset).unwrap();
        tensors.insert(name.clone(), (t.dtype.name(), t.shape.clone(), bytes));
    }
    tensors.insert(format!("{EXPERTS}.gate.weight"), floats(&[4, 64], vec![0.25; 256]));
    save(dir, &tensors, quantization);
    config["architectures"] = json!(["MixtralForCausalLM"]);
    config["num_local_experts"] = 4.into();
    config["num_experts_per_tok"] = 2.into();
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn experts_that_are_left_alone_stand_beside_packed_ones_gptqmodel_1680() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, expected) = gptq_down(4, 1);
    let plain = |i: usize| half::bf16::from_f32(scale(i));
    let mut experts = Tensors::new();
    for expert in 0..4 {
        let module = format!("{EXPERTS}.experts.{expert}");
        for part in ["w1", "w3"] {
            let ones = floats(&[COLUMNS, ROWS], vec![1.0; ROWS * COLUMNS]);
            experts.insert(format!("{module}.{part}.weight"), ones);
        }
        if expert == 0 || expert == 2 {
            let bytes = (0..ROWS * COLUMNS).flat_map(|i| plain(i).to_le_bytes()).collect();
            experts.insert(format!("{module}.w2.weight"), tensor("BF16", &[ROWS, COLUMNS], bytes));
        } else {
            let packed = packed.iter().cloned();
            experts.extend(packed.map(|(part, t)| (format!("{module}.w2.{part}"), t)));
        }
    }
    let rules = json!({"-:.*experts.[02].*": {}});
    let settings = json!({"quant_method": "gptq", "bits": 4, "dynamic": rules});
    mixture(dir.path(), settings, experts);
    let found = restored(dir.path(), "blk.0.ffn_down_exps.weight").unwrap();
    for (expert, found) in found.chunks_exact(ROWS * COLUMNS).enumerate() {
        match expert {
            0 | 2 => assert!((0..).zip(found).all(|(i, found)| *found == plain(i).to_f32())),
            _ => assert!(found == expected, "expert {expert}"),
        }
    }
}

#[test]
fn folders_are_made_of_eight_bit_codes_as_of_the_weights_they_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    let value = |i: usize| f32::from(code(i / COLUMNS, i % COLUMNS) as i8) * scale(i / COLUMNS);
    let plain = floats(&[ROWS, COLUMNS], (0..ROWS * COLUMNS).map(value));
    let coded = vec![
        ("weight", codes("I8")),
        ("weight_scale", scales(&[ROWS, 1])),
        ("input_scale", scales(&[1])),
    ];
    let w8a8 = compressed("int-quantized", json!({"num_bits": 8, "type": "int"}));
    let (a, b) = (dir.path().join("coded"), dir.path().join("plain"));
    small(&a, &w8a8, &coded);
    small(&b, &Value::Null, &[("weight", plain)]);
    // Other descriptions of the weights it had are not those of the folder.
    fs::write(a.join("hf_quant_config.json"), "{}").unwrap();
    let config = |dir: &Path| -> Value {
        serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
    };
    let mut changed = config(&a);
    changed["quantization"] = json!({"bits": 4, "group_size": 64});
    fs::write(a.join("config.json"), changed.to_string()).unwrap();
    let how = grouped::Options {
        group_size: GroupSize::from_number(32),
        ..grouped::Options::new(GroupedType::Int4Sym)
    };
    let options = Options { no_sync: true, ..Options::default() };
    let weights = [a, b].map(|input| {
        let output = input.with_extension("out");
        let plan = FolderPlan::new(
            &input,
            &Options { grouped: Some(how), ..options.clone() },
            Control::default(),
        )
        .unwrap();
        plan.run(&output, Control::default()).unwrap();
        assert!(!output.join("hf_quant_config.json").exists());
        assert_eq!(config(&output).get("quantization"), None);
        fs::read(output.join("model.safetensors")).unwrap()
    });
    assert!(weights[0] == weights[1]);
}
