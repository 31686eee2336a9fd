//! What packed layers are stored as, for people.

use std::{collections::HashMap, path::Path};

use gguf_io::{Checkpoint, Limits, safetensors::Preference};

use super::mlx;
use crate::{Config, Result};

/// Where the values of a layer are read: the number of the file and the offset in it.
type Place = (usize, u64);

/// The types of the packed layers of a checkpoint, such as `INT4_SYM` or `GPTQ_INT4`, by the places
/// at which `restored`, the checkpoint as it is read, has their values.
///
/// # Errors
/// As [`Checkpoint::open`].
pub(crate) fn types(
    dir: &Path,
    config: &Config,
    restored: &Checkpoint,
    preference: Preference,
    limits: &Limits,
) -> Result<HashMap<Place, String>> {
    let method = ["quantization_config", "quantization"].iter().find_map(|key| config.get(key));
    let Some(method) = method else { return Ok(HashMap::new()) };
    let method = method.get("quant_method").and_then(|name| name.as_str()).unwrap_or_default();
    let mut stored = Checkpoint::open_with(dir, preference, limits)?;
    mlx::unstack(&mut stored);
    let mut types = HashMap::new();
    for (name, tensor) in &restored.tensors {
        let Some(module) = name.strip_suffix(".weight") else { continue };
        let part = |part: &str| stored.tensors.get(&format!("{module}.{part}"));
        let codes = part("weight_packed").or_else(|| part("qweight"));
        // MLX keeps the name, and its codes are words.
        let codes = codes.or_else(|| stored.tensors.get(name).filter(|t| t.dtype.name() == "U32"));
        let Some(codes) = codes else { continue };
        let (weights, words) = (elements(&tensor.shape), elements(&codes.shape));
        let bits = words.saturating_mul(32) / weights.max(1);
        // GPTQ, AWQ and AutoRound name their codes alike.
        let ty = if part("qweight").is_some() {
            format!("{}_INT{bits}", method.to_uppercase())
        } else if part("biases").is_some() {
            format!("MLX_INT{bits}")
        } else if part("weight_zero_point").is_some() {
            format!("INT{bits}_ASYM")
        } else {
            format!("INT{bits}_SYM")
        };
        types.insert((tensor.file, tensor.offset), ty);
    }
    Ok(types)
}

fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |product, size| product.saturating_mul(*size))
}
