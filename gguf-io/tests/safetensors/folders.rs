//! Which files of a folder are its weights, and whether they fit together.

use super::*;

fn open(dir: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(dir, &Limits::default())
}

/// A file with one byte for each tensor.
fn write(dir: &Path, file: &str, names: &[&str]) {
    let tensors: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| tensor(name, "U8", "[1]", &format!("[{i},{}]", i + 1)))
        .collect();
    std::fs::write(dir.join(file), safetensors(&format!("{{{}}}", tensors.join(",")), names.len()))
        .unwrap();
}

fn index(dir: &Path, map: &[(&str, &str)]) {
    let map: Vec<_> = map.iter().map(|(name, file)| format!("{name:?}:{file:?}")).collect();
    let json = format!(r#"{{"metadata":{{"total_size":1.5}},"weight_map":{{{}}}}}"#, map.join(","));
    std::fs::write(dir.join("model.safetensors.index.json"), json).unwrap();
}

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";

#[test]
fn which_files_are_weights() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    assert_error(open(dir), "NotAModel", &["a folder without weights", "model.safetensors"]);
    assert_error(open(&dir.join("none")), "Io", &["none"]);
    std::fs::write(dir.join("pytorch_model.bin"), b"PK").unwrap();
    assert_error(open(dir), "NotAModel", &["pytorch_model.bin", "runs code", "save_pretrained"]);
    assert_error(open(&dir.join("pytorch_model.bin")), "WrongKind", &["a checkpoint folder"]);

    // Shards without an index, as a complete set; other files are no weights.
    write(dir, "reference_logits.safetensors", &["x"]);
    write(dir, TWO, &["a"]);
    assert_error(open(dir), "Set", &["model-00001-of-00002.safetensors is missing"]);
    write(dir, ONE, &["b"]);
    let names = |c: Checkpoint| c.tensors.into_keys().collect::<Vec<_>>();
    assert_eq!(names(open(dir).unwrap()), ["b", "a"]);
    write(dir, "model-00002-of-00003.safetensors", &["c"]);
    assert_error(
        open(dir),
        "Set",
        &["different sets", "model-00001-of-00003", "model-00003-of-00003"],
    );
    std::fs::remove_file(dir.join("model-00002-of-00003.safetensors")).unwrap();
    write(dir, "model-00003-of-00002.safetensors", &["c"]);
    assert_error(open(dir), "Set", &["model-00003-of-00002.safetensors is too many"]);
    std::fs::remove_file(dir.join("model-00003-of-00002.safetensors")).unwrap();

    // A single file goes before them, and before an index unless that names it too.
    write(dir, "model.safetensors", &["s"]);
    assert_eq!(names(open(dir).unwrap()), ["s"]);
    index(dir, &[("a", TWO), ("b", ONE)]);
    assert_eq!(names(open(dir).unwrap()), ["s"]);
    let limits = Limits::default();
    let by_index = || Checkpoint::open_with(dir, Preference::Index, &limits);
    assert_eq!(names(by_index().unwrap()), ["b", "a"]);
    index(dir, &[("a", TWO), ("b", ONE), ("s", "model.safetensors")]);
    assert_eq!(names(open(dir).unwrap()), ["b", "a", "s"]);
    index(dir, &[("s", "model.safetensors")]);
    assert_eq!(names(open(dir).unwrap()), ["s"]);
    assert_eq!(names(by_index().unwrap()), ["s"]);
    index(dir, &[("t", "model.safetensors")]);
    assert_eq!(names(open(dir).unwrap()), ["s"]);
    assert_error(by_index(), "Set", &["tensor \"t\" is not in", "tensor \"s\" is in"]);
    index(dir, &[("a", "../x.safetensors")]);
    assert_eq!(names(open(dir).unwrap()), ["s"]);
    assert_error(by_index(), "Set", &["\"../x.safetensors\" is not a plain file name"]);
}

#[test]
fn shards_with_other_digits_and_prefixes() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let named = |name: &str, ok: bool| {
        write(dir, name, &["a"]);
        assert_eq!(open(dir).is_ok(), ok, "{name}");
        std::fs::remove_file(dir.join(name)).unwrap();
    };
    for name in ["model-1-of-1", "model-000001-of-000001", "model.safetensors-00001-of-00001"] {
        named(&format!("{name}.safetensors"), true);
    }
    for name in
        ["model-0-of-0", "model-1-of-", "model--of-1", "model-a-of-b", "m-1-of-1", "model1-of-1"]
    {
        named(&format!("{name}.safetensors"), false);
    }
    // A count that no set has must not cost time.
    named("model-1-of-999999999.safetensors", false);
    named("model-1-of-999999.safetensors", false);
    named("model-1-of-99999999999999999999.safetensors", false);
}

