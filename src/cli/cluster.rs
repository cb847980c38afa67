//! `[cluster]` in `check-config` and `doctor`: its secrets, and whether the rate limit of a server
//! has room for a take-over.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::unit::variable;
use crate::cluster::LOGIN_BEGINS_WITHIN;
use crate::cluster::etcd::Access;
use crate::cluster::replica::stolen_after;
use crate::cluster::seal::Keys;
use crate::settings::{Cluster, KeySource, Reauth, Server};
use crate::text::format_duration;
use crate::token_source::{SourceErrorKind, read_parameter};

/// Requests that a take-over needs, as a multiple of the tokens for each life, with two replicas:
/// the other one checks all tokens of the dead one at once. Measured in simulation.
const WITH_TWO: f64 = 3.1;
/// The same, with three replicas: the dead one had fewer tokens.
const WITH_THREE: f64 = 2.6;

/// What is wrong with the secrets of `[cluster]`, in sentences with a remedy.
#[derive(Debug, Default)]
pub(super) struct SecretFindings {
    /// The daemon cannot use them.
    pub(super) errors: Vec<String>,
    /// Probably a mistake.
    pub(super) warnings: Vec<String>,
    /// They were not read. This process may have other rights than the service.
    pub(super) unreadable: Vec<(SourceErrorKind, String)>,
}

/// Reads the secrets of `[cluster]` as the daemon will.
pub(super) fn check_secrets(cluster: &Cluster) -> SecretFindings {
    let mut findings = SecretFindings::default();
    let mut read = |name: &str, source: &KeySource| match read_parameter(&source.into(), &variable)
    {
        Ok(found) => {
            let warning = |warning| format!("`cluster.{name}`, {warning}");
            findings.warnings.extend(found.warnings.iter().map(warning));
            Some(found.value)
        }
        Err(error) => {
            let text = format!("`cluster.{name}`, {error}");
            findings.unreadable.push((error.kind, text));
            None
        }
    };
    let key = read("key", &cluster.key);
    let old_key = cluster.old_key.as_ref().and_then(|source| read("old_key", source));
    if let Some((_, password)) = &cluster.user {
        read("password", password);
    }
    for (name, secret) in [("key", &key), ("old_key", &old_key)] {
        let Some(secret) = secret else { continue };
        if let Err(error) = Keys::parse(secret.expose_secret(), None) {
            findings.errors.push(format!("`cluster.{name}`: {error}"));
        }
    }
    if let (Some(key), Some(old_key), []) = (&key, &old_key, &findings.errors[..])
        && let Err(error) = Keys::parse(key.expose_secret(), Some(old_key.expose_secret()))
    {
        findings.errors.push(format!("[cluster]: {error}"));
    }
    findings
}

/// Files of `[cluster]` that do not exist, in sentences.
pub(super) fn missing_files(cluster: &Cluster) -> Vec<String> {
    tls_files(cluster)
        // Relative paths have a warning of their own.
        .filter(|(_, path)| path.is_absolute() && !path.try_exists().unwrap_or(true))
        .map(|(key, path)| {
            format!("`cluster.{key}`, {}: there is no such file; check the path", path.display())
        })
        .collect()
}

/// Reads the certificates of `[cluster]`, if this user may read all of them. Returns a warning.
///
/// # Errors
///
/// Why the daemon cannot use them, with a remedy.
pub(super) fn check_certificates(cluster: &Cluster) -> Result<Option<String>, String> {
    if tls_files(cluster).any(|(_, path)| File::open(path).is_err()) {
        return Ok(None);
    }
    // The password is checked elsewhere.
    let cluster = Cluster { user: None, ..cluster.clone() };
    let warning = Access::open(&cluster, &variable)?.certificate_warning();
    Ok(warning.map(|warning| format!("{}; {}", warning.message, warning.remedy)))
}

