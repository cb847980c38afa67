//! The profile `zabbix`: sessions that end after 90 s without a request, which the API does not report.

use crate::scenario::{TOKEN, assert_secret, count, story, survives};
use crate::servers::{Server as _, USER, Zabbix};
use crate::support::{Stage, seconds};

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn session_outlives_its_auto_logout_a_restart_and_a_kill() {
    let mut server = Zabbix::start().await;
    let (user, password) = USER;
    let stage = Stage::new(&format!(
        r#"
[server.zabbix]
url = "{}"
profile = "zabbix"

[reauth.operator]
login = true
with = {{ user = "{user}", password = {{ file = "$DIR/password" }} }}

[token.app]
server = "zabbix"
file = "$DIR/app.token"
reauth = "operator"
"#,
        server.url(),
    ));
    stage.write("password", password);
    let value = server.log_in().await;
    stage.write("app.token", &value);

    let lines = survives(&mut server, &stage, seconds(110)).await;
    assert_eq!(count(&lines, "reauth_started"), 0, "{}", story(&lines));
    let mut checked = lines.iter().filter(|line| line.is("token_checked", TOKEN)).peekable();
    assert!(checked.peek().is_some(), "no check\n{}", story(&lines));
    for line in checked {
        assert_eq!(line.0["assumed"], true, "{}", line.0);
        assert!(!line.has("renewed"), "nothing can be proven: {}", line.0);
    }
    assert_secret(&lines, [value.as_str()]);
    println!("profiles: zabbix: 110 s, {} checks", count(&lines, "token_checked"));
}
