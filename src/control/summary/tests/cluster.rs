//! Sentences in a cluster of replicas.

use super::*;

/// A token that keeper-b checks.
fn elsewhere(name: &str) -> TokenFacts {
    let elsewhere =
        ElsewhereFacts { replica: Some("keeper-b".to_owned()), take_over_ms: Some(10_000) };
    let token = token(name, Concern::Elsewhere, State::Elsewhere);
    TokenFacts { elsewhere: Some(elsewhere), ..token }
}

/// The sentence about these tokens, this number of alive ones, and 666 of other replicas.
fn in_cluster(tokens: &[TokenFacts], alive: usize) -> (String, Level) {
    let mut facts = Facts { first: tokens.to_vec(), ..Facts::default() };
    facts.counts[Concern::Elsewhere as usize] = 666;
    of_facts(facts, alive)
}

#[test]
fn in_a_cluster_the_sentence_is_about_the_tokens_that_are_checked_here() {
    for (tokens, alive, expected) in [
        (&[][..], 334, "All 334 tokens checked here are alive; the next check is in 18 min."),
        (&[][..], 1, "The token checked here is alive; the next check is in 18 min."),
        (&[][..], 0, "Other replicas check all 666 tokens."),
        (
            &[expired("legacy")][..],
            333,
            "1 of 334 checked here needs you: legacy expired at @90; put a new token into /t/legacy.",
        ),
    ] {
        assert_eq!(in_cluster(tokens, alive).0, expected);
    }
    assert_eq!(in_cluster(&[], 334).1, Level::Ok);
    assert_eq!(in_cluster(&[], 0).1, Level::Ok);
}

#[test]
fn a_token_of_another_replica_names_it_and_the_time_of_the_take_over() {
    let expected =
        "quotes is checked by keeper-b; this replica takes over within 10 s if keeper-b fails.";
    assert_eq!(of(&[elsewhere("quotes")], 0), (expected.to_owned(), Level::Ok));
    let facts = ElsewhereFacts { replica: None, take_over_ms: Some(10_000) };
    let hidden = TokenFacts { name: None, elsewhere: Some(facts), ..elsewhere("quotes") };
    assert_eq!(
        text(&summarize_token(&hidden)),
        "The token is checked by another replica; this replica takes over within 10 s if that one \
         fails."
    );
    let facts = ElsewhereFacts { take_over_ms: None, ..elsewhere("quotes").elsewhere.unwrap() };
    let cut_off = TokenFacts { elsewhere: Some(facts), ..elsewhere("quotes") };
    assert_eq!(text(&summarize_token(&cut_off)), "quotes is checked by keeper-b.");
}

#[test]
fn an_unusable_etcd_is_an_error_that_names_what_waits() {
    let no_etcd = |held| {
        let reason = Some("connection refused".to_owned());
        let facts = NoEtcdFacts { since_ms: Some(90 * MINUTE), reason, held };
        of_facts(Facts { no_etcd: Some(facts), ..Facts::default() }, 5)
    };
    let alive = "All 5 tokens are alive; the next check is in 18 min.";
    for (held, waits) in [
        (0, "logins would wait for it"),
        (1, "the login of 1 token waits for it"),
        (1_000, "the logins of 1,000 tokens wait for it"),
    ] {
        let expected = format!(
            "etcd cannot be used since @90: connection refused. Checks continue; {waits}. {alive}"
        );
        assert_eq!(no_etcd(held), (expected, Level::Error));
    }
}

#[test]
fn etcd_that_has_not_responded_since_the_start_is_not_called_unusable() {
    let reason = Some("etcd has not responded yet".to_owned());
    let facts = NoEtcdFacts { since_ms: None, reason, held: 0 };
    let (text, _) = of_facts(Facts { no_etcd: Some(facts), ..Facts::default() }, 5);
    let expected = "etcd has not responded yet. Checks continue; logins would wait for it. ";
    assert!(text.starts_with(expected), "{text}");
}
