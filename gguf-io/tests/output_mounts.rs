//! Outputs on mounted drives, which lack operations that other file systems have: a complete output
//! gets its name all the same, and is never lost.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use gguf_io::{AtomicFile, AtomicFolder, AtomicSet, Error, FileSystem, OutputOptions, Result};

const NEW: OutputOptions = OutputOptions { overwrite: false, sync: false };
const REPLACE: OutputOptions = OutputOptions { overwrite: true, sync: false };
const FLUSHED: OutputOptions = OutputOptions { overwrite: false, sync: true };

const EPERM: i32 = 1;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EINVAL: i32 = 22;

/// What mounts say of an operation they do not have: EPERM, EACCES, EXDEV, EINVAL, ENOTTY, EMLINK,
/// ENOSYS, EOPNOTSUPP.
const LACKING: [i32; 8] = [EPERM, 13, 18, EINVAL, 25, 31, 38, 95];

/// What they say of a flush they do not have.
const NO_FLUSH: [i32; 4] = [EBADF, EINVAL, 38, 95];

/// A file system in which some operations fail, with these numbers.
#[derive(Debug, Default)]
struct Mount {
    rename_new: Option<i32>,
    hard_link: Option<i32>,
    /// From which rename on they fail.
    rename: Option<(usize, i32)>,
    exchange: Option<i32>,
    sync_folder: Option<i32>,
    reserve: Option<i32>,
    set_len: Option<i32>,
    /// 0 if others hold every lock.
    lock: Option<i32>,
    /// What was done.
    log: Mutex<Vec<&'static str>>,
}

impl Mount {
    /// Neither a rename that does not replace nor hard links nor an exchange.
    fn without_links(errno: i32) -> Self {
        let some = Some(errno);
        Self { rename_new: some, hard_link: some, exchange: some, ..Self::default() }
    }

    /// As a network share at its worst.
    fn lacking_all(errno: i32) -> Self {
        let some = Some(errno);
        Self { reserve: some, set_len: some, lock: some, ..Self::without_links(errno) }
    }

    fn step(&self, what: &'static str, fault: Option<i32>) -> io::Result<()> {
        self.log.lock().unwrap().push(what);
        fault.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn count(&self, what: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|done| **done == what).count()
    }
}

#[derive(Debug)]
struct Native;

impl FileSystem for Native {}

impl FileSystem for Mount {
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename_new", self.rename_new)?;
        Native.rename_new(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("hard_link", self.hard_link)?;
        Native.hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let done = self.count("rename");
        self.step("rename", self.rename.filter(|(first, _)| done >= *first).map(|(_, e)| e))?;
        Native.rename(from, to)
    }

    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.step("exchange", self.exchange)?;
        Native.exchange(a, b)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.step("sync_folder", self.sync_folder)?;
        Native.sync_folder(folder)
    }

    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        self.step("reserve", self.reserve)?;
        Native.reserve(file, len)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.step("set_len", self.set_len)?;
        Native.set_len(file, len)
    }

    fn try_lock(&self, file: &File) -> Result<(), TryLockError> {
        match self.lock {
            Some(0) => Err(TryLockError::WouldBlock),
            fault => {
                self.step("try_lock", fault).map_err(TryLockError::Error)?;
                Native.try_lock(file)
            }
        }
    }
}

/// The kinds of output.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    File,
    Set,
    Folder,
}

const KINDS: [Kind; 3] = [Kind::File, Kind::Set, Kind::Folder];

/// What an output is called, in the order in which names are given.
fn outputs(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::File => &["m.gguf"],
        Kind::Set => &["m-00003-of-00003.gguf", "m-00002-of-00003.gguf", "m-00001-of-00003.gguf"],
        Kind::Folder => &["model"],
    }
}

/// Writes an output, up to its commit, which the caller does.
type Commit = Box<dyn FnOnce() -> Result<()>>;

