//! `kl`: how far the predictions of models are from those of another.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};
use gguf_io::{Limits, SourceFile};
use quant_evaluate::{
    Session,
    kl::{Divergence, Statistics},
    kld::{KldFile, write_header, write_row},
    measure::{self, Keep, Reference, is_kld_file},
    perplexity::Windows,
};
use serde_json::{Value, json};

use super::running::{Loaded, Running, windows};
use crate::{
    args::KlArgs,
    report::{self, finish, size, table},
};

pub(crate) fn run(args: &KlArgs) -> anyhow::Result<()> {
    let running = Running::new(&args.threads)?;
    let is_file = args.reference.is_file() && is_kld_file(&args.reference)?;
    let found = if is_file { from_file(args, &running)? } else { from_model(args, &running)? };
    running.check()?;
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", as_json(args, &found))?,
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
}

impl Found {
    fn new(loaded: &Loaded, divergence: &Divergence) -> anyhow::Result<Self> {
        Ok(Self {
            name: loaded.name.clone(),
            bytes: loaded.bytes(),
            bits_per_weight: loaded.bits_per_weight(),
            statistics: divergence.statistics().context("nothing was predicted")?,
        })
    }
}

fn from_file(args: &KlArgs, running: &Running) -> anyhow::Result<Vec<Found>> {
    if args.save_base.is_some() {
        bail!("{} holds predictions already: leave --save-base out", report::path(&args.reference));
    }
    let file = KldFile::read(SourceFile::open(&args.reference)?, &Limits::default())?;
    let mut all = Vec::new();
    for path in &args.candidates {
        let loaded = running.open(path)?;
        if let Some(text) = &args.file
            && !loaded.tokens(text)?.starts_with(file.tokens())
        {
            bail!(
                "{}: its predictions are of another text, or of a model with another tokenizer",
                report::path(&args.reference)
            );
        }
        let mut windows = file.windows(loaded.bos());
        if let Some(chunks) = args.windows.chunks {
            windows = windows.at_most(chunks as usize);
        }
        let mut sessions = [Session::new(&loaded.model, file.context())?];
        let progress = &mut running.progress(args.json)?;
        let found = measure::divergence(Reference::File(&file), &mut sessions, &windows, progress)?;
        running.check()?;
        all.push(Found::new(&loaded, &found[0])?);
    }
    Ok(all)
}

/// Candidates run beside the reference: all at once where they fit into memory, else one after the
/// other.
fn from_model(args: &KlArgs, running: &Running) -> anyhow::Result<Vec<Found>> {
    let Some(text) = &args.file else {
        bail!("no text to compare on: give one with -f TEXT");
    };
    let reference = running.open(&args.reference)?;
    let tokens = reference.tokens(text)?;
    let windows = windows(&tokens, &args.windows, 0, reference.bos())?;
    let mut base = args.save_base.as_deref().map(|path| Base::create(path, &reference, &windows));
    let at_once = match fit(&args.candidates) {
        true => args.candidates.len(),
        false => 1,
    };
    let mut all = Vec::new();
    for (round, paths) in args.candidates.chunks(at_once).enumerate() {
        let loaded =
            paths.iter().map(|path| running.open(path)).collect::<anyhow::Result<Vec<_>>>()?;
        for candidate in &loaded {
            if candidate.tokens(text)? != tokens {
                bail!(
                    "{}: its tokenizer makes other tokens of the text than that of {}",
                    candidate.name,
                    reference.name
                );
            }
        }
        let mut session = Session::new(&reference.model, windows.size())?;
        let sessions = loaded.iter().map(|loaded| Session::new(&loaded.model, windows.size()));
        let mut sessions = sessions.collect::<Result<Vec<_>, _>>()?;
        let mut keep = |logits: &[f32]| {
            if let Some(Ok(base)) = base.as_mut().filter(|_| round == 0) {
                base.add(logits);
            }
        };
        let predictor = Reference::Predictor(&mut session, Keep(&mut keep));
        let progress = &mut running.progress(args.json)?;
        let found = measure::divergence(predictor, &mut sessions, &windows, progress)?;
        running.check()?;
        for (loaded, found) in loaded.iter().zip(&found) {
            all.push(Found::new(loaded, found)?);
        }
    }
    if let Some(base) = base {
        base?.finish()?;
    }
    Ok(all)
}

/// Whether candidates fit into memory beside each other; where nobody knows, they are taken to.
fn fit(candidates: &[impl AsRef<Path>]) -> bool {
    let size = |path: &Path| match path.is_dir() {
        true => std::fs::read_dir(path).map_or(0, |entries| {
            let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok());
            sizes.map(|file| file.len()).sum()
        }),
        false => std::fs::metadata(path).map_or(0, |file| file.len()),
    };
    let needed: u64 = candidates.iter().map(|path| size(path.as_ref())).sum();
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return true };
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    // Half of it stays for caches and working space.
    kib.is_none_or(|kib| needed <= kib.saturating_mul(512))
}

/// The reference's predictions in a file that appears when it is complete.
struct Base {
    file: BufWriter<File>,
    hidden: std::path::PathBuf,
    path: std::path::PathBuf,
    failed: Option<io::Error>,
}

impl Base {
    fn create(path: &Path, reference: &Loaded, windows: &Windows<'_>) -> anyhow::Result<Self> {
        if path.exists() {
            bail!("{}: exists already; choose another name", report::path(path));
        }
        let mut name = path.file_name().context("--save-base names no file")?.to_owned();
        name.push(".part");
        let hidden = path.with_file_name(name);
        let mut file =
            BufWriter::new(File::create(&hidden).with_context(|| report::path(&hidden))?);
        write_header(&mut file, windows.size(), reference.model.vocabulary(), windows.tokens())?;
        Ok(Self { file, hidden, path: path.to_owned(), failed: None })
    }

    fn add(&mut self, logits: &[f32]) {
        if self.failed.is_none() {
            self.failed = write_row(&mut self.file, logits).err();
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let written = self.failed.take().map_or(Ok(()), Err).and_then(|()| self.file.flush());
        let named = written.and_then(|()| std::fs::rename(&self.hidden, &self.path));
        named.with_context(|| report::path(&self.path))
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // What has its name is not there any more under this one.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

fn as_json(args: &KlArgs, found: &[Found]) -> Value {
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
        })
    });
    json!({
        "reference": {
            "model": report::path(&args.reference),
            "ppl": first.map(|s| s.reference_ppl),
            "ppl_error": first.map(|s| s.reference_ppl_error),
        },
        "candidates": candidates.collect::<Vec<_>>(),
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
            found.name.clone(),
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
    let name = report::path(&args.reference);
    format!("reference {name}{reference}\n{}", finish(rows, &[1, 2, 3, 4, 5, 6, 7, 8]))
}
