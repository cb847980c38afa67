//! Interprets responses by the rules of a profile. Pure functions.
//!
//! A token is only declared dead by a rule of the profile that the whole body meets. Everything
//! unclear is transient. The order is:
//!
//! 1. `later`: the API says that the error is not about the token. The least final rule counts.
//! 2. `dead`: the first rule that matches counts.
//! 3. The HTTP status, if it is not 2xx.
//! 4. `alive`, `endless`, `life` and `assume`. A success that meets none of them is unexpected.

use std::time::Duration;

use serde_json::Value;

use super::super::context::RequestContext;
use super::super::interpret::{RawResponse, error_without_envelope, with_detail};
use super::super::session::{LoginError, LoginErrorKind, NewSession, Renewed};
use super::super::status::{ResponseError, ResponseErrorKind, StatusSource, kind_of};
use super::Exchange;
use super::reply::{Accept, Purpose, Reply};
use crate::outcome::{CallError, ENDLESS, Outcome};
use crate::profile::{DeathMeaning, DeferralMeaning};
use crate::secret::{Mistake, TokenValue};

/// A response that reports no success.
struct Failure {
    error: ResponseError,
    origin: Origin,
}

/// What a failure was concluded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A rule of `later`.
    Later,
    /// A rule of `dead`.
    Dead,
    /// The HTTP status, or a success that is none.
    Http,
}

/// Interprets a response to `query`.
pub(super) fn query(exchange: &Exchange<'_>, response: &RawResponse) -> Outcome {
    let reply = Reply::of(response);
    let outcome = match success(exchange, &reply).and_then(|()| life(exchange, &reply)) {
        Ok(remaining) => Outcome::Alive { remaining },
        Err(failure) => failure.error.into(),
    };
    response.unless_cached(&exchange.context, outcome)
}

/// Interprets a response to `renew`.
pub(super) fn renew(exchange: &Exchange<'_>, response: &RawResponse) -> Renewed {
    let reply = Reply::of(response);
    let read =
        success(exchange, &reply).map(|()| (new_value(exchange, &reply), life(exchange, &reply)));
    let (value, mut outcome) = match read {
        Err(failure) | Ok((Err(failure), _)) => (None, failure.error.into()),
        // A new value is kept even if the life beside it is invalid: the old one may be dead.
        Ok((Ok(value), Ok(remaining))) => (value, Outcome::Alive { remaining }),
        Ok((Ok(value), Err(failure))) => (value, failure.error.into()),
    };
    outcome = response.unless_cached(&exchange.context, outcome);
    let (refresh, refresh_error) = new_refresh(exchange, &reply);
    if let (Some(_), Outcome::Unavailable(fault)) = (&refresh, &mut outcome) {
        // The refresh token that counts is known, so that nothing is lost.
        fault.may_have_acted = false;
    }
    let values = exchange.values;
    Renewed {
        outcome,
        new_value: value.filter(|value| Some(value.expose()) != values.token),
        new_refresh: refresh.filter(|value| Some(value.expose()) != values.refresh),
        refresh_error,
    }
}

/// Interprets a response to `login`. Without a token, two responses are conclusive: a refusal in
/// the API's own words, and a success with an unusable token.
pub(super) fn login(
    exchange: &Exchange<'_>,
    response: &RawResponse,
) -> Result<NewSession, LoginError> {
    let reply = Reply::of(response);
    success(exchange, &reply).map_err(|Failure { error, origin }| {
        let kind = match (error.kind, origin) {
            (ResponseErrorKind::Throttled(retry_after), _) => {
                LoginErrorKind::Throttled { retry_after }
            }
            (ResponseErrorKind::Rejected | ResponseErrorKind::Expired, _) => {
                LoginErrorKind::Refused
            }
            (ResponseErrorKind::Misconfigured, Origin::Later) => LoginErrorKind::Misconfigured,
            (_, Origin::Http)
                if matches!(response.status, 400 | 401 | 403) && reply.begins_with_content() =>
            {
                LoginErrorKind::Refused
            }
            // A proxy's 403 or a wrong URL says nothing about the credentials.
            _ => LoginErrorKind::Unavailable,
        };
        let fault = match kind {
            LoginErrorKind::Refused => {
                CallError { error: refused(&exchange.context), ..error.fault }
            }
            _ => error.fault,
        };
        LoginError { kind, fault }
    })?;
    let place = exchange.call.value.as_ref();
    let value = place
        .and_then(|place| reply.text_at(place, Accept::Whole))
        .ok_or("it is missing, or is not text".to_owned());
    let value = value.and_then(|text| usable(&text));
    match value {
        Ok(value) => {
            let (refresh, refresh_error) = new_refresh(exchange, &reply);
            Ok(NewSession { value, refresh, refresh_error })
        }
        Err(reason) => {
            // A page of a proxy or a portal is no response of the API.
            let is_own = reply.has_content();
            let kind = if is_own { LoginErrorKind::Useless } else { LoginErrorKind::Unavailable };
            let fault = unusable(exchange, &reply, "value", &reason).error.fault;
            Err(LoginError { kind, fault })
        }
    }
}