fn written(
    kind: Kind,
    fs: Arc<Mount>,
    dir: &Path,
    text: &str,
    options: OutputOptions,
) -> Result<Commit> {
    let len = text.len() as u64;
    Ok(match kind {
        Kind::File => {
            let file = AtomicFile::create_on(fs, &dir.join("m.gguf"), len, options)?;
            file.write_all_at(text.as_bytes(), 0)?;
            Box::new(|| file.commit())
        }
        Kind::Set => {
            let paths = gguf_io::gguf::shards::paths(&dir.join("m.gguf"), 3);
            let outputs: Vec<_> = paths.into_iter().map(|path| (path, len)).collect();
            let set = AtomicSet::create_on(fs, &outputs, options)?;
            for file in set.files() {
                file.write_all_at(text.as_bytes(), 0)?;
            }
            Box::new(|| set.commit())
        }
        Kind::Folder => {
            let folder = AtomicFolder::create_on(fs, &dir.join("model"), options)?;
            for name in ["config.json", "model.safetensors"] {
                let file = folder.create_file(name, len)?;
                file.write_all_at(text.as_bytes(), 0)?;
                file.commit()?;
            }
            Box::new(|| folder.commit())
        }
    })
}

/// Puts an output there in the plain way.
fn put(kind: Kind, dir: &Path, text: &str) {
    written(kind, Arc::default(), dir, text, REPLACE).unwrap()().unwrap();
}

/// All files below a folder by their relative paths, sorted, with their text.
fn listing(dir: &Path) -> Vec<(String, String)> {
    fn walk(top: &Path, dir: &Path, found: &mut Vec<(String, String)>) {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(top, &path, found);
            } else {
                let name = path.strip_prefix(top).unwrap().to_str().unwrap();
                found.push((name.into(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// What an output alone in its folder looks like.
fn whole(kind: Kind, text: &str) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    put(kind, dir.path(), text);
    listing(dir.path())
}

/// delta-io/delta-rs#386, unslothai/unsloth#841.
#[test]
fn without_hard_links_and_flags_of_rename_an_output_gets_its_name_delta_rs_386() {
    for kind in KINDS {
        for errno in LACKING {
            for old in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                if old {
                    put(kind, dir.path(), "old");
                }
                let fs = Arc::new(Mount::without_links(errno));
                let options = if old { REPLACE } else { NEW };
                written(kind, fs, dir.path(), "new", options).unwrap()().unwrap();
                assert_eq!(listing(dir.path()), whole(kind, "new"), "{kind:?} {errno} {old}");
            }
        }
    }
}

#[test]
fn each_operation_may_be_lacking() {
    for kind in KINDS {
        for errno in LACKING.into_iter().chain([EIO]) {
            let some = Some(errno);
            for fs in [
                Mount { rename_new: some, ..Mount::default() },
                Mount { reserve: some, ..Mount::default() },
                Mount { reserve: some, set_len: some, ..Mount::default() },
                Mount { lock: some, ..Mount::default() },
                Mount { exchange: some, ..Mount::default() },
                Mount::lacking_all(errno),
            ] {
                let dir = tempfile::tempdir().unwrap();
                let what = format!("{kind:?} {fs:?}");
                written(kind, Arc::new(fs), dir.path(), "new", NEW).unwrap()().expect(&what);
                assert_eq!(listing(dir.path()), whole(kind, "new"), "{what}");
            }
        }
    }
}

#[test]
fn an_output_has_its_length_where_none_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    for len in [1, 2, 10_000] {
        let fs = Arc::new(Mount::lacking_all(95));
        let file = AtomicFile::create_on(fs, &path, len, REPLACE).unwrap();
        file.write_all_at(b"h", 0).unwrap();
        file.commit().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() as u64 == len && bytes[1..].iter().all(|b| *b == 0), "{len}");
    }
}

#[test]
fn a_folder_that_cannot_be_flushed_is_no_failure() {
    for kind in KINDS {
        for errno in NO_FLUSH.into_iter().chain([13]) {
            let dir = tempfile::tempdir().unwrap();
            let fs = Arc::new(Mount { sync_folder: Some(errno), ..Mount::default() });
            written(kind, Arc::clone(&fs), dir.path(), "new", FLUSHED).unwrap()().unwrap();
            assert!(fs.count("sync_folder") > 0);
            assert_eq!(listing(dir.path()), whole(kind, "new"));
        }
    }
    // The neighbour: a flush that fails says so, and the output is there.
    for kind in [Kind::File, Kind::Set] {
        let dir = tempfile::tempdir().unwrap();
        let fs = Arc::new(Mount { sync_folder: Some(EIO), ..Mount::default() });
        let error = written(kind, fs, dir.path(), "new", FLUSHED).unwrap()().unwrap_err();
        assert!(error.to_string().contains("is complete, but its folder"), "{error}");
        assert_eq!(listing(dir.path()), whole(kind, "new"));
    }
}

#[test]
fn locks_that_are_always_held_do_not_stop_a_run() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let fs = Arc::new(Mount { lock: Some(0), ..Mount::default() });
        written(kind, fs, dir.path(), "new", NEW).unwrap()().unwrap();
        assert_eq!(listing(dir.path()), whole(kind, "new"));
    }
}

