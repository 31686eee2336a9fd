//! Importance weights for the tensors of a plan.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use gguf_io::{Imatrix, Metadata, message::listed};
use gguf_model::TensorName;
use quant_core::{GgmlType, importance_use};

use crate::{
    Error, Options, Result,
    error::{Quoted, Shown},
    grouped::{self, Sensitivity},
    model::Tensor,
};

/// The largest importance that is taken. Quantizers sum up to 256 products of an importance, a
/// weight and the square of a code in single precision, which hold for weights up to 10.
const MOST: f32 = 1e30;

/// The entries of an importance matrix that a conversion uses.
#[derive(Debug)]
pub(crate) struct Importance {
    imatrix: Imatrix,
    path: PathBuf,
    /// Parts of names that it is used for; empty for all.
    included: Vec<String>,
    /// Parts of names that it is not used for.
    excluded: Vec<String>,
}

/// Names in `--include-weights` and `--exclude-weights` that are part of the name of no entry.
fn warn_of_unused_names<'a>(options: &Options, entries: impl Iterator<Item = &'a String> + Clone) {
    let matrix = options.imatrix.as_deref().unwrap_or(Path::new(""));
    for (option, parts) in [
        ("`include_weights`", &options.include_weights),
        ("`exclude_weights`", &options.exclude_weights),
    ] {
        for part in parts {
            if !entries.clone().any(|name| name.contains(part.as_str())) {
                tracing::warn!(
                    kind = "unused-option",
                    "{option} {} has no effect: {} has no entry for a tensor of such a name",
                    Quoted(part),
                    Shown(matrix)
                );
            }
        }
    }
}

impl Importance {
    /// Opens the matrix that the options name, reduced to the entries they ask for and with the
    /// prior they ask for. Entries may be broken: [`of`](Self::of) refuses those that are used.
    pub(crate) fn open(options: &Options) -> Result<Option<Self>> {
        let prior = options.imatrix_prior;
        let has_matrix = options.imatrix.is_some();
        if !(0.0..=MOST).contains(&prior) || (prior > 0.0 && !has_matrix) {
            return Err(Error::ImportancePrior { prior, has_matrix });
        }
        let Some(path) = &options.imatrix else { return Ok(None) };
        let mut importance = Self {
            imatrix: Imatrix::open_lenient(path, &options.limits)?,
            path: path.clone(),
            included: options.include_weights.clone(),
            excluded: options.exclude_weights.clone(),
        };
        let names = importance.imatrix.entries.keys();
        warn_of_unused_names(options, names.chain(importance.imatrix.broken.keys()));
        let mut entries = std::mem::take(&mut importance.imatrix.entries);
        entries.retain(|name, _| importance.is_wanted(name));
        let mut broken = std::mem::take(&mut importance.imatrix.broken);
        broken.retain(|name, _| importance.is_wanted(name));
        if prior > 0.0 {
            entries.values_mut().flat_map(|e| &mut e.values).for_each(|value| *value += prior);
        }
        (importance.imatrix.entries, importance.imatrix.broken) = (entries, broken);
        Ok(Some(importance))
    }

