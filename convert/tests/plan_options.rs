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

use gguf_io::{Imatrix, Limits, ReadAt, SourceFile};
use quant_convert::{
    Control, Conversion, Error, Ladder, Model, Options, Plan, Progress,
    grouped::{self, FolderPlan},
    mix::{Measured, Mixer, Sensitivities, Size},
    open,
    recipe::{self, FileType, Request},
};
use quant_core::{
    GgmlType,
    grouped::{GroupSize, GroupedType},
};

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

fn q4_k(folder: &Path, name: &str) -> (Conversion, std::path::PathBuf) {
    let conversion = Conversion::new(common::fixture("tiny-llama2"));
    let options = Options { no_sync: true, ..conversion.options().clone() };
    (conversion.with_options(options), folder.join(name))
}

#[test]
fn a_conversion_does_what_the_command_line_does_without_options() {
    let folder = tempfile::tempdir().unwrap();
    let (conversion, output) = q4_k(folder.path(), "a.gguf");
    let planned = conversion.plan().unwrap();
    planned.check().unwrap();
    planned.check_output(&output).unwrap();
    planned.write(&output).unwrap();
    let expected = folder.path().join("b.gguf");
    plan(&common::fixture("tiny-llama2"), &options(FileType::Q4_K_M))
        .run(&expected, Control::default())
        .unwrap();
    let bytes = std::fs::read(&output).unwrap();
    assert_eq!(bytes, std::fs::read(&expected).unwrap());
    assert_eq!(planned.total_bytes(), bytes.len() as u64);
    assert_eq!(planned.paths(&output), std::slice::from_ref(&output));
    let tensors = planned.tensors();
    assert!(tensors.iter().any(|t| t.name == "blk.0.attn_q.weight" && t.ty == "Q4_K"));
    // It is not used up, and does not replace what is there without leave.
    for _ in 0..2 {
        assert!(planned.check_output(&output).is_err());
        let error = planned.write(&output).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
    }
    planned.write(folder.path().join("c.gguf")).unwrap();
}

#[test]
fn progress_is_told_in_order_and_up_to_the_total() {
    let folder = tempfile::tempdir().unwrap();
    let (conversion, output) = q4_k(folder.path(), "a.gguf");
    let planned = conversion.threads(4).plan().unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let names: Vec<_> = planned.tensors().iter().map(|t| t.name.to_owned()).collect();
    let progress = |now: Progress<'_>| {
        assert!(names.iter().any(|name| name == now.tensor), "{}", now.tensor);
        told.lock().unwrap().push((now.done, now.total));
    };
    let control = Control { progress: Some(&progress), cancel: None };
    planned.write_with(&output, control).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    assert!(told.iter().all(|(_, total)| *total == planned.source_bytes()));
    assert_eq!(told.last().unwrap().0, planned.source_bytes());

    // Cancelled by the first call: nothing is there, and the plan can be written later.
    let (cancel, other) = (AtomicBool::new(false), folder.path().join("other.gguf"));
    let stop = |_: Progress<'_>| cancel.store(true, Ordering::Relaxed);
    let control = Control { progress: Some(&stop), cancel: Some(&cancel) };
    assert!(matches!(planned.write_with(&other, control), Err(Error::Cancelled)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    planned.write(&other).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&output).unwrap());
}

#[test]
fn an_importance_matrix_may_be_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = common::fixture("tiny-llama2").join("imatrix.gguf");
    let matrix = Imatrix::open(&path, &Limits::default()).unwrap();
    let (conversion, from_file) = q4_k(folder.path(), "file.gguf");
    conversion.imatrix(&path).plan().unwrap().write(&from_file).unwrap();
    let (conversion, from_memory) = q4_k(folder.path(), "memory.gguf");
    conversion.importance(&path, matrix.clone()).plan().unwrap().write(&from_memory).unwrap();
    assert!(std::fs::read(&from_file).unwrap() == std::fs::read(&from_memory).unwrap());

    // Its name is that of no file: metadata tells it, and nothing is opened.
    let (conversion, other) = q4_k(folder.path(), "other.gguf");
    let conversion = conversion.importance("measured just now", matrix.clone());
    conversion.plan().unwrap().write(&other).unwrap();
    let written = gguf_io::GgufFile::open(&other, &Limits::default()).unwrap();
    let name = written.metadata.get_str("quantize.imatrix.file");
    assert_eq!(name, Some("measured just now"));

    let again = Imatrix::from_entries(matrix.entries.clone()).unwrap();
    assert_eq!(again.entries, matrix.entries);
    let (name, mut entry) = matrix.entries.into_iter().next().unwrap();
    entry.values[3] = -1.0;
    let error = Imatrix::from_entries([(name.clone(), entry.clone())]).unwrap_err();
    assert!(error.to_string().contains("-1 as value 3"), "{error}");
    entry.values[3] = 0.0;
    assert!(Imatrix::from_entries([(name.clone(), entry.clone())]).is_ok());
    entry.matrices = 3;
    assert!(Imatrix::from_entries([(name, entry)]).is_err());
}