#[test]
fn a_name_that_is_taken_stays_refused() {
    for kind in KINDS {
        for errno in LACKING {
            // Before the run, and during it.
            let dir = tempfile::tempdir().unwrap();
            put(kind, dir.path(), "theirs");
            let fs = || Arc::new(Mount::without_links(errno));
            let early = written(kind, fs(), dir.path(), "new", NEW).map(|_| ());
            assert!(matches!(early, Err(Error::Exists { .. })), "{kind:?} {errno}: {early:?}");
            assert_eq!(listing(dir.path()), whole(kind, "theirs"));

            let dir = tempfile::tempdir().unwrap();
            let commit = written(kind, fs(), dir.path(), "new", NEW).unwrap();
            put(kind, dir.path(), "theirs");
            let late = commit();
            assert!(matches!(late, Err(Error::Exists { .. })), "{kind:?} {errno}: {late:?}");
            assert_eq!(listing(dir.path()), whole(kind, "theirs"));
        }
    }
}

/// Any single shard's name may be taken.
#[test]
fn a_set_whose_name_is_taken_in_part_is_refused_whole() {
    for taken in outputs(Kind::Set) {
        let dir = tempfile::tempdir().unwrap();
        let fs = Arc::new(Mount::without_links(EPERM));
        let commit = written(Kind::Set, fs, dir.path(), "new", NEW).unwrap();
        fs::write(dir.path().join(taken), "theirs").unwrap();
        let late = commit();
        assert!(matches!(late, Err(Error::Exists { .. })), "{late:?}");
        assert_eq!(listing(dir.path()), [(String::from(*taken), String::from("theirs"))]);
    }
}

#[test]
fn within_a_folder_of_ours_files_are_renamed_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Arc::new(Mount::default());
    written(Kind::Folder, Arc::clone(&fs), dir.path(), "new", FLUSHED).unwrap()().unwrap();
    // Two files; one folder, which is flushed with the one around it.
    let counts = ["rename", "rename_new", "hard_link", "sync_folder"].map(|what| fs.count(what));
    assert_eq!(counts, [2, 1, 0, 2]);
}

/// A folder without one of its files is not kept, and nothing is said to be.
#[test]
fn a_folder_goes_as_a_whole_if_a_file_of_it_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Arc::new(Mount { rename: Some((1, EIO)), ..Mount::default() });
    let error = written(Kind::Folder, fs, dir.path(), "new", NEW).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("cannot give the complete output its name"), "{error}");
    assert!(!error.contains("kept"), "{error}");
    assert_eq!(listing(dir.path()), []);
}

/// What a failed run has kept: the files that hold what it has written.
fn kept(dir: &Path) -> Vec<PathBuf> {
    let all = listing(dir).into_iter().filter(|(_, text)| text == "new");
    all.map(|(name, _)| dir.join(name)).collect()
}

