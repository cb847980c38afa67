//! Client of session APIs: that of Sarus market data natively, others by a profile.
//!
//! Owns everything specific to an API: URLs, envelope, statuses. It returns outcomes and errors,
//! and never a URL with a query or a secret. Types of the HTTP library leave it only in
//! `http_clients`, for other adapters.
//!
//! Sending (`request`) and interpreting (`interpret`) are separate; the latter is pure.
//!
//! From top to bottom; a file uses only files below it:
//!
//! ```text
//! profile                 calls of a profile: requests, meaning of responses
//! request                 sends, reads the body, resends once
//! webhook                 posts to URLs outside the API
//! interpret  connections  meaning of a response; pools
//! http_client  fast_path  settings of the HTTP library; reads the usual response
//! transport_error  tunnel  tls_sessions
//! envelope  materials  status
//! context  session        a request in progress; results of renewals and logins
//! client_error  retry_after  redact  json_repair  certificate
//! endpoint
//! ```

mod certificate;
mod client_error;
mod connections;
mod context;
mod endpoint;
mod envelope;
mod fast_path;
mod http_client;
mod interpret;
mod json_repair;
mod materials;
mod profile;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod redact;
mod request;
mod retry_after;
mod session;
mod status;
mod tls_sessions;
mod transport_error;
mod tunnel;
mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};

pub use self::client_error::ClientError;
pub use self::connections::ConnectionLimits;
use self::connections::{Connections, Lease, Verdict};
use self::context::RequestContext;
pub(crate) use self::context::{ClientCertificateState, Section};
use self::endpoint::{Endpoint, EndpointUrls};
pub(crate) use self::http_client::HttpClientFactory;
use self::interpret::RawResponse;
pub use self::materials::CertificateWarning;
use self::materials::Materials;
use self::profile::ProfileApi;
#[cfg(any(test, feature = "fuzzing"))]
pub use self::profile::properties::response as profile_response;
use self::request::{OnEnd, Sending};
pub use self::session::{LoginError, LoginErrorKind, NewSession, Renewed};
use self::status::ResponseError;
use self::transport_error::RequestTimeouts;
pub(crate) use self::transport_error::{class, explain_tls, lacks_certificate, reason};
pub use self::webhook::{HeaderLine, WebhookClient};
use crate::outcome::{CallError, Connection, Outcome};
use crate::secret::TokenValue;
use crate::settings::Server;
use crate::token_source::Variables;

/// Factory of HTTP clients for a server that is not a session API. Reads files, so it blocks.
///
/// # Errors
///
/// See [`ClientError`].
pub(crate) fn http_clients(
    server: &Server,
    variables: Variables<'_>,
) -> Result<HttpClientFactory, ClientError> {
    HttpClientFactory::new(server, Materials::read(server, variables)?)
}

/// Client of one server. Clones share the connections.
///
/// Each call has a time-out, from connecting to the last byte of the response. The caller limits
/// the rate and the number of concurrent calls.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    connections: Connections,
    urls: EndpointUrls,
    /// The API that a profile describes; `None` for the native one.
    profile: Option<ProfileApi>,
    server: String,
    connect_timeout: Duration,
    /// Whether a renewal on this server has replaced a value.
    replaces_values: AtomicBool,
    explain: Option<Explain>,
}

/// Receives the name of a call of a profile, and an explanation of its response in one line.
pub type Explain = fn(&str, &str);

impl Client {
    /// A client for `server`. Reads the files that it names, and opens no connection yet.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used, `proxy` is invalid, or this machine trusts no certificate
    /// authority.
    pub fn new(server: &Server) -> Result<Self, ClientError> {
        Self::with_variables(server, &|name| std::env::var_os(name))
    }

