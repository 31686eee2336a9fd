//! Matrix products against double precision, on every instruction set and arbitrary shapes.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod products;

use products::{Case, check, multipliable, quantize, values};
use std::num::NonZeroUsize;

use proptest::prelude::*;
use quant_core::GgmlType;
use quant_kernels::{
    Input, Kernels, MatrixError, Output, PackedMatrix, PackedMemory, Pool, Serial,
};

fn cases() -> impl Strategy<Value = Case> {
    let scale = || prop_oneof![3 => Just(1.0f32), 1 => Just(1e-3f32), 1 => Just(1e3f32)];
    let wide = prop_oneof![
        4 => Just(1.0f32),
        1 => Just(1e-25f32),
        1 => Just(1e25f32),
        1 => Just(1e-37f32),
        1 => Just(1e-41f32),
    ];
    (
        prop_oneof![Just(1usize), 1usize..80, 120usize..140],
        prop_oneof![1usize..40, 256usize..1400, Just(512usize)],
        prop_oneof![1usize..30, Just(1usize), 40usize..60],
        0usize..3,
        0usize..3,
        (scale(), wide),
        any::<u32>(),
    )
        .prop_map(|(rows, cols, n, x_gap, y_gap, (w_scale, x_scale), seed)| Case {
            rows,
            cols,
            n,
            x_gap,
            y_gap,
            w_scale,
            x_scale,
            seed: u64::from(seed),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(20)))]

    #[test]
    fn products_are_near_double_precision(case in cases()) {
        let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
        for kernels in Kernels::supported() {
            for ty in multipliable() {
                if let Err(message) = check(&case, ty, kernels, &pool) {
                    prop_assert!(false, "{message}");
                }
            }
        }
    }
}

#[test]
fn every_number_of_columns() {
    // Few, many, and each way of dividing them into tiles.
    for n in (0..=10).chain([13, 15, 20]) {
        let (rows, cols) = (37, 768);
        let case = Case { rows, cols, n, x_gap: 1, y_gap: 1, w_scale: 1.0, x_scale: 1.0, seed: 5 };
        for kernels in Kernels::supported() {
            for ty in multipliable() {
                check(&case, ty, kernels, &Serial).unwrap();
            }
        }
    }
}

#[test]
fn the_largest_codes_and_inputs_have_room() {
    for kernels in Kernels::supported() {
        for ty in multipliable().filter(|ty| ty.is_quantized()) {
            products::check_extremes(ty, kernels).unwrap();
        }
    }
}

/// Panels of floats are made for some hundreds of rows and multiplied with some hundreds of columns.
#[test]
fn floats_of_several_blocks() {
    let (rows, cols, n) = (600, 290, 523);
    let (w, x) = (values(1, rows * cols, 1.0), values(2, n * cols, 1.0));
    for ty in multipliable().filter(|ty| !ty.is_quantized()) {
        let bytes = quantize(ty, &w, cols);
        let mut restored = vec![0.0; w.len()];
        quant_core::dequantize(ty, &bytes, &mut restored).unwrap();
        let packed = PackedMatrix::pack(ty, rows, cols, &bytes).unwrap();
        for kernels in Kernels::supported() {
            let mut y = vec![f32::NAN; n * rows];
            packed.matmul_into(kernels, &Serial, &x, &mut y).unwrap();
            assert!(y.iter().all(|y| y.is_finite()));
            for i in [0, 1, 5, 509, 510, 511, 512, 516, 521, 522] {
                for r in 0..rows {
                    let (w, x) = (&restored[r * cols..][..cols], &x[i * cols..][..cols]);
                    let products = w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (expected, found): (f64, _) = (products.sum(), f64::from(y[i * rows + r]));
                    let isa = kernels.isa().name();
                    let near = (found - expected).abs() < 1e-4;
                    assert!(near, "{isa} {ty} row {r} column {i}: {found}, not {expected}");
                }
            }
        }
    }
}

