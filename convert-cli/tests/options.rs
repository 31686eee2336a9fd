//! No option is accepted and ignored: for every option of every command, and every kind of input,
//! the table says what comes of it, and each row is run. An option without a row fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

/// The definition that the binary itself has.
#[path = "../src/args/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only the description is used")]
mod args;
mod common;
#[path = "options/table.rs"]
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use clap::CommandFactory;
use common::{convert, fixture, quantwright, side_by_side, stderr, stdout, write_gguf};
use tempfile::{TempDir, tempdir};

use table::{Effect, Input, Row};

/// What a run left behind.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    status: Option<i32>,
    /// Names and contents in the folder of the output.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Without the time that it took.
    stdout: String,
    stderr: String,
}

/// What a run without the option is told by: several rows share one.
type Base = (&'static str, Input, &'static [&'static str], bool);

/// Files that rows name in braces, the inputs, and the runs that there were.
struct Files {
    folder: TempDir,
    bases: Mutex<HashMap<Base, Arc<OnceLock<Outcome>>>>,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempdir().unwrap(), bases: Mutex::default() };
        for (name, checkpoint) in [("untied", "tiny-llama2"), ("tied", "tiny-llama3")] {
            let (lossless, packed) = (format!("{name}.gguf"), format!("{name}-packed"));
            convert(&fixture(checkpoint), &files.path(&lossless), &["-t", "f16"]);
            let options = ["-t", "int4_sym", "--group-size", "64", "--no-sync", "--quiet"];
            let input = fixture(checkpoint);
            let done = common::try_convert(&input, &files.path(&packed), &options);
            assert!(done.status.success(), "{}", stderr(&done));
        }
        convert(&files.path("untied.gguf"), &files.path("quantized.gguf"), &[]);
        write_gguf(&files.path("awkward.gguf"), 96, 0.25);
        for (name, text) in [
            ("text", "The following example shows how to use it. ".repeat(40).as_str()),
            ("tokens", format!("[{}9]", "1, 2, 3, ".repeat(22)).as_str()),
            ("types", "attn_v=q8_0 ffn_up=q5_0\n"),
            (
                "sensitivities",
                r#"{"format": "quantwright sensitivities 1", "text": "t", "predictions": 9,
                    "tensors": {"blk.0.attn_v.weight": {"Q4_K": {"error": 1e-3, "loss": 5.0}}}}"#,
            ),
            ("windows-types", "\u{feff}attn_v=q8_0\r\nffn_up=q5_0,attn_k=q8_0\r\n"),
            ("types-and-typos", "attn_v=q8_0\nattn_w=q8_0\n"),
            ("empty", "\n"),
            ("metadata", r#"{"general.author": "A", "general.tags": ["t"]}"#),
            ("metadata-typo", r#"{"general.author": "A", "general.licence": "mit"}"#),
            ("metadata-parent", r#"{"general.base_models": [{"nome": "B"}]}"#),
            ("no-metadata", "{}"),
        ] {
            fs::write(files.path(name), text).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn input(&self, input: Input) -> PathBuf {
        match input {
            Input::Checkpoint | Input::Folder => fixture("tiny-llama2"),
            Input::TiedCheckpoint | Input::TiedFolder => fixture("tiny-llama3"),
            Input::Gguf => self.path("untied.gguf"),
            Input::TiedGguf => self.path("tied.gguf"),
            Input::QuantizedGguf => self.path("quantized.gguf"),
            Input::AwkwardGguf => self.path("awkward.gguf"),
            Input::Packed => self.path("untied-packed"),
            Input::TiedPacked => self.path("tied-packed"),
        }
    }

    /// `{name}` is a file from above, `{imatrix}` the matrix of tiny-llama2.
    fn fill(&self, arg: &str) -> PathBuf {
        match arg.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("imatrix") => fixture("tiny-llama2/imatrix.gguf"),
            Some("checkpoint") => fixture("tiny-llama2"),
            Some(name) => self.path(name),
            None => arg.into(),
        }
    }

    /// The run without the option.
    fn base(&self, row: &Row, input: Input) -> Outcome {
        let key = (row.command, input, row.with, row.option == "--no-sync");
        let base = Arc::clone(self.bases.lock().unwrap().entry(key).or_default());
        base.get_or_init(|| self.run(row, input, row.with)).clone()
    }

    /// Runs a command with options.
    fn run(&self, row: &Row, input: Input, options: &[&str]) -> Outcome {
        let folder = tempdir().unwrap();
        let mut command = quantwright();
        command.arg(row.command).current_dir(folder.path());
        let is_convert = row.command == "convert";
        match row.command {
            "convert" => {
                let name = if input.is_folder() { "out" } else { "m.gguf" };
                command.arg(self.input(input)).args(["-o", name]);
            }
            "compare" => _ = command.args([self.input(input), self.input(input)]),
            "edit" | "split" | "merge" => {
                // A copy, which may be edited in place.
                let (input, copy) = (self.input(input), folder.path().join("input.gguf"));
                command.arg(if input.is_file() { "input.gguf".into() } else { input.clone() });
                if input.is_file() {
                    fs::copy(input, copy).unwrap();
                }
                if !options.contains(&"--in-place") {
                    command.args(["-o", "m.gguf"]);
                }
                if row.option != "--no-sync" {
                    command.arg("--no-sync");
                }
            }
            "presets" => {}
            _ => _ = command.arg(self.input(input)),
        }
        let given = |name| options.contains(&name);
        if row.command == "kl" {
            command.arg(self.path("quantized.gguf"));
        }
        // What keeps runs of a model short, unless the row is about it.
        let short = [
            (&["imatrix"][..], "--output", "m.gguf"),
            (&["imatrix", "perplexity", "kl"], "--file", "{text}"),
            (&["imatrix", "perplexity", "kl"], "--ctx", "32"),
            (&["imatrix", "perplexity", "kl"], "--chunks", "2"),
            (&["generate"], "--prompt", "The following"),
            (&["generate"], "--n", "8"),
            (&["bench"], "--n-prompt", "8"),
            (&["bench"], "--n-gen", "2"),
            (&["bench"], "--repetitions", "1"),
        ];
        for (commands, name, value) in short {
            if commands.contains(&row.command) && !given(name) {
                command.arg(name).arg(self.fill(value));
            }
        }
        let for_size = given("--target-size") || given("--target-bpw");
        if is_convert && for_size && !given("--candidates") {
            command.args(["--candidates", "q2_k,q4_k,q8_0"]);
        }
        if is_convert && !given("-t") && !given("--preset") && !for_size {
            let ty = match input {
                _ if input.is_folder() => "int4_sym",
                // Q4_0 would take the codes as they are.
                Input::Packed | Input::TiedPacked => "q5_0",
                _ => "q4_0",
            };
            command.args(["-t", ty]);
        }
        if input.is_folder() && is_convert && !given("--group-size") && !given("--preset") {
            command.args(["--group-size", "64"]);
        }
        if is_convert && row.option != "--no-sync" {
            command.arg("--no-sync");
        }
        let done = command.args(options.iter().map(|arg| self.fill(arg))).output().unwrap();
        let mut text = stdout(&done);
        if let Some((before, after)) = text.split_once(" bits per weight") {
            let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
            text = format!("{before}\n{rest}");
        }
        text = match row.command {
            "imatrix" | "perplexity" => text.rsplit_once(", ").map_or("", |(rest, _)| rest).into(),
            "bench" => {
                let is_measured = |word: &&str| word.contains('.') && word.parse::<f64>().is_ok();
                text.split_whitespace().filter(|word| !is_measured(word)).collect()
            }
            _ => text,
        };
        Outcome {
            status: done.status.code(),
            files: all_files(folder.path(), folder.path()),
            stdout: text,
            stderr: stderr(&done),
        }
    }

    /// What is wrong with a row for one of its inputs.
    fn problems(&self, row: &Row, input: Input) -> Vec<String> {
        let base = self.base(row, input);
        let found = self.run(row, input, &[row.with, row.adds].concat());
        let same = (&base.files, &base.stdout) == (&found.files, &found.stdout);
        let warnings = |outcome: &Outcome| -> Vec<String> {
            let lines = outcome.stderr.lines().filter(|line| line.starts_with("warning: "));
            lines.map(str::to_owned).collect()
        };
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                problems.push(format!(
                    "{} {:?} {} after {:?}: {problem}\n    {}",
                    row.command,
                    input,
                    row.adds.join(" "),
                    row.with,
                    found.stderr.replace('\n', "\n    ")
                ));
            }
        };
        let status = match row.effect {
            Effect::Refused(_) => 1,
            Effect::WrongUsage(_) => 2,
            _ => 0,
        };
        check(found.status == Some(status), &format!("status {:?}", found.status));
        match row.effect {
            Effect::Changes => check(base.files != found.files, "the output is the same"),
            Effect::Prints => check(base.stdout != found.stdout, "the same is printed"),
            Effect::Warns(says) => {
                let new = warnings(&found).into_iter().filter(|line| !base.stderr.contains(line));
                check(new.into_iter().any(|line| line.contains(says)), "no such warning");
                if row.command == "convert" {
                    let dry = self.run(row, input, &dry(row));
                    let warned = warnings(&dry).iter().any(|line| line.contains(says));
                    check(warned, "a dry run does not warn");
                }
            }
            Effect::Refused(says) => {
                let one = found.stderr.lines().count() == 1 && found.stderr.starts_with("error: ");
                check(one && found.stderr.contains(says), "no such line");
                let written = found.files.keys().filter(|name| !name.starts_with("input.gguf"));
                check(written.count() == 0, "something was written");
                if row.command == "convert" {
                    let dry = self.run(row, input, &dry(row));
                    check(
                        (dry.status, &dry.stderr) == (Some(1), &found.stderr),
                        &format!("a dry run ends with {:?}: {}", dry.status, dry.stderr),
                    );
                }
            }
            Effect::WrongUsage(says) => {
                check(found.stderr.starts_with("error: "), "no error line");
                check(found.stderr.contains(says), "no such line");
            }
            Effect::Harmless(why) => {
                let same = same && base.stderr == found.stderr;
                check(same, &format!("something changed, although {why}"));
            }
            Effect::Manner(why) => {
                check(found.stderr == base.stderr, &format!("it is not silent, although {why}"));
            }
        }
        problems
    }
}

/// The options of a row, for a dry run.
fn dry(row: &Row) -> Vec<&'static str> {
    [row.with, row.adds, &["--dry-run"]].concat()
}

