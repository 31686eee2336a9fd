//! Texts in order, to find those that other text begins with.

/// Texts with a value each, sorted.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    entries: Vec<(Box<[u8]>, u32)>,
    /// Where the texts that begin with each byte are.
    first: Vec<(usize, usize)>,
}

impl Prefixes {
    /// Of equal texts the last counts; empty ones do not.
    pub(super) fn new(texts: impl Iterator<Item = (Box<[u8]>, u32)>) -> Self {
        let mut entries: Vec<_> = texts.filter(|(text, _)| !text.is_empty()).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        // The first of equal ones stays, so the value of the last is moved there.
        entries.dedup_by(|later, kept| {
            let equal = later.0 == kept.0;
            if equal {
                kept.1 = later.1;
            }
            equal
        });
        let begins = |byte: usize| entries.partition_point(|(text, _)| usize::from(text[0]) < byte);
        let first = (0..256).map(|byte| (begins(byte), begins(byte + 1))).collect();
        Self { entries, first }
    }

    /// The texts that `text` begins with, as their lengths and values, the shortest first.
    pub(super) fn of<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut walk = self.walk(text);
        std::iter::from_fn(move || {
            while walk.step() {
                let (entry, value) = self.entries.get(walk.range.0)?;
                if entry.len() == walk.depth {
                    return Some((walk.depth, *value));
                }
            }
            None
        })
    }

    /// How many bytes `text` shares with the text that it shares most with.
    pub(super) fn shared(&self, text: &[u8]) -> usize {
        let mut walk = self.walk(text);
        while walk.step() {}
        walk.depth
    }

    fn walk<'a>(&'a self, text: &'a [u8]) -> Walk<'a> {
        Walk { prefixes: self, text, range: (0, self.entries.len()), depth: 0 }
    }
}

struct Walk<'a> {
    prefixes: &'a Prefixes,
    text: &'a [u8],
    /// The entries that begin with the first `depth` bytes of the text.
    range: (usize, usize),
    depth: usize,
}

impl Walk<'_> {
    /// One byte on; `false` if no entry goes on like the text.
    fn step(&mut self) -> bool {
        let Some(&byte) = self.text.get(self.depth) else { return false };
        let range = if self.depth == 0 {
            self.prefixes.first.get(usize::from(byte)).copied().unwrap_or_default()
        } else {
            let entries = &self.prefixes.entries[self.range.0..self.range.1];
            let at = |entry: &(Box<[u8]>, u32)| entry.0.get(self.depth).copied();
            let begin = entries.partition_point(|entry| at(entry) < Some(byte));
            let len = entries[begin..].partition_point(|entry| at(entry) == Some(byte));
            (self.range.0 + begin, self.range.0 + begin + len)
        };
        if range.0 == range.1 {
            return false;
        }
        self.range = range;
        self.depth += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_a_text() {
        let texts = [("ab", 0), ("a", 1), ("abcd", 2), ("b", 3), ("ab", 4), ("", 5), ("\u{ff}", 6)];
        let prefixes = Prefixes::new(texts.into_iter().map(|(t, v)| (t.as_bytes().into(), v)));
        let of = |text: &str| prefixes.of(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(of("abcde"), [(1, 1), (2, 4), (4, 2)]);
        assert_eq!(of("abce"), [(1, 1), (2, 4)]);
        assert_eq!(of("ba"), [(1, 3)]);
        assert_eq!(of("\u{ff}"), [(2, 6)]);
        assert!(of("").is_empty() && of("c").is_empty());
        assert_eq!(["abce", "abcde", "x", ""].map(|t| prefixes.shared(t.as_bytes())), [3, 4, 0, 0]);
        assert!(Prefixes::default().of(b"a").next().is_none());
    }
}
