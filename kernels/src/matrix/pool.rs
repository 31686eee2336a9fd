//! Threads for matrix products.

use std::{
    any::Any,
    cell::{Cell, UnsafeCell},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::MatrixError;

/// What runs the parts of a product, or of packing, at the same time. Implement it to bring your own
/// threads; rayon's have it behind the feature `rayon`.
pub trait Parallel: Sync {
    /// How many parts to divide work into; 0 counts as one.
    fn threads(&self) -> usize;

    /// Calls `task(0)`, `task(1)`, … `task(threads() − 1)`, each once, in any order and at the same time if
    /// it can, and returns when all have returned. Work of which not every part was run is an error
    /// ([`MatrixError::Parts`](super::MatrixError::Parts)).
    fn run(&self, task: &(dyn Fn(usize) + Sync));
}

/// Runs everything on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        task(0);
    }
}

/// The threads of a pool of rayon.
#[cfg(feature = "rayon")]
impl Parallel for rayon::ThreadPool {
    fn threads(&self) -> usize {
        self.current_num_threads()
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        let threads = self.current_num_threads();
        self.scope(|scope| {
            for part in 1..threads {
                scope.spawn(move |_| task(part));
            }
            task(0);
        });
    }
}

/// Calls `work` with every piece of `size` elements and its index; the last piece may be shorter.
pub(super) fn for_each_piece<T: Send>(
    pool: &dyn Parallel,
    out: &mut [T],
    size: usize,
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) -> Result<(), MatrixError> {
    if out.is_empty() {
        return Ok(());
    }
    let pieces = out.chunks_mut(size).enumerate();
    for_each(pool, pieces, &|(index, piece)| work(index, piece))
}

