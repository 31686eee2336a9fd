//! Weights in NVFP4, which stay as they are.

use quant_core::{GgmlType, dequantize};

use super::*;

const HIDDEN: usize = 64;

/// Any code, and a scale that is no NaN.
fn code(row: usize, column: usize) -> u8 {
    ((row * 5 + column * 3 + row * column) % 16) as u8
}

fn scale(row: usize, group: usize) -> u8 {
    0x30 + ((row + group) % 16) as u8
}

/// The attention's queries, whose rows change places on the way, in NVFP4.
fn parts(names: [&'static str; 4], factors: [f32; 2]) -> Vec<(&'static str, Tensor)> {
    let pairs = (0..HIDDEN * HIDDEN / 2).map(|i| {
        let (row, column) = (2 * i / HIDDEN, 2 * i % HIDDEN);
        code(row, column) | code(row, column + 1) << 4
    });
    let scales = (0..HIDDEN * 4).map(|i| scale(i / 4, i % 4));
    let [codes, of_groups, of_tensor, of_inputs] = names;
    vec![
        (codes, tensor("U8", &[HIDDEN, HIDDEN / 2], pairs.collect())),
        (of_groups, tensor("F8_E4M3", &[HIDDEN, 4], scales.collect())),
        (of_tensor, floats(&[], [factors[0]])),
        (of_inputs, floats(&[1], [factors[1]])),
    ]
}

/// A model of one layer whose queries are in these parts.
fn model(dir: &Path, settings: &Value, parts: Vec<(&'static str, Tensor)>) {
    let ones = floats(&[ROWS, COLUMNS], vec![1.0; ROWS * COLUMNS]);
    small(dir, settings, &[("weight", ones)]);
    let source = Checkpoint::open(dir, &Limits::default()).unwrap();
    let mut tensors = Tensors::new();
    for (name, t) in source.tensors.iter().filter(|(name, _)| !name.contains("q_proj")) {
        let mut bytes = vec![0; t.bytes as usize];
        source.files[t.file].read_exact_at(&mut bytes, t.offset).unwrap();
        tensors.insert(name.clone(), (t.dtype.name(), t.shape.clone(), bytes));
    }
    let module = "model.layers.0.self_attn.q_proj";
    tensors.extend(parts.into_iter().map(|(part, t)| (format!("{module}.{part}"), t)));
    let config = fs::read(dir.join("config.json")).unwrap();
    save(dir, &tensors, settings.clone());
    fs::write(dir.join("config.json"), config).unwrap();
}

fn written(dir: &Path, file_type: Option<FileType>) -> GgufFile {
    let request = Request { file_type, ..Request::default() };
    let options = Options { request, no_sync: true, overwrite: true, ..Options::default() };
    let plan = Plan::new(open(dir, &options).unwrap(), &options).unwrap();
    let output = dir.join("out.gguf");
    plan.run(&output, Control::default()).unwrap();
    GgufFile::open(&output, &Limits::default()).unwrap()
}

fn values(file: &GgufFile, name: &str) -> Vec<f32> {
    let tensor = file.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    let mut bytes = vec![0; tensor.bytes as usize];
    file.files[0].read_exact_at(&mut bytes, tensor.offset).unwrap();
    let mut values = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
    dequantize(tensor.ty, &bytes, &mut values).unwrap();
    values
}

const MODELOPT: [&str; 4] = ["weight", "weight_scale", "weight_scale_2", "input_scale"];
const COMPRESSED: [&str; 4] =
    ["weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"];

fn group(weights: Value) -> Value {
    json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
           "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}})
}

/// The parts of a layer by their names.
type Parts = Vec<(&'static str, Tensor)>;

#[test]
fn weights_in_nvfp4_are_carried_over_with_their_scales_beside_them() {
    let four =
        json!({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16});
    let mixed = json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
                       "quantized_layers": {"model.layers.0.self_attn": {"quant_algo": "W4A16_NVFP4"}}});
    let cases = [
        (json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), MODELOPT, [0.25, 0.5], false),
        (mixed, MODELOPT, [0.25, 0.5], true),
        (group(four), COMPRESSED, [4.0, 2.0], false),
    ];
    for (settings, names, factors, weight_only) in cases {
        let dir = tempfile::tempdir().unwrap();
        model(dir.path(), &settings, parts(names, factors));
        // Whatever the rest becomes.
        for (file_type, id) in [(None, 39), (Some(FileType::Q4_0), 2)] {
            let file = written(dir.path(), file_type);
            let tensor = file.tensors.iter().find(|t| t.name == "blk.0.attn_q.weight").unwrap();
            assert_eq!(tensor.ty, GgmlType::NVFP4);
            assert_eq!(file.metadata.get_u64("general.file_type"), Some(id));
            assert_eq!(values(&file, "blk.0.attn_q.scale"), [0.25]);
            assert_eq!(values(&file, "blk.0.attn_q.input_scale"), [0.5]);
            let extra = file.metadata.get("general.tensor_extra.name").is_some();
            assert_eq!(extra, weight_only);
            // Of heads of 16 rows the two halves take turns.
            let found = values(&file, "blk.0.attn_q.weight");
            const FP4: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
            for (i, found) in found.into_iter().enumerate() {
                let (row, column) = (i / HIDDEN, i % HIDDEN);
                let row = row / 16 * 16 + row % 2 * 8 + row % 16 / 2;
                let (code, scale) = (code(row, column), scale(row, column / 16));
                let sign = if code < 8 { 1.0 } else { -1.0 };
                let exponent = i32::from(scale >> 3) - 7;
                let scale = (1.0 + f32::from(scale & 7) / 8.0) * 2f32.powi(exponent);
                assert_eq!(found, sign * FP4[usize::from(code & 7)] * scale, "{i}");
            }
        }
    }
}

