//! The forms in which checkpoints keep the same weights, told by the names and shapes of tensors.

use std::collections::HashSet;

use gguf_io::CheckpointTensor;

use super::{
    mapping::{Mapping, Slot},
    names::{own_name, split_numbers},
    rule::Rule,
};

impl Mapping<'_> {
    /// The forms that are there; the first one where none is.
    pub(super) fn forms(&self, seen: &HashSet<Slot>) -> Vec<&'static str> {
        let rules = seen.iter().filter_map(|slot| self.rules.get(slot.rule));
        let there: Vec<_> = rules.filter_map(|rule| rule.form).collect();
        let first = || self.rules.iter().find_map(|rule| rule.form);
        if there.is_empty() { first().into_iter().collect() } else { there }
    }

    /// Whether a tensor has the shape that a rule calls for.
    fn fits(&self, rule: &Rule, source: &CheckpointTensor) -> bool {
        let expected = rule.shape.iter().map(|dim| dim.size(self.config).ok());
        expected.eq(source.shape.iter().map(|size| Some(*size)))
    }

    /// Rules for the same tensors in another form.
    fn other_forms(&self, rule: &'static Rule) -> impl Iterator<Item = (usize, &'static Rule)> {
        let is_other = move |other: &Rule| {
            other.source == rule.source && other.exact == rule.exact && other.form != rule.form
        };
        let rules = self.rules.iter().copied().enumerate();
        rules.filter(move |(_, other)| rule.form.is_some() && is_other(other))
    }

    /// The forms that share names with another form and that some tensor does not fit.
    pub(super) fn misfits(&self) -> HashSet<&'static str> {
        let shared: Vec<_> = self
            .rules
            .iter()
            .copied()
            .filter(|rule| self.other_forms(rule).next().is_some())
            .collect();
        if shared.is_empty() {
            return HashSet::new();
        }
        let mut misfits = HashSet::new();
        for (name, source) in &self.checkpoint.tensors {
            let (pattern, ..) = split_numbers(&own_name(self.architecture, self.config, name));
            for rule in shared.iter().filter(|rule| pattern.ends_with(rule.source)) {
                misfits.extend(rule.form.filter(|_| !self.fits(rule, source)));
            }
        }
        misfits
    }

    /// The rule for a tensor that several forms have under one name: that of a form whose tensors
    /// all fit.
    pub(super) fn fitting(&self, given: usize, misfits: &HashSet<&'static str>) -> usize {
        let form = self
            .rules
            .get(given)
            .copied()
            .filter(|rule| rule.form.is_some_and(|form| misfits.contains(form)));
        let other = form.and_then(|rule| {
            self.other_forms(rule)
                .find(|(_, other)| other.form.is_some_and(|form| !misfits.contains(form)))
        });
        other.map_or(given, |(other, _)| other)
    }
}
