//! Which tokens a token sees, and what scores get by their distance.

/// Which tokens a token sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Itself and those before it, at most so many.
    Before(usize),
    /// Those at most so far away on either side.
    Around(usize),
    /// Itself and those before it in its piece of the text, which is so long.
    Chunk(usize),
}

impl Sight {
    /// The first token that the one at `position` sees, and the one after the last.
    pub(super) fn range(self, position: usize, all: usize) -> (usize, usize) {
        match self {
            Self::Chunk(width) => (position - position % width.max(1), (position + 1).min(all)),
            Self::Before(width) => ((position + 1).saturating_sub(width), (position + 1).min(all)),
            Self::Around(distance) => (
                position.saturating_sub(distance),
                position.saturating_add(distance).saturating_add(1).min(all),
            ),
        }
    }
}

/// What is added to scores by the distance, as T5 has it: a number for each of some buckets of
/// distances, half of them for tokens behind.
#[derive(Debug)]
pub(crate) struct Distances {
    /// Head by head, for the distances from `-REACH` to `REACH`.
    biases: Vec<f32>,
}

/// Distances from which on all are alike.
const REACH: usize = 128;

impl Distances {
    /// Of a table with the numbers of all heads for each bucket; a multiple of four buckets.
    pub(crate) fn new(heads: usize, table: &[f32]) -> Self {
        let half = table.len() / heads.max(1) / 2;
        let exact = half / 2;
        let bucket = |distance: usize| match distance < exact {
            true => distance,
            false => {
                let share = |distance: usize| (distance as f32 / exact as f32).ln();
                let step = share(distance) / share(REACH) * (half - exact) as f32;
                (exact + step as usize).min(half - 1)
            }
        };
        let of = |head: usize, bucket: usize| table.get(bucket * heads + head).copied();
        let before = |head| (1..=REACH).rev().map(move |distance| of(head, bucket(distance)));
        let after = |head| {
            let further = (1..=REACH).map(move |distance| of(head, half + bucket(distance)));
            std::iter::once(of(head, 0)).chain(further)
        };
        let all = (0..heads).flat_map(|head| before(head).chain(after(head)));
        Self { biases: all.map(Option::unwrap_or_default).collect() }
    }

    /// What is added to the scores of a head for the tokens from `start` on.
    pub(super) fn add(&self, head: usize, position: usize, start: usize, scores: &mut [f32]) {
        let of_head = 2 * REACH + 1;
        let biases = self.biases.get(head * of_head..(head + 1) * of_head).unwrap_or_default();
        for (i, score) in scores.iter_mut().enumerate() {
            let at = (start + i + REACH).saturating_sub(position).min(of_head - 1);
            *score += biases.get(at).copied().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cache::BLOCK, *};

    /// T5's 32 buckets: 16 for tokens behind, of which the first eight hold one distance each.
    #[test]
    fn distances_fall_into_the_buckets_of_t5() {
        let heads = 2;
        // The number of head 1 in bucket 5 is 105.
        let table: Vec<f32> =
            (0..32).flat_map(|bucket| [bucket as f32, 100.0 + bucket as f32]).collect();
        let distances = Distances::new(heads, &table);
        let starts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        let position = 500;
        for head in 0..heads {
            let mut scores = vec![0.0; 1000];
            distances.add(head, position, 0, &mut scores);
            for (i, score) in scores.iter().enumerate() {
                let bucket = starts.iter().rposition(|start| *start <= i.abs_diff(position));
                let side = if i > position { 16 } else { 0 };
                let expected = 100 * head + side + bucket.unwrap();
                assert_eq!(*score, expected as f32, "head {head}, token {i} from {position}");
            }
            // Blocks are parts of the same row.
            let mut block = vec![0.0; BLOCK];
            distances.add(head, position, 480, &mut block);
            assert_eq!(block, scores[480..480 + BLOCK]);
        }
    }
}
