//! In which order chunks are worked on.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use crate::chunks::Chunk;

/// How many files of an output are written at the same time.
const AT_ONCE: usize = 16;

/// The most chunks of a file that one thread takes together.
const LONGEST: usize = 16;

/// Fewer chunks are taken together where there are fewer than so many of them to share out.
const SHARES: usize = 1024;

/// Chunks in the order in which they are worked on, as ranges of them that one thread takes together.
///
/// A file system lets one writer at a time into a file, so several files take more than one does. Files
/// take turns here: while one thread writes to the first, the next thread has a turn of the second.
/// Within a turn, reads and writes follow each other. Of many files only the first few take turns, and
/// the next begins when one of them is complete, so that what is read and written stays in few places.
///
/// The order depends on the chunks alone and not on the number of threads: what is found first to be
/// wrong is found first by any number of them. The chunks of a single file keep their order.
pub(crate) fn turns(chunks: &[Chunk], file: impl Fn(&Chunk) -> usize) -> Vec<Range<usize>> {
    let mut files: BTreeMap<usize, VecDeque<Range<usize>>> = BTreeMap::new();
    let runs = || chunks.chunk_by(|a, b| file(a) == file(b));
    let longest = match runs().nth(1) {
        Some(_) => (chunks.len() / SHARES).clamp(1, LONGEST),
        None => 1,
    };
    let mut start = 0usize;
    for run in runs() {
        let Some(number) = run.first().map(&file) else { continue };
        let of_file = files.entry(number).or_default();
        for turn in run.chunks(longest) {
            let end = start.saturating_add(turn.len());
            of_file.push_back(start..end);
            start = end;
        }
    }
    let mut later = files.into_values();
    let mut open: VecDeque<_> = later.by_ref().take(AT_ONCE).collect();
    let mut order = Vec::new();
    while let Some(mut file) = open.pop_front() {
        order.extend(file.pop_front());
        match file.is_empty() {
            true => open.extend(later.next()),
            false => open.push_back(file),
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file of each turn and its range, for files of so many chunks.
    fn order(files: &[usize]) -> Vec<(usize, Range<usize>)> {
        let of = files.iter().enumerate().flat_map(|(file, n)| std::iter::repeat_n(file, *n));
        let of: Vec<usize> = of.collect();
        let chunk = |start: u64| Chunk { jobs: 0..1, start, len: 1 };
        let chunks: Vec<_> = (0..of.len() as u64).map(chunk).collect();
        let turns = turns(&chunks, |chunk| of[chunk.start as usize]);
        turns.into_iter().map(|turn| (of[turn.start], turn)).collect()
    }

    #[test]
    fn one_file_keeps_its_order() {
        let all: Vec<_> = (0..5000).map(|n| (0, n..n + 1)).collect();
        assert_eq!(order(&[5000]), all);
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn files_take_turns() {
        let found = order(&[2, 4, 1]);
        let expected = [(0, 0), (1, 2), (2, 6), (0, 1), (1, 3), (1, 4), (1, 5)];
        assert_eq!(found, expected.map(|(file, n)| (file, n..n + 1)));
    }

    #[test]
    fn every_chunk_is_worked_on_once_and_no_more_than_some_files_are_open() {
        for files in [vec![40; 3], vec![1; 100], vec![2000; 40], (1..60).collect()] {
            let found = order(&files);
            let mut chunks: Vec<_> = found.iter().flat_map(|(_, turn)| turn.clone()).collect();
            for (file, _) in files.iter().enumerate() {
                let of_file = found.iter().filter(|(f, _)| *f == file);
                let starts: Vec<_> = of_file.map(|(_, turn)| turn.start).collect();
                assert!(starts.is_sorted());
            }
            chunks.sort_unstable();
            assert_eq!(chunks, (0..files.iter().sum()).collect::<Vec<_>>());
            let first = |file| found.iter().position(|(f, _)| *f == file).unwrap();
            let last = |file| found.iter().rposition(|(f, _)| *f == file).unwrap();
            let spans: Vec<_> = (0..files.len()).map(|file| first(file)..=last(file)).collect();
            let open = |at: usize| spans.iter().filter(|span| span.contains(&at)).count();
            assert!((0..found.len()).all(|at| open(at) <= AT_ONCE));
            if files.iter().all(|chunks| *chunks > 1) {
                assert_eq!(open(found.len() / 4), AT_ONCE.min(files.len()));
            }
            // Neighbours are in different files while there are several.
            let same = found.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
            assert!(same <= files.iter().max().unwrap() - files.iter().min().unwrap());
        }
        // Turns of many chunks are long, and none spans two files.
        assert!(order(&[8192; 2]).iter().all(|(_, turn)| turn.len() == LONGEST));
        assert!(order(&[8193; 2]).iter().any(|(_, turn)| turn.len() == 1));
    }
}
