//! Threads: every part of a task runs, whatever the tasks do, and products are the same on any. And the
//! memory of packed weights.

#![allow(clippy::unwrap_used, reason = "a test that cannot start its threads has failed")]

/// Tested here, because the library has no unit tests: they would compile all of it again.
#[path = "../src/matrix/memory.rs"]
#[allow(unreachable_pub, reason = "it is public in the library")]
mod memory;
mod products;

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use products::{quantize, values};
use quant_core::GgmlType;
use quant_kernels::{Input, Kernels, MatrixError, Output, PackedMatrix, Parallel, Pool, Serial};

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

/// Fails instead of waiting for ever.
fn must_end(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("the pool must not wait for itself");
}

/// Runs a task and checks that each part ran once.
fn all_parts_run(pool: &Pool) {
    let counts: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
    pool.run(&|part| {
        counts[part].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_part_runs_once() {
    for threads in [1, 2, 3, 8] {
        let pool = pool(threads);
        assert_eq!(pool.threads(), threads);
        (0..200).for_each(|_| all_parts_run(&pool));
    }
}

/// More threads than cores, which park between some of the tasks: who is late must be waited for only if he
/// has begun.
#[test]
fn threads_that_are_late_miss_nothing() {
    must_end(|| {
        let pool = pool(16);
        for task in 0..2000 {
            all_parts_run(&pool);
            if task % 500 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
}

#[test]
fn more_threads_than_a_ticket_counts_are_refused() {
    let error = Pool::new(NonZeroUsize::new(1 << 16).unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("65536 threads are too many"), "{error}");
}

#[test]
fn a_task_may_run_tasks() {
    must_end(|| {
        for threads in [1, 2, 4] {
            let (outer, other) = (pool(threads), pool(2));
            let count = AtomicUsize::new(0);
            outer.run(&|_| {
                outer.run(&|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                other.run(&|_| outer.run(&|_| all_parts_run(&outer)));
            });
            assert_eq!(count.load(Ordering::Relaxed), threads * threads);
            all_parts_run(&outer);
        }
    });
}

#[test]
fn threads_share_a_pool() {
    must_end(|| {
        let pool = pool(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| all_parts_run(&pool)));
            }
        });
    });
}

#[test]
fn a_panic_reaches_the_caller_and_no_one_else() {
    must_end(|| {
        let pool = pool(3);
        for guilty in [&[0][..], &[1], &[2], &[0, 2], &[0, 1, 2]] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|part| {
                    if guilty.contains(&part) {
                        std::panic::panic_any(part);
                    }
                });
            }));
            let part = *result.unwrap_err().downcast::<usize>().unwrap();
            assert!(guilty.contains(&part), "part {part} was innocent");
            all_parts_run(&pool);
        }
        // A panic in a task within a task is one of the outer task.
        let nested = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|_| pool.run(&|part| assert!(part != 1, "nested")));
        }));
        assert_eq!(*nested.unwrap_err().downcast::<&str>().unwrap(), "nested");
        all_parts_run(&pool);
    });
}

#[test]
fn threads_do_not_change_the_result() {
    let (rows, cols, n) = (300, 512, 11);
    let bytes = quantize(GgmlType::Q4_K, &values(1, rows * cols, 1.0), cols);
    let packed = PackedMatrix::pack(GgmlType::Q4_K, rows, cols, &bytes).unwrap();
    let x = values(2, n * cols, 1.0);
    let product = |pool: &dyn Parallel| {
        let mut y = vec![0.0; n * rows];
        let x = Input { values: &x, n, stride: cols };
        packed.matmul(Kernels::best(), pool, x, Output { values: &mut y, stride: rows }).unwrap();
        y
    };
    let expected = product(&Serial);
    for threads in [1, 2, 3, 7] {
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
        for _ in 0..50 {
            assert!(product(&pool) == expected, "{threads} threads");
        }
    }
}

/// Many activations are checked and quantized by all threads. Buffers are used again, by products with
/// more and with fewer columns.
#[test]
fn threads_that_quantize_do_not_change_the_result() {
    let (rows, cols) = (70, 512);
    for ty in [GgmlType::Q8_0, GgmlType::Q4_K, GgmlType::F16] {
        let bytes = quantize(ty, &values(1, rows * cols, 1.0), cols);
        let packed = PackedMatrix::pack(ty, rows, cols, &bytes).unwrap();
        let product = |pool: &dyn Parallel, x: &[f32], n: usize| {
            let mut y = vec![0.0; n * rows];
            let x = Input { values: x, n, stride: cols };
            let output = Output { values: &mut y, stride: rows };
            packed.matmul(Kernels::best(), pool, x, output).map(|()| y)
        };
        let x = values(2, 67 * cols, 1.0);
        let mut bad = x.clone();
        bad[60 * cols + 3] = f32::NAN;
        let expected = [67, 45, 3, 67].map(|n| product(&Serial, &x, n).unwrap());
        let refused = product(&Serial, &bad, 67).unwrap_err();
        for threads in [2, 3, 7] {
            let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
            let found = [67, 45, 3, 67].map(|n| product(&pool, &x, n).unwrap());
            assert!(found == expected, "{ty}, {threads} threads");
            let error = product(&pool, &bad, 67).unwrap_err();
            assert_eq!(error.to_string(), refused.to_string());
            for parts in [vec![], vec![0]] {
                let brought = Brought { threads, parts };
                let found = product(&brought, &x, 67);
                // Who runs one part may find the pieces of all, but not the rows of the others.
                assert!(matches!(found, Err(MatrixError::Parts { .. })) || threads > 4);
            }
        }
    }
}

