//! Errors of requests without a response, from the errors of the HTTP library.
//!
//! Never prints such an error itself, because it contains the URL, and with it the token.

use std::error::Error;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::context::{ClientCertificateState, RequestContext};
use crate::outcome::CallError;
use crate::process;
use crate::text::format_duration;

/// The class of a time-out after the connection was opened.
const NO_RESPONSE_IN_TIME: &str = "no response in time";

/// Time-outs of a request and its parts.
#[derive(Clone, Copy)]
pub(super) struct RequestTimeouts {
    /// From connecting to the last byte of the response.
    pub(super) timeout: Duration,
    /// Connecting only.
    pub(super) connect_timeout: Duration,
}

/// The error of a request without a complete response, with a remedy where there is one.
pub(super) fn explain(
    error: &reqwest::Error,
    timeouts: RequestTimeouts,
    context: &RequestContext<'_>,
    certificate: ClientCertificateState,
) -> CallError {
    CallError {
        no_response: Some(class(error)),
        ..CallError::new(sentence(error, timeouts, context, certificate))
    }
}

/// The class of the error, in fixed words.
pub(crate) fn class(error: &reqwest::Error) -> &'static str {
    let is_refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
    match tls_error(error) {
        _ if error.is_timeout() && error.is_connect() => "no connection in time",
        _ if error.is_timeout() => NO_RESPONSE_IN_TIME,
        Some(rustls::Error::InvalidCertificate(_)) => "certificate not accepted",
        Some(_) => "TLS handshake failed",
        None if error.is_dns() => "name cannot be resolved",
        None if causes(error).filter_map(|cause| cause.downcast_ref()).any(is_refused) => {
            "connection refused"
        }
        None if error.is_connect() => "connection failed",
        None => "connection lost",
    }
}

fn sentence(
    error: &reqwest::Error,
    timeouts: RequestTimeouts,
    context: &RequestContext<'_>,
    certificate: ClientCertificateState,
) -> String {
    let server = context.server;
    let reason = context.clean(&reason(error));
    if error.is_timeout() {
        if error.is_connect() {
            let limit = timeouts.connect_timeout.min(timeouts.timeout);
            return format!("no connection within {}", format_duration(limit));
        }
        return no_response_within(timeouts.timeout);
    }
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(error)) => {
            certificate_sentence(error, &reason, context)
        }
        Some(error) => tls_sentence(error, &reason, context, certificate),
        None if error.is_dns() => format!(
            "the server's name cannot be resolved ({reason}): check `url` of [server.{server}] \
             and this machine's name service"
        ),
        None if error.is_connect() => format!(
            "connection failed ({reason}): check that [server.{server}] is running, and its `url` \
             and `proxy`"
        ),
        // The server may close the connection before its reason is read.
        None if certificate == ClientCertificateState::Lacking => {
            format!("no complete response ({reason}): {}", lacks_certificate(server))
        }
        None => format!("no complete response ({reason})"),
    }
}

/// The clause about a server that requires a client certificate, to be appended to another
/// sentence.
pub(super) fn lacks_certificate(server: &str) -> String {
    format!(
        "the server asked for a client certificate, and none is configured: set \
         `client_cert_file` and `client_key_file` of [server.{server}]"
    )
}

