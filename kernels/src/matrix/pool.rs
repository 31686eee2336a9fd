//! Threads for matrix products.

use std::{
    any::Any,
    cell::Cell,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
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
/// is dropped. If two threads share a pool their products run one after the other. A task that
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

/// A borrowed task as a worker sees it: valid until the worker has counted itself off.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize) + Sync + 'static));

// SAFETY: the task it points to is Sync, and `Pool::run` keeps it alive while workers have it.
unsafe impl Send for Task {}

struct State {
    task: Option<Task>,
    parked: usize,
}

struct Shared {
    /// Counts tasks; a worker that sees it change takes the task.
    epoch: AtomicUsize,
    /// Workers that have not finished the task.
    pending: AtomicUsize,
    /// What the first worker to panic said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
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
    /// What the operating system says if it cannot start a thread.
    pub fn new(threads: NonZeroUsize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            state: Mutex::new(State { task: None, parked: 0 }),
            wake: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for index in 1..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("quant-kernels-{index}"));
            // If this fails, dropping the pool ends the threads before.
            pool.workers.push(builder.spawn(move || shared.work(index))?);
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
        // SAFETY: only the lifetime changes. Workers use the pointer between the change of the
        // epoch and their decrement of `pending`, and `finish` below, which is reached even if
        // the task panics here, waits until all have decremented it.
        let task_ptr: Task = Task(unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(task)
        });
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        {
            let mut state = lock(&shared.state);
            state.task = Some(task_ptr);
            shared.epoch.fetch_add(1, Ordering::Release);
            if state.parked > 0 {
                shared.wake.notify_all();
            }
        }
        IN_TASK.set(true);
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        IN_TASK.set(false);
        shared.finish();
        let others = lock(&shared.panic).take();
        drop(turn);
        if let Some(panic) = own.err().or(others) {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// Waits until no worker has the task.
    fn finish(&self) {
        for _ in 0..SPINS {
            if self.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = lock(&self.state);
        while self.pending.load(Ordering::Acquire) != 0 {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut seen = 0;
        IN_TASK.set(true);
        loop {
            let Some(task) = self.next(&mut seen) else { return };
            // SAFETY: `Pool::run` keeps the task alive until `pending` is decremented below.
            let task = unsafe { &*task.0 };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(index))) {
                lock(&self.panic).get_or_insert(panic);
            }
            if self.pending.fetch_sub(1, Ordering::Release) == 1 {
                // The lock orders this after the caller's last look.
                drop(lock(&self.state));
                self.done.notify_all();
            }
        }
    }

    /// The next task, or `None` at the end.
    fn next(&self, seen: &mut usize) -> Option<Task> {
        for _ in 0..SPINS {
            if self.epoch.load(Ordering::Acquire) != *seen || self.stop.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = lock(&self.state);
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != *seen {
                *seen = epoch;
                return state.task;
            }
            state.parked += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.parked -= 1;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let _state = lock(&self.shared.state);
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks.
            let _ = worker.join();
        }
    }
}
