//! `verify`: whether a model file is sound, to its last value.

use std::io::{self, Write};

use quant_convert::{
    Options,
    verify::{self, Findings},
};
use serde_json::json;

use crate::{
    args::VerifyArgs,
    failure::{Failure, Told},
    report::{self, escape, size},
};

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let options = Options { threads: args.threads.map_or(0, usize::from), ..Options::default() };
    let found = verify::verify(&args.input, &options)?;
    let failure = failure(args, &found);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let mut json = as_json(args, &found);
        if let Some(failure) = &failure {
            json["error"] = json!(failure);
        }
        serde_json::to_writer(&mut out, &json).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&found).as_bytes())?;
    }
    out.flush()?;
    failure.map_or(Ok(()), |failure| Err(Told(failure).into()))
}

/// The line that says that the file is not sound.
fn failure(args: &VerifyArgs, found: &Findings) -> Option<Failure> {
    let first = found.problems.first().filter(|_| !found.is_sound())?;
    // Messages of the readers name the file themselves.
    let path = report::path(&args.input);
    let name = if first.contains(&path) { String::new() } else { format!("{path}: ") };
    let message = match found.count {
        1 => format!("{name}{first}"),
        n => format!("{name}{n} problems, the first: {first}"),
    };
    Some(Failure::of_file(message, path))
}

fn as_json(args: &VerifyArgs, found: &Findings) -> serde_json::Value {
    let checks = found.checks.iter().map(|(what, n)| json!({"what": what, "problems": n}));
    json!({
        "file": report::path(&args.input),
        "format": found.format,
        "ok": found.is_sound(),
        "files": found.files,
        "tensors": found.tensors,
        "bytes": found.bytes,
        "checks": checks.collect::<Vec<_>>(),
        "notes": found.notes,
        "problems": found.problems,
        "problem_count": found.count,
    })
}

fn text(found: &Findings) -> String {
    let mut lines = String::new();
    if found.files > 0 {
        let (files, tensors) = (found.files, found.tensors);
        lines += &format!(
            "{}: {files} {}, {tensors} tensors, {}\n",
            escape(&found.format),
            if files == 1 { "file" } else { "files" },
            size(found.bytes)
        );
    }
    for (what, problems) in &found.checks {
        let mark = if *problems == 0 { "ok    " } else { "FAILED" };
        lines += &format!("{mark}  {what}\n");
    }
    for note in &found.notes {
        lines += &format!("note    {}\n", escape(note));
    }
    for problem in &found.problems {
        lines += &format!("problem {}\n", escape(problem));
    }
    let more = found.count.saturating_sub(found.problems.len() as u64);
    if more > 0 {
        lines += &format!("problem … and {more} more\n");
    }
    lines
}
