//! Split outputs: read back as one model they are the unsplit conversion.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
};

use common::fixture;
use gguf_io::{GgufFile, Limits, WriteAt};
use quant_convert::{
    Control, Error, Options, Plan, Progress, Split, open,
    recipe::{FileType, Request},
};

fn options(split: Option<Split>) -> Options {
    Options {
        request: Request::new(FileType::Q4_K_M),
        no_sync: true,
        threads: 2,
        split,
        ..Options::default()
    }
}

/// Converts, and returns the files there are then.
fn convert(input: &Path, output: &Path, split: Option<Split>) -> Vec<String> {
    let options = options(split);
    let plan = Plan::new(open(input, &options).unwrap(), &options).unwrap();
    let planned: Vec<_> = plan.shards().into_iter().flatten().collect();
    let (paths, total) = (plan.paths(output), plan.total_bytes());
    plan.run(output, Control::default()).unwrap();
    let sizes: Vec<u64> = paths.iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    assert_eq!(sizes.iter().sum::<u64>(), total);
    if split.is_some() {
        assert_eq!(planned.iter().map(|shard| shard.bytes).collect::<Vec<_>>(), sizes);
    }
    files(output.parent().unwrap())
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Metadata but for the keys of a split, and name, type, shape and data of every tensor.
fn contents(first: &Path) -> (Vec<String>, Vec<(String, Vec<u8>)>) {
    let model = GgufFile::open(first, &Limits::default()).unwrap();
    model.check_data().unwrap();
    let pairs = model.metadata.iter().filter(|(key, _)| !key.starts_with("split."));
    let pairs = pairs.map(|(key, value)| format!("{key} {value:?}")).collect();
    let mut tensors: Vec<_> = model
        .tensors
        .iter()
        .map(|t| {
            let mut data = vec![0; t.bytes as usize];
            model.files[t.file].read_exact_at(&mut data, t.offset).unwrap();
            (format!("{} {:?} {:?}", t.name, t.ty, t.shape), data)
        })
        .collect();
    tensors.sort();
    (pairs, tensors)
}

#[test]
fn a_split_model_is_the_unsplit_one() {
    let whole = tempfile::tempdir().unwrap();
    let whole = whole.path().join("whole.gguf");
    convert(&fixture("tiny-llama2"), &whole, None);
    for (split, count) in [
        (Split::MaxTensors(8), 3),
        (Split::MaxTensors(1), 21),
        (Split::MaxTensors(100), 1),
        (Split::MaxBytes(400_000), 4),
        (Split::MaxBytes(1), 21),
        // The checkpoint has three files.
        (Split::Keep, 3),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let names = convert(&fixture("tiny-llama2"), &dir.path().join("m.gguf"), Some(split));
        let expected: Vec<_> =
            (1..=count).map(|i| format!("m-{i:05}-of-{count:05}.gguf")).collect();
        assert_eq!(names, expected, "{split:?}");
        let first = dir.path().join(&names[0]);
        assert!(contents(&first) == contents(&whole), "{split:?}");
        // ... and converts on to one file, or file by file.
        let options = Options { allow_requantize: true, ..options(None) };
        let model = open(&first, &options).unwrap();
        let again = dir.path().join("again.gguf");
        Plan::new(model, &options).unwrap().run(&again, Control::default()).unwrap();
        assert!(contents(&again) == contents(&whole), "{split:?}");
    }
}

#[test]
fn files_of_a_split_model_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { request: Request::new(FileType::F32), ..options(None) };
    let options = Options { split: Some(Split::MaxTensors(8)), ..options };
    let plan = Plan::new(open(&fixture("tiny-llama2"), &options).unwrap(), &options).unwrap();
    let first = plan.paths(&dir.path().join("f32.gguf")).remove(0);
    plan.run(&dir.path().join("f32.gguf"), Control::default()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let names = convert(&first, &out.path().join("kept"), Some(Split::Keep));
    assert_eq!(names.len(), 3);
    let (kept, source) = (out.path().join(&names[0]), first);
    let limits = Limits::default();
    let files = |path: &Path| {
        let model = GgufFile::open(path, &limits).unwrap();
        model.tensors.iter().map(|t| (t.file, t.name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(files(&kept), files(&source));
    // An input of one file has no keys of a split.
    let whole = tempfile::tempdir().unwrap();
    convert(&fixture("tiny-llama2"), &whole.path().join("w.gguf"), None);
    let options = Options { split: Some(Split::Keep), ..Options::default() };
    let model = open(&whole.path().join("w.gguf"), &options).unwrap();
    let plan = Plan::new(model, &options).unwrap();
    plan.run(&whole.path().join("again.gguf"), Control::default()).unwrap();
    assert_eq!(files_in(whole.path()), ["again-00001-of-00001.gguf", "w.gguf"]);
    let again = GgufFile::open(&whole.path().join("again-00001-of-00001.gguf"), &limits).unwrap();
    assert!(again.metadata.iter().all(|(key, _)| !key.starts_with("split.")));
}

fn files_in(dir: &Path) -> Vec<String> {
    files(dir)
}

#[test]
fn a_set_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("m.gguf");
    // One of the shards is there already.
    fs::write(dir.path().join("m-00002-of-00003.gguf"), "old").unwrap();
    let options = options(Some(Split::MaxTensors(8)));
    let plan = || Plan::new(open(&fixture("tiny-llama2"), &options).unwrap(), &options).unwrap();
    let error = plan().run(&output, Control::default()).unwrap_err();
    assert!(error.to_string().contains("m-00002-of-00003.gguf: exists already"), "{error}");
    assert_eq!(files(dir.path()), ["m-00002-of-00003.gguf"]);
    // Cancelled on the way.
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let stop = |_: Progress<'_>| cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let control = Control { progress: Some(&stop), cancel: Some(&cancel) };
    let other = dir.path().join("other.gguf");
    let error = plan().run(&other, control).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(files(dir.path()), ["m-00002-of-00003.gguf"]);
    // With leave to replace, it does.
    let options = Options { overwrite: true, ..options };
    let plan = Plan::new(open(&fixture("tiny-llama2"), &options).unwrap(), &options).unwrap();
    plan.run(&output, Control::default()).unwrap();
    assert_eq!(files(dir.path()).len(), 3);
    // A shard of the input is not replaced.
    let first = dir.path().join("m-00001-of-00003.gguf");
    let options = Options { allow_requantize: true, ..options };
    let plan = Plan::new(open(&first, &options).unwrap(), &options).unwrap();
    let error = plan.run(&output, Control::default()).unwrap_err();
    assert!(matches!(error, Error::SameFile { .. }), "{error}");
}

/// Notes which file is written to.
#[derive(Debug)]
struct Noting(Box<dyn WriteAt>, usize, Arc<Mutex<Vec<usize>>>);

impl WriteAt for Noting {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.2.lock().unwrap().push(self.1);
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn shards_are_filled_side_by_side() {
    let split = Some(Split::MaxTensors(8));
    for threads in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { threads, ..options(split) };
        let plan = Plan::new(open(&fixture("tiny-llama2"), &options).unwrap(), &options).unwrap();
        let output = dir.path().join("m.gguf");
        let (log, mut file) = (Arc::new(Mutex::new(Vec::new())), 0);
        let out = plan.create(&output).unwrap().wrap_writer(|writer| {
            file += 1;
            Box::new(Noting(writer, file - 1, Arc::clone(&log)))
        });
        plan.run_into(out, Control::default()).unwrap();
        let log = log.lock().unwrap();
        assert_eq!(file, 3);
        // The last three writes are the headers.
        let data = &log[..log.len() - 3];
        // One shard after the other, the last would begin after two thirds.
        for shard in 0..file {
            let begins = data.iter().position(|written| *written == shard).unwrap();
            assert!(begins < 3 + threads, "{threads} threads: shard {shard} begins at {begins}");
        }
        let whole = tempfile::tempdir().unwrap();
        convert(&fixture("tiny-llama2"), &whole.path().join("m.gguf"), split);
        for name in files(dir.path()) {
            let same = fs::read(dir.path().join(&name)).unwrap()
                == fs::read(whole.path().join(&name)).unwrap();
            assert!(same, "{name}");
        }
    }
}
