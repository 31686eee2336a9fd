//! Importance matrices: for each tensor the squares of what meets its columns, summed over a text, as
//! llama-imatrix measures and writes them.
//!
//! Sums are made in the order of the text, in single precision within a call of the observer and in
//! double precision across calls, so that the file is the same, to the bit, for any number of threads.

use std::{collections::BTreeMap, fmt, sync::Arc};

use gguf_io::{
    GgufString, Layout, Metadata, TensorSpec,
    imatrix::{ImatrixSums, TensorSums},
    message::Quoted,
};
use quant_core::GgmlType;
use quant_kernels::Serial;

use crate::{Model, Observer, Threads, squares::squares_of};

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub struct Importance {
    entries: BTreeMap<String, Entry>,
    /// The texts that it was made from.
    pub datasets: Vec<String>,
    /// Windows of text that were run.
    pub chunks: u32,
    /// Tokens of a window.
    pub chunk_size: u32,
    /// The first thing that went wrong.
    problem: Option<ImportanceError>,
    threads: On,
}

#[derive(Clone, Debug)]
struct Entry {
    columns: usize,
    /// One matrix after the other.
    sums: Vec<f64>,
    /// Rows that met each matrix.
    counts: Vec<u64>,
}

/// Why an importance matrix cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportanceError {
    /// The tensor.
    pub tensor: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ImportanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor {}: {}", Quoted(&self.tensor), self.message)
    }
}

impl std::error::Error for ImportanceError {}

/// Experts of a tensor that few tokens reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FewTokens {
    /// The tensor.
    pub tensor: String,
    /// Its experts.
    pub experts: usize,
    /// Experts that no token reached; their importance is unknown.
    pub without: usize,
    /// Experts that fewer tokens reached than asked for, those without any included.
    pub with_few: usize,
    /// Tokens that reached the least used one.
    pub fewest: u64,
}

/// The threads that sums are made on.
#[derive(Clone)]
struct On(Threads);

impl Default for On {
    fn default() -> Self {
        Self(Arc::new(Serial))
    }
}

impl fmt::Debug for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} threads", self.0.threads())
    }
}

impl Importance {
    /// An empty matrix for windows of so many tokens.
    pub fn new(chunk_size: u32) -> Self {
        Self { chunk_size, ..Self::default() }
    }

    /// An empty matrix for the tensors of a model's layers, and that of the output if asked for, as
    /// llama-imatrix chooses them. Sums are made on the model's threads.
    pub fn for_model(model: &Model, chunk_size: u32, output: bool) -> Self {
        let threads = On(Arc::clone(&model.options.threads));
        let mut importance = Self { threads, ..Self::new(chunk_size) };
        for tensor in model.source().tensors() {
            let is_chosen =
                tensor.name.starts_with("blk.") || output && tensor.name == "output.weight";
            let size = |n: u64| usize::try_from(n).ok();
            match tensor.shape[..] {
                [columns, _] if is_chosen => {
                    size(columns).iter().for_each(|n| importance.expect(&tensor.name, *n, None));
                }
                [columns, _, experts] if is_chosen => {
                    if let (Some(columns), Some(experts)) = (size(columns), size(experts)) {
                        importance.expect(&tensor.name, columns, Some(experts));
                    }
                }
                _ => {}
            }
        }
        importance
    }

    /// Makes room for a tensor of `columns` columns and, if it has experts, so many of them.
    ///
    /// Called for each tensor of a model, it says which tensors count: llama-imatrix leaves out those
    /// outside of layers, but for the output's where that is asked for.
    pub fn expect(&mut self, tensor: &str, columns: usize, experts: Option<usize>) {
        let matrices = experts.unwrap_or(1);
        let entry =
            Entry { columns, sums: vec![0.0; columns * matrices], counts: vec![0; matrices] };
        self.entries.insert(tensor.to_owned(), entry);
    }

    /// Adds rows of `columns` values that meet a tensor, or one of its experts. Tensors that are not
    /// [expected](Self::expect) are passed over.
    pub fn add(&mut self, tensor: &str, expert: Option<usize>, rows: &[f32], columns: usize) {
        self.add_to(&[tensor], expert, rows, columns);
    }

    /// Adds rows that meet several tensors.
    fn add_to(&mut self, tensors: &[&str], expert: Option<usize>, rows: &[f32], columns: usize) {
        if !tensors.iter().any(|tensor| self.entries.contains_key(*tensor)) {
            return;
        }
        let squares = squares_of(&*self.threads.0, rows, columns);
        let count = rows.len().checked_div(columns).unwrap_or(0);
        for tensor in tensors {
            self.add_squares(tensor, expert, &squares, count);
        }
    }

