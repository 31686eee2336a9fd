//! `rope_type: llama3`: frequencies divided by factors, which GGUF holds as a tensor.

use super::rope::Rope;
use crate::{Config, Result};

/// The factors that `rope_type: llama3` divides frequencies by, for each pair of dimensions.
///
/// The arithmetic is PyTorch's on scalars: every step rounds to 32 bits, division of a number by a
/// tensor is multiplication by the reciprocal.
pub(super) fn factors(config: &Config, head_dim: u64) -> Result<Option<Vec<f32>>> {
    let Some(llama3) = Llama3::read(config)? else { return Ok(None) };
    let Llama3 { base, factor, low, high, context } = llama3;
    let (longest, shortest) = ((context / low) as f32, (context / high) as f32);
    let factors = (0..head_dim).step_by(2).map(|i| {
        let power = powf(base, i as f32 / head_dim as f32);
        let frequency = 1.0 / power;
        let wavelength = (1.0 / frequency) * std::f64::consts::TAU as f32;
        if wavelength < shortest {
            1.0
        } else if wavelength > longest {
            factor as f32
        } else {
            let ratio = (1.0 / wavelength) * context as f32;
            let smooth = (ratio - low as f32) / (high - low) as f32;
            1.0 / ((1.0 - smooth) / factor as f32 + smooth)
        }
    });
    Ok(Some(factors.collect()))
}

/// As [`factors`], for the first `turned` values of a head, and with numbers as Python has them
/// instead of PyTorch's: double precision but for the frequencies.
pub(super) fn factors_in_double(config: &Config, turned: u64) -> Result<Option<Vec<f32>>> {
    let Some(llama3) = Llama3::read(config)? else { return Ok(None) };
    let Llama3 { base, factor, low, high, context } = llama3;
    let factors = (0..turned).step_by(2).map(|i| {
        let frequency = 1.0 / powf(base, i as f32 / turned as f32);
        let wavelength = std::f64::consts::TAU / f64::from(frequency);
        if wavelength < context / high {
            1.0
        } else if wavelength > context / low {
            factor as f32
        } else {
            let smooth = (context / wavelength - low) / (high - low);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        }
    });
    Ok(Some(factors.collect()))
}

/// What `rope_type: llama3` is told by.
struct Llama3 {
    base: f64,
    factor: f64,
    low: f64,
    high: f64,
    context: f64,
}

impl Llama3 {
    /// `None` if the method is another.
    fn read(config: &Config) -> Result<Option<Self>> {
        let rope = Rope::read(config)?;
        if rope.kind()?.as_deref() != Some("llama3") {
            return Ok(None);
        }
        let or = |key, default| Ok::<f64, crate::Error>(rope.number(key)?.unwrap_or(default));
        let base = or("rope_theta", 10_000.0)?;
        let factor = or("factor", 8.0)?;
        let low = or("low_freq_factor", 1.0)?;
        let high = or("high_freq_factor", 4.0)?;
        let context = rope.original_context()? as f64;
        if high <= low {
            return Err(config.wrong(
                &rope.shown("high_freq_factor"),
                &high.to_string(),
                &format!("more than low_freq_factor, which is {low}"),
            ));
        }
        Ok(Some(Self { base, factor, low, high, context }))
    }
}

/// `base` to the power of `exponent`, rounded once to 32 bits.
///
/// PyTorch's vectorised power may be off by one unit in the last place. For the bases and head
/// sizes of the published Llama 3.x models it is not, and where it was, no factor changed.
fn powf(base: f64, exponent: f32) -> f32 {
    f64::from(base as f32).powf(f64::from(exponent)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("config.json", text.as_bytes()).unwrap()
    }

    #[test]
    fn nested_keys_are_named_in_full() {
        let config = config(r#"{"rope_parameters": {"rope_type": "llama3", "factor": -8}}"#);
        let message = factors(&config, 64).unwrap_err().to_string();
        assert!(message.contains("key \"rope_parameters.factor\" is -8"), "{message}");
    }

    #[test]
    fn llama3_needs_a_band_between_its_frequencies() {
        let config = config(
            r#"{"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 4}}"#,
        );
        assert!(factors(&config, 64).is_err());
    }
}
