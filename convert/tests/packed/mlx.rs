//! Layers of MLX.

use super::*;

#[test]
fn mlx_layers_are_read_llama_cpp_14467() {
    let mut cases: Vec<Case> = Vec::new();
    for bits in [2, 3, 4, 5, 6, 8] {
        let mask = (1u32 << bits) - 1;
        let value = move |row: usize, column: usize| {
            let group = row * 3 + column / 32;
            (u32::from(code(row, column)) & mask) as f32 * scale(group) - scale(group + 7)
        };
        let own = json!({"group_size": 64, "bits": 4, DOWN: {"group_size": 32, "bits": bits}});
        for (what, config) in [("of all", json!({"group_size": 32, "bits": bits})), ("own", own)] {
            cases.push((what, config, mlx(ROWS, COLUMNS, bits, 32), Box::new(value)));
        }
    }
    assert_restored(cases);
    let message = refused(&json!({"group_size": 64, "bits": 4}), &mlx(ROWS, COLUMNS, 4, 32));
    assert!(message.contains("3 groups of 64 codes of 4 bits by config.json"), "{message}");
}

#[test]
fn mlx_stacks_of_experts_become_experts() {
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = Tensors::new();
    // One that is left alone.
    let up = (0..4 * 96 * 64).map(scale);
    tensors.insert(format!("{EXPERTS}.switch_mlp.up_proj.weight"), floats(&[4, 96, 64], up));
    for (part, rows, columns) in [("gate", 96, 64), ("down", 64, 96)] {
        for (name, (dtype, shape, bytes)) in mlx(4 * rows, columns, 4, 32) {
            let shape = vec![4, shape[0] / 4, shape[1]];
            let name = format!("{EXPERTS}.switch_mlp.{part}_proj.{name}");
            tensors.insert(name, (dtype, shape, bytes));
        }
    }
    mixture(dir.path(), json!({"group_size": 32, "bits": 4}), tensors);
    let found = restored(dir.path(), "blk.0.ffn_down_exps.weight").unwrap();
    assert_eq!(found.len(), 4 * ROWS * COLUMNS);
    for (i, found) in found.into_iter().enumerate() {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        let group = row * 3 + column / 32;
        let expected = f32::from(code(row, column) & 15) * scale(group) - scale(group + 7);
        assert_eq!(found, expected, "row {row}, column {column}");
    }
    let up = restored(dir.path(), "blk.0.ffn_up_exps.weight").unwrap();
    assert!(up.into_iter().enumerate().all(|(i, found)| found == scale(i)));
}
