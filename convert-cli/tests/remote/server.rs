//! A web server for tests, which can be told to fail in every way that servers do.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The number of the request, from 0, of all that the server got.
    pub(crate) number: usize,
    /// The path with the query.
    pub(crate) path: String,
    /// The first and last byte.
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) token: Option<String>,
}

impl Request {
    /// Whether it is for weights after their front, which is looked at when a file is opened.
    pub(crate) fn is_for_weights(&self) -> bool {
        self.range.is_some_and(|(first, _)| first > 0)
    }
}

/// What is done about a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// As it should be.
    Serve,
    /// A status and a header line, without a body.
    Answer(u16, String),
    /// A redirect.
    Redirect(String),
    /// Nothing: the connection is closed.
    Hang,
    /// So many bytes of the body, then the connection is closed.
    Cut(usize),
    /// Half of the body, then silence.
    Stall,
    /// A range of half the length that was asked for, honestly.
    Half,
    /// The bytes of another range, honestly or not.
    OtherRange,
    /// Another length of the whole.
    OtherLength,
    /// Fewer bytes in the body than the range has, by Content-Length.
    ShortBody,
    /// The whole file in place of a range.
    Whole,
    /// Another ETag.
    OtherTag,
    /// A compressed body, so it says.
    Encoded,
    /// A header that does not end.
    EndlessHeader,
    /// Bytes that are no HTTP.
    Noise,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    act: Box<dyn Fn(&Request) -> Act + Send + Sync>,
    log: Mutex<Vec<Request>>,
    count: AtomicUsize,
    /// Bytes of bodies that answered ranges.
    served: AtomicU64,
    stop: AtomicBool,
}

impl Server {
    /// Serves files by their paths, which begin with a slash.
    pub(crate) fn start(
        files: BTreeMap<String, Vec<u8>>,
        act: impl Fn(&Request) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            files,
            act: Box::new(act),
            log: Mutex::default(),
            count: AtomicUsize::new(0),
            served: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if server.stop.load(Ordering::Relaxed) {
                    break;
                }
                let server = Arc::clone(&server);
                thread::spawn(move || {
                    // Whoever asked may be gone.
                    let _ = connection.and_then(|connection| server.talk(connection));
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn talk(&self, connection: TcpStream) -> std::io::Result<()> {
        connection.set_read_timeout(Some(Duration::from_secs(60)))?;
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut out = connection;
        while let Some(request) = self.request(&mut reader)? {
            let act = (self.act)(&request);
            if !self.answer(&request, &act, &mut out)? {
                break;
            }
        }
        Ok(())
    }

    fn request(&self, reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
        let mut line = String::new();
        if reader.by_ref().take(65536).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut range, mut token) = (None, None);
        loop {
            let mut line = String::new();
            reader.by_ref().take(65536).read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("range") {
                let (first, last) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                range = Some((first.parse().unwrap(), last.parse().unwrap()));
            } else if name.eq_ignore_ascii_case("authorization") {
                token = value.strip_prefix("Bearer ").map(str::to_owned);
            }
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let request = Request { number, path, range, token };
        self.log.lock().unwrap().push(request.clone());
        Ok(Some(request))
    }

    /// Returns whether the connection stays.
    fn answer(&self, request: &Request, act: &Act, out: &mut TcpStream) -> std::io::Result<bool> {
        let empty = |out: &mut TcpStream, status: u16, header: &str| {
            let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
            write!(out, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{header}\r\n")?;
            Ok(true)
        };
        match act {
            Act::Answer(status, header) => return empty(out, *status, header),
            Act::Redirect(to) => return empty(out, 302, &format!("Location: {to}")),
            Act::Hang => return Ok(false),
            Act::Noise => {
                out.write_all(&[0xff; 512])?;
                return Ok(false);
            }
            Act::EndlessHeader => {
                write!(out, "HTTP/1.1 206 X\r\n")?;
                for n in 0..100_000 {
                    write!(out, "X-Header-{n}: {n}\r\n")?;
                }
                return Ok(false);
            }
            _ => {}
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let Some(file) = self.files.get(path) else { return empty(out, 404, "") };
        let all = file.len() as u64;
        let mut header = String::from("ETag: \"1\"\r\nX-Repo-Commit: 0123456789abcdef\r\n");
        if matches!(act, Act::OtherTag) {
            header = header.replace("\"1\"", "\"2\"");
        }
        if matches!(act, Act::Encoded) {
            header += "Content-Encoding: gzip\r\n";
        }
        let range = request.range.filter(|_| !matches!(act, Act::Whole));
        let Some((first, last)) = range else {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {all}\r\n{header}\r\n")?;
            out.write_all(&file[..file.len() - usize::from(!file.is_empty() && cuts(act))])?;
            return Ok(!cuts(act));
        };
        if first >= all {
            return empty(out, 416, &format!("Content-Range: bytes */{all}"));
        }
        let last = last.min(all - 1);
        let last = if matches!(act, Act::Half) { first + (last - first) / 2 } else { last };
        let body = &file[first as usize..=last as usize];
        let said = if matches!(act, Act::OtherRange) { first.saturating_sub(1) } else { first };
        let length = if matches!(act, Act::OtherLength) { all + 1 } else { all };
        let announced = body.len() - usize::from(matches!(act, Act::ShortBody));
        write!(
            out,
            "HTTP/1.1 206 X\r\nContent-Range: bytes {said}-{last}/{length}\r\n\
             Content-Length: {announced}\r\n{header}\r\n"
        )?;
        let end = match act {
            Act::Cut(bytes) => (*bytes).min(body.len() - 1),
            Act::Stall => body.len() / 2,
            _ => announced,
        };
        out.write_all(&body[..end])?;
        self.served.fetch_add(end as u64, Ordering::Relaxed);
        if matches!(act, Act::Stall) {
            out.flush()?;
            thread::sleep(Duration::from_millis(600));
        }
        Ok(!cuts(act))
    }
}

fn cuts(act: &Act) -> bool {
    matches!(act, Act::Cut(_) | Act::Stall)
}
