//! Codes that become blocks as they are: see [llama.cpp#17083] and [ik_llama.cpp#1677].
//!
//! [llama.cpp#17083]: https://github.com/ggml-org/llama.cpp/pull/17083
//! [ik_llama.cpp#1677]: https://github.com/ikawrakow/ik_llama.cpp/issues/1677

use quant_convert::provenance;
use quant_core::{GgmlType, dequantize};

use super::*;

/// What was planned and written.
struct Written {
    file: GgufFile,
    carried: usize,
    recomputed: usize,
    inexact_scales: Option<u64>,
}

impl Written {
    fn ty(&self, name: &str) -> GgmlType {
        self.file.tensors.iter().find(|tensor| tensor.name == name).unwrap().ty
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensor = self.file.tensors.iter().find(|tensor| tensor.name == name).unwrap();
        let mut bytes = vec![0; tensor.bytes as usize];
        self.file.files[tensor.file].read_exact_at(&mut bytes, tensor.offset).unwrap();
        bytes
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let (ty, bytes) = (self.ty(name), self.bytes(name));
        let mut values = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
        dequantize(ty, &bytes, &mut values).unwrap();
        values
    }
}

fn options(file_type: Option<FileType>) -> Options {
    let request = Request { file_type, ..Request::default() };
    Options { request, no_sync: true, overwrite: true, ..Options::default() }
}

fn write(dir: &Path, options: &Options) -> Written {
    let output = dir.join("out.gguf");
    let plan = Plan::new(open(dir, options).unwrap(), options).unwrap();
    let carried = plan.tensors().filter(|tensor| tensor.carried).count();
    let recomputed = plan.tensors().filter(|tensor| tensor.recomputed).count();
    let scales = plan.inexact_scales();
    plan.run(&output, Control::default()).unwrap();
    let inexact_scales = scales.map(|scales| scales.count());
    let file = GgufFile::open(&output, &Limits::default()).unwrap();
    Written { file, carried, recomputed, inexact_scales }
}

/// A layer whose zero points are all this.
fn with_zero(layer: &Layer, zero: u8) -> Layer {
    Layer {
        zeros: vec![zero; layer.zeros.len()],
        codes: layer.codes.clone(),
        scales: layer.scales.clone(),
        groups: layer.groups.clone(),
        ..*layer
    }
}

impl Layer {
    /// As compressed-tensors packs it.
    fn by_rows(&self, bits: u32, has_zeros: bool) -> Vec<(&'static str, Tensor)> {
        let codes = |row: usize| &self.codes[row * self.columns..][..self.columns];
        let words: Vec<_> = (0..self.rows).flat_map(|row| stream(codes(row), bits)).collect();
        let width = words.len() / self.rows;
        let (groups, per_word) = (self.group_count(), 32 / bits as usize);
        let bytes = |words: Vec<u32>| words.into_iter().flat_map(u32::to_le_bytes).collect();
        let scales = self.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let shape = [self.rows as u64, self.columns as u64];
        let mut parts = vec![
            ("weight_packed", tensor("I32", &[self.rows, width], bytes(words))),
            ("weight_scale", tensor("F16", &[self.rows, groups], scales)),
            ("weight_shape", tensor("I64", &[2], shape.map(u64::to_le_bytes).concat())),
        ];
        if has_zeros {
            let word = |line: usize, group: usize| {
                (0..per_word).fold(0u32, |word, i| {
                    let zero = self.zeros[(line * per_word + i) * groups + group];
                    word | u32::from(zero) << (bits as usize * i)
                })
            };
            let lines = self.rows / per_word;
            let words = (0..lines).flat_map(|l| (0..groups).map(move |g| (l, g)));
            let words = words.map(|(line, group)| word(line, group)).collect();
            parts.push(("weight_zero_point", tensor("I32", &[lines, groups], bytes(words))));
        }
        parts
    }
}

#[test]
fn packed_codes_that_are_not_symmetric_need_their_zero_points() {
    let groups = |symmetric: bool| {
        json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP,
               "symmetric": symmetric})
    };
    let (packed, _) = checkpoint(4, false, |l| with_zero(l, 8).by_rows(4, false));
    for (symmetric, refused) in [(true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        save(&dir.path().join("model"), &packed, compressed("pack-quantized", groups(symmetric)));
        match convert(&dir.path().join("model"), &dir.path().join("out.gguf")) {
            Ok(_) => assert!(!refused),
            Err(error) => {
                let message = error.to_string();
                assert!(refused && message.contains("weight_zero_point"), "{message}");
            }
        }
    }
}

