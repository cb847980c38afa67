use super::*;

const LIFE: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(4);

fn world(behaviour: Behaviour) -> World {
    let mut world = World::new(behaviour);
    world.add("t", LIFE, Duration::ZERO);
    world
}

fn call(
    world: &mut World,
    endpoint: Endpoint,
    parameters: &[(&str, &str)],
    now: Duration,
) -> Result<Value, Complaint> {
    let parameters = parameters.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let server_time = Timestamp::UNIX_EPOCH;
    let endpoint = Some(endpoint);
    world.answer(&Call { endpoint, is_get: true, parameters: &parameters, server_time }, now)
}

fn reported(world: &mut World, endpoint: Endpoint, now: Duration) -> Duration {
    let result = call(world, endpoint, &[("SessionToken", "t")], now).expect("alive");
    Duration::from_millis(result["Remaining"].as_u64().expect("whole milliseconds"))
}

fn status(answer: Result<Value, Complaint>) -> u16 {
    answer.expect_err("an error").status
}

#[test]
fn a_query_renews_the_token_if_queries_renew() {
    let mut world = world(Behaviour::default());
    assert_eq!(reported(&mut world, Endpoint::Query, LATER), LIFE);
    assert_eq!(world.remaining("t", LATER), Some(LIFE));
}

#[test]
fn a_query_does_not_renew_if_only_renew_session_token_does() {
    let mut world = world(Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() });
    assert_eq!(reported(&mut world, Endpoint::Query, LATER), LIFE.saturating_sub(LATER));
    assert_eq!(reported(&mut world, Endpoint::Renew, LATER), LIFE);
}

#[test]
fn no_request_renews_if_neither_does() {
    let mut world = world(Behaviour { renews_by: RenewsBy::Neither, ..Behaviour::default() });
    for endpoint in [Endpoint::Query, Endpoint::Renew] {
        assert_eq!(reported(&mut world, endpoint, LATER), LIFE.saturating_sub(LATER));
    }
}

#[test]
fn a_renewing_request_can_report_the_previous_life() {
    let mut world = world(Behaviour { reports: Reports::Before, ..Behaviour::default() });
    assert_eq!(reported(&mut world, Endpoint::Query, LATER), LIFE.saturating_sub(LATER));
    assert_eq!(world.remaining("t", LATER), Some(LIFE));
}

#[test]
fn lives_can_be_rounded_down_to_whole_seconds() {
    let behaviour =
        Behaviour { whole_seconds: true, renews_by: RenewsBy::Neither, ..Behaviour::default() };
    let now = Duration::from_millis(1_300);
    assert_eq!(reported(&mut world(behaviour), Endpoint::Query, now), Duration::from_secs(8));
}

#[test]
fn a_token_expires_at_the_end_of_its_life() {
    let mut world = world(Behaviour::default());
    assert_eq!(status(call(&mut world, Endpoint::Query, &[("SessionToken", "t")], LIFE)), 410);
}

#[test]
fn unknown_and_revoked_tokens_are_invalid() {
    let mut world = world(Behaviour::default());
    assert_eq!(status(call(&mut world, Endpoint::Query, &[("SessionToken", "x")], LATER)), 401);
    call(&mut world, Endpoint::Revoke, &[("SessionToken", "t")], LATER).expect("revoked");
    assert_eq!(status(call(&mut world, Endpoint::Query, &[("SessionToken", "t")], LATER)), 401);
}

#[test]
fn a_request_without_its_parameter_is_rejected() {
    let mut world = world(Behaviour::default());
    for endpoint in [Endpoint::Query, Endpoint::Renew, Endpoint::Login, Endpoint::Revoke] {
        assert_eq!(status(call(&mut world, endpoint, &[], LATER)), 400, "{endpoint:?}");
    }
}

#[test]
fn a_rotation_replaces_the_value() {
    let mut world = world(Behaviour { rotates: true, ..Behaviour::default() });
    let result = call(&mut world, Endpoint::Renew, &[("SessionToken", "t")], LATER).expect("ok");
    let new = result["SessionToken"].as_str().expect("a value");
    assert_eq!(world.remaining(new, LATER), Some(LIFE));
    assert_eq!(world.remaining("t", LATER), None);
}

#[test]
fn a_valid_key_gets_a_token_with_the_requested_minutes() {
    let mut world = world(Behaviour { api_key: Some("key".into()), ..Behaviour::default() });
    let asked = [("APIKey", "key"), ("Minutes", "2")];
    let result = call(&mut world, Endpoint::Login, &asked, LATER).expect("a token");
    assert_eq!(result["Remaining"], 120_000);
    assert_eq!(status(call(&mut world, Endpoint::Login, &[("APIKey", "no")], LATER)), 401);
}

#[test]
fn minutes_beyond_a_day_are_rejected() {
    let mut world = world(Behaviour { api_key: Some("key".into()), ..Behaviour::default() });
    for minutes in ["0", "1441", "soon"] {
        let asked = [("APIKey", "key"), ("Minutes", minutes)];
        assert_eq!(status(call(&mut world, Endpoint::Login, &asked, LATER)), 400, "{minutes}");
    }
}

#[test]
fn every_request_fails_during_maintenance() {
    let mut world = world(Behaviour { maintenance: true, ..Behaviour::default() });
    assert_eq!(status(call(&mut world, Endpoint::Query, &[("SessionToken", "t")], LATER)), 500);
}