/// Calls `work` with everything that an iterator gives.
pub(super) fn for_each<T: Send>(
    pool: &dyn Parallel,
    pieces: impl Iterator<Item = T> + Send,
    work: &(dyn Fn(T) + Sync),
) -> Result<(), MatrixError> {
    let (taken, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let pieces = Mutex::new(pieces.inspect(|_| {
        taken.fetch_add(1, Ordering::Relaxed);
    }));
    let next = || lock(&pieces).next();
    pool.run(&|_| {
        while let Some(piece) = next() {
            work(piece);
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    // Whoever brings threads may run no part at all: what is left counts too.
    lock(&pieces).by_ref().for_each(drop);
    whole(done.load(Ordering::Relaxed), taken.load(Ordering::Relaxed))
}

/// Whether work was done as a whole: whoever brings threads may run too few parts.
pub(super) fn whole(done: usize, parts: usize) -> Result<(), MatrixError> {
    if done == parts { Ok(()) } else { Err(MatrixError::Parts { done, parts }) }
}

thread_local! {
    /// Whether this thread runs a task of a pool.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// How often a waiting thread looks before it parks: some tens of microseconds, the time between
/// two products of a decoder.
const SPINS: usize = 4_000;

/// Threads that stay: between products they spin for a bounded while, then park.
///
/// The calling thread takes part, so a pool of `n` starts `n − 1` threads. They end when the pool
/// is dropped. Threads take parts of a task as they come: what a thread that is late has not begun, the others
/// do. If two threads share a pool their products run one after the other. A task that
/// itself runs something on a pool does so alone, on its own thread. A task that panics does so on
/// the thread that called [`run`](Parallel::run), after the others have finished; the pool can be
/// used on.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a task runs.
    turn: Mutex<()>,
}

/// A borrowed task: valid for who has taken a part of it that is not finished.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize) + Sync + 'static));

/// The task that runs.
struct Current(UnsafeCell<Option<Task>>);

// SAFETY: the task it points to is Sync. It is written by the thread that has the pool's turn, while no part
// of the task before is unfinished, and read by threads that have taken a part of the one after.
unsafe impl Sync for Current {}
// SAFETY: as above.
unsafe impl Send for Current {}

struct Shared {
    /// The number of the task, and behind it in [`PART_BITS`] the first of its parts that nobody has taken.
    ticket: AtomicU64,
    /// Parts of every task.
    parts: u64,
    task: Current,
    /// Parts that are not finished.
    pending: AtomicUsize,
    /// What the first part to panic said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    /// Workers that wait for `wake`, or are about to.
    parked: AtomicUsize,
    /// Whether the caller waits for `done`, or is about to.
    waits: AtomicBool,
    /// Orders going to sleep and waking up.
    sleep: Mutex<()>,
    wake: Condvar,
    done: Condvar,
}

/// Bits of a ticket that tell the part. The others count tasks: a microsecond each, for nine years.
const PART_BITS: u32 = 16;

/// The number of the task of a ticket.
fn number(ticket: u64) -> u64 {
    ticket >> PART_BITS
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them.
    ///
    /// # Errors
    /// What the operating system says if it cannot start a thread; an error of the kind
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) for more than 65535 threads.
    pub fn new(threads: NonZeroUsize) -> std::io::Result<Self> {
        let Ok(parts) = u16::try_from(threads.get()) else {
            let message =
                format!("{threads} threads are too many for a pool: expected at most 65535");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
        };
        let shared = Arc::new(Shared {
            // There is nothing to take of task 0.
            ticket: AtomicU64::new(parts.into()),
            parts: parts.into(),
            task: Current(UnsafeCell::new(None)),
            pending: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for index in 1..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("quant-kernels-{index}"));
            // If this fails, dropping the pool ends the threads before.
            pool.workers.push(builder.spawn(move || shared.work())?);
        }
        Ok(pool)
    }
}

impl Parallel for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || IN_TASK.get() {
            // Within a task, the threads that a pool would share this with are not free: they wait
            // for this task to finish.
            return (0..self.threads()).for_each(task);
        }
        let turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Threads use the pointer between taking a part and counting
        // it as finished, and `finish` below, which is reached even if the task panics here, waits until
        // all parts are.
        let task = Task(unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(task)
        });
        // SAFETY: this thread has the turn, and all parts of the task before are finished and taken, so that
        // nobody reads.
        unsafe { *shared.task.0.get() = Some(task) };
        shared.pending.store(self.threads(), Ordering::Relaxed);
        let number = number(shared.ticket.load(Ordering::Relaxed)) + 1;
        // Whoever takes a part of this sees the lines above. And either this thread sees that a worker
        // parks, or the worker sees the ticket.
        shared.ticket.store(number << PART_BITS, Ordering::SeqCst);
        if shared.parked.load(Ordering::SeqCst) > 0 {
            // Who is about to wait does so before the lock is free.
            drop(lock(&shared.sleep));
            shared.wake.notify_all();
        }
        IN_TASK.set(true);
        shared.run(number);
        IN_TASK.set(false);
        shared.finish();
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// Takes a part of a task; `None` if there is none left, or it is over.
    fn take(&self, task: u64) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let part = ticket & ((1 << PART_BITS) - 1);
            if number(ticket) != task || part >= self.parts {
                return None;
            }
            let next = ticket + 1;
            match self.ticket.compare_exchange_weak(
                ticket,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(part as usize),
                Err(other) => ticket = other,
            }
        }
    }

    /// Runs what nobody else takes of a task.
    fn run(&self, number: u64) {
        while let Some(part) = self.take(number) {
            // SAFETY: it was written before there was anything to take, and is not written again before the
            // part that this thread took is counted as finished, below.
            let task = unsafe { *self.task.0.get() };
            if let Some(task) = task {
                // SAFETY: `Pool::run` keeps the task alive until its parts are finished.
                let task = unsafe { &*task.0 };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(part))) {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
            let left = self.pending.fetch_sub(1, Ordering::SeqCst);
            if left == 1 && self.waits.load(Ordering::SeqCst) {
                // Who is about to wait does so before the lock is free.
                drop(lock(&self.sleep));
                self.done.notify_all();
            }
        }
    }

    /// Waits until all parts are finished.
    fn finish(&self) {
        for _ in 0..SPINS {
            if self.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleep = lock(&self.sleep);
        // Either this thread sees that the last part is finished, or who finishes it sees this.
        self.waits.store(true, Ordering::SeqCst);
        while self.pending.load(Ordering::SeqCst) != 0 {
            sleep = self.done.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        }
        self.waits.store(false, Ordering::SeqCst);
    }

    /// The life of a worker.
    fn work(&self) {
        let mut seen = 0;
        IN_TASK.set(true);
        while let Some(number) = self.next(seen) {
            self.run(number);
            seen = number;
        }
    }

    /// The number of the next task, or `None` at the end.
    fn next(&self, seen: u64) -> Option<u64> {
        let look = || {
            let now = number(self.ticket.load(Ordering::SeqCst));
            let stop = self.stop.load(Ordering::SeqCst);
            (now != seen || stop).then_some((!stop).then_some(now))
        };
        for _ in 0..SPINS {
            if let Some(found) = look() {
                return found;
            }
            std::hint::spin_loop();
        }
        let mut sleep = lock(&self.sleep);
        self.parked.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if let Some(found) = look() {
                break found;
            }
            sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        };
        self.parked.fetch_sub(1, Ordering::SeqCst);
        found
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks.
            let _ = worker.join();
        }
    }
}
