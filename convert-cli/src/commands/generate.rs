//! `generate`: goes on with a text.

use std::{
    io::{self, Write},
    ops::Range,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use gguf_model::tokenizer::EncodeOptions;
use quant_evaluate::{
    Session,
    chat::{ChatTemplate, Message},
    generate::{Generator, TextStream},
    measure::Predictor,
    sample::{SampleOptions, Sampler},
};
use serde_json::{Value, json};

use super::running::{Loaded, Running, warn};
use crate::{args::GenerateArgs, warnings::Warnings};

pub(crate) fn run(args: &GenerateArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let running = Running::new(&args.threads)?;
    let mut all = Vec::new();
    for path in &args.models {
        let loaded = running.open(path)?;
        loaded.check_predicts()?;
        if args.models.len() > 1 && !args.json {
            let mut out = io::stdout().lock();
            writeln!(out, "{}{}:", if all.is_empty() { "" } else { "\n" }, loaded.name)?;
        }
        all.push(answer(args, &running, &loaded)?);
    }
    if args.json {
        let json = match all.len() {
            1 => all.swap_remove(0),
            _ => Value::Array(all),
        };
        writeln!(io::stdout().lock(), "{json}")?;
    }
    warn(warnings);
    Ok(())
}

/// A session that can be interrupted while it reads a long prompt.
struct Stoppable<'a, 'm> {
    session: &'a mut Session<'m>,
    running: &'a Running,
}

impl Predictor for Stoppable<'_, '_> {
    type Error = anyhow::Error;

    fn vocabulary(&self) -> usize {
        self.session.vocabulary()
    }

    fn restart(&mut self) {
        self.session.restart();
    }

    fn read(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> anyhow::Result<()> {
        for (i, part) in tokens.chunks(self.session.tokens_at_once()).enumerate() {
            if i > 0 && self.running.is_stopped() {
                anyhow::bail!("interrupted while the prompt was read");
            }
            self.session.forward(part, wanted.clone(), &mut *logits)?;
        }
        Ok(())
    }
}

fn prompt(args: &GenerateArgs, loaded: &Loaded) -> anyhow::Result<Vec<u32>> {
    if !args.chat {
        return Ok(loaded.tokenizer.encode(&args.prompt, EncodeOptions::default()));
    }
    let template = ChatTemplate::from_metadata(loaded.model.metadata(), &loaded.tokenizer)?;
    let said = Message { role: "user".into(), content: args.prompt.clone() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs());
    let text = template.render(&[said], true, now)?;
    let add_special = !template.starts_with_bos(&text);
    Ok(loaded.tokenizer.encode(&text, EncodeOptions { add_special, parse_special: true }))
}

fn answer(args: &GenerateArgs, running: &Running, loaded: &Loaded) -> anyhow::Result<Value> {
    let prompt = prompt(args, loaded)?;
    if prompt.is_empty() {
        anyhow::bail!("{}: the prompt is empty: give a text to continue", loaded.name);
    }
    // A chat template may make a prompt of any length; the time grows with its square.
    let (len, trained) = (prompt.len(), loaded.model.trained_context());
    if trained > 0 && len > trained {
        anyhow::bail!(
            "{}: the prompt has {len} tokens, the model was trained to see {trained}: give a shorter one",
            loaded.name
        );
    }
    let most = args.n as usize;
    let mut session = Session::new(&loaded.model, prompt.len().saturating_add(most))?;
    let sampler = Sampler::new(SampleOptions {
        temperature: args.temp,
        top_k: args.top_k as usize,
        top_p: args.top_p,
        seed: args.seed,
    });
    let start = Instant::now();
    let mut session = Stoppable { session: &mut session, running };
    let mut generator = Generator::new(&mut session, &prompt, sampler)?;
    let prompt_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let (mut stream, mut text, mut tokens) = (TextStream::default(), String::new(), 0usize);
    let mut show = |part: String| -> io::Result<()> {
        if !args.json {
            let mut out = io::stdout().lock();
            out.write_all(crate::text::escape_text(&part).as_bytes())?;
            out.flush()?;
        }
        text.push_str(&part);
        Ok(())
    };
    while tokens < most && !running.is_stopped() {
        let Some(token) = generator.next_token()? else { break };
        if loaded.tokenizer.is_end_of_generation(token) {
            break;
        }
        tokens += 1;
        show(stream.push(&loaded.tokenizer, token))?;
    }
    show(stream.finish())?;
    let seconds = start.elapsed().as_secs_f64();
    if !args.json {
        writeln!(io::stdout().lock())?;
    }
    if running.is_stopped() {
        anyhow::bail!("interrupted after {tokens} tokens");
    }
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
    Ok(json!({
        "model": loaded.name,
        "text": text,
        "prompt_tokens": prompt.len(),
        "tokens": tokens,
        "prompt_tokens_per_second": rate(prompt.len(), prompt_seconds),
        "tokens_per_second": rate(tokens, seconds),
    }))
}