#[test]
fn indexes_that_do_not_fit() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, ONE, &["a"]);
    write(dir, TWO, &["b"]);
    index(dir, &[("a", ONE), ("b", TWO)]);
    open(dir).unwrap();

    index(
        dir,
        &[
            ("a", "/etc/passwd"),
            ("b", "../x.safetensors"),
            ("c", "sub/x.safetensors"),
            ("d", "x.safetensors"),
            ("e", "a\\b"),
            ("f", ".."),
            ("g", "m.bin"),
        ],
    );
    assert_error(
        open(dir),
        "Set",
        &[
            "index.json",
            "\"/etc/passwd\" is not a plain file name",
            "\"../x.safetensors\" is not",
            "\"sub/x.safetensors\" is not",
            "\"x.safetensors\" is missing",
            "\"..\" is not",
            "\"m.bin\" is not a safetensors file",
            "\"model-00001-of-00002.safetensors\" is not in the index",
        ],
    );
    index(dir, &[("a", ONE), ("b", TWO), ("c", TWO), ("d", ONE)]);
    assert_error(
        open(dir),
        "Set",
        &["tensor \"c\" is not in model-00002", "tensor \"d\" is not in model-00001"],
    );
    index(dir, &[("a", TWO), ("b", ONE)]);
    assert_error(
        open(dir),
        "Set",
        &["tensor \"a\" is in model-00001-of-00002.safetensors, the index has it in model-00002"],
    );
    write(dir, TWO, &["b", "c"]);
    index(dir, &[("a", ONE), ("b", TWO)]);
    assert_error(
        open(dir),
        "Set",
        &["tensor \"c\" is in model-00002-of-00002.safetensors but not in the index"],
    );
    write(dir, TWO, &["b", "a"]);
    assert_error(open(dir), "Set", &["tensor \"a\" is in", "and in"]);
    write(dir, TWO, &["b"]);
    index(dir, &[("a", ONE), ("b", TWO), ("a", TWO)]);
    assert_error(open(dir), "Duplicate", &["tensor \"a\"", "in \"model-00001"]);
    index(dir, &[]);
    assert_error(open(dir), "Set", &["weight_map is empty"]);
    for (json, says) in [
        ("{}", "no `weight_map`"),
        ("{\"weight_map\":[]}", "a map of tensor names"),
        ("{\"weight_map\":{\"a\":1}}", "expected a string"),
        ("{\"weight_map\":{},\"weight_map\":{}}", "`weight_map` twice"),
        ("{", "EOF"),
    ] {
        std::fs::write(dir.join("model.safetensors.index.json"), json).unwrap();
        assert_error(open(dir), "Malformed", &["index.json", says]);
    }
    std::fs::write(
        dir.join("model.safetensors.index.json"),
        format!("{{\"x\":{}", "[".repeat(100_000)),
    )
    .unwrap();
    assert_error(open(dir), "Malformed", &["recursion limit"]);
    std::fs::write(
        dir.join("model.safetensors.index.json"),
        "version https://git-lfs.github.com/spec/v1\n",
    )
    .unwrap();
    assert_error(open(dir), "NotAModel", &["git lfs pull"]);
    index(dir, &[("a", ONE), ("b", TWO)]);
    std::fs::write(dir.join(TWO), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert_error(open(dir), "NotAModel", &[TWO, "git lfs pull"]);
}

/// Python writes what JSON has no spelling for, editors on Windows a byte order mark; nobody reads
/// either.
#[test]
fn indexes_as_other_programs_write_them() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(dir, ONE, &["a"]);
    write(dir, TWO, &["b"]);
    let map = format!(r#"{{"a": "{ONE}", "b": "{TWO}"}}"#);
    let set = |text: &str| std::fs::write(dir.join("model.safetensors.index.json"), text).unwrap();
    for size in ["NaN", "Infinity", "-Infinity", "1e999", "[NaN, 1]", "\"NaN\"", "null"] {
        set(&format!(r#"{{"metadata": {{"total_size": {size}}}, "weight_map": {map}}}"#));
        open(dir).unwrap();
    }
    set(&format!("\u{feff}{{\"weight_map\": {map}}}"));
    open(dir).unwrap();
    set(r#"{"weight_map": {"a": NaN}}"#);
    assert_error(open(dir), "Set", &["\"NaN\" is not a safetensors file"]);
    set(r#"{"error": "Repository not found"}"#);
    assert_error(open(dir), "NotAModel", &["an error message of a server", "download it again"]);
}

#[cfg(unix)]
#[test]
fn shards_may_be_links() {
    use std::os::unix::fs::symlink;
    let blobs = tempfile::tempdir().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    write(blobs.path(), "one", &["a"]);
    symlink(blobs.path().join("one"), dir.join(ONE)).unwrap();
    write(dir, TWO, &["b"]);
    index(dir, &[("a", ONE), ("b", TWO)]);
    open(dir).unwrap();
    std::fs::remove_file(blobs.path().join("one")).unwrap();
    assert_error(open(dir), "Set", &["leads nowhere"]);
    std::fs::remove_file(dir.join(ONE)).unwrap();
    symlink("/dev/zero", dir.join(ONE)).unwrap();
    assert_error(open(dir), "WrongKind", &["device"]);
}