/// A way of packing: its name, what config.json says, and a packed and a plain checkpoint.
type Packing = (&'static str, Value, (Tensors, Tensors));

fn symmetric() -> Vec<Packing> {
    let auto_round = json!({"quant_method": "auto-round", "bits": 4, "sym": true,
                            "packing_format": "auto_round"});
    let awq = json!({"quant_method": "awq", "bits": 4, "version": "gemm"});
    let groups = json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP});
    let compressed = compressed("pack-quantized", groups);
    let version_2 = json!({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"});
    vec![
        ("GPTQ", gptq(4), checkpoint(4, false, |l| with_zero(l, 8).gptq(4, 1))),
        ("GPTQ v2", version_2, checkpoint(4, false, |l| with_zero(l, 8).gptq(4, 2))),
        ("AutoRound", auto_round, checkpoint(4, false, |l| with_zero(l, 8).gptq(4, 2))),
        ("AWQ", awq, checkpoint(4, false, |l| with_zero(l, 8).awq())),
        ("compressed", compressed, checkpoint(4, false, |l| with_zero(l, 8).by_rows(4, false))),
        // Three bits around a zero point of their own fit as well.
        ("GPTQ, 3 bits", gptq(3), checkpoint(3, false, |l| l.gptq(3, 1))),
    ]
}

fn asymmetric() -> Vec<Packing> {
    let awq = json!({"quant_method": "awq", "bits": 4, "version": "gemm"});
    let groups = json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP,
                        "symmetric": false});
    let compressed = compressed("pack-quantized", groups);
    vec![
        ("GPTQ", gptq(4), checkpoint(4, false, |l| l.gptq(4, 1))),
        ("AWQ", awq, checkpoint(4, false, Layer::awq)),
        ("compressed", compressed, checkpoint(4, false, |l| l.by_rows(4, true))),
    ]
}

/// A packed layer, and two whose rows are put in another order on the way.
const LAYERS: [&str; 3] = ["blk.0.ffn_down.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight"];

#[test]
fn symmetric_codes_become_the_very_values_of_q4_0_llama_cpp_17083() {
    for (i, (what, quantization, (packed, _))) in symmetric().into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &packed, quantization);
        let floats = write(dir.path(), &options(Some(FileType::F32)));
        assert_eq!((floats.carried, floats.recomputed), (0, 0), "{what}");
        // Every second with the one option, the others with the other.
        let file_type = (i % 2 == 0).then_some(FileType::Q4_0);
        let made = write(dir.path(), &options(file_type));
        assert_eq!((made.carried, made.recomputed), (14, 0), "{what}");
        assert_eq!(made.inexact_scales, Some(0), "{what}");
        assert_eq!(made.file.metadata.get_u64("general.file_type"), Some(2), "{what}");
        for name in LAYERS {
            assert_eq!(made.ty(name), GgmlType::Q4_0, "{what} {name}");
            assert!(made.values(name) == floats.values(name), "{what} {name}");
        }
        if i > 0 {
            continue;
        }
        // Through floats, as the reference has them, the values move.
        let like = Options { like_reference: true, ..options(Some(FileType::Q4_0)) };
        let like = write(dir.path(), &like);
        assert_eq!((like.carried, like.recomputed, like.inexact_scales), (0, 14, None), "{what}");
        assert!(like.values(LAYERS[0]) != floats.values(LAYERS[0]), "{what}");
    }
}

