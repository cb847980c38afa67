//! What the server says, as the client understands it.

use std::time::{Duration, SystemTime};

use headers::{Date, Header};
use jiff::SignedDuration;
use secrecy::SecretString;
use tokenkeep::api::LoginErrorKind;
use tokenkeep::clock::wall_clock;
use tokenkeep::outcome::{Connection, Outcome};
use tokenkeep::simulator::{Behaviour, Endpoint, ErrorStyle, RenewsBy, Simulator};

use super::{AMPLE, VALUE, client, misconfigured, unavailable, value};
use crate::doubles::{Plan, PlanFaults as _, RawServer, RetryAfter, Script, Trouble};

const LIFE: Duration = Duration::from_secs(3600);

/// A server that knows the token, and the outcome of a query there.
async fn queried(behaviour: Behaviour, trouble: Option<Trouble>) -> Outcome {
    let simulator = Simulator::start(behaviour).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    if let Some(trouble) = trouble {
        simulator.plan_fault(Plan::once(trouble));
    }
    client(&simulator.url()).query(&value(), AMPLE, Connection::Pooled).await
}

async fn queried_with(trouble: Trouble) -> Outcome {
    queried(Behaviour::default(), Some(trouble)).await
}

fn body(text: &str) -> Trouble {
    Trouble::Body { status: 200, body: text.as_bytes().to_vec() }
}

#[tokio::test]
async fn a_living_token_is_alive_with_its_remaining_life() {
    let outcome = queried(Behaviour::default(), None).await;
    assert_eq!(outcome, Outcome::Alive { remaining: LIFE });
}

#[tokio::test]
async fn a_base_url_with_a_path_is_kept_with_or_without_its_last_slash() {
    let behaviour = Behaviour { path_prefix: "/market/v2".to_owned(), ..Behaviour::default() };
    let simulator = Simulator::start(behaviour).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    for url in [simulator.url(), format!("{}/", simulator.url())] {
        let outcome = client(&url).query(&value(), AMPLE, Connection::Pooled).await;
        assert_eq!(outcome, Outcome::Alive { remaining: LIFE }, "{url}");
    }
}

#[tokio::test]
async fn the_servers_clock_does_not_matter() {
    let wrong = SignedDuration::from_hours(-5000);
    let outcome = queried(Behaviour { clock_offset: wrong, ..Behaviour::default() }, None).await;
    assert_eq!(outcome, Outcome::Alive { remaining: LIFE });
}

#[tokio::test]
async fn an_error_is_the_same_as_an_http_status_and_in_a_200() {
    for errors in [ErrorStyle::AsHttpStatus, ErrorStyle::InBodyOnly] {
        let simulator =
            Simulator::start(Behaviour { errors, ..Behaviour::default() }).await.expect("a port");
        let client = client(&simulator.url());
        let unknown = client.query(&value(), AMPLE, Connection::Pooled).await;
        assert!(matches!(unknown, Outcome::Rejected(_)), "{errors:?}: {unknown:?}");
        simulator.add_token(VALUE, LIFE);
        simulator.expire(VALUE);
        let expired = client.query(&value(), AMPLE, Connection::Pooled).await;
        assert!(matches!(expired, Outcome::Expired(_)), "{errors:?}: {expired:?}");
    }
}

#[tokio::test]
async fn maintenance_is_unavailable() {
    let behaviour = Behaviour { maintenance: true, ..Behaviour::default() };
    let fault = unavailable(queried(behaviour, None).await);
    assert_eq!(fault.status, Some(500));
    assert_eq!(fault.detail.as_deref(), Some("The service is under maintenance"));
}

#[tokio::test]
async fn a_wrong_address_is_misconfigured_with_its_remedy() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    let outcome = client(&format!("{}/elsewhere", simulator.url()))
        .query(&value(), AMPLE, Connection::Pooled)
        .await;
    let fault = misconfigured(outcome);
    assert_eq!(fault.status, Some(404));
    assert!(fault.error.contains("check `url` of [server.sarus]"), "{}", fault.error);
}

#[tokio::test]
async fn a_401_or_410_as_a_proxys_page_is_no_conclusion_about_the_token() {
    for status in [401, 410] {
        let fault = unavailable(queried_with(Trouble::Html { status }).await);
        assert_eq!(fault.status, Some(status));
    }
}

#[tokio::test]
async fn a_body_that_is_not_the_apis_is_unavailable() {
    let bodies = ["", "{\"Result\":{\"Remai", "<html>", "[1]", "{\"Result\":{\"Remaining\":-5}}"];
    for text in bodies {
        unavailable(queried_with(body(text)).await);
    }
}

#[tokio::test]
async fn a_body_written_differently_is_understood() {
    let bodies = [
        "\u{feff}{\"Result\":{\"Remaining\":60000}}",
        "{\"result\":{\"remaining\":60000.0},\"errors\":[],\"More\":1}",
        "{\"Result\":{\"Remaining\":\"60000\"},\"Errors\":null}",
    ];
    for text in bodies {
        let outcome = queried_with(body(text)).await;
        assert_eq!(outcome, Outcome::Alive { remaining: Duration::from_secs(60) }, "{text}");
    }
}

