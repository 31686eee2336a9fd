//! `kl`: how far the predictions of models are from those of another.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use gguf_io::{AtomicFile, Limits, OutputOptions, SourceFile};
use quant_evaluate::{
    kl::{Divergence, Statistics},
    kld::{KldFile, file_bytes, write_header, write_row},
    measure::{self, Keep, Reference, is_kld_file},
    perplexity::Windows,
};
use serde_json::{Value, json};

use super::running::{Loaded, Running, Text, free_memory, in_memory, size_of, warn, windows};
use crate::{
    args::KlArgs,
    input::Input,
    reports::{self, Destination, kl::Spread},
    text::{self, finish, size, table},
    warnings::{Warning, Warnings},
};

pub(crate) fn run(args: &KlArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let others = [&args.reference].into_iter().chain(&args.candidates);
    let others = others.chain(&args.file).chain(&args.save_base).map(PathBuf::as_path);
    let html = args.html.as_deref().map(|path| Destination::new(path, others)).transpose()?;
    let running = Running::new(&args.threads)?;
    let is_file = args.reference.is_file() && is_kld_file(&args.reference)?;
    let found = if is_file { from_file(args, &running)? } else { from_model(args, &running)? };
    running.check()?;
    let warnings = warn(warnings);
    let json = as_json(args, &found, &warnings);
    if let Some(html) = html {
        let names = reports::names(args.candidates.iter().map(PathBuf::as_path));
        let (reference, text) =
            (reports::name(&args.reference), args.file.as_deref().map(reports::name));
        let spreads: Vec<_> = found.iter().map(|found| &found.spread).collect();
        html.write(&reports::kl::page(&json, &reference, &names, text.as_deref(), &spreads))?;
    }
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{json}")?,
        false => writeln!(out, "{}", text(args, &found))?,
    }
    Ok(out.flush()?)
}

/// A candidate and what was found.
struct Found {
    name: String,
    bytes: u64,
    bits_per_weight: f64,
    statistics: Statistics,
    spread: Spread,
    /// Bytes that a run layer by layer took at most.
    memory: Option<u64>,
}

impl Found {
    fn new(
        loaded: &Loaded,
        divergence: &Divergence,
        windows: &Windows<'_>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: loaded.name.clone(),
            bytes: loaded.bytes(),
            bits_per_weight: loaded.bits_per_weight(),
            statistics: divergence.statistics().context("nothing was predicted")?,
            spread: Spread::new(divergence.divergences(), windows.scored()),
            memory: loaded.memory(windows),
        })
    }
}

fn from_file(args: &KlArgs, running: &Running) -> anyhow::Result<Vec<Found>> {
    if args.save_base.is_some() {
        bail!("{} holds predictions already: leave --save-base out", text::path(&args.reference));
    }
    let file = KldFile::read(SourceFile::open(&args.reference)?, &Limits::default())?;
    let name = text::path(&args.reference);
    if args.windows.ctx.is_some_and(|ctx| ctx as usize != file.context()) {
        bail!("{name}: its windows have {} tokens: leave --ctx out", file.context());
    }
    let text = args.file.as_deref().map(Text::read).transpose()?;
    let mut all = Vec::new();
    for path in &args.candidates {
        let loaded = candidate(running, path, args, &name, file.vocabulary())?;
        if let Some(text) = &text
            && !loaded.tokens(text)?.starts_with(file.tokens())
        {
            bail!(
                "{name}: its predictions are of another text, or of a model with another tokenizer"
            );
        }
        let mut windows = file.windows(loaded.bos());
        if let Some(chunks) = args.windows.chunks {
            windows = windows.at_most(chunks as usize);
        }
        loaded.warn_of_context(windows.size());
        let mut layers = running.progress(args.json, "layers")?;
        let at_once = measure::at_once(file.vocabulary());
        let mut readers = [loaded.reader(&windows, at_once, &mut layers)?];
        let silent = args.json || loaded.is_layer_by_layer();
        let progress = &mut running.progress(silent, "windows")?;
        let found = measure::divergence(Reference::File(&file), &mut readers, &windows, progress);
        running.check()?;
        let found = found?;
        all.push(Found::new(&loaded, &found[0], &windows)?);
    }
    Ok(all)
}

