//! Commands that run a model: `imatrix`, `perplexity`, `kl`, `generate`, `bench`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{fs, path::Path};

use common::{convert, fixture, quantwright, refused, stderr, stdout};
use quant_evaluate::kld::{write_header, write_row};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// A folder with tiny-llama2 as F16 and Q4_0, and a text.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    for ty in ["f16", "q4_0"] {
        convert(&fixture("tiny-llama2"), &folder.path().join(format!("{ty}.gguf")), &["-t", ty]);
    }
    let text = fs::read_to_string(fixture("text").join("test.txt")).unwrap();
    let text: String = text.chars().take(4000).collect();
    fs::write(folder.path().join("text"), text).unwrap();
    folder
}

/// Standard output of a command that succeeds and has nothing to say on standard error.
fn done(folder: &Path, args: &[&str]) -> String {
    let done = quantwright().current_dir(folder).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", stderr(&done));
    assert_eq!(stderr(&done), "", "{args:?}");
    stdout(&done)
}

fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&done(folder, &[args, &["--json"]].concat())).unwrap()
}

fn close(found: &Value, expected: &Value, part: f64) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= part * expected.abs(), "{found} is far from {expected}");
}

const WINDOWS: [&str; 4] = ["-f", "text", "--ctx", "64"];

#[test]
fn perplexity_of_files_and_checkpoints() {
    let folder = folder();
    let (folder, checkpoint) = (folder.path(), fixture("tiny-llama2"));
    let args = |model| [&["perplexity", model][..], &WINDOWS].concat();
    let found = json(folder, &args("f16.gguf"));
    let (chunks, tokens) = (found["chunks"].as_u64().unwrap(), found["tokens"].as_u64().unwrap());
    assert_eq!((tokens, found["ctx"].as_u64()), (chunks * 31, Some(64)));
    assert!(chunks > 10 && found["seconds"].as_f64() > Some(0.0), "{found}");
    // An untrained model of this vocabulary has one of 1024.
    assert!((2.0..100.0).contains(&found["ppl"].as_f64().unwrap()), "{found}");
    assert!(found["ppl_error"].as_f64().unwrap() > 0.0);
    // The checkpoint is in half precision, as the file is.
    let text = &args(checkpoint.to_str().unwrap());
    assert_eq!(json(folder, text)["ppl"], found["ppl"]);
    assert!(
        done(folder, text).contains(&format!("perplexity {:.4}", found["ppl"].as_f64().unwrap()))
    );
    // Threads change no bit; four windows are a part of all.
    for threads in ["1", "3"] {
        let again = json(folder, &[&args("f16.gguf")[..], &["--threads", threads]].concat());
        assert_eq!((&again["ppl"], &again["ppl_error"]), (&found["ppl"], &found["ppl_error"]));
    }
    let four = json(folder, &[&args("f16.gguf")[..], &["--chunks", "4"]].concat());
    assert_eq!((four["chunks"].as_u64(), four["tokens"].as_u64()), (Some(4), Some(4 * 31)));
    assert!(json(folder, &args("q4_0.gguf"))["ppl"].as_f64() > found["ppl"].as_f64());
}

/// What opening a model has to say is not lost.
#[test]
fn warnings_are_printed_and_in_the_json() {
    let folder = folder();
    let config = fixture("tiny-llama2").join("config.json");
    let done = quantwright()
        .current_dir(folder.path())
        .args(["perplexity", config.to_str().unwrap(), "--json"])
        .args(WINDOWS)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stderr(&done).starts_with("warning: ") && stderr(&done).contains("is read as a whole"));
    let found: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert!(found["warnings"][0]["message"].as_str().unwrap().contains("is read as a whole"));
    // Windows that are longer than what the model was trained on.
    let short = ["edit", "f16.gguf", "-o", "short.gguf", "--set", "llama.context_length=u32:63"];
    self::done(folder.path(), &short);
    for command in [
        &["perplexity", "short.gguf", "--json"][..],
        &["imatrix", "short.gguf", "-o", "i.gguf", "--json"],
        &["kl", "short.gguf", "f16.gguf", "--json"],
    ] {
        let mut run = quantwright();
        run.current_dir(folder.path()).args(command).args(WINDOWS);
        let done = run.output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        let says = "windows of 64 tokens are longer than the 63";
        assert!(stderr(&done).contains(says) && stdout(&done).contains(says), "{command:?}");
    }
}