fn all_files(folder: &Path, root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path, root));
        } else {
            files.insert(path.strip_prefix(root).unwrap().into(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Commands and the long names of their options, of those that have any.
fn defined() -> BTreeSet<(String, String)> {
    let mut command = args::Cli::command();
    command.build();
    let mut found = BTreeSet::new();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        for arg in sub.get_arguments().filter(|arg| !arg.is_positional()) {
            let long = arg.get_long().expect("every option has a long name");
            if !["help", "version"].contains(&long) {
                found.insert((sub.get_name().to_owned(), format!("--{long}")));
            }
        }
    }
    found
}

#[test]
fn every_option_has_a_row_for_every_kind_of_input() {
    let mut missing = Vec::new();
    let defined = defined();
    for (command, option) in &defined {
        // Every run names an output.
        if option == "--output" {
            continue;
        }
        let rows = || table::ROWS.iter().filter(|r| r.command == command && r.option == option);
        if command == "presets" && rows().next().is_some() {
            continue;
        }
        for kind in table::KINDS {
            let mut inputs = rows().flat_map(|row| row.inputs);
            if !inputs.any(|input| input.kind() == kind) {
                missing.push(format!("{command} {option} of a {kind}"));
            }
        }
    }
    assert!(missing.is_empty(), "no row for:\n{}", missing.join("\n"));
    for row in table::ROWS {
        let named = (row.command.to_owned(), row.option.to_owned());
        assert!(defined.contains(&named), "there is no {} {}", row.command, row.option);
        let short =
            [("--type", "-t"), ("--quiet", "-q")].iter().find(|(long, _)| *long == row.option);
        let given = |arg: &&str| *arg == row.option || short.is_some_and(|(_, short)| arg == short);
        assert!(row.adds.iter().any(given), "{} is not in {:?}", row.option, row.adds);
    }
}

#[test]
fn no_option_is_accepted_and_ignored_llama_cpp_5754() {
    let files = Files::new();
    let runs: Vec<_> = table::ROWS
        .iter()
        .flat_map(|row| row.inputs.iter().map(move |input| (row, *input)))
        .collect();
    let problems = side_by_side(&runs, |(row, input)| Some(files.problems(row, *input))).concat();
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}
