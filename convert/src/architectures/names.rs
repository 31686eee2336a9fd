//! Names of tensors: their numbers, and what is put around them.

use std::borrow::Cow;

use crate::Config;

use super::family::Architecture;

/// What multimodal models put into the names of their text model's tensors.
const TEXT_MODEL: [&str; 3] = ["language_model.", "text_model.", "thinker."];

/// What programs that train put into the names of the modules that they wrap: compiled ones, those of which
/// each machine has a part, those whose activations are computed again.
const TRAINING: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

/// What they put before all names where several machines hold copies.
const COPIES: &str = "module.";

/// Strips what wrappers put around the names of a text model or an encoder, and maps old endings to
/// those of today.
pub(super) fn own_name<'n>(
    architecture: &Architecture,
    config: &Config,
    name: &'n str,
) -> Cow<'n, str> {
    let mut name = Cow::Borrowed(name.strip_prefix(COPIES).unwrap_or(name));
    for part in TRAINING {
        if name.contains(part) {
            name = name.replace(part, "").into();
        }
    }
    // Some checkpoints of text models keep the name that they had in a multimodal one.
    for part in TEXT_MODEL.iter().take(if config.is_wrapper() { TEXT_MODEL.len() } else { 1 }) {
        if name.contains(part) {
            name = name.replace(part, "").into();
        }
    }
    if let Some(bare) = architecture.wrappers.iter().find_map(|w| name.strip_prefix(w)) {
        name = bare.to_owned().into();
    }
    if let Some(other) = (architecture.rename)(config, &name) {
        name = other.into();
    }
    let renamed = architecture
        .endings
        .iter()
        .find_map(|(old, today)| Some(format!("{}{today}", name.strip_suffix(old)?)));
    renamed.map_or(name, Cow::Owned)
}

/// A name with `{}` for its first two numbers, and the numbers.
pub(super) fn split_numbers(name: &str) -> (String, u64, u64) {
    let mut numbers = [0; 2];
    let mut free = numbers.iter_mut();
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| {
            let canonical = part.parse::<u64>().ok().filter(|n| n.to_string() == part);
            match canonical.and_then(|number| Some((number, free.next()?))) {
                Some((number, place)) => {
                    *place = number;
                    "{}"
                }
                None => part,
            }
        })
        .collect();
    let [layer, expert] = numbers;
    (parts.join("."), layer, expert)
}

/// A name with `{}` for its first number alone, and the number.
pub(super) fn split_number(name: &str) -> (String, u64) {
    let (pattern, layer, expert) = split_numbers(name);
    // The second one goes back to its place.
    match pattern.match_indices("{}").nth(1) {
        Some((at, mark)) => {
            let mut whole = pattern.clone();
            whole.replace_range(at..at + mark.len(), &expert.to_string());
            (whole, layer)
        }
        None => (pattern, layer),
    }
}

/// A pattern with its `{}` replaced, the layer first.
pub(super) fn numbered(pattern: &str, layer: u64, expert: u64) -> String {
    pattern.replacen("{}", &layer.to_string(), 1).replacen("{}", &expert.to_string(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_split_from_names() {
        assert_eq!(split_numbers("a.12.b.3.c"), ("a.{}.b.{}.c".into(), 12, 3));
        assert_eq!(split_numbers("a.b"), ("a.b".into(), 0, 0));
        // Not numbers as they are written: a name of its own, not layer 1 again.
        for odd in ["a.01.b", "a.+1.b", "a.-1.b", "a.99999999999999999999.b"] {
            assert_eq!(split_numbers(odd), (odd.into(), 0, 0));
        }
        assert_eq!(split_numbers("1.2.3").0, "{}.{}.3");
    }

    #[test]
    fn patterns_take_their_numbers_back() {
        let name = "model.layers.4.experts.7.w1";
        let (pattern, layer, expert) = split_numbers(name);
        assert_eq!(numbered(&pattern, layer, expert), name);
    }
}
