//! Host header check: protects the public listener against DNS rebinding.
//!
//! A malicious web page can make its own host name resolve to this machine, and then read the
//! dashboard as same-origin content. The browser sends that name in the `Host` header.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// The host names and addresses that requests may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowedHosts {
    address: IpAddr,
    names: Vec<String>,
}

impl AllowedHosts {
    /// Allows the listening address, `localhost` and `names`, with any port. If the daemon listens
    /// on all addresses, any IP address is allowed: DNS rebinding needs a name.
    pub(super) fn new(listen: SocketAddr, names: impl IntoIterator<Item = String>) -> Self {
        Self { address: listen.ip(), names: names.into_iter().collect() }
    }

    /// Whether the request names an allowed host. The port is ignored, as it may be forwarded.
    pub(super) fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut host_headers = headers.get_all(header::HOST).iter();
        let host = match (host_headers.next(), host_headers.next()) {
            (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
            (None, None) if uri.authority().is_some() => uri.authority().cloned(),
            _ => None,
        };
        let admitted = |host: &Authority| self.is_allowed(host);
        host.as_ref().is_some_and(admitted) && uri.authority().is_none_or(admitted)
    }

    fn is_allowed(&self, host: &Authority) -> bool {
        if host.as_str().contains('@') {
            return false;
        }
        let name = host.host();
        let port =
            host.as_str().strip_prefix(name).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        if !port.is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit())) {
            return false;
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.address.is_unspecified() || address == self.address;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let matches = |known: &str| known.eq_ignore_ascii_case(name);
        matches("localhost") || self.names.iter().any(|known| matches(known))
    }
}

/// Whether a page of another site caused the request. Such a page cannot read the response, but
/// would use up a stream of the dashboard.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(listen: &str, host: &str) -> bool {
        let hosts =
            AllowedHosts::new(listen.parse().expect("an address"), ["Keep.Example".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        hosts.allow(&Uri::from_static("/"), &headers)
    }

    #[test]
    fn the_listening_address_localhost_and_configured_names_are_allowed_on_any_port() {
        for host in ["127.0.0.1:9464", "localhost:8080", "LOCALHOST", "keep.example", "localhost."]
        {
            assert!(admits("127.0.0.1:9464", host), "{host}");
        }
        assert!(admits("[::1]:9464", "[::1]:9464"));
    }

    #[test]
    fn other_names_and_addresses_are_rejected() {
        for host in [
            "attacker.example",
            "localhost.attacker.example",
            "192.0.2.1",
            "user@localhost",
            "localhost:80a",
            "localhost:892tes[!a]host:f",
            "[::1]",
            "",
        ] {
            assert!(!admits("127.0.0.1:9464", host), "{host}");
        }
    }

    #[test]
    fn listening_on_all_addresses_allows_any_address_but_no_other_name() {
        assert!(admits("0.0.0.0:9464", "192.0.2.1:9464"));
        assert!(admits("[::]:9464", "[2001:db8::1]:9464"));
        assert!(!admits("0.0.0.0:9464", "attacker.example:9464"));
    }

    #[test]
    fn a_request_without_a_host_or_with_two_is_rejected() {
        let hosts = AllowedHosts::new("127.0.0.1:1".parse().expect("an address"), []);
        let mut headers = HeaderMap::new();
        assert!(!hosts.allow(&Uri::from_static("/"), &headers));
        headers.append(header::HOST, "localhost".parse().expect("a header"));
        headers.append(header::HOST, "localhost".parse().expect("a header"));
        assert!(!hosts.allow(&Uri::from_static("/"), &headers));
    }

    #[test]
    fn the_authority_in_the_request_line_is_checked_too() {
        let hosts = AllowedHosts::new("127.0.0.1:1".parse().expect("an address"), []);
        let mut headers = HeaderMap::new();
        assert!(hosts.allow(&Uri::from_static("http://localhost/"), &headers));
        headers.insert(header::HOST, "localhost".parse().expect("a header"));
        assert!(!hosts.allow(&Uri::from_static("http://attacker.example/"), &headers));
    }

    #[test]
    fn cross_site_requests_are_recognized() {
        let of = |site: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-fetch-site", site.parse().expect("a header"));
            is_cross_site(&headers)
        };
        assert!(of("cross-site") && of("same-site"));
        assert!(!of("same-origin") && !of("none") && !is_cross_site(&HeaderMap::new()));
    }
}
