//! quantwright: turns a Hugging Face checkpoint into a quantized GGUF file.
//!
//! This crate parses arguments, shows progress and prints; the work is in `quant-convert`.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod report;
mod signals;
mod warnings;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let warnings = warnings::collect();
    // All shards of a model are open at once. Where this fails, the run that needs more says so.
    let _ = gguf_io::raise_open_file_limit();
    let result = match cli.command {
        Command::Convert(args) => commands::convert::run(&args, &warnings),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Presets { json } => commands::presets::run(json),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Completions { shell } => commands::manual::completions(shell),
        Command::Man => commands::manual::page(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}", one_line(&error)));
            signals::exit_code().unwrap_or(ExitCode::FAILURE)
        }
    }
}

/// Prints a line on standard error; if nobody reads that any more, there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whoever read our output has read enough: not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Errors are one line, also where the operating system or a file's text has its say.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    // The library's messages hold their causes already.
    if !(error.is::<quant_convert::Error>() || error.is::<quant_convert::recipe::Error>()) {
        text = format!("{error:#}");
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
