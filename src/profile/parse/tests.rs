//! What a profile may say, and how its errors name the key and the remedy.

use super::*;
use crate::profile::ProfileErrorKind::{self, BadValue, UnknownKey, WrongType};
use crate::profile::{DeathMeaning, DeferralMeaning};

/// A valid query, and room for more keys.
const QUERY: &str = "[query]\nrequest = 'GET s/{token}'\nlife = 'ttl'\nunit = 's'\n";

fn profile(text: &str) -> Result<Profile, Vec<ProfileError>> {
    parse("p", &toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn valid(text: &str) -> Profile {
    profile(text).unwrap_or_else(|errors| panic!("{errors:#?}: {text}"))
}

/// Checks a table of: text; key, kind and words of the only error.
#[track_caller]
fn assert_rejected(table: &[(String, &str, ProfileErrorKind, &[&str])]) {
    for (text, key, kind, words) in table {
        let errors = profile(text).expect_err(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
        let shown = errors[0].to_string();
        assert_eq!((errors[0].key.as_str(), errors[0].kind), (*key, *kind), "{text}: {shown}");
        for word in *words {
            assert!(shown.contains(word), "{text:?} should say {word:?}: {shown}");
        }
    }
}

/// A valid profile whose query has these keys too.
fn query(keys: &str) -> String {
    format!("{QUERY}{keys}\n")
}

/// A valid profile with these keys too.
fn with(keys: &str) -> String {
    format!("{keys}\n{QUERY}")
}

/// A profile that queries by this request.
fn request(request: &str) -> String {
    QUERY.replace("GET s/{token}", request)
}

#[test]
fn call_has_the_keys_of_the_profile_unless_it_has_its_own() {
    let profile = valid(
        "headers = { A = '{token}' }\njson = { a = 1 }\nlife = 'ttl'\nunit = 's'\n\
         dead = [{ at = 'e', is = 1, means = 'expired' }]\n\
         later = [{ at = 'e', is = 2, means = 'throttled' }]\n\
         [query]\nrequest = 'GET q'\n\
         [renew]\nrequest = 'POST r'\n\
         [revoke]\nrequest = 'POST v'\nheaders = {}\nform = { t = '{token}' }\ndead = []",
    );
    let [query, renew, revoke] = [&profile.query, &profile.renew, &profile.revoke]
        .map(|call| call.as_ref().expect("a call"));
    assert_eq!(query.request.headers.len(), 1);
    assert_eq!(query.request.body, RequestBody::Empty, "a GET has no body");
    assert!(matches!(renew.request.body, RequestBody::Json(_)));
    assert_eq!((renew.life.len(), renew.unit), (1, Unit::Seconds));
    assert_eq!(renew.dead[0].means, DeathMeaning::Expired);
    assert_eq!(renew.later[0].means, DeferralMeaning::Throttled);
    assert!(revoke.request.headers.is_empty() && revoke.dead.is_empty());
    assert!(matches!(revoke.request.body, RequestBody::Form(_)));
}

#[test]
fn renewal_is_sent_once_if_it_sends_the_refresh_token_unless_the_profile_says_otherwise() {
    for (sent, key, once) in [
        ("{token}", "", false),
        ("{refresh}", "", true),
        ("{refresh}", "once = false", false),
        ("{token}", "once = true", true),
    ] {
        let text = format!("[renew]\nrequest = 'GET r/{sent}'\nlife = 'a'\nunit = 's'\n{key}");
        assert_eq!(valid(&text).once, once, "{text}");
    }
}

#[test]
fn slash_at_the_start_of_a_path_makes_no_difference() {
    let path = |text: &str| valid(&request(text)).query.map(|call| call.request.path);
    assert_eq!(path("GET /s/{token}"), path("GET s/{token}"));
}

#[test]
fn profile_needs_a_check_that_tells_the_life() {
    let without_life = "request = 'GET s/{token}'";
    assert_rejected(&[
        (String::new(), "", Missing, &["neither `query` nor `renew`"]),
        ("[login]\nrequest = 'POST s'\nvalue = 'v'".into(), "", Missing, &["neither `query`"]),
        ("[query]".into(), "query", Missing, &["no `request`", "the call that reads the life"]),
        ("[renew]".into(), "renew", Missing, &["no `request`"]),
        (format!("[query]\n{without_life}"), "query", Missing, &["no `life`", "assume = \"20m\""]),
        (format!("[renew]\n{without_life}"), "renew", Missing, &["no `life`", "assume"]),
        (
            format!("assume = '20m'\n[query]\n{without_life}"),
            "query",
            Missing,
            &["no `alive`", "a proxy's success", "add alive"],
        ),
        (format!("[query]\n{without_life}\nendless = 'expires'"), "query", Missing, &["no `life`"]),
        (
            format!("[query]\n{without_life}\nlife = 'ttl'"),
            "query",
            Missing,
            &["no `unit`", "add unit = \"s\""],
        ),
        (with("renewal = 'renew'"), "renewal", Conflict, &["no `renew`"]),
        (with("assume = '20m'"), "assume", Conflict, &["has no effect"]),
        (with("assume = '20'"), "assume", BadValue, &["with its unit"]),
        (with("assume = '10ms'"), "assume", BadValue, &["from 1s to 365d"]),
        (with("assume = 20"), "assume", WrongType, &["text in quotes"]),
    ]);
}

#[test]
fn death_by_a_bare_status_is_rejected_with_the_reason() {
    let why = &["neither `is` nor `has`", "a proxy", "a living token would be given up", "add at"];
    let rule = |rule: &str| query(&format!("dead = [{{ {rule} }}]"));
    assert_rejected(&[
        (rule("status = 401, means = 'expired'"), "query.dead[0]", Missing, why),
        (rule("means = 'expired'"), "query.dead[0]", Missing, why),
        (rule("status = 401, at = 'error', means = 'expired'"), "query.dead[0]", Missing, why),
        (rule("at = 'a', without = 'b', means = 'expired'"), "query.dead[0]", Missing, why),
        (rule("at = 'a', has = '', means = 'expired'"), "query.dead[0].has", BadValue, &["empty"]),
        (rule("status = 401, is = 'x', means = 'expired'"), "query.dead[0]", Missing, &["no `at`"]),
        (
            with(
                "dead = [{ at = 'a', is = 1, means = 'expired' }, { status = 404, means = 'rejected' }]",
            ),
            "dead[1]",
            Missing,
            why,
        ),
    ]);
}

#[test]
fn expiry_by_a_header_alone_is_rejected_because_it_would_be_final() {
    let why = &["from a header or a cookie alone", "means = \"rejected\"", "`without`"];
    let rule = |rule: &str| query(&format!("dead = [{{ {rule} }}]"));
    let header = "status = 401, at = 'header WWW-Authenticate', has = 'Bearer'";
    let expired = |rest: &str| rule(&format!("{header}, {rest} means = 'expired'"));
    assert_rejected(&[
        (expired(""), "query.dead[0].means", BadValue, why),
        (expired("without = 'header X-Api',"), "query.dead[0].means", BadValue, why),
        (
            rule("at = 'cookie session', is = 'deleted', means = 'expired'"),
            "query.dead[0].means",
            BadValue,
            why,
        ),
    ]);
    for accepted in [expired("without = 'id',"), rule(&format!("{header}, means = 'rejected'"))] {
        valid(&accepted);
    }
}

#[test]
fn invalid_rule_is_named_by_its_place_in_the_list() {
    let rule = |rule: &str| query(&format!("dead = [{{ {rule} }}]"));
    let later = |rule: &str| with(&format!("later = [{{ {rule} }}]"));
    assert_rejected(&[
        (rule("at = 'a', is = 1"), "query.dead[0]", Missing, &["no `means`", "\"expired\""]),
        (
            rule("at = 'a', is = 1, means = 'throttled'"),
            "query.dead[0].means",
            BadValue,
            &["\"expired\", \"rejected\""],
        ),
        (
            rule("at = 'a', is = 1, means = 'expird'"),
            "query.dead[0].means",
            BadValue,
            &["did you mean \"expired\"?"],
        ),
        (
            rule("at = 'a', is = 1, has = 'b', means = 'expired'"),
            "query.dead[0]",
            Conflict,
            &["both `is` and `has`"],
        ),
        (
            rule("at = 'a', is = [1], means = 'expired'"),
            "query.dead[0].is",
            WrongType,
            &["is a list", "several rules"],
        ),
        (
            rule("at = 'a b', is = 1, means = 'expired'"),
            "query.dead[0].at",
            BadValue,
            &["no place", "data.ttl"],
        ),
        (
            rule("at = 'a', is = 1, meens = 'expired', means = 'expired'"),
            "query.dead[0].meens",
            UnknownKey,
            &["did you mean `means`?"],
        ),
        (
            rule("at = 'a', is = 1, status = 600, means = 'expired'"),
            "query.dead[0].status",
            BadValue,
            &["100 to 599", "is 600"],
        ),
        (
            rule("at = 'a', is = 1, status = '401', means = 'expired'"),
            "query.dead[0].status",
            BadValue,
            &["without quotes"],
        ),
        (with("dead = { at = 'a' }"), "dead", WrongType, &["a list of rules", "write dead = [{"]),
        (with("dead = ['a']"), "dead[0]", WrongType, &["a table"]),
        (later("status = 403, means = 'unavailable'"), "later[0]", Missing, &["the HTTP status"]),
        (later("at = 'a', is = 1, means = 'expired'"), "later[0].means", BadValue, &["throttled"]),
        (query("alive = { status = 200 }"), "query.alive", Missing, &["a proxy"]),
        (
            query("alive = { at = 'a', is = 1, means = 'expired' }"),
            "query.alive.means",
            UnknownKey,
            &["remove it"],
        ),
        (query("alive = true"), "query.alive", WrongType, &["write alive = {"]),
    ]);
}

#[test]
fn place_that_cannot_be_parsed_is_rejected_with_an_example() {
    for (text, key) in [
        (QUERY.replace("'ttl'", "'a..b'"), "query.life"),
        (QUERY.replace("'ttl'", "['a', 'b c']"), "query.life[1]"),
        (query("endless = ''"), "query.endless"),
        (with("detail = 'header '"), "detail"),
        (
            with(
                "[renew]\nrequest = 'GET r/{token}'\nlife = 'a'\nunit = 's'\nvalue = 'cookie a b'",
            ),
            "renew.value",
        ),
    ] {
        assert_rejected(&[(text, key, BadValue, &["no place", "header NAME"])]);
    }
    let number = QUERY.replace("'ttl'", "5");
    assert_rejected(&[(number, "query.life", WrongType, &["a list of places", "is 5"])]);
}

#[test]
fn path_that_leaves_the_base_is_rejected() {
    for (path, words) in [
        ("../s/{token}", "leaves the server's `url`"),
        ("s/../{token}", "leaves the server's `url`"),
        ("s/%2E%2e/{token}", "leaves the server's `url`"),
        ("./s/{token}", "leaves the server's `url`"),
        ("//evil.example/{token}", "leaves the server's `url`"),
        ("https://evil.example/{token}", "leaves the server's `url`"),
        ("s//{token}", "between two slashes"),
        ("s?t={token}", "query = {"),
        ("s#{token}", "fragment"),
        ("s\\\\{token}", "a character that no path may have"),
        ("s\u{e4}/{token}", "percent-encoded"),
        ("/", "empty path"),
    ] {
        let text = request(&format!("GET {path}"));
        assert_rejected(&[(text, "query.request", BadValue, &[words])]);
    }
}

#[test]
fn request_is_a_method_and_a_path() {
    for (text, words) in [
        ("s/{token}", "a method and a path"),
        ("GET", "a method and a path"),
        ("GET s/{token} HTTP/1.1", "a method and a path"),
        ("get s/{token}", "write GET, in capitals"),
        ("FETCH s/{token}", "one of GET, POST, PUT, PATCH, DELETE"),
        ("HEAD s/{token}", "no usable method"),
        ("CONNECT s/{token}", "no usable method"),
        ("GET s/{token", "a brace is not closed"),
        ("GET s/{Token}", "is no placeholder"),
    ] {
        assert_rejected(&[(request(text), "query.request", BadValue, &[words])]);
    }
    let number = QUERY.replace("'GET s/{token}'", "5");
    assert_rejected(&[(number, "query.request", WrongType, &["text in quotes, but is 5"])]);
}

#[test]
fn request_has_one_body_and_a_get_has_none() {
    let renew = |keys: &str| format!("[renew]\nlife = 'a'\nunit = 's'\n{keys}");
    let form = "form = { a = '{token}' }\njson = { a = 'b' }";
    assert_rejected(&[
        (
            renew(&format!("request = 'POST r'\n{form}")),
            "renew.json",
            Conflict,
            &["together with `form`"],
        ),
        (with(form), "json", Conflict, &["one body"]),
        (
            query("form = { a = 'b' }"),
            "query.form",
            Conflict,
            &["a GET request has none", "`query`"],
        ),
        (query("json = { a = 'b' }"), "query.json", Conflict, &["a GET request has none"]),
        (with("json = 'text'"), "json", WrongType, &["a table"]),
        (with("form = { a = 5 }"), "form.a", WrongType, &["in quotes, also a number"]),
        (with("basic = 'user'"), "basic", WrongType, &["a list of two texts"]),
        (with("basic = ['user']"), "basic", WrongType, &["basic = [] for none"]),
        (
            with("basic = ['a', '{b}']\nheaders = { authorization = 'Bearer {token}' }"),
            "query",
            Conflict,
            &["both `basic` and the header field Authorization"],
        ),
    ]);
}

#[test]
fn header_field_of_the_connection_or_the_body_is_rejected() {
    for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "TE"] {
        let (text, key) =
            (with(&format!("headers = {{ {name} = 'a' }}")), format!("headers.{name}"));
        assert_rejected(&[(text, &key, BadValue, &["may not be set by a profile"])]);
    }
    assert_rejected(&[
        (with("headers = { 'a b' = 'c' }"), "headers.\"a b\"", BadValue, &["no name of a header"]),
        (with("headers = { a = '\u{e4}' }"), "headers.a", BadValue, &["visible ASCII"]),
        (with("headers = { a = \"b\\nc: d\" }"), "headers.a", BadValue, &["visible ASCII"]),
        (with("headers = { a = 'b', A = 'c' }"), "headers.a", Conflict, &["same field"]),
    ]);
}

#[test]
fn placeholder_is_rejected_where_it_has_no_value() {
    let renew = "[renew]\nrequest = 'POST r'\nlife = 'a'\nunit = 's'\n";
    let login = "[login]\nrequest = 'POST s'\nvalue = 'v'\n";
    assert_rejected(&[
        (
            query("headers = { A = '{refresh}' }"),
            "query",
            BadValue,
            &["{refresh}", "sent only to renew"],
        ),
        (
            query("[revoke]\nrequest = 'POST v/{refresh}'"),
            "revoke",
            BadValue,
            &["{refresh}", "sent only to renew"],
        ),
        (query("headers = { A = '{minutes}' }"), "query", BadValue, &["{minutes}"]),
        (
            query(&format!("{login}json = {{ a = ['{{token}}'] }}")),
            "login",
            BadValue,
            &["after the login"],
        ),
        (
            format!("headers = {{ A = '{{token}}' }}\n{}", query(login)),
            "login",
            BadValue,
            &["{token}", "headers = {}"],
        ),
        (query("alive = { at = 'a', is = '{minutes}' }"), "query", BadValue, &["{minutes}"]),
        (renew.into(), "renew", Missing, &["neither {token} nor {refresh}"]),
        (request("GET s/{user}"), "query", Missing, &["neither {token} nor {refresh}"]),
        (request("GET s/{tokn}"), "query", Missing, &["{tokn}: did you mean {token}?"]),
        (query("[revoke]\nrequest = 'POST v'"), "revoke", Missing, &["neither {token}"]),
    ]);
}

#[test]
fn key_without_effect_is_rejected() {
    let revoke = |key: &str| query(&format!("[revoke]\nrequest = 'POST v/{{token}}'\n{key}"));
    assert_rejected(&[
        (query("value = 'a'"), "query.value", Conflict, &["no effect in `query`", "`renew`"]),
        (query("once = true"), "query.once", Conflict, &["no effect"]),
        (revoke("life = 'a'"), "revoke.life", Conflict, &["no effect in `revoke`"]),
        (revoke("value = 'a'"), "revoke.value", Conflict, &["no effect"]),
        (
            query("[login]\nrequest = 'POST s'\nvalue = 'v'\nonce = true"),
            "login.once",
            Conflict,
            &["no effect in `login`"],
        ),
        (
            query("[login]\nrequest = 'POST s'\nvalue = 'v'\nrefresh = 'r'"),
            "login.refresh",
            Conflict,
            &["`renew` does not send {refresh}"],
        ),
        (query("[login]\nrequest = 'POST s'"), "login", Missing, &["no `value`"]),
    ]);
}

#[test]
fn unknown_key_is_rejected_with_its_home() {
    assert_rejected(&[
        (with("unti = 's'"), "unti", UnknownKey, &["did you mean `unit`?"]),
        (with("request = 'GET s'"), "request", UnknownKey, &["it belongs into a call", "`query`"]),
        (query("assume = '5m'"), "query.assume", UnknownKey, &["the whole profile"]),
        (query("xyzzy = 1"), "query.xyzzy", UnknownKey, &["remove it", "request"]),
        (with("unit = 'seconds'"), "unit", BadValue, &["\"s\"", "\"rfc3339\""]),
        (with("renewal = 'query '"), "renewal", BadValue, &["did you mean \"query\"?"]),
        ("query = 'GET s'\nunit = 's'".into(), "query", WrongType, &["a table", "request"]),
    ]);
}

#[test]
fn secret_in_a_profile_is_rejected_and_not_shown() {
    const UUID: &str = "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77";
    let post = |keys: &str| {
        format!("[renew]\nrequest = 'POST r/{{token}}'\nlife = 'a'\nunit = 's'\n{keys}")
    };
    for (text, key) in [
        (request(&format!("GET {UUID}/{{token}}")), "query.request"),
        (query(&format!("query = {{ k = '{UUID}' }}")), "query.query.k"),
        (query(&format!("headers = {{ X-App = '{UUID}' }}")), "query.headers.X-App"),
        (query("headers = { Authorization = 'Bearer hunter2' }"), "query.headers.Authorization"),
        (query("headers = { X-Api-Key = 'hunter2' }"), "query.headers.X-Api-Key"),
        (post(&format!("form = {{ k = '{UUID}' }}")), "renew.form.k"),
        (post("form = { client_secret = 'hunter2' }"), "renew.form.client_secret"),
        (post("json = { login = { password = 'hunter2' } }"), "renew.json.login.password"),
        (post(&format!("json = {{ a = ['{UUID}'] }}")), "renew.json.a[0]"),
        (with("basic = ['user', 'hunter2']"), "basic[1]"),
        (with(&format!("basic = ['{UUID}', '']")), "basic[0]"),
    ] {
        let errors = profile(&text).expect_err(&text);
        assert_eq!((errors.len(), errors[0].key.as_str()), (1, key), "{text}: {errors:#?}");
        let shown = errors[0].to_string();
        assert!(shown.contains("secret") && shown.contains("write a placeholder"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("52cf"), "{shown}");
    }
}

#[test]
fn constant_that_is_no_secret_is_accepted() {
    for keys in [
        "headers = { Authorization = 'Bearer {token}', Accept = 'application/vnd.api+json; v=1' }",
        "headers = { X-CSRF-Token = 'fetch', X-Atlassian-Token = 'no-check' }",
        "query = { grant_type = 'urn:ietf:params:oauth:grant-type:jwt-bearer' }",
        "query = { token_type_hint = 'access_token', scope = 'openid offline_access' }",
        "basic = ['{token}', '']",
    ] {
        valid(&query(keys));
    }
}

#[test]
fn all_errors_of_a_profile_are_reported() {
    let errors =
        profile("unit = 'x'\ndetail = ''\n[query]\nlife = 5\n[renew]\nonce = 1").unwrap_err();
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["detail", "unit", "query", "query.life", "renew", "renew.once"]);
}
