//! Redaction: `Debug` output of settings that may contain secrets.
//!
//! Shows all fields, without texts and parts of URLs that may be secret.

use std::fmt;

use url::Url;

use super::model::{Parameter, Server, Webhook};

impl fmt::Debug for Server {
    /// All fields. URLs are shown without parts that may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            url,
            renewal,
            timeout,
            connect_timeout,
            max_in_flight,
            rate_limit,
            ca_file,
            client_certificate,
            proxy,
            proxy_credentials,
            profile,
            with,
        } = self;
        f.debug_struct("Server")
            .field("name", name)
            .field("url", &bare(url))
            .field("renewal", renewal)
            .field("timeout", timeout)
            .field("connect_timeout", connect_timeout)
            .field("max_in_flight", max_in_flight)
            .field("rate_limit", rate_limit)
            .field("ca_file", ca_file)
            .field("client_certificate", client_certificate)
            .field("proxy", &proxy.as_ref().map(bare))
            .field("proxy_credentials", proxy_credentials)
            .field("profile", &profile.as_ref().map(|profile| &profile.name))
            .field("with", with)
            .finish()
    }
}

impl fmt::Debug for Parameter {
    /// The source. A text is not shown, because it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text([redacted])"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Credential(name) => f.debug_tuple("Credential").field(name).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
        }
    }
}

impl fmt::Debug for Webhook {
    /// All fields. URLs are shown without parts that may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &self.origin())
            .field("header_credential", &self.header_credential)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy.as_ref().map(bare))
            .finish()
    }
}

/// `url` without user name, password, query and fragment.
fn bare(url: &Url) -> String {
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or(""));
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.cannot_be_a_base() { "" } else { url.path() };
    format!("{scheme}://{host}{port}{path}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::Renewal;

    #[test]
    fn debug_output_of_a_server_hides_secrets_in_urls() {
        let server = Server {
            name: "s".to_owned(),
            url: "https://user:S3CR3T@h:81/path?key=S3CR3T#S3CR3T".parse().unwrap(),
            renewal: Renewal::Auto,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            max_in_flight: NonZeroU32::MIN,
            rate_limit: NonZeroU32::MIN,
            ca_file: None,
            client_certificate: None,
            proxy_credentials: None,
            profile: None,
            with: BTreeMap::new(),
            proxy: Some("http://user:S3CR3T@p:3128".parse().unwrap()),
        };
        let shown = format!("{server:?}");
        assert!(!shown.contains("S3CR3T") && !shown.contains("user"), "{shown}");
        assert!(shown.contains("\"https://h:81/path\""), "{shown}");
        assert!(shown.contains("\"http://p:3128/\""), "{shown}");
    }
}
