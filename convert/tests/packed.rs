//! Checkpoints packed by GPTQ and AWQ: made here from the descriptions of the layouts.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::fixture;
use gguf_io::{Checkpoint, Limits};
use quant_convert::{
    Control, Error, Options, Plan, open,
    recipe::{FileType, Request},
};
use serde_json::{Value, json};

/// A tensor of a safetensors file: type, shape, bytes.
type Tensor = (&'static str, Vec<u64>, Vec<u8>);
type Tensors = BTreeMap<String, Tensor>;

const GROUP: usize = 64;

/// Codes, scales (half-precision bits) and zero points, any that fit: not those of a real weight.
struct Layer {
    rows: usize,
    columns: usize,
    codes: Vec<u8>,
    scales: Vec<u16>,
    zeros: Vec<u8>,
    groups: Vec<usize>,
}

impl Layer {
    fn new(rows: usize, columns: usize, bits: u32, act_order: bool) -> Self {
        let mut state = (rows * 31 + columns) as u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        let groups = columns / GROUP;
        let mask = (1u32 << bits) - 1;
        Self {
            rows,
            columns,
            codes: (0..rows * columns).map(|_| (random() & mask) as u8).collect(),
            scales: (0..rows * groups).map(|_| 0x1c00 + (random() & 0x3ff) as u16).collect(),
            // Version 1 stores one less.
            zeros: (0..rows * groups).map(|_| (random() & mask).max(1) as u8).collect(),
            groups: (0..columns)
                .map(|c| if act_order { c * 7 % groups } else { c / GROUP })
                .collect(),
        }
    }

    fn group_count(&self) -> usize {
        self.columns / GROUP
    }

    fn weight(&self) -> Tensor {
        let mut bytes = Vec::new();
        for row in 0..self.rows {
            for column in 0..self.columns {
                let group = row * self.group_count() + self.groups[column];
                let scale = half::f16::from_bits(self.scales[group]).to_f32();
                let code = f32::from(self.codes[row * self.columns + column]);
                bytes.extend(((code - f32::from(self.zeros[group])) * scale).to_le_bytes());
            }
        }
        ("F32", vec![self.rows as u64, self.columns as u64], bytes)
    }

    /// The transposed scales.
    fn scales(&self) -> Tensor {
        let groups = self.group_count();
        let scale = |i: usize| self.scales[i % self.rows * groups + i / self.rows];
        let bytes = (0..self.rows * groups).flat_map(|i| scale(i).to_le_bytes()).collect();
        ("F16", vec![groups as u64, self.rows as u64], bytes)
    }

    /// Words of the transpose, along the outputs.
    fn along_rows(
        &self,
        lines: usize,
        bits: u32,
        order: &[usize],
        code: impl Fn(usize, usize) -> u8,
    ) -> Tensor {
        let per_word = order.len();
        let mut bytes = Vec::new();
        for line in 0..lines {
            for word in 0..self.rows / per_word {
                let word = (0..per_word).fold(0u32, |w, place| {
                    w | u32::from(code(word * per_word + order[place], line))
                        << (bits * place as u32)
                });
                bytes.extend(word.to_le_bytes());
            }
        }
        ("I32", vec![lines as u64, (self.rows / per_word) as u64], bytes)
    }

    fn gptq(&self, bits: u32, version: u8) -> Vec<(&'static str, Tensor)> {
        let per_word = 32 / bits as usize;
        let mut words = Vec::new();
        for line in 0..self.columns / per_word {
            for row in 0..self.rows {
                let word = (0..per_word).fold(0u32, |w, place| {
                    let code = self.codes[row * self.columns + line * per_word + place];
                    w | u32::from(code) << (bits * place as u32)
                });
                words.extend(word.to_le_bytes());
            }
        }
        let shape = vec![(self.columns / per_word) as u64, self.rows as u64];
        let order: Vec<_> = (0..per_word).collect();
        let groups = self.group_count();
        let zeros = self.along_rows(groups, bits, &order, |row, group| {
            self.zeros[row * groups + group] - (2 - version)
        });
        let g_idx = self.groups.iter().flat_map(|g| (*g as u32).to_le_bytes()).collect();
        vec![
            ("qweight", ("I32", shape, words)),
            ("qzeros", zeros),
            ("scales", self.scales()),
            ("g_idx", ("I32", vec![self.columns as u64], g_idx)),
        ]
    }

    fn awq(&self) -> Vec<(&'static str, Tensor)> {
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let groups = self.group_count();
        let codes = self.along_rows(self.columns, 4, &ORDER, |row, column| {
            self.codes[row * self.columns + column]
        });
        let zeros =
            self.along_rows(groups, 4, &ORDER, |row, group| self.zeros[row * groups + group]);
        vec![("qweight", codes), ("qzeros", zeros), ("scales", self.scales())]
    }
}

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
    plan.run(output, &options, Control::default())?;
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