#[test]
fn kl_beside_a_model_and_from_its_predictions() {
    let folder = folder();
    let folder = folder.path();
    let args = ["kl", "f16.gguf", "f16.gguf", "q4_0.gguf", "--save-base", "base.kld"];
    let found = json(folder, &[&args[..], &WINDOWS].concat());
    let candidates = found["candidates"].as_array().unwrap();
    let (same, q4_0) = (&candidates[0], &candidates[1]);
    assert_eq!((&same["model"], &q4_0["model"]), (&"f16.gguf".into(), &"q4_0.gguf".into()));
    assert!(same["mean_kld"].as_f64().unwrap().abs() < 1e-6, "{same}");
    assert_eq!(same["same_top_p"].as_f64(), Some(100.0));
    close(&same["ppl"], &found["reference"]["ppl"], 1e-5);
    let figure = |name: &str| q4_0[name].as_f64().unwrap();
    assert!((0.001..0.5).contains(&figure("mean_kld")), "{q4_0}");
    let falling = ["max_kld", "kld_999", "kld_99", "kld_95", "kld_90", "median_kld"].map(figure);
    assert!(falling.is_sorted_by(|a, b| a >= b), "{q4_0}");
    assert!((50.0..100.0).contains(&figure("same_top_p")) && figure("rms_dp") > 0.0);
    let ln_ratio = (figure("ppl") / found["reference"]["ppl"].as_f64().unwrap()).ln();
    assert!((figure("ln_ratio") - ln_ratio).abs() < 1e-6);
    assert!((4.0..8.0).contains(&figure("bits_per_weight")));
    let perplexity = json(folder, &[&["perplexity", "q4_0.gguf"][..], &WINDOWS].concat());
    close(&q4_0["ppl"], &perplexity["ppl"], 1e-5);

    // Predictions in a file are rounded, and hold their own windows.
    let again = json(folder, &["kl", "base.kld", "q4_0.gguf"]);
    close(&again["candidates"][0]["mean_kld"], &q4_0["mean_kld"], 0.02);
    close(&again["reference"]["ppl"], &found["reference"]["ppl"], 1e-3);
    assert_eq!(again["candidates"][0]["predictions"], q4_0["predictions"]);
    assert_eq!(json(folder, &["kl", "base.kld", "q4_0.gguf", "-f", "text"]), again);
    let two = json(folder, &["kl", "base.kld", "q4_0.gguf", "--chunks", "2"]);
    assert_eq!(two["candidates"][0]["predictions"].as_u64(), Some(62));
    let text = done(folder, &["kl", "base.kld", "q4_0.gguf"]);
    assert!(
        text.starts_with("reference base.kld: perplexity ") && text.contains("q4_0.gguf"),
        "{text}"
    );
    assert_eq!(fs::read_dir(folder).unwrap().count(), 4, "something was left behind");
}