/// Opens a model that has the vocabulary of the reference.
fn candidate(
    running: &Running,
    path: &Path,
    args: &KlArgs,
    reference: &str,
    vocabulary: usize,
) -> anyhow::Result<Loaded> {
    let loaded = running.open_for_windows(path, &args.layers)?;
    loaded.check_predicts()?;
    let found = loaded.model.vocabulary();
    if found != vocabulary {
        bail!(
            "{}: has a vocabulary of {found} tokens, {reference} one of {vocabulary}: compare models \
             with the same tokenizer",
            loaded.name
        );
    }
    Ok(loaded)
}

/// Candidates run beside the reference: all at once where they fit into memory, else one after the
/// other.
fn from_model(args: &KlArgs, running: &Running) -> anyhow::Result<Vec<Found>> {
    let Some(text) = &args.file else {
        bail!("no text to compare on: give one with -f TEXT");
    };
    let text = &Text::read(text)?;
    let mut needed = 0u64;
    for path in &args.candidates {
        needed = needed.saturating_add(size_of(&Input::open(path)?)?);
    }
    let reference = running.open_for_windows(&args.reference, &args.layers)?;
    reference.check_predicts()?;
    let vocabulary = reference.model.vocabulary();
    let tokens = reference.tokens(text)?;
    let windows = windows(&tokens, &args.windows, 0, reference.bos())?;
    reference.warn_of_context(windows.size());
    let base = args.save_base.as_deref();
    let mut base = base.map(|path| Base::create(path, vocabulary, &windows)).transpose()?;
    // Layer by layer each has all the memory there is for its windows.
    let fit = fit(needed) && !reference.is_layer_by_layer();
    let at_once = if fit { args.candidates.len() } else { 1 };
    let mut all = Vec::new();
    for (round, paths) in args.candidates.chunks(at_once).enumerate() {
        let open = |path| candidate(running, path, args, &reference.name, vocabulary);
        let loaded = paths.iter().map(|path| open(path)).collect::<anyhow::Result<Vec<_>>>()?;
        for candidate in &loaded {
            if candidate.tokens(text)? != tokens {
                bail!(
                    "{}: its tokenizer makes other tokens of the text than that of {}",
                    candidate.name,
                    reference.name
                );
            }
        }
        let positions = measure::at_once(vocabulary);
        let silent = args.json || reference.is_layer_by_layer();
        let mut layers = running.progress(args.json, "layers")?;
        let bars = loaded.iter().map(|_| running.progress(args.json, "layers"));
        let mut bars = bars.collect::<anyhow::Result<Vec<_>>>()?;
        let mut reader = reference.reader(&windows, positions, &mut layers)?;
        let readers = loaded.iter().zip(&mut bars);
        let readers = readers.map(|(l, layers)| l.reader(&windows, positions, layers));
        let mut readers = readers.collect::<anyhow::Result<Vec<_>>>()?;
        let mut keep = |logits: &[f32]| {
            if let Some(base) = base.as_mut().filter(|_| round == 0) {
                base.add(logits);
            }
        };
        let predictor = Reference::Predictor(&mut reader, Keep(&mut keep));
        let progress = &mut running.progress(silent, "windows")?;
        let found = measure::divergence(predictor, &mut readers, &windows, progress);
        running.check()?;
        let found = found?;
        for (loaded, found) in loaded.iter().zip(&found) {
            all.push(Found::new(loaded, found, &windows)?);
        }
    }
    if let Some(base) = base {
        base.finish()?;
    }
    Ok(all)
}

/// Whether so many bytes of candidates fit into memory beside each other; where nobody knows, they are
/// taken to.
fn fit(needed: u64) -> bool {
    // Half of it stays for caches and working space.
    free_memory().is_none_or(|free| needed <= free / 2)
}