/// Matrices that share memory are what they are alone, whether they find room or not, and when the others
/// are gone.
#[test]
fn matrices_in_reserved_memory_are_the_same() {
    let types = [GgmlType::Q8_0, GgmlType::F16, GgmlType::Q4_K, GgmlType::IQ4_NL];
    for room in [0, 3 << 20, 64 << 20] {
        let mut memory = PackedMemory::reserve(room);
        let mut kept = Vec::new();
        for (i, &ty) in types.iter().cycle().take(24).enumerate() {
            let (experts, rows, cols) = (1 + i % 2, 100 + i, 1024);
            let bytes = quantize(ty, &values(i as u64, experts * rows * cols, 1.0), cols);
            let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
            let shared =
                PackedMatrix::pack_experts_in(&mut memory, &pool, ty, experts, rows, cols, &bytes);
            let alone = PackedMatrix::pack_experts(ty, experts, rows, cols, &bytes).unwrap();
            kept.push((shared.unwrap(), alone));
        }
        drop(memory);
        let mut others = kept.split_off(12);
        others.retain(|(shared, _)| shared.ggml_type() == Some(GgmlType::F16));
        for (shared, alone) in kept.iter().chain(&others) {
            assert_eq!(shared.packed_bytes(), alone.packed_bytes());
            assert_eq!(shared.unpack(), alone.unpack());
            assert_eq!(shared.clone().unpack(), alone.unpack());
        }
    }
}

