//! What the tensors of a checkpoint are called in GGUF: by those names importance matrices are kept.

use std::{collections::HashMap, path::Path};

use quant_weights::Weights;

use crate::{
    Config, Result,
    architectures::{self, tensors},
    importance::Importance,
    model::{Tensor, TensorData},
};

/// The tensors that GGUF would have, and which of a checkpoint they are made of.
#[derive(Debug)]
pub(super) struct GgufNames {
    tensors: Vec<Tensor>,
    /// For each tensor of the checkpoint those made of it, by their index, and which matrix of them
    /// it is.
    made_of: HashMap<String, Vec<(usize, usize)>>,
}

impl GgufNames {
    /// Maps a checkpoint; checks names and shapes on the way.
    pub(super) fn new(dir: &Path, mut config: Config, weights: &Weights) -> Result<Self> {
        let architecture = architectures::find(&config)?;
        architecture.complete(&mut config)?;
        tensors::layers(&config)?;
        architectures::nextn::count(architecture, &mut config, weights.checkpoint())?;
        let mapped = tensors::map(architecture, &config, weights, dir)?;
        let indices: HashMap<_, _> =
            mapped.tensors.iter().enumerate().map(|(i, tensor)| (&tensor.name[..], i)).collect();
        let mut made_of: HashMap<String, Vec<_>> = HashMap::new();
        for source in mapped.sources {
            if let Some(index) = indices.get(&source.tensor[..]) {
                made_of.entry(source.name).or_default().push((*index, source.matrix));
            }
        }
        Ok(Self { tensors: mapped.tensors, made_of })
    }

    /// All names in GGUF.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// The importance of a tensor's columns: that of the first tensor made of it whose columns are
    /// the same, as are those of both halves where gate and up are one tensor in the checkpoint.
    pub(super) fn importance<'a>(
        &self,
        importance: &'a Importance,
        tensor: &Tensor,
    ) -> Result<Option<&'a [f32]>> {
        let columns = tensor.row_len();
        let made = self.made_of.get(&tensor.name).into_iter().flatten();
        for &(index, matrix) in made {
            let Some(target) = self.tensors.get(index).filter(|t| has_columns(t, columns)) else {
                continue;
            };
            if let Some(all) = importance.of(&target.name, &target.shape)? {
                let columns = usize::try_from(columns).unwrap_or(usize::MAX).max(1);
                return Ok(all.chunks_exact(columns).nth(matrix));
            }
        }
        Ok(None)
    }
}

/// Whether the rows of a tensor are rows of the one it is made of, as opposed to its columns.
fn has_columns(tensor: &Tensor, columns: u64) -> bool {
    let TensorData::Stored { pieces, .. } = &tensor.data else { return false };
    tensor.row_len() == columns && pieces.iter().all(|piece| piece.view.keeps_rows())
}
