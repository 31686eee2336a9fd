//! Values of options: from text to what it stands for.

use gguf_io::metadata::Value;
use quant_convert::{
    grouped::{self, Preset, preset},
    recipe::{self, FileType, TensorOverride},
};
use quant_core::{
    GgmlType,
    grouped::{Fallback, GroupSize, GroupedType},
};

use super::convert::TypeArg;

pub(super) const FALLBACKS: [(&str, Fallback); 3] =
    [("error", Fallback::Error), ("ignore", Fallback::Ignore), ("adjust", Fallback::Adjust)];

pub(super) fn preset_name(text: &str) -> Result<&'static Preset, String> {
    preset(text).ok_or_else(|| {
        let names: Vec<_> = grouped::PRESETS.iter().map(|preset| preset.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(super) fn group_size(text: &str) -> Result<GroupSize, &'static str> {
    let number = text.parse().ok().and_then(GroupSize::from_number);
    number.ok_or("expected a positive number, or -1 for whole rows")
}

pub(super) fn ratio(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    number.ok_or("expected a number from 0 to 1")
}

pub(super) fn prior(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|prior| (0.0..=1e30).contains(prior));
    number.ok_or("expected a number from 0 to 1e30")
}

pub(super) fn named<T: Copy>(text: &str, names: &[(&'static str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(super) fn file_type(text: &str) -> Result<TypeArg, String> {
    match GroupedType::from_name(text) {
        Some(ty) => Ok(TypeArg::Grouped(ty)),
        None => FileType::parse_or_auto(text).map(TypeArg::Recipe).map_err(|error| {
            let names = GroupedType::ALL.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ");
            format!("{error}, or grouped integers: {names}")
        }),
    }
}

pub(super) fn output_tensor_type(text: &str) -> Result<GgmlType, recipe::Error> {
    recipe::parse_type_name(text, "--output-tensor-type")
}

pub(super) fn token_embedding_type(text: &str) -> Result<GgmlType, recipe::Error> {
    recipe::parse_type_name(text, "--token-embedding-type")
}

/// The value of a `--tensor-type`, which may be a list.
#[derive(Clone, Debug)]
pub(crate) struct TensorTypes(pub(crate) Vec<TensorOverride>);

pub(super) fn tensor_types(text: &str) -> Result<TensorTypes, recipe::Error> {
    recipe::parse_tensor_types(text).map(TensorTypes)
}

/// A size such as `2G`, in bytes.
pub(super) fn split_size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size such as 500M or 2G, or a number of bytes".to_owned();
    let (number, unit) = match text.char_indices().next_back().ok_or_else(expected)? {
        (end, c) if c.is_ascii_alphabetic() => (text.get(..end), c.to_ascii_uppercase()),
        _ => (Some(text), ' '),
    };
    let power = " KMGT".find(unit).ok_or_else(expected)?;
    let number: u64 = number.unwrap_or_default().parse().map_err(|_| expected())?;
    let factor = u32::try_from(power).ok().and_then(|power| 1000u64.checked_pow(power));
    match factor.and_then(|factor| number.checked_mul(factor)) {
        Some(0) => Err("expected a size above zero".into()),
        Some(bytes) => Ok(bytes),
        None => Err("expected a size below 2^64 bytes".into()),
    }
}

/// `KEY=TYPE:VALUE`; an `int` is stored as UINT32, as llama-quantize does.
pub(super) fn override_kv(text: &str) -> Result<(String, Value), String> {
    let shape = "expected KEY=TYPE:VALUE, with TYPE one of int, float, bool, str";
    let (key, rest) = text.split_once('=').ok_or(shape)?;
    let (ty, value) = rest.split_once(':').ok_or(shape)?;
    if key.is_empty() {
        return Err(shape.into());
    }
    let bad = |expected: &str| format!("{value:?} is not {expected}");
    let value = match ty {
        "int" => Value::from(value.parse::<u32>().map_err(|_| bad("an integer of 32 bits"))?),
        "float" => {
            let number = value.parse::<f32>().ok().filter(|v| v.is_finite());
            Value::from(number.ok_or_else(|| bad("a finite number"))?)
        }
        "bool" => Value::from(value.parse::<bool>().map_err(|_| bad("true or false"))?),
        "str" => Value::from(value),
        _ => return Err(shape.into()),
    };
    Ok((key.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouped_options_are_checked() {
        assert!(ratio("0.8").is_ok() && ratio("1.1").is_err() && ratio("nan").is_err());
        assert!(group_size("-1").is_ok() && group_size("0").is_err() && group_size("x").is_err());
        assert!(named("Adjust", &FALLBACKS).is_ok() && named("guess", &FALLBACKS).is_err());
    }

    #[test]
    fn sizes_have_units_of_a_thousand() {
        for (text, bytes) in [
            ("1", 1),
            ("12k", 12_000),
            ("500M", 500_000_000),
            ("2G", 2_000_000_000),
            ("3T", 3_000_000_000_000),
        ] {
            assert_eq!(split_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0G", "G", "-1M", "1.5G", "2GB", "1P", "99999999999T", "2 G", "٣G"] {
            assert!(split_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overrides_are_typed() {
        assert_eq!(override_kv("a.b=int:7").unwrap(), ("a.b".into(), Value::Uint32(7)));
        assert_eq!(override_kv("k=float:0.5").unwrap().1, Value::Float32(0.5));
        assert_eq!(override_kv("k=bool:true").unwrap().1, Value::Bool(true));
        assert_eq!(override_kv("k=str:a=b:c").unwrap().1, Value::from("a=b:c"));
        for bad in ["k", "k=int", "k=int:-1", "k=int:x", "k=float:nan", "k=list:1", "=int:1"] {
            assert!(override_kv(bad).is_err(), "{bad}");
        }
    }
}
