//! Values of options: from text to what it stands for.

use std::{env, path::PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use gguf_io::metadata::{Array, Value};
use quant_convert::{
    grouped::{self, Preset, preset},
    recipe::{self, FileType, TensorOverride},
};
use quant_core::{
    GgmlType,
    grouped::{Fallback, GroupSize, GroupedType},
};

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

/// What `--type` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeArg {
    /// A recipe; `None` is `auto`.
    Recipe(Option<FileType>),
    /// Grouped integers.
    Grouped(GroupedType),
}

/// A type by the name it was given.
#[derive(Clone, Debug)]
pub(crate) struct TypeName {
    pub(super) name: String,
    pub(super) ty: TypeArg,
}

pub(super) fn file_type(text: &str) -> Result<TypeName, String> {
    let ty = match GroupedType::from_name(text) {
        Some(ty) => Ok(TypeArg::Grouped(ty)),
        None => FileType::parse_or_auto(text).map(TypeArg::Recipe).map_err(|error| {
            let names = GroupedType::ALL.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ");
            format!("{error}, or grouped integers: {names}")
        }),
    };
    ty.map(|ty| TypeName { name: text.into(), ty })
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
    recipe::parse_tensor_types(text, "--tensor-type").map(TensorTypes)
}

/// The path of a file to write. Standard output is none: headers are written last, and an output has its
/// name only when it is complete.
pub(super) fn output() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err("files cannot be written to standard output; for a file of this name, ./-"),
        false => Ok(path),
    })
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

/// `I/N`: the shard I of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) number: u64,
    pub(crate) count: u64,
}

pub(super) fn shard(text: &str) -> Result<Shard, &'static str> {
    // The parser of numbers takes a sign.
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let (shard, of) = text.split_once('/').unwrap_or_default();
    match (number(shard), number(of)) {
        (Some(number @ 1..), Some(count)) if number <= count => Ok(Shard { number, count }),
        _ => Err("expected I/N, the number of a shard, from 1, and how many there are"),
    }
}

/// A type of GGUF metadata: of one value, or of the elements of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GgufType {
    scalar: Scalar,
    is_list: bool,
}

macro_rules! scalars {
    ($($name:literal, $variant:ident, $ty:ty, $expected:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Scalar { $($variant,)* }

        impl Scalar {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)*];

            fn expected(self) -> &'static str {
                match self { $(Self::$variant => $expected,)* }
            }

            fn value(self, text: &str) -> Option<Value> {
                match self { $(Self::$variant => <$ty as Parse>::parse(text).map(Value::from),)* }
            }

            fn list(self, items: &[serde_json::Value]) -> Option<Array> {
                match self {
                    $(Self::$variant => {
                        let items = items.iter().map(<$ty as Parse>::of_json);
                        items.collect::<Option<Vec<_>>>().map(Array::$variant)
                    })*
                }
            }
        }
    };
}

scalars! {
    "u8", Uint8, u8, "an integer from 0 to 255";
    "i8", Int8, i8, "an integer from -128 to 127";
    "u16", Uint16, u16, "an integer from 0 to 65535";
    "i16", Int16, i16, "an integer from -32768 to 32767";
    "u32", Uint32, u32, "an integer from 0 to 2^32 - 1";
    "i32", Int32, i32, "an integer from -2^31 to 2^31 - 1";
    "f32", Float32, f32, "a finite number";
    "bool", Bool, bool, "true or false";
    "str", String, gguf_io::GgufString, "text";
    "u64", Uint64, u64, "an integer from 0 to 2^64 - 1";
    "i64", Int64, i64, "an integer from -2^63 to 2^63 - 1";
    "f64", Float64, f64, "a finite number";
}

/// A value as an option gives it, or as an element of a JSON list.
trait Parse: Sized {
    fn parse(text: &str) -> Option<Self>;

    fn of_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            // As it is written: no integer goes through a float.
            serde_json::Value::Number(_) | serde_json::Value::Bool(_) => {
                Self::parse(&value.to_string())
            }
            _ => None,
        }
    }
}

macro_rules! parses {
    ($($ty:ty),*; $($float:ty),*) => {
        $(impl Parse for $ty {
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        })*
        $(impl Parse for $float {
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok().filter(|value: &Self| value.is_finite())
            }
        })*
    };
}
parses!(u8, i8, u16, i16, u32, i32, u64, i64, bool; f32, f64);

impl Parse for gguf_io::GgufString {
    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }

    fn of_json(value: &serde_json::Value) -> Option<Self> {
        value.as_str().map(Self::from)
    }
}

impl GgufType {
    fn from_name(name: &str) -> Option<Self> {
        let element = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let scalar = element.unwrap_or(name);
        let (_, scalar) = Scalar::NAMES.iter().find(|(name, _)| *name == scalar)?;
        Some(Self { scalar: *scalar, is_list: element.is_some() })
    }

