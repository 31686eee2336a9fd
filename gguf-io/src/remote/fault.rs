//! What keeps the bytes of a file from being here, and what helps.

use std::{fmt, io, time::Duration};

use ureq::http::StatusCode;

/// Why bytes are not here.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It may be over soon; how long to wait, if the server says so.
    Passing { problem: String, wait: Option<Duration> },
    /// The server could not be reached: a name or port that never was is likely wrong.
    Unreachable(String),
    /// Asking again does not help.
    Lasting { problem: String, help: &'static str },
    /// The server has no such file.
    Absent,
    /// The server denies access, for this reason.
    Denied(StatusCode),
    /// The file is another one than before.
    Changed(String),
    /// The caller asked to stop.
    Cancelled,
}

pub(super) const TRY_AGAIN: &str = "check the connection and run again";
const NO_TOKEN: &str = "check the address, or give an access token of an account that may read it";
const NOT_SERVED: &str = "download the files first, and give their folder";
const NOT_THERE: &str = "check the address";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passing { problem, .. }
            | Self::Unreachable(problem)
            | Self::Lasting { problem, .. } => f.write_str(problem),
            Self::Absent => f.write_str("the server has no such file"),
            Self::Denied(status) => write!(f, "the server denies access ({status})"),
            Self::Changed(what) => write!(f, "the file changed while it was read: {what}"),
            Self::Cancelled => f.write_str("interrupted"),
        }
    }
}

impl Fault {
    /// What to do.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Lasting { help, .. } => help,
            Self::Denied(_) => NO_TOKEN,
            Self::Absent => NOT_THERE,
            _ => TRY_AGAIN,
        }
    }

    /// What may be over soon.
    pub(super) fn passing(problem: impl Into<String>) -> Self {
        Self::Passing { problem: problem.into(), wait: None }
    }

    /// A server that cannot be read from.
    pub(super) fn lying(problem: impl Into<String>) -> Self {
        Self::Lasting { problem: problem.into(), help: NOT_SERVED }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            // Not `Interrupted`, which asks for another try.
            Fault::Cancelled => Self::other("interrupted"),
            fault => Self::other(format!("{fault}; {}", fault.help())),
        }
    }
}

/// What is wrong with a proxy that was reached and makes no way to the server. ureq says
/// `proxy server responded 407/407`.
pub(super) fn barred(reason: &str) -> Fault {
    let status = reason.rsplit('/').next().and_then(|status| status.parse::<u16>().ok());
    let lasting = |problem, help| Fault::Lasting { problem, help };
    match status {
        Some(407) => lasting(
            "the proxy asks for a name and a password (407)".to_owned(),
            "give them in its address: http://USER:PASSWORD@HOST:PORT",
        ),
        Some(status @ 500..) => {
            Fault::Unreachable(format!("the proxy does not reach the server ({status})"))
        }
        Some(status) => lasting(
            format!("the proxy does not let us connect to the server ({status})"),
            "use another proxy, or reach this host without one",
        ),
        None => Fault::passing("the proxy does not answer"),
    }
}

/// The error of a connection.
pub(super) fn broken(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Fault::passing("the server does not answer in time")
        }
        _ => Fault::passing(error.to_string()),
    }
}
