//! A conversion in which any one operation fails: a typed error, and no trace of it on the disk.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use gguf_io::{GgufFile, Limits, ReadAt, SourceFile, WriteAt};
use quant_convert::{
    Control, Error, Options, Plan, Split, gguf_input,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};
use quant_core::grouped::{GroupSize, GroupedType};
use serde_json::Value as Json;
use tempfile::TempDir;

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It fails with an error of this kind or number.
    Kind(io::ErrorKind),
    Number(i32),
    /// It does one byte.
    Short,
    /// It does nothing and says so.
    Nothing,
    /// It is interrupted by a signal.
    Interrupted,
}

const EIO: i32 = 5;

impl Fault {
    /// Whether the operation is to be tried again, so that nothing is lost.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Short | Self::Interrupted)
    }

    fn strike(self, len: usize, go: impl FnOnce(usize) -> io::Result<usize>) -> io::Result<usize> {
        match self {
            Self::Kind(kind) => Err(kind.into()),
            Self::Number(number) => Err(io::Error::from_raw_os_error(number)),
            Self::Short => go(len.min(1)),
            Self::Nothing => Ok(0),
            Self::Interrupted => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

/// Counts operations down to the one that fails.
#[derive(Clone, Debug)]
struct Bomb {
    left: Arc<AtomicUsize>,
    fault: Fault,
}

impl Bomb {
    fn new(at: usize, fault: Fault) -> Self {
        Self { left: Arc::new(AtomicUsize::new(at)), fault }
    }

    fn goes_off(&self) -> bool {
        self.left.fetch_sub(1, SeqCst) == 0
    }

    /// Operations done, of a bomb that was set to the largest number.
    fn count(&self) -> usize {
        usize::MAX - self.left.load(SeqCst)
    }
}

#[derive(Debug)]
struct Reader(Box<dyn ReadAt>, Bomb);

impl ReadAt for Reader {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.1.goes_off() {
            let len = buf.len();
            return self.1.fault.strike(len, |n| self.0.read_at(&mut buf[..n], offset));
        }
        self.0.read_at(buf, offset)
    }
}

#[derive(Debug)]
struct Writer(Box<dyn WriteAt>, Bomb);

impl WriteAt for Writer {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if self.1.goes_off() {
            return self.1.fault.strike(buf.len(), |n| self.0.write_at(&buf[..n], offset));
        }
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.1.goes_off() && !self.1.fault.is_harmless() {
            return match self.1.fault.strike(0, |_| Ok(0)) {
                // There is no flush that does nothing and says so.
                Ok(_) => Err(io::Error::from_raw_os_error(EIO)),
                Err(error) => Err(error),
            };
        }
        self.0.sync()
    }
}

/// All files below a folder, by their paths in it; a folder that is empty is one without bytes.
fn listing(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            let inside = listing(&path);
            if inside.is_empty() {
                found.insert(name, vec![]);
            } else {
                found.extend(inside.into_iter().map(|(path, bytes)| (name.join(path), bytes)));
            }
        } else {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

fn clear(folder: &Path) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
}

/// A conversion of either kind of input with a bomb in its reads and one in its writes.
fn convert(
    input: &Path,
    output: &Path,
    threads: usize,
    overwrite: bool,
    split: Option<Split>,
    bombs: [&Bomb; 2],
) -> Result<(), Error> {
    let options = Options {
        request: Request::new(FileType::Q8_0),
        threads,
        overwrite,
        split,
        ..Options::default()
    };
    let wrap = |file: SourceFile| file.wrap_reader(|r| Box::new(Reader(r, bombs[0].clone())));
    let model = if input.is_dir() {
        let mut model = open(input, &options)?;
        model.files = model.files.into_iter().map(wrap).collect::<Result<_, _>>()?;
        model
    } else {
        // Here the header is read through the bomb as well.
        let file = wrap(SourceFile::open(input)?)?;
        gguf_input::read(GgufFile::read(file, &Limits::default())?)?
    };
    let plan = Plan::new(model, &options)?;
    let out = plan.create(output)?;
    let out = out.wrap_writer(|w| Box::new(Writer(w, bombs[1].clone())));
    plan.run_into(out, Control::default())
}

/// A conversion of the grouped kind, whose output is a folder.
fn convert_to_folder(
    input: &Path,
    output: &Path,
    threads: usize,
    overwrite: bool,
    bombs: [&Bomb; 2],
) -> Result<(), Error> {
    let options = Options { threads, overwrite, ..Options::default() };
    let how = grouped::Options {
        group_size: GroupSize::from_number(64),
        ..grouped::Options::new(GroupedType::Int4Asym)
    };
    let wrap = |file: SourceFile| file.wrap_reader(|r| Box::new(Reader(r, bombs[0].clone())));
    let plan = FolderPlan::new(
        input,
        &Options { grouped: Some(how), ..options.clone() },
        Control::default(),
    )?
    .wrap_files(wrap)?;
    plan.run_with(output, Control::default(), |w| Box::new(Writer(w, bombs[1].clone())))
}

