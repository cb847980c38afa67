//! Properties of how responses of etcd are read, for arbitrary input. See `crate::fuzzing`.

use super::interpret::{
    Context, Failure, Found, WatchLine, error, executed, granted, kept_alive, page, status, token,
    watch_line,
};
use crate::cluster::record;
use crate::cluster::replica::{Entry, StoreRevision};
use crate::cluster::seal::Keys;

const CONTEXT: Context<'_> = Context { prefix: "/p", user: Some("keeper") };

/// The longest sentence of an error in bytes.
const MAX_SENTENCE: usize = 600;

/// For every `input`, a kind of request or a status on the first line and the body behind it: an
/// answer is read from a complete body only; its keys are below the prefix; nothing but etcd's fixed
/// messages is quoted.
///
/// # Panics
///
/// If the property does not hold.
pub fn etcd_response(input: &[u8]) {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (kind, body) = (&input[..line], input.get(line + 1..).unwrap_or_default());
    match kind {
        b"grant" => {
            if let Some(lease) = complete(body, granted) {
                assert!(lease > 0);
            }
        }
        b"keepalive" => drop(complete(body, |body| kept_alive(body, CONTEXT))),
        b"token" => {
            if let Some(token) = complete(body, token) {
                assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
        b"txn" => {
            if let Some(executed) = complete(body, |body| executed(body, CONTEXT)) {
                check(executed.at, executed.found.iter().map(|found| &found.entry));
            }
        }
        b"range" => {
            if let Some(page) = complete(body, |body| page(body, CONTEXT)) {
                check(page.at, page.found.iter().map(|Found { entry, .. }| entry));
            }
        }
        b"watch" => match complete(body, |body| watch_line(body, CONTEXT)) {
            Some(WatchLine::Changed(at, entries)) => {
                check(at, entries.iter());
                assert!(entries.iter().all(|entry| entry.revision <= at.revision));
            }
            Some(WatchLine::Created(at) | WatchLine::Progress(at)) => check(at, [].into_iter()),
            None => {}
        },
        b"status" => {
            if let Some(status) = complete(body, status) {
                assert!(status.version.len() <= 32 && !status.version.contains(char::is_control));
            }
        }
        b"sealed" => sealed(body),
        code => {
            let code = str::from_utf8(code).ok().and_then(|code| code.parse().ok());
            check_failure(&error(code.unwrap_or(500), body, CONTEXT));
        }
    }
}

/// Reads a body. What can be read is not read without its end.
fn complete<T>(body: &[u8], read: impl Fn(&[u8]) -> Result<T, Failure>) -> Option<T> {
    match read(body) {
        Ok(answer) => {
            let body = body.trim_ascii_end();
            assert!(read(&body[..body.len() - 1]).is_err(), "the body is cut");
            Some(answer)
        }
        Err(failure) => {
            check_failure(&failure);
            None
        }
    }
}

fn check<'a>(at: StoreRevision, entries: impl Iterator<Item = &'a Entry>) {
    assert!(at.cluster != 0);
    for entry in entries {
        let path = record::path(CONTEXT.prefix, &entry.key);
        assert_eq!(record::parse_path(CONTEXT.prefix, &path).as_ref(), Some(&entry.key));
    }
}

fn check_failure(failure: &Failure) {
    let text = match failure {
        Failure::Refused(text) | Failure::Denied(text) => text,
        Failure::Unavailable(reason) => &**reason.text(),
        _ => return,
    };
    assert!(
        text.len() <= MAX_SENTENCE
            && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()),
        "{text:?}"
    );
}

/// Bytes that were not sealed are not opened.
fn sealed(bytes: &[u8]) {
    let keys = Keys::parse("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", None).expect("a key");
    if let Ok(plain) = keys.open_value(bytes, "/p/value/s/t") {
        assert_eq!(format!("{plain:?}"), "[redacted]");
        assert!(keys.open_value(bytes, "/p/value/s/u").is_err(), "opened below another key");
        assert!(keys.open_value(&bytes[..bytes.len() - 1], "/p/value/s/t").is_err(), "cut");
    }
}
