//! Editing, splitting, merging and hashing files, whatever is in them.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

mod common;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use common::{Gguf, array, assert_error, pair, tensor, text};
use gguf_io::{
    AnyGguf, AtomicFile, AtomicSet, GgufFile, Limits, Metadata, OutputOptions, SourceFile, Split,
    Value, WriteAt,
    gguf::{
        edit::{self, Change, Edit, PADDING},
        hash,
        regroup::Regrouping,
    },
};

const NEW: OutputOptions = OutputOptions { overwrite: false, sync: true };
const F32: u32 = 0;
/// A number that no program gives to a type.
const UNKNOWN: u32 = 9999;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// An image model of nobody's, with types that only its program knows: five tensors in 224 bytes.
fn file() -> Vec<u8> {
    let header = Gguf::new()
        .pair(pair("general.architecture", 8, text("flux")))
        .pair(pair("general.name", 8, text("a name")))
        .pair(pair("nobody.knows", 9, array(8, 2, [text("a"), text("b")].concat())))
        .tensor(tensor("a", &[8], F32, 0))
        .tensor(tensor("b", &[40], UNKNOWN, 32))
        .tensor(tensor("c", &[1, 2, 1], F32, 96))
        .tensor(tensor("d", &[3, 5], UNKNOWN, 128))
        .tensor(tensor("e", &[16], F32, 160));
    let mut bytes = header.data(224).build();
    let start = bytes.len() - 224;
    for (i, byte) in bytes.iter_mut().enumerate().skip(start) {
        *byte = (i - start) as u8;
    }
    // The padding of c.
    bytes[start + 104..start + 128].fill(0);
    bytes
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn open(path: &Path) -> AnyGguf {
    let model = AnyGguf::open_any(path, &Limits::default()).unwrap();
    model.check_any().unwrap();
    model
}

fn edited(model: &AnyGguf, changes: &[Change]) -> Metadata {
    let mut metadata = model.metadata.clone();
    edit::apply(&mut metadata, changes).unwrap();
    metadata
}

fn set(key: &str, value: impl Into<Value>) -> Change {
    Change::Set(key.into(), value.into())
}

fn data(path: &Path) -> Vec<Vec<u8>> {
    let model = open(path);
    let read = |t: &gguf_io::AnyTensor| {
        let mut bytes = vec![0; t.bytes as usize];
        model.files[t.file].read_exact_at(&mut bytes, t.offset).unwrap();
        bytes
    };
    model.tensors.iter().map(read).collect()
}

/// Fails at one of its operations.
#[derive(Debug)]
struct Failing {
    inner: Box<dyn WriteAt>,
    left: Arc<AtomicUsize>,
}

impl Failing {
    fn step(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, SeqCst) {
            0 => Err(io::Error::other("injected")),
            _ => Ok(()),
        }
    }
}

impl WriteAt for Failing {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.step()?;
        self.inner.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()?;
        self.inner.sync()
    }
}

#[test]
fn tensors_of_unknown_types_have_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(dir.path(), "m.gguf", &file());
    assert_error(GgufFile::open(&path, &Limits::default()), "Unsupported", &["9999"]);
    let model = open(&path);
    let bytes: Vec<_> = model.tensors.iter().map(|t| (t.bytes, t.type_name())).collect();
    let unknown = || "type 9999".to_owned();
    let f32 = || "F32".to_owned();
    assert_eq!(bytes, [(32, f32()), (64, unknown()), (8, f32()), (32, unknown()), (64, f32())]);
}

#[test]
fn changes_are_made_in_order_and_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let model = open(&put(dir.path(), "m.gguf", &file()));
    let metadata = edited(
        &model,
        &[
            Change::Rename("nobody.knows".into(), "somebody.knows".into()),
            set("general.name", "another"),
            set("new", vec![1u32, 2]),
            Change::Remove("general.name".into()),
            set("general.name", 7u8),
        ],
    );
    let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["general.architecture", "somebody.knows", "new", "general.name"]);
    assert_eq!(metadata.get("general.name"), Some(&Value::Uint8(7)));
    let refused = |change: Change, says: &[&str]| {
        assert_error(edit::apply(&mut model.metadata.clone(), &[change]), "Layout", says);
    };
    refused(Change::Remove("x.name".into()), &["x.name", "such as \"general.name\""]);
    refused(Change::Remove("x".into()), &["nothing to remove", "a key that is there"]);
    refused(Change::Rename("x".into(), "y".into()), &["nothing to rename"]);
    refused(
        Change::Rename("nobody.knows".into(), "general.name".into()),
        &["general.name", "free"],
    );
    for key in ["general.alignment", "split.no", "split.count", "split.tensors.count"] {
        refused(set(key, 64u32), &[key, "find the tensor data"]);
        refused(Change::Rename("general.name".into(), key.into()), &[key]);
    }
    refused(Change::Remove("general.architecture".into()), &["general.architecture"]);
    refused(set("general.architecture", 1u32), &["general.architecture"]);
    refused(Change::Rename("general.architecture".into(), "x".into()), &["general.architecture"]);
    edit::apply(&mut model.metadata.clone(), &[set("general.architecture", "sd3")]).unwrap();
    // A file that never had one keeps being without.
    edit::apply(&mut Metadata::new(), &[set("a", "b")]).unwrap();
}

