//! Codes of a checkpoint that become blocks of GGUF as they are, without a detour through floats.
//!
//! GPTQ, AWQ, AutoRound, compressed-tensors and MLX store what Q4_0, Q4_1 and Q8_0 store: codes of a few
//! bits, and scales. Restoring the weights and quantizing them again would add an error that nothing
//! makes necessary. Blocks hold the codes where they can:
//!
//! | type | codes | scale | values |
//! |---|---|---|---|
//! | Q4_0 | −8 to 7 around their zero point | half precision holds it | exactly those of the checkpoint |
//! | Q4_1 | 0 to 15 | half precision holds it | the minimum rounds to half precision |
//! | Q8_0 | −128 to 127 around their zero point | half precision holds it | exactly those of the checkpoint |
//!
//! Whether that is so can differ from block to block: those that cannot be carried are quantized anew.

use half::f16;
use quant_core::{
    GgmlType,
    formats::{BlockQ4_0, BlockQ4_1, BlockQ8_0, F16Le},
};
use quant_kernels::Kernels;
use quant_weights::{CodeBlock, Offset, Source};

use crate::{
    Result,
    model::{Model, Tensor},
};

/// Rows that are looked at before a tensor's type is chosen: as many as share a word in AWQ.
const SAMPLE: u64 = 8;

/// Whether a tensor is stored in whole numbers with scales.
pub(crate) fn is_coded(tensor: &Tensor) -> bool {
    tensor.codes().is_some()
}

/// What can be told of a tensor's codes before all of them are read.
#[derive(Debug)]
pub(crate) struct Sample {
    bits: u32,
    blocks: Vec<CodeBlock>,
}

impl Sample {
    /// Looks at the first rows of a tensor. `None` if its codes cannot be carried whatever they are.
    ///
    /// # Errors
    /// If reading fails.
    pub(crate) fn read(model: &Model, tensor: &Tensor) -> Result<Option<Self>> {
        let Some(codes) = tensor.codes().filter(|codes| codes.has_blocks) else { return Ok(None) };
        let mut blocks = Vec::new();
        let end = tensor.row_len().saturating_mul(SAMPLE).min(tensor.elements());
        model.reader(Kernels::default()).code_blocks(tensor, 0..end, &mut blocks)?;
        Ok(Some(Self { bits: codes.bits, blocks }))
    }

    /// Whether the codes are carried where the tensor is to be of this type.
    pub(crate) fn fits(&self, ty: GgmlType) -> bool {
        let has_width = match ty {
            GgmlType::Q4_0 | GgmlType::Q4_1 => self.bits <= 4,
            GgmlType::Q8_0 => self.bits > 4,
            _ => false,
        };
        let mut out = vec![0; ty.block_bytes()];
        let fit = self.blocks.iter().filter(|block| encode(ty, block, &mut out)).count();
        has_width && fit > 0 && fit >= self.blocks.len().div_ceil(2)
    }

    /// The type that has such codes, if any: what a tensor becomes where all are to stay as they are.
    pub(crate) fn natural_type(&self) -> Option<GgmlType> {
        [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0].into_iter().find(|ty| self.fits(*ty))
    }
}

/// What became of some blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Blocks whose codes were carried.
    pub(crate) blocks: u64,
    /// Scales that half precision does not hold.
    pub(crate) inexact_scales: u64,
}

/// Puts codes into the blocks of `out`; leaves alone those that cannot be carried.
pub(crate) fn carry(ty: GgmlType, codes: &[CodeBlock], out: &mut [u8]) -> Carried {
    let mut carried = Carried::default();
    for (codes, out) in codes.iter().zip(out.chunks_exact_mut(ty.block_bytes())) {
        if codes.is_first && exact_half(codes.scale).is_none() {
            carried.inexact_scales += 1;
        }
        carried.blocks += u64::from(encode(ty, codes, out));
    }
    carried
}

/// Writes the block that has these codes, if the type has one; else `out` stays as it is.
fn encode(ty: GgmlType, block: &CodeBlock, out: &mut [u8]) -> bool {
    let Some(d) = exact_half(block.scale) else { return false };
    let is_nibble = |codes: &[u8; 32]| codes.iter().all(|code| *code < 16);
    match (ty, block.offset) {
        (GgmlType::Q4_0, Offset::Zero(zero)) => {
            let codes = around(&block.codes, zero, 8).filter(is_nibble);
            codes.is_some_and(|codes| write(&BlockQ4_0 { d, qs: nibbles(&codes) }, out))
        }
        (GgmlType::Q8_0, Offset::Zero(zero)) => {
            // From codes around 128 to codes around zero: the highest bit flips.
            let codes = around(&block.codes, zero, 128).map(|codes| codes.map(|code| code ^ 0x80));
            codes.is_some_and(|qs| write(&BlockQ8_0 { d, qs }, out))
        }
        (GgmlType::Q4_1, offset) if is_nibble(&block.codes) => {
            let minimum = match offset {
                Offset::Zero(zero) => -zero * block.scale,
                Offset::Bias(bias) => bias,
            };
            let m = to_half(minimum);
            is_finite(m) && write(&BlockQ4_1 { d, m, qs: nibbles(&block.codes) }, out)
        }
        _ => false,
    }
}

