//! A server that no configuration tells of, with what a `[server.NAME]` would have by default.

use super::model::Server;
use super::schema::{self, ROOT, Shape};
use super::{duration, text, validate};

/// The server at `url`, under the same rules as that of a `[server.NAME]`, with `timeout` for
/// its requests if one is given. Its name stands in what is said of it.
///
/// # Errors
///
/// A sentence with its remedy that begins with the option at fault, `--url` or `--timeout`.
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
        let error = "--url is plain http to another machine, which shows the token to whoever \
                     listens; use https, or add --allow-http, if that is meant";
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

/// Takes `value` for what `key` of a `[server.NAME]` may be.
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
    fn what_a_configuration_would_refuse_is_refused() {
        for (url, timeout, words) in [
            ("api.example.net", None, "--url is not a URL"),
            ("http://api.example.net", None, "--allow-http"),
            ("https://user:S3CR3T@h", None, "--url holds a user name or password"),
            ("https://h/?key=S3CR3T", None, "--url holds a query"),
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
    fn plain_http_is_for_this_machine_or_for_who_asks_for_it() {
        assert!(ad_hoc_server("s", "http://127.0.0.1:80/api", false, None).is_ok());
        assert!(ad_hoc_server("s", "http://api.example.net", true, None).is_ok());
    }
}
