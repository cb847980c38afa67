//! Why an endpoint of etcd has not responded, for humans.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::access::Endpoint;
use super::interpret::CHECK_NODES;
use crate::api::{ClientCertificateState, Section, class, explain_tls, lacks_certificate, reason};
use crate::cluster::replica::Reason;
use crate::text::format_duration;

pub(super) fn no_response(limit: Duration) -> Reason {
    Reason::silence(format!("no response within {}", format_duration(limit)))
}

/// A request without a response on a connection, which would have failed after [`CONNECT_TIMEOUT`](super::access::CONNECT_TIMEOUT).
pub(super) fn hangs(limit: Duration) -> Reason {
    let text = format!(
        "no response within {}, although it accepts connections: it hangs, or the quorum is lost; \
         check the other nodes with {CHECK_NODES}",
        format_duration(limit)
    );
    Reason::silence(text)
}

pub(super) fn too_long(max_bytes: usize) -> String {
    format!("the response is longer than {} MiB", max_bytes / 1024 / 1024)
}

/// Why there is no response of an endpoint, without the URL and with a remedy. If a certificate may be
/// the reason, the files are read again soon.
pub(super) fn explain(error: &reqwest::Error, endpoint: &Endpoint) -> Reason {
    let certificate = endpoint.certificate();
    let is_unsent = error.is_connect() || error.is_dns();
    let text = match explain_tls(error, Section::Cluster, certificate, &[]) {
        Some(text) => text,
        None if error.is_timeout() && !is_unsent => return Reason::silence(sentence(error)),
        None if is_unsent => {
            let serves = if endpoint.is_encrypted() { " and serves https" } else { "" };
            return format!(
                "{}: check that etcd runs{serves} there, and `etcd` of [cluster]",
                sentence(error)
            )
            .into();
        }
        // A server of the other kind closes the connection without a response.
        None if !endpoint.is_encrypted() => {
            return format!(
                "{}: if etcd serves https there, write https:// into `etcd` of [cluster]",
                sentence(error)
            )
            .into();
        }
        // A server that rejects the client may do so before its reason is read.
        None => match certificate {
            ClientCertificateState::Lacking => {
                format!("{}: {}", sentence(error), lacks_certificate(Section::Cluster))
            }
            ClientCertificateState::Configured => format!(
                "{}: if the log of etcd says `rejected connection`, check `client_cert_file` of \
                 [cluster]",
                sentence(error)
            ),
            ClientCertificateState::NotAskedFor => return Reason::silence(sentence(error)),
        },
    };
    endpoint.rejected.store(true, Ordering::Relaxed);
    match endpoint.certificate_warning() {
        Some(warning) => format!("{text} ({})", warning.message).into(),
        None => text.into(),
    }
}

/// What has happened, without the URL.
pub(super) fn sentence(error: &reqwest::Error) -> String {
    let class = class(error);
    if error.is_timeout() { class.to_owned() } else { format!("{class} ({})", reason(error)) }
}
