//! A server from command-line options, with the defaults of a `[server.NAME]`.

use super::model::Server;
use super::schema::{self, ROOT, Shape};
use super::{text, validate};
use crate::duration;

/// A server at `url`, under the rules for a `[server.NAME]`. `timeout` limits each request. `name`
/// appears in messages.
///
/// # Errors
///
/// A message with its remedy. It begins with the invalid option, `--url` or `--timeout`.
///
/// ```
/// use tokenkeep::settings::ad_hoc_server;
///
/// let server = ad_hoc_server("sarus", "https://api.example.net", false, Some("3s")).unwrap();
/// assert_eq!(server.timeout.as_secs(), 3);
/// assert!(ad_hoc_server("sarus", "http://api.example.net", false, None).is_err());
/// ```
pub fn ad_hoc_server(
    name: &str,
    url: &str,
    allow_http: bool,
    timeout: Option<&str>,
) -> Result<Server, String> {
    check("url", url)?;
    let url = url.parse().map_err(|_| "--url is not a URL".to_owned())?;
    if validate::is_plain_http(&url) && !allow_http {
        let error = "--url is plain http to another machine, so others on the network can read the \
        token; use https, or add --allow-http if you accept that";
        return Err(error.to_owned());
    }
    let mut server = validate::server_with_defaults(name, url);
    if let Some(timeout) = timeout {
        check("timeout", timeout)?;
        server.timeout = duration::parse(timeout).unwrap_or(server.timeout);
        server.connect_timeout = server.connect_timeout.min(server.timeout);
    }
    Ok(server)
}

/// Checks `value` against the schema of `key` in `[server.NAME]`.
fn check(key: &str, value: &str) -> Result<(), String> {
    let Some(Shape::Named(keys)) = schema::find(ROOT, "server").map(|field| &field.shape) else {
        return Ok(());
    };
    let Some(Shape::Value(kind)) = schema::find(keys, key).map(|field| &field.shape) else {
        return Ok(());
    };
    text::check(key, *kind, value).map_err(|error| {
        let remedy = error.remedy.replace(&format!("{key} = "), &format!("--{key} "));
        format!("--{key} {}; {remedy}", error.message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_validated_like_configuration_keys() {
        for (url, timeout, words) in [
            ("api.example.net", None, "--url is not a URL"),
            ("http://api.example.net", None, "--allow-http"),
            ("https://user:S3CR3T@h", None, "--url contains a user name or password"),
            ("https://h/?key=S3CR3T", None, "--url contains a query"),
            ("https://h", Some("0s"), "--timeout must be a duration from 100ms to 10m"),
            ("https://h", Some("90"), "write --timeout \"90s\""),
        ] {
            let error = ad_hoc_server("s", url, false, timeout).unwrap_err();
            assert!(
                error.contains(words) && !error.contains("S3CR3T"),
                "{url} {timeout:?}: {error}"
            );
        }
    }

    #[test]
    fn plain_http_is_accepted_for_loopback_or_with_allow_http() {
        assert!(ad_hoc_server("s", "http://127.0.0.1:80/api", false, None).is_ok());
        assert!(ad_hoc_server("s", "http://api.example.net", true, None).is_ok());
    }
}