#[test]
fn an_edit_leaves_the_data_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = file();
    let path = put(dir.path(), "m.gguf", &bytes);
    let model = open(&path);
    let out = dir.path().join("out.gguf");
    // Nothing changed: the same file.
    Edit::new(&model, &model.metadata).unwrap().save(&out, NEW).unwrap();
    assert_eq!(fs::read(&out).unwrap(), bytes);
    // Larger, smaller.
    for change in [set("general.name", "x".repeat(1000)), Change::Remove("nobody.knows".into())] {
        let metadata = edited(&model, &[change]);
        fs::remove_file(&out).unwrap();
        Edit::new(&model, &metadata).unwrap().save(&out, NEW).unwrap();
        let after = open(&out);
        assert_eq!(after.metadata, metadata);
        assert_eq!(data(&out), data(&path));
    }
    let edit = Edit::new(&model, &model.metadata).unwrap();
    assert_error(edit.save(&out, NEW), "Exists", &["out.gguf"]);
    assert_error(edit.save(&path, NEW), "WrongKind", &["a file that is read"]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn in_place_only_the_header_changes_where_it_fits() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = file();
    let path = put(dir.path(), "m.gguf", &bytes);
    let tensors = data(&path);
    let in_place = |changes: &[Change], fits: bool| {
        let model = open(&path);
        let mut metadata = edited(&model, changes);
        let edit = Edit::new(&model, &metadata).unwrap();
        assert_eq!(edit.fits(), fits, "{changes:?}");
        edit.in_place(true).unwrap();
        let mut after = open(&path).metadata;
        let padding = after.remove(PADDING).is_some();
        metadata.remove(PADDING);
        assert_eq!(after, metadata);
        assert_eq!(names(dir.path()), ["m.gguf"]);
        assert_eq!(data(&path), tensors);
        padding
    };
    // As long as before.
    assert!(!in_place(&[set("general.name", "b name")], true));
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    // Shorter by more than the padding key takes: filled up, and grown into again.
    assert!(in_place(&[Change::Remove("nobody.knows".into())], true));
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    in_place(&[set("general.name", "a longer name")], true);
    assert_eq!(fs::read(&path).unwrap().len(), bytes.len());
    // Longer: written anew, without the padding, for the same readers.
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let permissions = || fs::metadata(&path).unwrap().permissions();
    let before = permissions();
    assert!(!in_place(&[set("general.name", "x".repeat(300))], false));
    assert_eq!(permissions(), before);
    // A link stays one.
    #[cfg(unix)]
    {
        let link = dir.path().join("link.gguf");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let model = open(&link);
        let metadata = edited(&model, &[set("general.name", "y".repeat(600))]);
        Edit::new(&model, &metadata).unwrap().in_place(false).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(open(&path).metadata, metadata);
    }
}

