//! A layer packed by GPTQ and AWQ, and the values that it stands for.

use super::*;

/// Codes, scales (half-precision bits) and zero points, any that fit: not those of a real weight.
pub(crate) struct Layer {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<u16>,
    pub(crate) zeros: Vec<u8>,
    pub(crate) groups: Vec<usize>,
}

impl Layer {
    pub(crate) fn new(rows: usize, columns: usize, bits: u32, act_order: bool) -> Self {
        let mut state = (rows * 31 + columns) as u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        let groups = columns / GROUP;
        let mask = (1u32 << bits) - 1;
        Self {
            rows,
            columns,
            codes: (0..rows * columns).map(|_| (random() & mask) as u8).collect(),
            scales: (0..rows * groups).map(|_| 0x1c00 + (random() & 0x3ff) as u16).collect(),
            // Version 1 stores one less.
            zeros: (0..rows * groups).map(|_| (random() & mask).max(1) as u8).collect(),
            groups: (0..columns)
                .map(|c| if act_order { c * 7 % groups } else { c / GROUP })
                .collect(),
        }
    }

    pub(crate) fn group_count(&self) -> usize {
        self.columns / GROUP
    }

    pub(crate) fn weight(&self) -> Tensor {
        let mut bytes = Vec::new();
        for row in 0..self.rows {
            for column in 0..self.columns {
                let group = row * self.group_count() + self.groups[column];
                let scale = half::f16::from_bits(self.scales[group]).to_f32();
                let code = f32::from(self.codes[row * self.columns + column]);
                bytes.extend(((code - f32::from(self.zeros[group])) * scale).to_le_bytes());
            }
        }
        ("F32", vec![self.rows as u64, self.columns as u64], bytes)
    }

    /// The transposed scales.
    pub(crate) fn scales(&self) -> Tensor {
        let groups = self.group_count();
        let scale = |i: usize| self.scales[i % self.rows * groups + i / self.rows];
        let bytes = (0..self.rows * groups).flat_map(|i| scale(i).to_le_bytes()).collect();
        ("F16", vec![groups as u64, self.rows as u64], bytes)
    }

    /// Words of the transpose, along the outputs.
    pub(crate) fn along_rows(
        &self,
        lines: usize,
        bits: u32,
        order: &[usize],
        code: impl Fn(usize, usize) -> u8,
    ) -> Tensor {
        let per_word = order.len();
        let mut bytes = Vec::new();
        for line in 0..lines {
            for word in 0..self.rows / per_word {
                let word = (0..per_word).fold(0u32, |w, place| {
                    w | u32::from(code(word * per_word + order[place], line))
                        << (bits * place as u32)
                });
                bytes.extend(word.to_le_bytes());
            }
        }
        ("I32", vec![lines as u64, (self.rows / per_word) as u64], bytes)
    }

    pub(crate) fn gptq(&self, bits: u32, version: u8) -> Vec<(&'static str, Tensor)> {
        // The words of each output, then word by word over the outputs.
        let codes = |row: usize| &self.codes[row * self.columns..][..self.columns];
        let words: Vec<_> = (0..self.rows).map(|row| stream(codes(row), bits)).collect();
        let lines = words[0].len();
        let bytes = (0..lines).flat_map(|line| words.iter().map(move |words| words[line]));
        let bytes = bytes.flat_map(u32::to_le_bytes).collect();
        let shape = vec![lines as u64, self.rows as u64];
        let groups = self.group_count();
        let zeros: Vec<_> = (0..groups)
            .flat_map(|group| {
                let zero = |row| self.zeros[row * groups + group] - (2 - version);
                stream(&(0..self.rows).map(zero).collect::<Vec<_>>(), bits)
            })
            .collect();
        let zeros_shape = vec![groups as u64, (zeros.len() / groups) as u64];
        let zeros = zeros.into_iter().flat_map(u32::to_le_bytes).collect();
        let g_idx = self.groups.iter().flat_map(|g| (*g as u32).to_le_bytes()).collect();
        vec![
            ("qweight", ("I32", shape, bytes)),
            ("qzeros", ("I32", zeros_shape, zeros)),
            ("scales", self.scales()),
            ("g_idx", ("I32", vec![self.columns as u64], g_idx)),
        ]
    }

    pub(crate) fn awq(&self) -> Vec<(&'static str, Tensor)> {
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        let groups = self.group_count();
        let codes = self.along_rows(self.columns, 4, &ORDER, |row, column| {
            self.codes[row * self.columns + column]
        });
        let zeros =
            self.along_rows(groups, 4, &ORDER, |row, group| self.zeros[row * groups + group]);
        vec![("qweight", codes), ("qzeros", zeros), ("scales", self.scales())]
    }
}

/// Codes without gaps, low bits first.
pub(crate) fn stream(codes: &[u8], bits: u32) -> Vec<u32> {
    let (mut words, mut held, mut filled) = (Vec::new(), 0u64, 0);
    for code in codes {
        held |= u64::from(*code) << filled;
        filled += bits;
        if filled >= 32 {
            words.push(held as u32);
            (held, filled) = (held >> 32, filled - 32);
        }
    }
    assert_eq!(filled, 0);
    words
}
