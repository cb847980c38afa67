//! URL paths of the control API, with token names percent-encoded.

use serde::Serialize;
use url::Url;

use crate::control::{EventParams, ListParams};

fn base() -> Url {
    // A constant, valid URL.
    Url::parse("http://tokenkeep/").unwrap_or_else(|_| unreachable!("a URL"))
}

/// The path of a token, with further segments.
pub(in crate::cli) fn token(name: &str, below: &[&str]) -> String {
    let mut url = base();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(["v1", "tokens", name]).extend(below);
    }
    url.path().to_owned()
}

/// The path and query of a list of tokens.
pub(in crate::cli) fn tokens(params: &ListParams) -> String {
    with_query("v1/tokens", params)
}

/// The path and query of a page of events.
pub(super) fn events(params: &EventParams) -> String {
    with_query("v1/events", params)
}

fn with_query(path: &str, params: &impl Serialize) -> String {
    let mut url = base();
    url.set_path(path);
    let fields = serde_json::to_value(params).unwrap_or_default();
    let fields = fields.as_object().into_iter().flatten();
    let given = fields.filter(|(_, value)| !value.is_null());
    let text =
        |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    url.query_pairs_mut().extend_pairs(given.map(|(key, value)| (key, text(value))));
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_name_is_percent_encoded_as_one_path_segment() {
        assert_eq!(token("a/b c?", &["check"]), "/v1/tokens/a%2Fb%20c%3F/check");
    }

    #[test]
    fn a_query_contains_only_parameters_that_are_set() {
        let params =
            ListParams { filter: Some("a&b*".into()), limit: Some(50), ..ListParams::default() };
        assert_eq!(tokens(&params), "/v1/tokens?filter=a%26b*&limit=50&order=worst");
    }
}
