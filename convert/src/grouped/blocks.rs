//! Groups of symmetric codes as blocks of GGUF that hold the same values.

use quant_core::{
    GgmlType,
    formats::{BlockQ4_0, BlockQ8_0, F16Le},
    grouped::Grouped,
};

/// Weights in a block of Q4_0 and Q8_0.
pub(super) const BLOCK: usize = 32;

/// Writes groups of symmetric codes as blocks of Q4_0 or Q8_0, each with the scale of its group.
///
/// Groups are whole blocks and `out` has their bytes.
pub(crate) fn encode(groups: &Grouped, group_len: usize, ty: GgmlType, out: &mut [u8]) {
    let blocks_per_group = (group_len / BLOCK).max(1);
    let (codes, _) = groups.codes.as_chunks::<BLOCK>();
    let scales = groups.scales.iter().flat_map(|s| std::iter::repeat_n(*s, blocks_per_group));
    let blocks = out.chunks_exact_mut(ty.block_bytes());
    for ((codes, scale), out) in codes.iter().zip(scales).zip(blocks) {
        let d = F16Le::from_bits(quant_core::f32_to_f16(scale));
        if ty == GgmlType::Q4_0 {
            let (low, high) = codes.split_at(BLOCK / 2);
            let mut block = BlockQ4_0 { d, qs: [0; 16] };
            for ((q, low), high) in block.qs.iter_mut().zip(low).zip(high) {
                *q = low | high << 4;
            }
            out.copy_from_slice(bytemuck::bytes_of(&block));
        } else {
            // From codes around 128 to codes around zero: the highest bit flips.
            let block = BlockQ8_0 { d, qs: codes.map(|code| code ^ 0x80) };
            out.copy_from_slice(bytemuck::bytes_of(&block));
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_core::grouped::{self, GroupedType};

    use super::*;

    #[test]
    fn blocks_hold_the_values_of_the_groups() {
        let values: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 300.0).collect();
        for (ty, block, len) in [
            (GroupedType::Int4Sym, GgmlType::Q4_0, 64),
            (GroupedType::Int4Sym, GgmlType::Q4_0, 256),
            (GroupedType::Int8Sym, GgmlType::Q8_0, 128),
        ] {
            let mut groups = grouped::quantize(ty, &values, len).unwrap();
            let mut bytes = vec![0; block.row_bytes(256).unwrap() as usize];
            encode(&groups, len, block, &mut bytes);
            let mut found = vec![0.0; 256];
            quant_core::dequantize(block, &bytes, &mut found).unwrap();
            for scale in &mut groups.scales {
                *scale = grouped::ScaleType::F16.round(*scale);
            }
            let mut expected = vec![0.0; 256];
            grouped::dequantize(groups.view(), len, &mut expected).unwrap();
            assert_eq!(found, expected, "{ty} {len}");
        }
    }
}
