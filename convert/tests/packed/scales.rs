//! Codes of eight bits, and scales of whole tensors, rows and blocks.

use super::*;

#[test]
fn int_quantized_layers_are_codes_times_scales_llama_cpp_17069() {
    let int = |row, column| f32::from(code(row, column) as i8);
    let w8a8 = |strategy: &str| {
        let weights = json!({"num_bits": 8, "type": "int", "strategy": strategy});
        compressed("int-quantized", weights)
    };
    let naive = compressed("naive-quantized", json!({"num_bits": 8, "type": "int"}));
    let zero = |row: usize| row as i8 - 20;
    let zeros = (0..ROWS).map(|row| zero(row) as u8).collect();
    let part = |name, scales| vec![("weight", codes("I8")), (name, scales)];
    let with = |more: &[(&'static str, Tensor)]| {
        let mut parts = part("weight_scale", scales(&[ROWS, 1]));
        parts.extend_from_slice(more);
        parts
    };
    let per_row = move |row, column| int(row, column) * scale(row);
    let alone = move |row, column| int(row, column) * scale(0);
    assert_restored(vec![
        ("rows", w8a8("channel"), with(&[]), Box::new(per_row)),
        ("naive", naive, with(&[]), Box::new(per_row)),
        (
            "a vector of rows",
            w8a8("channel"),
            part("weight_scale", scales(&[ROWS])),
            Box::new(per_row),
        ),
        ("a scalar", w8a8("tensor"), part("weight_scale", scales(&[])), Box::new(alone)),
        ("one of one", w8a8("tensor"), part("weight_scale", scales(&[1])), Box::new(alone)),
        ("a matrix of one", w8a8("tensor"), part("weight_scale", scales(&[1, 1])), Box::new(alone)),
        (
            "groups",
            w8a8("group"),
            part("weight_scale", scales(&[ROWS, 3])),
            Box::new(move |row, column| int(row, column) * scale(row * 3 + column / 32)),
        ),
        (
            "zero points",
            w8a8("channel"),
            with(&[("weight_zero_point", tensor("I8", &[ROWS, 1], zeros))]),
            Box::new(move |row, column| (int(row, column) - f32::from(zero(row))) * scale(row)),
        ),
        (
            "static activation scales",
            w8a8("channel"),
            with(&[
                ("input_scale", scales(&[1])),
                ("input_zero_point", tensor("I8", &[1], vec![3])),
                ("output_scale", scales(&[])),
            ]),
            Box::new(per_row),
        ),
    ]);
    // Neighbours that are refused, by name.
    let message = refused(&w8a8("channel"), &part("weight_scale", scales(&[ROWS, 3])));
    assert!(message.contains("down_proj.weight_scale\" of shape [64, 3]"), "{message}");
    let message = refused(&w8a8("channel"), &[("weight", codes("I8"))]);
    assert!(message.contains("type I8 without scales"), "{message}");
    let zeros = tensor("I8", &[ROWS / 2], vec![0; ROWS / 2]);
    let message = refused(&w8a8("channel"), &with(&[("weight_zero_point", zeros)]));
    assert!(message.contains("weight_zero_point"), "{message}");
    let message = refused(&Value::Null, &with(&[]));
    assert!(message.contains("type I8, expected F32, F16 or BF16"), "{message}");
}

#[test]
fn codes_that_are_not_symmetric_need_their_zero_points() {
    let weights = |symmetric: bool| json!({"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": symmetric});
    let group = |symmetric| json!({"targets": ["Linear"], "weights": weights(symmetric)});
    let both = json!({
        "quant_method": "compressed-tensors", "format": "int-quantized",
        "config_groups": {"a": group(false), "b": group(true)},
    });
    let eight = [("weight", codes("I8")), ("weight_scale", scales(&[ROWS, 1]))];
    let message = refused(&compressed("int-quantized", weights(false)), &eight);
    assert!(message.contains("without zero points"), "{message}");
    assert!(message.contains("down_proj.weight_zero_point"), "{message}");
    // Of which group a layer is, only its name tells: one that may be symmetric is read.
    for quantization in [both, compressed("int-quantized", weights(true))] {
        let dir = tempfile::tempdir().unwrap();
        small(dir.path(), &quantization, &eight);
        assert!(restored(dir.path(), "blk.0.ffn_down.weight").is_ok(), "{quantization}");
    }
}

#[test]
fn fp8_scales_have_either_name_and_any_shape_llama_cpp_23124() {
    // 1, -1, 1.5, the largest and a small value of E4M3.
    const CODES: [(u8, f32); 5] =
        [(0x38, 1.0), (0xb8, -1.0), (0x3c, 1.5), (0x7e, 448.0), (0x08, 0.015_625)];
    let fp8 = |row: usize, column: usize| CODES[(row + column * 3) % 5];
    let bytes = (0..ROWS * COLUMNS).map(|i| fp8(i / COLUMNS, i % COLUMNS).0).collect();
    let weight = ("weight", tensor("F8_E4M3", &[ROWS, COLUMNS], bytes));
    let value = move |row, column| fp8(row, column).1;
    let method = |more: Value| {
        let mut config = json!({"quant_method": "fp8", "activation_scheme": "static"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let float = |strategy: &str| {
        let weights = json!({"num_bits": 8, "type": "float", "strategy": strategy});
        compressed("float-quantized", weights)
    };
    let with =
        |name, scales| vec![weight.clone(), (name, scales), ("input_scale", floats(&[], [2.0]))];
    let alone = move |row, column| value(row, column) * scale(0);
    let per_row = move |row, column| value(row, column) * scale(row);
    let none = json!({});
    let blocks = json!({"weight_block_size": [16, 48]});
    let in_blocks =
        move |row: usize, column| value(row, column) * scale(row / 16 * 2 + column / 48);
    let block = json!({"num_bits": 8, "type": "float", "strategy": "block",
                       "block_structure": [16, 48]});
    let block = compressed("float-quantized", block);
    assert_restored(vec![
        ("scalar", method(none.clone()), with("weight_scale", scales(&[])), Box::new(alone)),
        ("[1]", method(none.clone()), with("weight_scale", scales(&[1])), Box::new(alone)),
        ("[1, 1]", method(none.clone()), with("weight_scale", scales(&[1, 1])), Box::new(alone)),
        ("inverse", method(none.clone()), with("weight_scale_inv", scales(&[])), Box::new(alone)),
        ("rows", method(none), with("weight_scale", scales(&[ROWS, 1])), Box::new(per_row)),
        (
            "blocks",
            method(blocks.clone()),
            with("weight_scale_inv", scales(&[4, 2])),
            Box::new(in_blocks),
        ),
        (
            "blocks, scale",
            method(blocks),
            with("weight_scale", scales(&[4, 2])),
            Box::new(in_blocks),
        ),
        (
            "fbgemm",
            json!({"quant_method": "fbgemm_fp8"}),
            with("weight_scale", scales(&[ROWS, 1])),
            Box::new(per_row),
        ),
        ("tensor strategy", float("tensor"), with("weight_scale", scales(&[1])), Box::new(alone)),
        (
            "channel strategy",
            float("channel"),
            with("weight_scale", scales(&[ROWS])),
            Box::new(per_row),
        ),
        ("block strategy", block, with("weight_scale", scales(&[4, 2])), Box::new(in_blocks)),
    ]);
    let message = refused(&method(json!({})), &with("weight_scale", scales(&[4, 2])));
    assert!(message.contains("expected one scale or one for each of 64 rows"), "{message}");
}

#[test]
fn scales_for_whole_tensors_and_rows_of_packed_codes_have_any_shape() {
    let words = |row: usize| stream(&(0..COLUMNS).map(|c| code(row, c)).collect::<Vec<_>>(), 8);
    let packed = (0..ROWS).flat_map(words).flat_map(u32::to_le_bytes).collect();
    let shape = [ROWS as u64, COLUMNS as u64].into_iter().flat_map(u64::to_le_bytes).collect();
    let with = |scales: Tensor| {
        vec![
            ("weight_packed", tensor("I32", &[ROWS, COLUMNS / 4], Vec::clone(&packed))),
            ("weight_scale", scales),
            ("weight_shape", tensor("I64", &[2], Vec::clone(&shape))),
        ]
    };
    let config = compressed("pack-quantized", json!({"num_bits": 8, "type": "int"}));
    let value = |row, column| f32::from(code(row, column)) - 128.0;
    let alone = move |row, column| value(row, column) * scale(0);
    let per_row = move |row, column| value(row, column) * scale(row);
    assert_restored(vec![
        ("scalar", config.clone(), with(scales(&[])), Box::new(alone)),
        ("[1]", config.clone(), with(scales(&[1])), Box::new(alone)),
        ("[1, 1]", config.clone(), with(scales(&[1, 1])), Box::new(alone)),
        ("[rows]", config.clone(), with(scales(&[ROWS])), Box::new(per_row)),
        ("[rows, 1]", config, with(scales(&[ROWS, 1])), Box::new(per_row)),
    ]);
}
