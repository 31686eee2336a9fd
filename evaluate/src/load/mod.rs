//! Makes of a file what a session runs.

mod attention;
mod keys;
mod layers;
mod recurrent;
mod ropes;
mod tensors;

use gguf_model::{
    Architecture, Dimension, Forward, HyperParameters, Norm as NormKind, Norming, Outcome,
};

use quant_weights::Source;

use crate::{
    CachePrecision, Error, Options, Result,
    run::{Runner, layer::Layer, matrix::Matrix, norm::Norm, rope::Rope},
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
    /// What each layer gets of the tokens besides.
    pub(crate) inputs: Option<LayerInputs>,
    pub(crate) layers: Vec<Layer>,
    /// Bytes of each of them.
    pub(crate) layer_bytes: Vec<u64>,
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
    /// Bytes of what the layers keep of so many tokens: keys and values, and states.
    pub(crate) fn cache_bytes(&self, precision: CachePrecision, context: usize) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum: u64, layer| sum.saturating_add(layer.cache_bytes(precision, context)))
    }

    /// The vectors of some tokens, the first at position `first`.
    pub(crate) fn embed(
        &self,
        source: &dyn Source,
        runner: Runner<'_>,
        tokens: &[u32],
        first: usize,
    ) -> Result<Vec<f32>> {
        let mut reader = source.reader(runner.kernels);
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

/// What makes a vector of each token for each layer.
pub(crate) struct LayerInputs {
    /// A row of all layers' vectors for each token.
    table: Table,
    /// Makes another of the vector that goes into the first layer.
    projection: Matrix,
    norm: Norm,
    /// Values of a layer's vector.
    pub(crate) of_layer: usize,
}

impl LayerInputs {
    /// For each token a row of all layers' vectors; `x` is what goes into the first layer.
    pub(crate) fn of(
        &self,
        source: &dyn Source,
        runner: Runner<'_>,
        tokens: &[u32],
        x: &[f32],
    ) -> Result<Vec<f32>> {
        let mut all = self.projection.times(runner, x, tokens.len())?;
        let shrink = 1.0 / (self.projection.columns as f32).sqrt();
        all.iter_mut().for_each(|v| *v *= shrink);
        self.norm.apply(runner, &mut all, self.of_layer);
        let mut reader = source.reader(runner.kernels);
        let scale = (self.of_layer as f32).sqrt();
        for (token, row) in tokens.iter().zip(all.chunks_exact_mut(self.table.width)) {
            let own = self.table.read(&mut reader, *token as usize)?;
            let half = std::f32::consts::FRAC_1_SQRT_2;
            row.iter_mut().zip(own).for_each(|(v, own)| *v = (*v + own * scale) * half);
        }
        Ok(all)
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

/// Which weights are read when a model is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    All,
    /// All but those of the layers, which are read one by one when they are needed.
    Ends,
    /// None: what is asked for is how much there would be.
    Nothing,
}

impl<'a> Loader<'a> {
    /// The header has been checked against the description of the architecture.
    pub(crate) fn load(
        source: &'a dyn Source,
        options: &'a Options,
        architecture: &'static Architecture,
        forward: &'static Forward,
        read: Read,
    ) -> Result<Weights> {
        let mut loader = Self::new(source, options, architecture, forward)?;
        if read == Read::All {
            loader.check_memory(options, source)?;
            loader.tensors.reserve("");
        }
        loader.weights(read)
    }

    /// A layer of a model that was opened without its layers.
    pub(crate) fn load_layer(
        source: &'a dyn Source,
        options: &'a Options,
        architecture: &'static Architecture,
        forward: &'static Forward,
        weights: &Weights,
        layer: usize,
    ) -> Result<Layer> {
        let mut loader = Self::new(source, options, architecture, forward)?;
        loader.ropes.clone_from(&weights.ropes);
        loader.tensors.reserve(&format!("blk.{layer}."));
        loader.layer(u32::try_from(layer).unwrap_or(u32::MAX))
    }

    fn new(
        source: &'a dyn Source,
        options: &'a Options,
        architecture: &'static Architecture,
        forward: &'static Forward,
    ) -> Result<Self> {
        let keys = Keys::new(source, architecture);
        let parameters =
            HyperParameters::read(source.metadata(), architecture).map_err(|problems| {
                keys.wrong(problems.first().map_or(String::new(), |p| p.to_string()))
            })?;
        let rms = || keys.float("attention.layer_norm_rms_epsilon");
        let whole = || keys.float("attention.layer_norm_epsilon");
        let epsilon = match forward.norm.unwrap_or(architecture.graph.norm) {
            NormKind::Rms => rms().or_else(whole),
            _ => whole(),
        }
        .unwrap_or(1e-5);
        let tensors = Tensors::new(source, options);
        let ropes = Vec::new();
        Ok(Self { tensors, keys, parameters, architecture, forward, epsilon, ropes })
    }

    /// A limit on memory that the weights would not keep to.
    fn check_memory(&self, options: &Options, source: &dyn Source) -> Result<()> {
        let size =
            source.tensors().iter().fold(0u64, |sum, t| sum.saturating_add(t.source_bytes()));
        match options.memory.filter(|limit| size > *limit) {
            None => Ok(()),
            Some(available) => Err(Error::Memory {
                what: "the model".into(),
                needed: size,
                available,
                hint: "run a smaller file",
            }),
        }
    }

    fn weights(mut self, read: Read) -> Result<Weights> {
        let forward = self.forward;
        self.tensors.reads_values = read != Read::Nothing;
        self.tensors.reads_matrices = self.tensors.reads_values;
        let missing = |name: &str| self.keys.wrong(format!("tensor {name} is missing"));
        let missing_tokens = missing("token_embd.weight");
        let embedding = match Table::new(&mut self.tensors, "token_embd.weight")? {
            Some(table) => table,
            // Where there is none the rows of the output are the vectors of the tokens.
            None => Table::new(&mut self.tensors, "output.weight")?.ok_or(missing_tokens)?,
        };
        let width = embedding.width;
        let positions = Table::new(&mut self.tensors, "position_embd.weight")?;
        let mut token_type = self.tensors.values("token_types.weight")?;
        if let Some(kinds) = &mut token_type {
            kinds.truncate(width);
        }
        let embedding_norm = self.norm("", forward.block.embedding_norm)?;
        let inputs = self.layer_inputs(width)?;
        let (mut layers, mut layer_bytes) = (Vec::new(), Vec::new());
        self.tensors.reads_matrices = read == Read::All;
        for layer in 0..self.parameters.trunk_layers() {
            let before = self.tensors.bytes;
            layers.push(self.layer(layer)?);
            layer_bytes.push(self.tensors.bytes - before);
        }
        self.tensors.reads_matrices = self.tensors.reads_values;
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
        let is_causal = self.is_causal();
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
            inputs,
            layers,
            layer_bytes,
            ropes: self.ropes,
            residual_scale: self.keys.factor(forward.residual_scale, width),
            output_norm,
            output,
            logit_scale: self.keys.factor(forward.logit_scale, width),
            logit_cap: cap,
            is_causal,
            behind_pooling,
        })
    }

    /// Vectors of tokens for each layer.
    fn layer_inputs(&mut self, width: usize) -> Result<Option<LayerInputs>> {
        let Some(table) = Table::new(&mut self.tensors, "per_layer_token_embd.weight")? else {
            return Ok(None);
        };
        let of_layer = self.size(Dimension::PerLayerInput)?;
        let projection = self.matrix("per_layer_model_proj", table.width)?;
        self.expect_columns(&projection, width)?;
        let norm = self.norm_named("per_layer_proj_norm")?;
        let norm = norm.ok_or_else(|| self.missing("per_layer_proj_norm"))?;
        Ok(Some(LayerInputs { table, projection, norm, of_layer }))
    }

    /// Whether a token sees only those before it.
    fn is_causal(&self) -> bool {
        self.keys.flag("attention.causal").unwrap_or(self.forward.attention.causal)
    }

    fn norm_kind(&self) -> NormKind {
        self.forward.norm.unwrap_or(self.architecture.graph.norm)
    }

    /// The norm of a tensor by its name without the suffix; `None` if it is not there.
    fn norm_named(&mut self, name: &str) -> Result<Option<Norm>> {
        self.tensors.norm(name, self.norm_kind(), self.epsilon)
    }

    fn factor(&self, factor: gguf_model::Factor, width: usize) -> f32 {
        self.keys.factor(factor, width)
    }

    /// A norm by the name that the description gives it, after a prefix.
    fn norm(&mut self, prefix: &str, norming: Norming) -> Result<Option<Norm>> {
        match norming {
            Norming::By(name) => self.norm_named(&format!("{prefix}{name}")),
            Norming::Plain => Ok(Some(self.plain_norm())),
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
                || self.forward.result == Outcome::Embedding
                    && (name.starts_with("output.") || name.starts_with("dec."))
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
