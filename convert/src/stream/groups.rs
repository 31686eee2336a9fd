//! Packed groups: codes, scales, zero points and the shape are tensors of their own.

use quant_core::{
    GgmlType,
    grouped::{ScaleType, pack},
};

use super::{Places, Worker, size};
use crate::{Result, chunks::Chunk, model::Tensor};

impl Worker<'_> {
    /// Writes codes, scales and zero points of some rows.
    pub(super) fn put_groups(
        &mut self,
        tensor: &Tensor,
        chunk: &Chunk,
        bits: u32,
        scale_type: ScaleType,
        places: &Places,
    ) -> Result<()> {
        let row_len = size(tensor.row_len())?;
        let row = chunk.start / tensor.row_len().max(1);
        let rows = self.groups.codes.len() / row_len.max(1);
        let groups = self.groups.scales.len() / rows.max(1);

        let words = pack::words(bits, row_len)?;
        self.bytes.resize(4 * words * rows, 0);
        pack::rows(bits, &self.groups.codes, row_len, &mut self.bytes)?;
        self.put(places.data, row * 4 * words as u64)?;

        if let Some(place) = places.scales {
            self.encode_scales(tensor, chunk, scale_type)?;
            self.put(place, row * 2 * groups as u64)?;
        }
        if let Some(place) = places.zero_points {
            let per_word = pack::per_word(bits)?;
            self.bytes.resize(4 * groups * rows.div_ceil(per_word), 0);
            pack::columns(bits, &self.groups.zero_points, groups, &mut self.bytes)?;
            self.put(place, row / per_word as u64 * 4 * groups as u64)?;
        }
        if let Some(place) = places.shape.filter(|_| row == 0) {
            let shape = [tensor.shape.get(1).copied().unwrap_or(1), tensor.row_len()];
            self.bytes.clear();
            self.bytes.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
            self.put(place, 0)?;
        }
        Ok(())
    }

    /// Leaves the scales in `bytes`, all of which are finite.
    fn encode_scales(&mut self, tensor: &Tensor, chunk: &Chunk, ty: ScaleType) -> Result<()> {
        self.bytes.clear();
        let group_len = self.groups.codes.len() / self.groups.scales.len().max(1);
        for (group, scale) in self.groups.scales.iter().enumerate() {
            let stored = ty.round(*scale);
            if !stored.is_finite() {
                let start = group.saturating_mul(group_len);
                let group = start..start.saturating_add(group_len);
                return Err(self.overflow(tensor, GgmlType::F16, chunk, group, None));
            }
            let bits = match ty {
                ScaleType::Bf16 => half::bf16::from_f32(stored).to_bits(),
                _ => half::f16::from_f32(stored).to_bits(),
            };
            self.bytes.extend(bits.to_le_bytes());
        }
        Ok(())
    }
}
