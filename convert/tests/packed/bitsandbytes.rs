//! Layers of bitsandbytes, made here from what its `QuantState` saves.

use super::*;

/// Values of a block, and of a block of magnitudes.
const BLOCK: usize = 64;
const OUTER: usize = 8;

const BLOCKS: usize = ROWS * COLUMNS / BLOCK;

/// Any table will do: that of the file counts.
fn table(code: u8) -> f32 {
    f32::from(code) / 8.0 - 0.75
}

fn four(i: usize) -> u8 {
    code(i / COLUMNS, i % COLUMNS) & 15
}

fn settings() -> Value {
    json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false,
           "bnb_4bit_quant_type": "nf4"})
}

fn layer(kind: &str, dtype: &'static str, nested: bool) -> Vec<(&'static str, Tensor)> {
    let pairs: Vec<u8> =
        (0..ROWS * COLUMNS / 2).map(|i| four(2 * i) << 4 | four(2 * i + 1)).collect();
    let size = if dtype == "U8" { 1 } else { 2 };
    let mut state = json!({"quant_type": kind, "blocksize": BLOCK, "dtype": "bfloat16",
                           "shape": [ROWS, COLUMNS]});
    let state_name = match kind {
        "nf4" => "weight.quant_state.bitsandbytes__nf4",
        _ => "weight.quant_state.bitsandbytes__fp4",
    };
    let mut parts = vec![
        ("weight", tensor(dtype, &[pairs.len() / size, 1], pairs)),
        ("weight.quant_map", floats(&[16], (0..16).map(table))),
    ];
    if nested {
        state["nested_blocksize"] = OUTER.into();
        state["nested_dtype"] = "float32".into();
        state["nested_offset"] = 0.25.into();
        let codes = (0..BLOCKS).map(|i| (i * 7) as u8).collect();
        parts.push(("weight.absmax", tensor("U8", &[BLOCKS], codes)));
        parts.push(("weight.nested_quant_map", floats(&[256], (0..256).map(|i| i as f32 / 256.0))));
        let outer = (0..BLOCKS.div_ceil(OUTER)).map(scale);
        parts.push(("weight.nested_absmax", floats(&[BLOCKS.div_ceil(OUTER)], outer)));
    } else {
        parts.push(("weight.absmax", floats(&[BLOCKS], (0..BLOCKS).map(scale))));
    }
    let state = state.to_string().into_bytes();
    parts.push((state_name, tensor("U8", &[state.len()], state)));
    parts
}

/// The parts of a layer by their names.
type Parts = Vec<(&'static str, Tensor)>;

#[test]
fn codes_of_bitsandbytes_are_looked_up_in_its_tables() {
    let plain = |row: usize, column: usize| {
        let i = row * COLUMNS + column;
        table(four(i)) * scale(i / BLOCK)
    };
    let nested = |row: usize, column: usize| {
        let i = row * COLUMNS + column;
        let block = i / BLOCK;
        let absmax = f32::from((block * 7) as u8) / 256.0 * scale(block / OUTER) + 0.25;
        table(four(i)) * absmax
    };
    let eight = json!({"quant_method": "bitsandbytes", "load_in_8bit": true});
    let rows = vec![
        ("weight", codes("I8")),
        ("SCB", floats(&[ROWS], (0..ROWS).map(scale))),
        ("weight_format", tensor("U8", &[], vec![0])),
    ];
    let by_row =
        |row: usize, column: usize| f32::from(code(row, column) as i8) * scale(row) * 7.874_016e-3;
    assert_restored(vec![
        ("NF4", settings(), layer("nf4", "U8", false), Box::new(plain)),
        ("NF4, nested", settings(), layer("nf4", "U8", true), Box::new(nested)),
        ("FP4", settings(), layer("fp4", "U8", false), Box::new(plain)),
        ("stored as BF16", settings(), layer("nf4", "BF16", true), Box::new(nested)),
        ("eight bits", eight, rows, Box::new(by_row)),
    ]);
}

#[test]
fn damaged_layers_of_bitsandbytes_are_refused() {
    let refused = |damage: &dyn Fn(&mut Parts)| {
        let mut parts = layer("nf4", "U8", true);
        damage(&mut parts);
        super::refused(&settings(), &parts)
    };
    let without = |name: &'static str| refused(&|parts| parts.retain(|(part, _)| *part != name));
    for name in ["weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map"] {
        let message = without(name);
        assert!(message.contains(name) && message.contains("no such tensor"), "{message}");
    }
    let message = without("weight.quant_state.bitsandbytes__nf4");
    assert!(message.contains("codes without a description"), "{message}");
    let message = without("weight.absmax");
    assert!(message.contains("down_proj.weight") && message.contains("[3072, 1]"), "{message}");
    let state = |text: &'static str| {
        refused(&|parts| {
            let (_, state) = parts.last_mut().unwrap();
            *state = tensor("U8", &[text.len()], text.as_bytes().to_vec());
        })
    };
    assert!(state("[]").contains("a JSON object with blocksize and shape"));
    assert!(state(r#"{"blocksize": 0, "shape": [64, 96]}"#).contains("positive sizes"));
    assert!(state(r#"{"blocksize": 64, "shape": [96]}"#).contains("found 1 dimensions"));
    assert!(
        state(r#"{"blocksize": 64, "shape": [64, 64]}"#).contains("2048 for a weight [64, 64]")
    );
    assert!(state(r#"{"blocksize": 64, "shape": [64, 96]}"#).contains("no nested_blocksize"));
    // Columns in the order of a matrix unit.
    let columns = vec![
        ("weight", codes("I8")),
        ("SCB", floats(&[ROWS], (0..ROWS).map(scale))),
        ("weight_format", tensor("U8", &[], vec![1])),
    ];
    let message = super::refused(&settings(), &columns);
    assert!(message.contains("weight_format") && message.contains("found [1]"), "{message}");
}
