//! Sizes: of dimensions of tensors, and whatever else is counted from config.json.

use crate::{Config, Result};

/// A size, by config.json.
#[derive(Clone, Copy, Debug)]
pub enum Dim {
    /// The same for all models of the family.
    Number(u64),
    /// The value of a key.
    Key(&'static str),
    /// All of these multiplied.
    Product(&'static [Dim]),
    /// All of these together.
    Sum(&'static [Dim]),
    /// The value of a key where config.json has it, else this.
    KeyOr(&'static str, &'static Dim),
    /// What no single key tells. The name is for messages; no file can set it.
    Derived(&'static str, fn(&Config) -> Result<u64>),
    /// As [`Derived`](Self::Derived), where layers differ in it.
    InLayer(&'static str, fn(&Config, u64) -> Result<u64>),
}

impl Dim {
    /// The size.
    ///
    /// # Errors
    /// If a key is missing, or the result is no possible size.
    pub fn size(&self, config: &Config) -> Result<u64> {
        self.size_in(config, None)
    }

    /// As [`size`](Self::size), in a layer: a key may hold a number for each.
    ///
    /// # Errors
    /// As of `size`.
    pub fn size_in(&self, config: &Config, layer: Option<u64>) -> Result<u64> {
        match *self {
            Self::Number(number) => Ok(number),
            Self::Key(key) => config.require_in(key, layer),
            Self::KeyOr(key, _) if config.get(key).is_some() => config.require_in(key, layer),
            Self::KeyOr(_, other) => other.size_in(config, layer),
            Self::Derived(_, size) => size(config),
            // A tensor outside of the layers goes by the first.
            Self::InLayer(_, size) => size(config, layer.unwrap_or(0)),
            Self::Product(dims) => combined(dims, (config, layer), 1, u64::checked_mul),
            Self::Sum(dims) => combined(dims, (config, layer), 0, u64::checked_add),
        }
    }

    /// The keys and derived sizes that it comes from.
    pub(super) fn names(&self) -> Vec<&'static str> {
        match *self {
            Self::Number(_) => Vec::new(),
            Self::Key(name) | Self::Derived(name, _) | Self::InLayer(name, _) => vec![name],
            Self::KeyOr(key, other) => [key].into_iter().chain(other.names()).collect(),
            Self::Product(dims) | Self::Sum(dims) => dims.iter().flat_map(Self::names).collect(),
        }
    }

    /// The same with their values, for messages: `hidden_size 256`.
    pub(super) fn reasons(&self, config: &Config, layer: Option<u64>) -> Vec<String> {
        let named = |name: &str| match self.size_in(config, layer) {
            Ok(value) => format!("{name} {value}"),
            Err(_) => name.to_owned(),
        };
        match *self {
            Self::Number(_) => Vec::new(),
            Self::KeyOr(key, other) if config.get(key).is_none() => other.reasons(config, layer),
            Self::Key(name)
            | Self::KeyOr(name, _)
            | Self::Derived(name, _)
            | Self::InLayer(name, _) => vec![named(name)],
            Self::Product(dims) | Self::Sum(dims) => {
                dims.iter().flat_map(|dim| dim.reasons(config, layer)).collect()
            }
        }
    }
}

fn combined(
    dims: &[Dim],
    (config, layer): (&Config, Option<u64>),
    neutral: u64,
    operation: fn(u64, u64) -> Option<u64>,
) -> Result<u64> {
    dims.iter().try_fold(neutral, |so_far, dim| {
        let size = dim.size_in(config, layer)?;
        operation(so_far, size).ok_or_else(|| {
            let key = dim.names().first().copied().unwrap_or_default();
            config.wrong(key, &size.to_string(), "a number of a possible size")
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        architectures::{
            ALL, Architecture, Default, Fill, deepseek2,
            parameters::Parameter,
            rule::{Bias, Presence, Rule, Step},
            shared,
        },
        config::is_derived,
    };

    #[test]
    fn sizes_are_computed_and_explained() {
        let config = Config::parse("config.json", br#"{"a": 6, "b": 4, "huge": 4294967295}"#);
        let config = config.unwrap();
        const HALF: Dim = Dim::Derived("half of a", |config| Ok(config.require("a")? / 2));
        const ALL: Dim = Dim::Sum(&[Dim::Product(&[Dim::Number(2), Dim::Key("b")]), HALF]);
        assert_eq!(ALL.size(&config).unwrap(), 11);
        assert_eq!(ALL.reasons(&config, None), ["b 4", "half of a 3"]);
        const HUGE: Dim = Dim::Key("huge");
        assert_eq!(Dim::Product(&[HUGE, HUGE]).size(&config).unwrap(), 0xffff_ffff * 0xffff_ffff);
        let message = Dim::Product(&[HUGE, HUGE, HUGE]).size(&config).unwrap_err().to_string();
        assert!(message.contains("key \"huge\" is 4294967295, expected a number"), "{message}");
        let message = Dim::Key("none").size(&config).unwrap_err().to_string();
        assert!(message.contains("key \"none\" is missing"), "{message}");
    }

    #[test]
    fn files_cannot_set_what_is_derived() {
        let text = br#"{"hidden_size": 12, "num_attention_heads": 4, "size of a head": 7}"#;
        let mut config = Config::parse("config.json", text).unwrap();
        assert_eq!(shared::HEAD.size(&config).unwrap(), 3);
        assert_eq!(config.get("size of a head"), None);
        // Nor does a name of ours get into the file's.
        config.fill("size of a head", 5.into());
        assert_eq!(config.get("size of a head"), Some(&5.into()));
        config.fill("head_dim", 5.into());
        assert_eq!(shared::HEAD.size(&config).unwrap(), 5);
    }

    fn keys(dim: &Dim) -> Vec<&'static str> {
        match *dim {
            Dim::Key(key) => vec![key],
            Dim::KeyOr(key, other) => [key].into_iter().chain(keys(other)).collect(),
            Dim::Product(dims) | Dim::Sum(dims) => dims.iter().flat_map(keys).collect(),
            Dim::Number(_) | Dim::Derived(..) | Dim::InLayer(..) => Vec::new(),
        }
    }

    fn keys_of_rule(rule: &Rule) -> Vec<&'static str> {
        let mut found: Vec<_> = rule.shape.iter().flat_map(keys).chain(rule.experts).collect();
        for step in rule.targets().iter().flat_map(|t| t.parts.iter().copied().flatten()) {
            match step {
                Step::Unfold(_, dims) => found.extend(dims.iter().flat_map(keys)),
                Step::Narrow { from, len, .. } => {
                    found.extend(from.iter().chain([len]).flat_map(keys));
                }
                Step::EverySecond(..) | Step::Swap(..) | Step::Fold(..) => {}
            }
        }
        if let Bias::If(key) = rule.bias {
            found.push(key);
        }
        match rule.presence {
            Presence::Unless(key)
            | Presence::HeadUnless(key, _)
            | Presence::If(key)
            | Presence::With(key)
            | Presence::Without(key) => found.push(key),
            _ => {}
        }
        found
    }

    /// Keys that a family fills in where they are missing.
    fn filled(family: &Architecture) -> impl Iterator<Item = &'static Default> {
        family
            .defaults
            .iter()
            .flat_map(|class| class.in_wrapper.iter().chain(class.values.iter().copied().flatten()))
    }

    /// Keys that its rules, its parameters and what it fills in ask for.
    fn asked(family: &'static Architecture) -> Vec<&'static str> {
        let of_defaults = filled(family).flat_map(|default| match default.value {
            Fill::Same(key) | Fill::Given(key) => vec![key],
            Fill::Quotient(a, b) => vec![a, b],
            Fill::Size(dim) => keys(&dim),
            _ => Vec::new(),
        });
        let parameters = family.parameters.iter().copied().flatten();
        let of_parameters = parameters.flat_map(|parameter| match *parameter {
            Parameter::Count { from, .. }
            | Parameter::Number { from, .. }
            | Parameter::Whole { from, .. } => from.to_vec(),
            Parameter::Flag { from, .. } => vec![from],
            Parameter::Size(_, dim) => keys(&dim),
            _ => Vec::new(),
        });
        let rules = family.tensors.iter().copied().flatten();
        of_defaults.chain(of_parameters).chain(rules.flat_map(keys_of_rule)).collect()
    }

    #[test]
    fn families_ask_for_keys_that_programs_write() {
        let is_odd = |key: &str| {
            let of_files = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
            key.is_empty() || !(of_files || is_derived(key))
        };
        let mut problems = Vec::new();
        for family in ALL {
            let all = filled(family).map(|default| default.key).chain(asked(family));
            problems.extend(all.filter(|key| is_odd(key)).map(|key| (family.name, key)));
        }
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn what_a_family_derives_it_fills_in_and_uses() {
        let mut problems = Vec::new();
        for family in ALL {
            let made: BTreeSet<_> =
                filled(family).map(|default| default.key).filter(|key| is_derived(key)).collect();
            // `COMMON` asks every family for the first; without the second there is no such tensor.
            let optional = [shared::KEY_HEADS_BY_LAYER, deepseek2::HAS_CORRECTION];
            let asked = asked(family).into_iter().filter(|key| is_derived(key));
            let without = asked.filter(|key| !made.contains(key) && !optional.contains(key));
            problems.extend(without.map(|key| (family.name, key)));
        }
        assert!(problems.is_empty(), "nothing fills these in: {problems:?}");
    }
}
