//! Output is complete or absent.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]
#![allow(clippy::needless_range_loop, reason = "the number of the shard matters, not its name")]

mod common;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use common::assert_error;
use gguf_io::{AtomicFile, OutputOptions, WriteAt};

const NEW: OutputOptions = OutputOptions { overwrite: false, sync: true };
const REPLACE: OutputOptions = OutputOptions { overwrite: true, sync: false };

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn complete_when_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let file = AtomicFile::create(&path, 8, NEW).unwrap();
    assert!(!path.exists());
    let [temporary] = &names(dir.path())[..] else { panic!("one temporary") };
    assert!(
        temporary.starts_with(".out.gguf.quantwright-") && temporary.ends_with(".tmp"),
        "{temporary}"
    );
    assert_eq!(file.temporary_path(), dir.path().join(temporary));
    std::thread::scope(|scope| {
        for i in [3u8, 0, 2] {
            let file = &file;
            scope.spawn(move || file.write_all_at(&[i; 2], u64::from(i) * 2).unwrap());
        }
    });
    file.commit().unwrap();
    assert_eq!(names(dir.path()), ["out.gguf"]);
    // What was not written is zero.
    assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 0, 0, 2, 2, 3, 3]);
}

#[test]
fn absent_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let file = AtomicFile::create(&path, 1000, NEW).unwrap();
    file.write_all_at(b"half", 0).unwrap();
    drop(file);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn nothing_is_written_beyond_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let file = AtomicFile::create(&path, 8, NEW).unwrap();
    for (bytes, offset) in [(&b"123456789"[..], 0), (b"1", 8), (b"12", 7), (b"12", u64::MAX)] {
        let written = file.write_all_at(bytes, offset);
        assert_error(written, "Write", &["out", "created with 8 bytes", &format!("byte {offset}")]);
    }
    file.write_all_at(b"12345678", 0).unwrap();
    file.write_all_at(b"", 8).unwrap();
    file.commit().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"12345678");
}

#[test]
fn an_output_without_its_header_is_not_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let create = || AtomicFile::create(&path, 8, NEW).unwrap();
    // Nothing at all; all but the front.
    assert_error(create().commit(), "Incomplete", &["out", "byte 0 of its header"]);
    let file = create();
    file.write_all_at(b"data", 4).unwrap();
    assert_error(file.commit(), "Incomplete", &["byte 0"]);
    // In part: the end is missing, or the middle.
    for (parts, missing) in [(&[(0, 3)][..], 3), (&[(0, 1), (2, 2)], 1), (&[(3, 1), (1, 2)], 0)] {
        let file = create();
        file.expect_header(4);
        for (offset, len) in parts {
            file.write_all_at(&b"head"[..*len], *offset).unwrap();
        }
        let byte = format!("byte {missing} of its header");
        assert_error(file.commit(), "Incomplete", &["out", &byte]);
        assert_eq!(names(dir.path()), [""; 0]);
    }
    // Its neighbours: in parts, in any order, with what is not header left out.
    let file = create();
    file.expect_header(4);
    for (offset, len) in [(2, 2), (0, 1), (0, 2)] {
        file.write_all_at(&b"head"[..len], offset).unwrap();
    }
    file.commit().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hehe\0\0\0\0");
}

