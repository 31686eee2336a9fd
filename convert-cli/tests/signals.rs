//! A conversion that is stopped leaves nothing behind.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{quantwright, sparse_checkpoint, stderr};
use tempfile::tempdir;

#[test]
fn the_temporary_is_removed_and_the_status_names_the_signal() {
    let folder = tempdir().unwrap();
    let checkpoint = sparse_checkpoint(folder.path());
    let out = folder.path().join("out");
    for (signal, status, name, ty) in [
        ("INT", 130, "old.gguf", "q2_k"),
        ("TERM", 143, "old.gguf", "q2_k"),
        ("HUP", 129, "old.gguf", "q2_k"),
        // A folder of grouped integers.
        ("INT", 130, "old", "int4_asym"),
        ("TERM", 143, "old", "int4_asym"),
    ] {
        fs::create_dir_all(&out).unwrap();
        let old = out.join(name);
        let file = if ty == "q2_k" {
            old.clone()
        } else {
            fs::create_dir(&old).unwrap();
            old.join("config.json")
        };
        fs::write(&file, "an old file").unwrap();
        let child = quantwright()
            .arg("convert")
            .arg(&checkpoint)
            .arg("-o")
            .arg(&old)
            .args(["--force", "--no-sync", "--type", ty, "--threads", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Once the temporary is there, some seconds of work are left.
        let start = Instant::now();
        while fs::read_dir(&out).unwrap().count() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "no temporary");
            sleep(Duration::from_millis(2));
        }
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let done = child.wait_with_output().unwrap();

        assert_eq!(done.status.code(), Some(status), "SIG{signal}: {}", stderr(&done));
        assert_eq!(stderr(&done), "error: interrupted; nothing was written\n");
        assert!(done.stdout.is_empty());
        let names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [name], "SIG{signal}");
        assert_eq!(fs::read(&file).unwrap(), b"an old file");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn after_a_kill_the_name_is_free_and_the_next_run_cleans_up() {
    let folder = tempdir().unwrap();
    let checkpoint = sparse_checkpoint(folder.path());
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let output = out.join("m.gguf");
    let start = |input: &std::path::Path| {
        let mut command = quantwright();
        command.arg("convert").arg(input).arg("-o").arg(&output).arg("--no-sync");
        command.args(["--type", "q2_k", "--threads", "1", "--quiet"]).spawn().unwrap()
    };
    let mut child = start(&checkpoint);
    while fs::read_dir(&out).unwrap().count() == 0 {
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!output.exists());

    assert!(start(&common::fixture("tiny-llama2")).wait().unwrap().success());
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["m.gguf"]);
}

#[test]
fn a_text_that_is_interrupted_ends_with_the_signals_status() {
    use std::io::Read;
    let mut child = quantwright()
        .args(["generate", "-p", "The", "-n", "100000", "--temp", "0"])
        .arg(common::fixture("tiny-llama3"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Text that is there already stays; the prompt is not part of it.
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", stderr(&done));
    assert!(stderr(&done).starts_with("error: interrupted after "), "{}", stderr(&done));
}