/// What an operation on a file is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Read,
    Write,
}

/// A conversion, given its output and whether to replace it, with a bomb in its reads and one in its writes.
type Convert<'a> = dyn Fn(&Path, bool, [&Bomb; 2]) -> Result<(), Error> + Sync + 'a;

/// A folder for conversions of one input, and what comes of them without a fault.
struct Trial<'a> {
    input: &'a Path,
    folder: TempDir,
    convert: &'a Convert<'a>,
    good: &'a BTreeMap<PathBuf, Vec<u8>>,
}

impl Trial<'_> {
    /// What is wrong with a conversion whose operation `at` has a fault.
    fn problem(&self, operation: Operation, at: usize, fault: Fault) -> Option<String> {
        let (folder, overwrite) = (self.folder.path(), at.is_multiple_of(2));
        clear(folder);
        for path in self.good.keys().filter(|_| overwrite).map(|path| folder.join(path)) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "the old file").unwrap();
        }
        let before = listing(folder);
        let never = Bomb::new(usize::MAX, Fault::Nothing);
        let bomb = Bomb::new(at, fault);
        let bombs = if operation == Operation::Read { [&bomb, &never] } else { [&never, &bomb] };
        let problem = match (self.convert)(&folder.join("m.gguf"), overwrite, bombs) {
            Ok(()) if !fault.is_harmless() => "succeeded".to_owned(),
            Ok(()) if listing(folder) != *self.good => "another result".to_owned(),
            Ok(()) => return None,
            Err(error) => {
                let text = error.to_string();
                // The error names the file, on one line; in a folder, that of the temporary one.
                let mut outputs = self.good.keys().map(|path| folder.join(path));
                let named = outputs.any(|path| text.contains(path.to_str().unwrap()))
                    || text.contains(".m.gguf.quantwright-")
                    || text.contains(self.input.to_str().unwrap());
                let left = listing(folder);
                if fault.is_harmless() || !matches!(error, Error::Files(_)) {
                    format!("{error:?}")
                } else if !named || text.chars().any(char::is_control) {
                    text
                } else if left != before {
                    format!("left {:?}: {text}", left.keys())
                } else {
                    return None;
                }
            }
        };
        Some(format!("{operation:?} {at} {fault:?}: {problem}"))
    }
}

/// Runs a conversion with each fault at each operation, on two threads; returns the number of runs.
fn matrix(what: &str, input: &Path, convert: &Convert<'_>) -> usize {
    let folder = TempDir::new().unwrap();
    let counting = [Bomb::new(usize::MAX, Fault::Nothing), Bomb::new(usize::MAX, Fault::Nothing)];
    convert(&folder.path().join("m.gguf"), false, [&counting[0], &counting[1]]).unwrap();
    let good = &listing(folder.path());
    let [reads, writes] = counting.map(|bomb| bomb.count());
    assert!(reads > 20 && writes > 20, "{reads} {writes}");

    let faults = [Fault::Number(EIO), Fault::Short, Fault::Nothing, Fault::Interrupted];
    let full = Fault::Kind(io::ErrorKind::StorageFull);
    let of_reads = (0..reads).flat_map(|at| faults.map(|fault| (Operation::Read, at, fault)));
    let of_writes = (0..writes).flat_map(|at| {
        faults.into_iter().chain([full]).map(move |fault| (Operation::Write, at, fault))
    });
    let runs: Vec<_> = of_reads.chain(of_writes).collect();
    let (next, failures) = (&AtomicUsize::new(0), &Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let trial = Trial { input, folder: TempDir::new().unwrap(), convert, good };
                while let Some(&(operation, at, fault)) = runs.get(next.fetch_add(1, SeqCst)) {
                    failures.lock().unwrap().extend(trial.problem(operation, at, fault));
                }
            });
        }
    });
    let failures = failures.lock().unwrap();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), runs.len(), failures.join("\n"));
    println!("{what}: {} faults ({reads} reads, {writes} writes), all survived", runs.len());
    runs.len()
}

