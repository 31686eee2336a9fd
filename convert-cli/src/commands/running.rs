//! What commands that run a model share: opening it, reading a text, showing progress.

use std::{
    io::{self, IsTerminal},
    num::NonZeroUsize,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use gguf_io::{GgufFile, Limits, SourceFile};
use gguf_model::{Outcome, Tokenizer, tokenizer::EncodeOptions};
use indicatif::{ProgressBar, ProgressStyle};
use quant_evaluate::{Model, Options, layered::Reader, measure::Progress, perplexity::Windows};
use quant_kernels::Pool;
use quant_weights::{Gguf, Source};

use crate::{
    args::{LayerArgs, Threads, WindowArgs},
    input::Input,
    signals, text,
    warnings::{Warning, Warnings},
};

/// The longest text that is read.
const LONGEST: u64 = 1 << 30;

/// Threads, and whether someone asked to stop.
pub(crate) struct Running {
    options: Options,
    pub(crate) threads: usize,
    stop: &'static AtomicBool,
}

/// A model with the tokenizer of its file.
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) model: Model,
    pub(crate) tokenizer: Tokenizer,
}

impl Running {
    pub(crate) fn new(threads: &Threads) -> anyhow::Result<Self> {
        let stop = signals::listen().context("cannot listen for signals")?;
        let threads = match threads.threads.map(usize::from).and_then(NonZeroUsize::new) {
            Some(threads) => threads,
            None => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let mut options = Options::default();
        options.threads = Arc::new(Pool::new(threads).context("cannot start worker threads")?);
        Ok(Self { options, threads: threads.get(), stop })
    }

    /// Opens a GGUF file, or a checkpoint, which runs in its own precision.
    pub(crate) fn open(&self, path: &Path) -> anyhow::Result<Loaded> {
        self.open_with(&Input::open(path)?, &self.options)
    }

    /// The same, to run over windows: layer by layer if that is asked for, or if the model is larger than
    /// the memory that is free.
    pub(crate) fn open_for_windows(&self, path: &Path, args: &LayerArgs) -> anyhow::Result<Loaded> {
        let input = Input::open(path)?;
        let mut options = self.options.clone();
        options.layer_by_layer = args.layer_by_layer;
        if let Some(free) = free_memory()
            && !args.layer_by_layer
        {
            let needed = size_of(&input)?;
            options.layer_by_layer = needed > free;
            if options.layer_by_layer {
                tracing::warn!(
                    kind = "layer-by-layer",
                    "{}: has {}, {} of memory are free: its layers are read one at a time, as \
                     --layer-by-layer does",
                    text::path(path),
                    text::size(needed),
                    text::size(free)
                );
            }
        }
        self.open_with(&input, &options)
    }

    fn open_with(&self, input: &Input, options: &Options) -> anyhow::Result<Loaded> {
        let path = match input.files() {
            [] => &gguf_io::safetensors::locate(input.path())?,
            _ => input.path(),
        };
        let model = if path.is_dir() {
            let elsewhere = input.files().to_vec();
            let opening = quant_convert::Options { elsewhere, ..Default::default() };
            let source = quant_convert::open(path, &opening)?;
            source.will_read(source.tensors.iter());
            Model::from_source(source, options)
        } else if input.files().is_empty() {
            Model::open(path, options)
        } else {
            let file = GgufFile::open_files(input.files(), &Limits::default())?;
            let source = Gguf::try_from(file)?;
            source.will_read(source.tensors.iter());
            Model::from_source(source, options)
        };
        let name = text::path(path);
        let model = model.map_err(|error| named(&name, error))?;
        let tokenizer = Tokenizer::from_metadata(model.metadata())
            .map_err(|problem| anyhow::anyhow!("{name}: {problem}"))?;
        Ok(Loaded { name, model, tokenizer })
    }

    /// Whether someone asked to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether to go on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        match self.is_stopped() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// An error if someone asked to stop.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.is_stopped() {
            true => bail!("interrupted; nothing was written"),
            false => Ok(()),
        }
    }

    /// Shows how many windows are done, or layers, and stops if asked to.
    pub(crate) fn progress(
        &self,
        silent: bool,
        what: &str,
    ) -> anyhow::Result<impl FnMut(usize, usize) -> ControlFlow<()>> {
        let bar = match !silent && io::stderr().is_terminal() {
            true => ProgressBar::new(0),
            false => ProgressBar::hidden(),
        };
        let template = format!("{{bar:40}} {{pos}} of {{len}} {what}  {{eta}} left");
        bar.set_style(ProgressStyle::with_template(&template)?);
        let stop = self.stop;
        Ok(move |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            if done == all {
                bar.finish_and_clear();
            }
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }
}

/// What a run layer by layer adds to a line of results.
pub(crate) fn in_memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| {
        format!(", layer by layer in at most {} of memory", text::size(bytes))
    })
}

/// Bytes of memory that are free, where that is known.
pub(crate) fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Bytes of the files of a model, of which headers alone are read: before minutes are spent on others.
pub(crate) fn size_of(input: &Input) -> anyhow::Result<u64> {
    let sum = |files: &[SourceFile]| files.iter().map(SourceFile::len).fold(0, u64::saturating_add);
    if !input.files().is_empty() {
        return Ok(sum(input.files()));
    }
    let path = &gguf_io::safetensors::locate(input.path())?;
    if !path.is_dir() {
        return Ok(sum(Gguf::open(path, &Limits::default())?.files()));
    }
    let entries = std::fs::read_dir(path).with_context(|| text::path(path))?;
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
    Ok(sizes.map(|file| file.len()).fold(0, u64::saturating_add))
}

