//! Tensors that engines multiply in one step, which they can only if the types are the same.

use std::collections::HashMap;

/// Names that end in one of these, after the same beginning, belong together: llama.cpp runs a gate
/// and what it gates in one kernel where their types are equal.
const TOGETHER: &[(&str, &str)] = &[
    ("ffn_gate.weight", "ffn_up.weight"),
    ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    ("ffn_gate_shexp.weight", "ffn_up_shexp.weight"),
    ("ffn_gate_chexps.weight", "ffn_up_chexps.weight"),
];

/// The indices of names, those that belong together in one group, in the order of each group's first.
pub(super) fn groups<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (index, name) in names.enumerate() {
        let key = TOGETHER.iter().find_map(|(gate, up)| {
            let start = name.strip_suffix(gate).or(name.strip_suffix(up))?;
            Some(format!("{start}{gate}"))
        });
        let group = *known.entry(key.unwrap_or_else(|| name.to_owned())).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_go_with_what_they_gate() {
        let names = [
            "blk.0.ffn_gate.weight",
            "blk.0.ffn_down.weight",
            "blk.0.ffn_up.weight",
            "blk.1.ffn_up.weight",
            "blk.1.ffn_up_exps.weight",
            "blk.1.ffn_gate_exps.weight",
            "output.weight",
        ];
        let found = groups(names.into_iter());
        assert_eq!(found, [vec![0, 2], vec![1], vec![3], vec![4, 5], vec![6]]);
    }
}
