//! Why no answer came, said from the HTTP library's errors.
//!
//! Owns the reading of those errors. Never shows one as it is: they print the URL, and
//! with it the token.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::interpret::Asked;
use super::redact::clean;

/// How long a request and its parts may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// From connecting to the last byte of the answer.
    pub(super) timeout: Duration,
    /// Connecting alone.
    pub(super) connect_timeout: Duration,
}

/// The sentence for a request that got no whole answer, with a remedy where there is one.
pub(super) fn explain(error: &reqwest::Error, limits: Limits, asked: &Asked<'_>) -> String {
    let server = asked.server;
    let reason = clean(&reason(error), asked.secret);
    if error.is_timeout() {
        if error.is_connect() {
            let limit = limits.connect_timeout.min(limits.timeout);
            return format!("no connection within {}", readable(limit));
        }
        return no_answer_within(limits.timeout);
    }
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => format!(
            "the certificate of the server is not accepted ({reason}): if a private authority \
             has issued it, set `ca_file` of [server.{server}] to that authority"
        ),
        Some(_) => format!(
            "no TLS connection ({reason}): does `url` of [server.{server}] lead to a server that \
             speaks https?"
        ),
        None if error.is_dns() => format!(
            "the server's name cannot be resolved ({reason}): check `url` of [server.{server}] \
             and this machine's name service"
        ),
        None if error.is_connect() => format!(
            "no connection ({reason}): is [server.{server}] up, and do its `url` and `proxy` hold?"
        ),
        None => format!("no whole answer came ({reason})"),
    }
}

/// The sentence for a request that has taken as long as it may.
pub(super) fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {}", readable(limit))
}

/// The innermost reason, which tells most. The URL stands in the outermost one.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let innermost = causes(error).filter(|cause| !cause.is::<reqwest::Error>()).last();
    innermost.map_or_else(|| "no reason is known".to_owned(), ToString::to_string)
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// All that lies behind `error`, up to a TLS error, which says it best.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        if cause.is::<rustls::Error>() {
            return None;
        }
        // An I/O error hides what it wraps from `source`.
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}

/// A duration as people write it: milliseconds below a second.
fn readable(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}
