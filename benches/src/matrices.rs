//! Matrices for the benchmarks of matrix kernels, and what the command line chooses of them.

use quant_core::{
    GgmlType,
    formats::Rows,
    grouped::{Grouped, GroupedType, Job, ScaleType, pack},
};
use quant_kernels::{GroupedInt4, Isa, Kernels, PackedMatrix, activation_type};

/// What weights are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// A type of ggml.
    Ggml(GgmlType),
    /// Grouped integers: the type, weights in a group.
    Grouped(GroupedType, usize),
}

/// Everything that has matrix kernels: block formats, grouped integers, floats.
pub fn multipliable() -> Vec<Weights> {
    let of_ggml = |quantized: bool| {
        let has =
            move |ty: &&GgmlType| ty.is_quantized() == quantized && activation_type(**ty).is_some();
        GgmlType::ALL.iter().filter(has).map(|ty| Weights::Ggml(*ty))
    };
    let grouped = [GroupedType::Int4Sym, GroupedType::Int4Asym]
        .into_iter()
        .flat_map(|ty| [32, 64, 128].map(|group| Weights::Grouped(ty, group)));
    of_ggml(true).chain(grouped).chain(of_ggml(false)).collect()
}

impl Weights {
    /// As the command line and the tables have it: `Q4_K`, `int4_sym/128`.
    pub fn name(self) -> String {
        match self {
            Self::Ggml(ty) => ty.name().to_owned(),
            Self::Grouped(ty, group) => format!("{}/{group}", ty.name()),
        }
    }

    /// Whether products have integers in them.
    pub fn is_quantized(self) -> bool {
        !matches!(self, Self::Ggml(ty) if !ty.is_quantized())
    }

    /// Bytes of a row.
    pub fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Ggml(ty) => cols / ty.block_len() * ty.block_bytes(),
            Self::Grouped(ty, group) => {
                cols / group * (group / 2 + 2 + usize::from(!ty.is_symmetric()))
            }
        }
    }

    /// A packed matrix: sixteen different rows, repeated.
    ///
    /// # Panics
    /// If the row is not whole blocks.
    pub fn packed(self, rows: usize, cols: usize) -> PackedMatrix {
        let made = match self {
            Self::Ggml(ty) => PackedMatrix::pack(ty, rows, cols, &bytes(ty, rows, cols)),
            Self::Grouped(ty, group) => grouped(ty, group, rows, cols),
        };
        match made {
            Ok(packed) => packed,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The words of the command line that are not options.
fn words() -> Vec<String> {
    std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect()
}

/// The weights that the command line names, or all.
pub fn chosen() -> Vec<Weights> {
    let words = words();
    let named = |weights: &&Weights| words.iter().any(|w| w.eq_ignore_ascii_case(&weights.name()));
    let all = multipliable();
    let chosen: Vec<Weights> = all.iter().filter(named).copied().collect();
    if chosen.is_empty() { all } else { chosen }
}

/// The kernels that the command line names, or all that have products of their own.
pub fn kernels() -> Vec<Kernels> {
    let words = words();
    let all = Kernels::supported().filter(|kernels| kernels.isa() != Isa::Avx512);
    let (named, others): (Vec<_>, Vec<_>) =
        all.partition(|kernels| words.iter().any(|w| w == kernels.isa().name()));
    if named.is_empty() { others } else { named }
}

/// The numbers of threads that the command line names as `1` or `2`, or both.
pub fn threads() -> Vec<usize> {
    let words = words();
    let named: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if named.is_empty() { vec![1, 2] } else { named }
}

/// The bytes of `rows` rows of `cols` weights: sixteen different rows, repeated.
///
/// # Panics
/// If the type cannot be quantized or the row is not whole blocks.
pub fn bytes(ty: GgmlType, rows: usize, cols: usize) -> Vec<u8> {
    let values = crate::weights(16 * cols);
    let mut few = vec![0; 16 * Weights::Ggml(ty).row_bytes(cols)];
    let of_rows = Rows { values: &values, row_len: cols, importance: None };
    if let Err(error) = Kernels::best().quantize_unchecked(ty, of_rows, &mut few) {
        panic!("{error}");
    }
    repeated(&few, rows)
}

/// Sixteen rows, again and again.
fn repeated(few: &[u8], rows: usize) -> Vec<u8> {
    few.iter().copied().cycle().take(rows * few.len() / 16).collect()
}

fn grouped(
    ty: GroupedType,
    group_len: usize,
    rows: usize,
    cols: usize,
) -> Result<PackedMatrix, quant_kernels::MatrixError> {
    let (kernels, values) = (Kernels::best(), crate::weights(16 * cols));
    let mut groups = Grouped::default();
    groups.resize(values.len(), group_len);
    let job = Job { ty, values: &values, group_len, refinement: None };
    kernels.quantize_groups(job, groups.view_mut())?;
    let mut codes = vec![0; values.len() / 2];
    pack::rows(4, &groups.codes, cols, &mut codes)?;
    let mut scales = vec![0; 2 * groups.scales.len()];
    kernels.narrow(GgmlType::F16, &groups.scales, &mut scales)?;
    let zero_points = (!ty.is_symmetric()).then(|| repeated(&groups.zero_points, rows));
    let weights = GroupedInt4 {
        group_len,
        codes: &repeated(&codes, rows),
        scales: &repeated(&scales, rows),
        scale_type: ScaleType::F16,
        zero_points: zero_points.as_deref(),
    };
    PackedMatrix::pack_grouped(1, rows, cols, weights)
}
