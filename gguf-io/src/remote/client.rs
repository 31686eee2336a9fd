//! Requests for ranges of files, until their bytes are here or cannot be had.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
};

use super::{
    Options, Url,
    fault::{Fault, TRY_AGAIN, barred, broken},
    response::{content_range, fault, number, refuse_encoded, text, unsatisfied},
    target::Target,
    tls,
};
use crate::error::Quoted;

/// Redirects that are followed for a request.
const MOST_REDIRECTS: usize = 8;

/// Bytes that a request brings before it counts as progress, so that the tries begin anew.
const PROGRESS: usize = 64 << 10;

/// The longest header of a response.
const LONGEST_HEADER: usize = 64 << 10;

/// Asks a server, again and again where that helps.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    /// Whether this processor can encrypt.
    encrypts: bool,
    options: Options,
    /// Whether any request has been answered.
    reached: AtomicBool,
}

/// An answer, and where it came from.
struct Answer {
    response: Response<Body>,
    /// What the first server said of the revision of the whole repository.
    commit: Option<String>,
}

impl Client {
    pub(super) fn new(options: Options) -> Result<Self, Fault> {
        let proxy = match &options.proxy {
            None => None,
            Some(proxy) => Some(proxy.of_ureq().map_err(|problem| Fault::Lasting {
                problem,
                help: "check the address of the proxy",
            })?),
        };
        let provider = tls::provider();
        let encrypts = provider.is_some();
        let tls = tls::config(options.certificates.as_deref(), provider);
        let tls = tls.map_err(|problem| Fault::Lasting {
            problem,
            help: "check the file of certificates",
        })?;
        let stall = Some(options.stall);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("quantwright/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(LONGEST_HEADER)
            .max_idle_connections(options.parallel.saturating_add(4))
            .max_idle_connections_per_host(options.parallel.saturating_add(2))
            .timeout_resolve(stall)
            .timeout_connect(stall)
            .timeout_send_request(stall)
            .timeout_recv_response(stall)
            .timeout_per_read(stall)
            .timeout_recv_body(Some(options.stall.saturating_mul(4)))
            .proxy(proxy)
            .tls_config(tls)
            .build();
        Ok(Self { agent: config.new_agent(), encrypts, options, reached: AtomicBool::new(false) })
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Fills `out` with bytes of a file from `start` on, which it has.
    pub(super) fn fill(&self, target: &Target, start: u64, out: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0;
        self.persist(&mut done, |done| {
            let rest = out.get_mut(*done..).unwrap_or_default();
            match rest.is_empty() {
                true => Ok(()),
                false => {
                    self.range(target, start.saturating_add(*done as u64), rest, done).map(drop)
                }
            }
        })
    }

    /// Reads the first bytes of a file, at most `most`, and takes note of what file it is. Returns
    /// them and what the server said of the revision.
    pub(super) fn first(
        &self,
        target: &Target,
        most: usize,
    ) -> Result<(Vec<u8>, Option<String>), Fault> {
        let mut bytes = vec![0; most];
        let (mut done, mut commit) = (0, None);
        self.persist(&mut done, |done| {
            let len = target.len().and_then(|len| usize::try_from(len).ok());
            let rest = bytes.get_mut(*done..len.map_or(most, |len| len.min(most)));
            if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
                let said = self.range(target, *done as u64, rest, done)?;
                commit = commit.take().or(said);
            }
            Ok(())
        })?;
        bytes.truncate(done);
        Ok((bytes, commit))
    }

    /// Reads a whole file of at most `longest` bytes, whose length need not be known. Returns it and
    /// what the server said of the revision.
    pub(super) fn whole(
        &self,
        url: &Url,
        longest: u64,
    ) -> Result<(Vec<u8>, Option<String>), Fault> {
        let target = Target::new(url.clone());
        let (mut bytes, mut commit, mut done) = (Vec::new(), None, 0);
        self.persist(&mut done, |_| {
            let Answer { response, commit: said } = self.ask(&target, None)?;
            if response.status() != StatusCode::OK {
                return Err(Fault::lying(format!("the server answered {}", response.status())));
            }
            refuse_encoded(response.headers())?;
            let announced = number(response.headers(), header::CONTENT_LENGTH);
            let too_long = || {
                Fault::lying(format!("the file has more than the {longest} bytes that are read"))
            };
            if announced.is_some_and(|len| len > longest) {
                return Err(too_long());
            }
            bytes.clear();
            let mut body = response.into_body().into_reader();
            self.read_all(&mut body, longest, &mut bytes)?;
            if bytes.len() as u64 > longest {
                return Err(too_long());
            }
            if announced.is_some_and(|len| len != bytes.len() as u64) {
                return Err(Fault::passing("the connection was cut"));
            }
            commit = said;
            Ok(())
        })?;
        Ok((bytes, commit))
    }

    /// Reads a body to its end, or one byte more than `longest`.
    fn read_all(&self, body: &mut impl Read, longest: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut buffer = vec![0; 64 << 10];
        while out.len() as u64 <= longest {
            self.check()?;
            match body.read(&mut buffer).map_err(broken)? {
                0 => break,
                n => out.extend(buffer.get(..n).unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// Tries until it is done, or there is no hope. `done` is how far it has got.
    fn persist(
        &self,
        done: &mut usize,
        mut attempt: impl FnMut(&mut usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut tries = 0u32;
        loop {
            self.check()?;
            let before = *done;
            let reached = self.reached.load(Ordering::Relaxed);
            let (problem, wait, most) = match attempt(done) {
                Err(Fault::Passing { problem, wait }) => (problem, wait, self.options.tries),
                Err(Fault::Unreachable(problem)) if reached => (problem, None, self.options.tries),
                Err(Fault::Unreachable(problem)) => (problem, None, self.options.tries.min(2)),
                result => return result,
            };
            if done.saturating_sub(before) >= PROGRESS {
                tries = 0;
            }
            tries = tries.saturating_add(1);
            if tries >= most {
                let problem = format!("{problem}; given up after {tries} tries");
                return Err(Fault::Lasting { problem, help: TRY_AGAIN });
            }
            tracing::debug!(%problem, tries, "asking again");
            let backoff = self.options.backoff.saturating_mul(1 << (tries - 1).min(16));
            self.sleep(wait.unwrap_or(backoff).min(self.options.longest_wait))?;
        }
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        match &self.options.cancel {
            Some(cancel) if cancel.load(Ordering::Relaxed) => Err(Fault::Cancelled),
            _ => Ok(()),
        }
    }

    fn sleep(&self, wait: Duration) -> Result<(), Fault> {
        let end = Instant::now() + wait;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Reads a part of a file that begins at `start` into the front of `out`, with one request. Adds
    /// to `done` what has come, also if it fails.
    fn range(
        &self,
        target: &Target,
        start: u64,
        out: &mut [u8],
        done: &mut usize,
    ) -> Result<Option<String>, Fault> {
        let asked = out.len() as u64;
        let end = start.saturating_add(asked.saturating_sub(1));
        let Answer { response, commit } = self.ask(target, Some((start, end)))?;
        let headers = response.headers();
        let (first, last, len) = match response.status() {
            StatusCode::PARTIAL_CONTENT => content_range(headers)?,
            // The range begins at the end of the file, or after it.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let len = unsatisfied(headers);
                let changed = |len| Fault::Changed(format!("it has {len} bytes now"));
                return match (len, target.len()) {
                    (Some(0), None) if start == 0 => {
                        target.remember(headers, 0)?;
                        Ok(commit)
                    }
                    (Some(len), Some(before)) if len != before => Err(changed(len)),
                    _ => Err(Fault::lying("the server says that there is no such range")),
                };
            }
            StatusCode::OK => {
                return Err(Fault::lying(
                    "the server sends the whole file where a part of it is asked for",
                ));
            }
            status => return Err(Fault::lying(format!("the server answered {status}"))),
        };
        refuse_encoded(headers)?;
        target.remember(headers, len)?;
        if first != start || last > end || last < first || last >= len {
            return Err(Fault::lying(format!(
                "the server sends bytes {first}-{last} of {len} where {start}-{end} are asked for"
            )));
        }
        let length = last - first + 1;
        if number(headers, header::CONTENT_LENGTH).is_some_and(|announced| announced != length) {
            return Err(Fault::lying(format!(
                "the server announces another number of bytes than those of {first}-{last}"
            )));
        }
        let expected = usize::try_from(length).unwrap_or(usize::MAX).min(out.len());
        let mut body = response.into_body().into_reader();
        let mut here = 0;
        while let Some(rest) = out.get_mut(here..expected).filter(|rest| !rest.is_empty()) {
            self.check()?;
            let n = body.read(rest).map_err(broken)?;
            if n == 0 {
                return Err(Fault::passing("the connection was cut"));
            }
            here += n;
            *done = done.saturating_add(n);
        }
        // To the end, so that the connection can be used again.
        if body.read(&mut [0]).is_ok_and(|n| n > 0) {
            return Err(Fault::lying("the server sends more than it announces"));
        }
        match last < end.min(len.saturating_sub(1)) {
            // What has come is kept, but a byte at a time would take for ever.
            true => Err(Fault::passing("the server sends less than is asked for")),
            false => Ok(commit),
        }
    }

    /// Sends a request and follows redirects. The answer has a status that is no fault.
    fn ask(&self, target: &Target, range: Option<(u64, u64)>) -> Result<Answer, Fault> {
        let moved = target.moved();
        let known = moved.is_some();
        let mut url = moved.unwrap_or_else(|| target.url.clone());
        let mut commit = None;
        for hop in 0..=MOST_REDIRECTS {
            let response = self.request(&url, range)?;
            self.reached.store(true, Ordering::Relaxed);
            let status = response.status();
            if hop == 0 && !known {
                commit = text(response.headers(), "x-repo-commit").map(str::to_owned);
            }
            if status.is_redirection() {
                let location = text(response.headers(), "location").ok_or_else(|| {
                    Fault::lying(format!("the server answered {status} and not where to"))
                })?;
                let next = url.join(location).map_err(|problem| {
                    Fault::lying(format!("the server redirects to {}: {problem}", Quoted(location)))
                })?;
                if url.is_secure() && !next.is_secure() {
                    return Err(Fault::lying(format!(
                        "the server redirects to {next}, which is not encrypted"
                    )));
                }
                url = next;
                continue;
            }
            match fault(&response) {
                None => {
                    target.set_moved((url != target.url).then_some(url));
                    return Ok(Answer { response, commit });
                }
                // The address that we were sent to has expired: ask the first server again.
                Some(Fault::Denied(_) | Fault::Absent) if known && hop == 0 => {
                    target.set_moved(None);
                    return self.ask(target, range);
                }
                Some(fault) => {
                    target.set_moved(None);
                    return Err(fault);
                }
            }
        }
        Err(Fault::lying(format!("the server redirects more than {MOST_REDIRECTS} times")))
    }

    /// Whether requests for an address go to the proxy.
    fn is_proxied(&self, url: &Url) -> bool {
        let proxy = self.agent.config().proxy();
        let uri = url.text().parse().ok();
        proxy.zip(uri).is_some_and(|(proxy, uri)| !proxy.is_no_proxy(&uri))
    }

    fn request(&self, url: &Url, range: Option<(u64, u64)>) -> Result<Response<Body>, Fault> {
        if url.is_secure() && !self.encrypts {
            return Err(Fault::lying(
                "encrypted connections need AES and AVX2 instructions (on ARM AES and SHA-2), which \
                 this processor lacks",
            ));
        }
        let mut request = self.agent.get(url.text()).header("Accept-Encoding", "identity");
        if let Some((first, last)) = range {
            request = request.header("Range", format!("bytes={first}-{last}"));
        }
        // Never to another server, wherever that one sends us.
        if let Some(token) = &self.options.token
            && url.same_origin(&self.options.endpoint)
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let whom = if self.is_proxied(url) { "proxy" } else { "server" };
        request.call().map_err(|error| match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Fault::Unreachable(format!("the {whom} does not take the connection"))
            }
            ureq::Error::Io(error) => broken(error),
            ureq::Error::Timeout(_) => Fault::passing("the server does not answer in time"),
            ureq::Error::HostNotFound => Fault::Unreachable(format!("there is no such {whom}")),
            ureq::Error::ConnectionFailed => {
                Fault::Unreachable(format!("the {whom} cannot be reached"))
            }
            ureq::Error::ConnectProxyFailed(reason) => barred(&reason),
            ureq::Error::Protocol(error) => {
                Fault::passing(format!("the server does not speak HTTP: {error}"))
            }
            error => Fault::Lasting { problem: error.to_string(), help: TRY_AGAIN },
        })
    }
}

/// A flag that stops all requests when it is set.
pub type Cancel = Arc<AtomicBool>;
