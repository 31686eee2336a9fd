//! Tells the program from which commit it is built.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=QUANTWRIGHT_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let given = env::var("QUANTWRIGHT_COMMIT").ok();
    let commit = given.or_else(|| packaged(&folder)).or_else(|| checked_out(&folder));
    println!("cargo::rustc-env=QUANTWRIGHT_COMMIT={}", commit.unwrap_or_default());
}

/// What `cargo package` writes beside the manifest. Whoever unpacks that in a checkout of another
/// project is not told its commit.
fn packaged(folder: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(folder).join(".cargo_vcs_info.json")).ok()?;
    let (_, after) = text.split_once("\"sha1\"")?;
    Some(after.split('"').nth(1)?.get(..9)?.to_owned())
}

/// The commit of this repository.
fn checked_out(folder: &str) -> Option<String> {
    let git = |arguments: &[&str]| {
        let done = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        let text = String::from_utf8(done.stdout).ok()?;
        done.status.success().then(|| text.trim().to_owned())
    };
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // Of the repository that this file belongs to, not of one around an unpacked archive.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    git(&["rev-parse", "--short=9", "HEAD"])
}
