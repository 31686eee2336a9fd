//! From a tensor of a file to one of candle.

use std::{borrow::Cow, sync::Arc};

use candle_core::{
    Device, Result, Tensor,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor as CandleQTensor},
};
use quant_core::{GgmlType, QTensor};
use quant_kernels::Kernels;

/// The values, in single precision.
pub fn values(tensor: &QTensor<'_>) -> Result<Tensor> {
    let values = Kernels::best().dequantize(tensor).map_err(candle_core::Error::wrap)?;
    Tensor::from_vec(values, tensor.shape(), &Device::Cpu)
}

/// The same blocks as a quantized tensor of candle; nothing is quantized again. `None` where candle
/// does not have the type.
pub fn blocks(tensor: &QTensor<'_>) -> Result<Option<CandleQTensor>> {
    let Some(ty) = candle_type(tensor.ty()) else { return Ok(None) };
    let storage = QStorage::from_data(Cow::Borrowed(tensor.bytes()), &Device::Cpu, ty)?;
    CandleQTensor::new(storage, tensor.shape()).map(Some)
}

/// A matrix to multiply with: as blocks, or as values where candle does not have the type.
pub fn matrix(tensor: &QTensor<'_>) -> Result<QMatMul> {
    match blocks(tensor)? {
        Some(blocks) => QMatMul::from_arc(Arc::new(blocks)),
        None => values(tensor).map(QMatMul::Tensor),
    }
}

pub fn candle_type(ty: GgmlType) -> Option<GgmlDType> {
    Some(match ty {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2_K => GgmlDType::Q2K,
        GgmlType::Q3_K => GgmlDType::Q3K,
        GgmlType::Q4_K => GgmlDType::Q4K,
        GgmlType::Q5_K => GgmlDType::Q5K,
        GgmlType::Q6_K => GgmlDType::Q6K,
        _ => return None,
    })
}
