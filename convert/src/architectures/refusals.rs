//! What a mapping refuses: tensors without a place, places without a tensor.

use std::collections::HashSet;

use gguf_io::{CheckpointTensor, message::Shape};

use crate::{Error, Result};

use super::{
    mapping::{Mapping, Part, Slot},
    rule::{Bias, Presence, Rule},
};

impl Mapping<'_> {
    pub(super) fn refuse_unknown(&self, unknown: &[(&str, &CheckpointTensor)]) -> Result<()> {
        let [(name, tensor), more @ ..] = unknown else {
            return Ok(());
        };
        let more = match more.len() {
            0 => String::new(),
            n => format!(" (and {n} more such tensors)"),
        };
        let found = format!("shape {}{more}", Shape(&tensor.shape));
        let expected =
            format!("only tensors that architecture {} has a place for", self.architecture.name);
        Err(self.wrong(
            name,
            &found,
            &expected,
            "the weights would be lost: convert with a version that knows this model",
        ))
    }

    /// Finds the first missing tensor. At most one more slot is tried than there are tensors.
    pub(super) fn refuse_missing(&self, seen: &HashSet<Slot>) -> Result<()> {
        let forms = self.forms(seen);
        let mut missing = 0u64;
        let mut without_bias = Vec::new();
        let mut is_incomplete = false;
        let mut first = None;
        for (i, rule) in self.rules.iter().enumerate() {
            if rule.form.is_some_and(|form| !forms.contains(&form)) {
                continue;
            }
            // Another name for the same weights is there.
            let is_copy =
                |other: &Rule| other.copies && other.first_target() == rule.first_target();
            if rule.copies
                && seen.iter().any(|slot| self.rules.get(slot.rule).is_some_and(|r| is_copy(r)))
            {
                continue;
            }
            let weight = match rule.presence {
                Presence::Required => true,
                Presence::Optional | Presence::LeftOut(_) => false,
                Presence::Head | Presence::HeadUnless(..) => false,
                Presence::Unless(key) => !self.config.flag(key)?,
                Presence::If(key) => self.config.flag(key)?,
                Presence::When(holds) => holds(self.config)?,
                Presence::With(_) | Presence::Without(_) => self.applies(rule),
            };
            let bias = weight
                && match rule.bias {
                    Bias::Never | Bias::Maybe => false,
                    Bias::Always => true,
                    Bias::If(key) => self.config.flag(key)?,
                };
            let layers = if rule.source.contains("{}") { self.layers_of(rule)? } else { 1 };
            let applies =
                |layer: &u64| rule.layers.is_none_or(|applies| applies(self.config, *layer));
            let parts = [(Part::Weight, weight), (Part::Bias, bias)];
            if !(weight || bias) {
                continue;
            }
            // Nothing is counted where no layer has it, by keys that may then be missing.
            if !(0..layers).any(|layer| applies(&layer)) {
                continue;
            }
            let experts = self.experts(rule)?;
            for (part, _) in parts.into_iter().filter(|part| part.1) {
                let found = seen.iter().filter(|slot| slot.rule == i && slot.part == part).count();
                let count = (0..layers).filter(applies).count() as u64;
                let here = count.saturating_mul(experts).saturating_sub(found as u64);
                missing = missing.saturating_add(here);
                // Others that the key tells of are there: this one the model does not have.
                match rule.bias {
                    Bias::If(key)
                        if part == Part::Bias && found == 0 && self.has_biases(key, seen) =>
                    {
                        without_bias.push((key, rule.source));
                    }
                    _ => is_incomplete |= here > 0,
                }
                if here > 0 && first.is_none() {
                    first = (0..layers)
                        .filter(applies)
                        .flat_map(|layer| (0..experts).map(move |expert| (layer, expert)))
                        .map(|(layer, expert)| Slot { rule: i, part, layer, expert })
                        .find(|slot| !seen.contains(slot));
                }
            }
        }
        let Some(slot) = first.filter(|_| is_incomplete) else {
            for (key, name) in without_bias {
                tracing::warn!(
                    kind = "bias",
                    "config.json: {key} is true, but no layer has \"{name}.bias\": it counts as zero"
                );
            }
            return Ok(());
        };
        let found = match missing {
            0 | 1 => "no such tensor".to_owned(),
            n => format!("no such tensor (and {} more are missing)", n - 1),
        };
        let expected = format!("one of shape {:?} by config.json", self.shape(slot)?);
        Err(self.wrong(
            &self.source(slot)?,
            &found,
            &expected,
            "the checkpoint is incomplete or config.json is of another model",
        ))
    }

    /// Whether some of the biases are there that this key of config.json tells of.
    fn has_biases(&self, key: &str, seen: &HashSet<Slot>) -> bool {
        seen.iter().filter(|slot| slot.part == Part::Bias).any(|slot| {
            let rule = self.rules.get(slot.rule);
            rule.is_some_and(|rule| matches!(rule.bias, Bias::If(other) if other == key))
        })
    }

    pub(super) fn wrong(
        &self,
        name: &str,
        found: &str,
        expected: &str,
        help: &'static str,
    ) -> Error {
        let file = self
            .checkpoint
            .tensors
            .get(name)
            .and_then(|tensor| self.checkpoint.files.get(tensor.file));
        Error::Weights {
            path: file.map_or(self.dir, |file| file.path()).to_path_buf(),
            name: name.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
            help,
        }
    }
}
