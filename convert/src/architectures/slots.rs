//! Whether what families map is what GGUF's architectures consist of: every tensor that loaders need has
//! a source, and every source a place.

use std::collections::{BTreeMap, BTreeSet};

use gguf_model::{Need, Slot, When};

use super::{
    ALL, Architecture,
    rule::{Bias, Presence, Rule},
};

/// Whether models have a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    /// It is taken along where a checkpoint has it.
    Perhaps,
    /// A checkpoint without it is refused, at least where config.json says that it is there.
    Sure,
}
use Certainty::{Perhaps, Sure};

/// Full names of what a family's rules make, with `{}` for numbers.
fn made(family: &Architecture) -> BTreeMap<String, Certainty> {
    let mut made: BTreeMap<String, Certainty> = BTreeMap::new();
    let mut add = |name: String, certainty: Certainty| {
        let known = made.entry(name).or_insert(certainty);
        *known = certainty.max(*known);
    };
    for rule in family.tensors.iter().copied().flatten() {
        let certainty = match rule.presence {
            Presence::LeftOut(_) => continue,
            Presence::Optional => Perhaps,
            // Without it the token embedding predicts tokens.
            Presence::Head | Presence::HeadUnless(..) if !family.needs_output => Perhaps,
            _ => Sure,
        };
        for target in rule.targets() {
            if rule.exact {
                add(target.name.to_owned(), certainty);
                continue;
            }
            add(format!("{}.weight", target.name), certainty);
            match rule.bias {
                Bias::Never => {}
                Bias::Maybe => add(format!("{}.bias", target.name), Perhaps),
                Bias::Always | Bias::If(_) => add(format!("{}.bias", target.name), certainty),
            }
        }
    }
    made
}

/// Tensors that some models of a family have and no loader: biases that rules of several families
/// take along wherever they are. A family is not the place to leave weights out without a word.
fn may_be_strange(family: &Architecture, name: &str) -> bool {
    let takes = |rule: &Rule| {
        let perhaps = matches!(rule.bias, Bias::Maybe | Bias::If(_)) && !rule.exact;
        perhaps && rule.targets().iter().any(|target| format!("{}.bias", target.name) == name)
    };
    family.tensors.iter().copied().flatten().any(takes)
}

/// Tensors that families compute from the configuration, which rules do not tell.
fn is_computed(family: &Architecture, name: &str) -> bool {
    let of_rope = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
    let of_heads = ["blk.{}.attn_q_norm.weight", "blk.{}.attn_k_norm.weight"];
    of_rope.contains(&name) || family.name == "muse-glimmer" && of_heads.contains(&name)
}

fn name(slot: &Slot) -> String {
    format!("{}.{}", slot.name, slot.suffix)
}

#[test]
fn every_required_slot_has_a_source_and_every_source_a_slot() {
    let (mut problems, mut checked) = (Vec::new(), 0);
    for family in ALL {
        let Some(description) = gguf_model::Architecture::find(family.name) else {
            problems.push(format!("{}: not described", family.name));
            continue;
        };
        let mut problem = |what: &str, name: &str| {
            problems.push(format!(
                "{} ({}): {what} {name}",
                family.name,
                family.classes.join(", ")
            ));
        };
        let slots: BTreeSet<String> = description.slots().map(name).collect();
        let made = made(family);
        for source in made.keys().filter(|name| !slots.contains(*name)) {
            // Every weight may have a scale beside it.
            if !source.ends_with(".scale") && !may_be_strange(family, source) {
                problem("no slot for", source);
            }
        }
        // What only some models have, such as experts, a family has as a whole or not at all.
        let mut groups: BTreeMap<String, (&[When], Vec<String>)> = BTreeMap::new();
        for slot in description.slots() {
            let needed = match slot.need {
                Need::Required => true,
                Need::Unless(other) => !made.contains_key(other),
                Need::With(other) => made.contains_key(other),
                _ => false,
            };
            if needed && !is_computed(family, &name(slot)) {
                let group = groups.entry(format!("{:?}", slot.when)).or_default();
                group.0 = slot.when;
                group.1.push(name(slot));
            }
        }
        for (when, names) in groups.into_values() {
            let has = |name: &String| made.get(name) == Some(&Sure);
            if when.is_empty() || names.iter().any(has) {
                checked += names.len();
                names
                    .iter()
                    .filter(|name| !has(name))
                    .for_each(|name| problem("no source of", name));
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(checked > 10 * ALL.len(), "{checked}");
}
