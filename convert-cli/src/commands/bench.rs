//! `bench`: tokens a second, with llama-bench's tests.

use std::{
    io::{self, Write},
    iter,
    path::PathBuf,
    time::Instant,
};

use anyhow::bail;
use quant_evaluate::Session;
use serde_json::{Value, json};

use super::running::{Loaded, Running, warn};
use crate::{
    args::BenchArgs,
    reports::{self, Destination},
    text::{finish, size, table},
    warnings::Warnings,
};

/// A test of one model.
struct Test<'a> {
    loaded: &'a Loaded,
    /// Tokens, all at once or one by one.
    tokens: usize,
    at_once: bool,
    /// Tokens a second of each run.
    rates: Vec<f64>,
}

pub(crate) fn run(args: &BenchArgs, warnings: &Warnings) -> anyhow::Result<()> {
    if (args.n_prompt, args.n_gen) == (0, 0) {
        bail!("there is nothing to run: give --n-prompt or --n-gen a number above 0");
    }
    let models = || args.models.iter().map(PathBuf::as_path);
    let html = args.html.as_deref().map(|path| Destination::new(path, models())).transpose()?;
    let running = Running::new(&args.threads)?;
    let loaded = args.models.iter().map(|path| running.open(path));
    let loaded = loaded.collect::<anyhow::Result<Vec<_>>>()?;
    let mut tests = Vec::new();
    for loaded in &loaded {
        for (tokens, at_once) in [(args.n_prompt, true), (args.n_gen, false)] {
            if tokens > 0 {
                tests.push(Test { loaded, tokens: tokens as usize, at_once, rates: Vec::new() });
            }
        }
    }
    // In turns, so that a machine that slows down slows all of them; the first round warms up.
    for round in 0..=args.repetitions {
        for test in &mut tests {
            running.check()?;
            let rate = test.run(args.depth as usize)?;
            if round > 0 {
                test.rates.push(rate);
            }
        }
    }
    let as_json = |test: &Test<'_>| {
        let (mean, sd) = test.statistics();
        json!({
            "test": test.name(args.depth),
            "mean": mean,
            "sd": sd,
            "threads": running.threads,
            "model": test.loaded.name,
            "bytes": test.loaded.bytes(),
        })
    };
    let list: Vec<_> = tests.iter().map(as_json).collect();
    if let Some(html) = html {
        let each = tests.len() / args.models.len().max(1);
        let names = reports::names(models());
        let names: Vec<_> =
            names.iter().flat_map(|name| iter::repeat_n(name.clone(), each)).collect();
        html.write(&reports::bench::page(&list, &names))?;
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", Value::from(list))?;
    } else {
        let mut rows = table(&["model", "size", "threads", "test", "tokens/s"]);
        for test in &tests {
            let (mean, sd) = test.statistics();
            rows.add_row([
                test.loaded.name.clone(),
                size(test.loaded.bytes()),
                running.threads.to_string(),
                test.name(args.depth),
                format!("{mean:.2} ± {sd:.2}"),
            ]);
        }
        writeln!(out, "{}", finish(rows, &[1, 2, 4]))?;
    }
    out.flush()?;
    warn(warnings);
    Ok(())
}

impl Test<'_> {
    /// As llama-bench names it.
    fn name(&self, depth: u32) -> String {
        let kind = if self.at_once { "pp" } else { "tg" };
        match depth {
            0 => format!("{kind}{}", self.tokens),
            depth => format!("{kind}{} @ d{depth}", self.tokens),
        }
    }

    fn run(&self, depth: usize) -> anyhow::Result<f64> {
        let vocabulary = self.loaded.model.vocabulary().max(1);
        // Some of all tokens, the same in each run.
        let token = |i: usize| u32::try_from(i * 7919 % vocabulary).unwrap_or(0);
        let mut session = Session::new(&self.loaded.model, depth + self.tokens)?;
        if depth > 0 {
            let before: Vec<u32> = (0..depth).map(token).collect();
            session.forward(&before, 0..0, |_, _| {})?;
        }
        let tokens: Vec<u32> = (depth..depth + self.tokens).map(token).collect();
        let start = Instant::now();
        if self.at_once {
            let last = depth + self.tokens - 1;
            session.forward(&tokens, last..last + 1, |_, _| {})?;
        } else {
            for (i, token) in tokens.iter().enumerate() {
                session.forward(&[*token], depth + i..depth + i + 1, |_, _| {})?;
            }
        }
        Ok(self.tokens as f64 / start.elapsed().as_secs_f64().max(1e-9))
    }

    /// Mean and standard deviation of the runs.
    fn statistics(&self) -> (f64, f64) {
        let n = self.rates.len().max(1) as f64;
        let mean = self.rates.iter().sum::<f64>() / n;
        let squares = self.rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>();
        (mean, (squares / (n - 1.0).max(1.0)).sqrt())
    }
}