#[test]
fn scales_of_one_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let settings = json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
    model(dir.path(), &settings, parts(MODELOPT, [1.0, 1.0]));
    let file = written(dir.path(), None);
    assert!(!file.tensors.iter().any(|tensor| tensor.name.ends_with("scale")));
    // The file has to be one that ModelOpt may have beside an older config.json.
    model(dir.path(), &Value::Null, parts(MODELOPT, [1.0, 1.0]));
    let settings =
        json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}});
    fs::write(dir.path().join("hf_quant_config.json"), settings.to_string()).unwrap();
    assert_eq!(written(dir.path(), None).tensors.len(), file.tensors.len());
}

#[test]
fn damaged_weights_in_nvfp4_are_refused() {
    let settings = json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
    let refused = |damage: &dyn Fn(&mut Parts)| {
        let dir = tempfile::tempdir().unwrap();
        let mut parts = parts(MODELOPT, [0.25, 0.5]);
        damage(&mut parts);
        model(dir.path(), &settings, parts);
        let error = open(dir.path(), &Options::default()).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let error = refused(&|parts| parts[1].1 = tensor("F8_E4M3", &[HIDDEN, 2], vec![0x38; 128]));
    assert!(error.contains("weight_scale") && error.contains("shape [64, 2]"), "{error}");
    let error = refused(&|parts| parts[2].1 = floats(&[], [f32::NAN]));
    assert!(error.contains("weight_scale_2") && error.contains("NaN"), "{error}");
    let error = refused(&|parts| drop(parts.remove(1)));
    assert!(error.contains("no such tensor"), "{error}");
    let error = refused(&|parts| {
        parts[0].1 = tensor("U8", &[HIDDEN, 16], vec![0; HIDDEN * 16]);
        parts[1].1 = tensor("F8_E4M3", &[HIDDEN, 2], vec![0x38; 128]);
    });
    assert!(error.contains("a multiple of 64"), "{error}");
    // A stored zero has no reciprocal.
    let dir = tempfile::tempdir().unwrap();
    let four = json!({"num_bits": 4, "type": "float", "group_size": 16});
    model(dir.path(), &group(four), parts(COMPRESSED, [0.0, 1.0]));
    let error = open(dir.path(), &Options::default()).unwrap_err().to_string();
    assert!(error.contains("a finite number that is not zero"), "{error}");
}
