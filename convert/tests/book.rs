//! What the book and the other documents say of the code, where it can be counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod api;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The Markdown files of the root, the book and `interop`, relative to the root.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/src/", "interop/", "fixtures/"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    found.sort();
    found
}

/// The numbers that stand before `what`.
fn numbers_before(text: &str, what: &str) -> Vec<usize> {
    text.match_indices(what)
        .filter_map(|(at, _)| text[..at].rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect()
}

#[test]
fn counts_of_classes_are_those_of_the_code() {
    let families = quant_convert::architectures::ALL.iter();
    let classes: BTreeSet<_> = families.flat_map(|family| family.classes).collect();
    for path in ["README.md", "docs/src/guide.md", "docs/src/architectures.md"] {
        let found = numbers_before(&read(path), " model classes");
        assert!(!found.is_empty(), "{path} does not say how many model classes there are");
        let wrong = found.iter().find(|count| **count != classes.len());
        assert_eq!(wrong, None, "{path}: there are {} model classes", classes.len());
    }
}

/// The cells of the table in a section of a page whose first column is headed so.
fn table<'a>(page: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let start = page.find(&format!("| {head} |")).unwrap_or_else(|| panic!("no table of {head:?}"));
    let lines = page[start..].lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands between back quotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Every class of llama.cpp's converter is on the page once: converted, or missing with a reason. Where
/// the page says that evaluate runs a model, it does, and where it does not, the page says why.
#[test]
fn the_page_of_architectures_is_complete() {
    const PAGE: &str = "docs/src/architectures.md";
    const UPDATE: &str = "UPDATE_BOOK=1 cargo test -p quant-convert --test book renews it";
    let page = read(PAGE);
    let families = quant_convert::architectures::ALL;
    let runs = |name: &str| gguf_model::Forward::find(name).is_some();
    let (mut renewed, mut problems) = (page.clone(), Vec::new());
    let mut listed: Vec<&str> = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [classes, names, run, what] = cells.as_slice() else { continue };
        let Some(name) = quoted(names).next() else { continue };
        for class in quoted(classes) {
            listed.push(class);
            if !families.iter().any(|family| family.name == name && family.classes.contains(&class))
            {
                problems.push(format!("{class} is no class of {name}"));
            }
        }
        let expected = if runs(name) { "yes" } else { "no" };
        if *run != expected {
            renewed =
                renewed.replace(line, &format!("| {classes} | {names} | {expected} | {what} |"));
        }
    }
    if std::env::var_os("UPDATE_BOOK").is_some() {
        fs::write(root().join(PAGE), &renewed).unwrap();
    } else if renewed != page {
        problems.push(format!("what evaluate runs is out of date: {UPDATE}"));
    }
    for class in families.iter().flat_map(|family| family.classes) {
        let times = listed.iter().filter(|other| *other == class).count();
        if times != 1 {
            problems.push(format!("{class} is listed {times} times"));
        }
    }
    let missing: Vec<_> = table(&page, "not converted").into_iter().map(|row| row[1]).collect();
    let missing: BTreeSet<_> = missing.into_iter().flat_map(quoted).collect();
    let reference = read("convert/tests/reference_classes.txt");
    let reference: BTreeSet<_> = reference.lines().filter(|line| !line.starts_with('#')).collect();
    let known: BTreeSet<_> = listed.iter().copied().collect();
    for class in reference.symmetric_difference(&(&known | &missing).iter().copied().collect()) {
        if !known.contains(class) {
            problems.push(format!(
                "{class} is on one list of those that are missing, not on the other"
            ));
        }
    }
    problems.extend(known.intersection(&missing).map(|class| format!("{class} is converted")));
    for (count, what) in [
        (reference.len(), " classes of text models"),
        (missing.len(), " classes are missing"),
        (reference.intersection(&known).count(), " of them are converted"),
    ] {
        if numbers_before(&page, what) != [count] {
            problems.push(format!("the page should say once: {count}{what}"));
        }
    }
    let reasons: Vec<_> = table(&page, "not run").into_iter().map(|row| row[0]).collect();
    let reasons: BTreeSet<_> = reasons.into_iter().flat_map(quoted).collect();
    let idle = families.iter().map(|family| family.name).filter(|name| !runs(name));
    for name in reasons.symmetric_difference(&idle.collect()) {
        problems.push(format!("{name} is run and listed as not run, or the other way round"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The code of a text in Rust, without comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn examples_of_the_guides_are_in_the_code() {
    for (page, source) in [
        ("adding-an-architecture", "convert/src/architectures/qwen3.rs"),
        ("adding-an-architecture", "convert/src/architectures/shared.rs"),
        ("adding-a-gguf-architecture", "gguf-model/src/architectures/smollm3.rs"),
    ] {
        let (page, source) = (read(&format!("docs/src/{page}.md")), code(&read(source)));
        let mut found = page.split("```rust,ignore\n").skip(1).filter(|example| {
            let example = code(example.split("```").next().unwrap());
            source.contains(&example)
        });
        assert!(found.next().is_some(), "no example is in the code:\n{source}");
    }
}

/// Files of a folder, with those of the folders in it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The options that a text names.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let is_end = |c: char| !c.is_ascii_lowercase() && c != '-';
    let found = text.match_indices("--").filter_map(move |(at, _)| text[at..].split(is_end).next());
    found.filter(|option| option[2..].starts_with(|c: char| c != '-'))
}

/// Libraries name options as their documentation does; the program puts its own names there.
#[test]
fn libraries_say_no_words_of_the_command_line() {
    let pages = documents().into_iter().filter(|path| path.starts_with("docs/"));
    let pages: String = pages.map(|path| read(&path)).collect();
    let ours: BTreeSet<_> = options(&pages).collect();
    assert!(ours.contains("--mmproj") && ours.contains("--base"), "{ours:?}");
    let mut problems = Vec::new();
    for folder in
        ["quant-core", "kernels", "gguf-io", "gguf-model", "weights", "convert", "evaluate"]
    {
        let mut paths = Vec::new();
        files(&root().join(folder).join("src"), &mut paths);
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            for line in product.lines().filter(|line| !line.trim_start().starts_with("//")) {
                if options(line).any(|option| ours.contains(option)) {
                    problems.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_threat_model_counts_the_unsafe_blocks() {
    let (page, source) = (read("docs/src/threat-model.md"), root().join("kernels/src"));
    let mut paths = Vec::new();
    files(&source, &mut paths);
    let mut total = 0;
    for path in paths {
        let count = fs::read_to_string(&path).unwrap().matches("unsafe {").count();
        total += count;
        let name = path.strip_prefix(&source).unwrap().to_str().unwrap().replace('\\', "/");
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| `{name}` | ")));
        let said = row.and_then(|row| row.split([' ', ',']).next()?.parse().ok());
        assert_eq!(said.unwrap_or(0), count, "unsafe blocks of {name}");
    }
    assert_eq!(numbers_before(&page, " blocks, counted"), [total]);
}

#[test]
fn the_summary_lists_every_page() {
    let summary = read("docs/src/SUMMARY.md");
    for page in documents() {
        if let Some(name) = page.strip_prefix("docs/src/").filter(|name| *name != "SUMMARY.md") {
            assert!(summary.contains(&format!("]({name})")), "{name} is not in SUMMARY.md");
        }
    }
}

/// The name that a heading has in links: lower case, words joined by `-`, no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().unwrap().to_owned();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { root().join(&document) } else { folder.join(path) };
            let found = path.exists()
                && (heading.is_empty()
                    || fs::read_to_string(&path).unwrap().lines().any(|line| {
                        let title = line.trim_start_matches('#');
                        title.len() < line.len() && anchor(title) == heading
                    }));
            if !found {
                dead.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// An example marks the lines that do its job. The table of the chapter says how many there are.
#[test]
fn jobs_take_as_few_lines_as_the_chapter_says() {
    let page = read("docs/src/library.md");
    let mut jobs = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains("[example]")) {
        let path = row.split_once("[example](../../").unwrap().1.split(')').next().unwrap();
        let said: usize =
            row.trim_end_matches([' ', '|']).rsplit(' ').next().unwrap().parse().unwrap();
        let text = read(path);
        let (_, job) = text.split_once("// The job, ").unwrap();
        let (header, job) = job.split_once('\n').unwrap();
        let lines = job.split_once("// Done.").unwrap().0.lines().filter(|l| !l.trim().is_empty());
        assert_eq!(lines.count(), said, "{path}");
        assert_eq!(header, format!("{said} lines:"), "{path}");
        jobs += 1;
    }
    assert_eq!(jobs, 5);
}

#[test]
fn what_the_crates_offer_is_what_was_agreed_on() {
    let changes = api::changes(&root());
    assert!(
        changes.is_empty(),
        "{}\nif that is meant: UPDATE_API=1 cargo test -p quant-convert --test book",
        changes.join("\n")
    );
}
