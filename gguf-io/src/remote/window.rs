//! What is fetched ahead of those who read it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{client::Client, fault::Fault, target::Target};

/// Pieces of files that will be read, in the order in which they will.
///
/// Threads fetch pieces while there is room; who reads a piece that nobody has begun to fetch fetches
/// it himself, room or not, so that reading never waits for room. A piece goes when it has been read.
/// Small pieces, such as the scales of a matrix, are read more than once: they go when room is needed,
/// and so do pieces that are never read to the end.
#[derive(Debug)]
pub(super) struct Window {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<File>,
    /// What nobody has begun to fetch, or has since: numbers of files and where pieces begin.
    planned: VecDeque<(usize, u64)>,
    /// Pieces that are here.
    here: BTreeSet<(usize, u64)>,
    /// Bytes of pieces that are here or on their way.
    held: usize,
    /// The longest piece.
    longest: usize,
    /// The memory of longest pieces that have gone, for those to come: the system gives new memory page
    /// by page. With it no more is held than the window has.
    spare: Vec<Vec<u8>>,
    /// Reads so far.
    reads: u64,
    has_threads: bool,
    closed: bool,
}

#[derive(Debug)]
struct File {
    target: Arc<Target>,
    /// By where they begin; none overlaps another.
    pieces: BTreeMap<u64, Piece>,
}

#[derive(Debug)]
struct Piece {
    len: usize,
    /// Bytes that were not read yet.
    left: usize,
    /// When it was read last, or came, in reads of all.
    last: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Planned,
    OnItsWay,
    Here(Arc<Vec<u8>>),
    Failed(Fault),
}

/// Pieces up to this size may be read more than once.
const SMALL: usize = 256 << 10;

/// A piece that was not touched in so many reads is done with.
const FORGOTTEN: u64 = 8192;

