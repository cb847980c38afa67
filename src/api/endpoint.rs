//! The API's four endpoints and their addresses under one base URL.
//!
//! Owns how a request's URL is put together. Never prints one: its query is a secret.

use url::Url;

/// One of the API's calls. All are `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Reads the life that is left.
    Query,
    /// Extends the life, and reads it.
    Renew,
    /// Opens a session with an API key.
    Login,
    /// Ends a session.
    Revoke,
}

impl Endpoint {
    /// What the API calls it: the last part of its address.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Query => "QuerySessionToken",
            Self::Renew => "RenewSessionToken",
            Self::Login => "GetSessionToken",
            Self::Revoke => "RevokeSessionToken",
        }
    }
}

/// The endpoints of one server, parsed once: a request only adds its query to a copy.
pub(super) struct EndpointUrls {
    query: Url,
    renew: Url,
    login: Url,
    revoke: Url,
}

impl EndpointUrls {
    /// The endpoints under `base`, which may have a path, with or without a slash at its end.
    pub(super) fn under(base: &Url) -> Self {
        let at = |endpoint: Endpoint| {
            let mut url = base.clone();
            url.set_query(None);
            url.set_fragment(None);
            url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), endpoint.name()));
            url
        };
        Self {
            query: at(Endpoint::Query),
            renew: at(Endpoint::Renew),
            login: at(Endpoint::Login),
            revoke: at(Endpoint::Revoke),
        }
    }

    /// The address of `endpoint` with `parameters` percent-encoded as its query.
    pub(super) fn with(&self, endpoint: Endpoint, parameters: &[(&str, &str)]) -> Url {
        let mut url = match endpoint {
            Endpoint::Query => &self.query,
            Endpoint::Renew => &self.renew,
            Endpoint::Login => &self.login,
            Endpoint::Revoke => &self.revoke,
        }
        .clone();
        url.query_pairs_mut().extend_pairs(parameters);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_under(base: &str, value: &str) -> String {
        let base = Url::parse(base).expect("a URL");
        EndpointUrls::under(&base).with(Endpoint::Query, &[("SessionToken", value)]).into()
    }

    #[test]
    fn exactly_one_slash_joins_the_base_path_and_the_endpoint() {
        for base in ["http://h/api/v2", "http://h/api/v2/", "http://h/api/v2//"] {
            assert_eq!(
                query_under(base, "t"),
                "http://h/api/v2/QuerySessionToken?SessionToken=t",
                "{base}"
            );
        }
        assert_eq!(query_under("http://h", "t"), "http://h/QuerySessionToken?SessionToken=t");
    }

    #[test]
    fn an_encoded_base_path_is_not_encoded_twice() {
        assert_eq!(
            query_under("http://h/a%20b", "t"),
            "http://h/a%20b/QuerySessionToken?SessionToken=t"
        );
    }

    #[test]
    fn a_query_of_the_base_is_not_carried_along() {
        assert_eq!(
            query_under("http://h/?x=1#y", "t"),
            "http://h/QuerySessionToken?SessionToken=t"
        );
    }

    #[test]
    fn the_value_is_percent_encoded_and_comes_back_as_it_was() {
        let value = "a+b/c=&d#e%20f?g\u{e9}";
        let url = Url::parse(&query_under("http://h/", value)).expect("a URL");
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs, [("SessionToken".to_owned(), value.to_owned())]);
    }
}