/// The reference's predictions in a file that appears when it is complete.
struct Base {
    file: AtomicFile,
    /// What is not written yet, and its place.
    rows: Vec<u8>,
    at: u64,
    failed: Option<gguf_io::Error>,
}

/// Bytes that are written at once.
const WRITTEN: usize = 1 << 20;

impl Base {
    fn create(path: &Path, vocabulary: usize, windows: &Windows<'_>) -> anyhow::Result<Self> {
        let bytes = file_bytes(windows.size(), vocabulary, windows.len());
        let bytes = bytes.context("the predictions are too many for a file")?;
        let options = OutputOptions { overwrite: false, sync: true };
        let file = AtomicFile::create(path, bytes, options)?;
        let mut rows = Vec::new();
        write_header(&mut rows, windows.size(), vocabulary, windows.tokens())?;
        Ok(Self { file, rows, at: 0, failed: None })
    }

    fn add(&mut self, logits: &[f32]) {
        if self.failed.is_some() {
            return;
        }
        // Writing to memory does not fail.
        let _ = write_row(&mut self.rows, logits);
        if self.rows.len() >= WRITTEN {
            self.failed = self.write().err();
        }
    }

    fn write(&mut self) -> gguf_io::Result<()> {
        self.file.write_all_at(&self.rows, self.at)?;
        self.at += self.rows.len() as u64;
        self.rows.clear();
        Ok(())
    }

    fn finish(mut self) -> gguf_io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.write()?;
        self.file.commit()
    }
}

fn as_json(args: &KlArgs, found: &[Found], warnings: &[Warning]) -> Value {
    let first = found.first().map(|found| found.statistics);
    let candidates = found.iter().map(|found| {
        let s = &found.statistics;
        json!({
            "model": found.name,
            "bytes": found.bytes,
            "bits_per_weight": found.bits_per_weight,
            "ppl": s.ppl,
            "ppl_error": s.ppl_error,
            "ln_ratio": s.ln_ratio,
            "ln_ratio_error": s.ln_ratio_error,
            "mean_kld": s.mean_kld,
            "mean_kld_error": s.mean_kld_error,
            "max_kld": s.max_kld,
            "kld_999": s.kld_999,
            "kld_99": s.kld_99,
            "kld_95": s.kld_95,
            "kld_90": s.kld_90,
            "median_kld": s.median_kld,
            "same_top_p": s.same_top_p,
            "rms_dp": s.rms_dp,
            "predictions": s.count,
            "memory": found.memory,
        })
    });
    json!({
        "reference": {
            "model": text::path(&args.reference),
            "ppl": first.map(|s| s.reference_ppl),
            "ppl_error": first.map(|s| s.reference_ppl_error),
        },
        "candidates": candidates.collect::<Vec<_>>(),
        "warnings": warnings,
    })
}

fn text(args: &KlArgs, found: &[Found]) -> String {
    let mut rows = table(&[
        "model",
        "size",
        "bpw",
        "perplexity",
        "mean KLD",
        "99 %",
        "median",
        "same top",
        "rms Δp",
    ]);
    for found in found {
        let s = &found.statistics;
        rows.add_row([
            format!("{}{}", found.name, in_memory(found.memory)),
            size(found.bytes),
            format!("{:.2}", found.bits_per_weight),
            format!("{:.4} ± {:.4}", s.ppl, s.ppl_error),
            format!("{:.6} ± {:.6}", s.mean_kld, s.mean_kld_error),
            format!("{:.4}", s.kld_99),
            format!("{:.6}", s.median_kld),
            format!("{:.2} %", s.same_top_p),
            format!("{:.2} %", s.rms_dp),
        ]);
    }
    let reference = found.first().map_or_else(String::new, |found| {
        let s = &found.statistics;
        format!(": perplexity {:.4} ± {:.4}", s.reference_ppl, s.reference_ppl_error)
    });
    let name = text::path(&args.reference);
    format!("reference {name}{reference}\n{}", finish(rows, &[1, 2, 3, 4, 5, 6, 7, 8]))
}