#[test]
fn imatrix_of_parts_and_any_threads() {
    let folder = folder();
    let folder = folder.path();
    let args = ["imatrix", "f16.gguf", "--ctx", "64", "--chunks", "3", "-f", "text"];
    let made = |name: &str, options: &[&str]| {
        let found = json(folder, &[&args[..], &["-o", name], options].concat());
        (found, fs::read(folder.join(name)).unwrap())
    };
    let (found, whole) = made("whole.gguf", &["--threads", "1"]);
    assert_eq!((found["tensors"].as_u64(), found["chunks"].as_u64()), (Some(14), Some(3)));
    assert_eq!((found["ctx"].as_u64(), &found["output"]), (Some(64), &"whole.gguf".into()));
    assert_eq!(made("two-threads.gguf", &["--threads", "2"]).1, whole);
    // Parts of one window are sums as they were made: together they are the whole, to the bit.
    let names = ["0", "1", "2"].map(|from| format!("part-{from}.gguf"));
    for (from, name) in ["0", "1", "2"].iter().zip(&names) {
        let options = ["--from", from, "--chunks", "1", "-o", name];
        done(
            folder,
            &[&["imatrix", "f16.gguf", "--ctx", "64", "-f", "text"][..], &options].concat(),
        );
    }
    let parts = names.each_ref().map(String::as_str);
    done(folder, &[&["imatrix", "-o", "merged.gguf", "--merge"][..], &parts].concat());
    let sums = |name: &str| {
        let limits = gguf_io::Limits::default();
        gguf_io::imatrix::ImatrixSums::open(&folder.join(name), &limits).unwrap()
    };
    let (merged, whole_sums) = (sums("merged.gguf"), sums("whole.gguf"));
    assert_eq!((merged.chunk_count, merged.chunk_size), (Some(3), 64));
    for (name, whole) in &whole_sums.entries {
        let merged = &merged.entries[name];
        assert_eq!((&merged.sums, &merged.counts), (&whole.sums, &whole.counts), "{name}");
    }
    assert_eq!(merged.entries.len(), whole_sums.entries.len());
    // The output's tensor is one more.
    let (output, _) = made("output.gguf", &["--process-output"]);
    assert_eq!(output["tensors"].as_u64(), Some(15));
    // It is an importance matrix for convert.
    let plain = convert(&fixture("tiny-llama2"), &folder.join("plain.gguf"), &["-t", "q2_k"]);
    let whole_path = folder.join("whole.gguf");
    let options = ["-t", "q2_k", "--imatrix", whole_path.to_str().unwrap()];
    let weighted = convert(&fixture("tiny-llama2"), &folder.join("weighted.gguf"), &options);
    assert_ne!(plain, weighted);
    // Of a checkpoint, which holds the same weights.
    let checkpoint = fixture("tiny-llama2");
    let args =
        ["imatrix", checkpoint.to_str().unwrap(), "-f", "text", "--ctx", "64", "--chunks", "3"];
    let text = done(folder, &[&args[..], &["-o", "checkpoint.gguf"]].concat());
    assert!(
        text.starts_with("wrote checkpoint.gguf: 14 tensors, 3 windows of 64 tokens"),
        "{text}"
    );
    assert_eq!(fs::read(folder.join("checkpoint.gguf")).unwrap(), whole);
}

#[test]
fn experts_with_few_tokens_are_told() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    convert(&fixture("tiny-mixtral"), &folder.join("m.gguf"), &["-t", "f16"]);
    fs::write(folder.join("tokens"), "[1,2,3,4,5,6,7,8,9,10]").unwrap();
    let args = ["imatrix", "m.gguf", "-f", "tokens", "--ctx", "4", "-o", "i.gguf"];
    let found = json(folder, &args);
    assert!(!found["few_tokens"].as_array().unwrap().is_empty(), "{found}");
}

#[test]
fn generate_repeats_itself_with_a_seed() {
    let folder = folder();
    let folder = folder.path();
    let args = ["generate", "f16.gguf", "-p", "The following", "-n", "12"];
    let greedy = json(folder, &[&args[..], &["--temp", "0"]].concat());
    assert_eq!(greedy["tokens"].as_u64(), Some(12));
    assert!(
        greedy["prompt_tokens"].as_u64() > Some(1) && !greedy["text"].as_str().unwrap().is_empty()
    );
    assert!(greedy["tokens_per_second"].as_f64() > Some(0.0));
    // What is streamed is the same text.
    let text = done(folder, &[&args[..], &["--temp", "0"]].concat());
    assert_eq!(
        text.trim_end_matches('\n'),
        greedy["text"].as_str().unwrap().trim_end_matches('\n')
    );
    let text = |options: &[&str]| json(folder, &[&args[..], options].concat())["text"].clone();
    assert_eq!(text(&["--top-k", "1", "--temp", "2"]), greedy["text"]);
    assert_eq!(
        text(&["--temp", "3", "--top-k", "0", "--seed", "7"]),
        text(&["--temp", "3", "--top-k", "0", "--seed", "7"])
    );
    assert_ne!(
        text(&["--temp", "3", "--top-k", "0", "--top-p", "1", "--seed", "7"]),
        text(&["--temp", "3", "--top-k", "0", "--top-p", "1", "--seed", "8"])
    );
    // Several models answer one after the other.
    let both = ["generate", "f16.gguf", "q4_0.gguf", "-p", "The", "-n", "2", "--temp", "0"];
    let list = json(folder, &both);
    assert_eq!((&list[0]["model"], &list[1]["model"]), (&"f16.gguf".into(), &"q4_0.gguf".into()));
    let text = done(folder, &both);
    assert!(text.starts_with("f16.gguf:\n") && text.contains("\nq4_0.gguf:\n"), "{text}");
}

