//! What the published crates offer, read from their sources: `docs/api` holds it as it is agreed on, so
//! that no signature changes unnoticed.
//!
//! The lint `unreachable_pub` keeps `pub` to what other crates can reach, and `cargo fmt` keeps the
//! sources in a shape that can be read line by line. After a change that is meant:
//!
//! ```sh
//! UPDATE_API=1 cargo test -p quant-convert --test book
//! ```

use std::{collections::BTreeSet, fs, path::Path};

/// Folders of the crates, and the names of their packages.
const CRATES: [(&str, &str); 7] = [
    ("quant-core", "quant-core"),
    ("kernels", "quant-kernels"),
    ("gguf-io", "gguf-io"),
    ("gguf-model", "gguf-model"),
    ("weights", "quant-weights"),
    ("convert", "quant-convert"),
    ("evaluate", "quant-evaluate"),
];

/// The crates whose interface is not the one agreed on, with the first line that differs.
pub(crate) fn changes(root: &Path) -> Vec<String> {
    let update = std::env::var_os("UPDATE_API").is_some();
    let mut changes = Vec::new();
    for (folder, package) in CRATES {
        let found = interface(&root.join(folder).join("src"));
        let path = root.join("docs/api").join(package).with_extension("txt");
        if update {
            fs::write(&path, &found).unwrap();
        }
        let agreed = fs::read_to_string(&path).unwrap_or_default();
        let differs = |(a, b): &(Option<&str>, Option<&str>)| a != b;
        let (mut old, mut new) = (agreed.lines(), found.lines());
        let first = std::iter::repeat_with(|| (old.next(), new.next()))
            .take_while(|pair| *pair != (None, None))
            .find(differs);
        if let Some((old, new)) = first {
            changes.push(format!(
                "{package}: {:?} became {:?}",
                old.unwrap_or(""),
                new.unwrap_or("")
            ));
        }
    }
    changes
}

