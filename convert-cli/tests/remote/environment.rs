//! What the environment says of servers: proxies, the hosts reached without them, another Hub.

use std::{
    io::{BufRead, BufReader, Write, copy},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{
    common::{refused, stderr, stdout},
    done, expected, files, on,
    server::{Act, Server},
};

/// A proxy that connects whatever is asked for with one server, or answers another status.
struct Proxy {
    address: SocketAddr,
    /// Where to, and with what authorization.
    log: Arc<Mutex<Vec<(String, Option<String>)>>>,
}

impl Proxy {
    fn start(to: SocketAddr, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&log);
        // Ends with the process.
        thread::spawn(move || {
            for connection in listener.incoming() {
                let noted = Arc::clone(&noted);
                thread::spawn(move || {
                    // Whoever asked may be gone.
                    let _ = connection.and_then(|connection| talk(connection, to, status, &noted));
                });
            }
        });
        Self { address, log }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked for since the last call.
    fn log(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn talk(
    connection: TcpStream,
    to: SocketAddr,
    status: u16,
    log: &Mutex<Vec<(String, Option<String>)>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let (mut first, mut authorization) = (String::new(), None);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("proxy-authorization") {
            authorization = Some(value.to_owned());
        }
    }
    let target = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    log.lock().unwrap().push((target.unwrap_or(&first).to_owned(), authorization));
    let mut out = connection;
    if status != 200 {
        return write!(out, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(to)?;
    write!(out, "HTTP/1.1 200 X\r\n\r\n")?;
    let mut back = (server.try_clone()?, out);
    thread::spawn(move || copy(&mut back.0, &mut back.1));
    copy(&mut reader, &mut server).map(drop)
}

const COMMIT: &str = "0123456789abcdef";

/// A Hub below a path.
fn hub(below: &str) -> Server {
    let mut served = files("tiny-llama2", &format!("{below}/org/tiny-llama2/resolve/main"));
    served.extend(files("tiny-llama2", &format!("{below}/org/tiny-llama2/resolve/{COMMIT}")));
    Server::start(served, |_| Act::Serve)
}

#[test]
fn proxies_are_asked_for_the_hosts_they_are_for() {
    let hub = hub("");
    let proxy = Proxy::start(hub.address, 200);
    let near = stdout(&done(&mut on(&hub, "inspect", "hf://org/tiny-llama2")));
    // Nobody but the proxy knows this host.
    let far = |name: &str, value: &str| {
        let mut run = on(&hub, "inspect", "hf://org/tiny-llama2");
        run.env("HF_ENDPOINT", "http://hub.invalid").env(name, value);
        run
    };
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        assert_eq!(stdout(&done(&mut far(name, &proxy.url()))), near, "{name}");
        let log = proxy.log();
        assert!(!log.is_empty() && log.iter().all(|(to, _)| to == "hub.invalid:80"), "{log:?}");
    }
    // With a name and a password, which has to be percent-encoded.
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let mut run = on(&hub, "convert", "hf://org/tiny-llama2");
    run.env("HF_ENDPOINT", "http://hub.invalid:81").args(["-t", "q8_0", "--no-sync", "-o"]);
    let address = proxy.url().replace("//", "//user:pass%21word@");
    done(run.arg(&output).env("HTTP_PROXY", address));
    assert!(std::fs::read(output).unwrap() == expected());
    let basic = Some("Basic dXNlcjpwYXNzIXdvcmQ=".to_owned());
    assert!(proxy.log().iter().all(|asked| *asked == ("hub.invalid:81".into(), basic.clone())));

    // Hosts that are reached without it, and a proxy that is for encrypted connections only.
    let near_by = |name: &str, value: &str, except: &str| {
        let address = hub.url("").replace("127.0.0.1", "localhost");
        let mut run = on(&hub, "inspect", "hf://org/tiny-llama2");
        run.env("HF_ENDPOINT", address).env(name, value).env("NO_PROXY", except);
        run
    };
    for except in ["localhost", "LocalHost", "example.org, localhost", "*", "localhost,"] {
        assert_eq!(stdout(&done(&mut near_by("HTTP_PROXY", &proxy.url(), except))), near);
        assert_eq!(proxy.log(), [], "{except}");
    }
    done(
        near_by("HTTP_PROXY", &proxy.url(), "").env_remove("NO_PROXY").env("no_proxy", "localhost"),
    );
    done(&mut near_by("HTTPS_PROXY", &proxy.url(), ""));
    assert_eq!(proxy.log(), []);
    for except in ["", "example.org", "host", "localhost.example.org"] {
        done(&mut near_by("HTTP_PROXY", &proxy.url(), except));
        assert!(!proxy.log().is_empty(), "{except}");
    }
}

#[test]
fn a_proxy_that_makes_no_way_is_told_from_a_server() {
    let hub = hub("");
    let refusal = |address: &str, says: &[&str]| {
        let mut run = on(&hub, "inspect", "hf://org/tiny-llama2");
        let done = run.env("HTTP_PROXY", address).output().unwrap();
        assert_eq!(refused(&done, says), Vec::<String>::new(), "{}", stderr(&done));
        assert!(!stderr(&done).contains("word"), "{}", stderr(&done));
    };
    refusal("http://user:word@127.0.0.1:1", &["/config.json", "the proxy does not take"]);
    for (status, says) in [
        (407, "the proxy asks for a name and a pass"),
        (403, "the proxy does not let us connect to the server (403)"),
        (502, "the proxy does not reach the server (502); given up after 2 tries"),
    ] {
        let proxy = Proxy::start(hub.address, status);
        if status != 407 {
            refusal(&proxy.url().replace("//", "//user:word@"), &[says]);
        } else {
            let mut run = on(&hub, "inspect", "hf://org/tiny-llama2");
            let done = run.env("HTTP_PROXY", proxy.url()).output().unwrap();
            let says = [says, "http://USER:PASSWORD@HOST:PORT"];
            assert_eq!(refused(&done, &says), Vec::<String>::new(), "{}", stderr(&done));
        }
        let tries = if status == 502 { 2 } else { 1 };
        assert_eq!(proxy.log().len(), tries, "{status}");
    }
    for address in ["socks5://user:word@127.0.0.1:1", "http://", "::user:word@::"] {
        refusal(address, &["the proxy is "]);
    }
    assert!(hub.log().is_empty());
}

#[test]
fn the_hub_may_be_a_mirror_below_a_path() {
    let mirror = hub("/mirror");
    let near =
        stdout(&done(super::quantwright().arg("inspect").arg(super::fixture("tiny-llama2"))));
    let looked_at = |endpoint: &str, address: &str| {
        let mut run = on(&mirror, "inspect", address);
        stdout(&done(run.env("HF_ENDPOINT", endpoint).env("HF_TOKEN", " secret\n")))
    };
    let endpoint = mirror.url("/mirror");
    for endpoint in [endpoint.clone(), format!("{endpoint}/"), format!(" {endpoint} ")] {
        assert_eq!(looked_at(&endpoint, "hf://org/tiny-llama2"), near, "{endpoint}");
    }
    // The page of a repository there is its address too, and the commit is pinned.
    let asked = mirror.log().len();
    assert_eq!(looked_at(&endpoint, &mirror.url("/mirror/org/tiny-llama2/tree/main")), near);
    let log = mirror.log();
    let pinned = format!("/mirror/org/tiny-llama2/resolve/{COMMIT}/");
    assert!(log.len() > asked + 1);
    assert!(log[asked + 1..].iter().all(|request| request.path.starts_with(&pinned)), "{log:?}");
    assert!(log.iter().all(|request| request.token.as_deref() == Some("secret")));
    // Another server gets no token.
    let other = Server::start(files("tiny-llama2", "/m"), |_| Act::Serve);
    assert_eq!(looked_at(&endpoint, &other.url("/m")), near);
    assert!(other.log().iter().all(|request| request.token.is_none()));

    for endpoint in ["ftp://hub", "hub", "http://", "http://user:word@hub"] {
        let mut run = on(&mirror, "inspect", "hf://org/tiny-llama2");
        let done = run.env("HF_ENDPOINT", endpoint).output().unwrap();
        assert_eq!(refused(&done, &["HF_ENDPOINT"]), Vec::<String>::new(), "{}", stderr(&done));
        assert!(!stderr(&done).contains("word@"));
    }
}