#[test]
fn chat_follows_the_template_of_the_file() {
    let folder = folder();
    let folder = folder.path();
    let template =
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}";
    fs::write(folder.join("template"), template).unwrap();
    done(folder, &["edit", "f16.gguf", "-o", "chat.gguf", "--chat-template", "template"]);
    let options = ["-n", "4", "--temp", "0"];
    let tokens = |args: &[&str]| json(folder, &[args, &options].concat())["prompt_tokens"].clone();
    let chat = tokens(&["generate", "chat.gguf", "-p", "Hello", "--chat"]);
    assert_eq!(chat, tokens(&["generate", "f16.gguf", "-p", "[user] Hello"]));
    // A template makes a prompt as long as it likes; a model reads as much as it was trained to.
    fs::write(folder.join("template"), "{{ messages[0].content * 9999 }}").unwrap();
    done(folder, &["edit", "f16.gguf", "-o", "long.gguf", "--chat-template", "template"]);
    let answer = |file: &str| {
        let args = ["generate", file, "-p", "Hello", "--chat"];
        quantwright().current_dir(folder).args(args).output().unwrap()
    };
    assert_eq!(refused(&answer("long.gguf"), &["was trained to see"]), Vec::<String>::new());
    convert(&fixture("tiny-phi2"), &folder.join("phi.gguf"), &["-t", "f16"]);
    let done = answer("phi.gguf");
    let problems = refused(&done, &["no chat template"]);
    assert!(problems.is_empty(), "{problems:?} {}", stderr(&done));
}

#[test]
fn bench_has_the_tests_of_llama_bench() {
    let folder = folder();
    let folder = folder.path();
    let args = ["bench", "f16.gguf", "q4_0.gguf", "-p", "32", "-n", "4", "-r", "2"];
    let found = json(folder, &[&args[..], &["--threads", "1"]].concat());
    let tests: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|test| {
            assert!(
                test["mean"].as_f64() > Some(0.0) && test["sd"].as_f64() >= Some(0.0),
                "{test}"
            );
            assert_eq!(test["threads"].as_u64(), Some(1));
            assert!(test["bytes"].as_u64() > Some(100_000));
            (test["model"].as_str().unwrap(), test["test"].as_str().unwrap())
        })
        .collect();
    let (f16, q4_0) = ("f16.gguf", "q4_0.gguf");
    assert_eq!(tests, [(f16, "pp32"), (f16, "tg4"), (q4_0, "pp32"), (q4_0, "tg4")]);
    let text = done(folder, &["bench", "f16.gguf", "-p", "0", "-n", "2", "-r", "1", "-d", "8"]);
    assert!(text.contains("tg2 @ d8") && !text.contains("pp"), "{text}");
}

/// A page has every number of the JSON, digit by digit, and no other.
fn check_numbers(page: &str, json: &str) {
    let shown = page.split("data-value=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0);
    let is_number = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let values = json.split("\":").skip(1).map(|rest| rest.split([',', '}']).next().unwrap());
    let mut expected: Vec<_> = values.filter(is_number).collect();
    let mut shown: Vec<_> = shown.collect();
    shown.sort_unstable();
    expected.sort_unstable();
    assert!(expected.len() > 10);
    assert_eq!(shown, expected);
}

/// A page stands alone and gives nothing away: no addresses, no folders.
fn check_page(page: &str, folder: &Path) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for never in ["http:", "https:", "src=", "href=", "url(", "@import", "NaN", "<b>"] {
        assert!(!page.contains(never), "{never} in {page}");
    }
    assert!(!page.contains(folder.to_str().unwrap()), "{page}");
}

