//! Options of `convert` that choose types for a size.

use std::path::PathBuf;

use clap::Args;
use quant_convert::{mix::Size, recipe};
use quant_core::GgmlType;

use super::values::output;

#[derive(Debug, Args)]
#[command(next_help_heading = "Types for a size")]
pub(crate) struct MixArgs {
    /// Choose the type of every tensor so that the file, with all its parts, is not larger than SIZE
    /// and loses least: a number of bytes, or a number with K, M, G or T (powers of 1000) or Ki, Mi,
    /// Gi or Ti (of 1024)
    #[arg(long, value_name = "SIZE", value_parser = target_size, group = "target")]
    #[arg(conflicts_with_all = ["file_types", "pure", "preset"])]
    pub(crate) target_size: Option<Size>,

    /// The same for bits per weight, headers left out
    #[arg(long, value_name = "BITS", value_parser = target_bits, group = "target")]
    #[arg(conflicts_with_all = ["file_types", "pure", "preset"])]
    pub(crate) target_bpw: Option<Size>,

    /// Measure on a text how much the model suffers from errors in each tensor: UTF-8, or token ids as
    /// a list in JSON. Without it a prior says so
    #[arg(long, value_name = "TEXT", requires = "target")]
    pub(crate) calibration: Option<PathBuf>,

    /// What was measured before; with --calibration the file to write it to
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) sensitivities: Option<PathBuf>,

    /// Types that may be used [default: q2_k iq3_s q3_k iq4_xs q4_k q5_k q6_k q8_0; with an
    /// importance matrix iq2_xxs iq2_xs iq2_s iq3_xxs too; q4_0 q4_1 iq4_nl q5_0 q5_1 for rows that these do not
    /// fit; and the floats of the input]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', value_parser = candidate)]
    #[arg(requires = "target")]
    pub(crate) candidates: Vec<GgmlType>,

    /// Write the types that were chosen to a file for --tensor-type-file
    #[arg(long, value_name = "FILE", requires = "target", value_parser = output())]
    pub(crate) save_mix: Option<PathBuf>,
}

impl MixArgs {
    /// The size asked for.
    pub(crate) fn size(&self) -> Option<Size> {
        self.target_size.or(self.target_bpw)
    }
}

fn candidate(text: &str) -> Result<GgmlType, recipe::Error> {
    recipe::parse_type_name(text, "--candidates")
}

/// A size such as `7.5G`, in bytes.
fn target_size(text: &str) -> Result<Size, String> {
    let expected = || "expected a size such as 500M, 7.5G or 8Gi, or a number of bytes".to_owned();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or_else(expected)?;
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix('b').filter(|_| unit != "b").unwrap_or(&unit);
    let (unit, base) = match unit.strip_suffix('i') {
        Some(unit) => (unit, 1024u64),
        None => (unit, 1000),
    };
    let power = match unit {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(expected()),
    };
    let is_number = |c: u8| c.is_ascii_digit() || c == b'.';
    if number.is_empty() || !number.bytes().all(is_number) {
        return Err(expected());
    }
    let factor = base.pow(power);
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        Err(_) => {
            let number: f64 = number.parse().map_err(|_| expected())?;
            let bytes = number * factor as f64;
            (bytes < 1.8e19).then_some(bytes as u64)
        }
    };
    match bytes {
        Some(0) => Err("expected a size above zero".into()),
        Some(bytes) => Ok(Size::Bytes(bytes)),
        None => Err("expected a size below 2^64 bytes".into()),
    }
}

fn target_bits(text: &str) -> Result<Size, &'static str> {
    let number = text.parse().ok().filter(|bits: &f64| *bits > 0.0 && *bits <= 32.0);
    number.map(Size::BitsPerWeight).ok_or("expected a number above 0, at most 32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in [
            ("1000000", 1_000_000),
            ("500M", 500_000_000),
            ("7.5G", 7_500_000_000),
            ("7.5gb", 7_500_000_000),
            ("8Gi", 8 << 30),
            ("8GiB", 8 << 30),
            ("0.5k", 500),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(target_size(text), Ok(Size::Bytes(bytes)), "{text}");
        }
        for bad in [
            "",
            "0",
            "0.0G",
            "G",
            "-1M",
            "1e3",
            "2 G",
            "2Q",
            "9i",
            "i",
            "99999999T",
            "1..5G",
            "٣G",
            "nan",
            "b",
        ] {
            assert!(target_size(bad).is_err(), "{bad}");
        }
        assert_eq!(target_bits("4.5"), Ok(Size::BitsPerWeight(4.5)));
        for bad in ["0", "-1", "33", "nan", "x", ""] {
            assert!(target_bits(bad).is_err(), "{bad}");
        }
    }
}
