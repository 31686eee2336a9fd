//! Sets of numbered weight files: `model-00002-of-00003.safetensors`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::{
    Result,
    error::{Problems, Quoted},
};

/// What to do where files are missing.
pub(super) const INCOMPLETE: &str = "download the checkpoint again, all of its files";

/// A numbered file, taken apart. DeepSeek writes the count in six digits, Qwen3.5 names its files
/// `model.safetensors-00001-of-00094.safetensors`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shard<'a> {
    pub(super) name: &'a str,
    /// What stands before the number, `model` in most.
    pub(super) prefix: &'a str,
    number: u32,
    /// Digits of the number.
    width: usize,
    /// The count as it is written, and what that is.
    count: (&'a str, u32),
}

impl<'a> Shard<'a> {
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        // More files than any set has, few enough to list what is missing.
        const MOST: u32 = 999_999;
        let number = |text: &str| {
            let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|n| *n <= MOST)
        };
        let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (prefix, text) = rest.rsplit_once('-')?;
        // Such a name needs no escapes in messages.
        let plain = prefix.bytes().all(|b| b.is_ascii_graphic());
        (plain && prefix.starts_with("model")).then_some(())?;
        Some(Self {
            name,
            prefix,
            number: number(text)?,
            width: text.len(),
            count: (count, number(count)?),
        })
    }
}

/// Checks that shards found without an index are all there are of one set.
pub(super) fn complete(dir: &Path, shards: &[Shard<'_>]) -> Result<()> {
    let mut sets: BTreeMap<(&str, u32), Vec<Shard<'_>>> = BTreeMap::new();
    for shard in shards {
        sets.entry((shard.prefix, shard.count.1)).or_default().push(*shard);
    }
    let several = sets.len() > 1;
    let mut problems = Problems::default();
    if several {
        let sets: Vec<_> = sets
            .iter()
            .map(|((prefix, count), set)| format!("{prefix}-*-of-{count} ({} files)", set.len()))
            .collect();
        problems.add(|| format!("shards of different sets: {}", Quoted(&sets.join(", "))));
    }
    for ((prefix, count), set) in &sets {
        let mut numbers = BTreeSet::new();
        let mut wrong = Problems::default();
        for shard in set {
            if !(1..=*count).contains(&shard.number) {
                wrong.add(|| format!("{} is too many", shard.name));
            } else if !numbers.insert(shard.number) {
                wrong.add(|| format!("{} is there under another name as well", shard.name));
            }
        }
        let (width, written) = set.first().map_or((5, ""), |shard| (shard.width, shard.count.0));
        for n in (1..=*count).filter(|n| !numbers.contains(n)) {
            wrong.add(|| format!("{prefix}-{n:0width$}-of-{written}.safetensors is missing"));
        }
        if wrong.count() > 0 {
            let names: Vec<_> = set.iter().map(|shard| shard.name).collect();
            problems.add(|| format!("{} there of {count}: {}", set.len(), few(&names)));
        }
        problems.append(wrong);
    }
    let help = match several {
        true => "leave only the shards of one set, or give the index that names them",
        false => INCOMPLETE,
    };
    problems.into_result(dir, help)
}

/// The first of some names, and how many more there are.
pub(super) fn few(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| Quoted(name).to_string()).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