#[test]
fn pages_have_the_figures_of_the_json() {
    let folder = folder();
    let folder = folder.path();
    // A name that is markup, in a folder that is nobody's business, and twice.
    let odd = "<b>&\"q4_0\".gguf";
    for inside in ["one", "two"] {
        fs::create_dir(folder.join(inside)).unwrap();
        fs::copy(folder.join("q4_0.gguf"), folder.join(inside).join(odd)).unwrap();
    }
    let paths = ["one", "two"].map(|inside| folder.join(inside).join(odd));
    let [one, two] = paths.each_ref().map(|path| path.to_str().unwrap());
    let escaped = "&lt;b&gt;&amp;&quot;q4_0&quot;.gguf (2)";

    let args = ["kl", "f16.gguf", "f16.gguf", one, two, "--html", "kl.html"];
    let found = done(folder, &[&args[..], &WINDOWS, &["--json"]].concat());
    let page = fs::read_to_string(folder.join("kl.html")).unwrap();
    check_page(&page, folder);
    assert!(page.contains(escaped) && page.contains("<title>KL divergence from f16.gguf</title>"));
    check_numbers(&page, &found);
    assert_eq!(page.matches("class=\"dot\"").count() + page.matches("class=\"below\"").count(), 3);
    assert_eq!(page.matches("<h3>").count(), 3);

    // A page replaces a page, of any command; nothing else, and no file of the run.
    let args = ["bench", one, two, "-p", "8", "-n", "2", "-r", "2", "--html", "kl.html"];
    let found = done(folder, &[&args[..], &["--json"]].concat());
    let page = fs::read_to_string(folder.join("kl.html")).unwrap();
    check_page(&page, folder);
    assert!(page.contains(escaped));
    check_numbers(&page, &found);
    assert_eq!(page.matches("class=\"plot fluid\"").count(), 2);

    done(folder, &["compare", "f16.gguf", one, two, "--html", "kl.html"]);
    let page = fs::read_to_string(folder.join("kl.html")).unwrap();
    check_page(&page, folder);
    assert!(page.contains(escaped) && page.contains("<td>blk.1.attn_v.weight</td>"));
    // Two maps of each candidate, with a cell for each tensor.
    assert_eq!(page.matches("<title>blk.1.attn_v.weight: Q4_0").count(), 4);

    let before = common::listing(folder);
    let kl = |options: &[&str]| {
        let args = [&["kl", "f16.gguf", "q4_0.gguf"][..], options].concat();
        quantwright().current_dir(folder).args(args).output().unwrap()
    };
    let mut problems = Vec::new();
    for (options, says) in [
        (["-f", "text", "--html", "text"], "text: is another file of this run"),
        (["-f", "kl.html", "--html", "./kl.html"], "kl.html: is another file of this run"),
        (["-f", "text", "--html", "one"], "one"),
        (["-f", "text", "--html", "nowhere/page.html"], "nowhere"),
        (["-f", "nowhere", "--html", "q4_0.gguf"], "q4_0.gguf: is another file of this run"),
        (["-f", "nowhere", "--html", one], "is not a report of this program"),
    ] {
        problems.extend(refused(&kl(&options), &[says]));
    }
    let new = ["-f", "text", "--html", "x", "--save-base", "x"];
    problems.extend(refused(&kl(&new), &["x: is another file of this run"]));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(common::listing(folder) == before, "a refusal changed a file");
}

