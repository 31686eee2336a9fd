//! The pool of threads: every part runs, whatever the tasks do.

#![allow(clippy::unwrap_used, reason = "a test that cannot start its threads has failed")]

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use quant_kernels::{Parallel, Pool};

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
