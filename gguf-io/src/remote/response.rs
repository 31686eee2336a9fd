//! What a response says of itself, read strictly.

use std::time::{Duration, SystemTime};

use ureq::{
    Body,
    http::{HeaderMap, Response, header::HeaderName},
};

use super::fault::Fault;
use crate::error::Quoted;

/// What is wrong with an answer by its status.
pub(super) fn fault(response: &Response<Body>) -> Option<Fault> {
    let status = response.status();
    match status.as_u16() {
        401 | 403 => Some(Fault::Denied(status)),
        404 | 410 => Some(Fault::Absent),
        408 | 425 | 429 | 500..=599 => {
            let wait = text(response.headers(), "retry-after").and_then(delay);
            Some(Fault::Passing { problem: format!("the server answered {status}"), wait })
        }
        _ => None,
    }
}

/// Refuses what has to be decoded first: its ranges are not those of the file.
pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Fault> {
    match text(headers, "content-encoding") {
        Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => Err(Fault::lying(format!(
            "the server sends the file in another encoding, {}",
            Quoted(encoding)
        ))),
        _ => Ok(()),
    }
}

/// A header's value, if it is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header's value, if it is a number.
pub(super) fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    digits(headers.get(name)?.to_str().ok()?)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `bytes FIRST-LAST/LENGTH`.
pub(super) fn content_range(headers: &HeaderMap) -> Result<(u64, u64, u64), Fault> {
    let value = text(headers, "content-range").unwrap_or_default();
    let parsed = || {
        let (range, len) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((digits(first)?, digits(last)?, digits(len)?))
    };
    parsed().ok_or_else(|| {
        Fault::lying(format!(
            "the server does not say which bytes of how many it sends: Content-Range {}",
            Quoted(value)
        ))
    })
}

/// The length in `bytes */LENGTH`.
pub(super) fn unsatisfied(headers: &HeaderMap) -> Option<u64> {
    digits(text(headers, "content-range")?.strip_prefix("bytes */")?)
}

/// How long `Retry-After` asks to wait: seconds, or a date.
fn delay(text: &str) -> Option<Duration> {
    match digits(text) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(date(text)?);
            Some(at.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// Seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.strip_suffix(" GMT")?.split_once(", ")?.1.split(' ');
    let day = digits(words.next()?).filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64;
    let year = digits(words.next()?).filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(|part| digits(part).filter(|n| *n < 61));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Years begin in March here, so that the day that leap years add is the last.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some(days.checked_sub(719_468)? * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
        ] {
            assert_eq!(date(text), Some(seconds), "{text}");
        }
        for bad in ["", "Sunday", "Sun, 06 Nov 1994 08:49:37", "x, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(delay("7"), Some(Duration::from_secs(7)));
        assert_eq!(delay("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(delay("soon"), None);
    }

    #[test]
    fn ranges_are_read_strictly() {
        let range = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", text.parse().unwrap());
            content_range(&headers).ok()
        };
        assert_eq!(range("bytes 0-9/100"), Some((0, 9, 100)));
        for bad in ["", "bytes 0-9/*", "bytes +0-9/10", "0-9/10", "bytes -9/10", "bytes 0-9"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
