//! NVFP4: floats of four bits, a scale of eight bits for each 16 of them, and one in single precision
//! for the tensor, as ModelOpt and compressed-tensors store them.
//!
//! ggml's blocks take the first two as they are. The third stays a tensor of its own, by which llama.cpp
//! multiplies what comes of the weight.

use gguf_io::{Checkpoint, CheckpointTensor, Dtype};

use crate::{Result, packed::Parts};

/// Values of a block of ggml, the bytes of its codes, and those of its scales.
pub(crate) const BLOCK: (u64, u64, u64) = (64, 32, 4);

/// Which names the parts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// `weight`, and what is multiplied: `weight_scale_2`, `input_scale`.
    ModelOpt,
    /// `weight_packed`, and what is divided by: `weight_global_scale`, `input_global_scale`.
    Compressed,
}

/// What a weight in NVFP4 is multiplied with, and how engines may compute with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nvfp4 {
    /// The file of the scales.
    pub file: usize,
    /// Their offset in it.
    pub offset: u64,
    /// What values are multiplied with beside their scales.
    pub scale: f32,
    /// What inputs are multiplied with before they become codes.
    pub input_scale: f32,
    /// Whether inputs are to stay as they are (`W4A16_NVFP4`).
    pub weight_only: bool,
}

impl Names {
    fn codes(self) -> &'static str {
        match self {
            Self::ModelOpt => "weight",
            Self::Compressed => "weight_packed",
        }
    }

    /// The scale of the tensor and that of its inputs.
    fn scales(self) -> [&'static str; 2] {
        match self {
            Self::ModelOpt => ["weight_scale_2", "input_scale"],
            Self::Compressed => ["weight_global_scale", "input_global_scale"],
        }
    }

    /// The modules of a checkpoint whose weight is in NVFP4. Other weights of four bits have words.
    pub(crate) fn modules(self, checkpoint: &Checkpoint) -> Vec<String> {
        let end = format!(".{}", self.codes());
        let codes = checkpoint.tensors.iter().filter(|(_, tensor)| tensor.dtype == Dtype::U8);
        let modules = codes.filter_map(|(name, _)| name.strip_suffix(&end));
        modules.map(str::to_owned).collect()
    }
}

/// The weight of a module: what stands for it in the checkpoint, how it is stored, and its parts.
///
/// # Errors
/// [`Error::Packed`](crate::Error::Packed) for parts that do not fit each other.
pub(crate) fn layer(
    parts: &Parts<'_>,
    names: Names,
    weight_only: bool,
) -> Result<(CheckpointTensor, Nvfp4, Vec<&'static str>)> {
    let codes = parts.need(names.codes(), &[Dtype::U8])?;
    let scales = parts.need("weight_scale", &[Dtype::F8E4M3])?;
    let rows = codes.rows;
    let columns = codes.columns.saturating_mul(2);
    if !columns.is_multiple_of(BLOCK.0) {
        let expected = format!("a multiple of {}, as the blocks of GGUF", BLOCK.0);
        return Err(parts.wrong(names.codes(), &format!("rows of {columns} values"), &expected));
    }
    parts.expect("weight_scale", &scales, rows, columns / 16)?;
    let mut used = vec![names.codes(), "weight_scale"];
    let mut factors = [1f32; 2];
    for (factor, name) in factors.iter_mut().zip(names.scales()) {
        let Some(part) = parts.find(name, &[Dtype::F32, Dtype::BF16, Dtype::F16])? else {
            continue;
        };
        parts.expect(name, &part, 1, 1)?;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        part.read(&parts.checkpoint.files, (0, 0), 1, &mut bytes)?;
        part.push_floats(&bytes, &mut values);
        let value = values.first().copied().unwrap_or(f32::NAN);
        *factor = if names == Names::Compressed { 1.0 / value } else { value };
        if !factor.is_finite() {
            return Err(parts.wrong(name, &value.to_string(), "a finite number that is not zero"));
        }
        used.push(name);
    }
    let [scale, input_scale] = factors;
    let (file, offset) = (scales.file, scales.offset);
    let own = Nvfp4 { file, offset, scale, input_scale, weight_only };
    let weight = CheckpointTensor {
        dtype: Dtype::F32,
        shape: vec![rows, columns],
        file: codes.file,
        offset: codes.offset,
        bytes: codes.bytes(),
    };
    Ok((weight, own, used))
}

/// The block ggml makes of 64 values: their four scales without a sign, then the codes, of each 16 the
/// first half in the low four bits and the second in the high ones, where the source has neighbours
/// together.
pub(crate) fn block(codes: &[u8; 32], scales: &[u8; 4], out: &mut [u8]) {
    let (to_scales, to_codes) = out.split_at_mut(scales.len().min(out.len()));
    to_scales.iter_mut().zip(scales).for_each(|(to, scale)| *to = scale & 0x7f);
    for (to, codes) in to_codes.chunks_mut(8).zip(codes.chunks(8)) {
        let code = |i: usize| codes.get(i / 2).map_or(0, |pair| (pair >> (4 * (i % 2))) & 15);
        for (i, byte) in to.iter_mut().enumerate() {
            *byte = code(i) | (code(i + 8) << 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_each_scale_are_dealt_to_two_halves() {
        // Values 0 to 15 four times, neighbours in a byte.
        let codes = std::array::from_fn(|i| {
            let first = (2 * i % 16) as u8;
            first | (first + 1) << 4
        });
        let mut out = [0; 36];
        block(&codes, &[1, 0x80 | 2, 3, 4], &mut out);
        assert_eq!(out[..4], [1, 2, 3, 4]);
        for halves in out[4..].chunks(8) {
            assert_eq!(*halves, std::array::from_fn::<u8, 8, _>(|i| i as u8 | (i as u8 + 8) << 4));
        }
    }
}