#[test]
fn whatever_fails_in_place_the_old_header_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = file();
    let path = put(dir.path(), "m.gguf", &bytes);
    let change = [set("general.name", "b name")];
    // Some bytes at a time, so that a header can be written in part.
    #[derive(Debug)]
    struct Slow(fs::File);
    impl WriteAt for Slow {
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
            WriteAt::write_at(&self.0, &buf[..buf.len().min(50)], offset)
        }
        fn sync(&self) -> io::Result<()> {
            WriteAt::sync(&self.0)
        }
    }
    let slow = || Slow(fs::File::options().write(true).open(&path).unwrap());
    let mut failures = 0;
    for index in 0.. {
        let model = open(&path);
        let edit = Edit::new(&model, &edited(&model, &change)).unwrap();
        let inner: Box<dyn WriteAt> = Box::new(slow());
        // One failure, then the header can be put back.
        let once = Failing { inner, left: Arc::new(AtomicUsize::new(index)) };
        let result = edit.overwrite(&once, true);
        assert_eq!(names(dir.path()), ["m.gguf"]);
        if result.is_ok() {
            break;
        }
        failures += 1;
        assert_error(result, "Io", &["m.gguf", "as before", "injected"]);
        assert_eq!(fs::read(&path).unwrap(), bytes, "at {index}");
    }
    assert!(failures >= 5, "{failures}");
    assert_eq!(open(&path).metadata.get_str("general.name"), Some("b name"));

    // Nothing works any more, as after a crash.
    fs::write(&path, &bytes).unwrap();
    #[derive(Debug)]
    struct Dead(Slow, AtomicUsize);
    impl WriteAt for Dead {
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
            match self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => self.0.write_at(buf, offset),
                Err(_) => Err(io::Error::other("injected")),
            }
        }
        fn sync(&self) -> io::Result<()> {
            Err(io::Error::other("injected"))
        }
    }
    for writes in 0..5 {
        let model = open(&path);
        let edit = Edit::new(&model, &edited(&model, &change)).unwrap();
        let dead = Dead(slow(), AtomicUsize::new(writes));
        assert_error(edit.overwrite(&dead, true), "Io", &["m.gguf", "was cut off"]);
        for opened in [
            GgufFile::open(&path, &Limits::default()).map(drop),
            AnyGguf::open_any(&path, &Limits::default()).map(drop),
        ] {
            assert_error(opened, "NotAModel", &["whose edit was cut off", "in place again"]);
        }
        assert!(edit::restore(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(names(dir.path()), ["m.gguf"]);
        assert!(!edit::restore(&path).unwrap());
    }
    // Through a link the old header lies beside the file, so that both names know of the cut.
    #[cfg(unix)]
    {
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link.gguf");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let model = open(&link);
        let edit = Edit::new(&model, &edited(&model, &change)).unwrap();
        let dead = Dead(slow(), AtomicUsize::new(1));
        edit.overwrite(&dead, true).unwrap_err();
        for path in [&path, &link] {
            let opened = AnyGguf::open_any(path, &Limits::default());
            assert_error(opened, "NotAModel", &["whose edit was cut off"]);
        }
        assert!(edit::restore(&path).unwrap());
        assert_eq!(fs::read(&link).unwrap(), bytes);
        assert_eq!(
            (names(dir.path()), names(other.path())),
            (vec!["m.gguf".into()], vec!["link.gguf".into()])
        );
    }
    // The journal of another file is not put into this one.
    let model = open(&path);
    let dead = Dead(slow(), AtomicUsize::new(1));
    let edit = Edit::new(&model, &edited(&model, &change)).unwrap();
    edit.overwrite(&dead, true).unwrap_err();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_error(edit::restore(&path), "Changed", &["belongs to another file"]);
}

#[test]
fn shards_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = file();
    let path = put(dir.path(), "m.gguf", &bytes);
    let model = open(&path);
    for (by, count) in [
        (Split::MaxTensors(2), 3),
        (Split::MaxBytes(128), 2),
        (Split::Files(5), 5),
        (Split::Files(1), 1),
    ] {
        let split = Regrouping::split(&model, &dir.path().join("s.gguf"), by).unwrap();
        let outputs = split.outputs();
        assert_eq!(outputs.len(), count, "{by:?}");
        split.save(NEW).unwrap();
        let shards = open(&outputs[0].0);
        assert_eq!(shards.files.len(), count);
        let sizes = outputs.iter().map(|(path, _)| fs::metadata(path).unwrap().len());
        assert!(sizes.eq(outputs.iter().map(|(_, len)| *len)));
        assert_eq!(data(&outputs[0].0), data(&path));
        let merged = dir.path().join("merged.gguf");
        Regrouping::merge(&shards, &merged).unwrap().save(NEW).unwrap();
        // But for the shape [1, 2, 1], which ggml writes as [1, 2].
        let after = open(&merged);
        assert_eq!(after.metadata, model.metadata);
        assert_eq!(after.tensors[2].shape, [1, 2]);
        assert_eq!(data(&merged), data(&path));
        let sum = |model: &AnyGguf| hash::hash(model, false, &|_, _| {}).unwrap().data;
        assert_eq!([sum(&shards), sum(&after)], [sum(&model), sum(&model)]);
        let over = Regrouping::merge(&shards, &outputs[0].0).unwrap();
        assert_error(
            over.save(OutputOptions { overwrite: true, sync: false }),
            "WrongKind",
            &["a file that is read"],
        );
        fs::remove_file(&merged).unwrap();
        outputs.iter().for_each(|(path, _)| fs::remove_file(path).unwrap());
    }
    assert_error(
        Regrouping::split(&model, &dir.path().join("s"), Split::Files(6)),
        "Layout",
        &["6 files", "1 to 5"],
    );
    let edit = Regrouping::split(&model, &path, Split::MaxTensors(3)).unwrap();
    edit.save(NEW).unwrap();
    let shards = open(&edit.outputs()[0].0);
    assert_error(Edit::new(&shards, &shards.metadata), "Set", &["2 files", "merge it"]);
}

