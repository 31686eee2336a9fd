//! quantwright: turns a Hugging Face checkpoint into a quantized GGUF file.
//!
//! This crate parses arguments, shows progress and prints; the work is in `quant-convert`.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod hints;
mod input;
mod report;
mod reports;
mod signals;
mod text;
mod version;
mod warnings;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
use failure::{Failure, Told};

fn main() -> ExitCode {
    let cli = parse().unwrap_or_else(|error| {
        // Not known from the arguments, which could not be read.
        let json = std::env::args_os().skip(1).any(|argument| argument == "--json");
        failure::wrong_usage(&error, json)
    });
    let json = cli.command.json();
    let warnings = warnings::collect();
    // All shards of a model are open at once. Where this fails, the run that needs more says so.
    let _ = gguf_io::raise_open_file_limit();
    let result = match cli.command {
        Command::Convert(args) => commands::convert::run(*args, &warnings),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Presets { json } => commands::presets::run(json),
        Command::Verify(args) => commands::verify::run(&args, &warnings),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Edit(args) => commands::edit::run(&args, &warnings),
        Command::Split(args) => commands::split::run(&args, &warnings),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Hash(args) => commands::hash::run(&args),
        Command::Imatrix(args) => commands::imatrix::run(&args, &warnings),
        Command::Perplexity(args) => commands::perplexity::run(&args, &warnings),
        Command::Kl(args) => commands::kl::run(&args, &warnings),
        Command::Generate(args) => commands::generate::run(&args, &warnings),
        Command::Bench(args) => commands::bench::run(&args, &warnings),
        Command::Completions { shell } => commands::manual::completions(shell),
        Command::Man => commands::manual::page(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(usage) = error.downcast_ref() {
                failure::wrong_usage(usage, json);
            }
            if json && !error.is::<Told>() {
                // If nobody reads it, the line below says the same.
                let _ = writeln!(io::stdout(), "{}", Failure::from(&error).as_json());
            }
            say(&format!("error: {}", failure::message(&error)));
            signals::exit_code().unwrap_or(ExitCode::FAILURE)
        }
    }
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command().version(version::long());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Prints a line on standard error; if nobody reads that any more, there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whoever read our output has read enough: not an error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // Those of the libraries are about files and networks.
    let mut causes = failure::causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
