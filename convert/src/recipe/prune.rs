//! `--prune-layers`: leave layers out and number the others anew, in names and in metadata.

use std::collections::BTreeSet;

use gguf_io::metadata::{Array, Metadata, Value};
use gguf_model::{LAYER_PERIODS, OfLayers, attention_period, layer_period};

use super::{Error, ModelFacts};

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
                tracing::warn!(kind = "unused-option", "`prune_layers` names layer {layer} twice");
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

    /// Whether a layer stays.
    fn keeps(&self, layer: usize) -> bool {
        u32::try_from(layer).map_or(true, |layer| !self.pruned.contains(&layer))
    }

    /// The kept layers of those in a range.
    fn kept_of(&self, layers: std::ops::Range<u32>) -> u32 {
        let pruned = self.pruned.range(layers.clone()).count();
        let count = layers.end.saturating_sub(layers.start);
        count.saturating_sub(u32::try_from(pruned).unwrap_or(u32::MAX))
    }

    /// Brings the metadata of a model to its layers: arrays with an element for each layer lose
    /// those of the layers left out, counts of layers of a kind count what is left. `block_count`
    /// is the caller's.
    ///
    /// The reference leaves all this as it is, so that no engine loads such a file.
    ///
    /// # Errors
    /// [`Error::Prune`] if the model would not be of its architecture any more: a layer would stand
    /// where one with other tensors is expected, or something is stored for all layers together.
    pub fn apply(&self, facts: &ModelFacts, metadata: &mut Metadata) -> Result<(), Error> {
        if self.pruned.is_empty() {
            return Ok(());
        }
        let arch = facts.arch.as_str();
        self.check(facts, metadata)?;
        // Some arrays leave out the layers that predict further tokens.
        let lengths = [self.layers, self.layers.saturating_sub(facts.nextn_layers)].map(Ok);
        let mut changed = Vec::new();
        for (key, value) in metadata.iter() {
            let Some(name) = under(key, arch) else { continue };
            let of = OfLayers::of_key(name);
            match value {
                Value::Array(array) if of != Some(OfLayers::Nothing) => {
                    let per_layer = lengths.contains(&u32::try_from(array.len()));
                    if per_layer && !matches!(array, Array::String(_)) {
                        let mut array = array.clone();
                        array.retain(|layer| self.keeps(layer));
                        changed.push((key.to_owned(), Value::Array(array)));
                    }
                }
                Value::Array(_) => {}
                value => {
                    let count = value.as_u64().and_then(|n| u32::try_from(n).ok());
                    let Some(count) = count else { continue };
                    let kept = match of {
                        Some(OfLayers::First) => self.kept_of(0..count),
                        Some(OfLayers::Last) => {
                            self.kept_of(self.layers.saturating_sub(count)..self.layers)
                        }
                        _ => continue,
                    };
                    changed.push((key.to_owned(), kept.into()));
                }
            }
        }
        for (key, value) in changed {
            metadata.insert(key, value);
        }
        Ok(())
    }

    /// Refuses what cannot be pruned, and warns of layers that would do something else.
    fn check(&self, facts: &ModelFacts, metadata: &Metadata) -> Result<(), Error> {
        let arch = facts.arch.as_str();
        let refused = |reason: String| Err(Error::Prune { given: self.listed(), reason });
        let get = |name: &str| metadata.get_u64(&format!("{arch}.{name}"));
        let main = self.layers.saturating_sub(facts.nextn_layers);
        if self.kept_of(0..main) == 0 {
            return refused("only layers that predict further tokens would be left".into());
        }
        if matches!(arch, "t5" | "t5encoder") && !self.keeps(0) {
            return refused("layer 0 holds the relative positions for all layers".into());
        }
        for (name, of) in OfLayers::keys() {
            if let OfLayers::Together(why) = of
                && get(name).is_some_and(|n| n > 0)
            {
                return refused(format!("{arch}.{name} is set: {why}"));
            }
        }
        if let Some(n) = get("n_deepstack_layers")
            && self.pruned.first().is_some_and(|first| u64::from(*first) < n)
        {
            return refused(format!(
                "the first {n} layers take features of the projector by their number"
            ));
        }
        let mapping = format!("{arch}.deepstack_mapping");
        if let Some(Value::Array(Array::Int32(inputs))) = metadata.get(&mapping) {
            let used = |keep: &dyn Fn(usize) -> bool| -> BTreeSet<i32> {
                let layers = inputs.iter().enumerate().filter(|(layer, _)| keep(*layer));
                layers.map(|(_, input)| *input).filter(|input| *input >= 0).collect()
            };
            if used(&|_| true) != used(&|layer| self.keeps(layer)) {
                return refused(format!("{mapping} gives a layer left out features of its own"));
            }
        }
        let listed = |name: &str| metadata.get(&format!("{arch}.{name}")).is_some_and(is_array);
        for name in LAYER_PERIODS {
            let default = || layer_period(arch, name).map(u64::from);
            let known = name == "full_attention_interval" && listed("attention.recurrent_layers");
            let period = get(name).or_else(default).filter(|_| !known);
            if let Some(layer) = period.and_then(|period| self.out_of_step(period)) {
                return refused(format!(
                    "layers of {arch} are of different kinds by their number ({name}); layer \
                     {layer} would stand in a place of another kind"
                ));
            }
        }
        const PATTERN: &str = "attention.sliding_window_pattern";
        let windowed = get("attention.sliding_window").is_none_or(|window| window > 0);
        let default = || attention_period(arch).map(u64::from);
        let period = get(PATTERN).or_else(default).filter(|_| windowed && !listed(PATTERN));
        if let Some(layer) = period.and_then(|period| self.out_of_step(period)) {
            tracing::warn!(
                kind = "prune",
                "layers of {arch} differ by their number in which tokens they attend to: with \
                 `prune_layers`, layer {layer} and others come to places of another kind"
            );
        }
        Ok(())
    }

    /// The first layer whose new number is not at the same place of a period.
    fn out_of_step(&self, period: u64) -> Option<u32> {
        let period = u32::try_from(period).ok().filter(|period| *period > 1)?;
        let kept = (0..self.layers).filter(|layer| !self.pruned.contains(layer));
        kept.zip(0u32..).find(|(old, new)| old % period != new % period).map(|(old, _)| old)
    }

    /// The layers left out, as on the command line.
    fn listed(&self) -> String {
        self.pruned.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
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

fn is_array(value: &Value) -> bool {
    matches!(value, Value::Array(_))
}

/// What a key is called below the prefix of an architecture, or one of parameters that are stored
/// without it.
fn under<'a>(key: &'a str, arch: &str) -> Option<&'a str> {
    if key.starts_with("xielu.") {
        return Some(key);
    }
    key.strip_prefix(arch)?.strip_prefix('.')
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
    use gguf_io::GgufString;

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

    fn metadata(arch: &str, layers: u32, pairs: &[(&str, Value)]) -> (ModelFacts, Metadata) {
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", arch);
        metadata.insert(format!("{arch}.block_count"), layers);
        for (key, value) in pairs {
            metadata.insert(key.replace('*', arch), value.clone());
        }
        (ModelFacts::from_metadata(&metadata).unwrap(), metadata)
    }

    fn pruned(
        arch: &str,
        layers: u32,
        prune: &str,
        pairs: &[(&str, Value)],
    ) -> Result<Vec<Value>, Error> {
        let (facts, mut metadata) = metadata(arch, layers, pairs);
        Pruning::parse(prune, layers)?.apply(&facts, &mut metadata)?;
        let order: Vec<_> = metadata.iter().skip(2).map(|(key, _)| key.to_owned()).collect();
        let expected: Vec<_> = pairs.iter().map(|(key, _)| key.replace('*', arch)).collect();
        assert_eq!(order, expected, "keys keep their places");
        Ok(metadata.iter().skip(2).map(|(_, value)| value.clone()).collect())
    }

    /// Whatever has an element for each layer loses those of the layers left out.
    #[test]
    fn arrays_lose_the_elements_of_pruned_layers_llama_cpp_27976() {
        let pairs: &[(&str, Value)] = &[
            ("*.attention.head_count", vec![1u32, 2, 3, 4].into()),
            ("*.attention.head_count_kv", vec![1i32, 2, 3, 4].into()),
            ("*.feed_forward_length", vec![10u64, 20, 30, 40].into()),
            ("*.attention.sliding_window_pattern", vec![true, false, true, false].into()),
            ("*.swiglu_clamp_exp", vec![0.5f32, 1.5, 2.5, 3.5].into()),
            ("xielu.alpha_n", vec![0.5f32, 1.5, 2.5, 3.5].into()),
            ("*.some.future_key", vec![1u8, 2, 3, 4].into()),
            // Not of layers.
            ("*.rope.dimension_sections", vec![1i32, 2, 3, 4].into()),
            (
                "*.classifier.output_labels",
                ["a", "b", "c", "d"].map(GgufString::from).to_vec().into(),
            ),
            ("tokenizer.ggml.scores", vec![0.5f32, 1.5, 2.5, 3.5].into()),
            ("*.other", vec![1u32, 2, 3].into()),
            ("*.attention.head_count_scalar", 4u32.into()),
        ];
        let found = pruned("deci", 4, "1", pairs).unwrap();
        let expected: Vec<Value> = vec![
            vec![1u32, 3, 4].into(),
            vec![1i32, 3, 4].into(),
            vec![10u64, 30, 40].into(),
            vec![true, true, false].into(),
            vec![0.5f32, 2.5, 3.5].into(),
            vec![0.5f32, 2.5, 3.5].into(),
            vec![1u8, 3, 4].into(),
        ];
        assert_eq!(found[..7], expected);
        for (found, (_, before)) in found[7..].iter().zip(&pairs[7..]) {
            assert_eq!(found, before);
        }
    }

    #[test]
    fn counts_of_layers_count_what_is_left() {
        let of = |key: &'static str, count: u32, prune: &str| {
            pruned("glm4moe", 6, prune, &[(key, count.into())]).map(|values| values[0].clone())
        };
        for (key, count, prune, expected) in [
            ("*.leading_dense_block_count", 3, "0,4", 2),
            ("*.leading_dense_block_count", 1, "0", 0),
            ("*.leading_dense_block_count", 1, "3", 1),
            ("*.nextn_predict_layers", 1, "5", 0),
            ("*.nextn_predict_layers", 2, "0,1", 2),
            ("*.attention.shared_kv_layers", 4, "1,2", 3),
            ("*.decoder_block_count", 6, "1,2", 4),
            ("*.expert_count", 6, "1,2", 6),
        ] {
            assert_eq!(of(key, count, prune).unwrap(), Value::Uint32(expected), "{key} {prune}");
        }
        // Arrays may leave out the layers that predict further tokens.
        let pairs = [
            ("*.nextn_predict_layers", 1u32.into()),
            ("*.attention.indexer.types", vec![true, false, false].into()),
        ];
        let found = pruned("glm-dsa", 4, "1", &pairs).unwrap();
        assert_eq!(found[1], Value::from(vec![true, false]));
        assert!(of("*.nextn_predict_layers", 2, "0,1,2,3").is_err());
    }

    #[test]
    fn layers_that_cannot_be_pruned_are_refused() {
        let period = |n: u32| ("*.full_attention_interval", n.into());
        for (arch, prune, pair, says) in [
            ("qwen3next", "1", period(4), "full_attention_interval"),
            ("qwen3next", "1", ("*.other", 1u32.into()), "full_attention_interval"),
            ("llama4", "0", ("*.interleave_moe_layer_step", 2u32.into()), "layer 1 would stand"),
            ("nomic-bert-moe", "1", ("*.moe_every_n_layers", 2u32.into()), "moe_every_n_layers"),
            ("gemma3n", "1", ("*.embedding_length_per_layer_input", 256u32.into()), "together"),
            ("qwen3vl", "2", ("*.n_deepstack_layers", 3u32.into()), "projector"),
            (
                "granite",
                "0",
                ("*.deepstack_mapping", vec![0i32, 1, 1, -1, -1, -1, -1, -1].into()),
                "features",
            ),
            ("t5encoder", "0", ("*.other", 1u32.into()), "relative positions"),
        ] {
            let error = pruned(arch, 8, prune, &[pair]).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("`prune_layers`"), "{arch}: {error}");
        }
        for (arch, prune, pair) in [
            // The last layers, and whole periods, leave the others in step.
            ("qwen3next", "7", period(4)),
            ("qwen3next", "0,1,2,3", period(4)),
            ("qwen3next", "1", ("*.attention.recurrent_layers", vec![true; 8].into())),
            ("llama4", "0", ("*.interleave_moe_layer_step", 1u32.into())),
            ("qwen3vl", "3,7", ("*.n_deepstack_layers", 3u32.into())),
            ("granite", "1", ("*.deepstack_mapping", vec![0i32, 1, 1, -1, -1, -1, -1, -1].into())),
            ("t5encoder", "1", ("*.other", 1u32.into())),
            ("gemma2", "1", ("*.attention.sliding_window", 512u32.into())),
        ] {
            pruned(arch, 8, prune, &[pair]).unwrap();
        }
    }

    #[test]
    fn impossible_lists_are_refused() {
        for (text, expected) in [
            ("", "expected layer numbers"),
            ("1,x", r#""x" in `prune_layers`: expected layer numbers"#),
            ("-1", "expected layer numbers"),
            ("1,5", r#""5" in `prune_layers`: the model has 5 layers, counted from 0"#),
            ("0,1,2,3,4", "no layer would be left"),
        ] {
            let error = Pruning::parse(text, 5).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
