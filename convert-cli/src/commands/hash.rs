//! `hash`: checksums of a file and of what is in it.

use std::io::{self, IsTerminal, Write};

use gguf_io::{AnyGguf, Error, Limits, SourceFile, gguf::hash};
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::{args::HashArgs, commands::progress_bar, text};

pub(crate) fn run(args: &HashArgs) -> anyhow::Result<()> {
    let bar = match !args.json && io::stderr().is_terminal() {
        true => progress_bar(0)?,
        false => ProgressBar::hidden(),
    };
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut sums = Map::new();
    match AnyGguf::open_any(&args.input, &Limits::default()) {
        Ok(model) => {
            model.check_any()?;
            let hashes = hash::hash(&model, args.tensors, &progress)?;
            let paths = model.files.iter().map(|file| text::path(file.path()));
            let files: Vec<_> = hashes.files.into_iter().zip(paths).collect();
            // A split model has a list of files, as no sum stands for all of them.
            if let [(sum, _)] = files.as_slice() {
                sums.insert("file".into(), json!(sum));
            } else {
                let files = files.iter().map(|(sum, path)| json!({"file": path, "sha256": sum}));
                sums.insert("files".into(), files.collect());
            }
            sums.insert("data".into(), json!(hashes.data));
            lines.extend(files);
            lines.push((hashes.data, "tensor data".into()));
            if args.tensors {
                let tensors = model.tensors.into_iter().zip(hashes.tensors);
                let tensors: Vec<_> = tensors.map(|(tensor, sum)| (tensor.name, sum)).collect();
                let map = tensors.iter().map(|(name, sum)| (name.clone(), json!(sum)));
                sums.insert("tensors".into(), Value::Object(map.collect()));
                lines.extend(tensors.into_iter().map(|(name, sum)| (sum, text::escape(&name))));
            }
        }
        // Any other file has the sum of a file.
        Err(Error::NotAModel { .. }) if !args.tensors => {
            let file = SourceFile::open(&args.input)?;
            let sum = hash::file(&file, &progress)?;
            sums.insert("file".into(), json!(sum));
            lines.push((sum, text::path(&args.input)));
        }
        Err(error) => return Err(error.into()),
    }
    bar.finish_and_clear();
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", Value::Object(sums))?;
    } else {
        for (sum, what) in lines {
            writeln!(out, "{sum}  {what}")?;
        }
    }
    Ok(out.flush()?)
}