#[test]
fn codes_with_zero_points_become_those_of_q4_1() {
    for (what, quantization, (packed, _)) in asymmetric() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &packed, quantization);
        let floats = write(dir.path(), &options(Some(FileType::F32)));
        let file_type = (what != "AWQ").then_some(FileType::Q4_1);
        let made = write(dir.path(), &options(file_type));
        assert_eq!((made.carried, made.recomputed), (14, 0), "{what}");
        assert_eq!(made.file.metadata.get_u64("general.file_type"), Some(3), "{what}");
        for name in LAYERS {
            assert_eq!(made.ty(name), GgmlType::Q4_1, "{what} {name}");
            for (found, exact) in made.values(name).iter().zip(floats.values(name)) {
                // The minimum rounds to eleven bits: at most 16 steps of at most 0.008.
                assert!((found - exact).abs() <= 16.0 * 0.008 / 4096.0, "{what}: {found} {exact}");
            }
        }
        if what != "GPTQ" {
            continue;
        }
        // Codes that Q4_0 has no block for are restored, as they are where another type is asked for.
        let made = write(dir.path(), &options(Some(FileType::Q4_0)));
        assert_eq!((made.carried, made.recomputed), (0, 14), "{what}");
        assert_eq!(made.ty(LAYERS[0]), GgmlType::Q4_0, "{what}");
        let like = Options { like_reference: true, ..options(Some(FileType::Q4_0)) };
        assert!(write(dir.path(), &like).bytes(LAYERS[1]) == made.bytes(LAYERS[1]), "{what}");
    }
}

#[test]
fn columns_in_another_order_are_not_carried() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, _) = checkpoint(4, true, |l| with_zero(l, 8).gptq(4, 1));
    save(dir.path(), &packed, gptq(4));
    let made = write(dir.path(), &options(Some(FileType::Q4_0)));
    assert_eq!((made.carried, made.recomputed, made.inexact_scales), (0, 14, None));
    let like = Options { like_reference: true, ..options(Some(FileType::Q4_0)) };
    assert!(write(dir.path(), &like).bytes(LAYERS[1]) == made.bytes(LAYERS[1]));
    // Kept as they are, they are floats.
    let made = write(dir.path(), &options(None));
    assert_eq!((made.carried, made.recomputed), (0, 0));
    assert!(!made.ty(LAYERS[0]).is_quantized());
}

#[test]
fn codes_of_mlx_become_the_very_values_of_q4_1() {
    let dir = tempfile::tempdir().unwrap();
    // Scales and biases that half precision holds.
    for (bits, group) in [(4, 32), (3, 96)] {
        small(
            dir.path(),
            &json!({"group_size": group, "bits": bits}),
            &mlx(ROWS, COLUMNS, bits, group),
        );
        let floats = write(dir.path(), &options(Some(FileType::F32)));
        let made = write(dir.path(), &options(None));
        assert_eq!((made.carried, made.recomputed, made.inexact_scales), (1, 0, Some(0)));
        assert_eq!(made.ty(LAYERS[0]), GgmlType::Q4_1);
        assert!(made.values(LAYERS[0]) == floats.values(LAYERS[0]));
        assert_eq!(made.ty(LAYERS[1]), GgmlType::F32);
    }
    // No block has eight bits and a minimum.
    small(dir.path(), &json!({"group_size": 32, "bits": 8}), &mlx(ROWS, COLUMNS, 8, 32));
    let made = write(dir.path(), &options(Some(FileType::Q8_0)));
    assert_eq!((made.carried, made.recomputed), (0, 1));
}

#[test]
fn codes_of_eight_bits_become_the_very_values_of_q8_0() {
    let w8a8 = |strategy: &str| {
        let weights = json!({"num_bits": 8, "type": "int", "strategy": strategy});
        compressed("int-quantized", weights)
    };
    let with = |scales| vec![("weight", codes("I8")), ("weight_scale", scales)];
    let mut zeros = with(scales(&[ROWS, 1]));
    zeros.push(("weight_zero_point", tensor("I8", &[ROWS, 1], vec![0; ROWS])));
    let cases = [
        ("rows", w8a8("channel"), with(scales(&[ROWS, 1])), 0),
        ("one", w8a8("tensor"), with(scales(&[])), 0),
        ("groups", w8a8("group"), with(scales(&[ROWS, 3])), 0),
        ("zero points", w8a8("channel"), zeros, 0),
        (
            "GPTQ",
            gptq(8),
            {
                let mut layer = Layer::new(ROWS, 128, 8, false);
                layer.columns = COLUMNS;
                layer.groups = vec![0; COLUMNS];
                layer.codes.truncate(ROWS * COLUMNS);
                layer.scales.truncate(ROWS);
                layer.zeros = vec![128; ROWS];
                layer.gptq(8, 1)
            },
            0,
        ),
    ];
    for (what, quantization, parts, inexact) in cases {
        let dir = tempfile::tempdir().unwrap();
        small(dir.path(), &quantization, &parts);
        let floats = write(dir.path(), &options(Some(FileType::F32)));
        for file_type in [Some(FileType::Q8_0), None] {
            let made = write(dir.path(), &options(file_type));
            assert_eq!((made.carried, made.recomputed), (1, 0), "{what}");
            assert_eq!(made.inexact_scales, Some(inexact), "{what}");
            assert_eq!(made.ty(LAYERS[0]), GgmlType::Q8_0, "{what}");
            assert!(made.values(LAYERS[0]) == floats.values(LAYERS[0]), "{what}");
        }
    }
}