    fn names() -> String {
        let names: Vec<_> = Scalar::NAMES.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// The value that a text stands for.
    fn parse(self, text: &str) -> Result<Value, String> {
        let expected = self.scalar.expected();
        if !self.is_list {
            let value = self.scalar.value(text);
            return value.ok_or_else(|| format!("{text:?} is not {expected}"));
        }
        let list = serde_json::from_str::<Vec<serde_json::Value>>(text).ok();
        let list = list.and_then(|items| self.scalar.list(&items)).map(Value::Array);
        list.ok_or_else(|| format!("{text:?} is not a list in JSON, each element {expected}"))
    }
}

/// The value in a file, without the end of its last line unless it is text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_file(ty: GgufType, bytes: Vec<u8>) -> Result<Value, String> {
    if ty == (GgufType { scalar: Scalar::String, is_list: false }) {
        return Ok(Value::String(bytes.into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    ty.parse(text.trim())
}

/// A key with its value, or the type and the file of its value.
#[derive(Clone, Debug)]
pub(crate) enum Setting {
    Value(String, Value),
    File { key: String, ty: GgufType, path: PathBuf },
}

/// `KEY=TYPE:VALUE` of `edit`.
pub(super) fn set(text: &str) -> Result<Setting, String> {
    let shape =
        || format!("expected KEY=TYPE:VALUE, with TYPE one of {}, or [TYPE]", GgufType::names());
    let (key, ty, value) = key_value(text).ok_or_else(shape)?;
    let ty = GgufType::from_name(ty).ok_or_else(shape)?;
    Ok(match value.strip_prefix('@') {
        Some(path) => Setting::File { key: key.into(), ty, path: path.into() },
        None => Setting::Value(key.into(), ty.parse(value)?),
    })
}

fn key_value(text: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = text.split_once('=')?;
    let (ty, value) = rest.split_once(':')?;
    (!key.is_empty()).then_some((key, ty, value))
}

/// `KEY=NEW`.
pub(super) fn rename(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.into(), to.into())),
        _ => Err("expected KEY=NEW"),
    }
}

/// `KEY=TYPE:VALUE`; `int` and `float` are UINT32 and FLOAT32, as in llama-quantize.
pub(super) fn override_kv(text: &str) -> Result<(String, Value), String> {
    let shape = || {
        format!(
            "expected KEY=TYPE:VALUE, with TYPE one of int, float, {}, or [TYPE]",
            GgufType::names()
        )
    };
    let (key, ty, value) = key_value(text).ok_or_else(shape)?;
    let ty = match ty {
        "int" => "u32",
        "float" => "f32",
        ty => ty,
    };
    Ok((key.into(), GgufType::from_name(ty).ok_or_else(shape)?.parse(value)?))
}

/// The folder of the Hugging Face cache, with `models--ORG--NAME` in it, by the variables that huggingface_hub reads.
pub(crate) fn hub_cache() -> Option<PathBuf> {
    let given = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || {
        let cache = given("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
        given("HF_HOME").or_else(|| Some(cache?.join("huggingface")))
    };
    given("HF_HUB_CACHE")
        .or_else(|| given("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(home()?.join("hub")))
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
    fn shards_are_counted_from_one() {
        assert_eq!(shard("2/6"), Ok(Shard { number: 2, count: 6 }));
        for bad in ["", "2", "0/6", "7/6", "+1/6", "1/+6", "1/6/6", "1 / 6", "-1/6", "1/0", "/"] {
            assert!(shard(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overrides_are_typed() {
        assert_eq!(override_kv("a.b=int:7").unwrap(), ("a.b".into(), Value::Uint32(7)));
        assert_eq!(override_kv("k=float:0.5").unwrap().1, Value::Float32(0.5));
        assert_eq!(override_kv("k=bool:true").unwrap().1, Value::Bool(true));
        assert_eq!(override_kv("k=str:a=b:c").unwrap().1, Value::from("a=b:c"));
        assert_eq!(override_kv("k=i64:-7").unwrap().1, Value::Int64(-7));
        assert_eq!(override_kv("k=[u32]:[1,2]").unwrap().1, Value::from(vec![1u32, 2]));
        let texts = Value::from(vec![gguf_io::GgufString::from("a"), "b".into()]);
        assert_eq!(override_kv(r#"k=[str]:["a","b"]"#).unwrap().1, texts);
        assert_eq!(override_kv("k=[f64]:[]").unwrap().1, Value::from(Vec::<f64>::new()));
        assert_eq!(
            override_kv("k=[u64]:[18446744073709551615]").unwrap().1,
            Value::from(vec![u64::MAX])
        );
        for bad in ["k=[u8]:[256]", "k=[u8]:1", "k=[[u8]]:[]", "k=[str]:[1]", "k=[bool]:[0]"] {
            assert!(override_kv(bad).is_err(), "{bad}");
        }
        for bad in ["k", "k=int", "k=int:-1", "k=int:x", "k=float:nan", "k=list:1", "=int:1"] {
            assert!(override_kv(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_name_a_value_or_a_file() {
        let file = set("tokenizer.chat_template=str:@a=b.jinja").unwrap();
        assert!(matches!(file, Setting::File { key, path, .. }
            if key == "tokenizer.chat_template" && path.as_os_str() == "a=b.jinja"));
        assert!(matches!(set("k=u8:7").unwrap(), Setting::Value(_, Value::Uint8(7))));
        let list = GgufType::from_name("[i8]").unwrap();
        assert_eq!(parse_file(list, b"[1, -2]\n".to_vec()), Ok(vec![1i8, -2].into()));
        let text = GgufType::from_name("str").unwrap();
        assert_eq!(parse_file(text, b"a\n".to_vec()), Ok("a\n".into()));
        assert!(parse_file(list, vec![0xff]).is_err());
        assert!(set("k=int:1").is_err() && set("k").is_err() && set("=u8:1").is_err());
        assert!(rename("a=b").is_ok() && rename("a=").is_err() && rename("a").is_err());
    }
}
