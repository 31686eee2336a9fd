//! The weights of a checkpoint, whatever they are stored as.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use gguf_io::{Checkpoint, CheckpointTensor, Dtype};
use quant_core::Error::TooLarge;

use crate::{
    Code, Encoding, Error, Problem, Purpose, Quantization, Result, nvfp4,
    packed::{Parts, bitsandbytes, mlx},
    quantization::Format,
    scaled,
};

/// The weights of a checkpoint under the names that they have in the original one.
///
/// A packed layer appears as the weight that it stands for, of type F32: its parts, such as
/// `qweight`, `scales` and `qzeros`, no longer appear. Stacks of experts as MLX has them are taken
/// apart. What stays is for [`encoding`](Self::encoding) to tell.
#[derive(Debug)]
pub struct Weights {
    checkpoint: Checkpoint,
    quantization: Quantization,
    /// Those that stand for several tensors.
    stored: HashMap<String, Encoding>,
}

impl Weights {
    /// The weights of a checkpoint that are stored in this way.
    ///
    /// # Errors
    /// [`Error::Packed`] for parts of a packed layer that do not fit each other, or if there is both
    /// a weight and its packed form; [`Error::Files`] if reading fails (the order of groups is read).
    pub fn new(mut checkpoint: Checkpoint, quantization: Quantization) -> Result<Self> {
        mlx::unstack(&mut checkpoint);
        let mut weights = Self { checkpoint, quantization, stored: HashMap::new() };
        if let Some(names) = weights.quantization.nvfp4.names {
            for module in names.modules(&weights.checkpoint) {
                weights.join(&module, names)?;
            }
        }
        if weights.quantization.format == Format::BitsAndBytes {
            for module in weights.modules(bitsandbytes::ROWS) {
                let parts = weights.parts(&module);
                let (weight, scales, used) = bitsandbytes::by_rows(&parts)?;
                let columns = weight.shape.last().copied().unwrap_or(1);
                let encoding = Encoding::Coded { code: Code::Int8, columns, scales: Some(scales) };
                weights.replace(&module, used, weight, encoding)?;
            }
        }
        let Some(codes) = weights.quantization.format.codes() else { return Ok(weights) };
        for module in weights.modules(codes) {
            weights.pack(&module)?;
        }
        Ok(weights)
    }

    /// The modules that have a part.
    fn modules(&self, part: &str) -> Vec<String> {
        let end = format!(".{part}");
        let names = self.checkpoint.tensors.keys();
        names.filter_map(|name| Some(name.strip_suffix(&end)?.to_owned())).collect()
    }

    fn parts<'a>(&'a self, module: &'a str) -> Parts<'a> {
        Parts { checkpoint: &self.checkpoint, module, method: &self.quantization.method }
    }

    /// Puts the weights of a module in the place of its parts.
    fn pack(&mut self, module: &str) -> Result<()> {
        let (layers, used) = self.quantization.format.layers(&self.parts(module))?;
        self.remove(module, used);
        for (name, layer) in layers {
            let shape = layer.shape();
            let bytes = shape.into_iter().try_fold(4u64, u64::checked_mul).ok_or(TooLarge)?;
            let (file, offset) = layer.place();
            let weight =
                CheckpointTensor { dtype: Dtype::F32, shape: shape.to_vec(), file, offset, bytes };
            self.insert(name, weight, Encoding::Packed(Arc::new(layer)))?;
        }
        Ok(())
    }

    /// Puts a weight in NVFP4 in the place of its parts.
    fn join(&mut self, module: &str, names: nvfp4::Names) -> Result<()> {
        let weight_only = self.quantization.nvfp4.keeps_inputs(module);
        let (weight, own, used) = nvfp4::layer(&self.parts(module), names, weight_only)?;
        self.replace(module, used, weight, Encoding::Nvfp4(own))
    }

    /// Puts the weight of a module in the place of its parts.
    fn replace(
        &mut self,
        module: &str,
        parts: Vec<&str>,
        weight: CheckpointTensor,
        encoding: Encoding,
    ) -> Result<()> {
        self.remove(module, parts);
        self.insert(format!("{module}.weight"), weight, encoding)
    }

    fn remove(&mut self, module: &str, parts: Vec<&str>) {
        for part in parts {
            self.checkpoint.tensors.shift_remove(&format!("{module}.{part}"));
        }
    }

    /// Adds a weight that stands for several tensors.
    fn insert(&mut self, name: String, weight: CheckpointTensor, encoding: Encoding) -> Result<()> {
        let file = weight.file;
        if self.checkpoint.tensors.insert(name.clone(), weight).is_some() {
            let file = self.checkpoint.files.get(file);
            return Err(Error::Packed {
                path: file.map(|file| file.path().to_path_buf()).unwrap_or_default(),
                tensor: name,
                found: "both a weight and its packed form".into(),
                expected: "one of them".into(),
                help: "take the original checkpoint, which the model's authors usually publish too",
            });
        }
        if let Entry::Vacant(vacant) = self.stored.entry(name) {
            vacant.insert(encoding);
        }
        Ok(())
    }

    /// The files, and the weights in the order in which a checkpoint has them, packed ones last.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint, for its files.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// What a tensor is for.
    pub fn purpose(&self, name: &str) -> Purpose {
        self.quantization.format.purpose(name, &self.checkpoint)
    }

    /// How the values of a tensor are stored.
    ///
    /// # Errors
    /// What is not read: another type, or scales that do not lie over the values.
    pub fn encoding(&self, name: &str, tensor: &CheckpointTensor) -> Result<Encoding, Problem> {
        match self.stored.get(name) {
            Some(encoding) => Ok(encoding.clone()),
            None => self.quantization.format.encoding(&self.checkpoint, name, tensor),
        }
    }

    /// How codes of MXFP4 are stored whose scales are in the tensor `scales`.
    ///
    /// # Errors
    /// If that is not there, or of another shape or type.
    pub fn mxfp4(&self, codes: &CheckpointTensor, scales: &str) -> Result<Encoding, Problem> {
        scaled::mxfp4(&self.checkpoint, codes, scales)
    }
}
