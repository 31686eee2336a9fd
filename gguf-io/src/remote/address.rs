//! Addresses of models: `hf://ORG/NAME[@REVISION][/FILE]` and http(s) URLs.

use std::fmt;

/// Where a model is that is not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A repository of the Hugging Face Hub, or a file in it.
    Hub {
        /// `ORG/NAME`.
        repository: String,
        /// A branch, tag or commit.
        revision: String,
        /// The path of a file; the whole repository without it.
        file: Option<String>,
    },
    /// A folder or file of a web server.
    Web(Url),
}

/// An http or https URL without a fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// Host and port, in lower case.
    host: String,
    /// From the slash on, percent-encoded.
    path: String,
    /// From the question mark on, or empty. It may hold a signature that gives access.
    query: String,
}

const HUB: &str = "hf://";

impl Address {
    /// Reads an address; `None` for what is the path of a file.
    ///
    /// # Errors
    /// What is wrong with an address.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        if let Some(rest) = text.strip_prefix(HUB) {
            return Some(hub(rest));
        }
        let scheme = text.split_once("://")?.0.to_ascii_lowercase();
        ["http", "https"].contains(&scheme.as_str()).then(|| Url::parse(text).map(Self::Web))
    }

    /// The same file or folder as an address of the Hub, if it is the page of one at `endpoint`.
    pub(super) fn or_page_of_hub(self, endpoint: &Url) -> Self {
        let Self::Web(url) = &self else { return self };
        if !url.same_origin(endpoint) || !url.query.is_empty() {
            return self;
        }
        // A mirror may be below a path of its host.
        let Some(page) = url.path.strip_prefix(endpoint.path.trim_end_matches('/')) else {
            return self;
        };
        let words: Vec<_> = page.split('/').filter(|word| !word.is_empty()).collect();
        let (repository, revision, file) = match words.as_slice() {
            [_, name] if is_file(name) => return self,
            [org, name] => (format!("{org}/{name}"), "main", None),
            [org, name, "tree", revision] => (format!("{org}/{name}"), *revision, None),
            [org, name, "resolve" | "blob" | "raw", revision, file @ ..] if !file.is_empty() => {
                (format!("{org}/{name}"), *revision, Some(file.join("/")))
            }
            _ => return self,
        };
        let plain = |text: &str| !text.contains('%');
        if !plain(&url.path) {
            return self;
        }
        Self::Hub { repository, revision: revision.to_owned(), file }
    }
}

/// Whether a name is that of a file of a model, or a part of a checkpoint. Names of models have dots, too.
pub(super) fn is_file(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["gguf", "json", "safetensors", "dat"].contains(&ending)
}

fn hub(rest: &str) -> Result<Address, String> {
    const EXPECTED: &str = "expected hf://ORG/NAME, hf://ORG/NAME@REVISION, and /FILE after either";
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let rest = rest.trim_end_matches('/');
    let (org, rest) = rest.split_once('/').ok_or(EXPECTED)?;
    let end = rest.find(['/', '@']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let (revision, file) = match rest.strip_prefix('@') {
        None => ("main", rest.strip_prefix('/')),
        Some(rest) => {
            // Names of such references have slashes in them.
            let slashes = if rest.starts_with("refs/") { 2 } else { 0 };
            match rest.match_indices('/').nth(slashes) {
                Some((at, _)) => (&rest[..at], rest.get(at + 1..)),
                None => (rest, None),
            }
        }
    };
    let plain = |text: &str| {
        !text.is_empty() && text.split('/').all(|part| !["", ".", ".."].contains(&part))
    };
    if !word(org) || !word(name) || !plain(revision) || !file.is_none_or(plain) {
        return Err(EXPECTED.to_owned());
    }
    Ok(Address::Hub {
        repository: format!("{org}/{name}"),
        revision: revision.to_owned(),
        file: file.map(str::to_owned),
    })
}

impl Url {
    /// That of the Hugging Face Hub.
    pub fn hub() -> Self {
        let host = "huggingface.co".to_owned();
        Self { secure: true, host, path: "/".to_owned(), query: String::new() }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected an http or https URL".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(expected()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, rest) = rest.split_at(end);
        if host.contains('@') {
            return Err("names and passwords are not taken from an address".to_owned());
        }
        let host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if host.is_empty() || host.starts_with(':') || !host.bytes().all(host_byte) {
            return Err(expected());
        }
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase(),
            path: encode(path, b"%!$&'()*+,;=:@/"),
            query: encode(query, b"%!$&'()*+,;=:@/?"),
        })
    }

    /// All of it, for a request.
    pub(super) fn text(&self) -> String {
        format!("{}{}", self, self.query)
    }

    /// Whether requests to it go to the same server, in the same way, as those to another.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| {
            let tail = url.host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
            match tail {
                Some((host, port)) => (host.to_owned(), port.to_owned()),
                None => (url.host.clone(), if url.secure { "443" } else { "80" }.to_owned()),
            }
        };
        (self.secure, port(self)) == (other.secure, port(other))
    }

    /// Whether it is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// A file in the folder that this is. What gives access to a folder gives it to its files.
    pub(super) fn file(&self, name: &str) -> Self {
        self.below(&encode(name, b"/"))
    }

    /// What is below this by a path that is percent-encoded.
    pub(super) fn below(&self, encoded: &str) -> Self {
        Self { path: format!("{}/{encoded}", self.path.trim_end_matches('/')), ..self.clone() }
    }

    /// The folder that the file is in, and the name of the file.
    pub(super) fn split(&self) -> (Self, String) {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        (Self { path: format!("{folder}/"), ..self.clone() }, decode(name))
    }

    /// The last word of the path.
    pub(super) fn name(&self) -> String {
        decode(self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default())
    }

    /// What a server that redirects says in `Location`.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let scheme = if self.secure { "https" } else { "http" };
        match location.strip_prefix("//") {
            Some(rest) => Self::parse(&format!("{scheme}://{rest}")),
            None if location.starts_with('/') => {
                Self::parse(&format!("{scheme}://{}{location}", self.host))
            }
            None => {
                let (folder, _) = self.path.rsplit_once('/').unwrap_or_default();
                Self::parse(&format!("{scheme}://{}{folder}/{location}", self.host))
            }
        }
    }
}