#[test]
fn an_old_file_stays_until_the_new_one_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    std::fs::write(&path, "old").unwrap();
    assert_error(
        AtomicFile::create(&path, 3, NEW),
        "Exists",
        &["out", "exists already", "overwrite"],
    );
    let file = AtomicFile::create(&path, 3, REPLACE).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    drop(file);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    let file = AtomicFile::create(&path, 3, REPLACE).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    file.commit().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let file = AtomicFile::create(&path, 3, NEW).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    std::fs::write(&path, "theirs").unwrap();
    assert_error(file.commit(), "Exists", &["out"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn targets_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    for options in [NEW, REPLACE] {
        assert_error(AtomicFile::create(dir.path(), 1, options), "WrongKind", &["a folder"]);
        assert_error(
            AtomicFile::create(&dir.path().join("none/out"), 1, options),
            "WrongKind",
            &["none/out", "in a folder that does not exist"],
        );
        assert_error(
            AtomicFile::create(Path::new(".."), 1, options),
            "WrongKind",
            &["no file name"],
        );
        assert_error(
            AtomicFile::create(&dir.path().join("out"), 1 << 62, options),
            "NoSpace",
            &["needs 4611686018427387904 bytes", "has"],
        );
        #[cfg(unix)]
        assert_error(
            AtomicFile::create(Path::new("/dev/null"), 1, options),
            "WrongKind",
            &["device"],
        );
    }
    #[cfg(unix)]
    {
        // A link that leads nowhere is somebody's.
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert_error(AtomicFile::create(&dir.path().join("link"), 1, NEW), "Exists", &["link"]);
        std::fs::remove_file(dir.path().join("link")).unwrap();
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn long_names() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["n".repeat(255), "é".repeat(127)] {
        AtomicFile::create(&dir.path().join(&name), 0, NEW).unwrap().commit().unwrap();
        assert_eq!(names(dir.path()).join("/"), name);
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn the_mode_is_that_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plain"), "").unwrap();
    AtomicFile::create(&dir.path().join("out"), 0, NEW).unwrap().commit().unwrap();
    let mode = |name| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("plain"));
}

#[test]
fn stale_temporaries_are_removed_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let others = [
        ".out.quantwright-abc.tmp",
        ".out.quantwright-abc.ef.tmp",
        ".out.quantwright-abcdef.tmp.keep",
        ".out2.quantwright-abcdef.tmp",
        "out.quantwright-abcdef.tmp",
    ];
    for other in others {
        std::fs::write(dir.path().join(other), "").unwrap();
    }
    let before = names(dir.path());
    std::fs::write(dir.path().join(".out.quantwright-abcdef.tmp"), "stale").unwrap();
    // One in use by another run for the same output.
    let other = AtomicFile::create(&path, 1, NEW).unwrap();
    let file = AtomicFile::create(&path, 1, NEW).unwrap();
    assert!(other.temporary_path().exists());
    drop((other, file));
    assert_eq!(names(dir.path()), before);
}

/// Fails the nth operation, and all after it.
#[derive(Debug)]
struct Failing {
    inner: Box<dyn WriteAt>,
    left: Arc<AtomicUsize>,
    error: fn() -> io::Error,
}

impl Failing {
    fn step(&self) -> io::Result<()> {
        match self.left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => Ok(()),
            Err(_) => Err((self.error)()),
        }
    }
}

impl WriteAt for Failing {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.step()?;
        // One byte at a time: short writes are continued.
        self.inner.write_at(&buf[..1], offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()?;
        self.inner.sync()
    }
}

#[test]
fn faults_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let run = |steps: usize, error: fn() -> io::Error| {
        let left = Arc::new(AtomicUsize::new(steps));
        let file = AtomicFile::create(&path, 4, NEW)?
            .wrap_writer(|inner| Box::new(Failing { inner, left, error }));
        file.write_all_at(b"ab", 0)?;
        file.write_all_at(b"cd", 2)?;
        file.commit()
    };
    for steps in 0..5 {
        let result = run(steps, || io::ErrorKind::StorageFull.into());
        // Four bytes, four writes, then the flush.
        let kind = if steps < 4 { "NoSpace" } else { "Io" };
        assert_error(result, kind, &["out"]);
        assert_eq!(names(dir.path()), [""; 0]);
    }
    assert_error(run(3, || io::Error::other("broken")), "Write", &["2 bytes at byte 2", "broken"]);
    run(5, || io::ErrorKind::StorageFull.into()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abcd");
}

/// A set of three shards, each written with its own number.
fn set(dir: &Path, options: OutputOptions) -> gguf_io::AtomicSet {
    let paths = gguf_io::gguf::shards::paths(&dir.join("m.gguf"), 3);
    let outputs: Vec<_> = paths.into_iter().map(|path| (path, 1)).collect();
    let set = gguf_io::AtomicSet::create(&outputs, options).unwrap();
    for (file, byte) in set.files().iter().zip(*b"123") {
        file.write_all_at(&[byte], 0).unwrap();
    }
    set
}

const SHARDS: [&str; 3] =
    ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];

fn contents(dir: &Path) -> Vec<Vec<u8>> {
    names(dir).iter().map(|name| std::fs::read(dir.join(name)).unwrap_or_default()).collect()
}

