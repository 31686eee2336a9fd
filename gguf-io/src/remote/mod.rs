//! Models that are read where they are: on the Hugging Face Hub, or any server that serves ranges.
//!
//! [`Model::open`] finds what an [`Address`] leads to. The small files of a checkpoint are fetched into
//! a folder of their own; weights become [`SourceFile`](crate::SourceFile)s whose bytes are asked for
//! when they are read, by ranges, and never touch the disk. A reader that
//! [says](crate::SourceFile::will_read) what it will read gets it ahead of time: several requests are in
//! flight, in a window of memory of a fixed size.
//!
//! # What a server can do
//!
//! It chooses every byte, as whoever makes a model file does, and readers treat them as such. Beyond
//! that: a range is taken only with the status, the range and the length that were asked for; a file is
//! the one that was opened by its length and ETag, and a repository by its commit, and another state of
//! it is an error. What is cut off, stalls or fails is asked for again from where it broke off, for a
//! number of times; waits, redirects, headers and small files are bounded. An access token goes to the
//! [endpoint](Options::endpoint) alone, and never where a server redirects to.

mod address;
mod client;
mod fault;
mod file;
mod model;
mod response;
mod target;
mod tls;
mod window;

use std::time::Duration;

pub use address::{Address, Url};
pub use client::Cancel;
pub use model::Model;

/// How servers are asked. Nothing of it is read from the environment.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The Hub's address.
    pub endpoint: Url,
    /// An access token for the endpoint, sent to no other server.
    pub token: Option<String>,
    /// The proxy, if there is one.
    pub proxy: Option<Proxy>,
    /// Certificates of authorities in PEM, in place of Mozilla's list.
    pub certificates: Option<Vec<u8>>,
    /// Requests in flight at the same time.
    pub parallel: usize,
    /// Bytes of a request of a reader that said what it will read.
    pub piece: usize,
    /// Bytes that are fetched ahead of the reader.
    pub window: usize,
    /// How often a request that brings nothing is tried.
    pub tries: u32,
    /// The wait after the first try; it doubles with each.
    pub backoff: Duration,
    /// The longest wait, also where a server asks for more.
    pub longest_wait: Duration,
    /// How long a server may be silent. A response to one request takes at most four times as long.
    pub stall: Duration,
    /// Of the small files of a checkpoint fetch only config.json and the index, which is enough to look
    /// at its weights.
    pub weights_only: bool,
    /// Stops all requests when it is set.
    pub cancel: Option<Cancel>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: Url::hub(),
            token: None,
            proxy: None,
            certificates: None,
            parallel: 8,
            piece: 4 << 20,
            window: 64 << 20,
            tries: 6,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            weights_only: false,
            cancel: None,
        }
    }
}

/// Without the token.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A proxy that requests go through.
#[derive(Clone)]
pub struct Proxy {
    /// Its address: `http://[USER:PASSWORD@]HOST:PORT`.
    pub address: String,
    /// Hosts that are reached without it: `HOST`, `.DOMAIN` or `*`.
    pub except: Vec<String>,
}

impl Proxy {
    fn of_ureq(&self) -> Result<ureq::Proxy, String> {
        // It may hold a password.
        let wrong = |_| "the proxy is no address such as http://HOST:PORT".to_owned();
        let plain = ureq::Proxy::new(&self.address).map_err(wrong)?;
        if plain.protocol() != ureq::ProxyProtocol::Http {
            return Err("the proxy is not one that is spoken to in HTTP".to_owned());
        }
        let mut builder =
            ureq::Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
        if let Some(user) = plain.username() {
            builder = builder.username(user);
        }
        if let Some(password) = plain.password() {
            builder = builder.password(password);
        }
        for host in &self.except {
            builder = builder.no_proxy(host);
        }
        builder.build().map_err(wrong)
    }
}

/// Without its password.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("except", &self.except).finish_non_exhaustive()
    }
}