/// Without the query, which may be a secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Percent-encodes what is no letter, digit, `-`, `.`, `_`, `~` or one of `also`.
pub(super) fn encode(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(text: &str) -> String {
    let digit = |at: Option<u8>| char::from(at?).to_digit(16);
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let code = (digit(bytes.get(at + 1).copied()), digit(bytes.get(at + 2).copied()));
        match (byte, code) {
            (b'%', (Some(high), Some(low))) => {
                out.push(u8::try_from(16 * high + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap().unwrap()
    }

    fn on_hub(repository: &str, revision: &str, file: Option<&str>) -> Address {
        Address::Hub {
            repository: repository.into(),
            revision: revision.into(),
            file: file.map(Into::into),
        }
    }

    #[test]
    fn addresses_of_the_hub() {
        for (text, expected) in [
            ("hf://a/b", on_hub("a/b", "main", None)),
            ("hf://a/b/", on_hub("a/b", "main", None)),
            ("hf://a/b@v1.0", on_hub("a/b", "v1.0", None)),
            ("hf://a/b@refs/pr/3", on_hub("a/b", "refs/pr/3", None)),
            ("hf://a/b@refs/pr/3/x.gguf", on_hub("a/b", "refs/pr/3", Some("x.gguf"))),
            ("hf://a/b/q4/x.gguf", on_hub("a/b", "main", Some("q4/x.gguf"))),
            ("hf://a/b@c0ffee/x.gguf", on_hub("a/b", "c0ffee", Some("x.gguf"))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for bad in [
            "hf://",
            "hf://a",
            "hf://a/",
            "hf:///b",
            "hf://a/b@",
            "hf://a/b/../c",
            "hf://a/b@../c",
            "hf://../b",
            "hf://a/b?x",
            "hf://a b/c",
            "hf://a/b//c",
        ] {
            assert!(Address::parse(bad).unwrap().is_err(), "{bad}");
        }
        for path in ["model.gguf", "a/b", "./hf", "C:\\x", "ftp://a/b", "dir/https"] {
            assert!(Address::parse(path).is_none(), "{path}");
        }
    }

    #[test]
    fn pages_of_the_hub_are_repositories() {
        let hub = Url::parse("https://huggingface.co").unwrap();
        let page = |text: &str| parse(text).or_page_of_hub(&hub);
        assert_eq!(page("https://huggingface.co/a/b"), on_hub("a/b", "main", None));
        assert_eq!(page("https://huggingface.co/a/b/tree/v2"), on_hub("a/b", "v2", None));
        let file = on_hub("a/b", "main", Some("d/x.gguf"));
        assert_eq!(page("https://huggingface.co:443/a/b/blob/main/d/x.gguf"), file);
        for other in
            ["https://huggingface.co/a", "http://huggingface.co/a/b", "https://example.com/a/b"]
        {
            assert!(matches!(page(other), Address::Web(_)), "{other}");
        }
    }

    #[test]
    fn urls_are_taken_apart_and_put_together() {
        let url = Url::parse("HTTPS://Example.com:8443/models/x y?sig=a%2Fb#part").unwrap();
        assert_eq!(url.text(), "https://example.com:8443/models/x%20y?sig=a%2Fb");
        assert_eq!(url.to_string(), "https://example.com:8443/models/x%20y");
        assert_eq!(
            url.file("m-1 2.gguf").text(),
            "https://example.com:8443/models/x%20y/m-1%202.gguf?sig=a%2Fb"
        );
        assert_eq!(url.name(), "x y");
        let (folder, name) = url.split();
        assert_eq!(
            (folder.to_string().as_str(), name.as_str()),
            ("https://example.com:8443/models/", "x y")
        );
        for (location, expected) in [
            ("/z?q", "https://example.com:8443/z?q"),
            ("//cdn/z", "https://cdn/z"),
            ("http://h/", "http://h/"),
            ("z", "https://example.com:8443/models/z"),
        ] {
            assert_eq!(url.join(location).unwrap().text(), expected);
        }
        for bad in ["https://", "https:///x", "https://u:p@h/x", "https://h h/x", "ftp://h/x"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        let origin = |a: &str, b: &str| Url::parse(a).unwrap().same_origin(&Url::parse(b).unwrap());
        assert!(
            origin("https://a/x", "https://a:443/y") && origin("http://[::1]/", "http://[::1]:80/")
        );
        assert!(!origin("https://a/", "http://a/") && !origin("https://a/", "https://b.a/"));
        assert!(!origin("https://a:1/", "https://a:2/") && !origin("https://a/", "https://a:80/"));
    }
}