#[test]
fn bad_input_is_refused_in_a_line() {
    let folder = folder();
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("no-tokens"), "[]").unwrap();
    fs::write(path("latin-1"), b"caf\xe9").unwrap();
    fs::write(path("short"), "A few words.").unwrap();
    fs::write(path("beyond"), format!("[{}1024]", "1, ".repeat(200))).unwrap();
    fs::write(path("negative"), "[1, -2]").unwrap();
    fs::write(path("tokens"), format!("[{}1023]", "1, ".repeat(200))).unwrap();
    fs::write(path("taken"), "").unwrap();
    convert(&fixture("tiny-phi2"), &path("phi.gguf"), &["-t", "q8_0"]);
    let edit = |set: &str, out: &str| {
        let args = ["edit", "f16.gguf", "-o", out, "--set", set];
        assert!(quantwright().current_dir(folder).args(args).status().unwrap().success());
    };
    edit("general.architecture=str:nonesuch", "unknown.gguf");
    edit("llama.block_count=u32:3", "layers.gguf");
    done(
        folder,
        &[&["kl", "f16.gguf", "q4_0.gguf", "--save-base", "base.kld"][..], &WINDOWS].concat(),
    );
    let mut cut = fs::read(path("base.kld")).unwrap();
    cut.pop();
    fs::write(path("cut.kld"), cut).unwrap();
    done(folder, &[&["imatrix", "f16.gguf", "-o", "i.gguf"][..], &WINDOWS].concat());
    let mut small = Vec::new();
    write_header(&mut small, 4, 9, &[0, 1, 2, 3]).unwrap();
    write_row(&mut small, &[0.5; 9]).unwrap();
    fs::write(path("small.kld"), small).unwrap();
    done(folder, &[&["imatrix", "phi.gguf", "-o", "phi-i.gguf"][..], &WINDOWS].concat());

    type Args<'a> = &'a [&'a str];
    let cases: &[(Args<'_>, Args<'_>)] = &[
        (&["perplexity", "f16.gguf", "-f", "empty"], &["empty: the text is empty"]),
        (&["perplexity", "f16.gguf", "-f", "no-tokens"], &["no-tokens: the text is empty"]),
        (&["perplexity", "f16.gguf", "-f", "latin-1"], &["latin-1: byte 3 is not UTF-8"]),
        (&["perplexity", "f16.gguf", "-f", "short"], &["too few for two windows of 512"]),
        (
            &["perplexity", "f16.gguf", "-f", "beyond", "--ctx", "32"],
            &["beyond: token 1024 is not in"],
        ),
        (&["perplexity", "f16.gguf", "-f", "negative"], &["negative: token -2 is not in"]),
        (&["perplexity", "f16.gguf", "-f", "nowhere"], &["nowhere"]),
        (&["perplexity", "nowhere.gguf", "-f", "text"], &["nowhere.gguf"]),
        (&["perplexity", "text", "-f", "text"], &["text"]),
        (&["perplexity", "unknown.gguf", "-f", "text"], &["\"nonesuch\" cannot be run here"]),
        (
            &["perplexity", "layers.gguf", "-f", "text"],
            &["layers.gguf: layer 2 of 3 has no tensors"],
        ),
        (&["kl", "f16.gguf", "q4_0.gguf"], &["give one with -f TEXT"]),
        (&["kl", "f16.gguf", "phi.gguf", "-f", "text", "--ctx", "64"], &["phi.gguf"]),
        (&["kl", "f16.gguf", "q4_0.gguf", "-f", "text", "--save-base", "taken"], &["taken"]),
        (&["kl", "base.kld", "phi.gguf", "-f", "text"], &["predictions are of another text"]),
        (
            &["kl", "small.kld", "phi.gguf"],
            &["phi.gguf: has a vocabulary of 1024 tokens", "one of 9"],
        ),
        (&["kl", "base.kld", "q4_0.gguf", "--ctx", "32"], &["windows have 64 tokens"]),
        (&["kl", "base.kld", "q4_0.gguf", "-f", "short"], &["predictions are of another text"]),
        (&["kl", "base.kld", "q4_0.gguf", "--save-base", "x"], &["leave --save-base out"]),
        (&["kl", "cut.kld", "q4_0.gguf"], &["cut.kld", "cut short"]),
        (&["imatrix", "f16.gguf", "-f", "text", "-o", "taken"], &["taken"]),
        (&["imatrix", "f16.gguf", "-f", "text", "-o", "f16.gguf", "--force"], &["f16.gguf"]),
        (&["imatrix", "f16.gguf", "-f", "text", "-o", "text", "--force"], &["text"]),
        (
            &["imatrix", "f16.gguf", "-f", "text", "-o", "x", "--ctx", "64", "--from", "99"],
            &["give --from a smaller number"],
        ),
        (&["imatrix", "-o", "x", "--merge", "i.gguf", "f16.gguf"], &["f16.gguf"]),
        (
            &["imatrix", "-o", "x", "--merge", "i.gguf", "phi-i.gguf"],
            &["phi-i.gguf", "not of one model"],
        ),
        (&["imatrix", "-o", "i.gguf", "--force", "--merge", "i.gguf"], &["i.gguf"]),
        (&["generate", "f16.gguf", "unknown.gguf", "-p", "x", "-n", "1", "--json"], &[]),
        (&["bench", "f16.gguf", "-p", "0", "-n", "0"], &["there is nothing to run"]),
    ];
    let before = common::listing(folder);
    let mut problems = Vec::new();
    for (args, says) in cases {
        let done = quantwright().current_dir(folder).args(*args).output().unwrap();
        let mut found = refused(&done, says);
        if args.contains(&"--json") {
            found.retain(|problem| problem != "something on stdout");
        }
        if !found.is_empty() {
            problems.push(format!("{args:?}: {found:?}\n    {}", stderr(&done)));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(common::listing(folder) == before, "a refusal changed a file");
    // The neighbour of the lists of tokens.
    let tokens = json(folder, &["perplexity", "f16.gguf", "-f", "tokens", "--ctx", "32"]);
    assert_eq!(tokens["chunks"].as_u64(), Some(6));
}