#[test]
fn experts_are_gathered() {
    let (experts, rows, cols, n, used) = (5, 20, 256, 13, 2);
    let w = values(1, experts * rows * cols, 1.0);
    let bytes = quantize(GgmlType::Q6_K, &w, cols);
    let packed = PackedMatrix::pack_experts(GgmlType::Q6_K, experts, rows, cols, &bytes).unwrap();
    assert!(packed.unpack() == bytes);
    let x = values(2, n * cols, 1.0);
    // Expert 4 is popular, expert 2 has no input.
    let ids: Vec<u32> = (0..n * used).map(|i| [4, 0, 4, 1, 3, 4][i % 6]).collect();
    for kernels in Kernels::supported() {
        let mut y = vec![0.0; n * used * rows];
        let input = Input { values: &x, n, stride: cols };
        let output = Output { values: &mut y, stride: rows };
        packed.matmul_experts(kernels, &Serial, input, &ids, used, output).unwrap();
        for (i, &id) in ids.iter().enumerate() {
            let one = &bytes[id as usize * bytes.len() / experts..][..bytes.len() / experts];
            let one = PackedMatrix::pack(GgmlType::Q6_K, rows, cols, one).unwrap();
            let mut expected = vec![0.0; rows];
            let input = Input { values: &x[i / used * cols..], n: 1, stride: cols };
            let output = Output { values: &mut expected, stride: rows };
            one.matmul(kernels, &Serial, input, output).unwrap();
            for (found, expected) in y[i * rows..][..rows].iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
        let input = Input { values: &x, n, stride: cols };
        let mut bad = ids.clone();
        bad[7] = 5;
        let output = Output { values: &mut y, stride: rows };
        let error = packed.matmul_experts(kernels, &Serial, input, &bad, used, output);
        assert_eq!(error, Err(MatrixError::Expert { index: 7, expert: 5, experts: 5 }));
        let output = Output { values: &mut y, stride: rows };
        let error = packed.matmul_experts(kernels, &Serial, input, &ids[1..], used, output);
        assert!(matches!(error, Err(MatrixError::Short { what: "ids", .. })));
        let output = Output { values: &mut y, stride: rows };
        let error = packed.matmul(kernels, &Serial, input, output);
        assert_eq!(error, Err(MatrixError::NeedsIds { experts: 5 }));
    }
}

/// Rows of a table, dense products, stored activations and files: of each format, the same as the longer
/// way.
#[test]
fn conveniences_agree_with_the_longer_way() {
    let (kernels, experts, rows, n) = (Kernels::best(), 2, 21, 3);
    for ty in multipliable() {
        let cols = 256 * ty.block_len().div_ceil(256);
        let bytes = quantize(ty, &values(7, experts * rows * cols, 1.0), cols);
        let mut restored = vec![0.0; experts * rows * cols];
        quant_core::dequantize(ty, &bytes, &mut restored).unwrap();
        let packed = PackedMatrix::pack_experts(ty, experts, rows, cols, &bytes).unwrap();
        let ids = [41, 0, 16, 15, 20, 21, 0];
        let mut found = vec![0.0; ids.len() * cols];
        packed.dequantize_rows(kernels, &ids, &mut found).unwrap();
        for (found, id) in found.chunks_exact(cols).zip(ids) {
            assert!(found == &restored[id as usize * cols..][..cols], "{ty} {id}");
        }
        let error = packed.dequantize_rows(kernels, &[3, 42], &mut found).unwrap_err();
        assert_eq!(error, MatrixError::Row { index: 1, row: 42, rows: 42 });
        let error = packed.dequantize_rows(kernels, &ids[1..], &mut found).unwrap_err();
        assert!(matches!(error, MatrixError::Short { what: "out", .. }), "{error}");

        let mut file = Vec::new();
        packed.write_to(&mut file).unwrap();
        let read = PackedMatrix::read_from(&mut &file[..]).unwrap();
        assert!(read.unpack() == bytes && read.experts() == experts && read.rows() == rows);
        assert_eq!((read.cols(), read.ggml_type()), (cols, Some(ty)));
        for len in [0, 7, 47, 48, file.len() - 1] {
            let error = PackedMatrix::read_from(&mut &file[..len]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{len}");
        }

        let one = PackedMatrix::pack(ty, rows, cols, &bytes[..bytes.len() / experts]).unwrap();
        let x: Vec<f32> = values(8, n * cols, 1.0).iter().map(|x| (x * 160.0).round()).collect();
        let mut expected = vec![0.0; n * rows];
        let input = Input { values: &x, n, stride: cols };
        let output = Output { values: &mut expected, stride: rows };
        one.clone().matmul(kernels, &Serial, input, output).unwrap();
        let mut y = vec![0.0; n * rows];
        one.matmul_into(kernels, &Serial, &x, &mut y).unwrap();
        assert!(y == expected);
        for stored in [GgmlType::F32, GgmlType::F16, GgmlType::BF16] {
            let mut bytes = vec![0; x.len() * stored.block_bytes()];
            kernels.narrow(stored, &x, &mut bytes).unwrap();
            let mut y = vec![0.0; n * rows];
            one.matmul_stored(kernels, &Serial, stored, &bytes, &mut y).unwrap();
            // BF16 holds integers up to 256.
            assert!(y == expected, "{ty} {stored}");
            let error = one.matmul_stored(kernels, &Serial, stored, &bytes[1..], &mut y);
            assert!(matches!(error, Err(MatrixError::Ragged { .. })), "{error:?}");
        }
        let error = one.matmul_stored(kernels, &Serial, ty, &[], &mut []);
        assert_eq!(error.is_err(), ty.is_quantized());
        let error = one.matmul_into(kernels, &Serial, &x[1..], &mut y);
        assert_eq!(error, Err(MatrixError::Ragged { found: n * cols - 1, cols }));
        let error = one.matmul_into(kernels, &Serial, &x, &mut y[1..]);
        assert!(matches!(error, Err(MatrixError::Short { what: "y", .. })));
    }
}

#[test]
fn files_of_anything_else_are_refused() {
    let packed = PackedMatrix::pack(GgmlType::Q8_0, 3, 64, &[0; 3 * 68]).unwrap();
    let mut file = Vec::new();
    packed.write_to(&mut file).unwrap();
    assert!(PackedMatrix::read_from(&mut &file[..]).is_ok());
    // Magic, type, flags, experts, rows, columns.
    for (at, byte) in
        [(0, b'q'), (8, 24), (11, 1), (12, 1), (16, 1), (24, 0xff), (47, 0xff), (40, 63)]
    {
        let mut bad = file.clone();
        bad[at] = byte;
        let error = PackedMatrix::read_from(&mut &bad[..]).unwrap_err();
        let kind = error.kind();
        let large = at == 24 && kind == std::io::ErrorKind::UnexpectedEof;
        assert!(large || kind == std::io::ErrorKind::InvalidData, "{at}: {error}");
    }
    // Any bytes in its place: what is read can be multiplied.
    let mut state = 9u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize
    };
    let mut read = 0;
    for _ in 0..2000 {
        let mut bytes = file.clone();
        for _ in 0..1 + next() % 3 {
            let at = [8, 16, 24, 32, 40, 48 + next() % (bytes.len() - 48)][next() % 6];
            bytes[at] = next() as u8 & 0x7f;
        }
        let Ok(matrix) = PackedMatrix::read_from(&mut &bytes[..]) else { continue };
        read += 1;
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let (x, mut y) = (vec![0.5; 2 * cols], vec![0.0; 2 * rows]);
        let product = matrix.matmul_into(Kernels::best(), &Serial, &x, &mut y);
        // Without columns, no inputs are no rows.
        assert_eq!(product.is_ok(), matrix.experts() == 1 && (cols > 0 || rows == 0));
        assert!(matrix.unpack().len() <= matrix.packed_bytes());
    }
    assert!(read > 50, "{read}");
    // A header alone that asks for the whole address space: memory is not taken.
    let mut huge = file.clone();
    huge.truncate(48);
    huge[24..48].fill(0);
    (huge[24], huge[36], huge[44]) = (1, 1, 1);
    assert!(PackedMatrix::read_from(&mut &huge[..]).is_err());
    // Without rows, and with more columns than any row can have: found by fuzzing.
    huge[32..48].fill(0);
    huge[40..48].copy_from_slice(&(u64::MAX - 31).to_le_bytes());
    assert!(PackedMatrix::read_from(&mut &huge[..]).is_err());
}

#[test]
fn seeds_of_the_fuzzer_are_packed_matrices() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/packed_matrix");
    let mut read = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let path = seed.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let matrix = PackedMatrix::read_from(&mut &bytes[..]);
        assert!(matrix.is_ok(), "{}: {matrix:?}", path.display());
        read += 1;
    }
    assert!(read > 0);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let ty = GgmlType::Q4_K;
    let bytes = vec![0; 3 * 144];
    assert!(matches!(PackedMatrix::pack(ty, 3, 255, &bytes), Err(MatrixError::Format(_))));
    assert!(matches!(PackedMatrix::pack(ty, 4, 256, &bytes), Err(MatrixError::Format(_))));
    assert!(matches!(PackedMatrix::pack(ty, 3, 256, &bytes[1..]), Err(MatrixError::Format(_))));
    let huge = PackedMatrix::pack(ty, usize::MAX, usize::MAX & !255, &bytes);
    assert_eq!(huge.unwrap_err(), MatrixError::TooLarge);
    let other = PackedMatrix::pack(GgmlType::I32, 1, 1, &[0; 4]);
    assert!(matches!(other, Err(MatrixError::Format(_))));
    // Any row length fits no rows.
    assert!(PackedMatrix::pack(ty, usize::MAX, 0, &[]).is_ok());

    // No columns: the product is zero.
    for kernels in Kernels::supported() {
        for ty in multipliable() {
            let packed = PackedMatrix::pack(ty, 20, 0, &[]).unwrap();
            for n in [1, 12] {
                let mut y = vec![7.0; n * 20];
                let x = Input { values: &[], n, stride: 0 };
                let y_out = Output { values: &mut y, stride: 20 };
                packed.matmul(kernels, &Serial, x, y_out).unwrap();
                assert!(y.iter().all(|&y| y == 0.0));
            }
        }
    }

    let packed = PackedMatrix::pack(ty, 3, 256, &bytes).unwrap();
    let kernels = Kernels::best();
    let mut x = vec![1.0; 512];
    let mut y = vec![5.0; 6];
    let run = |x: &[f32], n: usize, xs: usize, y: &mut [f32], ys: usize| {
        let x = Input { values: x, n, stride: xs };
        packed.matmul(kernels, &Serial, x, Output { values: y, stride: ys })
    };
    assert!(matches!(run(&x, 2, 255, &mut y, 3), Err(MatrixError::Stride { what: "x", .. })));
    assert!(matches!(run(&x, 2, 256, &mut y, 2), Err(MatrixError::Stride { what: "y", .. })));
    assert!(matches!(run(&x[1..], 2, 256, &mut y, 3), Err(MatrixError::Short { what: "x", .. })));
    assert!(matches!(run(&x, 2, 256, &mut y[1..], 3), Err(MatrixError::Short { what: "y", .. })));
    assert_eq!(run(&x, 2, usize::MAX, &mut y, 3), Err(MatrixError::TooLarge));
    x[300] = f32::NAN;
    assert!(matches!(run(&x, 2, 256, &mut y, 3), Err(MatrixError::Format(_))));
    assert_eq!(y, [5.0; 6]);
    assert_eq!(run(&[], 0, 0, &mut [], 0), Ok(()));
}