#[test]
fn a_folder_is_planned_and_written_by_the_same_calls() {
    let folder = tempfile::tempdir().unwrap();
    let (conversion, output) = q4_k(folder.path(), "int8");
    let grouped = grouped::Options::new(GroupedType::Int8Sym);
    let planned = conversion.clone().grouped(grouped).folder(true).plan().unwrap();
    assert!(planned.tensors().iter().any(|t| t.ty == "INT8_SYM"));
    planned.write(&output).unwrap();
    assert!(output.join("config.json").is_file());
    assert!(planned.write(&output).is_err());
    assert!(matches!(conversion.folder(true).plan(), Err(Error::Grouped { .. })));
}

fn mixer(input: &Path, options: &Options, candidates: &[GgmlType]) -> Mixer {
    let mut mixer = Mixer::new(open(input, options).unwrap(), options, candidates).unwrap();
    mixer.measure(Control::default()).unwrap();
    mixer
}

/// A file for a size is never larger, and nearly as large; the header counts.
#[test]
fn a_mix_fits_the_size() {
    let input = common::fixture("tiny-llama2");
    for matrix in [false, true] {
        let imatrix = matrix.then(|| input.join("imatrix.gguf"));
        let given = Options { imatrix, ..options(FileType::Q4_K_M) };
        let mixer = mixer(&input, &given, &[]);
        for size in [800_000, 900_001, 1_000_037, 1_200_000, 1_500_000, 2_100_000, 9_000_000] {
            let asked = Size::Bytes(size);
            let (mix, plan) = mixer.plan_for(asked, None, Control::default()).unwrap();
            let bytes = plan.total_bytes();
            assert!(bytes <= size, "{bytes} of {size}");
            assert!(bytes > size - size / 50 || size > 4_000_000, "{bytes} of {size}");
            let types: std::collections::HashMap<_, _> = mix.types().collect();
            for layer in 0..2 {
                let ty = |what: &str| types[format!("blk.{layer}.{what}.weight").as_str()];
                assert_eq!(ty("ffn_gate"), ty("ffn_up"));
            }
            // Nothing is lost where everything fits.
            assert_eq!(mix.expected_loss == 0.0, size > 4_000_000);
        }
        for bits in [3.5, 4.5, 6.0] {
            let asked = Size::BitsPerWeight(bits);
            let (_, plan) = mixer.plan_for(asked, None, Control::default()).unwrap();
            let found = plan.bits_per_weight();
            assert!(found <= bits && found > bits * 0.97, "{found} of {bits}");
        }
    }
}

#[test]
fn the_smallest_size_is_told() {
    let input = common::fixture("tiny-llama2");
    let given = options(FileType::Q4_K_M);
    let mixer = mixer(&input, &given, &[GgmlType::Q4_K, GgmlType::Q6_K]);
    let error = mixer.check(Size::Bytes(500_000)).unwrap_err();
    let Error::TooSmall { smallest, .. } = error else { panic!("{error}") };
    assert!(mixer.check(Size::Bytes(smallest - 1)).is_err());
    let asked = Size::Bytes(smallest);
    let (mix, plan) = mixer.plan_for(asked, None, Control::default()).unwrap();
    assert_eq!(plan.total_bytes(), smallest);
    assert!(mix.types().all(|(_, ty)| ty == GgmlType::Q4_K));
    let error = mixer.check(Size::BitsPerWeight(1.0)).unwrap_err().to_string();
    assert!(error.contains("no mix of the types has 1 bits per weight: the smallest has 4.5"));
}

/// A saved mix makes the same file, and what options name stays as they say.
#[test]
fn a_mix_is_an_ordinary_conversion() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let input = common::fixture("tiny-llama3");
    let named = recipe::parse_tensor_types("attn_v=q8_0", "the test").unwrap();
    let request = Request { overrides: named, ..Request::new(FileType::Q4_K_M) };
    let given =
        Options { request, imatrix: Some(input.join("imatrix.gguf")), ..options(FileType::Q4_K_M) };
    let mixer = mixer(&input, &given, &[]);
    let mut sensitivities = Sensitivities::new("text".into(), 1);
    let measured = Measured { error: 1e-3, loss: 9.0 };
    sensitivities.insert("blk.1.ffn_down.weight", GgmlType::Q4_K, measured);
    let asked = Size::Bytes(900_000);
    let (mix, plan) = mixer.plan_for(asked, Some(&sensitivities), Control::default()).unwrap();
    let best = mix.types().find(|(name, _)| *name == "blk.1.ffn_down.weight").unwrap().1;
    assert!(mix.types().filter(|(name, _)| name.contains("ffn_up")).all(|(_, ty)| ty != best));
    assert!(mix.types().all(|(name, _)| !name.contains("attn_v")));
    let values = plan.tensors().filter(|tensor| tensor.name.contains("attn_v"));
    assert_eq!(values.map(|tensor| tensor.ty).collect::<Vec<_>>(), [GgmlType::Q8_0; 2]);
    let file_type = plan.file_type().unwrap();
    plan.run(&path("mix.gguf"), Control::default()).unwrap();
    std::fs::write(path("mix.txt"), mix.to_file()).unwrap();
    let mut overrides = given.request.overrides.clone();
    overrides.extend(recipe::read_tensor_type_file(&path("mix.txt")).unwrap());
    let request = Request { overrides, ..Request::new(file_type) };
    let again = Options { request, ..given };
    crate::plan(&input, &again).run(&path("again.gguf"), Control::default()).unwrap();
    let same =
        std::fs::read(path("mix.gguf")).unwrap() == std::fs::read(path("again.gguf")).unwrap();
    assert!(same);
}