/// Interprets a response to `revoke`.
pub(super) fn revoke(exchange: &Exchange<'_>, response: &RawResponse) -> Result<(), CallError> {
    let reply = Reply::of(response);
    let failure = match success(exchange, &reply) {
        // A page that a proxy or a portal responds with has ended no session.
        Ok(()) if exchange.call.alive.is_none() && !reply.is_blank() && reply.whole().is_none() => {
            unexpected(exchange, &reply, reply.problem().unwrap_or("is not JSON"))
        }
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    let fault = failure.error.fault;
    Err(match failure.error.kind {
        ResponseErrorKind::Expired => fault.with_status(410),
        ResponseErrorKind::Rejected => fault.with_status(401),
        _ => fault,
    })
}

/// Whether the response reports a success: by the rules, the HTTP status and `alive`.
fn success(exchange: &Exchange<'_>, reply: &Reply<'_>) -> Result<(), Failure> {
    let (call, values) = (exchange.call, exchange.values);
    let later =
        call.later.iter().filter(|deferral| reply.meets(&deferral.rule, Purpose::Deferral, values));
    if let Some(error) = later
        .map(|deferral| deferred(exchange, reply.response, deferral.means))
        .min_by_key(|error| error.kind)
    {
        return Err(failure(exchange, reply, error, Origin::Later));
    }
    let mut dead = call.dead.iter();
    if let Some(death) = dead.find(|death| reply.meets(&death.rule, Purpose::Death, values)) {
        let error = died(exchange, reply.response.status, death.means);
        return Err(failure(exchange, reply, error, Origin::Dead));
    }
    if reply.response.status / 100 != 2 {
        return Err(unexpected(exchange, reply, ""));
    }
    match &call.alive {
        Some(rule) if !reply.meets(rule, Purpose::Success, values) => {
            Err(unexpected(exchange, reply, reply.problem().unwrap_or("does not meet `alive`")))
        }
        _ => Ok(()),
    }
}

/// The remaining life in a success.
fn life(exchange: &Exchange<'_>, reply: &Reply<'_>) -> Result<Duration, Failure> {
    let call = exchange.call;
    if call.endless.as_ref().is_some_and(|place| reply.is_null_at(place)) {
        return Ok(ENDLESS);
    }
    match (reply.life(&call.life, call.unit), exchange.profile.assume) {
        (Ok(Some(life)), _) => Ok(life),
        // A page that a proxy responds with says nothing about the token.
        (Ok(None), Some(assumed))
            if call.life.is_empty() && (reply.has_content() || reply.is_bodiless()) =>
        {
            Ok(assumed)
        }
        (Ok(None), _) => {
            let places: Vec<_> = call.life.iter().map(|place| format!("`{place}`")).collect();
            let reason = match reply.problem() {
                Some(problem) => problem.to_owned(),
                None if places.is_empty() => "is no JSON object or list with content".to_owned(),
                None => format!("has no value at {}", places.join(" or ")),
            };
            Err(unexpected(exchange, reply, &reason))
        }
        (Err(place), _) => {
            let reason =
                format!("has a value at `{place}` that is no plausible life in the profile's unit");
            Err(unexpected(exchange, reply, &reason))
        }
    }
}

/// The value that a renewal names. It may name none, unless it replaces each value.
fn new_value(exchange: &Exchange<'_>, reply: &Reply<'_>) -> Result<Option<TokenValue>, Failure> {
    let Some(place) = &exchange.call.value else { return Ok(None) };
    let is_there = reply.any(place, Accept::Whole, &mut |_| true);
    if !is_there && !exchange.profile.once {
        return Ok(None);
    }
    let text = reply.text_at(place, Accept::Whole);
    let value = text.ok_or("it is missing, or is not text".to_owned());
    let value = value.and_then(|text| TokenValue::parse(&text).map_err(|error| error.to_string()));
    value.map(Some).map_err(|reason| unusable(exchange, reply, "value", &reason))
}

/// The refresh token that a 2xx names, whatever else the response says: the one that was sent may be
/// void now. If it cannot be used, why.
fn new_refresh(
    exchange: &Exchange<'_>,
    reply: &Reply<'_>,
) -> (Option<TokenValue>, Option<Box<str>>) {
    let place = exchange.call.refresh.as_ref().filter(|_| reply.response.status / 100 == 2);
    let Some(place) = place else { return (None, None) };
    let is_other = &mut |value: &Value| !value.is_null() && !value.is_string();
    let parsed = match reply.text_at(place, Accept::Beginning) {
        Some(text) => TokenValue::parse(&text).map_err(|error| error.to_string()),
        None if reply.any(place, Accept::Beginning, is_other) => Err("it is not text".to_owned()),
        None => return (None, None),
    };
    match parsed {
        Ok(refresh) => (Some(refresh), None),
        Err(reason) => {
            let call = exchange.context.call();
            let error = format!("the `refresh` in the response to {call} cannot be used: {reason}");
            (None, Some(error.into()))
        }
    }
}

/// A value that is certainly a token's.
fn usable(text: &str) -> Result<TokenValue, String> {
    let value = TokenValue::parse(text).map_err(|error| error.to_string())?;
    match Mistake::of(value.expose()).filter(|mistake| mistake.is_certain()) {
        None => Ok(value),
        Some(mistake) => Err(mistake.to_string()),
    }
}

fn deferred(
    exchange: &Exchange<'_>,
    response: &RawResponse,
    means: DeferralMeaning,
) -> ResponseError {
    let context = &exchange.context;
    let (call, server) = (context.call(), context.server);
    let (kind, sentence) = match means {
        DeferralMeaning::Throttled => (
            kind_of(429, StatusSource::Http, response.pause(429)),
            "the server asks for fewer requests".to_owned(),
        ),
        DeferralMeaning::Unavailable => (
            // With `Retry-After` it asks for a pause.
            kind_of(503, StatusSource::Http, response.pause(503)),
            "the server reports that it is temporarily unavailable".to_owned(),
        ),
        DeferralMeaning::Misconfigured => (
            ResponseErrorKind::Misconfigured,
            format!(
                "the server does not accept {call}: check `with` of [server.{server}], which is \
                 read at start and reload, and that the account may use it"
            ),
        ),
    };
    ResponseError { kind, fault: CallError::new(sentence).with_status(response.status) }
}

fn died(exchange: &Exchange<'_>, status: u16, means: DeathMeaning) -> ResponseError {
    let (kind, sentence) = match means {
        DeathMeaning::Expired => {
            (ResponseErrorKind::Expired, "the server reports that the token has expired")
        }
        DeathMeaning::Rejected if exchange.call.request.uses_refresh_token() => {
            (ResponseErrorKind::Rejected, "the server does not accept the refresh token")
        }
        DeathMeaning::Rejected => {
            (ResponseErrorKind::Rejected, "the server does not know the token")
        }
    };
    ResponseError { kind, fault: CallError::new(sentence).with_status(status) }
}

fn refused(context: &RequestContext<'_>) -> Box<str> {
    format!(
        "the server does not accept {}: check `with` of [server.{}] and of the `reauth` method",
        context.call(),
        context.server
    )
    .into()
}

/// The failure of a response that no rule explains: by its HTTP status, or if that claims success,
/// for `reason`, which continues "it".
fn unexpected(exchange: &Exchange<'_>, reply: &Reply<'_>, reason: &str) -> Failure {
    let response = reply.response;
    let mut error = error_without_envelope(&exchange.context, response, reason);
    // A server that refuses a request has not acted upon it. A bare 503 is no refusal: a proxy
    // sends it too when the server closes the connection after it received the request.
    let is_refusal = match response.status {
        300..=407 | 409..=499 => true,
        503 => matches!(error.kind, ResponseErrorKind::Throttled(_)) || reply.has_content(),
        _ => false,
    };
    error.fault.may_have_acted = exchange.is_once() && !is_refusal;
    failure(exchange, reply, error, Origin::Http)
}

fn unusable(exchange: &Exchange<'_>, reply: &Reply<'_>, key: &str, reason: &str) -> Failure {
    unexpected(exchange, reply, &format!("has a `{key}` that cannot be used: {reason}"))
}

/// The failure with the server's explanation.
fn failure(
    exchange: &Exchange<'_>,
    reply: &Reply<'_>,
    ResponseError { kind, fault }: ResponseError,
    origin: Origin,
) -> Failure {
    let place = exchange.profile.detail.as_ref();
    let detail = place.map(|place| reply.texts_at(place, Accept::Beginning));
    let fault = with_detail(fault, &exchange.context, detail.as_deref());
    Failure { error: ResponseError { kind, fault }, origin }
}
