//! A plan keeps what it found, and runs as it was made.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gguf_io::{ReadAt, SourceFile};
use quant_convert::{
    Control, Error, Ladder, Model, Options, Plan,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};
use quant_core::grouped::{GroupSize, GroupedType};

fn options(file_type: FileType) -> Options {
    Options { request: Request::new(file_type), no_sync: true, ..Options::default() }
}

fn plan(input: &Path, options: &Options) -> Plan {
    Plan::new(open(input, options).unwrap(), options).unwrap()
}

/// It removed what it reported: a run after it quantized a second time without leave.
#[test]
fn check_reports_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (once, twice) = (folder.path().join("q8_0.gguf"), folder.path().join("q2_k.gguf"));
    let q8_0 = options(FileType::Q8_0);
    let control = Control::default;
    plan(&common::fixture("tiny-llama2"), &q8_0).run(&once, control()).unwrap();

    let q2_k = options(FileType::Q2_K);
    let plan_again = plan(&once, &q2_k);
    let first = plan_again.check().unwrap_err();
    let Error::Requantize { .. } = first else { panic!("{first:?}") };
    for _ in 0..1000 {
        assert_eq!(plan_again.check().unwrap_err().to_string(), first.to_string());
    }
    assert!(matches!(plan_again.create(&twice), Err(Error::Requantize { .. })));
    assert!(matches!(plan_again.run(&twice, control()), Err(Error::Requantize { .. })));
    assert!(!twice.exists());
    // The neighbour, with leave.
    let leave = Options { allow_requantize: true, ..q2_k };
    let allowed = plan(&once, &leave);
    allowed.check().unwrap();
    allowed.run(&twice, control()).unwrap();
}

/// A plan ran with options given a second time, and did what neither of the two asked for.
#[test]
fn a_plan_runs_as_it_was_made() {
    let input = common::fixture("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let first = options(FileType::Q8_0);
    plan(&input, &first).run(&output, Control::default()).unwrap();
    let refused = plan(&input, &first);
    assert!(refused.check_output(&output).is_err());
    assert!(refused.run(&output, Control::default()).is_err());
    let replace = Options { overwrite: true, threads: 3, no_sync: false, ..first };
    plan(&input, &replace).check_output(&output).unwrap();
    plan(&input, &replace).run(&output, Control::default()).unwrap();
}

#[test]
fn a_folder_needs_a_type_of_grouped_integers() {
    let input = common::fixture("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    let with = |grouped| Options { grouped, no_sync: true, ..Options::default() };
    let new = |options: &Options| FolderPlan::new(&input, options, Control::default());
    let error = new(&with(None)).unwrap_err();
    assert!(matches!(error, Error::Grouped { .. }), "{error:?}");
    let wanted = grouped::Options {
        group_size: GroupSize::from_number(64),
        ..grouped::Options::new(GroupedType::Int4Sym)
    };
    new(&with(Some(wanted))).unwrap().run(&output, Control::default()).unwrap();
}

/// Counts the bytes that are read.
#[derive(Debug)]
struct Counting(Box<dyn ReadAt>, Arc<AtomicU64>);

impl ReadAt for Counting {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(buf, offset)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a model whose reads are counted from here on.
fn counted(input: &Path) -> (Model, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let mut model = open(input, &Options::default()).unwrap();
    let wrap = |file: SourceFile| {
        file.wrap_reader(|reader| Box::new(Counting(reader, Arc::clone(&count)))).unwrap()
    };
    model.files = model.files.into_iter().map(wrap).collect();
    (model, count)
}

/// Each file of a ladder equals that of a plan of its own, and the input is read once for all.
#[test]
fn a_ladder_reads_its_input_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let checkpoint = common::fixture("tiny-llama2");
    let blocks = path("blocks.gguf");
    plan(&checkpoint, &options(FileType::Q8_0)).run(&blocks, Control::default()).unwrap();
    let recipes = [FileType::Q2_K, FileType::Q8_0, FileType::F16, FileType::Q4_K_M];
    // Of the blocks some tensors are copied by one of the plans and restored for others.
    for (input, matrix) in [(&checkpoint, true), (&checkpoint, false), (&blocks, true)] {
        let all = recipes.map(|recipe| Options {
            imatrix: matrix.then(|| checkpoint.join("imatrix.gguf")),
            allow_requantize: true,
            threads: 3,
            overwrite: true,
            ..options(recipe)
        });
        let (model, read) = counted(input);
        let mut ladder = Ladder::new(model).unwrap();
        all.iter().for_each(|options| ladder.add(options, Control::default()).unwrap());
        let weights = ladder.source_bytes();
        let outputs: Vec<_> = (0..recipes.len()).map(|i| path(&format!("{i}.gguf"))).collect();
        ladder.run(&outputs, Control::default()).unwrap();
        assert_eq!(read.load(Ordering::Relaxed), weights, "{}", input.display());
        for (options, output) in all.iter().zip(&outputs) {
            let alone = path("alone.gguf");
            plan(input, options).run(&alone, Control::default()).unwrap();
            let same = std::fs::read(&alone).unwrap() == std::fs::read(output).unwrap();
            assert!(same, "{:?}", options.request.file_type);
        }
    }
}

/// Nothing appears of a ladder of which one file is refused.
#[test]
fn a_ladder_is_refused_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = ["a.gguf", "b.gguf"].map(|name| folder.path().join(name));
    let ladder = || {
        let mut ladder =
            Ladder::new(open(&common::fixture("tiny-llama2"), &Options::default()).unwrap())
                .unwrap();
        for recipe in [FileType::Q8_0, FileType::F16] {
            ladder.add(&options(recipe), Control::default()).unwrap();
        }
        ladder
    };
    let error = ladder().run(&outputs[..1], Control::default()).unwrap_err();
    assert_eq!(error.to_string(), "2 conversions have 1 outputs; give each its own");
    let stop = AtomicBool::new(true);
    let control = Control { cancel: Some(&stop), ..Control::default() };
    assert!(matches!(ladder().run(&outputs, control), Err(Error::Cancelled)));
    std::fs::write(&outputs[1], "mine").unwrap();
    assert!(ladder().run(&outputs, Control::default()).is_err());
    assert!(!outputs[0].exists() && std::fs::read(&outputs[1]).unwrap() == b"mine");
    std::fs::remove_file(&outputs[1]).unwrap();
    ladder().run(&outputs, Control::default()).unwrap();
    assert!(outputs.iter().all(|output| output.exists()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
