//! Whether a GGUF file was made from a model: every tensor is made again and compared.
//!
//! That works because blocks depend on nothing but the weights, the type and the importance: not on
//! the machine, nor on the program, as long as it computes what llama.cpp does on x86-64.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use gguf_io::{GgufFile, SourceFile, TensorInfo};
use quant_core::{
    GgmlType, can_dequantize, can_quantize, dequantize, formats::Importance as Use, importance_use,
};
use quant_weights::Source;

use crate::{
    Control, Options, Result, Search,
    carry::Sample,
    importance::{self, Importance},
    job::{Form, Job},
    model::{Model, Tensor},
    stream::{Output, Places, Sink, stream},
};

/// What came of making a file's tensors again.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "it says whether the file was made from the model"]
pub struct Proof {
    /// The tensors of the file, in its order.
    pub tensors: Vec<Derived>,
    /// Tensors of the source that the file lacks.
    pub missing: Vec<String>,
    /// Keys that the file and a conversion of the source have with other values, or that one of
    /// them lacks. That is no proof against it: programs write other metadata.
    pub other_keys: Vec<String>,
    /// Whether the file says that it was made with an importance matrix.
    pub used_importance: bool,
}

impl Proof {
    /// Whether every tensor could be made again, and is equal.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.tensors.iter().all(|t| t.outcome == Outcome::Equal)
    }

    /// Whether no tensor that could be made again differs.
    pub fn holds(&self) -> bool {
        self.missing.is_empty()
            && self.tensors.iter().all(|t| !matches!(t.outcome, Outcome::Differs(_)))
    }

    /// The share of blocks that differ, of those of the tensors that differ; 0 if none does.
    pub fn share_of_blocks(&self) -> f64 {
        let (mut blocks, mut of) = (0u64, 0u64);
        for tensor in &self.tensors {
            if let Outcome::Differs(difference) = tensor.outcome {
                blocks = blocks.saturating_add(difference.blocks);
                of = of.saturating_add(tensor.blocks);
            }
        }
        if of == 0 { 0.0 } else { blocks as f64 / of as f64 }
    }

    /// The largest [difference of codes](Derived::code_difference); `None` if a value is not finite.
    pub fn largest_code_difference(&self) -> Option<u64> {
        self.tensors.iter().try_fold(0, |most, tensor| Some(tensor.code_difference()?.max(most)))
    }

    /// Whether the differences are what another rounding of the same searches makes, as builds do that
    /// contract a product and a sum to one operation: few blocks, each about as near to the weights.
    pub fn is_rounding(&self) -> bool {
        !self.holds()
            && self.missing.is_empty()
            && self.tensors.iter().all(|tensor| match tensor.outcome {
                Outcome::Differs(_) => tensor.is_rounding(),
                _ => true,
            })
    }
}

/// A tensor that was made again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Derived {
    /// Its name.
    pub name: String,
    /// Its type in the file.
    pub ty: GgmlType,
    /// How many blocks it has; of floats, values.
    pub blocks: u64,
    /// What came of it.
    pub outcome: Outcome,
}

impl Derived {
    /// By how many codes two values of it differ at most, codes being spread evenly over the values of a
    /// block; 0 if it is equal, `None` if one of them is not finite.
    pub fn code_difference(&self) -> Option<u64> {
        let Outcome::Differs(difference) = self.outcome else { return Some(0) };
        let codes = (f64::from(difference.largest) / self.step()).round();
        // What differs is another code, be it of a scale.
        codes.is_finite().then(|| (codes as u64).max(1))
    }

    fn is_rounding(&self) -> bool {
        // Of the builds that were tried, none changes more than a fiftieth of the blocks, or any code by
        // more than one.
        const SHARE: f64 = 0.05;
        const CODES: u64 = 2;
        let Outcome::Differs(difference) = self.outcome else { return false };
        let few = difference.blocks as f64 <= SHARE * self.blocks as f64;
        few && self.code_difference().is_some_and(|codes| codes <= CODES)
    }

    /// How far neighbouring values of a block are apart, as a part of the largest.
    fn step(&self) -> f64 {
        let bits = self.ty.block_bytes() as f64 * 8.0 / self.ty.block_len() as f64;
        // They span twice the largest.
        2.0 / (bits.floor().exp2() - 1.0)
    }
}

/// What came of making a tensor again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Every byte is the same.
    Equal,
    /// Some blocks are others.
    Differs(Difference),
    /// It could not be made again.
    NotMade(Reason),
}

/// The blocks that differ.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// How many.
    pub blocks: u64,
    /// The first, from 0.
    pub first: u64,
    /// The largest difference of two values, as a part of the largest value of their block; infinite
    /// if one of them is not finite.
    pub largest: f32,
}

