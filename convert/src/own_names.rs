//! Safetensors of no known architecture: their tensors keep their own names. Programs for image models
//! read such files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use gguf_io::{Checkpoint, CheckpointTensor, Metadata, SourceFile};
use quant_weights::{Problem, Quantization, Weights};

use crate::{
    Config, Error, Model, Options, Result, architectures,
    error::Quoted,
    general,
    model::{ElementMap, Origin, Piece, QUANTIZATION_VERSION, Tensor, TensorData, View},
    model_card,
    options::preference,
};

/// Most dimensions of a tensor in ggml.
const MOST_DIMENSIONS: usize = 4;

/// Bytes of a tensor's name that ggml has room for.
const LONGEST_NAME: usize = 63;

/// Endings of names of counters and positions, which are no weights.
const BUFFERS: [&str; 2] = ["position_ids", "num_batches_tracked"];

const HELP: &str = "give the weights as the model's authors published them";

/// Opens a folder or a safetensors file as a model of the architecture `name`.
///
/// # Errors
/// [`Error::OwnNames`] for a name that is none, or whose models have other tensors; whatever is wrong with
/// the files.
pub(crate) fn open(path: &Path, name: &str, options: &Options) -> Result<Model> {
    check_name(path, name)?;
    let overrides = model_card::read_overrides(options.metadata.as_deref())?;
    let checkpoint = match path.is_dir() {
        true => folder(path, options)?,
        false => Checkpoint::read(vec![SourceFile::open(path)?], &options.limits)?,
    };
    let weights = Weights::new(checkpoint, Quantization::none())?;
    let (tensors, left_out) = tensors(path, &weights)?;
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", name);
    let dir = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let called = match path.is_dir() {
        true => general::folder(path, options.like_reference),
        false => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
    };
    let config = Config::parse(dir.join("config.json"), b"{}")?;
    general::write(dir, called, &config, &tensors, &overrides, &mut metadata);
    metadata.insert("general.file_type", 0u32);
    metadata.insert("general.quantization_version", QUANTIZATION_VERSION);
    let files = weights.into_checkpoint().files;
    Ok(Model { metadata, tensors, files, origin: Origin::Checkpoint, left_out })
}

fn check_name(path: &Path, name: &str) -> Result<()> {
    let refused = |problem: String, help| Err(Error::OwnNames { path: path.into(), problem, help });
    let is_name = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !is_name {
        let problem = format!("{} is no name of an architecture", Quoted(name));
        return refused(problem, "use up to 64 letters, digits, -, _ and dots, such as flux");
    }
    if gguf_model::Architecture::find(name).is_some() {
        let problem = format!("models of the architecture {name} have other names of tensors");
        return refused(
            problem,
            "leave the name out, so that config.json tells how they are named",
        );
    }
    let known = || Config::read(path).and_then(|config| architectures::find(&config));
    if let Ok(known) = known() {
        let problem =
            format!("config.json is that of a {} model, whose tensors are renamed", known.name);
        return refused(problem, "leave the name out");
    }
    Ok(())
}

/// The weights of a folder: as transformers finds them, else the only file there is, or the only set of
/// shards, whatever they are called.
fn folder(dir: &Path, options: &Options) -> Result<Checkpoint> {
    let usual = Checkpoint::open_with(dir, preference(options.like_reference), &options.limits);
    let error = match usual {
        Ok(checkpoint) => return Ok(checkpoint),
        Err(error @ gguf_io::Error::NotAModel { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    // A folder that cannot be listed has been refused for that.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() || (paths.len() > 1 && !is_set(&paths)) {
        return Err(error.into());
    }
    let files = paths.iter().map(SourceFile::open).collect::<Result<_, _>>()?;
    Ok(Checkpoint::read(files, &options.limits)?)
}

/// Whether files are all shards of one set: `NAME-00001-of-00002.safetensors` and so on.
fn is_set(paths: &[PathBuf]) -> bool {
    let numbers = paths.iter().map(|path| {
        let (start, count) = path.file_stem()?.to_str()?.rsplit_once("-of-")?;
        let (name, number) = start.rsplit_once('-')?;
        Some((name.to_owned(), number.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
    });
    let Some(shards) = numbers.collect::<Option<BTreeSet<_>>>() else { return false };
    let is_of_set = |(at, (name, number, count)): (usize, &(String, usize, usize))| {
        shards.first().is_some_and(|first| first.0 == *name)
            && *number == at + 1
            && *count == paths.len()
    };
    shards.len() == paths.len() && shards.iter().enumerate().all(is_of_set)
}

/// The tensors, and the names of those that are no weights.
fn tensors(path: &Path, weights: &Weights) -> Result<(Vec<Tensor>, Vec<String>)> {
    let checkpoint = weights.checkpoint();
    let mut stored: Vec<_> = checkpoint.tensors.iter().collect();
    let file = |tensor: &CheckpointTensor| checkpoint.files.get(tensor.file).map(|f| f.path());
    stored.sort_by(|(a, x), (b, y)| file(x).cmp(&file(y)).then(a.cmp(b)));
    let (mut tensors, mut left_out) = (Vec::with_capacity(stored.len()), Vec::new());
    for (name, tensor) in stored {
        if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
            left_out.push(name.clone());
            continue;
        }
        let wrong = |Problem { found, expected, help }: Problem| Error::Weights {
            path: file(tensor).unwrap_or(path).to_path_buf(),
            name: name.clone(),
            found,
            expected,
            help,
        };
        let misshapen = |expected: String| {
            let found = format!("shape {}", gguf_io::message::Shape(&tensor.shape));
            wrong(Problem { found, expected, help: HELP })
        };
        let encoding = weights.encoding(name, tensor).map_err(wrong)?;
        let mut shape = if tensor.shape.is_empty() { vec![1] } else { tensor.shape.clone() };
        if shape.len() > MOST_DIMENSIONS {
            return Err(misshapen(format!("at most {MOST_DIMENSIONS} dimensions, as ggml has")));
        }
        let view = View::whole(&shape).ok_or_else(|| misshapen("fewer than 2^63 values".into()))?;
        let (file, offset) = (tensor.file, tensor.offset);
        let pieces = vec![Piece { file, offset, encoding, view }];
        shape.reverse();
        let data = TensorData::Stored { pieces, map: ElementMap::Same };
        tensors.push(Tensor { name: name.clone(), shape, data });
    }
    if let Some(long) = tensors.iter().find(|tensor| tensor.name.len() > LONGEST_NAME) {
        tracing::warn!(
            kind = "long-name",
            tensor = %long.name,
            "the name of tensor {} has {} bytes: programs that keep ggml's limit of {LONGEST_NAME} do \
             not load the file",
            Quoted(&long.name),
            long.name.len()
        );
    }
    Ok((tensors, left_out))
}