    /// Adds the sums of the squares of so many rows.
    fn add_squares(&mut self, tensor: &str, expert: Option<usize>, squares: &[f32], rows: usize) {
        let Some(entry) = self.entries.get_mut(tensor) else { return };
        let (matrix, columns) = (expert.unwrap_or(0), squares.len());
        let sums = entry.sums.chunks_exact_mut(entry.columns.max(1)).nth(matrix);
        let (Some(sums), Some(count), true) =
            (sums, entry.counts.get_mut(matrix), columns == entry.columns)
        else {
            self.fail(
                tensor,
                format!("rows of {columns} values met matrix {matrix}, which is not there"),
            );
            return;
        };
        if squares.iter().any(|sum| !sum.is_finite()) {
            self.fail(tensor, "its inputs are not finite, or too large to be squared".into());
            return;
        }
        sums.iter_mut().zip(squares).for_each(|(sum, more)| *sum += f64::from(*more));
        *count += rows as u64;
    }

    fn fail(&mut self, tensor: &str, message: String) {
        let tensor = tensor.to_owned();
        self.problem.get_or_insert(ImportanceError { tensor, message });
    }

    /// What went wrong, if anything did.
    ///
    /// # Errors
    /// The first tensor whose inputs could not be added.
    pub fn check(&self) -> Result<(), ImportanceError> {
        self.problem.clone().map_or(Ok(()), Err)
    }

    /// Tensors with sums.
    pub fn len(&self) -> usize {
        self.entries.values().filter(|entry| entry.counts.iter().any(|count| *count > 0)).count()
    }

    /// Whether no tensor has sums.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tensors with experts that fewer than `enough` tokens reached.
    pub fn few_tokens(&self, enough: u64) -> Vec<FewTokens> {
        let few = |(tensor, entry): (&String, &Entry)| {
            let with = |most: u64| entry.counts.iter().filter(|count| **count < most).count();
            let found = FewTokens {
                tensor: tensor.clone(),
                experts: entry.counts.len(),
                without: with(1),
                with_few: with(enough),
                fewest: entry.counts.iter().copied().min().unwrap_or(0),
            };
            (found.experts > 1 && found.with_few > 0).then_some(found)
        };
        self.entries.iter().filter_map(few).collect()
    }

    /// Adds what another run found, on another part of a text or another text.
    ///
    /// # Errors
    /// If a tensor has another number of columns or experts there, or is in one of the two alone: then they
    /// are of different models, or only one of them measured the output's tensor. Nothing is added then.
    pub fn merge(&mut self, other: &ImatrixSums) -> Result<(), ImportanceError> {
        if !self.is_empty() {
            let known = |name: &&String| self.entries.contains_key(*name);
            let more =
                other.entries.keys().find(|name| !known(name)).map(|name| (name, "before it"));
            let fewer = || {
                let met =
                    self.entries.iter().filter(|(_, entry)| entry.counts.iter().any(|n| *n > 0));
                let missing = |name: &&String| !other.entries.contains_key(*name);
                met.map(|(name, _)| name).find(missing).map(|name| (name, "here"))
            };
            if let Some((tensor, place)) = more.or_else(fewer) {
                let message = format!(
                    "there are no sums for it {place}: the files are not of one model, or were not all \
                     made with the output's tensor"
                );
                return Err(ImportanceError { tensor: tensor.clone(), message });
            }
        }
        for (tensor, TensorSums { sums, counts }) in &other.entries {
            let columns = sums.len().checked_div(counts.len()).unwrap_or(0);
            if let Some(entry) = self.entries.get(tensor)
                && (entry.columns, entry.counts.len()) != (columns, counts.len())
            {
                let message = format!(
                    "{} × {columns} sums cannot be added to {} × {}; the files are not of one model",
                    counts.len(),
                    entry.counts.len(),
                    entry.columns
                );
                return Err(ImportanceError { tensor: tensor.clone(), message });
            }
        }
        for (tensor, TensorSums { sums, counts }) in &other.entries {
            let columns = sums.len().checked_div(counts.len()).unwrap_or(0);
            let entry = self.entries.entry(tensor.clone()).or_insert_with(|| Entry {
                columns,
                sums: vec![0.0; sums.len()],
                counts: vec![0; counts.len()],
            });
            entry.sums.iter_mut().zip(sums).for_each(|(sum, more)| *sum += f64::from(*more));
            let whole = |count: &f32| count.round() as u64;
            for (count, more) in entry.counts.iter_mut().zip(counts) {
                *count = count.saturating_add(whole(more));
            }
        }
        self.chunks = self.chunks.saturating_add(other.chunk_count.unwrap_or(0));
        if self.chunk_size == 0 {
            self.chunk_size = other.chunk_size;
        }
        self.datasets.extend(other.datasets.iter().cloned());
        Ok(())
    }