impl Window {
    pub(super) fn new(client: Arc<Client>) -> Self {
        let state = State { longest: client.options().piece.max(1), ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { shared: Arc::new(Shared { client, state, changed }) }
    }

    /// Gives a file a number.
    pub(super) fn add(&self, target: Arc<Target>) -> usize {
        let mut state = self.shared.lock();
        state.files.push(File { target, pieces: BTreeMap::new() });
        state.files.len() - 1
    }

    /// Plans to read a range, after all that was planned before. What of it is planned already is not
    /// planned twice.
    pub(super) fn will_read(&self, file: usize, range: Range<u64>) {
        let mut state = self.shared.lock();
        let longest = state.longest as u64;
        let Some(pieces) = state.files.get_mut(file).map(|file| &mut file.pieces) else { return };
        let mut new = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let here = pieces.range(..=at).next_back().map(|(start, p)| start + p.len as u64);
            if let Some(end) = here.filter(|end| *end > at) {
                at = end;
                continue;
            }
            let next = pieces.range(at..).next().map_or(range.end, |(start, _)| *start);
            let end = at.saturating_add(longest).min(next).min(range.end);
            let len = usize::try_from(end - at).unwrap_or(usize::MAX);
            pieces.insert(at, Piece { len, left: len, last: 0, content: Content::Planned });
            new.push((file, at));
            at = end;
        }
        state.planned.extend(new);
        if !state.has_threads && !state.planned.is_empty() {
            state.has_threads = true;
            for _ in 0..self.shared.client.options().parallel.max(1) {
                let shared = Arc::clone(&self.shared);
                // Without threads, who reads a piece fetches it.
                let started = thread::Builder::new().name("fetch".to_owned()).spawn(move || {
                    shared.fetch();
                });
                if let Err(error) = started {
                    tracing::debug!(%error, "a thread less");
                }
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Reads the bytes at `offset` that are in one piece into the front of `out`; `None` if they are
    /// in none.
    pub(super) fn read(
        &self,
        file: usize,
        offset: u64,
        out: &mut [u8],
    ) -> Result<Option<usize>, Fault> {
        let Shared { client, changed, .. } = &*self.shared;
        let mut state = self.shared.lock();
        loop {
            let found = state.files.get(file).and_then(|file| {
                let (start, piece) = file.pieces.range(..=offset).next_back()?;
                (offset - start < piece.len as u64).then(|| (*start, piece.content.clone()))
            });
            let Some((start, content)) = found else { return Ok(None) };
            match content {
                Content::Here(bytes) => {
                    drop(state);
                    let rest = usize::try_from(offset - start).ok().and_then(|at| bytes.get(at..));
                    let rest = rest.unwrap_or_default();
                    let n = rest.len().min(out.len());
                    if let (Some(to), Some(from)) = (out.get_mut(..n), rest.get(..n)) {
                        to.copy_from_slice(from);
                    }
                    drop(bytes);
                    self.shared.was_read(file, start, n);
                    return Ok(Some(n));
                }
                Content::Failed(fault) => return Err(fault),
                Content::Planned => {
                    if let Some(piece) = state.piece(file, start) {
                        piece.content = Content::OnItsWay;
                        state.held += piece_len(&state, file, start);
                    }
                    drop(state);
                    self.shared.bring(file, start);
                    state = self.shared.lock();
                }
                Content::OnItsWay => {
                    client.check()?;
                    let wait = Duration::from_millis(100);
                    let waited = changed.wait_timeout(state, wait);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

fn piece_len(state: &State, file: usize, start: u64) -> usize {
    state.files.get(file).and_then(|file| file.pieces.get(&start)).map_or(0, |piece| piece.len)
}

impl Drop for Window {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl State {
    fn piece(&mut self, file: usize, start: u64) -> Option<&mut Piece> {
        self.files.get_mut(file)?.pieces.get_mut(&start)
    }

    /// Removes a piece that is here.
    fn remove(&mut self, file: usize, start: u64) {
        let removed = self.files.get_mut(file).and_then(|file| file.pieces.remove(&start));
        self.here.remove(&(file, start));
        let Some(removed) = removed else { return };
        self.held = self.held.saturating_sub(removed.len);
        // Another reader may still be at it.
        if let Content::Here(bytes) = removed.content
            && removed.len == self.longest
            && let Some(bytes) = Arc::into_inner(bytes)
        {
            self.spare.push(bytes);
        }
    }

    /// Memory that a piece which is held already may use, whatever is in it. `most` is what the window
    /// has.
    fn memory(&mut self, len: usize, most: usize) -> Option<Vec<u8>> {
        let bytes = self.spare.pop_if(|bytes| bytes.len() == len);
        let room = most.saturating_sub(self.held) / self.longest.max(1);
        self.spare.truncate(room);
        bytes
    }

    /// Makes room for the next piece by what is done with.
    fn make_room(&mut self) {
        let done = |&(file, start): &(usize, u64)| {
            let piece = self.files.get(file)?.pieces.get(&start)?;
            let forgotten = self.reads.saturating_sub(piece.last) > FORGOTTEN;
            (piece.left == 0 || forgotten).then_some((piece.last, file, start))
        };
        let oldest = self.here.iter().filter_map(done).min();
        if let Some((_, file, start)) = oldest {
            self.remove(file, start);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches pieces in their order, until there will be no more.
    fn fetch(&self) {
        let most = self.client.options().window;
        let mut state = self.lock();
        while !state.closed {
            let next = state.planned.front().copied();
            let ready = next.map(|(file, start)| {
                let planned =
                    state.piece(file, start).is_some_and(|p| matches!(p.content, Content::Planned));
                (file, start, planned, piece_len(&state, file, start))
            });
            match ready {
                Some((_, _, false, _)) => drop(state.planned.pop_front()),
                Some((file, start, true, len)) => {
                    if state.held > 0 && state.held.saturating_add(len) > most {
                        state.make_room();
                    }
                    if state.held == 0 || state.held.saturating_add(len) <= most {
                        state.planned.pop_front();
                        if let Some(piece) = state.piece(file, start) {
                            piece.content = Content::OnItsWay;
                        }
                        state.held += len;
                        drop(state);
                        self.bring(file, start);
                        state = self.lock();
                    } else {
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Fetches a piece that is said to be on its way.
    fn bring(&self, file: usize, start: u64) {
        let mut state = self.lock();
        let target = state.files.get(file).map(|file| Arc::clone(&file.target));
        let Some(target) = target else { return };
        let len = piece_len(&state, file, start);
        let bytes = state.memory(len, self.client.options().window);
        drop(state);
        let mut bytes = bytes.unwrap_or_else(|| vec![0; len]);
        let content = match self.client.fill(&target, start, &mut bytes) {
            Ok(()) => Content::Here(Arc::new(bytes)),
            Err(fault) => Content::Failed(fault),
        };
        let mut state = self.lock();
        let reads = state.reads;
        if matches!(content, Content::Here(_)) {
            state.here.insert((file, start));
        }
        if let Some(piece) = state.piece(file, start) {
            (piece.content, piece.last) = (content, reads);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Takes note of bytes that were read.
    fn was_read(&self, file: usize, start: u64, n: usize) {
        let mut state = self.lock();
        state.reads += 1;
        let reads = state.reads;
        let Some(piece) = state.piece(file, start) else { return };
        piece.left = piece.left.saturating_sub(n);
        piece.last = reads;
        if piece.left == 0 && piece.len > SMALL {
            state.remove(file, start);
            drop(state);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Url;
    use super::*;

    #[test]
    fn memory_is_used_again_within_the_window() {
        let target = Arc::new(Target::new(Url::hub()));
        let file = File { target, pieces: BTreeMap::new() };
        let mut state = State { files: vec![file], longest: 10, ..State::default() };
        let fetched = |state: &mut State, start: u64, len: usize| {
            state.held += len;
            let bytes = state.memory(len, 40);
            let is_old = bytes.is_some();
            let content = Content::Here(Arc::new(bytes.unwrap_or_else(|| vec![0; len])));
            let piece = Piece { len, left: len, last: 0, content };
            state.files[0].pieces.insert(start, piece);
            is_old
        };
        assert!(!fetched(&mut state, 0, 10) && !fetched(&mut state, 10, 10));
        state.remove(0, 0);
        assert_eq!((state.held, state.spare.len()), (10, 1));
        // The piece at the end of a tensor is shorter.
        assert!(!fetched(&mut state, 20, 4) && fetched(&mut state, 24, 10));
        // Short pieces and spare memory are no more than the window.
        (10..30).step_by(10).chain([24]).for_each(|start| state.remove(0, start));
        assert_eq!((state.held, state.spare.len()), (0, 2));
        for n in 0..8 {
            assert!(!fetched(&mut state, 100 + 4 * n, 4));
            assert!(state.held + 10 * state.spare.len() <= 40);
        }
        assert_eq!(state.spare.len(), 0);
        // What someone still reads is not given to another.
        state.remove(0, 100);
        fetched(&mut state, 0, 10);
        let Content::Here(reading) = state.files[0].pieces[&0].content.clone() else { return };
        state.remove(0, 0);
        assert_eq!((reading.len(), state.spare.len()), (10, 0));
    }
}