fn write<T: bytemuck::Pod>(block: &T, out: &mut [u8]) -> bool {
    out.copy_from_slice(bytemuck::bytes_of(block));
    true
}

/// Codes whose zero point becomes `middle`, if they stay bytes.
fn around(codes: &[u8; 32], zero: f32, middle: i32) -> Option<[u8; 32]> {
    // Zero points are whole numbers of at most nine bits.
    let shift = middle - zero as i32;
    let mut moved = [0; 32];
    for (to, code) in moved.iter_mut().zip(codes) {
        *to = u8::try_from(i32::from(*code) + shift).ok()?;
    }
    Some(moved)
}

/// The first half of the codes in the low four bits, the second in the high ones.
fn nibbles(codes: &[u8; 32]) -> [u8; 16] {
    let (low, high) = codes.split_at(16);
    let mut packed = [0; 16];
    for ((byte, low), high) in packed.iter_mut().zip(low).zip(high) {
        *byte = low | high << 4;
    }
    packed
}

fn to_half(value: f32) -> F16Le {
    F16Le::from_bits(quant_core::f32_to_f16(value))
}

fn is_finite(value: F16Le) -> bool {
    f16::from_bits(value.to_bits()).is_finite()
}

/// The value in half precision, if that holds it.
fn exact_half(value: f32) -> Option<F16Le> {
    let half = to_half(value);
    (is_finite(half) && f16::from_bits(half.to_bits()).to_f32() == value).then_some(half)
}

#[cfg(test)]
mod tests {
    use quant_core::dequantize;

    use super::*;

    fn block(codes: impl Fn(u8) -> u8, scale: f32, offset: Offset) -> CodeBlock {
        CodeBlock { codes: std::array::from_fn(|i| codes(i as u8)), scale, offset, is_first: true }
    }

    fn value(block: &CodeBlock, code: u8) -> f32 {
        match block.offset {
            Offset::Zero(zero) => (f32::from(code) - zero) * block.scale,
            Offset::Bias(bias) => f32::from(code) * block.scale + bias,
        }
    }

    /// The blocks of a type that hold the codes, restored.
    fn restored(ty: GgmlType, block: &CodeBlock) -> Option<Vec<f32>> {
        let mut bytes = vec![0; ty.block_bytes()];
        let carried = carry(ty, std::slice::from_ref(block), &mut bytes);
        let mut out = vec![0.0; 32];
        dequantize(ty, &bytes, &mut out).unwrap();
        (carried.blocks == 1).then_some(out)
    }

    #[test]
    fn blocks_hold_the_very_values() {
        use GgmlType::{Q4_0, Q4_1, Q8_0};
        let small = f16::from_bits(3).to_f32();
        for (ty, block) in [
            (Q4_0, block(|i| i % 16, 0.013_122_559, Offset::Zero(8.0))),
            (Q4_0, block(|i| i % 16, -small, Offset::Zero(8.0))),
            (Q4_0, block(|i| i % 8, 0.5, Offset::Zero(1.0))),
            (Q4_1, block(|i| i % 16, 0.5, Offset::Zero(3.0))),
            (Q4_1, block(|i| i % 16, 0.25, Offset::Bias(-1.75))),
            (Q8_0, block(|i| i.wrapping_mul(37), 0.013_122_559, Offset::Zero(128.0))),
            (Q8_0, block(|i| 100 + i, 0.5, Offset::Zero(100.0))),
        ] {
            let expected: Vec<_> = block.codes.iter().map(|code| value(&block, *code)).collect();
            assert_eq!(restored(ty, &block), Some(expected), "{ty} {block:?}");
        }
    }

    #[test]
    fn what_a_block_cannot_hold_is_left_alone() {
        use GgmlType::{Q4_0, Q4_1, Q8_0};
        for (ty, block) in [
            // A code that is nine steps from its zero point.
            (Q4_0, block(|i| i % 16, 0.5, Offset::Zero(6.0))),
            (Q4_0, block(|i| i % 16, 0.5, Offset::Bias(-4.0))),
            // Scales with too many bits, too large, too small, and not finite.
            (Q4_0, block(|i| i % 16, 0.1, Offset::Zero(8.0))),
            (Q4_0, block(|i| i % 16, 65_536.0, Offset::Zero(8.0))),
            (Q4_0, block(|i| i % 16, 1e-9, Offset::Zero(8.0))),
            (Q4_0, block(|i| i % 16, f32::NAN, Offset::Zero(8.0))),
            (Q4_1, block(|i| i, 0.5, Offset::Zero(8.0))),
            (Q4_1, block(|i| i % 16, 60_000.0, Offset::Zero(8.0))),
            (Q8_0, block(|i| i * 8, 0.5, Offset::Zero(100.0))),
        ] {
            assert_eq!(restored(ty, &block), None, "{ty} {block:?}");
        }
    }
}