/// Why a tensor could not be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The source has none of this name.
    Absent,
    /// That of the source has another shape.
    Shape,
    /// It was made with an importance matrix that was not given.
    Importance,
    /// This version does not write the type.
    Type,
    /// The values of the source cannot be restored.
    Source,
}

impl Reason {
    /// The reason in words, after "not made again:".
    pub fn text(self) -> &'static str {
        match self {
            Self::Absent => "the source has no tensor of this name",
            Self::Shape => "it has another shape in the source",
            Self::Importance => "it was made with an importance matrix, which was not given",
            Self::Type => "this version does not write its type",
            Self::Source => "the source's values cannot be restored",
        }
    }
}

/// Makes every tensor of `file` (the first shard, if it is split) again from `source`, which was
/// [opened](crate::open) before, in the type that it has in the file, with the importance matrix of
/// the options. Memory is that of a conversion.
///
/// # Errors
/// As a conversion; what differs is no error.
pub fn prove(
    file: &Path,
    source: &Model,
    options: &Options,
    control: Control<'_>,
) -> Result<Proof> {
    let file = GgufFile::open(file, &options.limits)?;
    file.check_data()?;
    let importance = Importance::open(options)?.filter(|importance| !importance.is_empty());
    let search = match file.metadata.get_str(Search::KEY) {
        Some(Search::BETTER) => Search::Better,
        _ => Search::Reference,
    };
    let used_importance = file.metadata.get("quantize.imatrix.file").is_some();
    let sources: HashMap<_, _> =
        source.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), (i, t))).collect();

    let mut tensors = Vec::with_capacity(file.tensors.len());
    let mut jobs = Vec::new();
    for tensor in &file.tensors {
        let blocks = tensor.bytes / (tensor.ty.block_bytes() as u64).max(1);
        let of_name = sources.get(tensor.name.as_str());
        let outcome = match job(tensor, source, of_name, importance.as_ref(), search)? {
            Ok(job) => {
                jobs.push((tensors.len(), job));
                Outcome::Equal
            }
            Err(reason) => Outcome::NotMade(reason),
        };
        tensors.push(Derived { name: tensor.name.clone(), ty: tensor.ty, blocks, outcome });
    }
    let mut differences = made_again(&file, source, &jobs, options, control)?;
    // Other programs restore codes and quantize them again.
    let carried =
        |(index, job): &(usize, Job)| job.carries.is_some() && differences.contains_key(index);
    jobs.retain(carried);
    jobs.iter_mut().for_each(|(_, job)| job.carries = None);
    if !jobs.is_empty() {
        let others = made_again(&file, source, &jobs, options, control)?;
        for (index, _) in &jobs {
            match (others.get(index), differences.get(index)) {
                (None, _) => _ = differences.remove(index),
                (Some(other), Some(carried)) if other.blocks < carried.blocks => {
                    differences.insert(*index, *other);
                }
                _ => {}
            }
        }
    }
    file.files.iter().try_for_each(SourceFile::check_unchanged)?;

    for (index, difference) in differences {
        let Some(tensor) = tensors.get_mut(index) else { continue };
        // Without the matrix that it was made with a difference proves nothing.
        let needed = used_importance && importance.is_none() && importance::bends(tensor.ty);
        tensor.outcome = match needed {
            true => Outcome::NotMade(Reason::Importance),
            false => Outcome::Differs(difference),
        };
    }
    let names: HashSet<_> = file.tensors.iter().map(|t| t.name.as_str()).collect();
    let missing = source.tensors.iter().filter(|t| !names.contains(t.name.as_str()));
    Ok(Proof {
        missing: missing.map(|tensor| tensor.name.clone()).collect(),
        tensors,
        other_keys: other_keys(&file, source),
        used_importance,
    })
}

/// Makes tensors of the file again, each the one of an index, and tells which differ.
fn made_again(
    file: &GgufFile,
    source: &Model,
    jobs: &[(usize, Job)],
    options: &Options,
    control: Control<'_>,
) -> Result<HashMap<usize, Difference>> {
    let comparers: Vec<_> = (0..file.files.len()).map(|i| Comparer::new(file, i)).collect();
    let files = comparers.iter().map(|comparer| comparer as &dyn Sink).collect();
    let tensors = jobs.iter().filter_map(|(index, _)| file.tensors.get(*index));
    let places = tensors.map(|tensor| Places::one(tensor.file, tensor.offset)).collect();
    let borrowed: Vec<_> = jobs.iter().map(|(_, job)| job).collect();
    stream(source, &borrowed, &Output { files, places }, &options.running(), control)?;
    Ok(comparers.into_iter().flat_map(Comparer::into_differences).collect())
}

