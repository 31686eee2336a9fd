//! Any bytes as a packed matrix: no panic, what is read is written as it was, and it can be multiplied.
#![no_main]

use quant_kernels::{Kernels, PackedMatrix, Serial};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(matrix) = PackedMatrix::read_from(&mut &input[..]) else { return };
    let mut written = Vec::new();
    matrix.write_to(&mut written).unwrap();
    assert!(input.starts_with(&written));
    let (rows, cols, experts) = (matrix.rows(), matrix.cols(), matrix.experts());
    // Without bytes a matrix may have any number of rows.
    if rows > 1 << 12 || cols > 1 << 16 || experts > 1 << 12 {
        return;
    }
    assert!(matrix.unpack().len() <= written.len());
    for n in [1, 3] {
        let (x, mut y) = (vec![0.5; n * cols], vec![0.0; n * rows]);
        let product = matrix.matmul_into(Kernels::best(), &Serial, &x, &mut y);
        // Without columns, no inputs are no rows.
        assert_eq!(product.is_ok(), experts == 1 && (cols > 0 || rows == 0));
    }
    let mut row = vec![0.0; cols];
    let read = matrix.dequantize_rows(Kernels::best(), &[0], &mut row);
    assert_eq!(read.is_ok(), rows * experts > 0);
});