    /// A client that reads credentials and variables from `variables` instead of the environment of
    /// this process.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_variables(server: &Server, variables: Variables<'_>) -> Result<Self, ClientError> {
        let materials = Materials::read(server, variables)?;
        Self::from_materials(server, materials, ConnectionLimits::default(), None)
    }

    /// A client with other connection limits than the default ones.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_limits(server: &Server, limits: ConnectionLimits) -> Result<Self, ClientError> {
        let materials = Materials::read(server, &|name| std::env::var_os(name))?;
        Self::from_materials(server, materials, limits, None)
    }

    /// A client that explains each response of a server with a profile: it passes the name of the
    /// call and one line to `explain`. The line contains no secret.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn explaining(server: &Server, explain: Explain) -> Result<Self, ClientError> {
        let materials = Materials::read(server, &|name| std::env::var_os(name))?;
        Self::from_materials(server, materials, ConnectionLimits::default(), Some(explain))
    }

    /// Reads the files of `server` again. Returns a new client if one of them or the system's
    /// authorities have changed. `server` must be the one that this client was created for.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn reread(&self, server: &Server) -> Result<Option<Self>, ClientError> {
        let materials = Materials::read(server, &|name| std::env::var_os(name))?;
        if materials.fingerprint == self.0.connections.factory().fingerprint() {
            return Ok(None);
        }
        Self::from_materials(server, materials, ConnectionLimits::default(), None).map(Some)
    }

    /// Why servers reject the client certificate at this time.
    pub fn certificate_warning(&self) -> Option<CertificateWarning> {
        self.0.connections.factory().warning(Section::Server(&self.0.server))
    }

    fn from_materials(
        server: &Server,
        mut materials: Materials,
        limits: ConnectionLimits,
        explain: Option<Explain>,
    ) -> Result<Self, ClientError> {
        let parameters = std::mem::take(&mut materials.parameters);
        Ok(Self(Arc::new(Inner {
            connections: Connections::new(server, materials, limits)?,
            urls: EndpointUrls::under(&server.url),
            profile: ProfileApi::of(server, parameters),
            server: server.name.clone(),
            connect_timeout: server.connect_timeout.min(server.timeout),
            replaces_values: AtomicBool::new(false),
            explain,
        })))
    }

    /// Reads the token's remaining life (`QuerySessionToken`). If a reused connection ends before
    /// the response, the query is sent once more on a fresh one, within the same time-out.
    pub async fn query(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Outcome {
        if let Some(profile) = &self.0.profile {
            return profile.query(self, token, timeout, connection).await;
        }
        let secrets = [token.expose()];
        let context = self.context(Endpoint::Query, &secrets);
        let parameters = [("SessionToken", token.expose())];
        let sending = Sending { timeout, connection, on_end: OnEnd::Resend };
        let (response, lease) = self.call(&context, &parameters, sending).await;
        let outcome = match response {
            Ok(response) => interpret::query(&context, &response),
            Err(failure) => failure.into(),
        };
        self.judge(&lease, Verdict::from(&outcome));
        outcome
    }

    /// Renews the token (`RenewSessionToken`). The request is resent like a query, except:
    ///
    /// - if a renewal on this server has replaced a value: the first request may have ended the
    ///   value that the second would send;
    /// - if the profile declares the renewal as `once`: it is sent once, on a fresh connection.
    pub async fn renew(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Renewed {
        let renewed = match &self.0.profile {
            Some(profile) => profile.renew(self, Some(token), None, timeout, connection).await,
            None => self.renew_natively(token, timeout, connection).await,
        };
        self.note_renewal(&renewed);
        renewed
    }

    /// Renews with a refresh token, on a fresh connection. It is sent once, because a refresh token
    /// may be good for one request only. `value` is the current token value, if there is one.
    ///
    /// [`CallError::may_have_acted`] is set if the server may have processed a request that the
    /// profile declares as `once`.
    pub async fn rotate(
        &self,
        refresh: &TokenValue,
        value: Option<&TokenValue>,
        timeout: Duration,
    ) -> Renewed {
        let renewed = match &self.0.profile {
            Some(profile) => {
                profile.renew(self, value, Some(refresh), timeout, Connection::Fresh).await
            }
            None => Renewed::failed(Outcome::Misconfigured(self.has_no_profile())),
        };
        self.note_renewal(&renewed);
        renewed
    }

    async fn renew_natively(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Renewed {
        let secrets = [token.expose()];
        let context = self.context(Endpoint::Renew, &secrets);
        let parameters = [("SessionToken", token.expose())];
        let on_end = if self.has_replaced_values() { OnEnd::Fail } else { OnEnd::Resend };
        let sending = Sending { timeout, connection, on_end };
        let (response, lease) = self.call(&context, &parameters, sending).await;
        let renewed = match response {
            Ok(response) => interpret::renew(&context, &response, token),
            Err(failure) => Renewed::failed(failure.into()),
        };
        self.judge(&lease, Verdict::from(&renewed.outcome));
        renewed
    }

    fn explain(&self) -> Option<Explain> {
        self.0.explain
    }

    /// Whether a renewal on this server has replaced a value.
    fn has_replaced_values(&self) -> bool {
        self.0.replaces_values.load(Ordering::Relaxed)
    }

    fn note_renewal(&self, renewed: &Renewed) {
        if renewed.new_value.is_some() {
            self.0.replaces_values.store(true, Ordering::Relaxed);
        }
    }

    /// The error of a call that only profiles have.
    fn has_no_profile(&self) -> CallError {
        let server = &self.0.server;
        let error = format!("[server.{server}] has no profile that describes this call");
        CallError { local: true, ..CallError::new(error) }
    }

    /// Opens a session of `minutes`, 1 to 1440, with an API key (`GetSessionToken`), on a fresh
    /// connection. It is sent once, because each request that arrives may open a session.
    ///
    /// # Errors
    ///
    /// If the response contains no usable token; [`LoginError::kind`] tells what that means.
    pub async fn login(
        &self,
        api_key: &SecretString,
        minutes: u16,
        timeout: Duration,
    ) -> Result<TokenValue, LoginError> {
        let key = api_key.expose_secret();
        let secrets = [key];
        let context = self.context(Endpoint::Login, &secrets);
        let minutes = minutes.to_string();
        let parameters = [("APIKey", key), ("Minutes", &*minutes)];
        let sending = Sending { timeout, connection: Connection::Fresh, on_end: OnEnd::Fail };
        let (response, lease) = self.call(&context, &parameters, sending).await;
        let login = match response {
            Ok(response) => interpret::login(&context, &response),
            Err(ResponseError { fault, .. }) => {
                Err(LoginError { kind: LoginErrorKind::Unavailable, fault })
            }
        };
        let conclusive = match &login {
            Ok(_) => true,
            Err(fault) => fault.kind == LoginErrorKind::Refused,
        };
        let verdict = if conclusive { Verdict::Conclusive } else { Verdict::Inconclusive };
        self.judge(&lease, verdict);
        login
    }

    /// Opens a session with the profile's `login`, on a fresh connection. It is sent once.
    /// `parameters` override those of the server. `minutes` is the value of `{minutes}`.
    ///
    /// # Errors
    ///
    /// If the response contains no usable token; [`LoginError::kind`] tells what that means.
    pub async fn login_with(
        &self,
        parameters: &BTreeMap<String, SecretString>,
        minutes: u16,
        timeout: Duration,
    ) -> Result<NewSession, LoginError> {
        match &self.0.profile {
            Some(profile) => profile.login(self, parameters, minutes, timeout).await,
            None => Err(LoginError {
                kind: LoginErrorKind::Misconfigured,
                fault: self.has_no_profile(),
            }),
        }
    }

    /// Ends the token's session (`RevokeSessionToken`) on a fresh connection, because it is rare
    /// and is not retried.
    ///
    /// # Errors
    ///
    /// If the server did not confirm it. [`CallError::status`] is 401 or 410 if the token was
    /// already dead.
    pub async fn revoke(&self, token: &TokenValue, timeout: Duration) -> Result<(), CallError> {
        if let Some(profile) = &self.0.profile {
            return profile.revoke(self, token, timeout).await;
        }
        let secrets = [token.expose()];
        let context = self.context(Endpoint::Revoke, &secrets);
        let parameters = [("SessionToken", token.expose())];
        let sending = Sending { timeout, connection: Connection::Fresh, on_end: OnEnd::Fail };
        let (response, lease) = self.call(&context, &parameters, sending).await;
        let revoked = response
            .map_err(|failure| failure.fault)
            .and_then(|response| interpret::revoke(&context, &response));
        let verdict = if revoked.is_ok() { Verdict::Conclusive } else { Verdict::Inconclusive };
        self.judge(&lease, verdict);
        revoked
    }

    /// The context of a native call.
    fn context<'a>(&'a self, endpoint: Endpoint, secrets: &'a [&'a str]) -> RequestContext<'a> {
        RequestContext { server: &self.0.server, endpoint, profile: None, secrets }
    }

    /// Sends a native request.
    async fn call(
        &self,
        context: &RequestContext<'_>,
        parameters: &[(&str, &str)],
        sending: Sending,
    ) -> (Result<RawResponse, ResponseError>, Lease) {
        let url = || self.0.urls.with(context.endpoint, parameters);
        self.send(context, || Ok(Request::new(Method::GET, url())), sending).await
    }

    /// Sends a request. The returned lease is the one that the response came from.
    async fn send(
        &self,
        context: &RequestContext<'_>,
        request: impl Fn() -> Result<Request, ResponseError>,
        sending: Sending,
    ) -> (Result<RawResponse, ResponseError>, Lease) {
        let Inner { connections, connect_timeout, .. } = &*self.0;
        let Sending { timeout, connection, on_end } = sending;
        let timeouts = RequestTimeouts { timeout, connect_timeout: *connect_timeout };
        let mut lease = connections.lease(connection);
        let response =
            request::send(connections, &mut lease, request, on_end, timeouts, context).await;
        (response, lease)
    }

    fn judge(&self, lease: &Lease, verdict: Verdict) {
        self.0.connections.judge(lease, verdict);
    }

    fn server(&self) -> &str {
        &self.0.server
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.0.server).finish_non_exhaustive()
    }
}
