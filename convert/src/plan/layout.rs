//! The third stage: files, and places in them.

use gguf_io::{Layout, Metadata, TensorSpec, gguf::shards};

use super::{assign::Assigned, given::Given, parts};
use crate::{Result, loadable, options::Split};

/// Gives every tensor its place, in one file or several. The tensors of the layouts are those given,
/// whose order it may change to keep the files of the input.
pub(super) fn lay_out(
    given: &Given<'_>,
    tensors: &mut [Assigned],
    metadata: &Metadata,
) -> Result<Vec<Layout>> {
    let Given { model, options, .. } = *given;
    let file_of =
        |tensor: &Assigned| model.tensors[tensor.job.tensor].place().map_or(0, |(file, _)| file);
    if options.split == Some(Split::Keep) {
        // Stable: within a file of a checkpoint the order stays.
        tensors.sort_by_key(file_of);
    }
    let specs: Vec<_> = tensors
        .iter()
        .map(|tensor| TensorSpec {
            name: tensor.name.clone(),
            ty: tensor.ty,
            shape: match &model.tensors[tensor.job.tensor] {
                // The reference's converter keeps the rank of an adapter, be it 1.
                source if parts::of(model).is_some() => source.shape.clone(),
                source => source.written_shape().to_vec(),
            },
        })
        .collect();
    if parts::of(model).is_none() {
        let tensors = specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice()));
        loadable::check(model, metadata, &options.override_kv, tensors)?;
    }
    let files: Vec<usize> = tensors.iter().map(file_of).collect();
    Ok(match options.split {
        None => vec![Layout::new(metadata, &specs)?],
        Some(split) => shards::layout(metadata, &specs, split.by(&files))?,
    })
}