    /// Whether the options ask to use it for a tensor.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        let contains = |parts: &[String]| parts.iter().any(|part| name.contains(part));
        (self.included.is_empty() || contains(&self.included)) && !contains(&self.excluded)
    }

    /// Whether there is an entry for a tensor, be it a broken one.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.imatrix.entries.contains_key(name) || self.imatrix.broken.contains_key(name)
    }

    /// Whether no entry is left; the reference then converts as without a matrix.
    pub(crate) fn is_empty(&self) -> bool {
        self.imatrix.entries.is_empty() && self.imatrix.broken.is_empty()
    }

    /// Writes down where the weights come from, as the reference does.
    pub(crate) fn describe(&self, metadata: &mut Metadata) {
        for (key, value) in self.imatrix.quantize_keys(&self.path.to_string_lossy()) {
            metadata.replace_at_end(key, value);
        }
    }

    /// The weights of a tensor that uses them, a row for each of its matrices, under its name in
    /// the source.
    ///
    /// # Errors
    /// If the entry is broken, has values that are too large to be summed, or not as many as the
    /// tensor has columns. The token embedding is exempt from the last, as in the reference: its
    /// entry, if any, is never of its shape.
    pub(crate) fn of(&self, name: &str, shape: &[u64]) -> Result<Option<&[f32]>> {
        if let Some(broken) = self.imatrix.broken.get(name) {
            return Err(broken.error().into());
        }
        let Some(entry) = self.imatrix.entries.get(name) else { return Ok(None) };
        let columns = shape.first().copied().unwrap_or(1);
        let matrices = shape.get(2).copied().unwrap_or(1);
        // The older format does not say how many matrices its values are for.
        let same_count = entry.matrices == 1 || entry.matrices as u64 == matrices;
        if !same_count || columns.checked_mul(matrices) != Some(entry.values.len() as u64) {
            if TensorName::parse(name).is_token_embedding() {
                return Ok(None);
            }
            return Err(Error::ImportanceLength {
                path: self.path.clone(),
                tensor: name.into(),
                found: entry.values.len(),
                found_matrices: entry.matrices,
                columns,
                matrices,
            });
        }
        match entry.values.iter().enumerate().find(|(_, value)| **value > MOST) {
            None => Ok(Some(&entry.values)),
            Some((index, value)) => Err(Error::ImportanceTooLarge {
                path: self.path.clone(),
                tensor: name.into(),
                index,
                value: *value,
                most: MOST,
            }),
        }
    }

    /// Mentions the entries that are for none of the tensors.
    pub(crate) fn warn_of_strays<'a>(&self, tensors: impl Iterator<Item = &'a str>) {
        let tensors: HashSet<_> = tensors.collect();
        let entries = || self.imatrix.entries.keys().chain(self.imatrix.broken.keys());
        let strays: Vec<_> = entries().filter(|name| !tensors.contains(name.as_str())).collect();
        let (count, path) = (strays.len(), Shown(&self.path));
        let names = listed(strays.iter().map(|name| Quoted(name).to_string()));
        if count > 0 && count == entries().count() {
            tracing::warn!(
                kind = "importance-unused",
                "{path}: none of its {count} entries is for a tensor of this model ({names}); \
                 the matrix was made for another model"
            );
        } else if count > 0 {
            let entries = if count == 1 {
                "1 entry is for a tensor"
            } else {
                &format!("{count} entries are for tensors")
            };
            tracing::warn!(
                kind = "importance-unused",
                "{path}: {entries} that this model does not have: {names}"
            );
        }
    }
}

/// Whether importance changes the blocks of a type.
pub(crate) fn bends(ty: GgmlType) -> bool {
    importance_use(ty).is_some_and(|used| used != quant_core::formats::Importance::Ignored)
}

/// How many neighbouring weights become zero where the importance of all of them is, whatever the
/// importance of others; `None` if they do not.
///
/// A search that weighs errors by nothing but zeros ends with the scale zero: of each sub-block in
/// formats with a scale for it, of the whole block where scales of sub-blocks start from the range
/// of their values and only the scale of the scales is searched for. Formats of a scale and an
/// offset without sub-blocks keep the range that they start from.
fn erased_together(ty: GgmlType) -> Option<usize> {
    match ty {
        GgmlType::Q3_K | GgmlType::Q6_K => Some(16),
        GgmlType::Q4_1 | GgmlType::Q5_1 => None,
        // Where nothing counts, the scale is that of the largest value.
        GgmlType::IQ2_XS | GgmlType::IQ2_S | GgmlType::IQ3_XXS | GgmlType::IQ3_S => None,
        _ if bends(ty) => Some(ty.block_len()),
        _ => None,
    }
}

/// Whether grouped integers look at importance: for their scales, or to choose layers.
pub(crate) fn used_by(grouped: &grouped::Options) -> bool {
    let chooses = grouped.ratio < 1.0 && grouped.sensitivity != Some(Sensitivity::Weights);
    grouped.refine || chooses
}

