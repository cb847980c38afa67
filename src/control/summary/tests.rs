mod cluster;

use super::*;

const MINUTE: i64 = 60_000;

/// The parts as text: times of day as minutes since the epoch, such as `@90`.
fn text(summary: &Summary) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Token { token } => token.clone(),
        Part::At { at_ms } => format!("@{}", at_ms / MINUTE),
        Part::In { in_ms } => format!("{} min", in_ms / 60_000),
    };
    summary.parts.iter().map(part).collect()
}

/// A moment this number of minutes from now; now is @100.
fn minutes(count: i64) -> When {
    When { at_ms: (100 + count) * MINUTE, in_ms: count * MINUTE }
}

fn token(name: &str, concern: Concern, state: State) -> TokenFacts {
    TokenFacts {
        name: Some(name.to_owned()),
        concern,
        state,
        expiry: None,
        basis: LifeBasis::Reported,
        died_at_ms: None,
        was_revoked: false,
        was_alive: true,
        is_unrenewed: concern == Concern::RunsOut,
        is_failing: matches!(concern, Concern::Failing | Concern::Lapsed),
        next_check_ms: Some(12 * 60_000),
        source: ValueOrigin::File(format!("/t/{name}")),
        reauth: None,
        elsewhere: None,
    }
}

fn alive(name: &str) -> TokenFacts {
    TokenFacts { expiry: Some(minutes(29)), ..token(name, Concern::Alive, State::Alive) }
}

fn expired(name: &str) -> TokenFacts {
    let died_at_ms = Some(90 * MINUTE);
    TokenFacts { died_at_ms, ..token(name, Concern::NeedsOperator, State::Expired) }
}

fn reauth(next: Option<When>, attempts_left: u32) -> ReauthFacts {
    ReauthFacts { is_running: false, next, attempts_left, max_attempts: 5 }
}

fn dead_with(reauth: ReauthFacts) -> TokenFacts {
    TokenFacts { concern: Concern::Dead, reauth: Some(reauth), ..expired("quotes") }
}

/// The sentence about these tokens and this number of alive ones.
fn of(tokens: &[TokenFacts], alive: usize) -> (String, Level) {
    of_facts(Facts { first: tokens.to_vec(), ..Facts::default() }, alive)
}

fn of_facts(mut facts: Facts, alive: usize) -> (String, Level) {
    for token in &facts.first {
        facts.counts[token.concern as usize] += 1;
    }
    facts.counts[Concern::Alive as usize] += alive;
    facts.first.truncate(3);
    facts.next_check_ms = Some(18 * 60_000);
    let summary = summarize(&facts);
    (text(&summary), summary.level)
}

#[test]
fn all_alive_names_the_next_check() {
    let expected = "All 5 tokens are alive; the next check is in 18 min.".to_owned();
    assert_eq!(of(&[alive("quotes")], 4), (expected, Level::Ok));
}

#[test]
fn a_single_token_is_named_with_its_expiry() {
    let expected = "quotes is alive until @129 (in 29 min); the next check is in 12 min.";
    assert_eq!(of(&[alive("quotes")], 0), (expected.to_owned(), Level::Ok));
}

#[test]
fn without_tokens_the_sentence_says_how_to_add_one() {
    let expected = "No token is configured. Add one with `tokenkeep add NAME`.";
    assert_eq!(of(&[], 0), (expected.to_owned(), Level::Ok));
}

#[test]
fn a_dead_token_without_reauth_needs_the_operator_and_its_file_is_named() {
    let expected = "1 of 5 needs you: legacy expired at @90; put a new token into /t/legacy.";
    assert_eq!(of(&[expired("legacy")], 4), (expected.to_owned(), Level::Error));
}

#[test]
fn a_token_that_was_never_seen_alive_was_found_expired() {
    let token = TokenFacts { was_alive: false, ..expired("legacy") };
    let expected = "legacy was found expired at @90; put a new token into /t/legacy.";
    assert_eq!(text(&summarize_token(&token)), expected);
}

#[test]
fn each_kind_of_source_has_its_own_remedy() {
    for (source, remedy) in [
        (ValueOrigin::Hidden, "it needs a new value"),
        (
            ValueOrigin::Service("credential quotes".to_owned()),
            "give credential quotes a new value and restart tokenkeep",
        ),
        (ValueOrigin::Inventory("fleet".to_owned()), "put a new token into the inventory fleet"),
    ] {
        let token = TokenFacts { source, ..expired("quotes") };
        assert_eq!(text(&summarize_token(&token)), format!("quotes expired at @90; {remedy}."));
    }
}

