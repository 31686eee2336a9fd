//! The limits of the machine, measured in the run that compares with them.

use std::{
    hint::black_box,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use quant_kernels::{Kernels, Parallel, Pool};

/// The shortest of several runs, in seconds: at least three, and as many as fit the time.
pub fn best_seconds(time: Duration, mut run: impl FnMut()) -> f64 {
    let (start, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < 3 || start.elapsed() < time {
        let one = Instant::now();
        run();
        best = best.min(one.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

/// As [`best_seconds`] for work on this thread alone: seconds on the processor where the system
/// tells, so that other load on the machine does not count.
pub fn best_own_seconds(time: Duration, mut run: impl FnMut()) -> f64 {
    if on_processor().is_none() {
        return best_seconds(time, run);
    }
    let (start, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < 3 || start.elapsed() < time {
        let before = on_processor();
        run();
        if let (Some(before), Some(after)) = (before, on_processor()) {
            best = best.min(after - before);
        }
        runs += 1;
    }
    best
}

/// The time of a product: see [`best_own_seconds`] for one thread, [`best_seconds`] for more.
pub fn seconds(threads: usize, time: Duration, run: impl FnMut()) -> f64 {
    if threads == 1 { best_own_seconds(time, run) } else { best_seconds(time, run) }
}

/// Seconds this thread has run, on Linux.
fn on_processor() -> Option<f64> {
    // Giving way brings the account up to date.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse::<u64>().ok().map(|ns| ns as f64 / 1e9)
}

/// Giga-operations per second of the int8 dot instructions on one core, two per product.
pub fn int8_gops(kernels: Kernels) -> f64 {
    let turns = 1_000_000;
    let (mut products, mut sink) = (0, 0);
    let seconds = best_own_seconds(Duration::from_millis(200), || {
        products = kernels.probe_int8(black_box(turns), &mut sink);
    });
    black_box(sink);
    2.0 * products as f64 / seconds / 1e9
}

/// Giga-operations per second of fused multiply-adds in single precision on one core, two per
/// element.
pub fn float_gflops(kernels: Kernels) -> f64 {
    let turns = 1_000_000;
    let (mut products, mut sink) = (0, 0.0);
    let seconds = best_own_seconds(Duration::from_millis(200), || {
        products = kernels.probe_float(black_box(turns), &mut sink);
    });
    black_box(sink);
    2.0 * products as f64 / seconds / 1e9
}

/// Gigabytes per second read from memory by so many threads.
pub fn read_gbs(kernels: Kernels, pool: &Pool) -> f64 {
    let bytes = vec![1u8; 256 << 20];
    let threads = pool.threads();
    let part = bytes.len() / threads;
    let seconds = seconds(threads, Duration::from_millis(800), || {
        pool.run(&|thread| {
            let mut sink = 0;
            kernels.probe_read(&bytes[thread * part..][..part], &mut sink);
            black_box(sink);
        });
    });
    bytes.len() as f64 / seconds / 1e9
}

/// A pool of so many threads.
///
/// # Panics
/// If the threads cannot be started: a benchmark cannot go on without them.
pub fn pool(threads: usize) -> Pool {
    match NonZeroUsize::new(threads).map(Pool::new) {
        Some(Ok(pool)) => pool,
        _ => panic!("cannot start {threads} threads"),
    }
}
