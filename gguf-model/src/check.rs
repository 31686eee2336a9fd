//! Compares a model with the description of its architecture.

use std::collections::{HashMap, HashSet};

use gguf_io::{GgufFile, Metadata, message::Quoted, metadata::Value};

use crate::{
    Architecture, Dimension, Expected, HyperParameters, MAX_LAYERS, Need, Problem, ProblemKind,
    Size,
    expected::fill,
    problem::{Problems, described},
    slot::Stack,
    vocabulary,
};

/// What a file holds, and what is wrong with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// What it was taken for.
    pub content: Content,
    /// What keeps loaders from using it: the first of them, the most telling first.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
    /// Faults that loaders tolerate, and what could not be checked. One line each.
    pub notes: Vec<String>,
}

/// What a GGUF file holds.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Content {
    /// A model of an architecture described here.
    Model(&'static Architecture),
    /// The vocabulary of a model, without tensors.
    Vocabulary,
    /// Anything else: an adapter, a projector, an image model, a language model not described here.
    Other,
}

/// Checks the header of a file.
pub fn check_file(file: &GgufFile) -> Report {
    check(&file.metadata, file.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())))
}

/// Checks metadata and the names and shapes of tensors (GGUF order, innermost first).
///
/// Nothing is trusted: a huge `block_count` allocates nothing, and of any number of problems only
/// the first few hundred are kept.
pub fn check<'a>(
    metadata: &Metadata,
    tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>,
) -> Report {
    let mut checker = Checker {
        metadata,
        names: Vec::new(),
        tensors: HashMap::new(),
        problems: Problems::default(),
        notes: Vec::new(),
    };
    for (name, shape) in tensors {
        if checker.tensors.insert(name, Tensor { shape, read: false }).is_some() {
            let message = format!("tensor {} is there twice", Quoted(name));
            checker.problems.add(ProblemKind::UnknownTensor, name, message);
        } else {
            checker.names.push(name);
        }
    }
    let content = checker.run();
    Report {
        content,
        problem_count: checker.problems.count(),
        problems: checker.problems.into_vec(),
        notes: checker.notes,
    }
}

struct Tensor<'a> {
    shape: &'a [u64],
    /// Whether a slot has asked for it.
    read: bool,
}

struct Checker<'a> {
    metadata: &'a Metadata,
    /// In file order.
    names: Vec<&'a str>,
    tensors: HashMap<&'a str, Tensor<'a>>,
    problems: Problems,
    notes: Vec<String>,
}

const TOKENS: &str = "tokenizer.ggml.tokens";

impl<'a> Checker<'a> {
    fn run(&mut self) -> Content {
        const ARCHITECTURE: &str = "general.architecture";
        let metadata = self.metadata;
        match metadata.get_str("general.type") {
            None | Some("model") => {}
            Some(kind) => {
                self.notes.push(format!(
                    "general.type {}: no language model, only its structure is checked",
                    Quoted(kind)
                ));
                return Content::Other;
            }
        }
        let name = match metadata.get(ARCHITECTURE) {
            Some(value) => match value.as_str().filter(|name| !name.is_empty()) {
                Some(name) => name,
                None => {
                    let value = described(value);
                    self.problems.key(
                        ARCHITECTURE,
                        format!("is {value}, expected the name of an architecture"),
                    );
                    return Content::Other;
                }
            },
            None => {
                self.without_architecture(ARCHITECTURE);
                return Content::Other;
            }
        };
        let Some(architecture) = Architecture::find(name) else {
            self.notes.push(match name {
                "clip" => "architecture clip: the projector of a multimodal model, only its \
                           structure is checked"
                    .into(),
                "controlvector" => {
                    "architecture controlvector: no model, only its structure is checked".into()
                }
                other => format!(
                    "architecture {} is not described here: only the file's structure is checked, \
                     not its keys and tensors",
                    Quoted(other)
                ),
            });
            if metadata.get(TOKENS).is_some() {
                vocabulary::check(metadata, false, &mut self.problems, &mut self.notes);
            }
            return Content::Other;
        };
        if self.names.is_empty() {
            if metadata.get(TOKENS).is_none() {
                self.problems.add(
                    ProblemKind::MissingTensor,
                    "token_embd.weight",
                    "there are no tensors: the file holds no model",
                );
            } else {
                self.notes.push(
                    "there are no tensors: a vocabulary alone, which programs that only split text \
                     load"
                        .into(),
                );
            }
            vocabulary::check(metadata, true, &mut self.problems, &mut self.notes);
            return Content::Vocabulary;
        }
        self.general();
        let parameters = HyperParameters::collect(metadata, architecture, &mut self.problems);
        vocabulary::check(metadata, true, &mut self.problems, &mut self.notes);
        // Without their number nothing can be said about layers.
        if parameters.layers > 0 {
            let empty = self.layers(architecture, &parameters);
            self.slots(architecture, &parameters, &empty);
            self.scales(&parameters);
            self.rest(architecture);
        }
        self.remarks(architecture, &parameters);
        Content::Model(architecture)
    }