#[test]
fn hidden_names_and_paths_do_not_appear() {
    let hidden = TokenFacts { name: None, source: ValueOrigin::Hidden, ..expired("legacy") };
    let expected = "1 of 5 needs you: a token expired at @90; it needs a new value.";
    assert_eq!(of(&[hidden], 4).0, expected);
    let retrying = token("quotes", Concern::Retrying, State::Retrying);
    let hidden = TokenFacts { name: None, expiry: Some(minutes(12)), ..retrying };
    assert_eq!(
        of(&[hidden.clone(), hidden], 3).0,
        "All 5 tokens are alive, but the last checks of 2 failed; the first expires at @112 (in 12 \
         min)."
    );
}

#[test]
fn a_dead_token_with_reauth_names_the_next_attempt_and_the_attempts_left() {
    let rest = |token| of(&[token], 4).0.replacen("1 of 5 is not alive: quotes ", "", 1);
    assert_eq!(
        rest(dead_with(reauth(Some(minutes(3)), 2))),
        "expired at @90; the next re-authentication attempt is at @103 (in 3 min), 2 of 5 attempts \
         left."
    );
    assert_eq!(
        rest(dead_with(reauth(Some(minutes(20)), 0))),
        "expired at @90; re-authentication is stopped until @120 (in 20 min), after 5 attempts; put \
         a new token into /t/quotes."
    );
    let running = ReauthFacts { is_running: true, ..reauth(None, 4) };
    assert_eq!(rest(dead_with(running)), "expired at @90; re-authentication is in progress.");
    assert_eq!(
        rest(dead_with(reauth(Some(minutes(0)), 4))),
        "expired at @90; re-authentication is about to start."
    );
    assert_eq!(rest(dead_with(reauth(None, 4))), "expired at @90; a new value is being checked.");
}

#[test]
fn several_dead_tokens_are_named_up_to_three() {
    let rejected = TokenFacts { state: State::Rejected, ..expired("b") };
    let missing = TokenFacts { state: State::Missing, died_at_ms: None, ..expired("c") };
    let mut tokens = vec![expired("a"), rejected, missing];
    assert_eq!(
        of(&tokens, 17).0,
        "3 of 20 need you: a expired at @90, b was rejected at @90 and c has no value."
    );
    tokens[1].was_revoked = true;
    assert!(of(&tokens, 17).0.contains(" b was revoked at @90 and "));
    tokens[1].was_revoked = false;
    tokens.push(expired("d"));
    assert_eq!(
        of(&tokens, 2_000).0,
        "4 of 2,004 need you: a expired at @90, b was rejected at @90, c has no value and 1 more."
    );
}

#[test]
fn several_dead_tokens_with_reauth_name_the_next_attempt() {
    let named = "3 of 5 are not alive: quotes expired at @90, quotes expired at @90 and quotes \
                 expired at @90; ";
    let of_three = |one, other| {
        let tokens = [one, other, one].map(|(next, left)| dead_with(reauth(Some(next), left)));
        of(&tokens, 2).0.replacen(named, "", 1)
    };
    assert_eq!(
        of_three((minutes(5), 2), (minutes(3), 0)),
        "the next re-authentication attempt is at @103 (in 3 min)."
    );
    assert_eq!(
        of_three((minutes(50), 0), (minutes(40), 0)),
        "re-authentication is stopped until @140 (in 40 min)."
    );
}

#[test]
fn less_urgent_concerns_are_counted() {
    let paused = token("history", Concern::Paused, State::Paused);
    let relogging = dead_with(reauth(Some(minutes(3)), 2));
    assert_eq!(
        of(&[expired("legacy"), relogging, paused], 2).0,
        "1 of 5 needs you: legacy expired at @90; put a new token into /t/legacy. Also: 1 being \
         re-authenticated, 1 paused."
    );
}

#[test]
fn a_paused_token_is_named_with_the_expiry_that_nobody_prevents() {
    let paused = TokenFacts {
        expiry: Some(minutes(29)),
        ..token("history", Concern::Paused, State::Paused)
    };
    let expected =
        "4 of 5 tokens are alive; history is paused and expires at @129 (in 29 min).".to_owned();
    assert_eq!(of(std::slice::from_ref(&paused), 4), (expected, Level::Warn));
    let two = [paused.clone(), token("other", Concern::Paused, State::Paused)];
    assert_eq!(
        of(&two, 3).0,
        "3 of 5 tokens are alive; 2 are paused; the first to expire is history, at @129 (in 29 min)."
    );
    assert_eq!(
        text(&summarize_token(&paused)),
        "history is paused and expires at @129 (in 29 min); `tokenkeep resume history` continues its \
         checks."
    );
}