/// The error of a model, which may not name its file.
fn named(name: &str, error: quant_evaluate::Error) -> anyhow::Error {
    match error.to_string().contains(name) {
        true => error.into(),
        false => anyhow::Error::from(error).context(name.to_owned()),
    }
}

impl Loaded {
    /// Whether its layers are read one at a time.
    pub(crate) fn is_layer_by_layer(&self) -> bool {
        self.model.is_layer_by_layer()
    }

    /// What reads windows, whose predictions are asked for so many at once. `layers` hears how many layers
    /// are done of a model whose layers are read one at a time.
    pub(crate) fn reader<'a>(
        &'a self,
        windows: &Windows<'a>,
        at_once: usize,
        layers: Progress<'a>,
    ) -> anyhow::Result<Reader<'a>> {
        Reader::new(&self.model, windows, at_once, layers).map_err(|error| named(&self.name, error))
    }

    /// Bytes that a run over windows takes at most, if the layers are read one at a time.
    pub(crate) fn memory(&self, windows: &Windows<'_>) -> Option<u64> {
        let bytes = || self.model.layered_bytes(windows.size(), windows.len());
        self.is_layer_by_layer().then(bytes)
    }

    /// Bytes of the tensors in the files.
    pub(crate) fn bytes(&self) -> u64 {
        let tensors = self.model.source().tensors().iter();
        tensors.map(|tensor| tensor.source_bytes()).fold(0, u64::saturating_add)
    }

    pub(crate) fn bits_per_weight(&self) -> f64 {
        let tensors = self.model.source().tensors().iter();
        let weights: u64 = tensors.map(|t| t.elements()).fold(0, u64::saturating_add);
        self.bytes() as f64 * 8.0 / weights.max(1) as f64
    }

    /// The token that texts begin with, if the file has one put there.
    pub(crate) fn bos(&self) -> Option<u32> {
        self.tokenizer.bos()
    }

    /// Warns of windows that are longer than any text that the model was trained on.
    pub(crate) fn warn_of_context(&self, size: usize) {
        let trained = self.model.trained_context();
        if trained > 0 && size > trained {
            tracing::warn!(
                kind = "context",
                "{}: windows of {size} tokens are longer than the {trained} that the model was trained to \
                 see: give --ctx a smaller number",
                self.name
            );
        }
    }

    /// Refuses a model that makes vectors of texts, where predictions are asked for.
    pub(crate) fn check_predicts(&self) -> anyhow::Result<()> {
        match self.model.forward_description().result {
            Outcome::Logits => Ok(()),
            _ => bail!(
                "{}: the model makes vectors of texts and does not predict tokens: give a language model",
                self.name
            ),
        }
    }

    /// The tokens of a text.
    pub(crate) fn tokens(&self, text: &Text) -> anyhow::Result<Vec<u32>> {
        let listed = match &text.content {
            Content::Plain(text) => {
                return Ok(self.tokenizer.encode(text, EncodeOptions::default()));
            }
            Content::Tokens(listed) => listed,
        };
        let most = self.model.vocabulary();
        let known = |token: &serde_json::Number| {
            let id = token.as_u64().and_then(|id| u32::try_from(id).ok());
            id.filter(|id| (*id as usize) < most).with_context(|| {
                format!("{}: token {token} is not in the vocabulary of {most} tokens", text.name)
            })
        };
        listed.iter().map(known).collect()
    }
}

/// A text, or the tokens of one.
pub(crate) struct Text {
    name: String,
    content: Content,
}

enum Content {
    Plain(String),
    /// As the file lists them.
    Tokens(Vec<serde_json::Number>),
}

impl Text {
    /// The path of its file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads a text before a model is opened, which may take long.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = text::path(path);
        let bytes = SourceFile::open(path)?.read_all(LONGEST)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            anyhow::anyhow!(
                "{name}: byte {at} is not UTF-8: give a text in UTF-8, or a list of token ids"
            )
        })?;
        let content = match serde_json::from_str(&text) {
            Ok(tokens) => Content::Tokens(tokens),
            Err(_) => Content::Plain(text),
        };
        let is_empty = match &content {
            Content::Plain(text) => text.is_empty(),
            Content::Tokens(tokens) => tokens.is_empty(),
        };
        if is_empty {
            bail!("{name}: the text is empty: give one of at least two windows");
        }
        Ok(Self { name, content })
    }
}

/// Prints the warnings of a command that succeeded, and returns them for its JSON.
pub(crate) fn warn(warnings: &Warnings) -> Vec<Warning> {
    let warnings = warnings.take();
    for warning in &warnings {
        crate::say(&format!("warning: {}", text::escape(&warning.message)));
    }
    warnings
}

/// The windows of a text, as options ask for them.
pub(crate) fn windows<'a>(
    tokens: &'a [u32],
    args: &WindowArgs,
    from: u32,
    bos: Option<u32>,
) -> anyhow::Result<Windows<'a>> {
    let windows = Windows::new(tokens, args.size() as usize, bos)?;
    let all = windows.len();
    let windows = windows.from(from as usize).with_context(|| {
        format!(
            "the text has {all} windows of {} tokens: give --from a smaller number",
            args.size()
        )
    })?;
    Ok(match args.chunks {
        Some(chunks) => windows.at_most(chunks as usize),
        None => windows,
    })
}