    /// Keys that say nothing about the graph, but that llama.cpp stops at in another type.
    fn general(&mut self) {
        for (key, is_right, expected) in [
            ("general.name", (|v| matches!(v, Value::String(_))) as fn(&Value) -> bool, "a STRING"),
            ("general.file_type", |v| matches!(v, Value::Uint32(_)), "a UINT32"),
        ] {
            if let Some(value) = self.metadata.get(key).filter(|value| !is_right(value)) {
                let found = described(value);
                self.problems.key(key, format!("is {found}, expected {expected}"));
            }
        }
    }

    /// A file that does not say what it is.
    fn without_architecture(&mut self, key: &str) {
        let of_language = self.metadata.iter().any(|(key, _)| key.starts_with("tokenizer.ggml."))
            || self.names.iter().any(|n| n.starts_with("blk.") || *n == "token_embd.weight");
        if of_language {
            self.problems.missing_key(key, "the name of an architecture");
        } else {
            self.notes.push(format!(
                "{key} is missing: no language model, only the file's structure is checked"
            ));
        }
    }

    /// Names the tensors of layers that there are not; returns the layers that have no tensor.
    fn layers(
        &mut self,
        architecture: &Architecture,
        parameters: &HyperParameters,
    ) -> HashSet<(Stack, u32)> {
        let stacks: HashSet<_> =
            architecture.slots().filter_map(|slot| Stack::of(slot.name)).collect();
        let mut seen = HashSet::new();
        let mut beyond = Vec::new();
        for &name in &self.names {
            let Some((stack, layer)) = layer_of(name) else { continue };
            if !stacks.contains(&stack) {
                continue;
            }
            let (count, key) = match stack {
                Stack::Decoder => (parameters.decoder_layers, "decoder_block_count"),
                _ => (parameters.layers, "block_count"),
            };
            match u32::try_from(layer).ok().filter(|layer| *layer < count) {
                Some(layer) => {
                    seen.insert((stack, layer));
                }
                None => beyond.push((name, key, count)),
            }
        }
        for (name, key, count) in beyond {
            let message = format!(
                "tensor {} is of no layer, {key} is {count}; the file is incomplete or its {key} \
                 wrong",
                Quoted(name)
            );
            self.problems.add(ProblemKind::UnknownTensor, name, message);
            if let Some(tensor) = self.tensors.get_mut(name) {
                tensor.read = true;
            }
        }
        let mut empty = HashSet::new();
        for stack in stacks {
            let count = match stack {
                Stack::Decoder => parameters.decoder_layers,
                _ => parameters.layers,
            };
            empty.extend((0..count).map(|n| (stack, n)).filter(|layer| !seen.contains(layer)));
        }
        // The layers that predict further tokens may be left out, or be a file of their own.
        let (trunk, all) = (parameters.trunk_layers(), parameters.layers);
        let is_empty = |layer: u32| empty.contains(&(Stack::Layers, layer));
        let apart = architecture.may_lack_trunk() && trunk < all;
        if apart && (0..trunk).all(is_empty) && !(trunk..all).all(is_empty) {
            self.notes.push("only the layers that predict further tokens are there".into());
            return empty;
        }
        let may_lack = |(stack, layer): &(Stack, u32)| {
            architecture.may_lack_further() && *stack == Stack::Layers && *layer >= trunk
        };
        // Layers that run through those of two stacks again have no tensors.
        let stacks = parameters.dimension(Dimension::StackLayers);
        let repeats = |(stack, layer): &(Stack, u32)| {
            let is_again = |n: u64| u64::from(*layer) >= n.saturating_mul(2);
            *stack == Stack::Layers && stacks.is_some_and(is_again)
        };
        let is_missing = |layer: &(Stack, u32)| !may_lack(layer) && !repeats(layer);
        let mut listed: Vec<_> = empty.iter().copied().filter(is_missing).collect();
        listed.sort_unstable();
        for (stack, layer) in listed {
            let (count, row) = match stack {
                Stack::Decoder => (parameters.decoder_layers, "decoder layer"),
                _ => (parameters.layers, "layer"),
            };
            let message = format!(
                "{row} {layer} of {count} has no tensors; the file is incomplete or its \
                 block_count wrong"
            );
            self.problems.add(ProblemKind::MissingTensor, &format!("blk.{layer}"), message);
        }
        empty
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Looks for the tensor of every slot.
    fn slots(
        &mut self,
        architecture: &Architecture,
        parameters: &HyperParameters,
        empty: &HashSet<(Stack, u32)>,
    ) {
        let mut unknown = Vec::new();
        for slot in architecture.slots() {
            let mut lacking = Vec::new();
            let mut present = 0u32;
            for expected in slot.expand(parameters) {
                let stack = Stack::of(slot.name).unwrap_or(Stack::Layers);
                let further = expected.layer.is_some_and(|n| n >= parameters.trunk_layers())
                    && stack == Stack::Layers;
                let name = expected.name();
                let needed = match slot.need {
                    Need::Required => true,
                    Need::Optional | Need::Sparse => false,
                    Need::Unless(other) => match self.has(&expected.beside(other)) {
                        true => continue,
                        false => true,
                    },
                    Need::OptionalUnless(other) if self.has(&expected.beside(other)) => continue,
                    Need::OptionalUnless(_) => false,
                    Need::With(other) | Need::OptionalWith(other)
                        if !self.has(&expected.beside(other)) =>
                    {
                        continue;
                    }
                    Need::With(_) => true,
                    Need::OptionalWith(_) => false,
                };
                if slot.name.matches("{}").count() > 1 {
                    self.each_expert(architecture, &expected, parameters);
                } else if let Some(tensor) = self.tensors.get_mut(name.as_str()) {
                    tensor.read = true;
                    let shape = tensor.shape;
                    present = present.saturating_add(1);
                    self.shape(architecture, &name, &expected, shape);
                    if expected.shape.contains(&None) {
                        slot.shape.iter().for_each(|size| parameters.unknown(*size, &mut unknown));
                    }
                } else if expected.layer.is_some_and(|n| empty.contains(&(stack, n))) {
                    // Said of the layer as a whole.
                } else if needed {
                    self.missing(name, "");
                } else if slot.need != Need::Sparse && expected.layer.is_some() && !further {
                    lacking.push(name);
                }
            }
            // llama.cpp takes that for a model without them, and computes something else.
            if present > 0 {
                for name in lacking {
                    self.missing(name, ", although other layers have one");
                }
            }
        }
        for dimension in unknown {
            // The tokens have been asked for already.
            if dimension != Dimension::Vocabulary {
                let key = architecture.key(dimension);
                self.problems.missing_key(&key, "the number that sizes of tensors depend on");
            }
        }
    }

    fn missing(&mut self, name: String, why: &str) {
        let message = format!("tensor {name} is missing{why}");
        self.problems.add(ProblemKind::MissingTensor, &name, message);
    }

    fn shape(&mut self, arch: &Architecture, name: &str, expected: &Expected, shape: &[u64]) {
        if expected.fits(shape) {
            return;
        }
        let join = |parts: Vec<String>| parts.join(", ");
        let sizes = expected.shape.iter().map(|n| n.map_or("any".into(), |n| n.to_string()));
        let formula = expected.slot.shape.iter().map(Size::to_string);
        let message = format!(
            "tensor {} has shape {shape:?}, expected [{}] ({}) in architecture {}",
            Quoted(name),
            join(sizes.collect()),
            join(formula.collect()),
            arch.name,
        );
        self.problems.add(ProblemKind::WrongShape, name, message);
    }

    /// Experts in tensors of their own, as files of early 2024 have them.
    fn each_expert(
        &mut self,
        architecture: &Architecture,
        expected: &Expected,
        parameters: &HyperParameters,
    ) {
        const NOTE: &str = "each expert is a tensor of its own, as until April 2024: current \
                            versions of llama.cpp do not load that";
        if !self.notes.iter().any(|note| note == NOTE) {
            self.notes.push(NOTE.into());
        }
        let experts = parameters.dimension(Dimension::Experts).unwrap_or(0);
        for expert in 0..experts.min(crate::MAX_EXPERTS.into()) {
            let slot = expected.slot;
            let name = format!("{}.{}", fill(slot.name, expected.layer, expert), slot.suffix);
            match self.tensors.get_mut(name.as_str()) {
                Some(tensor) => {
                    tensor.read = true;
                    let shape = tensor.shape;
                    self.shape(architecture, &name, expected, shape);
                }
                None => self.missing(name, ""),
            }
        }
    }

    /// Scales beside quantized weights, which llama.cpp takes in every architecture: one of a
    /// tensor, or one for each expert.
    fn scales(&mut self, parameters: &HyperParameters) {
        let experts = parameters.dimension(Dimension::Experts).unwrap_or(0);
        let mut problems = Vec::new();
        for &name in &self.names {
            let base = name.strip_suffix(".input_scale").or_else(|| name.strip_suffix(".scale"));
            let Some(base) = base else { continue };
            let weight = self.tensors.get(format!("{base}.weight").as_str());
            if weight.is_none_or(|weight| !weight.read || weight.shape.len() < 2) {
                continue;
            }
            let count = if base.ends_with("_exps") { experts } else { 1 };
            let Some(tensor) = self.tensors.get_mut(name) else { continue };
            if std::mem::replace(&mut tensor.read, true) {
                continue;
            }
            if tensor.shape.iter().copied().try_fold(1u64, u64::checked_mul) != Some(count) {
                problems.push((name, tensor.shape, count));
            }
        }
        for (name, shape, count) in problems {
            let message =
                format!("tensor {} has shape {shape:?}, expected [{count}]", Quoted(name));
            self.problems.add(ProblemKind::WrongShape, name, message);
        }
    }

    /// Tensors that no slot has asked for.
    fn rest(&mut self, architecture: &Architecture) {
        for &name in &self.names {
            if self.tensors.get(name).is_none_or(|tensor| tensor.read) {
                continue;
            }
            let known = name.rsplit_once('.').is_some_and(|(base, suffix)| {
                let pattern = pattern_of(base);
                architecture.slots().any(|slot| slot.name == pattern && slot.suffix == suffix)
            });
            let why = if known {
                "is not read: what the metadata says, or another tensor, takes its place"
            } else {
                "is unknown"
            };
            let message = format!(
                "tensor {} {why} in architecture {}; loaders refuse files with tensors they do not \
                 read",
                Quoted(name),
                architecture.name
            );
            self.problems.add(ProblemKind::UnknownTensor, name, message);
        }
    }

    /// What loaders put up with in some models only.
    fn remarks(&mut self, architecture: &Architecture, parameters: &HyperParameters) {
        if architecture.name == "deepseek2"
            && parameters.dimension(Dimension::QueryRank).is_none()
            && !matches!(parameters.trunk_layers(), 26 | 27 | 48)
        {
            self.notes.push(
                "key deepseek2.attention.q_lora_rank is missing: llama.cpp asks for it unless the \
                 model has the layers of a Lite"
                    .into(),
            );
        }
        if architecture.name == "command-r"
            && parameters.trunk_layers() < 64
            && self.has("blk.0.attn_q_norm.weight")
        {
            self.notes.push(
                "command-r with norms of queries and keys: llama.cpp reads them in models of 64 \
                 layers or more only"
                    .into(),
            );
        }
    }
}

/// The layer a name tells, however large.
fn layer_of(name: &str) -> Option<(Stack, u64)> {
    let (stack, prefix) = Stack::ALL.into_iter().find(|(_, prefix)| name.starts_with(prefix))?;
    let number = name.strip_prefix(prefix)?.split('.').next()?;
    match number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() {
        true => Some((stack, number.parse().unwrap_or(u64::MAX))),
        false => None,
    }
}

/// The pattern that a name is of: numbers of their own are those of the layer and the expert.
fn pattern_of(name: &str) -> String {
    match layer_of(name) {
        Some((_, layer)) if layer < MAX_LAYERS.into() => name
            .split('.')
            .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "{}" } else { part })
            .collect::<Vec<_>>()
            .join("."),
        _ => name.to_owned(),
    }
}
