//! Ranges of a tensor's values in single precision.

use std::ops::Range;

use quant_core::GgmlType;
use quant_kernels::Kernels;

use crate::{
    Error, Result,
    model::{ElementMap, Model, Tensor, TensorData},
    rows::RowReader,
};

/// The buffers of one thread.
pub(crate) struct Loader<'a> {
    pub(crate) model: &'a Model,
    pub(crate) kernels: Kernels,
    stored: Vec<u8>,
    /// The values loaded last.
    pub(crate) values: Vec<f32>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(model: &'a Model, kernels: Kernels) -> Self {
        Self { model, kernels, stored: vec![], values: vec![] }
    }

    /// Fills `values` with a range of a tensor, all of which are finite; returns their largest
    /// magnitude.
    pub(crate) fn load_finite(&mut self, tensor: &Tensor, start: u64, len: u64) -> Result<f32> {
        let magnitude = self.load(tensor, start, len)?;
        if magnitude.is_finite() { Ok(magnitude) } else { Err(self.not_finite(tensor)) }
    }

    /// Fills `values`; returns their largest magnitude.
    pub(crate) fn load(&mut self, tensor: &Tensor, start: u64, len: u64) -> Result<f32> {
        let count = usize::try_from(len).map_err(|_| quant_core::Error::TooLarge)?;
        self.values.resize(count, 0.0);
        match &tensor.data {
            TensorData::Stored { map, .. } => {
                RowReader::new(self.model, tensor).read(start, len, &mut self.stored)?;
                let source = tensor.source_type();
                let magnitude = self.kernels.widen(source, &self.stored, &mut self.values)?;
                if *map == ElementMap::Same {
                    return Ok(magnitude);
                }
                let round: fn(f32) -> f32 = match source {
                    GgmlType::F16 => |value| half::f16::from_f32(value).to_f32(),
                    _ => |value| value,
                };
                let row_len = tensor.row_len().max(1);
                for (at, value) in (start..).zip(&mut self.values) {
                    *value = map.apply(*value, at / row_len, round);
                }
                Ok(self.kernels.magnitude(&self.values))
            }
            TensorData::Computed(values) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let values = values.get(start..).unwrap_or_default();
                for (out, v) in self.values.iter_mut().zip(values) {
                    *out = *v;
                }
                Ok(self.kernels.magnitude(&self.values))
            }
        }
    }

    /// The largest magnitude of some of the loaded values, and its index among all.
    pub(crate) fn largest(&self, within: Range<usize>) -> (u64, f32) {
        let values = self.values.get(within.clone()).unwrap_or_default();
        let largest = (within.start as u64..)
            .zip(values)
            .fold((0, 0.0), |most, (i, v)| if v.abs() > most.1 { (i, v.abs()) } else { most });
        if largest.1 > 0.0 { largest } else { (within.start as u64, 0.0) }
    }

    /// Goes through the whole tensor to say how many values are not finite and which is first.
    fn not_finite(&mut self, tensor: &Tensor) -> Error {
        const STEP: u64 = 1 << 16;
        let (mut first, mut count) = (None, 0u64);
        let elements = tensor.elements();
        let step = STEP.next_multiple_of(tensor.source_type().block_len() as u64);
        let mut start = 0;
        while start < elements {
            let len = step.min(elements - start);
            if let Err(error) = self.load(tensor, start, len) {
                return error;
            }
            for (i, v) in self.values.iter().enumerate().filter(|(_, v)| !v.is_finite()) {
                first.get_or_insert((start + i as u64, *v));
                count += 1;
            }
            start += len;
        }
        let (index, value) = first.unwrap_or((0, f32::NAN));
        Error::NonFinite { tensor: tensor.name.clone(), index, value, count }
    }
}