/// What makes a tensor of the file again, or why nothing does.
fn job(
    tensor: &TensorInfo,
    model: &Model,
    source: Option<&(usize, &Tensor)>,
    importance: Option<&Importance>,
    search: Search,
) -> Result<std::result::Result<Job, Reason>> {
    let Some(&(index, source)) = source else { return Ok(Err(Reason::Absent)) };
    if source.written_shape() != tensor.shape {
        return Ok(Err(Reason::Shape));
    }
    let copied = source.source_type() == tensor.ty;
    if !copied && !can_quantize(tensor.ty) {
        return Ok(Err(Reason::Type));
    }
    if !copied && !can_dequantize(source.source_type()) {
        return Ok(Err(Reason::Source));
    }
    let weights = match importance {
        Some(importance) if !copied && importance::bends(tensor.ty) => {
            importance.of(&source.name, &source.shape)?
        }
        _ => None,
    };
    if !copied && weights.is_none() && importance_use(tensor.ty) == Some(Use::Needed) {
        return Ok(Err(Reason::Importance));
    }
    let carries = Sample::read(model, source)?.is_some_and(|sample| sample.fits(tensor.ty));
    Ok(Ok(Job {
        tensor: index,
        form: Form::Ggml(tensor.ty),
        carries: carries.then(Arc::default),
        importance: weights.map(Into::into),
        refine: false,
        search: if copied { Search::Reference } else { search.of(tensor.ty) },
    }))
}

/// Keys whose values differ. What a quantizer adds is no key of the source.
fn other_keys(file: &GgufFile, source: &Model) -> Vec<String> {
    let added = |key: &str| {
        ["quantize.", "split."].iter().any(|start| key.starts_with(start))
            || ["general.file_type", "general.quantization_version"].contains(&key)
    };
    let of_file = file.metadata.iter().map(|(key, _)| key);
    let only = |key: &&str| source.metadata().get(key).is_none();
    let of_source = source.metadata().iter();
    let differ = of_source.filter(|(key, value)| file.metadata.get(key) != Some(*value));
    let differ = differ.map(|(key, _)| key).chain(of_file.filter(only));
    differ.filter(|key| !added(key)).map(str::to_owned).collect()
}

/// Compares what would be written with what is there.
struct Comparer<'a> {
    file: &'a SourceFile,
    /// Index, place and type of each tensor in the file, by place.
    tensors: Vec<(usize, &'a TensorInfo)>,
    found: Mutex<HashMap<usize, Difference>>,
}

impl<'a> Comparer<'a> {
    fn new(model: &'a GgufFile, index: usize) -> Self {
        let tensors = model.tensors.iter().enumerate().filter(|(_, t)| t.file == index);
        let mut tensors: Vec<_> = tensors.collect();
        tensors.sort_by_key(|(_, tensor)| tensor.offset);
        Self { file: &model.files[index], tensors, found: Mutex::default() }
    }

    fn into_differences(self) -> HashMap<usize, Difference> {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Comparer<'_> {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut there = vec![0; bytes.len()];
        self.file.read_exact_at(&mut there, offset)?;
        if there == bytes {
            return Ok(());
        }
        let after = self.tensors.partition_point(|(_, tensor)| tensor.offset <= offset);
        let Some((index, tensor)) = after.checked_sub(1).and_then(|at| self.tensors.get(at)) else {
            return Ok(());
        };
        let block = tensor.ty.block_bytes();
        let first = offset.saturating_sub(tensor.offset) / block as u64;
        let pairs = bytes.chunks(block).zip(there.chunks(block)).zip(first..);
        for ((made, found), number) in pairs.filter(|((made, found), _)| made != found) {
            let largest = largest(tensor.ty, made, found);
            let mut all = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let entry =
                all.entry(*index).or_insert(Difference { blocks: 0, first: number, largest: 0.0 });
            entry.blocks = entry.blocks.saturating_add(1);
            entry.first = entry.first.min(number);
            entry.largest = entry.largest.max(largest);
        }
        Ok(())
    }
}

/// The largest difference between the values of two blocks, as a part of the largest value.
fn largest(ty: GgmlType, a: &[u8], b: &[u8]) -> f32 {
    let values = |bytes: &[u8]| {
        let mut values = vec![0.0f32; ty.block_len()];
        dequantize(ty, bytes, &mut values).is_ok().then_some(values)
    };
    let (Some(a), Some(b)) = (values(a), values(b)) else { return f32::INFINITY };
    let most = a.iter().chain(&b).fold(0.0f32, |most, value| most.max(value.abs()));
    let apart = a.iter().zip(&b).fold(0.0f32, |most, (a, b)| {
        // A NaN is as far as can be.
        if (a - b).is_nan() { f32::INFINITY } else { most.max((a - b).abs()) }
    });
    if apart == 0.0 { 0.0 } else { apart / most }
}
