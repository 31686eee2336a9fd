//! Products of a decoder do not allocate once they have run.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its matrices has failed")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use quant_core::GgmlType;
use quant_kernels::{Input, Kernels, Output, PackedMatrix, Parallel, Pool, Serial};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test of this program: others would allocate at the same time.
#[test]
fn products_with_few_columns_reuse_their_buffers() {
    let (experts, rows, cols) = (4, 70, 512);
    let w: Vec<f32> = (0..experts * rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
    let x: Vec<f32> = (0..8 * cols).map(|i| (i as f32 * 0.3).cos()).collect();
    let ids = [3, 1, 1, 0];
    let mut y = vec![0.0; 8 * rows];
    let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
    for ty in [GgmlType::Q4_K, GgmlType::Q8_0, GgmlType::F16] {
        let mut bytes = vec![0; w.len() / ty.block_len() * ty.block_bytes()];
        let of_rows = quant_core::formats::Rows { values: &w, row_len: cols, importance: None };
        Kernels::best().quantize_unchecked(ty, of_rows, &mut bytes).unwrap();
        let all = PackedMatrix::pack_experts(ty, experts, rows, cols, &bytes).unwrap();
        let one = PackedMatrix::pack(ty, rows, cols, &bytes[..bytes.len() / experts]).unwrap();
        for kernels in Kernels::supported() {
            for pool in [&Serial as &dyn Parallel, &pool] {
                for n in [8, 1, 3] {
                    // A thread that has done none of the work before has no buffers yet.
                    let mut quiet = 0;
                    for _ in 0..1000 {
                        let before = ALLOCATIONS.load(Ordering::Relaxed);
                        let input = Input { values: &x, n, stride: cols };
                        let output = Output { values: &mut y, stride: rows };
                        one.matmul(kernels, pool, input, output).unwrap();
                        let input = Input { values: &x, n: 2, stride: cols };
                        let output = Output { values: &mut y, stride: rows };
                        all.matmul_experts(kernels, pool, input, &ids, 2, output).unwrap();
                        let allocates = ALLOCATIONS.load(Ordering::Relaxed) > before;
                        quiet = if allocates { 0 } else { quiet + 1 };
                        if quiet == 10 {
                            break;
                        }
                    }
                    assert_eq!(quiet, 10, "{} {ty} n {n}", kernels.isa().name());
                }
            }
        }
    }
}