/// Every public item of a crate, file by file.
fn interface(source: &Path) -> String {
    let mut paths = Vec::new();
    super::files(source, &mut paths);
    // `tests.rs` is what the tests of a module are called that have a file of their own.
    paths.retain(|path| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs"));
    paths.sort();
    let texts: Vec<_> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let private: BTreeSet<_> =
        texts.iter().flat_map(|text| text.lines()).filter_map(private).collect();
    let mut out = String::new();
    for (path, text) in paths.iter().zip(&texts) {
        let items = items(text, &private);
        if !items.is_empty() {
            let name = path.strip_prefix(source).unwrap().to_str().unwrap().replace('\\', "/");
            out += &format!("# {name}\n{}\n", items.join("\n"));
        }
    }
    out
}

/// The name of a type or trait that a line defines for its crate alone.
fn private(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line =
        line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) ")).unwrap_or(line);
    let rest = ["struct ", "enum ", "trait "].iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The public items of a file, each in one line, methods after the head of their `impl`.
fn items(text: &str, private: &BTreeSet<&str>) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut attributes) = (Vec::new(), Vec::new());
    // The `impl` or trait around, by its indentation, and whether it is written already.
    let mut around: Option<(usize, String, bool)> = None;
    let mut i = 0;
    while let Some(line) = lines.get(i) {
        let (depth, start) = (indent(line), line.trim());
        let end_of_block = |from: usize| {
            let close = |line: &&str| indent(line) == depth && line.trim_start().starts_with('}');
            from + lines[from..].iter().position(close).unwrap_or(lines.len() - from)
        };
        if start.is_empty() || start.starts_with("//") {
            i += 1;
            continue;
        }
        if start.starts_with("#[") {
            attributes.push(start);
            i = after_attribute(&lines, i);
            continue;
        }
        let given = std::mem::take(&mut attributes);
        let is = |attribute: &str| given.iter().any(|given| given.starts_with(attribute));
        if around.as_ref().is_some_and(|(at, ..)| depth <= *at) {
            around = None;
        }
        let in_trait = around.as_ref().is_some_and(|(at, head, _)| {
            head.starts_with("pub trait") && depth == at + 4 && !start.starts_with('}')
        });
        let is_item = start.starts_with("pub ") || in_trait;
        let is_impl = start.starts_with("impl") || start.starts_with("unsafe impl");
        let is_table = depth == 0 && start.ends_with("! {") && !start.starts_with("macro_rules");
        if !(is_item || is_impl || is_table) {
            i = if is("#[cfg(test)]") && start.ends_with('{') {
                end_of_block(i) + 1
            } else {
                i + 1
            };
            continue;
        }
        let (head, last) = head(&lines, i);
        let opens = lines[last].trim_end().ends_with('{');
        let after = if opens { end_of_block(last) + 1 } else { last + 1 };
        if is("#[doc(hidden)]") || is("#[cfg(test)]") {
            i = after;
            continue;
        }
        let told = given.iter().filter(|a| a.starts_with("#[derive") || **a == "#[non_exhaustive]");
        let mark: String = told.flat_map(|attribute| [*attribute, " "]).collect();
        if is_table || start.starts_with("pub enum") && opens {
            out.push(format!("{mark}{head}"));
            let mut at = last + 1;
            while at + 1 < after {
                let line = lines[at].trim();
                if line.starts_with("#[") {
                    at = after_attribute(&lines, at);
                    continue;
                }
                if !line.is_empty() && !line.starts_with("//") {
                    out.push(format!("    {line}"));
                }
                at += 1;
            }
            i = after;
        } else if is_impl {
            let (implements, own) = (head.contains(" for "), !head.contains(" for "));
            if implements && !words(&head).any(|word| private.contains(word)) {
                out.push(head.clone());
            }
            around = own.then_some((depth, head, false));
            // What a trait asks for has no names of its own; methods of a type do.
            i = if implements { after } else { last + 1 };
        } else {
            if let Some((_, head, written)) = around.as_mut().filter(|(.., written)| !written) {
                out.push(head.clone());
                *written = true;
            }
            let inner = if around.is_some() { "    " } else { "" };
            out.push(format!("{inner}{mark}{head}"));
            if start.starts_with("pub trait") {
                around = Some((depth, head, true));
            }
            // The fields of a type follow it; the body of a function is its own affair.
            let has_members = ["pub struct", "pub trait", "pub mod", "pub union"];
            let members = has_members.iter().any(|kind| start.starts_with(kind));
            i = if opens && !members { after } else { last + 1 };
        }
    }
    out
}

/// The line after an attribute, which may take several.
fn after_attribute(lines: &[&str], first: usize) -> usize {
    let last = lines[first..].iter().position(|line| line.trim_end().ends_with(']'));
    first + last.unwrap_or(0) + 1
}

/// What is said of an item before its body or value, in one line, and the line where it ends.
fn head(lines: &[&str], first: usize) -> (String, usize) {
    let field = lines[first].trim_start().strip_prefix("pub ").is_some_and(|rest| {
        rest.split_once(':').is_some_and(|(name, _)| words(name).count() == 1 && !name.is_empty())
    });
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate().skip(first) {
        let line = line.trim();
        let line = line.split_once(" //").map_or(line, |(code, _)| code);
        text += line;
        let ends =
            line.ends_with(['{', ';']) || line.ends_with('}') || (field && line.ends_with(','));
        if ends || text.contains(" = ") && text.starts_with("pub const") && line.ends_with(';') {
            let text = text.strip_suffix('{').unwrap_or(&text).trim();
            let text = text.trim_end_matches([';', ',']);
            // A row more in a list is no change of the interface.
            let is_value = ["pub const", "pub static"].iter().any(|kind| text.starts_with(kind));
            let is_value = is_value && !text.contains(" fn ");
            let text = if is_value { text.split(" = ").next().unwrap_or(text) } else { text };
            return (text.replace("( ", "(").replace(", )", ")").replace(",)", ")"), i);
        }
        text.push(' ');
    }
    (text, lines.len() - 1)
}
