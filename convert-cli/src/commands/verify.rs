//! `verify`: whether a model file is sound, to its last value.

use std::io::{self, Write};

use quant_convert::{
    Options,
    verify::{self, Findings},
};
use serde_json::json;

use crate::{
    args::VerifyArgs,
    commands::provenance,
    failure::{Failure, Told},
    text::{self, escape, size},
    warnings::Warnings,
};

pub(crate) fn run(args: &VerifyArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let options = Options {
        threads: args.threads.map_or(0, usize::from),
        imatrix: args.imatrix.clone(),
        ..Options::default()
    };
    if args.derived_from.is_some() && args.input.is_dir() {
        return Err(gguf_io::Error::WrongKind {
            path: args.input.as_path().into(),
            found: "a folder",
            expected: "a GGUF file, whose tensors are made again",
        }
        .into());
    }
    let found = verify::verify(&args.input, &options)?;
    let mut failure = failure(args, &found);
    // Of a file that is damaged nothing else is of interest.
    let proof = match &args.derived_from {
        Some(source) if failure.is_none() => Some(provenance::prove(args, source, &options)?),
        _ => None,
    };
    if let Some(proof) = &proof {
        failure = provenance::failure(args, proof);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let mut json = as_json(args, &found);
        if let Some(proof) = &proof {
            json["derived"] = provenance::as_json(proof);
            json["warnings"] = json!(warnings.take());
        }
        if let Some(failure) = &failure {
            json["error"] = json!(failure);
        }
        serde_json::to_writer(&mut out, &json).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&found).as_bytes())?;
        if let Some(proof) = &proof {
            out.write_all(provenance::text(proof).as_bytes())?;
        }
        for warning in warnings.take() {
            crate::say(&format!("warning: {}", escape(&warning.message)));
        }
    }
    out.flush()?;
    failure.map_or(Ok(()), |failure| Err(Told(failure).into()))
}

/// The line that says that the file is not sound.
fn failure(args: &VerifyArgs, found: &Findings) -> Option<Failure> {
    let first = found.problems.first().filter(|_| !found.is_sound())?;
    // Messages of the readers name the file themselves.
    let path = text::path(&args.input);
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
        "file": text::path(&args.input),
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