/// Threads that say how many parts they run, and run others.
struct Brought {
    threads: usize,
    parts: Vec<usize>,
}

impl Parallel for Brought {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        self.parts.iter().for_each(|part| task(*part));
    }
}

/// Threads that ran nothing left what was in `y` before, and the product was Ok.
#[test]
fn a_product_that_is_not_run_as_a_whole_is_an_error() {
    let (experts, rows, cols, n) = (2, 300, 256, 3);
    let bytes = quantize(GgmlType::Q4_K, &values(1, experts * rows * cols, 1.0), cols);
    let many = PackedMatrix::pack_experts(GgmlType::Q4_K, experts, rows, cols, &bytes).unwrap();
    let half = &bytes[..bytes.len() / 2];
    let one = PackedMatrix::pack(GgmlType::Q4_K, rows, cols, half).unwrap();
    let x = values(2, n * cols, 1.0);
    let both = |pool: &dyn Parallel| {
        let input = Input { values: &x, n, stride: cols };
        let [mut y, mut z] = [(); 2].map(|()| vec![7.0; n * rows]);
        let output = Output { values: &mut y, stride: rows };
        let first = one.matmul(Kernels::best(), pool, input, output);
        let output = Output { values: &mut z, stride: rows };
        let ids = [1, 0, 1];
        let second = many.matmul_experts(Kernels::best(), pool, input, &ids, 1, output);
        assert_eq!(first.is_ok(), second.is_ok());
        first.map(|()| (y, z))
    };
    let expected = both(&Serial).unwrap();
    let refused = |threads, parts: &[usize]| {
        let error = both(&Brought { threads, parts: parts.into() }).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("parts of the product"), "{text}");
        match error {
            MatrixError::Parts { done, parts } => (done, parts),
            other => panic!("{other:?}"),
        }
    };
    for threads in [0, 1, 2, 4, 7] {
        assert_eq!(refused(threads, &[]).0, 0, "{threads}");
    }
    assert_eq!(refused(2, &[0]), (1, 2));
    assert_eq!(refused(2, &[1, 1]), (1, 2));
    assert_eq!(refused(4, &[0, 1, 2, 4, 5]), (3, 4));
    assert_eq!(refused(1, &[1]), (0, 1));
    // Its neighbours: in any order, more parts than there are, and a part that finds work left by
    // others and does it.
    for (threads, parts) in [
        (0, &[0][..]),
        (1, &[0]),
        (2, &[1, 0]),
        (3, &[2, 0, 1, 3]),
        (7, &[6]),
        (4, &[0, 1, 2, 3, 3]),
    ] {
        let found = both(&Brought { threads, parts: parts.into() }).unwrap();
        assert!(found == expected, "{threads} {parts:?}");
    }
}

#[test]
fn packing_runs_on_the_threads_it_is_given_or_is_an_error() {
    let (ty, experts, rows, cols) = (GgmlType::Q5_K, 3, 37, 512);
    let bytes = quantize(ty, &values(1, experts * rows * cols, 1.0), cols);
    let all = PackedMatrix::pack_experts(ty, experts, rows, cols, &bytes).unwrap();
    assert!(all.unpack() == bytes);
    let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
    let brought: [&dyn Parallel; 5] = [
        &Serial,
        &pool,
        &Brought { threads: 0, parts: vec![0] },
        &Brought { threads: 4, parts: vec![3, 1, 2, 0] },
        // One thread finds the work that the others left.
        &Brought { threads: 7, parts: vec![6] },
    ];
    for pool in brought {
        let packed = PackedMatrix::pack_experts_with(pool, ty, experts, rows, cols, &bytes);
        assert!(packed.unwrap().unpack_with(pool).unwrap() == bytes);
        let one = &bytes[..bytes.len() / experts];
        let packed = PackedMatrix::pack_with(pool, ty, rows, cols, one).unwrap();
        assert!(packed.unpack() == one);
        // Without rows there is nothing to run.
        assert!(PackedMatrix::pack_with(pool, ty, 0, cols, &[]).is_ok());
    }
    for threads in [0, 1, 5] {
        let nothing = Brought { threads, parts: Vec::new() };
        let packed = PackedMatrix::pack_experts_with(&nothing, ty, experts, rows, cols, &bytes);
        assert_eq!(packed.unwrap_err(), MatrixError::Parts { done: 0, parts: 9 });
        assert_eq!(all.unpack_with(&nothing), Err(MatrixError::Parts { done: 0, parts: 9 }));
    }
}

#[cfg(feature = "rayon")]
#[test]
fn a_pool_of_rayon_runs_every_part_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let counts: Vec<_> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        assert_eq!(Parallel::threads(&pool), threads);
        // From outside, and from one of its own threads.
        let count = |part: usize| {
            counts[part].fetch_add(1, Ordering::Relaxed);
        };
        Parallel::run(&pool, &count);
        pool.install(|| Parallel::run(&pool, &count));
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 2));
        let ty = GgmlType::Q4_0;
        let bytes = quantize(ty, &values(1, 40 * 64, 1.0), 64);
        let packed = PackedMatrix::pack_with(&pool, ty, 40, 64, &bytes).unwrap();
        assert!(packed.unpack_with(&pool).unwrap() == bytes);
    }
}
