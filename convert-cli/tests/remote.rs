//! Models that are read from servers: honest ones, failing ones, lying ones.
#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;
#[path = "remote/environment.rs"]
mod environment;
#[path = "remote/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{convert, fixture, listing, quantwright, refused, stderr, stdout};
use gguf_io::remote::{Address, Model, Options, Url};
use quant_convert::{
    Control, Plan,
    recipe::{FileType, Request as Recipe},
};
use server::{Act, Request, Server};
use tempfile::tempdir;

/// The files of a fixture under a path.
fn files(name: &str, path: &str) -> BTreeMap<String, Vec<u8>> {
    let files = listing(&fixture(name)).into_iter();
    let served = |file: &Path| format!("{path}/{}", file.file_name().unwrap().to_str().unwrap());
    files.map(|(file, bytes)| (served(&file), bytes)).collect()
}

/// Options that give up soon.
fn hasty() -> Options {
    let mut options = Options::default();
    options.piece = 128 << 10;
    options.window = 512 << 10;
    options.parallel = 4;
    options.tries = 8;
    options.backoff = Duration::from_millis(1);
    options.longest_wait = Duration::from_millis(20);
    options.stall = Duration::from_millis(250);
    options
}

/// Converts the model at an address to Q8_0 in a folder of its own; the bytes, or what is said.
fn converted(address: &str, remote: Options) -> Result<Vec<u8>, String> {
    let (folder, scratch) = (tempdir().unwrap(), tempdir().unwrap());
    let output = folder.path().join("m.gguf");
    let run = || -> Result<(), quant_convert::Error> {
        let address = Address::parse(address).unwrap().unwrap();
        let model = Model::open(&address, remote, scratch.path())?;
        let options = quant_convert::Options {
            request: Recipe::new(FileType::Q8_0),
            elsewhere: model.files().to_vec(),
            no_sync: true,
            threads: 2,
            ..quant_convert::Options::default()
        };
        let plan = Plan::new(quant_convert::open(model.path(), &options)?, &options)?;
        plan.run(&output, Control::default())
    };
    let result = run().map_err(|error| error.to_string());
    assert!(listing(scratch.path()).is_empty(), "the small files stay");
    let there = listing(folder.path());
    match result {
        Ok(()) => Ok(there.into_values().next().unwrap()),
        Err(message) => {
            assert!(there.is_empty(), "{message}, but there is {there:?}");
            Err(message)
        }
    }
}

fn expected() -> Vec<u8> {
    let folder = tempdir().unwrap();
    convert(&fixture("tiny-llama2"), &folder.path().join("m.gguf"), &["-t", "q8_0"])
}

/// Numbers that look random, the same in each run.
fn random(seed: usize, number: usize) -> usize {
    let mut x = (seed as u64) << 32 | number as u64;
    for _ in 0..3 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
    (x >> 33) as usize
}

/// Runs a hundred cases, some at a time; the problems.
fn hundred(case: impl Fn(usize) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 100 {
                        break;
                    }
                    if let Err(problem) = case(number) {
                        problems.lock().unwrap().push(format!("{number}: {problem}"));
                    }
                }
            });
        }
    });
    problems.into_inner().unwrap()
}

