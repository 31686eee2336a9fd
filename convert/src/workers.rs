//! Pieces of work, taken in order by a few threads.

use std::{
    num::NonZero,
    panic,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::{Error, Result};

/// Does pieces `0..count` on `threads` threads (0 for one per core), each with a state of its own.
///
/// # Errors
/// That of the first piece that fails, whatever the number of threads.
pub(crate) fn run<W>(
    threads: usize,
    count: usize,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let each = || {
        let mut state = state();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            if let Err(error) = work(&mut state, index) {
                failed.store(true, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(|e| e.into_inner());
                // Pieces are taken in order, so the earliest failure is always among those that
                // ran: the error does not depend on the number of threads.
                if failure.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failure = Some((index, error));
                }
            }
        }
    };
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if threads == 0 { cores() } else { threads }.min(count);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        let mut started = Ok(());
        for index in 0..threads {
            let builder = thread::Builder::new().name(format!("convert-{index}"));
            match builder.spawn_scoped(scope, each) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    started = Err(Error::Threads { error });
                    break;
                }
            }
        }
        // Joined, so that none is left when this returns; a scope alone waits for less than that.
        for worker in workers {
            if let Err(panic) = worker.join() {
                panic::resume_unwind(panic);
            }
        }
        started
    })?;
    match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