    /// The bytes of a GGUF file with the matrix, tensors in the order of their names. Those that
    /// nothing met are left out.
    ///
    /// # Errors
    /// If a name or a size does not fit the format.
    pub fn to_gguf(&self) -> gguf_io::Result<Vec<u8>> {
        let mut metadata = Metadata::new();
        metadata.insert("general.type", "imatrix");
        let datasets: Vec<GgufString> =
            self.datasets.iter().map(|name| name.as_str().into()).collect();
        metadata.insert("imatrix.datasets", datasets);
        metadata.insert("imatrix.chunk_count", self.chunks);
        metadata.insert("imatrix.chunk_size", self.chunk_size);
        let met = |entry: &&Entry| entry.counts.iter().any(|count| *count > 0);
        let mut tensors = Vec::new();
        let mut data: Vec<Vec<f32>> = Vec::new();
        for (name, entry) in self.entries.iter().filter(|(_, entry)| met(entry)) {
            let matrices = entry.counts.len() as u64;
            let mut add = |what: &str, columns: usize, values: Vec<f32>| {
                let shape = vec![columns as u64, matrices];
                tensors.push(TensorSpec {
                    name: format!("{name}.{what}"),
                    ty: GgmlType::F32,
                    shape,
                });
                data.push(values);
            };
            add("in_sum2", entry.columns, entry.sums.iter().map(|sum| *sum as f32).collect());
            add("counts", 1, entry.counts.iter().map(|count| *count as f32).collect());
        }
        let layout = Layout::new(&metadata, &tensors)?;
        let mut bytes = layout.header.clone();
        for (placed, values) in layout.tensors.iter().zip(data) {
            bytes.resize(usize::try_from(placed.offset).unwrap_or(usize::MAX).max(bytes.len()), 0);
            bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
        }
        bytes.resize(usize::try_from(layout.total).unwrap_or(usize::MAX).max(bytes.len()), 0);
        Ok(bytes)
    }
}

impl Observer for Importance {
    fn matmul_input(&mut self, tensor: &str, expert: Option<usize>, rows: &[f32], columns: usize) {
        self.add(tensor, expert, rows, columns);
    }

    fn matmul_inputs(
        &mut self,
        tensors: &[&str],
        expert: Option<usize>,
        rows: &[f32],
        columns: usize,
    ) {
        self.add_to(tensors, expert, rows, columns);
    }
}

#[cfg(test)]
mod tests {
    use gguf_io::{Imatrix, Limits, SourceFile};

    use super::*;

    fn filled(rows: &[f32]) -> Importance {
        let mut importance = Importance::new(8);
        importance.expect("blk.0.attn_q.weight", 2, None);
        importance.expect("blk.0.ffn_up_exps.weight", 2, Some(3));
        importance.expect("blk.9.unused.weight", 4, None);
        importance.datasets.push("text.txt".into());
        importance.chunks = 2;
        importance.add("blk.0.attn_q.weight", None, rows, 2);
        importance.add("blk.0.ffn_up_exps.weight", Some(0), &rows[..2], 2);
        importance.add("blk.0.ffn_up_exps.weight", Some(2), rows, 2);
        importance.add("output.weight", None, rows, 2);
        importance
    }

    fn file(importance: &Importance) -> SourceFile {
        SourceFile::from_bytes("imatrix.gguf", importance.to_gguf().unwrap())
    }

    const ROWS: [f32; 4] = [1.0, 2.0, 3.0, -4.0];

