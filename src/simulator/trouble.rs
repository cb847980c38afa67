//! What can be made to go wrong, for one token or for all, once or until called off.

use std::time::Duration;

use super::behaviour::Endpoint;

/// One way in which a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// An error in the API's envelope.
    Error {
        /// Its status.
        status: u16,
        /// Its explanation.
        detail: String,
    },
    /// A request for quiet: status 429 or 503, say, with or without `Retry-After`.
    Quiet {
        /// The HTTP status.
        status: u16,
        /// The header.
        retry_after: RetryAfter,
    },
    /// A proxy's page in place of the API's answer.
    Html {
        /// The HTTP status.
        status: u16,
    },
    /// These bytes as the body: empty, cut short, of another shape.
    Body {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: Vec<u8>,
    },
    /// A 302 to this address.
    Redirect {
        /// The `Location` header.
        to: String,
    },
    /// A body that never ends.
    EndlessBody,
    /// No answer, ever.
    Silence,
    /// The connection is reset before a word of the answer.
    Reset,
    /// The connection is reset after the headers and a part of the body.
    ResetAfterHeaders,
    /// The call takes effect, but the connection is reset before its answer.
    AnswerLost,
}

/// The `Retry-After` header of a [`Trouble::Quiet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// None is sent.
    Unsaid,
    /// As a number of seconds.
    Seconds(u64),
    /// As a date this far ahead on the server's clock, in whole seconds.
    Date(Duration),
}

/// Which calls go wrong, how and how often.
///
/// ```
/// use tokenkeep::simulator::{Endpoint, Plan, Trouble};
///
/// let plan = Plan::once(Trouble::Reset).for_token("abc").at(Endpoint::Renew);
/// assert_eq!(plan.times, Some(1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What goes wrong.
    pub trouble: Trouble,
    /// The token value (or API key) that it goes wrong for; `None`: for all.
    pub value: Option<String>,
    /// The endpoint that it goes wrong at; `None`: at all.
    pub endpoint: Option<Endpoint>,
    /// How often; `None`: until it is called off.
    pub times: Option<u32>,
}

impl Plan {
    /// `trouble` for the next call.
    pub fn once(trouble: Trouble) -> Self {
        Self { trouble, value: None, endpoint: None, times: Some(1) }
    }

    /// `trouble` for every call, until it is called off.
    pub fn always(trouble: Trouble) -> Self {
        Self { times: None, ..Self::once(trouble) }
    }

    /// The same for one token only.
    #[must_use]
    pub fn for_token(self, value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..self }
    }

    /// The same at one endpoint only.
    #[must_use]
    pub fn at(self, endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// Whether it concerns a call.
    fn concerns(&self, endpoint: Option<Endpoint>, value: Option<&str>) -> bool {
        (self.endpoint.is_none() || self.endpoint == endpoint)
            && (self.value.is_none() || self.value.as_deref() == value)
    }
}

/// What goes wrong for a call, if anything does: the plan that was made first counts.
pub(super) fn take(
    plans: &mut Vec<Plan>,
    endpoint: Option<Endpoint>,
    value: Option<&str>,
) -> Option<Trouble> {
    let at = plans.iter().position(|plan| plan.concerns(endpoint, value))?;
    let plan = &mut plans[at];
    let trouble = plan.trouble.clone();
    plan.times = plan.times.map(|times| times.saturating_sub(1));
    if plan.times == Some(0) {
        plans.remove(at);
    }
    Some(trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_for_one_call_is_gone_after_it() {
        let mut plans = vec![Plan::once(Trouble::Reset)];
        assert_eq!(take(&mut plans, Some(Endpoint::Query), None), Some(Trouble::Reset));
        assert_eq!(take(&mut plans, Some(Endpoint::Query), None), None);
    }

    #[test]
    fn a_plan_without_an_end_stays() {
        let mut plans = vec![Plan::always(Trouble::Silence)];
        for _ in 0..3 {
            assert_eq!(take(&mut plans, None, None), Some(Trouble::Silence));
        }
    }

    #[test]
    fn a_plan_leaves_other_tokens_and_endpoints_alone() {
        let plan = Plan::always(Trouble::Reset).for_token("a").at(Endpoint::Renew);
        let mut plans = vec![plan];
        assert_eq!(take(&mut plans, Some(Endpoint::Renew), Some("b")), None);
        assert_eq!(take(&mut plans, Some(Endpoint::Query), Some("a")), None);
        assert_eq!(take(&mut plans, Some(Endpoint::Renew), Some("a")), Some(Trouble::Reset));
    }
}
