//! The API's four endpoints and their URLs.
//!
//! Owns the construction of request URLs. Never prints one, because its query contains a secret.

use url::Url;

/// An API call. All are `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// Reads the remaining life.
    Query,
    /// Renews the token, and reads the remaining life.
    Renew,
    /// Opens a session with an API key.
    Login,
    /// Ends a session.
    Revoke,
}

impl Endpoint {
    /// The API's name of the endpoint: the last path segment.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Query => "QuerySessionToken",
            Self::Renew => "RenewSessionToken",
            Self::Login => "GetSessionToken",
            Self::Revoke => "RevokeSessionToken",
        }
    }

    /// The name of the call in a profile.
    pub(super) const fn call(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Renew => "renew",
            Self::Login => "login",
            Self::Revoke => "revoke",
        }
    }
}

/// The endpoints of one server, parsed once. A request adds its query to a copy.
pub(super) struct EndpointUrls {
    query: Url,
    renew: Url,
    login: Url,
    revoke: Url,
}

impl EndpointUrls {
    /// The endpoints under `base`, which may have a path with or without a trailing slash.
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

    /// The URL of `endpoint` with `parameters` percent-encoded as its query.
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
    fn query_of_the_base_url_is_dropped() {
        assert_eq!(
            query_under("http://h/?x=1#y", "t"),
            "http://h/QuerySessionToken?SessionToken=t"
        );
    }

    #[test]
    fn value_is_percent_encoded_and_decodes_to_itself() {
        let value = "a+b/c=&d#e%20f?g\u{e9}";
        let url = Url::parse(&query_under("http://h/", value)).expect("a URL");
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs, [("SessionToken".to_owned(), value.to_owned())]);
    }
}