/// The message for a server certificate that is not accepted.
fn certificate_sentence(
    error: &CertificateError,
    reason: &str,
    context: &RequestContext<'_>,
) -> String {
    let server = context.server;
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of the server expired at {}, and this machine's clock says {}: the \
             server needs a new certificate, unless the clock is wrong",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of the server is not valid until {}, and this machine's clock says \
             {}: set the clock if it is wrong",
            date(*not_before),
            date(*time)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare_name(name)).collect();
            let names = match context.clean(&names.join(", ")) {
                names if names.is_empty() => "no name at all".to_owned(),
                names => names,
            };
            format!(
                "the certificate of the server is for {names}, not for {}: check `url` of \
                 [server.{server}], or have a certificate issued for that name",
                expected.to_str()
            )
        }
        // A new authority may have the name of an old one, whose signature then seems wrong.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of the server is from an authority that is not trusted ({reason}): if \
             it is a private authority, set `ca_file` of [server.{server}] to its certificate"
        ),
        CertificateError::Other(other) if is_authority_s(other) => format!(
            "the server presents the certificate of an authority (CA:TRUE) as its own, which is \
             not accepted: give the server a certificate of its own (CA:FALSE), signed by that \
             authority, and keep `ca_file` of [server.{server}]"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!(
                "the certificate of the server may not be used by servers ({reason}): the server \
                 needs one with the extended key usage serverAuth"
            )
        }
        CertificateError::Revoked => {
            format!(
                "the certificate of the server is revoked: inform the operator of \
            [server.{server}]"
            )
        }
        _ => format!(
            "the certificate of the server is not accepted ({reason}): check the certificate of \
             [server.{server}] with `openssl s_client -showcerts`"
        ),
    }
}

/// The message for a TLS connection that failed for another reason than the server's certificate.
fn tls_sentence(
    error: &rustls::Error,
    reason: &str,
    context: &RequestContext<'_>,
    certificate: ClientCertificateState,
) -> String {
    let server = context.server;
    let alert = match error {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    };
    match (alert, certificate) {
        (Some(AlertDescription::CertificateRequired), _) => {
            format!("TLS handshake failed ({reason}): {}", lacks_certificate(server))
        }
        (
            Some(
                AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError,
            ),
            ClientCertificateState::Lacking | ClientCertificateState::Configured,
        ) => {
            let why = if certificate == ClientCertificateState::Lacking {
                lacks_certificate(server)
            } else {
                format!(
                    "the server does not accept the client certificate; check that \
                     `client_cert_file` of [server.{server}] is valid, and from an authority that \
                     the server trusts"
                )
            };
            format!("TLS handshake failed ({reason}): {why}")
        }
        (Some(AlertDescription::ProtocolVersion), _) => old_protocol(reason, server),
        _ if matches!(error, rustls::Error::PeerIncompatible(_)) => old_protocol(reason, server),
        _ => format!(
            "TLS handshake failed ({reason}): check that `url` of [server.{server}] is an https \
             server"
        ),
    }
}

fn old_protocol(reason: &str, server: &str) -> String {
    format!(
        "no common TLS version or cipher ({reason}): [server.{server}] must offer TLS 1.2 or 1.3"
    )
}

/// A name as the TLS library prints it, without the surrounding kind: `DnsName("a.example")`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// Whether a certificate was rejected because it is an authority's.
fn is_authority_s(error: &OtherError) -> bool {
    error.0.to_string().contains("CaUsedAsEndEntity")
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
}

/// Whether the request was not sent because no descriptor was free. Name lookups do not report
/// that.
pub(super) fn is_out_of_descriptors(error: &reqwest::Error) -> bool {
    let mut causes = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(process::is_out_of_descriptors)
        || (error.is_connect() || error.is_dns()) && process::has_no_free_descriptor()
}

/// The error of a request that timed out.
pub(super) fn timed_out(limit: Duration) -> CallError {
    CallError {
        no_response: Some(NO_RESPONSE_IN_TIME),
        ..CallError::new(no_response_within(limit))
    }
}

fn no_response_within(limit: Duration) -> String {
    format!("no response within {}", format_duration(limit))
}

/// The innermost error, which is the most specific. The URL is in the outermost one.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let innermost = causes(error).filter(|cause| !cause.is::<reqwest::Error>()).last();
    innermost.map_or_else(|| "no reason is known".to_owned(), ToString::to_string)
}

/// Whether a connection failed because of the server's certificate.
pub(crate) fn certificate_is_not_trusted(error: &reqwest::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The causes of `error`, up to a TLS error, which is the most specific.
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