/// tiny-llama2 in three shards, with one of its layers: a second has no operations of another kind.
fn one_layer() -> TempDir {
    let (from, folder) = (common::fixture("tiny-llama2"), TempDir::new().unwrap());
    let is_left = |name: &String| !name.contains(".layers.1.");
    let json = |bytes: &[u8]| serde_json::from_slice::<Json>(bytes).unwrap();
    for entry in fs::read_dir(&from).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let mut bytes = fs::read(from.join(&name)).unwrap();
        if name == "config.json" {
            let mut config = json(&bytes);
            config["num_hidden_layers"] = 1.into();
            bytes = config.to_string().into_bytes();
        } else if name == "model.safetensors.index.json" {
            let mut index = json(&bytes);
            index["weight_map"].as_object_mut().unwrap().retain(|name, _| is_left(name));
            bytes = index.to_string().into_bytes();
        } else if name.starts_with("model-") {
            let (len, rest) = bytes.split_first_chunk().unwrap();
            let (header, values) = rest.split_at(u64::from_le_bytes(*len) as usize);
            let mut header = json(header);
            let (header, mut left) = (header.as_object_mut().unwrap(), Vec::new());
            header.retain(|name, _| is_left(name));
            for (_, entry) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
                let [start, end] =
                    [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize);
                entry["data_offsets"] = [left.len(), left.len() + end - start].into();
                left.extend(&values[start..end]);
            }
            let header = serde_json::to_vec(header).unwrap();
            bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &left].concat();
        }
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn any_operation_of_a_conversion_from_a_checkpoint_may_fail() {
    let input = one_layer();
    let run = |output: &Path, overwrite, bombs: [&Bomb; 2]| {
        convert(input.path(), output, 1, overwrite, None, bombs)
    };
    assert!(matrix("checkpoint to GGUF", input.path(), &run) > 200);
}

#[test]
fn any_operation_of_a_conversion_to_a_folder_may_fail() {
    let input = one_layer();
    let run = |output: &Path, overwrite, bombs: [&Bomb; 2]| {
        convert_to_folder(input.path(), output, 1, overwrite, bombs)
    };
    assert!(matrix("checkpoint to a grouped folder", input.path(), &run) > 200);
}

#[test]
fn any_operation_of_a_conversion_from_a_gguf_file_may_fail() {
    let folder = TempDir::new().unwrap();
    let lossless = folder.path().join("f16.gguf");
    let options = Options { request: Request::new(FileType::F16), ..Options::default() };
    let model = open(one_layer().path(), &options).unwrap();
    let plan = Plan::new(model, &options).unwrap();
    plan.run(&lossless, Control::default()).unwrap();
    let run = |split| {
        let input = &lossless;
        move |output: &Path, overwrite: bool, bombs: [&Bomb; 2]| {
            convert(input, output, 2, overwrite, split, bombs)
        }
    };
    assert!(matrix("GGUF to GGUF", &lossless, &run(None)) > 200);
    // Shards appear together, or the old ones are put back.
    assert!(matrix("GGUF to shards", &lossless, &run(Some(Split::MaxTensors(8)))) > 200);
}

/// Changes an input in the middle of the run, at its fourth write.
struct Meddler<F>(Box<dyn WriteAt>, F, AtomicUsize);

impl<F> std::fmt::Debug for Meddler<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddler")
    }
}

impl<F: Fn() + Send + Sync> WriteAt for Meddler<F> {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        if self.2.fetch_add(1, SeqCst) == 3 {
            (self.1)();
        }
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Truncate(u64),
    Grow,
    Touch,
    /// The name leads to another file: the one that was opened is read to its end.
    Replace,
}

#[test]
fn an_input_that_changes_is_noticed() {
    for (change, says) in [
        (Change::Truncate(0), Some("cut short or was changed")),
        (Change::Truncate(1 << 20), Some("m.gguf")),
        (Change::Grow, Some("changed while it was read: its length was")),
        (Change::Touch, Some("changed while it was read: its modification time")),
        (Change::Replace, None),
    ] {
        let folder = TempDir::new().unwrap();
        let input = folder.path().join("m.gguf");
        let options = Options { request: Request::new(FileType::F32), ..Options::default() };
        let plan = Plan::new(open(&common::fixture("tiny-llama2"), &options).unwrap(), &options);
        plan.unwrap().run(&input, Control::default()).unwrap();

        let options = Options { request: Request::new(FileType::Q2_K), threads: 1, ..options };
        let plan = Plan::new(open(&input, &options).unwrap(), &options).unwrap();
        let output = folder.path().join("out.gguf");
        let out = plan.create(&output).unwrap();
        let (path, what) = (input.clone(), change.clone());
        let meddle = move || {
            let file = || fs::File::options().write(true).open(&path).unwrap();
            match what {
                Change::Truncate(len) => file().set_len(len).unwrap(),
                Change::Grow => file().set_len(64 << 20).unwrap(),
                Change::Touch => {
                    let then = std::time::SystemTime::UNIX_EPOCH;
                    file().set_modified(then).unwrap();
                }
                Change::Replace => {
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, "another file").unwrap();
                }
            }
        };
        let out = out.wrap_writer(|w| Box::new(Meddler(w, meddle.clone(), AtomicUsize::new(0))));
        let result = plan.run_into(out, Control::default());
        match (result, says) {
            (Ok(()), None) => assert!(GgufFile::open(&output, &Limits::default()).is_ok()),
            (Err(error @ Error::Files(_)), Some(says)) => {
                assert!(error.to_string().contains(says), "{change:?}: {error}");
                assert_eq!(listing(folder.path()).len(), 1, "{change:?}");
            }
            (result, _) => panic!("{change:?}: {result:?}"),
        }
    }
}
