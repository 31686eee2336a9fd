//! Options that are known to suit a model, as Optimum Intel ships them.

use quant_core::grouped::{GroupSize, GroupedType};

use super::Options;

/// A named set of options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// The name for `--preset`.
    pub name: &'static str,
    /// The model it was found for.
    pub model: &'static str,
    /// The type.
    pub ty: GroupedType,
    /// Weights in a group.
    pub group_size: i64,
    /// The share of the weights that get the type.
    pub ratio: f64,
}

const fn row(
    name: &'static str,
    model: &'static str,
    ty: GroupedType,
    group_size: i64,
    ratio: f64,
) -> Preset {
    Preset { name, model, ty, group_size, ratio }
}

/// All presets.
pub const PRESETS: &[Preset] = &[
    row("llama-2-7b", "meta-llama/Llama-2-7b", GroupedType::Int4Sym, 128, 0.6),
    row("llama-3.1-8b", "meta-llama/Llama-3.1-8B", GroupedType::Int4Asym, 64, 0.8),
    row("llama-3.2-1b", "meta-llama/Llama-3.2-1B", GroupedType::Int4Sym, 128, 1.0),
    row("mistral-7b", "mistralai/Mistral-7B", GroupedType::Int4Sym, 128, 0.9),
    row("phi-2", "microsoft/phi-2", GroupedType::Int4Asym, 64, 1.0),
    row("qwen2.5-7b", "Qwen/Qwen2.5-7B", GroupedType::Int4Asym, 128, 1.0),
];

/// The preset of this name, in any case.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

impl Preset {
    /// The options it stands for.
    pub fn options(&self) -> Options {
        Options {
            group_size: GroupSize::from_number(self.group_size),
            ratio: self.ratio,
            ..Options::new(self.ty)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_sorted() {
        assert!(PRESETS.is_sorted_by(|a, b| a.name < b.name));
        for p in PRESETS {
            assert!(
                GroupSize::from_number(p.group_size).is_some() && (0.0..=1.0).contains(&p.ratio)
            );
        }
        assert_eq!(preset("PHI-2").map(|p| p.options().group_size().number()), Some(64));
        assert_eq!(preset("gpt-5"), None);
    }
}