fn unchecked(name: &str) -> TokenFacts {
    token(name, Concern::Unchecked, State::Unverified)
}

fn failing(name: &str) -> TokenFacts {
    token(name, Concern::Failing, State::Unverified)
}

fn lapsed(name: &str) -> TokenFacts {
    let expiry = Some(minutes(-10));
    TokenFacts { expiry, ..token(name, Concern::Lapsed, State::Unverified) }
}

#[test]
fn an_unverified_token_is_not_called_alive() {
    assert_eq!(
        of(&[unchecked("a"), unchecked("b")], 3),
        ("2 of 5 are unverified: no response yet.".to_owned(), Level::Warn)
    );
    assert_eq!(
        text(&summarize_token(&unchecked("a"))),
        "a has had no response yet; the next check is in 12 min."
    );
    let expected = "1 of 5 is unverified: a has had no successful check since before its expiry at \
                    @90.";
    assert_eq!(of(&[lapsed("a")], 4), (expected.to_owned(), Level::Error));
}

#[test]
fn checks_that_have_only_failed_are_not_called_no_response() {
    assert_eq!(
        of(&[failing("a"), unchecked("b")], 3),
        ("2 of 5 are unverified: no check has succeeded yet.".to_owned(), Level::Error)
    );
    let expected = "1 of 5 is unverified: a has had no successful check yet.";
    assert_eq!(of(&[failing("a")], 4), (expected.to_owned(), Level::Error));
    let one = summarize_token(&failing("a"));
    let expected = "a has had no successful check yet; the next check is in 12 min.";
    assert_eq!((text(&one), one.level), (expected.to_owned(), Level::Error));
}

#[test]
fn lapsed_tokens_are_not_hidden_by_new_ones() {
    let mut tokens: Vec<_> = ["a", "b", "c", "d"].map(lapsed).to_vec();
    tokens.extend([failing("e"), unchecked("f"), unchecked("g")]);
    let since = "has had no successful check since before its expiry at @90";
    assert_eq!(
        of(&tokens, 3),
        (
            format!(
                "4 of 10 are unverified: a {since}, b {since}, c {since} and 1 more. Also: 3 not \
                 verified yet."
            ),
            Level::Error
        )
    );
    tokens.insert(0, expired("legacy"));
    let (sentence, _) = of(&tokens, 3);
    let end = " Also: 4 unverified past the expiry, 3 not verified yet.";
    assert!(sentence.ends_with(end), "{sentence}");
}

#[test]
fn level_comes_from_the_counts_also_if_the_named_tokens_have_recovered() {
    let mut facts = Facts { first: ["a", "b", "c"].map(alive).to_vec(), ..Facts::default() };
    for (concern, expected) in [
        (Concern::NeedsOperator, "7 of 14 are in need of a new value."),
        (Concern::Dead, "7 of 14 are being re-authenticated."),
        (Concern::RunsOut, "7 of 14 are not renewed."),
    ] {
        facts.counts = [0; Concern::COUNT];
        facts.counts[concern as usize] = 7;
        let level = if concern == Concern::RunsOut { Level::Warn } else { Level::Error };
        assert_eq!(of_facts(facts.clone(), 4), (expected.to_owned(), level));
    }
}

#[test]
fn next_attempt_is_not_concluded_from_some_of_the_dead_tokens() {
    let dead = vec![dead_with(reauth(Some(minutes(40)), 0)); 4];
    let (sentence, _) = of(&dead, 1);
    assert!(sentence.ends_with(" and 1 more."), "{sentence}");
}

#[test]
fn a_token_that_nothing_renews_is_reported_while_it_is_alive() {
    let unrenewed = TokenFacts {
        expiry: Some(minutes(29)),
        ..token("archive", Concern::RunsOut, State::Alive)
    };
    assert_eq!(
        of(std::slice::from_ref(&unrenewed), 4),
        (
            "1 of 5 is running out: archive expires at @129 (in 29 min), and no permitted request \
             renews it; put a new token into /t/archive."
                .to_owned(),
            Level::Warn
        )
    );
    assert_eq!(
        of(&[unrenewed.clone(), unrenewed.clone()], 3).0,
        "2 of 5 are running out: no permitted request renews them; the first to expire is archive, \
         at @129 (in 29 min)."
    );
    let with_reauth = TokenFacts { reauth: Some(reauth(Some(minutes(20)), 5)), ..unrenewed };
    assert_eq!(
        text(&summarize_token(&with_reauth)),
        "archive is alive until @129 (in 29 min), and no permitted request renews it; the next \
         re-authentication attempt is at @120 (in 20 min), 5 of 5 attempts left."
    );
}

