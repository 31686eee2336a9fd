//! What the system can do to a running conversion: kill it, run out of space, run two at once.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Instant,
};

use common::{fixture, listing, quantwright, stderr};
use tempfile::tempdir;

fn command(output: &Path, options: &[&str]) -> Command {
    let mut command = quantwright();
    command.arg("convert").arg(fixture("tiny-llama2")).arg("-o").arg(output);
    command.args(["-t", "q4_k_m", "--quiet", "--no-sync"]).args(options);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The complete output, and how long it takes.
fn reference(folder: &Path) -> (Vec<u8>, std::time::Duration) {
    let path = folder.join("reference.gguf");
    let start = Instant::now();
    assert!(command(&path, &[]).status().unwrap().success());
    (fs::read(path).unwrap(), start.elapsed())
}

#[test]
fn killed_at_any_point_the_output_is_absent_or_complete() {
    const POINTS: u32 = 50;
    let folder = tempdir().unwrap();
    let (expected, duration) = reference(folder.path());
    let out = folder.path().join("out");
    let output = out.join("m.gguf");
    let (mut absent, mut complete) = (0, 0);
    for point in 0..POINTS {
        fs::create_dir(&out).unwrap();
        let replaces = point % 2 == 1;
        if replaces {
            fs::write(&output, "the old file").unwrap();
        }
        let mut child = command(&output, &["--force", "--threads", "1"]).spawn().unwrap();
        sleep(duration * point / POINTS);
        child.kill().unwrap();
        child.wait().unwrap();
        match fs::read(&output) {
            Ok(bytes) if bytes == expected => complete += 1,
            Ok(bytes) => assert!(replaces && bytes == b"the old file", "point {point}"),
            Err(_) => assert!(!replaces, "point {point}: the old file is gone"),
        }
        absent += u32::from(!output.exists());
        // The next run succeeds and removes what this one left.
        if point % 10 == 0 {
            let done = command(&output, &["--force"]).output().unwrap();
            assert!(done.status.success(), "{}", stderr(&done));
            assert_eq!(listing(&out).len(), 1, "{:?}", listing(&out).keys());
        }
        fs::remove_dir_all(&out).unwrap();
    }
    let old = POINTS - absent - complete;
    println!("{POINTS} points: {absent} absent, {complete} complete, {old} as before");
}

/// A conversion started by a shell under some condition.
fn under(condition: &str, folder: &Path, force: bool) -> Output {
    let mut run = Command::new("sh");
    run.arg("-c").arg(format!("{condition} exec \"$@\"")).arg("sh");
    run.arg(env!("CARGO_BIN_EXE_quantwright")).arg("convert").arg(fixture("tiny-llama2"));
    run.arg("-o").arg(folder.join("m.gguf")).args(["-t", "q4_k_m", "--quiet"]);
    run.args(force.then_some("--force")).output().unwrap()
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    for force in [false, true] {
        let folder = tempdir().unwrap();
        if force {
            fs::write(folder.path().join("m.gguf"), "the old file").unwrap();
        }
        let before = listing(folder.path());
        // In blocks of 512 bytes: less than the output's 1.3 MB.
        let done = under("ulimit -f 1000;", folder.path(), force);
        let error = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{:?} {error}", done.status);
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
        assert!(error.contains("m.gguf") && error.contains("too large"), "{error}");
        assert_eq!(listing(folder.path()), before);
        // The neighbour: a limit that is large enough.
        let done = under("ulimit -f 10000;", folder.path(), force);
        assert!(done.status.success(), "{}", stderr(&done));
    }
}

#[test]
fn a_full_file_system_is_an_error() {
    let mount = |folder: &Path, kib: u32, then: &str| {
        let script = format!(
            "mount -t tmpfs -o size={kib}k tmpfs '{}' || exit 77; {then}",
            folder.display()
        );
        Command::new("unshare").args(["--mount", "sh", "-c", &script]).output()
    };
    let folder = tempdir().unwrap();
    match mount(folder.path(), 512, "true") {
        Ok(done) if done.status.success() => {}
        other => {
            println!("skipped: no file system can be mounted here: {other:?}");
            return;
        }
    }
    let out = folder.path().display();
    let convert = format!(
        "'{}' convert '{}' -o '{out}/m.gguf' -t q4_k_m --quiet --force",
        env!("CARGO_BIN_EXE_quantwright"),
        fixture("tiny-llama2").display()
    );
    let check = "echo status $?; ls -A";
    let script =
        format!("printf old >'{out}/m.gguf'; {convert}; {check} '{out}'; cat '{out}/m.gguf'");
    let done = mount(folder.path(), 512, &script).unwrap();
    let error = stderr(&done);
    assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
    assert!(error.contains("needs 1") && error.contains("free some space"), "{error}");
    assert_eq!(common::stdout(&done), "status 1\nm.gguf\nold");
    let done = mount(folder.path(), 4096, &format!("{convert}; {check} '{out}'")).unwrap();
    assert_eq!(common::stdout(&done), "status 0\nm.gguf\n", "{}", stderr(&done));
}

/// Row 23, also where the user may write anywhere.
#[test]
fn a_read_only_file_system_is_an_error() {
    let folder = tempdir().unwrap();
    let out = folder.path().display();
    let run = |options: &str| {
        let script = format!(
            "mount -t tmpfs tmpfs '{out}' && printf old >'{out}/m.gguf' \
             && mount -o remount,{options} '{out}' || exit 77
             '{}' convert '{}' -o '{out}/m.gguf' -t q8_0 --quiet --force; echo status $?
             ls -A '{out}'; head -c 3 '{out}/m.gguf'",
            env!("CARGO_BIN_EXE_quantwright"),
            fixture("tiny-llama2").display()
        );
        Command::new("unshare").args(["--mount", "sh", "-c", &script]).output()
    };
    let done = match run("ro") {
        Ok(done) if done.status.code() != Some(77) && !done.stdout.is_empty() => done,
        other => {
            println!("skipped: no file system can be mounted here: {other:?}");
            return;
        }
    };
    let error = stderr(&done);
    assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
    assert!(error.contains("m.gguf") && error.contains("Read-only file system"), "{error}");
    assert_eq!(common::stdout(&done), "status 1\nm.gguf\nold");
    let done = run("rw").unwrap();
    assert_eq!(common::stdout(&done), "status 0\nm.gguf\nGGU", "{}", stderr(&done));
}

#[test]
fn of_two_conversions_to_one_output_each_result_is_whole() {
    let folder = tempdir().unwrap();
    let (expected, _) = reference(folder.path());
    let out = folder.path().join("out");
    let output = out.join("m.gguf");
    for round in 0..10 {
        fs::create_dir(&out).unwrap();
        let force: &[&str] = if round % 2 == 0 { &[] } else { &["--force"] };
        let children = [(); 3].map(|()| command(&output, force).spawn().unwrap());
        let done = children.map(|child| child.wait_with_output().unwrap());
        let winners = done.iter().filter(|done| done.status.success()).count();
        assert_eq!(winners, if force.is_empty() { 1 } else { 3 }, "round {round}");
        for lost in done.iter().filter(|done| !done.status.success()) {
            assert_eq!(lost.status.code(), Some(1));
            assert!(stderr(lost).contains("m.gguf: exists already"), "{}", stderr(lost));
        }
        assert_eq!(
            listing(&out).into_iter().collect::<Vec<_>>(),
            [(output.clone(), expected.clone())]
        );
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    let folder = tempdir().unwrap();
    let (expected, _) = reference(folder.path());
    for threads in ["1", "2", "3", "16", "64"] {
        let output = folder.path().join(threads);
        assert!(command(&output, &["--threads", threads]).status().unwrap().success());
        assert!(fs::read(&output).unwrap() == expected, "{threads} threads");
    }
}