/// The files for TLS, each with its key.
fn tls_files(cluster: &Cluster) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    const fn file(source: &KeySource) -> Option<&PathBuf> {
        match source {
            KeySource::File(path) => Some(path),
            KeySource::Credential(_) => None,
        }
    }
    let pair = cluster.client_certificate.as_ref();
    let named = [
        ("ca_file", cluster.ca_file.as_ref()),
        ("client_cert_file", pair.and_then(|pair| file(&pair.cert))),
        ("client_key_file", pair.and_then(|pair| file(&pair.key))),
    ];
    named.into_iter().filter_map(|(key, path)| Some((key, path?)))
}

/// The cluster, on one line.
pub(super) fn describe(cluster: &Cluster) -> String {
    let Cluster { etcd, name, prefix, failover, .. } = cluster;
    let endpoints = match etcd.len() {
        1 => "1 endpoint".to_owned(),
        count => format!("{count} endpoints"),
    };
    format!(
        "cluster: this is replica {name}; {endpoints} of etcd, prefix {prefix}; a replica that is \
         silent for {} loses its tokens to the others",
        format_duration(*failover)
    )
}

/// When the login of a replica that dies is repeated.
pub(super) fn describe_repeated_login(reauth: &Reauth) -> String {
    let after = stolen_after(reauth.timeout + LOGIN_BEGINS_WITHIN);
    format!(
        "; if a replica dies while it logs in, another one logs in {} later",
        format_duration(after)
    )
}

/// The shortest life with which `rate_limit` suffices for a take-over.
pub(super) fn describe_take_over(server: &Server, tokens: u32) -> String {
    let [two, three] = [WITH_TWO, WITH_THREE].map(|factor| {
        let life = factor * f64::from(tokens) / f64::from(server.rate_limit.get());
        format_duration(Duration::from_secs_f64(life.ceil().max(1.0)))
    });
    let three = if two == three {
        String::new()
    } else {
        format!(" with 2 replicas, {three} with 3 or more")
    };
    format!(
        "server {}: rate_limit = {} is enough for a take-over if tokens live at least {two}{three}",
        server.name, server.rate_limit
    )
}

/// A warning if tokens with the assumed `life` cannot be taken over in time.
pub(super) fn impossible_take_over(server: &Server, tokens: u32, life: Duration) -> Option<String> {
    let needed = |factor: f64| (factor * f64::from(tokens) / life.as_secs_f64()).ceil();
    let (two, three) = (needed(WITH_TWO), needed(WITH_THREE));
    (two > f64::from(server.rate_limit.get())).then(|| {
        format!(
            "`server.{}.rate_limit` = {} has no room for a take-over: {tokens} tokens with an assumed \
             life of {} need {two:.0} requests a second with 2 replicas, {three:.0} with 3 or more; \
             raise it if the server permits, or some tokens die with a replica",
            server.name,
            server.rate_limit,
            format_duration(life)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::settings::ad_hoc_server;

    fn server(rate_limit: u32) -> Server {
        let url = "https://api.example.net";
        let mut server = ad_hoc_server("sarus", url, false, None).unwrap();
        server.rate_limit = NonZeroU32::new(rate_limit).unwrap();
        server
    }

    #[test]
    fn shortest_life_for_a_take_over_follows_from_the_rate_limit() {
        assert_eq!(
            describe_take_over(&server(50), 2_000),
            "server sarus: rate_limit = 50 is enough for a take-over if tokens live at least 2 min \
             4 s with 2 replicas, 1 min 44 s with 3 or more"
        );
        let few = describe_take_over(&server(500), 3);
        assert!(few.ends_with("if tokens live at least 1 s"), "{few}");
    }

    #[test]
    fn assumed_life_that_is_too_short_for_a_take_over_is_a_warning() {
        let life = Duration::from_secs(60);
        assert_eq!(impossible_take_over(&server(52), 1_000, life), None);
        let warning = impossible_take_over(&server(51), 1_000, life).unwrap();
        assert!(
            warning.contains("need 52 requests a second with 2 replicas, 44 with"),
            "{warning}"
        );
    }
}
