//! How a token is renewed: by its configuration, and by what its server's profile can do. Pure.

use crate::lifecycle::Renewal;
use crate::profile::{Call, Profile};

/// See the fields of the same names in [`Policy`](crate::lifecycle::Policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effective {
    pub(crate) renewal: Renewal,
    pub(crate) assumed: bool,
    pub(crate) rotates: bool,
}

impl Effective {
    /// What follows from a server's `renewal` and profile, and from whether the token has a refresh
    /// token.
    pub(crate) fn new(configured: Renewal, profile: Option<&Profile>, has_refresh: bool) -> Self {
        let Some(profile) = profile else {
            return Self { renewal: configured, assumed: false, rotates: false };
        };
        let Profile { query, renew, assume, .. } = profile;
        let needs_refresh = profile.renews_with_refresh_token();
        let can_renew = has_refresh || !needs_refresh;
        let renewal = match (query, renew) {
            (None, _) => Renewal::Renew,
            // Neither a trial nor a proof is possible.
            (Some(_), Some(_))
                if can_renew
                    && configured == Renewal::Auto
                    && (needs_refresh || assume.is_some()) =>
            {
                Renewal::Renew
            }
            (Some(_), Some(_)) if can_renew => configured,
            (Some(_), _) => Renewal::Query,
        };
        // `endless` only says which tokens have no expiry: that of the others is assumed.
        let reports_none =
            |call: &Option<Call>| call.as_ref().is_some_and(|call| call.life.is_empty());
        let assumed = match renewal {
            Renewal::Query => reports_none(query),
            Renewal::Renew => reports_none(renew),
            Renewal::Auto => reports_none(query) || reports_none(renew),
        };
        let rotates = needs_refresh && has_refresh && renewal == Renewal::Renew;
        Self { renewal, assumed: assumed && assume.is_some(), rotates }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::profile::{Place, Request, RequestBody, Template, Unit};

    /// A call that reports the life or not; its body contains `text`.
    fn call(life: bool, text: &str) -> Call {
        let template = |text| Template::parse(text).unwrap();
        let body = RequestBody::Form(vec![("t".to_owned(), template(text))]);
        let request = Request {
            method: "POST".to_owned(),
            path: template("token"),
            query: Vec::new(),
            headers: Vec::new(),
            body,
            basic: None,
        };
        let life = life.then(|| Place::parse("ttl").unwrap()).into_iter().collect();
        Call {
            request,
            life,
            unit: Unit::Seconds,
            endless: None,
            alive: None,
            dead: Vec::new(),
            later: Vec::new(),
            value: None,
            refresh: None,
        }
    }

    fn profile(query: Option<Call>, renew: Option<Call>) -> Profile {
        let once = renew.as_ref().is_some_and(|call| call.request.uses_refresh_token());
        Profile {
            name: "p".to_owned(),
            query,
            renew,
            login: None,
            revoke: None,
            renewal: Renewal::Auto,
            assume: None,
            once,
            detail: None,
        }
    }

    fn renewal(configured: Renewal, profile: &Profile, has_refresh: bool) -> (Renewal, bool) {
        let Effective { renewal, rotates, .. } =
            Effective::new(configured, Some(profile), has_refresh);
        (renewal, rotates)
    }

    const ALL: [Renewal; 3] = [Renewal::Auto, Renewal::Query, Renewal::Renew];

    #[test]
    fn configured_renewal_precedes_that_of_the_profile() {
        let both = profile(Some(call(true, "{token}")), Some(call(true, "{token}")));
        for own in ALL {
            let both = Profile { renewal: own, ..both.clone() };
            for configured in ALL {
                assert_eq!(renewal(configured, &both, false), (configured, false), "{own:?}");
            }
        }
        for configured in ALL {
            let native = Effective { renewal: configured, assumed: false, rotates: false };
            assert_eq!(Effective::new(configured, None, false), native);
        }
    }

    #[test]
    fn profile_without_a_call_uses_the_other_one() {
        for configured in ALL {
            let query = profile(Some(call(true, "{token}")), None);
            assert_eq!(renewal(configured, &query, true), (Renewal::Query, false));
            let renew = profile(None, Some(call(true, "{token}")));
            assert_eq!(renewal(configured, &renew, false), (Renewal::Renew, false));
        }
    }

    #[test]
    fn renewal_rotates_if_there_is_a_refresh_token_and_is_never_a_trial() {
        let oauth = profile(Some(call(true, "{token}")), Some(call(true, "{refresh}")));
        for configured in [Renewal::Auto, Renewal::Renew] {
            assert_eq!(renewal(configured, &oauth, true), (Renewal::Renew, true));
            assert_eq!(renewal(configured, &oauth, false), (Renewal::Query, false));
        }
        assert_eq!(renewal(Renewal::Query, &oauth, true), (Renewal::Query, false));
        let many_times = Profile { once: false, ..oauth };
        assert_eq!(renewal(Renewal::Auto, &many_times, true), (Renewal::Renew, true));
        let only = profile(None, Some(call(true, "{refresh}")));
        assert_eq!(renewal(Renewal::Auto, &only, true), (Renewal::Renew, true));
    }

    #[test]
    fn life_is_assumed_if_the_call_in_use_reports_none() {
        let assume = Some(Duration::from_secs(60));
        let calls = [true, false].map(|life| Some(call(life, "{token}")));
        for (query, renew) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let both = profile(calls[query].clone(), calls[renew].clone());
            let both = Profile { assume, ..both };
            for (configured, used) in
                [(Renewal::Query, query), (Renewal::Renew, renew), (Renewal::Auto, renew)]
            {
                let effective = Effective::new(configured, Some(&both), false);
                assert_eq!(effective.assumed, used == 1, "{configured:?} {query} {renew}");
                assert_ne!(effective.renewal, Renewal::Auto);
            }
        }
        let endless = Some(Place::parse("expires_at").unwrap());
        let query = Call { endless, ..call(false, "{token}") };
        let profile = Profile { assume, ..profile(Some(query), None) };
        assert!(Effective::new(Renewal::Auto, Some(&profile), false).assumed);
    }
}
