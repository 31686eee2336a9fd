//! A row of codes, and how it becomes values.

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Words of codes.
    pub(super) words: Vec<u8>,
    /// Codes, a byte each.
    pub(super) codes: Vec<u8>,
    /// Scales and zero points or biases, of some rows.
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<f32>,
    /// Those of one row.
    pub(super) row_scales: Vec<f32>,
    pub(super) row_zeros: Vec<f32>,
    /// What is read on the way.
    pub(super) bytes: Vec<u8>,
}

/// A row of a packed layer: its codes, and what its groups have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
    /// Zero points or biases.
    pub(super) zeros: &'a [f32],
}

/// What is done with a row; rows come in their order.
pub(super) type EachRow<'a> = dyn FnMut(Row<'_>) + 'a;

/// How a code becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// `(code − zero point) · scale`
    ZeroPoint,
    /// `code · scale + bias`
    Bias,
}

impl Rule {
    fn value(self, code: u8, scale: f32, zero: f32) -> f32 {
        match self {
            Self::ZeroPoint => (f32::from(code) - zero) * scale,
            Self::Bias => f32::from(code) * scale + zero,
        }
    }
}

/// The group of each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Groups of this many, one after the other.
    Even(u64),
    /// As the file says.
    Given(Vec<u32>),
}

impl Groups {
    /// Groups one after the other, which programs write down too.
    pub(super) fn in_order(groups: &[u32], count: u64) -> Option<Self> {
        let columns = groups.len() as u64;
        let len =
            columns.checked_div(count).filter(|len| len.checked_mul(count) == Some(columns))?;
        let in_order = (0..columns).zip(groups).all(|(i, group)| i / len == u64::from(*group));
        in_order.then_some(Self::Even(len))
    }

    /// Restores a row.
    pub(super) fn restore(&self, rule: Rule, row: Row<'_>, out: &mut [f32]) {
        let Row { codes, scales, zeros } = row;
        match self {
            Self::Even(len) => {
                let len = usize::try_from(*len).unwrap_or(usize::MAX).max(1);
                let groups = out.chunks_mut(len).zip(codes.chunks(len));
                for ((out, codes), (scale, zero)) in groups.zip(scales.iter().zip(zeros)) {
                    for (out, code) in out.iter_mut().zip(codes) {
                        *out = rule.value(*code, *scale, *zero);
                    }
                }
            }
            Self::Given(groups) => {
                for ((out, code), group) in out.iter_mut().zip(codes).zip(groups) {
                    let at = |of: &[f32]| of.get(*group as usize).copied().unwrap_or(0.0);
                    *out = rule.value(*code, at(scales), at(zeros));
                }
            }
        }
    }
}