#[test]
fn a_set_appears_together() {
    let dir = tempfile::tempdir().unwrap();
    let made = set(dir.path(), NEW);
    assert!(names(dir.path()).iter().all(|name| name.starts_with('.')));
    made.commit().unwrap();
    assert_eq!(names(dir.path()), SHARDS);
    assert_eq!(contents(dir.path()), [b"1", b"2", b"3"]);
    drop(set(dir.path(), REPLACE));
    assert_eq!(names(dir.path()), SHARDS);
    std::fs::write(dir.path().join(SHARDS[1]), "old").unwrap();
    set(dir.path(), REPLACE).commit().unwrap();
    assert_eq!(names(dir.path()), SHARDS);
    assert_eq!(contents(dir.path()), [b"1", b"2", b"3"]);
}

#[test]
fn a_set_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(SHARDS[2]), "old").unwrap();
    let paths = gguf_io::gguf::shards::paths(&dir.path().join("m.gguf"), 3);
    let outputs: Vec<_> = paths.into_iter().map(|path| (path, 1)).collect();
    let made = gguf_io::AtomicSet::create(&outputs, NEW);
    assert_error(made, "Exists", &[SHARDS[2], "overwrite"]);
    assert_eq!(names(dir.path()), [SHARDS[2]]);
}

#[test]
fn a_set_that_cannot_appear_whole_does_not_appear() {
    for taken in 0..3 {
        // Another file takes a name meanwhile.
        let dir = tempfile::tempdir().unwrap();
        let made = set(dir.path(), NEW);
        std::fs::write(dir.path().join(SHARDS[taken]), "theirs").unwrap();
        assert_error(made.commit(), "Exists", &[SHARDS[taken]]);
        assert_eq!(names(dir.path()), [SHARDS[taken]]);
        assert_eq!(contents(dir.path()), [b"theirs"]);
        // A folder, where files may be replaced: those that were are put back.
        let dir = tempfile::tempdir().unwrap();
        for name in SHARDS.iter().filter(|name| **name != SHARDS[taken]) {
            std::fs::write(dir.path().join(name), "old").unwrap();
        }
        let made = set(dir.path(), REPLACE);
        std::fs::create_dir(dir.path().join(SHARDS[taken])).unwrap();
        let message = made.commit().unwrap_err().to_string();
        assert!(message.contains(SHARDS[taken]), "{message}");
        std::fs::remove_dir(dir.path().join(SHARDS[taken])).ok();
        let left = SHARDS.iter().filter(|name| **name != SHARDS[taken]);
        assert_eq!(names(dir.path()), left.copied().collect::<Vec<_>>());
        assert_eq!(contents(dir.path()), [b"old", b"old"]);
    }
}

#[test]
fn a_set_that_was_killed_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let stale = [
        ".m-00001-of-00002.gguf.quantwright-abcdef.tmp",
        ".m-00007-of-00009.gguf.quantwright-ABC123.tmp",
    ];
    let others = [
        ".m-00001-of-00002.gguf.other-abcdef.tmp",
        ".m-x0001-of-00002.gguf.quantwright-abcdef.tmp",
        ".n-00001-of-00002.gguf.quantwright-abcdef.tmp",
    ];
    for name in stale.iter().chain(&others) {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    drop(set(dir.path(), NEW));
    assert_eq!(names(dir.path()), others);
}

/// One thread would take all pages, before the others begin.
#[cfg(target_os = "linux")]
#[test]
fn a_file_in_memory_takes_its_pages_when_they_are_written() {
    use std::os::unix::fs::MetadataExt;
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_tmpfs = |line: &str| line.split(' ').skip(1).take(2).eq(["/dev/shm", "tmpfs"]);
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    if !mounts.lines().any(is_tmpfs) {
        return;
    }
    let path = folder.path().join("m.gguf");
    let file = AtomicFile::create(&path, 1 << 20, NEW).unwrap();
    let taken = || std::fs::metadata(file.temporary_path()).unwrap().blocks() * 512;
    assert_eq!(taken(), 0);
    file.write_all_at(&[1; 100], 0).unwrap();
    assert!(taken() <= 64 << 10, "{}", taken());
    file.commit().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
}