#[test]
fn failing_checks_are_reported_with_the_first_expiry() {
    let retrying = TokenFacts {
        expiry: Some(minutes(12)),
        ..token("quotes", Concern::Retrying, State::Retrying)
    };
    assert_eq!(
        of(std::slice::from_ref(&retrying), 4),
        (
            "All 5 tokens are alive, but the last check of quotes failed; it expires at @112 (in 12 \
             min)."
                .to_owned(),
            Level::Warn
        )
    );
    assert_eq!(
        of(&[retrying.clone(), retrying.clone()], 3).0,
        "All 5 tokens are alive, but the last checks of 2 failed; the first to expire is quotes, at \
         @112 (in 12 min)."
    );
    assert_eq!(
        text(&summarize_token(&retrying)),
        "quotes is alive until @112 (in 12 min), but the last check failed; the next check is in 12 \
         min."
    );
}

#[test]
fn an_outage_comes_first_with_its_reason() {
    let outage = OutageFacts {
        server: "sarus".to_owned(),
        since_ms: Some(95 * MINUTE),
        reason: Some("connection refused".to_owned()),
        tokens: 3,
    };
    let facts = |outages| Facts { first: vec![alive("quotes")], outages, ..Facts::default() };
    assert_eq!(
        of_facts(facts(vec![outage.clone()]), 4),
        (
            "Server sarus has been unavailable since @95: connection refused. 3 tokens wait for it. \
             All 5 tokens are alive; the next check is in 18 min."
                .to_owned(),
            Level::Error
        )
    );
    let hidden = OutageFacts { since_ms: None, reason: None, tokens: 1, ..outage.clone() };
    assert!(of_facts(facts(vec![hidden, outage]), 4).0.starts_with(
        "Server sarus is unavailable. 1 token waits for it. 1 more server is unavailable. All 5"
    ));
}

#[test]
fn parts_are_plain_json() {
    let summary = summarize_token(&expired("legacy"));
    let json = serde_json::to_value(&summary).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "level": "error",
            "parts": [{"token": "legacy"}, " expired at ", {"at_ms": 90 * MINUTE},
                "; put a new token into /t/legacy."]
        })
    );
    assert_eq!(serde_json::from_value::<Summary>(json).expect("a summary"), summary);
}

#[test]
fn assumed_life_is_said_to_be_assumed() {
    let basis = LifeBasis::Assumed;
    let alive = TokenFacts { basis, ..alive("items") };
    let said = |token: TokenFacts| text(&summarize_token(&token));
    assert_eq!(
        said(alive.clone()),
        "items is alive, assumed until @129 (in 29 min); the next check is in 12 min."
    );
    let paused = TokenFacts { concern: Concern::Paused, state: State::Paused, ..alive.clone() };
    assert!(said(paused).starts_with("items is paused, and its life is assumed until @129"));
    let retrying = TokenFacts { concern: Concern::Retrying, state: State::Retrying, ..alive };
    let (sentence, _) = of(std::slice::from_ref(&retrying), 1);
    assert!(sentence.ends_with("; its life is assumed until @129 (in 29 min)."), "{sentence}");
    let (sentence, _) = of(&[retrying.clone(), retrying.clone()], 1);
    assert!(sentence.contains("is items, assumed at @129 (in 29 min)."), "{sentence}");
    let hidden = TokenFacts { name: None, ..retrying };
    let (sentence, _) = of(&[hidden.clone(), hidden], 1);
    assert!(sentence.contains("; the first is assumed to expire at @129"), "{sentence}");
    let lapsed = TokenFacts {
        basis,
        expiry: Some(minutes(-5)),
        ..token("items", Concern::Lapsed, State::Unverified)
    };
    assert!(said(lapsed).contains("since before its assumed expiry at @95"));
}

#[test]
fn endless_life_has_no_expiry() {
    let alive = TokenFacts { basis: LifeBasis::Endless, ..alive("root") };
    assert_eq!(
        text(&summarize_token(&alive)),
        "root is alive and does not expire; the next check is in 12 min."
    );
    let paused = TokenFacts { concern: Concern::Paused, state: State::Paused, ..alive.clone() };
    assert!(text(&summarize_token(&paused)).starts_with("root is paused and does not expire; "));
    let retrying = TokenFacts { concern: Concern::Retrying, state: State::Retrying, ..alive };
    let (sentence, _) = of(std::slice::from_ref(&retrying), 1);
    assert!(sentence.ends_with(", but the last check of root failed; it does not expire."));
    let (sentence, _) = of(&[retrying.clone(), retrying], 1);
    assert!(sentence.ends_with(", but the last checks of 2 failed."), "{sentence}");
}
