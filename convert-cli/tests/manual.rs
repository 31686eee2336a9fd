//! `completions`, `man`, `--help`, `--version`, and what is wrong usage.

mod book;
mod common;

use common::{fixture, run, stderr, stdout};

#[test]
fn completions_and_the_manual_page_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = run(["completions", shell]);
        assert!(done.status.success(), "{shell}");
        assert!(stdout(&done).contains("imatrix"), "{shell}");
    }
    let page = run(["man"]);
    assert!(page.status.success());
    for option in ["output", "imatrix", "dry\\-run", "json"] {
        assert!(stdout(&page).contains(option), "{option}");
    }
}

#[test]
fn every_option_is_explained() {
    let help = stdout(&run(["convert", "--help"]));
    for line in help.lines().filter(|line| line.trim_start().starts_with("--")) {
        // The explanation is on the same line or, after a long option, on the next.
        let option = line.trim();
        let after = help.split_once(option).map(|(_, after)| after.trim_start());
        assert!(option.contains("  ") || after.is_some_and(|a| !a.starts_with('-')), "{line}");
    }
    // The version, the commit where it is known, and the instruction set of this CPU.
    let version = stdout(&run(["--version"]));
    let isa = quant_kernels::Kernels::best().isa().name();
    let start = concat!("quantwright ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(start) && version.trim_end().ends_with(isa), "{version}");
}

#[test]
fn wrong_usage_ends_with_2() {
    let input = fixture("tiny-llama2").into_os_string().into_string().unwrap();
    let input = input.as_str();
    let wrong: &[&[&str]] = &[
        &[],
        &["transmogrify"],
        &["convert"],
        &["convert", input],
        &["convert", input, "-o"],
        &["convert", input, "-o", "x.gguf", "--type", "q4_9"],
        &["convert", input, "-o", "x.gguf", "--no-such-option"],
        &["convert", input, "-o", "x.gguf", "--threads", "0"],
        &["convert", input, "-o", "x.gguf", "--tensor-type", "attn_v"],
        &["convert", input, "-o", "x.gguf", "--tensor-type", "(=q8_0"],
        &["convert", input, "-o", "x.gguf", "--output-tensor-type", "q4_k_m"],
        &["convert", input, "-o", "x.gguf", "--override-kv", "a=list:1"],
        &["convert", input, "-o", "x.gguf", "--include-weights", "ffn"],
        // Whoever expects a stream does not look for a file of this name.
        &["convert", input, "-o", "-"],
        &["convert", input, "-o", "x.gguf", "--target-bpw", "4", "--save-mix", "-"],
        &["edit", "x.gguf", "--remove", "a", "-o", "-"],
        &["split", "x.gguf", "--shards", "2", "-o", "-"],
        &["merge", "x.gguf", "-o", "-"],
        &["imatrix", input, "-f", "x.txt", "-o", "-"],
        &["kl", input, input, "-f", "x.txt", "--save-base", "-"],
        &["kl", input, input, "-f", "x.txt", "--html", "-"],
        &["compare", input, input, "--html", "-"],
        &["bench", input, "--html", "-"],
        &["verify", input, "--derived-from", input, "--attest", "-"],
        &["inspect"],
        &["completions", "tcsh"],
    ];
    let mut problems = Vec::new();
    for args in wrong {
        let done = run(*args);
        if done.status.code() != Some(2) || done.stderr.is_empty() || !done.stdout.is_empty() {
            problems.push(format!("{args:?}: {}, {:?}", done.status, stderr(&done)));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
