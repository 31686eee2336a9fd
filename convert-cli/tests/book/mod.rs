//! Every command that README and the book show, run as it stands there.
//!
//! A command is a line of a code block that begins with `quantwright`. It runs in a folder with the files
//! that it names, all made from a fixture. One with a placeholder in angle brackets, or with
//! options in square ones, is a synopsis: its subcommand has to exist.

#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::json;
use tempfile::TempDir;

use crate::common::{fixture, quantwright, side_by_side, stderr};

/// A page and the commands in it.
fn commands() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = pages.chain([root.join("README.md")]).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    let mut found = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let mut fenced = false;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            fenced ^= line.starts_with("```");
            let Some(line) = line.strip_prefix("    ").or(fenced.then_some(line)) else { continue };
            let mut command = line.strip_prefix("$ ").unwrap_or(line).to_owned();
            while command.ends_with('\\') {
                command.pop();
                command += lines.next().unwrap_or_default();
            }
            if command.starts_with("quantwright ") {
                let end = command.find(" #").unwrap_or(command.len());
                found.push((page.clone(), command[..end].trim_end().to_owned()));
            }
        }
    }
    found
}

/// The files that commands may name, by their contents.
struct Shelf {
    folder: TempDir,
    /// Files that commands made, and a lock on each while it is made.
    made: Mutex<HashMap<String, Arc<OnceLock<()>>>>,
}

impl Shelf {
    fn new() -> Self {
        let shelf = Self { folder: TempDir::new().unwrap(), made: Mutex::default() };
        let text = fs::read_to_string(fixture("text/test.txt")).unwrap();
        // Some chunks of 512 tokens.
        let end = text.char_indices().map(|(at, _)| at).nth(3000).unwrap();
        fs::write(shelf.at("text"), &text[..end]).unwrap();
        fs::write(shelf.at("jinja"), "{{ messages[0].content }}").unwrap();
        shelf
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file made by a command, once.
    fn made(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.at(name);
        let made = Arc::clone(self.made.lock().unwrap().entry(name.to_owned()).or_default());
        made.get_or_init(|| {
            let done = quantwright().args(arguments).arg("-o").arg(&path).output().unwrap();
            assert!(done.status.success(), "{arguments:?}: {}", stderr(&done));
        });
        path
    }

    /// The content that a file of this name should have in a command; none for a name that tells nothing.
    fn content(&self, name: &str, command: &str) -> Option<PathBuf> {
        let checkpoint = fixture("tiny-llama2");
        let checkpoint = checkpoint.to_str().unwrap();
        let (stem, extension) = name.rsplit('/').next()?.rsplit_once('.')?;
        let text = self.at("text");
        Some(match extension {
            "txt" => text,
            "jinja" => self.at("jinja"),
            "gguf" if stem.contains("imatrix") => {
                self.made("imatrix.gguf", &["imatrix", checkpoint, "-f", text.to_str()?])
            }
            "gguf" => {
                // `model-q8_0`, `Q8_0`, `SmolLM2.Q4_1`: the type is in the name. Without one: Q8_0.
                let stem = stem.to_lowercase();
                let known = ["f16", "q2_k", "q3_k_m", "q4_0", "q4_1", "q4_k_m", "q6_k", "iq4_xs"];
                let ty = known.into_iter().find(|ty| stem.ends_with(ty)).unwrap_or("q8_0");
                // Keys that examples of `edit` remove and rename.
                let keys = ["general.url=str:there", "general.finetune=str:chat"];
                let [url, finetune] = keys.map(|key| ["--override-kv", key]);
                let plain = ["convert", checkpoint, "--type", ty];
                if command.contains("--derived-from") {
                    if !command.contains("--imatrix") {
                        return Some(self.made(&format!("{ty}-plain.gguf"), &plain));
                    }
                    let matrix = self.content("imatrix.gguf", command)?;
                    let weighted = ["--imatrix", matrix.to_str()?];
                    self.made(&format!("{ty}-weighted.gguf"), &[&plain[..], &weighted].concat())
                } else {
                    self.made(&format!("{ty}.gguf"), &[&plain[..], &url, &finetune].concat())
                }
            }
            _ => return None,
        })
    }

    /// Runs a command in a folder of its own that has what the command reads.
    fn run(&self, command: &str) -> Output {
        let folder = TempDir::new().unwrap();
        for name in [
            "checkpoint",
            "CHECKPOINT",
            "MODEL",
            "path/to/checkpoint",
            "path/to/base",
            "fixtures/tiny-llama2",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(fixture("tiny-llama2").canonicalize().unwrap(), path)
                .unwrap();
        }
        write_adapter(&folder.path().join("path/to/adapter"));
        let words: Vec<_> = command.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let word = word.trim_matches(|c| c == '\'' || c == '"');
            let before = at.checked_sub(1).map_or("", |at| words[at]);
            let written =
                ["-o", "--output", "--attest", "--html", "--save-mix", "--save-base", ">"];
            let path = folder.path().join(word.trim_start_matches("~/"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if written.contains(&before) {
                continue;
            }
            if let Some(shards) = word.strip_suffix("-00001-of-00004.gguf") {
                let model = self.content("model.gguf", command).unwrap();
                let mut split = quantwright();
                split
                    .arg("split")
                    .arg(model)
                    .arg("-o")
                    .arg(folder.path().join(format!("{shards}.gguf")));
                assert!(split.args(["--shards", "4"]).output().unwrap().status.success());
            } else if let Some(content) = self.content(word, command) {
                fs::copy(content, path).unwrap();
            }
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_quantwright")).parent().unwrap().to_owned();
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&paths)));
        std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(folder.path())
            .env("PATH", paths.unwrap())
            .env("HOME", folder.path())
            // Nobody listens there: what is remote has to fail for that reason alone.
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .output()
            .unwrap()
    }
}

/// A LoRA adapter for one matrix of the fixture.
fn write_adapter(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let config =
        json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["o_proj"]});
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let tensor = |shape: [u32; 2], start: u32| json!({"dtype": "F32", "shape": shape, "data_offsets": [start, start + 1024]});
    let name =
        |part: &str| format!("base_model.model.model.layers.0.self_attn.o_proj.{part}.weight");
    let header = json!({
        (name("lora_A")): tensor([1, 256], 0),
        (name("lora_B")): tensor([256, 1], 1024),
    });
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 2048, 0);
    fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
}

/// What is wrong with a command.
fn problem(shelf: &Shelf, page: &Path, command: &str) -> Option<String> {
    let page = page.file_name().unwrap().to_string_lossy();
    if command.contains('<') || command.contains(" [--") {
        let name = command.split(' ').nth(1).unwrap();
        let known = quantwright().args([name, "--help"]).output().unwrap().status.success();
        return (!known).then(|| format!("{page}: there is no {name}"));
    }
    let done = shelf.run(command);
    let said = stderr(&done);
    let fine = if command.contains("--mmproj") {
        // The fixture has a text model only.
        said.contains("has no encoder of images or sound")
    } else if command.contains("hf://") || command.contains("http") {
        done.status.code() == Some(1) && said.contains("connect")
    } else {
        done.status.success()
    };
    (!fine).then(|| format!("{page}: {command}\n  {}: {said}", done.status))
}

#[test]
fn every_command_in_the_book_works() {
    let (shelf, commands) = (Shelf::new(), commands());
    assert!(commands.len() > 40, "{} commands were found", commands.len());
    let problems = side_by_side(&commands, |(page, command)| problem(&shelf, page, command));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
