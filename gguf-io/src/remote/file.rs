//! A file on a server as something that is read by position.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use super::{client::Client, fault::Fault, target::Target, window::Window};
use crate::ReadAt;

/// Bytes at the front that are fetched to find out what a file is: most headers are not much longer.
pub(super) const HEAD: usize = 64 << 10;

/// The most that is fetched of what follows bytes that were read, in case it is read next.
const MOST_AHEAD: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct RemoteFile {
    client: Arc<Client>,
    window: Arc<Window>,
    target: Arc<Target>,
    number: usize,
    len: u64,
    head: Vec<u8>,
    ahead: Mutex<Ahead>,
}

/// Bytes of a reader that did not say what it will read, such as that of a header.
#[derive(Debug, Default)]
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
    /// Where the last read ended.
    end: u64,
    /// How much is fetched if the next begins there.
    next: usize,
}

impl RemoteFile {
    /// Asks for the front of a file. Returns it and what the server says of the revision.
    pub(super) fn open(
        client: &Arc<Client>,
        window: &Arc<Window>,
        target: Target,
    ) -> Result<(Self, Option<String>), Fault> {
        let (head, commit) = client.first(&target, HEAD)?;
        let len = target.len().unwrap_or(head.len() as u64);
        let target = Arc::new(target);
        let file = Self {
            client: Arc::clone(client),
            window: Arc::clone(window),
            number: window.add(Arc::clone(&target)),
            target,
            len,
            head,
            ahead: Mutex::default(),
        };
        Ok((file, commit))
    }

    /// Reads bytes that nobody has announced: what follows the last read together with some that
    /// follow these.
    fn read_unannounced(&self, offset: u64, out: &mut [u8]) -> Result<usize, Fault> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let here = offset.checked_sub(ahead.start).and_then(|at| usize::try_from(at).ok());
        if let Some(bytes) = here.and_then(|at| ahead.bytes.get(at..)).filter(|b| !b.is_empty()) {
            let n = copy(bytes, out);
            ahead.end = ahead.end.max(offset.saturating_add(n as u64));
            return Ok(n);
        }
        let follows = offset == ahead.end || offset == self.head.len() as u64;
        ahead.end = offset.saturating_add(out.len() as u64);
        if !follows || out.len() >= MOST_AHEAD {
            ahead.next = HEAD;
            (ahead.start, ahead.bytes) = (ahead.end, Vec::new());
            drop(ahead);
            self.client.fill(&self.target, offset, out)?;
            return Ok(out.len());
        }
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = ahead.next.max(out.len()).min(left);
        ahead.next = len.saturating_mul(2).clamp(HEAD, MOST_AHEAD);
        let mut bytes = std::mem::take(&mut ahead.bytes);
        bytes.resize(len, 0);
        self.client.fill(&self.target, offset, &mut bytes)?;
        let n = copy(&bytes, out);
        (ahead.start, ahead.bytes) = (offset, bytes);
        Ok(n)
    }
}

/// Copies what fits; returns how much that is.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..n), to.get_mut(..n)) {
        to.copy_from_slice(from);
    }
    n
}

impl ReadAt for RemoteFile {
    /// What it was when it was opened: every range that is read is checked against that.
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let most = out.len().min(left);
        let Some(out) = out.get_mut(..most).filter(|out| !out.is_empty()) else { return Ok(0) };
        let at = usize::try_from(offset).ok();
        if let Some(head) = at.and_then(|at| self.head.get(at..)).filter(|head| !head.is_empty()) {
            return Ok(copy(head, out));
        }
        Ok(match self.window.read(self.number, offset, out)? {
            Some(n) => n,
            None => self.read_unannounced(offset, out)?,
        })
    }

    fn will_read(&self, range: Range<u64>) {
        // The front is here.
        let range = range.start.max(self.head.len() as u64)..range.end.min(self.len);
        if range.start < range.end {
            self.window.will_read(self.number, range);
        }
    }

    fn is_fetched_ahead(&self) -> bool {
        true
    }
}