#[test]
fn a_cut_file_is_neither_edited_nor_split() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = file();
    // The padding of the last tensor may be missing, its data may not.
    let path = put(dir.path(), "cut.gguf", &bytes[..bytes.len() - 1]);
    let model = AnyGguf::open_any(&path, &Limits::default()).unwrap();
    let out = dir.path().join("out.gguf");
    assert_error(Edit::new(&model, &model.metadata), "Truncated", &["cut.gguf"]);
    assert_error(Regrouping::merge(&model, &out), "Truncated", &["cut.gguf"]);
    assert_error(Regrouping::split(&model, &out, Split::Files(2)), "Truncated", &["cut.gguf"]);
}

#[test]
fn whatever_fails_the_output_is_complete_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(dir.path(), "m.gguf", &file());
    let model = open(&path);
    let metadata = edited(&model, &[set("general.name", "x".repeat(100))]);
    let edit = Edit::new(&model, &metadata).unwrap();
    let split = Regrouping::split(&model, &dir.path().join("s.gguf"), Split::Files(3)).unwrap();
    let failing = |left: &Arc<AtomicUsize>| {
        let left = Arc::clone(left);
        move |inner: Box<dyn WriteAt>| -> Box<dyn WriteAt> {
            Box::new(Failing { inner, left: Arc::clone(&left) })
        }
    };
    let edit_failing = |index: usize| -> gguf_io::Result<()> {
        let left = Arc::new(AtomicUsize::new(index));
        let output = AtomicFile::create(&dir.path().join("e.gguf"), edit.total(), NEW)?;
        let output = output.wrap_writer(failing(&left));
        edit.write(&output)?;
        output.commit()
    };
    let split_failing = |index: usize| -> gguf_io::Result<()> {
        let left = Arc::new(AtomicUsize::new(index));
        let set = AtomicSet::create(&split.outputs(), NEW)?.wrap_writer(failing(&left));
        split.write(&set)?;
        set.commit()
    };
    let tries: [&dyn Fn(usize) -> gguf_io::Result<()>; 2] = [&edit_failing, &split_failing];
    for (run, files) in tries.into_iter().zip([1, 3]) {
        let mut failures = 0;
        while let Err(error) = run(failures) {
            assert!(error.to_string().contains("injected"), "{error}");
            assert_eq!(names(dir.path()), ["m.gguf"]);
            failures += 1;
        }
        // Data and header of each file, and its flush.
        assert!(failures >= 3 * files, "{failures}");
        let new: Vec<_> = names(dir.path()).into_iter().filter(|name| name != "m.gguf").collect();
        assert_eq!(new.len(), files);
        assert_eq!(data(&dir.path().join(&new[0])), data(&path));
        new.iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    }
}

#[test]
fn checksums_are_those_of_sha256sum_and_gguf_hash() {
    // By sha256sum, of all of a file and of its parts.
    let bytes = file();
    let source = SourceFile::from_bytes("m.gguf", bytes.clone());
    let model = AnyGguf::read_any(source.clone(), &Limits::default()).unwrap();
    let hashes = hash::hash(&model, true, &|done, total| assert!(done <= total)).unwrap();
    let sum = |bytes: &[u8]| {
        use std::fmt::Write;
        let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
        digest.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    assert_eq!(hashes.files, [sum(&bytes)]);
    assert_eq!(hash::file(&source, &|_, _| {}).unwrap(), sum(&bytes));
    let parts: Vec<_> = model
        .tensors
        .iter()
        .map(|t| &bytes[t.offset as usize..(t.offset + t.bytes) as usize])
        .collect();
    assert_eq!(hashes.tensors, parts.iter().map(|part| sum(part)).collect::<Vec<_>>());
    assert_eq!(hashes.data, sum(&parts.concat()));
    // The digest of nothing is known to everybody.
    let empty = SourceFile::from_bytes("empty", Vec::new());
    assert!(
        hash::file(&empty, &|_, _| {}).unwrap().starts_with("e3b0c44298fc1c149afbf4c8996fb924")
    );
}