/// Names what importance of zero erases of a tensor.
///
/// llama.cpp writes zeros there in silence, and equal bytes are what a conversion promises.
pub(crate) fn warn_of_zeros(tensor: &Tensor, ty: GgmlType, weights: &[f32]) {
    let Some(together) = erased_together(ty) else { return };
    let columns = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX).max(1);
    let zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
    // All rows of a matrix share its importance.
    let erased: Vec<usize> = weights
        .chunks(columns)
        .map(|row| row.chunks(together).filter(|part| zero(part)).map(<[f32]>::len).sum())
        .collect();
    let total: usize = erased.iter().sum();
    if total == 0 {
        return;
    }
    let share = share(total as u64, weights.len() as u64);
    let whole = erased.iter().enumerate().filter(|(_, n)| **n == columns);
    let experts: Vec<_> = whole.map(|(expert, _)| expert.to_string()).collect();
    let name = Quoted(&tensor.name);
    let what = match &experts[..] {
        _ if total == weights.len() => format!("{name} is zero"),
        [] => format!("{name} is zero in {total} of {} columns", weights.len()),
        [expert] => format!("expert {expert} of {name} is zero"),
        _ => format!("experts {} of {name} is zero", listed(experts.iter().cloned())),
    };
    tracing::warn!(
        kind = "importance-zero",
        tensor = %tensor.name,
        "importance of {what}: {share} of the tensor's weights become 0 in {ty}; \
         use `imatrix_prior` or a matrix made from more text"
    );
}

/// A part of a whole in percent, never rounded to nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match percent {
        p if p >= 10.0 || part == whole => format!("{p:.0} %"),
        p if p >= 0.1 => format!("{p:.1} %"),
        _ => "less than 0.1 %".into(),
    }
}

#[cfg(test)]
mod tests {
    use quant_core::{can_quantize, dequantize, quantize};

    use super::*;

    fn row() -> Vec<f32> {
        (0..512).map(|i| ((i * 37 % 101) as f32 - 50.5) / 300.0).collect()
    }

    fn restored(ty: GgmlType, importance: &[f32]) -> Vec<f32> {
        let bytes = quantize(ty, &row(), 512, Some(importance)).unwrap();
        let mut values = vec![0.0; 512];
        dequantize(ty, &bytes, &mut values).unwrap();
        values
    }

    #[test]
    fn importance_changes_the_types_that_are_said_to_be_bent() {
        for &ty in GgmlType::ALL.iter().filter(|ty| can_quantize(**ty)) {
            let importance: Vec<f32> = (0..512).map(|i| ((i % 7) as f32).exp2()).collect();
            // Some types are not made without importance.
            let needed = importance_use(ty) == Some(quant_core::formats::Importance::Needed);
            let alike = [1.0; 512];
            let plain = quantize(ty, &row(), 512, needed.then_some(&alike)).unwrap();
            let differs = plain != quantize(ty, &row(), 512, Some(&importance)).unwrap();
            assert_eq!(differs, bends(ty), "{ty}");
        }
    }

    /// What is counted as erased is what becomes zero, for every type that can be written.
    #[test]
    fn zeros_erase_what_is_counted_llama_cpp_8661() {
        for &ty in GgmlType::ALL.iter().filter(|ty| can_quantize(**ty)) {
            let together = erased_together(ty);
            for zeros in [8, 16, 32, 64, 128, 256, 512] {
                let importance: Vec<f32> = (0..512).map(|i| f32::from(i >= zeros)).collect();
                let values = restored(ty, &importance);
                let is_zero = |range: &[f32]| range.iter().all(|v| *v == 0.0);
                let erased = together.map_or(0, |n| zeros / n * n);
                assert!(is_zero(&values[..erased]), "{ty} {zeros}");
                let step = together.unwrap_or(ty.block_len()).clamp(16, 256);
                for part in values[erased..].chunks(step) {
                    assert!(!is_zero(part), "{ty} {zeros}: more than {erased} are lost");
                }
            }
        }
    }

    #[test]
    fn shares_are_never_nothing() {
        for (part, whole, text) in [
            (1, 4, "25 %"),
            (1, 1, "100 %"),
            (999, 1000, "100 %"),
            (1, 40, "2.5 %"),
            (1, 100_000, "less than 0.1 %"),
        ] {
            assert_eq!(share(part, whole), text);
        }
        let many = (0..10).map(|n: u8| n.to_string()).collect::<Vec<_>>();
        assert_eq!(listed(many.into_iter()), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
