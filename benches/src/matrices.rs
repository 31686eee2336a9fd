//! Matrices for the benchmarks of matrix kernels.

use quant_core::GgmlType;
use quant_kernels::PackedMatrix;

/// The types with matrix kernels.
pub const TYPES: [GgmlType; 13] = [
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::F32,
];

/// Whether the command line names the type, or none.
pub fn chosen(ty: GgmlType) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    names.is_empty() || names.iter().any(|name| GgmlType::from_name(name) == Some(ty))
}

/// The bytes of `rows` rows of `cols` weights: sixteen different rows, repeated.
///
/// # Panics
/// If the type cannot be quantized or the row is not whole blocks.
pub fn bytes(ty: GgmlType, rows: usize, cols: usize) -> Vec<u8> {
    let few = match quant_core::quantize(ty, &crate::weights(16 * cols), cols, None) {
        Ok(few) => few,
        Err(error) => panic!("{error}"),
    };
    few.iter().copied().cycle().take(rows * few.len() / 16).collect()
}

/// [`bytes`], packed.
///
/// # Panics
/// As [`bytes`].
pub fn packed(ty: GgmlType, rows: usize, cols: usize) -> PackedMatrix {
    match PackedMatrix::pack(ty, rows, cols, &bytes(ty, rows, cols)) {
        Ok(packed) => packed,
        Err(error) => panic!("{error}"),
    }
}
