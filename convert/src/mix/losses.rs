//! What quantizing a tensor costs the model: measured, or assumed.

use std::{collections::BTreeMap, path::Path};

use quant_core::GgmlType;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::Quoted, recipe::Role};

/// The largest file of sensitivities that is read.
const LARGEST: u64 = 64 << 20;

/// What was measured of a tensor in one type.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The squared error over the squares of the weights, both weighed by importance
    /// ([`Distortion::relative`](quant_weights::Distortion::relative)).
    pub error: f64,
    /// The mean KL divergence of the model's predictions with this tensor alone quantized, in nats.
    pub loss: f64,
}

/// Measured losses of a model's tensors: what an evaluation makes, and a mix is chosen by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sensitivities {
    /// Says what the file is: `quantwright sensitivities 1`.
    format: String,
    /// The text, for people.
    pub text: String,
    /// Predictions that losses are means of.
    pub predictions: u64,
    /// By tensor and type.
    pub tensors: BTreeMap<String, BTreeMap<String, Measured>>,
}

const FORMAT: &str = "quantwright sensitivities 1";

impl Sensitivities {
    /// None yet, of a text.
    pub fn new(text: String, predictions: u64) -> Self {
        Self { format: FORMAT.into(), text, predictions, tensors: BTreeMap::new() }
    }

    /// Adds what was measured of a tensor in a type.
    pub fn insert(&mut self, tensor: &str, ty: GgmlType, measured: Measured) {
        self.tensors.entry(tensor.into()).or_default().insert(ty.name().into(), measured);
    }

    /// Reads a file that [`to_json`](Self::to_json) made.
    ///
    /// # Errors
    /// If it cannot be read, is no such file, or holds numbers that no measurement gives.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |problem: String| Error::Sensitivities { path: path.into(), problem };
        let bytes = gguf_io::SourceFile::open(path)?.read_all(LARGEST)?;
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if read.format != FORMAT {
            return Err(wrong(format!("its format is not {FORMAT:?}")));
        }
        for (tensor, types) in &read.tensors {
            for (name, measured) in types {
                let Measured { error, loss } = *measured;
                if GgmlType::from_name(name).is_none() {
                    return Err(wrong(format!(
                        "tensor {} has a loss in {}, which is no type",
                        Quoted(tensor),
                        Quoted(name)
                    )));
                }
                if !(error.is_finite() && error >= 0.0 && loss.is_finite()) {
                    return Err(wrong(format!(
                        "tensor {} in {name}: error {error}, loss {loss}, expected finite numbers, \
                         the error not below 0",
                        Quoted(tensor)
                    )));
                }
            }
        }
        Ok(read)
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// What quantizing a tensor with an error would cost. `None` if nothing was measured of it.
    pub(super) fn loss(&self, tensor: &str, ty: GgmlType, error: f64) -> Option<f64> {
        let all = self.tensors.get(tensor)?;
        if let Some(same) = all.get(ty.name()).filter(|same| same.error > 0.0) {
            // As it was, but for another importance matrix.
            return Some(same.loss.max(LEAST_LOSS) * (error / same.error));
        }
        let mut points: Vec<_> = all.values().filter(|m| m.error > 0.0).copied().collect();
        points.sort_by(|a, b| a.error.total_cmp(&b.error));
        Some(interpolate(&points, error))
    }
}

/// Losses below this drown in rounding.
const LEAST_LOSS: f64 = 1e-9;

/// How steeply the logarithm of the loss rises with that of the error: the loss of small errors is
/// proportional to them.
const SLOPES: std::ops::RangeInclusive<f64> = 0.7..=1.5;

/// The loss of an error, from those of smaller and larger ones: a line between their logarithms.
fn interpolate(points: &[Measured], error: f64) -> f64 {
    if error <= 0.0 {
        return 0.0;
    }
    let logs = |m: &Measured| (m.error.ln(), m.loss.max(LEAST_LOSS).ln());
    let at = points.partition_point(|point| point.error < error);
    let pair = match (at.checked_sub(1), points.len()) {
        (_, 0) => return error,
        (_, 1) => None,
        (None, _) => points.first().zip(points.get(1)),
        (Some(before), _) if at < points.len() => points.get(before).zip(points.get(at)),
        (Some(before), _) => points.get(before.saturating_sub(1)).zip(points.get(before)),
    };
    let nearest = points.get(at.min(points.len().saturating_sub(1)));
    let Some((x, y)) = nearest.map(logs) else { return error };
    let slope = pair.map_or(1.0, |(a, b)| {
        let ((x0, y0), (x1, y1)) = (logs(a), logs(b));
        if x1 > x0 { ((y1 - y0) / (x1 - x0)).clamp(*SLOPES.start(), *SLOPES.end()) } else { 1.0 }
    });
    (y + slope * (error.ln() - x)).exp()
}

/// What quantizing a tensor costs where nothing was measured: proportional to its error and to how
/// much models suffer from errors in such tensors, the mean of those that were measured (the fixtures).
/// What layers do, they share. `is_tied` is of an embedding that doubles as the output.
pub(super) fn prior(role: Role, is_tied: bool, layers: u32, error: f64) -> f64 {
    let whole = match role {
        Role::TokenEmbedding if is_tied => 4.0,
        Role::TokenEmbedding => 1.9,
        Role::Output => 1.5,
        _ => {
            let of_layers = match role {
                Role::AttnQ => 0.3,
                Role::AttnK => 0.5,
                Role::AttnQkv => 0.7,
                Role::FfnDown => 1.8,
                Role::FfnUp | Role::FfnGate => 1.5,
                _ => 1.3,
            };
            of_layers / f64::from(layers.max(1))
        }
    };
    whole * error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_lie_between_those_that_were_measured() {
        let mut all = Sensitivities::new("text".into(), 1);
        all.insert("t", GgmlType::Q2_K, Measured { error: 0.1, loss: 0.2 });
        all.insert("t", GgmlType::Q4_K, Measured { error: 0.01, loss: 0.01 });
        let loss = |ty, error| all.loss("t", ty, error).unwrap();
        assert_eq!(loss(GgmlType::Q2_K, 0.1), 0.2);
        assert_eq!(loss(GgmlType::Q2_K, 0.05), 0.1);
        let between = loss(GgmlType::Q3_K, 0.03);
        assert!(between > 0.01 && between < 0.2, "{between}");
        let below = loss(GgmlType::Q8_0, 1e-5);
        assert!(below > 0.0 && below < 1e-4, "{below}");
        assert!(loss(GgmlType::IQ1_S, 0.3) > 0.2);
        assert_eq!(loss(GgmlType::F32, 0.0), 0.0);
        assert_eq!(all.loss("u", GgmlType::Q2_K, 0.1), None);
    }

    #[test]
    fn files_are_read_back_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.json");
        let mut all = Sensitivities::new("text".into(), 512);
        all.insert("t", GgmlType::Q2_K, Measured { error: 0.1, loss: 0.2 });
        std::fs::write(&path, all.to_json()).unwrap();
        assert_eq!(Sensitivities::read(&path).unwrap(), all);
        for (from, to, says) in [
            ("sensitivities 1", "sensitivities 9", "format"),
            ("Q2_K", "Q2_X", "is no type"),
            ("0.1", "-0.1", "not below 0"),
            ("0.2", "\"x\"", "s.json"),
        ] {
            std::fs::write(&path, all.to_json().replace(from, to)).unwrap();
            let error = Sensitivities::read(&path).unwrap_err().to_string();
            assert!(error.contains(says) && error.lines().count() == 1, "{error}");
        }
    }
}
