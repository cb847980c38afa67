//! `[server.NAME]`

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use url::{Host, Url};

use crate::lifecycle::Renewal;

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::{ClientCertificate, ConfiguredProfile, KeySource, Server};
use super::super::raw::RawServer;
use super::{Validator, at_least_one, duration_or};

const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More concurrent requests make each of them slower.
const MAX_IN_FLIGHT: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// A rate that a healthy server can handle from one client.
const RATE_LIMIT: NonZeroU32 = NonZeroU32::new(500).unwrap();

impl Validator<'_> {
    pub(super) fn server(
        &mut self,
        name: &str,
        raw: &RawServer,
        profiles: &[ConfiguredProfile],
    ) -> Option<Server> {
        let table = join("server", name);
        let url = raw.url.as_deref().and_then(|url| Url::parse(url).ok());
        let Some(url) = url else {
            self.report_missing(&table, "url", "write url = \"https://api.example.net\"");
            return None;
        };
        if is_plain_http(&url) {
            self.plain_http(&table, raw.allow_http == Some(true));
        }
        let default = with_defaults(name, url);
        let profile = self.server_profile(&table, raw, profiles);
        let server = Server {
            renewal: self.renewal(&table, raw, profile.as_deref()),
            timeout: duration_or(raw.timeout.as_deref(), default.timeout),
            connect_timeout: duration_or(raw.connect_timeout.as_deref(), default.connect_timeout),
            max_in_flight: at_least_one(raw.max_in_flight, default.max_in_flight),
            rate_limit: at_least_one(raw.rate_limit, default.rate_limit),
            ca_file: raw.ca_file.as_deref().map(Into::into),
            client_certificate: self.client_certificate(&table, raw),
            proxy: raw.proxy.as_deref().and_then(|proxy| Url::parse(proxy).ok()),
            proxy_credentials: self.proxy_credentials(&table, raw),
            profile,
            with: self.parameters(&table, raw.with.as_ref()),
            ..default
        };
        self.check_server_parameters(&server, raw);
        Some(server)
    }

    fn client_certificate(&mut self, table: &str, raw: &RawServer) -> Option<ClientCertificate> {
        const CERT: [&str; 2] = ["client_cert_file", "client_cert_credential"];
        const KEY: [&str; 2] = ["client_key_file", "client_key_credential"];
        for (keys, others) in [(CERT, KEY), (KEY, CERT)] {
            let first =
                |keys: [&'static str; 2]| keys.into_iter().find(|key| self.is_present(table, key));
            if let (Some(key), None) = (first(keys), first(others)) {
                let other = others[0];
                let message = format!("[{table}] has `{key}` without `{other}`");
                let remedy = format!(
                    "add `{other}` or `{}`; both may name one PEM file that contains both parts",
                    others[1]
                );
                self.error((table, key), ConfigErrorKind::Missing, message, remedy);
            }
            if keys.into_iter().all(|key| self.is_present(table, key)) {
                self.require_exactly_one(table, &keys);
            }
        }
        let cert = source(raw.client_cert_file.as_ref(), raw.client_cert_credential.as_ref())?;
        let key = source(raw.client_key_file.as_ref(), raw.client_key_credential.as_ref())?;
        Some(ClientCertificate { cert, key })
    }

    fn proxy_credentials(&mut self, table: &str, raw: &RawServer) -> Option<KeySource> {
        const KEYS: [&str; 2] = ["proxy_credentials_file", "proxy_credential"];
        let written: Vec<&str> =
            KEYS.into_iter().filter(|key| self.is_present(table, key)).collect();
        if let [key, ..] = written[..]
            && !self.is_present(table, "proxy")
        {
            let message = format!("[{table}] has `{key}` without `proxy`");
            let remedy = "add `proxy`, the address of the proxy, or remove the credentials";
            self.error((table, key), ConfigErrorKind::Missing, message, remedy);
        }
        if written.len() > 1 {
            self.require_exactly_one(table, &KEYS);
        }
        source(raw.proxy_credentials_file.as_ref(), raw.proxy_credential.as_ref())
    }

    fn plain_http(&mut self, table: &str, allowed: bool) {
        let url = join(table, "url");
        if allowed {
            let message =
                format!("`{url}` is plain http: others on the network can read the tokens");
            let remedy = "use https if the server supports it";
            self.warning((table, "url"), WarningKind::PlainHttp, message, remedy);
        } else {
            let message = format!(
                "`{url}` is plain http to another machine, so others on the network can read the \
                 tokens"
            );
            let remedy = "use https, or add allow_http = true below the URL if you accept that";
            self.error((table, "url"), ConfigErrorKind::BadValue, message, remedy);
        }
    }
}

/// The source of a secret, from the two keys that can name it.
pub(super) fn source(file: Option<&String>, credential: Option<&String>) -> Option<KeySource> {
    match (file, credential) {
        (Some(file), _) => Some(KeySource::File(file.into())),
        (None, Some(name)) => Some(KeySource::Credential(name.clone())),
        (None, None) => None,
    }
}

/// A server with defaults for everything but its URL.
pub(in super::super) fn with_defaults(name: &str, url: Url) -> Server {
    Server {
        name: name.to_owned(),
        url,
        renewal: Renewal::Auto,
        timeout: TIMEOUT,
        connect_timeout: CONNECT_TIMEOUT,
        max_in_flight: MAX_IN_FLIGHT,
        rate_limit: RATE_LIMIT,
        ca_file: None,
        client_certificate: None,
        proxy: None,
        proxy_credentials: None,
        profile: None,
        with: BTreeMap::new(),
    }
}

/// Whether requests to `url` leave this machine unencrypted.
pub(in super::super) fn is_plain_http(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() != "https" && !loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_to_loopback_is_not_reported() {
        for (url, plain) in [
            ("http://127.0.0.1:80/x", false),
            ("http://127.9.9.9", false),
            ("http://[::1]:8080", false),
            ("http://localhost", false),
            ("http://LOCALHOST.", false),
            ("http://localhost.example.net", true),
            ("http://10.0.0.1", true),
            ("http://0.0.0.0", true),
            ("https://api.example.net", false),
        ] {
            assert_eq!(is_plain_http(&Url::parse(url).unwrap()), plain, "{url}");
        }
    }
}