#[test]
fn what_can_be_cured_gives_the_same_output_in_100_of_100_runs() {
    let expected = expected();
    let faults = Arc::new(AtomicUsize::new(0));
    let problems = hundred(|seed| {
        let count = Arc::clone(&faults);
        // What fails again and again is not cured.
        let tries = Mutex::new(HashMap::<_, usize>::new());
        let server = Server::start(files("tiny-llama2", "/tiny-llama2"), move |request| {
            let number = random(seed, request.number);
            let act = match number % 24 {
                0 => Act::Hang,
                1 => Act::Cut(number / 24 % 100_000),
                2 => Act::Answer(503, String::new()),
                3 => Act::Answer(429, "Retry-After: 0".into()),
                4 => Act::Answer(500, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT".into()),
                5 => Act::Half,
                6 if (number / 24).is_multiple_of(4) => Act::Stall,
                7 => Act::Noise,
                _ => Act::Serve,
            };
            // A try that goes on where another ended asks for the same last byte.
            let part = (request.path.clone(), request.range.map(|(_, last)| last));
            let mut tries = tries.lock().unwrap();
            let tries = tries.entry(part).or_default();
            *tries += 1;
            let act = if *tries > 5 { Act::Serve } else { act };
            count.fetch_add(usize::from(!matches!(act, Act::Serve)), Ordering::Relaxed);
            act
        });
        match converted(&server.url("/tiny-llama2"), hasty()) {
            Ok(bytes) if bytes == expected => Ok(()),
            Ok(_) => Err("another output".into()),
            Err(message) => Err(message),
        }
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let faults = faults.load(Ordering::Relaxed);
    assert!(faults > 500, "only {faults} faults");
}

#[test]
fn what_cannot_be_cured_gives_an_error_and_no_output_in_100_of_100_runs() {
    let problems = hundred(|seed| {
        // From some request for weights on, each fails in the same way.
        let (from, seen) = (seed / 20, AtomicUsize::new(0));
        let fails = move |request: &Request| {
            let late = request.is_for_weights() && seen.fetch_add(1, Ordering::Relaxed) >= from;
            if !late {
                return Act::Serve;
            }
            match seed % 20 {
                0 => Act::Hang,
                1 => Act::Cut(100),
                2 => Act::Stall,
                3 => Act::Answer(503, String::new()),
                4 => Act::Answer(429, "Retry-After: 100000".into()),
                5 => Act::OtherRange,
                6 => Act::OtherLength,
                7 => Act::ShortBody,
                8 => Act::Whole,
                9 => Act::OtherTag,
                10 => Act::Encoded,
                11 => Act::EndlessHeader,
                12 => Act::Noise,
                13 => Act::Redirect(request.path.clone()),
                14 => Act::Redirect("file:///etc/passwd".into()),
                15 => Act::Answer(403, String::new()),
                16 => Act::Answer(404, String::new()),
                17 => Act::Answer(206, String::new()),
                18 => Act::Answer(204, String::new()),
                _ => Act::Answer(206, "Content-Range: bytes 0-18446744073709551615/1".into()),
            }
        };
        let server = Server::start(files("tiny-llama2", "/tiny-llama2"), fails);
        match converted(&server.url("/tiny-llama2"), hasty()) {
            Ok(_) => Err("it is converted all the same".into()),
            Err(message) if message.lines().count() != 1 => Err(format!("not one line: {message}")),
            Err(message) if !message.contains("/tiny-llama2/model-0000") => {
                Err(format!("does not name the file: {message}"))
            }
            Err(_) => Ok(()),
        }
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A server that sends whoever asks for weights to a store, as the Hub does.
fn hub_and_store() -> (Server, Server) {
    let uses = Mutex::new(BTreeMap::<String, usize>::new());
    let store = Server::start(files("tiny-llama2", "/store"), move |request| {
        // Signatures expire, here after some uses.
        let signature = request.path.split_once("?signature=").map(|(_, signature)| signature);
        let mut uses = uses.lock().unwrap();
        let used = uses.entry(signature.unwrap_or_default().to_owned()).or_default();
        *used += 1;
        match signature {
            Some(_) if *used <= 5 => Act::Serve,
            _ => Act::Answer(403, String::new()),
        }
    });
    let to = store.url("/store");
    let commit = "0123456789abcdef";
    let mut served = files("tiny-llama2", "/org/tiny-llama2/resolve/main");
    served.extend(files("tiny-llama2", &format!("/org/tiny-llama2/resolve/{commit}")));
    let hub = Server::start(served, move |request| {
        let name = request.path.rsplit('/').next().unwrap();
        match request.token.as_deref() {
            Some("secret") if name.ends_with(".safetensors") && name != "model.safetensors" => {
                Act::Redirect(format!("{to}/{name}?signature={}", request.number))
            }
            Some("secret") => Act::Serve,
            _ => Act::Answer(401, String::new()),
        }
    });
    (hub, store)
}

#[test]
fn the_token_stays_with_the_hub_and_the_revision_is_pinned() {
    let (hub, store) = hub_and_store();
    let mut options = hasty();
    options.endpoint = Url::parse(&hub.url("")).unwrap();
    options.token = Some("secret".into());
    let bytes = converted("hf://org/tiny-llama2", options.clone()).unwrap();
    assert!(bytes == expected());
    let (asked, stored) = (hub.log(), store.log());
    assert!(stored.len() > 10 && stored.iter().all(|request| request.token.is_none()));
    assert!(asked.iter().all(|request| request.token.is_some()));
    // What the first answer says is the commit of all others.
    let (first, rest) = asked.split_first().unwrap();
    assert_eq!(first.path, "/org/tiny-llama2/resolve/main/config.json");
    let pinned = "/org/tiny-llama2/resolve/0123456789abcdef/";
    assert!(rest.iter().all(|request| request.path.starts_with(pinned)), "{rest:?}");
    // An address that a server has sent us to is kept as long as it works.
    assert!(asked.len() < 80 && stored.len() > 30, "{} and {}", asked.len(), stored.len());

    // The page of a repository is its address; without a token nothing is read.
    converted(&hub.url("/org/tiny-llama2/tree/main"), options.clone()).unwrap();
    options.token = None;
    let message = converted("hf://org/tiny-llama2", options).unwrap_err();
    assert!(message.contains("401") && message.contains("access token"), "{message}");
    // Nor does a token go to whatever server is asked.
    let other = Server::start(files("tiny-llama2", "/tiny-llama2"), |_| Act::Serve);
    let mut options = hasty();
    options.token = Some("secret".into());
    assert!(converted(&other.url("/tiny-llama2"), options).is_ok());
    assert!(other.log().iter().all(|request| request.token.is_none()));
}

#[test]
fn a_repository_that_moves_on_midway_is_refused() {
    let served = files("tiny-llama2", "/o/m/resolve/main");
    let server = Server::start(served, |_| Act::Serve);
    let mut options = hasty();
    options.endpoint = Url::parse(&server.url("")).unwrap();
    // This server names a commit that it does not serve.
    let message = converted("hf://o/m", options).unwrap_err();
    assert!(message.contains("hf://o/m@0123456789abcdef: there is neither"), "{message}");
}

fn on(server: &Server, command: &str, address: &str) -> Command {
    let mut run = quantwright();
    run.args([command, address]).env("HF_ENDPOINT", server.url(""));
    for name in ["HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        run.env_remove(name).env_remove(name.to_lowercase());
    }
    run
}

fn done(command: &mut Command) -> Output {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    done
}

#[test]
fn looking_reads_headers_only() {
    let server = Server::start(files("tiny-llama2", "/tiny-llama2"), |_| Act::Serve);
    let local = stdout(&done(quantwright().arg("inspect").arg(fixture("tiny-llama2"))));
    assert_eq!(stdout(&done(&mut on(&server, "inspect", &server.url("/tiny-llama2")))), local);
    let weights = |request: &Request| request.path.contains("/model-0");
    let asked = server.log();
    assert_eq!(asked.iter().filter(|request| weights(request)).count(), 3, "{asked:?}");
    assert!(asked.iter().all(|request| !request.path.contains("token")), "{asked:?}");
    let scratch = tempdir().unwrap();
    let plan = |run: &mut Command| {
        let run = run.args(["--dry-run", "--json", "-t", "q4_k_m"]).env("TMPDIR", scratch.path());
        stdout(&done(run))
    };
    let local = plan(quantwright().arg("convert").arg(fixture("tiny-llama2")));
    assert_eq!(plan(&mut on(&server, "convert", &server.url("/tiny-llama2"))), local);
    assert!(server.served() <= 6 * (64 << 10), "{} bytes", server.served());
    assert!(listing(scratch.path()).is_empty());
}

#[test]
fn the_program_reads_addresses() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut served = files("tiny-llama2", "/org/tiny-llama2/resolve/main");
    served.extend(files("tiny-llama2", "/org/tiny-llama2/resolve/0123456789abcdef"));
    let whole = convert(&fixture("tiny-llama2"), &path("m.gguf"), &["-t", "q8_0"]);
    let split = ["-t", "q8_0", "--shards", "3", "--quiet", "--no-sync"];
    done(
        quantwright()
            .arg("convert")
            .arg(fixture("tiny-llama2"))
            .arg("-o")
            .arg(path("s"))
            .args(split),
    );
    served.insert("/files/m.gguf".into(), whole.clone());
    served.insert("/files/empty.gguf".into(), Vec::new());
    for number in 1..=3 {
        let name = format!("s-0000{number}-of-00003.gguf");
        served.insert(format!("/files/{name}"), fs::read(path(&name)).unwrap());
    }
    let server = Server::start(served, |_| Act::Serve);
    let scratch = tempdir().unwrap();
    let mut number = 0;
    let mut converted = |address: &str, options: &[&str]| {
        number += 1;
        let output = path(&format!("{number}.gguf"));
        let mut run = on(&server, "convert", address);
        run.arg("-o").arg(&output).args(["--no-sync"]).args(options).env("TMPDIR", scratch.path());
        let done = run.output().unwrap();
        assert!(listing(scratch.path()).is_empty());
        (done, fs::read(output).ok())
    };
    let url = |name: &str| server.url(&format!("/files/{name}"));
    for (address, options) in [
        ("hf://org/tiny-llama2".to_owned(), &["-t", "q8_0"][..]),
        ("hf://org/tiny-llama2@main".to_owned(), &["-t", "q8_0"]),
        (server.url("/org/tiny-llama2/resolve/main/config.json"), &["-t", "q8_0"]),
        (url("m.gguf"), &["-t", "auto"]),
        (format!("{}?key=1", url("m.gguf")), &["-t", "auto"]),
        (url("s-00001-of-00003.gguf"), &["-t", "auto"]),
    ] {
        let (done, bytes) = converted(&address, options);
        assert!(done.status.success(), "{address}: {}", stderr(&done));
        assert!(bytes.unwrap() == whole, "{address}");
    }
    // A folder of grouped integers is made of the same files.
    let grouped = ["-t", "int4_sym", "--group-size", "64", "--quiet", "--no-sync", "-o"];
    done(quantwright().arg("convert").arg(fixture("tiny-llama2")).args(grouped).arg(path("near")));
    done(on(&server, "convert", "hf://org/tiny-llama2").args(grouped).arg(path("far")));
    let names = |folder: &str| -> BTreeMap<_, _> {
        let named =
            |(path, bytes): (std::path::PathBuf, _)| (path.file_name().unwrap().to_owned(), bytes);
        listing(&path(folder)).into_iter().map(named).collect()
    };
    assert!(names("near").iter().all(|(name, bytes)| {
        // Files that no model needs are not looked for.
        names("far").get(name).map_or(!bytes.is_empty(), |far| far == bytes)
    }));
    assert!(names("far").contains_key(std::ffi::OsStr::new("tokenizer.model")));
    // One shard takes the bytes that it needs.
    let before = server.served();
    let (done, _) = converted("hf://org/tiny-llama2", &["-t", "q8_0", "--shard", "4/6"]);
    assert!(done.status.success() && server.served() - before < 2 << 20, "{}", stderr(&done));

    // Refusals name the address, not the folder that stands for it, nor what gives access.
    for (address, says) in [
        (
            "hf://org/none".to_owned(),
            &["hf://org/none", "no config.json", "hf://ORG/NAME/FILE.gguf"][..],
        ),
        ("hf://org".to_owned(), &["hf://org", "expected hf://ORG/NAME"]),
        ("s3://bucket/m".to_owned(), &["s3://bucket/m: s3:// is not read", "presigned URLs"]),
        (url("none.gguf"), &["/files/none.gguf", "no such file"]),
        (url("empty.gguf"), &["/files/empty.gguf", "an empty file"]),
        (url("s-00002-of-00003.gguf"), &["is shard 2 of 3"]),
        (
            format!("{}?key=hidden", url("none.gguf")),
            &["/files/none.gguf: the server has no such file"],
        ),
        (
            "http://127.0.0.1:1/m".to_owned(),
            &["http://127.0.0.1:1/m/config.json", "given up after 2 tries"],
        ),
        ("https://name:word@host/m".to_owned(), &["passwords are not taken"]),
    ] {
        let (done, bytes) = converted(&address, &[]);
        assert_eq!(refused(&done, says), Vec::<String>::new(), "{address}: {}", stderr(&done));
        assert!(bytes.is_none() && !stderr(&done).contains("hidden"));
    }
    let (done, _) = converted("hf://org/tiny-llama2", &["--pre-tokenizer", "llama-bpe"]);
    assert!(!stderr(&done).contains("quantwright-"), "{}", stderr(&done));
}

#[test]
fn a_damaged_file_far_away_is_refused_as_one_nearby_is() {
    let mut served = files("tiny-llama2", "/tiny-llama2");
    let config = String::from_utf8(served["/tiny-llama2/config.json"].clone()).unwrap();
    let config = config.replace("\"num_hidden_layers\": ", "\"num_hidden_layers\": -");
    served.insert("/tiny-llama2/config.json".into(), config.into_bytes());
    let huge = served.keys().find(|name| name.contains("-00002-of-")).unwrap().clone();
    let server = Server::start(served.clone(), |_| Act::Serve);
    let refusal = |address: &str, says: &[&str]| {
        let done = on(&server, "convert", address).args(["--dry-run"]).output().unwrap();
        assert_eq!(refused(&done, says), Vec::<String>::new(), "{}", stderr(&done));
    };
    refusal(
        &server.url("/tiny-llama2"),
        &[&server.url("/tiny-llama2/config.json"), "num_hidden_layers"],
    );
    // A header that would be longer than the file.
    let mut served = files("tiny-llama2", "/tiny-llama2");
    served.get_mut(&huge).unwrap()[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let server = Server::start(served, |_| Act::Serve);
    let done = on(&server, "inspect", &server.url("/tiny-llama2")).output().unwrap();
    assert_eq!(refused(&done, &[&server.url(&huge), "header"]), Vec::<String>::new());
}

#[test]
fn no_more_is_fetched_ahead_than_the_window_holds() {
    let size = 8u64 << 20;
    let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    let served = BTreeMap::from([("/x.gguf".to_owned(), bytes.clone())]);
    let server = Server::start(served, |_| Act::Serve);
    let address = Address::parse(&server.url("/x.gguf")).unwrap().unwrap();
    let options = hasty();
    let most = (options.window + (64 << 10)) as u64;
    let model = Model::open(&address, options, tempdir().unwrap().path()).unwrap();
    let file = &model.files()[0];
    assert_eq!(file.len(), size);
    file.will_read(0..size);
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.served() < most / 2 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(100));
    assert!(server.served() <= most, "{} bytes", server.served());
    // Reads in and out of order, of what was announced and what was read before.
    let mut out = vec![0; 100_000];
    let offsets = (0..80).map(|n| n * 100_000);
    for offset in offsets.chain([7_000_000, 3, 65_530, 8_000_000, 500_000]) {
        let out = &mut out[..(size - offset).min(100_000) as usize];
        file.read_exact_at(out, offset).unwrap();
        assert!(*out == bytes[offset as usize..offset as usize + out.len()], "{offset}");
    }
    assert!(file.read_exact_at(&mut out, size - 10).is_err());
}