#[test]
fn blocks_whose_scale_is_not_exact_are_quantized_anew() {
    let weights = json!({"num_bits": 8, "type": "int", "strategy": "group", "group_size": 32});
    let config = compressed("int-quantized", weights);
    // Two scales that half precision does not hold, in rows beyond those that are looked at first.
    let scale = |i: usize| if [100, 191].contains(&i) { 0.1 } else { scale(i) };
    let scales = floats(&[ROWS, 3], (0..ROWS * 3).map(scale));
    let parts = [("weight", codes("I8")), ("weight_scale", scales)];
    let dir = tempfile::tempdir().unwrap();
    small(dir.path(), &config, &parts);
    let made = write(dir.path(), &options(Some(FileType::Q8_0)));
    assert_eq!((made.carried, made.recomputed, made.inexact_scales), (1, 0, Some(2)));
    let exact = write(dir.path(), &options(Some(FileType::F32))).values(LAYERS[0]);
    let like = Options { like_reference: true, ..options(Some(FileType::Q8_0)) };
    let like = write(dir.path(), &like).bytes(LAYERS[0]);
    let (values, bytes) = (made.values(LAYERS[0]), made.bytes(LAYERS[0]));
    for (i, (values, exact)) in values.chunks(32).zip(exact.chunks(32)).enumerate() {
        let block = i * 34..(i + 1) * 34;
        match [100, 191].contains(&i) {
            true => assert!(bytes[block.clone()] == like[block], "{i}"),
            false => assert!(values == exact, "{i}"),
        }
    }
    // None of these is exact: all is quantized anew, as the reference does.
    let scales = floats(&[ROWS, 3], vec![0.1; ROWS * 3]);
    small(dir.path(), &config, &[("weight", codes("I8")), ("weight_scale", scales)]);
    let made = write(dir.path(), &options(Some(FileType::Q8_0)));
    assert_eq!((made.carried, made.recomputed, made.inexact_scales), (0, 1, None));
}

#[test]
fn values_that_are_not_finite_are_refused_where_codes_are_carried() {
    let weights = json!({"num_bits": 8, "type": "int", "strategy": "channel"});
    let scales = (0..ROWS).map(|row| if row == 40 { f32::INFINITY } else { 0.5 });
    let parts = [("weight", codes("I8")), ("weight_scale", floats(&[ROWS, 1], scales))];
    let dir = tempfile::tempdir().unwrap();
    small(dir.path(), &compressed("int-quantized", weights), &parts);
    let options = options(Some(FileType::Q8_0));
    let plan = Plan::new(open(dir.path(), &options).unwrap(), &options).unwrap();
    let output = dir.path().join("out.gguf");
    let error = plan.run(&output, Control::default()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    assert!(!output.exists());
}

#[test]
fn files_of_carried_codes_prove_their_origin() {
    let dir = tempfile::tempdir().unwrap();
    let (packed, _) = checkpoint(4, false, |l| with_zero(l, 8).by_rows(4, false));
    let groups = json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP});
    save(dir.path(), &packed, compressed("pack-quantized", groups));
    let options = options(Some(FileType::Q4_0));
    // Carried, or as other programs make them.
    for like_reference in [false, true] {
        let options = Options { like_reference, ..options.clone() };
        write(dir.path(), &options);
        let source = open(dir.path(), &options).unwrap();
        let file = dir.path().join("out.gguf");
        let proof = provenance::prove(&file, &source, &options, Control::default()).unwrap();
        assert!(proof.is_complete(), "{:?}", proof.tensors);
    }
}
