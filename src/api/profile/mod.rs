//! Client of an API that a profile describes.
//!
//! Owns the values of placeholders. From top to bottom; a file uses only files below it:
//!
//! ```text
//! calls    sends a call and reports its result
//! verdict  meaning of a response
//! request  reply    builds requests; finds values in responses
//! ```

mod calls;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod properties;
mod reply;
mod request;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod sarus;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::context::RequestContext;
use super::endpoint::Endpoint;
use super::status::{ResponseError, ResponseErrorKind};
use crate::outcome::CallError;
use crate::profile::{Call, Placeholder, Profile};
use crate::settings::Server;

/// Values of parameters, by name.
pub(super) type Parameters = BTreeMap<String, SecretString>;

/// The API of one server.
pub(super) struct ProfileApi {
    profile: Arc<Profile>,
    /// Without a query, and without a slash at the end of the path.
    base: Url,
    parameters: Parameters,
}

/// Values of the placeholders of one request.
pub(super) struct Values<'a> {
    token: Option<&'a str>,
    refresh: Option<&'a str>,
    minutes: Option<&'a str>,
    /// Those of the server, and those that override them.
    parameters: [Option<&'a Parameters>; 2],
}

/// A call with its values.
struct Exchange<'a> {
    profile: &'a Profile,
    base: &'a Url,
    call: &'a Call,
    values: &'a Values<'a>,
    context: RequestContext<'a>,
}

impl ProfileApi {
    /// The API that the profile of `server` describes; `None` for the native one.
    pub(super) fn of(server: &Server, parameters: Parameters) -> Option<Self> {
        let profile = Arc::clone(server.profile.as_ref()?);
        let mut base = server.url.clone();
        base.set_query(None);
        base.set_fragment(None);
        Some(Self { profile, base, parameters })
    }

    fn values<'a>(&'a self, token: Option<&'a str>) -> Values<'a> {
        let parameters = [None, Some(&self.parameters)];
        Values { token, refresh: None, minutes: None, parameters }
    }

    /// The exchange for the call of `endpoint`, which the profile must have.
    fn exchange<'a>(
        &'a self,
        endpoint: Endpoint,
        values: &'a Values<'a>,
        server: &'a str,
        secrets: &'a [&'a str],
    ) -> Result<Exchange<'a>, ResponseError> {
        let profile = &*self.profile;
        let call = match endpoint {
            Endpoint::Query => &profile.query,
            Endpoint::Renew => &profile.renew,
            Endpoint::Login => &profile.login,
            Endpoint::Revoke => &profile.revoke,
        };
        let call = call.as_ref().ok_or_else(|| {
            let (name, call) = (&profile.name, endpoint.call());
            not_sent(format!("profile {name} of [server.{server}] has no `{call}`: add it"))
        })?;
        let context = RequestContext { server, endpoint, profile: Some(&profile.name), secrets };
        Ok(Exchange { profile, base: &self.base, call, values, context })
    }
}

impl<'a> Values<'a> {
    /// The value of a placeholder.
    fn get(&self, placeholder: &Placeholder) -> Option<&'a str> {
        match placeholder {
            Placeholder::Token => self.token,
            Placeholder::Refresh => self.refresh,
            Placeholder::Minutes => self.minutes,
            Placeholder::Parameter(name) => {
                let mut named = self.parameters.iter().flatten();
                named.find_map(|values| values.get(&**name)).map(ExposeSecret::expose_secret)
            }
        }
    }

    /// All values that may be secret.
    fn secrets(&self) -> Vec<&'a str> {
        let parameters = self.parameters.iter().flatten().flat_map(|values| values.values());
        let parameters = parameters.map(ExposeSecret::expose_secret);
        [self.token, self.refresh].into_iter().flatten().chain(parameters).collect()
    }
}

impl Exchange<'_> {
    /// Whether the request may consume the refresh token.
    fn is_once(&self) -> bool {
        self.context.endpoint == Endpoint::Renew && self.profile.once
    }
}

/// The error of a request that cannot be sent.
fn not_sent(error: impl Into<Box<str>>) -> ResponseError {
    let fault = CallError { local: true, ..CallError::new(error) };
    ResponseError { kind: ResponseErrorKind::Misconfigured, fault }
}