    #[test]
    fn files_hold_sums_of_squares_and_counts() {
        let importance = filled(&ROWS);
        importance.check().unwrap();
        assert_eq!(importance.len(), 2);
        let sums = ImatrixSums::read(file(&importance), &Limits::default()).unwrap();
        let entry = |name: &str| sums.entries.get(name).unwrap();
        assert_eq!(entry("blk.0.attn_q.weight").sums, [10.0, 20.0]);
        assert_eq!(entry("blk.0.attn_q.weight").counts, [2.0]);
        let experts = entry("blk.0.ffn_up_exps.weight");
        assert_eq!(experts.sums, [1.0, 4.0, 0.0, 0.0, 10.0, 20.0]);
        assert_eq!(experts.counts, [1.0, 0.0, 2.0]);
        assert_eq!((sums.chunk_count, sums.chunk_size), (Some(2), 8));
        assert_eq!((sums.entries.len(), &sums.datasets[..]), (2, &["text.txt".to_owned()][..]));
        // And what llama-quantize makes of it.
        let imatrix = Imatrix::read(file(&importance), &Limits::default()).unwrap();
        assert_eq!(imatrix.entries["blk.0.attn_q.weight"].values, [5.0, 10.0]);
        assert_eq!(imatrix.chunk_count, Some(2));
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let part = ImatrixSums::read(file(&filled(&ROWS)), &Limits::default()).unwrap();
        let mut merged = Importance::new(0);
        merged.merge(&part).unwrap();
        merged.merge(&part).unwrap();
        let twice: Vec<f32> = ROWS.iter().chain(&ROWS).copied().collect();
        let mut whole = filled(&twice);
        whole.chunks = 4;
        whole.datasets.push("text.txt".into());
        whole.add("blk.0.ffn_up_exps.weight", Some(0), &ROWS[..2], 2);
        assert_eq!(merged.to_gguf().unwrap(), whole.to_gguf().unwrap());
        let mut other = Importance::new(8);
        other.expect("blk.0.attn_q.weight", 3, None);
        let message = other.merge(&part).unwrap_err().to_string();
        assert!(message.contains("1 × 2 sums cannot be added to 1 × 3"), "{message}");
    }

    #[test]
    fn matrices_of_other_tensors_are_not_added() {
        let part = ImatrixSums::read(file(&filled(&ROWS)), &Limits::default()).unwrap();
        let mut with_output = filled(&ROWS);
        with_output.expect("output.weight", 2, None);
        with_output.add("output.weight", None, &ROWS, 2);
        let whole = ImatrixSums::read(file(&with_output), &Limits::default()).unwrap();
        for (first, second, place) in [(&part, &whole, "before it"), (&whole, &part, "here")] {
            let mut merged = Importance::new(0);
            merged.merge(first).unwrap();
            let before = merged.to_gguf().unwrap();
            let message = merged.merge(second).unwrap_err().to_string();
            assert!(message.contains("output.weight") && message.contains(place), "{message}");
            assert_eq!(merged.to_gguf().unwrap(), before);
            merged.merge(first).unwrap();
        }
    }

    #[test]
    fn experts_with_few_tokens_are_told() {
        let few = filled(&ROWS).few_tokens(2);
        let tensor = "blk.0.ffn_up_exps.weight".to_owned();
        assert_eq!(few, [FewTokens { tensor, experts: 3, without: 1, with_few: 2, fewest: 0 }]);
        assert!(filled(&ROWS).few_tokens(0).is_empty());
    }

    #[test]
    fn rows_that_meet_several_tensors_are_added_to_each() {
        let rows: Vec<f32> = (0..7 * 3).map(|i| (i * 37 % 11) as f32 / 7.0 - 0.5).collect();
        let mut squares = vec![0.0f32; 3];
        for row in rows.chunks(3) {
            squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
        assert_eq!(squares_of(&Serial, &rows, 3), squares);
        let filled = || {
            let mut importance = Importance::new(8);
            importance.expect("blk.0.attn_q.weight", 3, None);
            importance.expect("blk.0.attn_k.weight", 3, None);
            importance
        };
        let (mut together, mut apart) = (filled(), filled());
        let names = ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "output.weight"];
        together.matmul_inputs(&names, None, &rows, 3);
        names.iter().for_each(|name| apart.matmul_input(name, None, &rows, 3));
        assert_eq!(together.to_gguf().unwrap(), apart.to_gguf().unwrap());
        assert_eq!(together.len(), 2);
    }

    #[test]
    fn inputs_that_cannot_be_added_are_told() {
        let mut wide = filled(&ROWS);
        wide.add("blk.0.attn_q.weight", None, &ROWS, 4);
        assert!(wide.check().unwrap_err().message.contains("rows of 4 values"));
        let mut expert = filled(&ROWS);
        expert.add("blk.0.ffn_up_exps.weight", Some(3), &ROWS, 2);
        assert!(expert.check().unwrap_err().message.contains("matrix 3"));
        let mut nan = filled(&ROWS);
        nan.add("blk.0.attn_q.weight", None, &[f32::NAN, 1.0], 2);
        assert!(nan.check().unwrap_err().message.contains("not finite"));
    }
}
