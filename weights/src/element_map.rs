//! What is done to each value on its way.

/// What is done to each value on its way.
///
/// What comes of it is rounded as the stored type rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ElementMap {
    /// Nothing.
    #[default]
    Same,
    /// This is added.
    Plus(f32),
    /// It is multiplied by the first, then by the second.
    Times(f32, f32),
    /// It becomes its exponential.
    Exp,
    /// It becomes the negative of its exponential.
    NegativeExp,
    /// It becomes the logarithm of one more than its exponential; from 20 on it stays as it is.
    Softplus,
    /// It is multiplied by the number, then by that of the first band that ends after its row.
    ByRows(f32, [(u64, f32); 5]),
    /// It changes its sign in the later half of each group of so many rows.
    LaterHalfNegative(u64),
}

impl ElementMap {
    /// The new value of one in this row; `round` rounds to what the stored type can hold.
    pub(crate) fn apply(self, value: f32, row: u64, round: impl Fn(f32) -> f32) -> f32 {
        match self {
            Self::Same => value,
            Self::Plus(more) => round(value + more),
            Self::Times(first, second) => round(round(value * first) * second),
            Self::Exp => round(exp(value)),
            Self::NegativeExp => round(-exp(value)),
            Self::Softplus if value > 20.0 => value,
            Self::Softplus => round(f64::from(value).exp().ln_1p() as f32),
            Self::LaterHalfNegative(rows) => {
                let is_later = row.checked_rem(rows).is_some_and(|row| row >= rows / 2);
                if is_later { -value } else { value }
            }
            Self::ByRows(first, bands) => {
                let band = bands.iter().find(|(end, _)| row < *end);
                round(round(value * first) * band.map_or(1.0, |(_, factor)| *factor))
            }
        }
    }
}

/// The exponential, rounded from double precision: the same on every machine, which the function of
/// a system's library need not be.
fn exp(value: f32) -> f32 {
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let value = f64::from(value);
    if value.is_nan() {
        return f32::NAN;
    }
    if !(-110.0..=89.0).contains(&value) {
        // Beyond what single precision holds.
        return if value > 0.0 { f32::INFINITY } else { 0.0 };
    }
    let power = (value * std::f64::consts::LOG2_E).round();
    let rest = (value - power * LN_2_HIGH) - power * LN_2_LOW;
    // Taylor's series; the rest is at most ln 2 / 2, so that the last term is below 1e-17.
    let series = (1..=16).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    // The power is within -160 and 130, far inside the exponents of double precision.
    let scale = f64::from_bits(((power as i64 + 1023) as u64) << 52);
    (series * scale) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_halves_of_groups_of_rows_change_their_sign() {
        let map = ElementMap::LaterHalfNegative(4);
        let found: Vec<f32> = (0..8).map(|row| map.apply(1.5, row, |value| value)).collect();
        assert_eq!(found, [1.5, 1.5, -1.5, -1.5, 1.5, 1.5, -1.5, -1.5]);
        // No size of a head changes anything.
        assert_eq!(ElementMap::LaterHalfNegative(0).apply(1.5, 3, |value| value), 1.5);
    }

    #[test]
    fn softplus_bends_at_zero_and_ends_as_the_value() {
        let apply = |value| ElementMap::Softplus.apply(value, 0, |value| value);
        let found = [-200.0, 0.0, 1.0, 20.5, f32::INFINITY].map(apply);
        assert_eq!(found, [0.0, std::f32::consts::LN_2, 1.313_261_6, 20.5, f32::INFINITY]);
        assert!(apply(f32::NAN).is_nan());
    }

    #[test]
    fn exponentials_are_rounded_from_double_precision() {
        let mut worst = 0;
        for i in -20_000..20_000i16 {
            let value = f32::from(i) / 256.0;
            let ours = exp(value);
            worst = worst.max(ours.to_bits().abs_diff((f64::from(value).exp() as f32).to_bits()));
        }
        assert_eq!(worst, 0);
        let ends = [f32::NEG_INFINITY, -200.0, 0.0];
        assert_eq!(ends.map(exp).map(f32::to_bits), [0, 0, 0x3f80_0000]);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }
}
