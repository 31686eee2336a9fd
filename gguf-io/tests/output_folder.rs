//! Folders are complete or absent.

#![allow(clippy::unwrap_used, reason = "a test that cannot write its data has failed")]

use std::{fs, path::Path};

use gguf_io::{AtomicFolder, Error, OutputOptions};

const KEEP: OutputOptions = OutputOptions { overwrite: false, sync: true };
const REPLACE: OutputOptions = OutputOptions { overwrite: true, sync: false };

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_folder_appears_with_all_its_files_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let folder = AtomicFolder::create(&path, KEEP).unwrap();
    fs::write(folder.temporary_path().join("config.json"), "1").unwrap();
    assert!(!path.exists());
    folder.commit().unwrap();
    assert_eq!(names(dir.path()), ["out"]);
    assert!(matches!(AtomicFolder::create(&path, KEEP), Err(Error::Exists { .. })));

    let folder = AtomicFolder::create(&path, REPLACE).unwrap();
    fs::write(folder.temporary_path().join("config.json"), "2").unwrap();
    drop(folder);
    assert_eq!(fs::read_to_string(path.join("config.json")).unwrap(), "1");

    let folder = AtomicFolder::create(&path, REPLACE).unwrap();
    fs::write(folder.temporary_path().join("config.json"), "3").unwrap();
    folder.commit().unwrap();
    assert_eq!(fs::read_to_string(path.join("config.json")).unwrap(), "3");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn folders_with_other_things_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    fs::create_dir(&path).unwrap();
    // Empty: nothing is lost.
    drop(AtomicFolder::create(&path, REPLACE).unwrap());
    fs::write(path.join("thesis.txt"), "").unwrap();
    assert!(matches!(AtomicFolder::create(&path, REPLACE), Err(Error::WrongKind { .. })));
    fs::write(path.join("config.json"), "").unwrap();
    drop(AtomicFolder::create(&path, REPLACE).unwrap());
    fs::create_dir(path.join("photos")).unwrap();
    assert!(matches!(AtomicFolder::create(&path, REPLACE), Err(Error::WrongKind { .. })));
    fs::write(dir.path().join("file"), "").unwrap();
    let file = AtomicFolder::create(&dir.path().join("file"), REPLACE);
    assert!(matches!(file, Err(Error::WrongKind { .. })));
}

#[test]
fn what_a_killed_run_left_is_removed_but_not_what_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stale = dir.path().join(".out.quantwright-abc123.tmp");
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("model.safetensors"), "").unwrap();
    let first = AtomicFolder::create(&path, KEEP).unwrap();
    assert!(!stale.exists());
    let second = AtomicFolder::create(&path, KEEP).unwrap();
    assert!(first.temporary_path().exists());
    second.commit().unwrap();
    assert!(matches!(first.commit(), Err(Error::Exists { .. })));
    assert_eq!(names(dir.path()), ["out"]);
}
