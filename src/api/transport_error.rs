//! Errors of requests without a response, from the errors of the HTTP library.
//!
//! Never prints such an error itself, because it contains the URL, and with it the token.

use std::error::Error;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::context::{ClientCertificateState, RequestContext, Section};
use super::redact::clean;
use crate::outcome::CallError;
use crate::process;
use crate::text::format_duration;

/// The class of a time-out after the connection was opened.
const NO_RESPONSE_IN_TIME: &str = "no response in time";

/// The alerts of a server that rejects a client because of its certificate, or because it has none.
const CLIENT_ALERTS: [AlertDescription; 10] = [
    AlertDescription::CertificateRequired,
    AlertDescription::HandshakeFailure,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

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
        None if alert(error).is_some() => "TLS handshake failed",
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
    let section = Section::Server(server);
    match explain_tls(error, section, certificate, context.secrets) {
        Some(sentence) => sentence,
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
            format!("no complete response ({reason}): {}", lacks_certificate(section))
        }
        None => format!("no complete response ({reason})"),
    }
}

/// The message for an error of TLS, with a remedy and without `secrets`; `None` for another error.
pub(crate) fn explain_tls(
    error: &reqwest::Error,
    section: Section<'_>,
    certificate: ClientCertificateState,
    secrets: &[&str],
) -> Option<String> {
    let (reason, alert) = (clean(&reason(error), secrets), alert(error));
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(error)) => {
            Some(certificate_sentence(error, &reason, section, secrets))
        }
        Some(rustls::Error::PeerIncompatible(_)) => Some(old_protocol(&reason, section)),
        None if alert.is_none() => None,
        _ => Some(tls_sentence(alert, &reason, section, certificate)),
    }
}

/// The clause about a server that requires a client certificate, to be appended to another
/// sentence.
pub(crate) fn lacks_certificate(section: Section<'_>) -> String {
    format!(
        "the server asked for a client certificate, and none is configured: set \
         `client_cert_file` and `client_key_file` of {section}"
    )
}

/// The message for a server certificate that is not accepted.
fn certificate_sentence(
    error: &CertificateError,
    reason: &str,
    section: Section<'_>,
    secrets: &[&str],
) -> String {
    let url = section.url_key();
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
            let names = match clean(&names.join(", "), secrets) {
                names if names.is_empty() => "no name at all".to_owned(),
                names => names,
            };
            format!(
                "the certificate of the server is for {names}, not for {}: check `{url}` of \
                 {section}, or have a certificate issued for that name",
                expected.to_str()
            )
        }
        // A new authority may have the name of an old one, whose signature then seems wrong.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of the server is from an authority that is not trusted ({reason}): if \
             it is a private authority, set `ca_file` of {section} to its certificate"
        ),
        CertificateError::Other(other) if is_authority_s(other) => format!(
            "the server presents the certificate of an authority (CA:TRUE) as its own, which is \
             not accepted: give the server a certificate of its own (CA:FALSE), signed by that \
             authority, and keep `ca_file` of {section}"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!(
                "the certificate of the server may not be used by servers ({reason}): the server \
                 needs one with the extended key usage serverAuth"
            )
        }
        CertificateError::Revoked => {
            format!("the certificate of the server is revoked: inform the operator of {section}")
        }
        _ => format!(
            "the certificate of the server is not accepted ({reason}): check the certificate of \
             {section} with `openssl s_client -showcerts`"
        ),
    }
}

/// The message for a TLS connection that failed for another reason than the server's certificate.
fn tls_sentence(
    alert: Option<AlertDescription>,
    reason: &str,
    section: Section<'_>,
    certificate: ClientCertificateState,
) -> String {
    let why = match (alert, certificate) {
        (Some(AlertDescription::ProtocolVersion), _) => return old_protocol(reason, section),
        (Some(AlertDescription::CertificateRequired), _) => lacks_certificate(section),
        (Some(alert), ClientCertificateState::Lacking) if CLIENT_ALERTS.contains(&alert) => {
            lacks_certificate(section)
        }
        (Some(alert), ClientCertificateState::Configured) if CLIENT_ALERTS.contains(&alert) => {
            format!(
                "the server does not accept the client certificate; check that \
                 `client_cert_file` of {section} is valid, and from an authority that the server \
                 trusts"
            )
        }
        _ => format!("check that `{}` of {section} is an https server", section.url_key()),
    };
    format!("TLS handshake failed ({reason}): {why}")
}

fn old_protocol(reason: &str, section: Section<'_>) -> String {
    format!("no common TLS version or cipher ({reason}): {section} must offer TLS 1.2 or 1.3")
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

/// The alert with which the server has rejected the client. After a handshake of TLS 1.3 it comes in
/// place of the first response, and HTTP/2 keeps only its text.
fn alert(error: &reqwest::Error) -> Option<AlertDescription> {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        Some(_) => None,
        None => {
            let text = reason(error);
            let is_it =
                |alert: &AlertDescription| text == rustls::Error::AlertReceived(*alert).to_string();
            CLIENT_ALERTS.into_iter().find(is_it)
        }
    }
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