#[tokio::test]
async fn a_429_or_503_with_retry_after_throttles_for_that_time_in_both_forms() {
    let forms = [RetryAfter::Seconds(30), RetryAfter::Date(Duration::from_secs(30))];
    for status in [429, 503] {
        for retry_after in forms {
            let trouble = Trouble::Quiet { status, retry_after };
            let Outcome::Throttled { retry_after: asked, .. } = queried_with(trouble).await else {
                panic!("{status} {retry_after:?} does not throttle");
            };
            // The date form has whole seconds, and so has the answer's own `Date`.
            assert!((28..=30).contains(&asked.as_secs()), "{status} {retry_after:?}: {asked:?}");
        }
    }
}

#[tokio::test]
async fn a_date_in_an_answer_without_its_own_counts_from_the_wall_clock() {
    let until = Date::from(SystemTime::from(wall_clock()) + Duration::from_secs(30));
    let mut dates = Vec::new();
    until.encode(&mut dates);
    let until = dates[0].to_str().expect("a date");
    let answer =
        format!("HTTP/1.1 429 Slow down\r\nRetry-After: {until}\r\nContent-Length: 0\r\n\r\n");
    let raw = RawServer::start(Script::Say(answer.into_bytes())).await.expect("a port");
    let Outcome::Throttled { retry_after, .. } =
        client(&raw.url()).query(&value(), AMPLE, Connection::Pooled).await
    else {
        panic!("not throttled");
    };
    assert!((20..=30).contains(&retry_after.as_secs()), "{retry_after:?}");
}

#[tokio::test]
async fn a_503_without_retry_after_is_unavailable() {
    let trouble = Trouble::Quiet { status: 503, retry_after: RetryAfter::Unsaid };
    assert_eq!(unavailable(queried_with(trouble).await).status, Some(503));
}

#[tokio::test]
async fn renewing_extends_the_life_where_only_renewing_does() {
    let behaviour = Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() };
    let simulator = Simulator::start(behaviour).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    let renewed = client(&simulator.url()).renew(&value(), AMPLE, Connection::Pooled).await;
    assert_eq!(renewed.outcome, Outcome::Alive { remaining: LIFE });
    assert_eq!(renewed.new_value, None);
}

#[tokio::test]
async fn a_renewal_may_bring_a_new_value_that_lives() {
    let behaviour = Behaviour { rotates: true, ..Behaviour::default() };
    let simulator = Simulator::start(behaviour).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    let client = client(&simulator.url());
    let new =
        client.renew(&value(), AMPLE, Connection::Pooled).await.new_value.expect("a new value");
    assert_eq!(
        client.query(&new, AMPLE, Connection::Pooled).await,
        Outcome::Alive { remaining: LIFE }
    );
    assert!(matches!(
        client.query(&value(), AMPLE, Connection::Pooled).await,
        Outcome::Rejected(_)
    ));
}

#[tokio::test]
async fn the_right_key_gets_a_token_that_lives() {
    let key = SecretString::from("k/e+y");
    let behaviour = Behaviour { api_key: Some(key.clone()), ..Behaviour::default() };
    let simulator = Simulator::start(behaviour).await.expect("a port");
    let client = client(&simulator.url());
    let token = client.login(&key, 60, AMPLE).await.expect("a token");
    assert_eq!(
        client.query(&token, AMPLE, Connection::Pooled).await,
        Outcome::Alive { remaining: LIFE }
    );
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    let fault = client(&simulator.url()).login(&"no".into(), 60, AMPLE).await.expect_err("refused");
    assert_eq!(fault.kind, LoginErrorKind::Refused);
}

#[tokio::test]
async fn a_revoked_token_is_rejected_from_then_on() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    simulator.add_token(VALUE, LIFE);
    let client = client(&simulator.url());
    client.revoke(&value(), AMPLE).await.expect("revoked");
    assert!(matches!(
        client.query(&value(), AMPLE, Connection::Pooled).await,
        Outcome::Rejected(_)
    ));
}

#[tokio::test]
async fn each_call_goes_to_its_own_endpoint_with_the_value_as_it_is() {
    let simulator = Simulator::start(Behaviour::default()).await.expect("a port");
    let client = client(&simulator.url());
    client.query(&value(), AMPLE, Connection::Pooled).await;
    client.renew(&value(), AMPLE, Connection::Pooled).await;
    client.revoke(&value(), AMPLE).await.expect_err("an unknown token");
    client.login(&VALUE.into(), 60, AMPLE).await.expect_err("an unknown key");
    let asked: Vec<_> = simulator.requests().iter().map(|request| request.endpoint).collect();
    let all = [Endpoint::Query, Endpoint::Renew, Endpoint::Revoke, Endpoint::Login];
    assert_eq!(asked, all.map(Some));
    assert!(simulator.requests().iter().all(|request| request.value == Some(value())));
}
