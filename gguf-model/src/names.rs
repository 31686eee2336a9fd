//! What a tensor is, as far as its name tells.

use crate::{Architecture, Slot, slot::Stack};

/// The name of a tensor, taken apart.
///
/// ```
/// use gguf_model::TensorName;
///
/// let name = TensorName::parse("dec.blk.3.attn_q.weight");
/// assert_eq!((name.layer, name.kind), (Some(3), "attn_q"));
/// assert!(TensorName::parse("blk.0.ffn_up_exps.weight").is_expert_stack());
/// assert_eq!(TensorName::parse("output.weight").layer, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct TensorName<'n> {
    stack: Option<Stack>,
    /// The layer, if it is in one; in a model of encoder and decoder, of either.
    pub layer: Option<u64>,
    /// What it is there: the name without the layer and without what follows it, e.g. `attn_q`.
    pub kind: &'n str,
}

impl<'n> TensorName<'n> {
    /// Takes a name apart. Any text has a kind.
    pub fn parse(name: &'n str) -> Self {
        let in_layer = |(stack, prefix): (Stack, &str)| {
            let (layer, rest) = name.strip_prefix(prefix)?.split_once('.')?;
            Some((stack, layer.parse().ok()?, rest))
        };
        let found = Stack::ALL.into_iter().find_map(in_layer);
        let rest = found.map_or(name, |(.., rest)| rest);
        let kind = rest.split_once('.').map_or(rest, |(kind, _)| kind);
        Self {
            stack: found.map(|(stack, ..)| stack),
            layer: found.map(|(_, layer, _)| layer),
            kind,
        }
    }

    /// Whether it is a table with a row for each token that goes into the model.
    pub fn is_token_embedding(&self) -> bool {
        self.layer.is_none() && matches!(self.kind, "token_embd" | "per_layer_token_embd")
    }

    /// Whether it is what predicts tokens.
    pub fn is_output(&self) -> bool {
        self.layer.is_none() && self.kind == "output"
    }

    /// Whether it is a stack of matrices, one for each expert.
    pub fn is_expert_stack(&self) -> bool {
        self.layer.is_some() && self.kind.ends_with("_exps")
    }

    /// Which of two tensors of an architecture is computed first: layer after layer, the encoder's
    /// before the decoder's, in a layer in the order of its slots. `None` if it is in no layer, or no
    /// architecture has a slot for such a tensor.
    pub fn place(&self, architecture: &str) -> Option<Place> {
        // Others name tensors as Llama does, or as some other architecture does.
        let own = [architecture, "llama"].into_iter().filter_map(Architecture::find);
        let mut described = own.chain(crate::ALL.iter().copied()).enumerate();
        let slot = described.find_map(|(nth, architecture)| {
            let is_it = |slot: &Slot| {
                let kind = match slot.name.split_once("{}") {
                    Some((_, "")) => Some(slot.suffix),
                    Some((_, rest)) => rest.split('.').nth(1),
                    None => None,
                };
                kind == Some(self.kind)
            };
            Some((nth, architecture.slots().position(is_it)?))
        })?;
        let stack = self.stack?;
        // A decoder's layers are computed when the encoder's are.
        Some(Place { decoder: stack == Stack::Decoder, layer: self.layer?, slot })
    }
}

/// Where in a model's computation a tensor is needed, see [`TensorName::place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    decoder: bool,
    layer: u64,
    slot: (usize, usize),
}

impl Place {
    /// The layer that it is in, and whether that is one of a decoder behind an encoder.
    pub fn layer(&self) -> (bool, u64) {
        (self.decoder, self.layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, layer, kind) in [
            ("blk.12.ffn_gate_exps.weight", Some(12), "ffn_gate_exps"),
            ("blk.0.ssm_a", Some(0), "ssm_a"),
            ("enc.blk.1.attn_rel_b.weight", Some(1), "attn_rel_b"),
            ("token_embd.weight", None, "token_embd"),
            ("blk.x.attn_q.weight", None, "blk"),
            ("blk.", None, "blk"),
            ("", None, ""),
            ("v.blk.0.ln1.weight", None, "v"),
        ] {
            let parsed = TensorName::parse(name);
            assert_eq!((parsed.layer, parsed.kind), (layer, kind), "{name}");
        }
        assert!(TensorName::parse("per_layer_token_embd.weight").is_token_embedding());
        assert!(!TensorName::parse("blk.0.token_embd.weight").is_token_embedding());
        assert!(TensorName::parse("output.weight").is_output());
        assert!(!TensorName::parse("output_norm.weight").is_output());
    }

    /// Every matrix of a layer of every architecture has a place of its own.
    #[test]
    fn places_follow_the_description() {
        for architecture in crate::ALL {
            let mut seen = std::collections::BTreeMap::new();
            for slot in architecture.slots().filter(|slot| slot.name.contains("{}.")) {
                let name = slot.name.replace("{}", "3");
                let parsed = TensorName::parse(&name);
                let place = parsed.place(architecture.name).unwrap();
                let kind = *seen.entry(place).or_insert(parsed.kind.to_owned()) == parsed.kind;
                assert!(kind, "{}: {name}", architecture.name);
            }
        }
        let place = |arch: &str, name: &str| TensorName::parse(name).place(arch);
        let order = |arch: &str, names: &[&str]| {
            assert!(names.iter().map(|name| place(arch, name).unwrap()).is_sorted(), "{names:?}");
        };
        order(
            "llama",
            &["blk.0.attn_q.w", "blk.0.attn_v.w", "blk.0.attn_output.w", "blk.0.ffn_gate.w"],
        );
        order("llama", &["blk.2.ffn_down.weight", "blk.10.attn_q.weight"]);
        order("t5", &["enc.blk.9.ffn_down.weight", "dec.blk.0.attn_q.weight"]);
        // An architecture that is not described has its tensors where others have them.
        order("new", &["blk.0.attn_q.weight", "blk.0.ffn_up.weight"]);
        assert_eq!(place("llama", "output.weight"), None);
        assert_eq!(place("llama", "blk.0.colour.weight"), None);
    }
}