/// However far it gets: the work is there, the error says where, and what was there before is as it
/// was; a run later does not take it for what a killed run left.
#[test]
fn what_cannot_be_named_is_kept() {
    for kind in KINDS {
        for (first, old) in (0..8).flat_map(|first| [(first, false), (first, true)]) {
            let dir = tempfile::tempdir().unwrap();
            if old {
                put(kind, dir.path(), "old");
            }
            // Renames within the folder, which come before, succeed.
            let within = if kind == Kind::Folder { 2 } else { 0 };
            let fault = Some((first + within, EIO));
            let fs = Arc::new(Mount { rename: fault, ..Mount::without_links(EPERM) });
            let options = if old { REPLACE } else { NEW };
            let what = format!("{kind:?}, from rename {first} on, old: {old}");
            let error = match written(kind, fs, dir.path(), "new", options).unwrap()() {
                Ok(()) => {
                    assert!(first > 0, "{what}");
                    continue;
                }
                Err(error) => error,
            };
            let Error::Unnamed { kept: named, others, .. } = &error else {
                panic!("{what}: {error:?}")
            };
            let text = error.to_string();
            assert!(text.contains(named.to_str().unwrap()) && !text.contains('\n'), "{text}");
            assert!(named.exists(), "{what}: {text}");
            let files = match kind {
                Kind::Folder => 2,
                _ => others + 1,
            };
            let found = kept(dir.path());
            assert_eq!(found.len(), files, "{what}: {found:?}");
            assert_eq!(files, whole(kind, "new").len(), "{what}");
            if old {
                let names = listing(dir.path()).into_iter().filter(|(_, text)| text == "old");
                assert_eq!(names.count(), whole(kind, "old").len(), "{what}");
            }
        }
    }
}

#[test]
fn what_is_kept_outlives_the_next_run() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        // The output itself cannot be renamed to, other names can: the file is immutable, say.
        #[derive(Debug)]
        struct Picky(PathBuf);
        impl FileSystem for Picky {
            fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
                if self.0 == to {
                    Err(io::Error::from_raw_os_error(EPERM))
                } else {
                    Native.rename_new(from, to)
                }
            }
            fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
                if self.0 == to {
                    Err(io::Error::from_raw_os_error(EPERM))
                } else {
                    Native.hard_link(from, to)
                }
            }
            fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
                if self.0 == to {
                    Err(io::Error::from_raw_os_error(EPERM))
                } else {
                    Native.rename(from, to)
                }
            }
        }
        let name = outputs(kind)[outputs(kind).len() - 1];
        let picky = Arc::new(Picky(dir.path().join(name)));
        let error = match kind {
            Kind::File => {
                let path = dir.path().join(name);
                let file = AtomicFile::create_on(picky, &path, 3, NEW).unwrap();
                file.write_all_at(b"new", 0).unwrap();
                file.commit()
            }
            Kind::Set => {
                let paths = gguf_io::gguf::shards::paths(&dir.path().join("m.gguf"), 3);
                let outputs: Vec<_> = paths.into_iter().map(|path| (path, 3)).collect();
                let set = AtomicSet::create_on(picky, &outputs, NEW).unwrap();
                set.files().iter().for_each(|file| file.write_all_at(b"new", 0).unwrap());
                set.commit()
            }
            Kind::Folder => {
                let folder = AtomicFolder::create_on(picky, &dir.path().join(name), NEW).unwrap();
                let file = folder.create_file("config.json", 3).unwrap();
                file.write_all_at(b"new", 0).unwrap();
                file.commit().unwrap();
                folder.commit()
            }
        }
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("it is kept as") && text.contains(": rename it"), "{text}");
        let before = listing(dir.path());
        assert!(before.iter().all(|(name, _)| name.contains(".quantwright-")), "{before:?}");
        assert!(before.iter().all(|(name, _)| !name.starts_with('.')), "{before:?}");
        put(kind, dir.path(), "later");
        let after = listing(dir.path());
        assert!(before.iter().all(|file| after.contains(file)), "{before:?} {after:?}");
        assert_eq!(after.len(), before.len() + whole(kind, "later").len());
    }
}
