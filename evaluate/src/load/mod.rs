//! Makes of a file what a session runs.

mod attention;
mod keys;
mod layers;
mod ropes;
mod tensors;

use gguf_model::{Architecture, Forward, HyperParameters, Norming, Outcome};

use quant_weights::Source;

use crate::{
    CachePrecision, Error, Options, Result,
    run::{Runner, cache::LayerCache, matrix::Matrix, norm::Norm, rope::Rope, session::Layer},
};
use keys::Keys;
use tensors::{Table, Tensors};

/// The weights of a model and how they are used.
pub(crate) struct Weights {
    pub(crate) width: usize,
    pub(crate) vocabulary: usize,
    pub(crate) trained_context: usize,
    /// Bytes in memory.
    pub(crate) bytes: u64,
    /// Values per token in the widest layer, all buffers together.
    pub(crate) widest_layer: usize,
    pub(crate) embedding: Table,
    pub(crate) embedding_scale: f32,
    /// The vector of the first kind of token, which all have.
    pub(crate) token_type: Option<Vec<f32>>,
    pub(crate) positions: Option<Table>,
    pub(crate) embedding_norm: Option<Norm>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) ropes: Vec<Rope>,
    pub(crate) residual_scale: f32,
    pub(crate) output_norm: Option<Norm>,
    /// `None` where the vectors themselves come out.
    pub(crate) output: Option<Matrix>,
    pub(crate) logit_scale: f32,
    pub(crate) logit_cap: f32,
    pub(crate) is_causal: bool,
    /// Matrices that the vector of a text goes through.
    pub(crate) behind_pooling: Vec<Matrix>,
}

impl Weights {
    /// Bytes of the keys and values of so many tokens.
    pub(crate) fn cache_bytes(&self, precision: CachePrecision, context: usize) -> u64 {
        self.layers.iter().fold(0, |sum: u64, layer| {
            sum.saturating_add(LayerCache::bytes(precision, layer.attention.cached(), context))
        })
    }

    /// The vectors of some tokens, the first at position `first`.
    pub(crate) fn embed(
        &self,
        model: &crate::Model,
        runner: Runner<'_>,
        tokens: &[u32],
        first: usize,
    ) -> Result<Vec<f32>> {
        let mut reader = model.source.reader(runner.kernels);
        let mut x = vec![0.0; tokens.len() * self.width];
        for (i, (token, x)) in tokens.iter().zip(x.chunks_exact_mut(self.width)).enumerate() {
            match runner.replaced.and_then(|replaced| replaced.tokens.get(token)) {
                Some(vector) => x.copy_from_slice(vector),
                None => x.copy_from_slice(self.embedding.read(&mut reader, *token as usize)?),
            }
            if self.embedding_scale != 1.0 {
                x.iter_mut().for_each(|v| *v *= self.embedding_scale);
            }
            if let Some(kind) = &self.token_type {
                x.iter_mut().zip(kind).for_each(|(v, k)| *v += k);
            }
            if let Some(positions) = &self.positions {
                let position = positions.read(&mut reader, first + i)?;
                x.iter_mut().zip(position).for_each(|(v, p)| *v += p);
            }
        }
        if let Some(norm) = &self.embedding_norm {
            norm.apply(runner, &mut x, self.width);
        }
        Ok(x)
    }
}

/// Loads a model.
pub(crate) struct Loader<'a> {
    tensors: Tensors<'a>,
    keys: Keys<'a>,
    parameters: HyperParameters,
    architecture: &'static Architecture,
    forward: &'static Forward,
    epsilon: f32,
    ropes: Vec<Rope>,
}

impl<'a> Loader<'a> {
    /// The header has been checked against the description of the architecture.
    pub(crate) fn load(
        source: &'a dyn Source,
        options: &'a Options,
        architecture: &'static Architecture,
        forward: &'static Forward,
    ) -> Result<Weights> {
        let keys = Keys::new(source, architecture);
        let parameters =
            HyperParameters::read(source.metadata(), architecture).map_err(|problems| {
                keys.wrong(problems.first().map_or(String::new(), |p| p.to_string()))
            })?;
        let size =
            source.tensors().iter().fold(0u64, |sum, t| sum.saturating_add(t.source_bytes()));
        if let Some(available) = options.memory.filter(|limit| size > *limit) {
            return Err(Error::Memory {
                what: "the model".into(),
                needed: size,
                available,
                hint: "run a smaller file",
            });
        }
        let epsilon = match architecture.graph.norm {
            gguf_model::Norm::Rms => keys.float("attention.layer_norm_rms_epsilon"),
            _ => keys.float("attention.layer_norm_epsilon"),
        }
        .unwrap_or(1e-5);
        let tensors = Tensors::new(source, options);
        let ropes = Vec::new();
        Self { tensors, keys, parameters, architecture, forward, epsilon, ropes }.weights()
    }

