//! The Python module: arrays of numpy in and out.
#![forbid(unsafe_code)]

use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArrayDyn,
    PyUntypedArrayMethods, dtype, ndarray::Dimension,
};
use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
    types::{PyDict, PyList},
};
use quant_convert::{Control, Options, Plan, recipe::Request};
use quant_core::{Error, GgmlType, QTensor};
use quant_kernels::Kernels;
use rayon::prelude::*;

/// Values that a thread takes at a time: enough to be worth it, few enough to share.
const CHUNK: usize = 1 << 16;

fn ggml_type(name: &str) -> PyResult<GgmlType> {
    name.parse().map_err(wrong)
}

fn wrong(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The elements of an array, row by row.
fn elements<'a, T: Element, D: Dimension>(
    array: &'a PyReadonlyArray<'_, T, D>,
    what: &str,
) -> PyResult<&'a [T]> {
    // Arrays in Fortran's order are one slice too, but column by column.
    let slice = if array.is_c_contiguous() { array.as_slice().ok() } else { None };
    slice.ok_or_else(|| {
        wrong(format!("{what} is not contiguous, row by row, or not aligned: pass {what}.copy()"))
    })
}

/// A new array of zeros; numpy says so if there is no memory for it.
fn zeros<'py, T: Element>(py: Python<'py>, shape: &[usize]) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let made = py.import("numpy")?.call_method1("zeros", (shape.to_vec(), dtype::<T>(py)))?;
    Ok(made.cast_into()?)
}

/// Counts the index in the error of a chunk from the start of the array.
fn placed(error: Error, start: usize) -> Error {
    match error {
        Error::Overflow { what: what @ "the row data", ty, index, value } => {
            Error::Overflow { what, ty, index: index.saturating_add(start), value }
        }
        other => other,
    }
}

/// Whole rows in chunks for threads: how many elements of each side belong to one.
fn chunks(row: usize, stored: usize) -> (usize, usize) {
    let rows = (CHUNK / row.max(1)).max(1);
    (rows * row.max(1), rows * stored.max(1))
}

/// Quantizing and dequantizing in every ggml type, with llama.cpp's bytes.
#[pymodule]
mod quantwright {
    #[pymodule_export]
    use super::{dequantize, plan, quantize};
}

/// Quantize a float32 array of whole rows to the blocks of a ggml type.
///
/// `importance` is one weight for each column, how much an error there matters: what an importance matrix
/// has for the tensor. Types such as IQ2_XS need it. Returns a uint8 array whose last dimension is the
/// bytes of a row.
#[pyfunction]
#[pyo3(signature = (array, r#type, importance=None))]
fn quantize<'py>(
    py: Python<'py>,
    array: PyReadonlyArrayDyn<'py, f32>,
    r#type: &str,
    importance: Option<PyReadonlyArray1<'py, f32>>,
) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    let ty = ggml_type(r#type)?;
    let mut shape = array.shape().to_vec();
    let Some(last) = shape.last_mut() else {
        return Err(wrong("the array has no dimensions: a row is needed"));
    };
    let row = *last;
    let stored = usize::try_from(ty.row_bytes(row as u64).map_err(wrong)?).map_err(wrong)?;
    *last = stored;
    let values = elements(&array, "array")?;
    let importance =
        importance.as_ref().map(|weights| elements(weights, "importance")).transpose()?;
    if let Some(at) = values.par_iter().position_first(|value| !value.is_finite()) {
        return Err(wrong(format!(
            "the value at {at} of the array is {}, which is not finite",
            values[at]
        )));
    }
    let blocks = zeros(py, &shape)?;
    let mut writable = blocks.readwrite();
    let out = writable.as_slice_mut().map_err(wrong)?;
    let (values_each, bytes_each) = chunks(row, stored);
    py.detach(|| {
        let parts = values.par_chunks(values_each).zip(out.par_chunks_mut(bytes_each));
        parts.enumerate().try_for_each(|(chunk, (values, out))| {
            let kernels = Kernels::best();
            let shape = [values.len() / row.max(1), row];
            let tensor = match importance {
                Some(weights) => kernels.quantize_weighted(ty, &shape, values, weights),
                None => kernels.quantize(ty, &shape, values),
            };
            let tensor = tensor.map_err(|error| placed(error, chunk * values_each))?;
            out.copy_from_slice(tensor.bytes());
            Ok(())
        })
    })
    .map_err(|error: Error| wrong(error))?;
    drop(writable);
    Ok(blocks)
}

/// Restore the float32 values of an array of blocks: uint8, the last dimension the bytes of a row.
#[pyfunction]
fn dequantize<'py>(
    py: Python<'py>,
    blocks: PyReadonlyArrayDyn<'py, u8>,
    r#type: &str,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let ty = ggml_type(r#type)?;
    let mut shape = blocks.shape().to_vec();
    let Some(last) = shape.last_mut() else {
        return Err(wrong("the array has no dimensions: the bytes of a row are needed"));
    };
    let stored = *last;
    if stored % ty.block_bytes() != 0 {
        let block = ty.block_bytes();
        return Err(wrong(format!(
            "rows have {stored} bytes, which is no multiple of the {block} of a block"
        )));
    }
    let row = (stored / ty.block_bytes())
        .checked_mul(ty.block_len())
        .ok_or_else(|| wrong("a row is too long"))?;
    *last = row;
    let bytes = elements(&blocks, "blocks")?;
    let values = zeros(py, &shape)?;
    let mut writable = values.readwrite();
    let out = writable.as_slice_mut().map_err(wrong)?;
    let (values_each, bytes_each) = chunks(row, stored);
    py.detach(|| {
        let parts = bytes.par_chunks(bytes_each).zip(out.par_chunks_mut(values_each));
        parts.try_for_each(|(bytes, out)| {
            let shape = [out.len() / row.max(1), row];
            _ = QTensor::new(ty, &shape, bytes)?;
            Kernels::best().dequantize_into(ty, bytes, out)
        })
    })
    .map_err(|error: Error| wrong(error))?;
    drop(writable);
    Ok(values)
}

/// Plan the conversion of a checkpoint or GGUF file: the type and size of every tensor. Nothing is written.
///
/// `type` is a recipe, as on the command line. Shapes have the innermost dimension first, as GGUF has them.
#[pyfunction]
#[pyo3(signature = (model, r#type="q4_k_m", imatrix=None))]
fn plan<'py>(
    py: Python<'py>,
    model: std::path::PathBuf,
    r#type: &str,
    imatrix: Option<std::path::PathBuf>,
) -> PyResult<Bound<'py, PyDict>> {
    let request = Request::new(r#type.parse().map_err(wrong)?);
    let options = Options { request, imatrix, ..Options::default() };
    let plan = py
        .detach(|| {
            Plan::new_with(quant_convert::open(&model, &options)?, &options, Control::default())
        })
        .map_err(|error| PyOSError::new_err(error.to_string()))?;
    let tensors = PyList::empty(py);
    for tensor in plan.tensors() {
        let entry = PyDict::new(py);
        entry.set_item("name", tensor.name)?;
        entry.set_item("type", tensor.ty.name())?;
        entry.set_item("shape", tensor.shape)?;
        entry.set_item("bytes", tensor.bytes)?;
        tensors.append(entry)?;
    }
    let found = PyDict::new(py);
    found.set_item("file_type", plan.file_type().map(|ty| ty.to_string()))?;
    found.set_item("tensors", tensors)?;
    found.set_item("total_bytes", plan.total_bytes())?;
    found.set_item("bits_per_weight", plan.bits_per_weight())?;
    Ok(found)
}
