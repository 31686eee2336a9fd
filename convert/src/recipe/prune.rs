//! `--prune-layers`: leave layers out and number the others anew.

use std::collections::BTreeSet;

use super::Error;

/// The layers to leave out of a model of known length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// Layers left out.
    pruned: BTreeSet<u32>,
    /// Layers of the model before.
    layers: u32,
}

impl Pruning {
    /// Parses the argument of `--prune-layers`: layer numbers separated by commas, for a model of
    /// `layers` layers.
    ///
    /// # Errors
    /// [`Error::Prune`] for anything but numbers of layers the model has, and if none would be
    /// left. The reference ignores numbers beyond the last layer.
    pub fn parse(text: &str, layers: u32) -> Result<Self, Error> {
        let bad = |given: &str, reason: String| Error::Prune { given: given.into(), reason };
        let mut pruned = BTreeSet::new();
        for item in text.split(',').map(str::trim) {
            let layer = item
                .parse::<u32>()
                .map_err(|_| bad(item, "expected layer numbers separated by commas".into()))?;
            if layer >= layers {
                return Err(bad(item, format!("the model has {layers} layers, counted from 0")));
            }
            if !pruned.insert(layer) {
                tracing::warn!(kind = "unused-option", "--prune-layers names layer {layer} twice");
            }
        }
        let pruning = Self { pruned, layers };
        if pruning.kept() == 0 {
            return Err(bad(text, "no layer would be left".into()));
        }
        Ok(pruning)
    }

    /// Layers left: the new `block_count`.
    pub fn kept(&self) -> u32 {
        let pruned = u32::try_from(self.pruned.len()).unwrap_or(u32::MAX);
        self.layers.saturating_sub(pruned)
    }

    /// The name of a tensor in the pruned model; `None` if it belongs to a layer left out.
    ///
    /// Importance weights are found under the name before.
    pub fn rename(&self, name: &str) -> Option<String> {
        let Some((start, end, layer)) = find_layer(name) else {
            return Some(name.into());
        };
        if self.pruned.contains(&layer) {
            return None;
        }
        let before = self.pruned.range(..layer).count();
        let shift = u32::try_from(before).unwrap_or(u32::MAX);
        let layer = layer.saturating_sub(shift);
        let (head, tail) = (name.get(..start)?, name.get(end..)?);
        Some(format!("{head}{layer}{tail}"))
    }
}

/// The first `blk.N.` anywhere in the name: where N stands, and N.
fn find_layer(name: &str) -> Option<(usize, usize, u32)> {
    const MARK: &str = "blk.";
    name.match_indices(MARK).find_map(|(at, _)| {
        let start = at.checked_add(MARK.len())?;
        let rest = name.get(start..)?;
        let len = rest.find('.')?;
        let digits = rest.get(..len)?;
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        let layer = digits.parse().ok().filter(|_| is_number)?;
        Some((start, start.checked_add(len)?, layer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_close_up() {
        let pruning = Pruning::parse("3, 1,3", 5).unwrap();
        assert_eq!(pruning.kept(), 3);
        let rename = |name: &str| pruning.rename(name);
        assert_eq!(rename("blk.0.attn_q.weight").unwrap(), "blk.0.attn_q.weight");
        assert_eq!(rename("blk.1.attn_q.weight"), None);
        assert_eq!(rename("blk.2.attn_q.weight").unwrap(), "blk.1.attn_q.weight");
        assert_eq!(rename("blk.3.ffn_up.weight"), None);
        assert_eq!(rename("enc.blk.4.ffn_up.weight").unwrap(), "enc.blk.2.ffn_up.weight");
        assert_eq!(rename("output.weight").unwrap(), "output.weight");
        assert_eq!(rename("blk.x.blk.4.w").unwrap(), "blk.x.blk.2.w");
        assert_eq!(rename("blk.99999999999.w").unwrap(), "blk.99999999999.w");
        assert_eq!(rename("blk.+4.w").unwrap(), "blk.+4.w");
    }

    #[test]
    fn impossible_lists_are_refused() {
        for (text, expected) in [
            ("", "expected layer numbers"),
            ("1,x", r#""x" in --prune-layers: expected layer numbers"#),
            ("-1", "expected layer numbers"),
            ("1,5", r#""5" in --prune-layers: the model has 5 layers, counted from 0"#),
            ("0,1,2,3,4", "no layer would be left"),
        ] {
            let error = Pruning::parse(text, 5).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