    fn weights(mut self) -> Result<Weights> {
        let forward = self.forward;
        let missing = |name: &str| self.keys.wrong(format!("tensor {name} is missing"));
        let missing_tokens = missing("token_embd.weight");
        let embedding =
            Table::new(&mut self.tensors, "token_embd.weight")?.ok_or(missing_tokens)?;
        let width = embedding.width;
        let positions = Table::new(&mut self.tensors, "position_embd.weight")?;
        let mut token_type = self.tensors.values("token_types.weight")?;
        if let Some(kinds) = &mut token_type {
            kinds.truncate(width);
        }
        let embedding_norm = self.norm("", forward.block.embedding_norm)?;
        let mut layers = Vec::new();
        for layer in 0..self.parameters.trunk_layers() {
            layers.push(self.layer(layer)?);
        }
        let output_norm = self.norm("", forward.block.output_norm)?;
        let output = match forward.result {
            Outcome::Embedding => None,
            // Where there is no output the vectors of the tokens are its rows.
            Outcome::Logits => {
                let name = if self.tensors.has("output.weight") { "output" } else { "token_embd" };
                let mut matrix = self.tensors.matrix(name)?;
                if let Some(matrix) = &mut matrix
                    && matrix.bias.is_none()
                {
                    matrix.bias = self.tensors.values("output.bias")?;
                }
                matrix
            }
        };
        let mut behind_pooling = Vec::new();
        for name in ["dense_2", "dense_3"] {
            behind_pooling.extend(self.tensors.matrix(name)?);
        }
        self.refuse_unused()?;
        let vocabulary = output.as_ref().map_or(embedding.rows, |output| output.rows);
        let cap =
            forward.logit_cap.map_or(0.0, |(key, default)| self.keys.float(key).unwrap_or(default));
        Ok(Weights {
            width,
            vocabulary,
            trained_context: self.keys.number("context_length").unwrap_or(0),
            bytes: self.tensors.bytes,
            widest_layer: layers.iter().map(|layer| layer.width(width)).max().unwrap_or(0),
            embedding,
            embedding_scale: self.factor(forward.embedding_scale, width),
            token_type,
            positions,
            embedding_norm,
            layers,
            ropes: self.ropes,
            residual_scale: self.keys.factor(forward.residual_scale, width),
            output_norm,
            output,
            logit_scale: self.keys.factor(forward.logit_scale, width),
            logit_cap: cap,
            is_causal: self.keys.flag("attention.causal").unwrap_or(forward.attention.causal),
            behind_pooling,
        })
    }

    fn factor(&self, factor: gguf_model::Factor, width: usize) -> f32 {
        self.keys.factor(factor, width)
    }

    /// A norm by the name that the description gives it, after a prefix.
    fn norm(&mut self, prefix: &str, norming: Norming) -> Result<Option<Norm>> {
        let (kind, epsilon) = (self.architecture.graph.norm, self.epsilon);
        match norming {
            Norming::By(name) => self.tensors.norm(&format!("{prefix}{name}"), kind, epsilon),
            Norming::Plain => Ok(Some(Norm { kind, epsilon, weight: None, bias: None })),
            Norming::None => Ok(None),
        }
    }

    /// A tensor that nothing was done with would make the results wrong without a word.
    fn refuse_unused(&self) -> Result<()> {
        let trunk = self.parameters.trunk_layers();
        let is_further = |name: &str| {
            let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
            layer.and_then(|layer| layer.parse().ok()).is_some_and(|layer: u32| layer >= trunk)
        };
        // A classifier works on what comes out here, and so does the output of an embedding model.
        let is_behind = |name: &str| {
            name.starts_with("cls.")
                || self.forward.result == Outcome::Embedding && name.starts_with("output.")
        };
        let unused = self.tensors.unused().find(|t| !is_further(&t.name) && !is_behind(&t.name));
        match unused {
            None => Ok(()),
            Some(tensor) => Err(self.tensors.error(
                tensor,
                format!(
                    "is not used when {} models are run here: the results would be wrong",
                    self.architecture.name
                ),
            )),
        }
    }
}
