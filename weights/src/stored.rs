//! Reading what is stored at a place in a file.

use gguf_io::SourceFile;
use half::{bf16, f16};
use quant_core::GgmlType;

use crate::Result;

/// Where the data of a tensor begins: the number of the file, and the offset in it.
pub(crate) type Place = (usize, u64);

/// Buffers for what is read on the way to values.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) codes: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<u8>,
}

/// Fills `out` with units of so many bytes, from the one numbered `first` on.
pub(crate) fn read(
    files: &[SourceFile],
    (file, offset): Place,
    first: u64,
    unit: u64,
    out: &mut [u8],
) -> Result<()> {
    let too_large = quant_core::Error::TooLarge;
    let file = files.get(file).ok_or_else(|| too_large.clone())?;
    let at = first.checked_mul(unit).and_then(|distance| offset.checked_add(distance));
    Ok(file.read_exact_at(out, at.ok_or(too_large)?)?)
}

/// Adds half, bfloat16 or single-precision bytes, or exponents of two, to values.
pub(crate) fn floats(ty: GgmlType, bytes: &[u8], out: &mut Vec<f32>) {
    match ty {
        GgmlType::F16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()));
        }
        GgmlType::BF16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
        }
        // The exponent of a number in single precision, as it is stored there; 0 is half of that of 1.
        GgmlType::I8 => out.extend(bytes.iter().map(|byte| match byte {
            0 => f32::from_bits(1 << 22),
            255 => f32::NAN,
            exponent => f32::from_bits(u32::from(*exponent) << 23),
        })),
        _ => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_powers_of_two() {
        let mut found = Vec::new();
        floats(GgmlType::I8, &[0, 1, 126, 127, 128, 254, 255], &mut found);
        let powers = [-127, -126, -1, 0, 1, 127].map(|power| 2f64.powi(power) as f32);
        assert_eq!(found[..6], powers);
        assert!(found[6].is_nan());
    }
}
