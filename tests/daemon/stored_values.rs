//! New values of tokens whose source cannot be written to: kept in the state directory.

use tokenkeep::simulator::Simulator;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{Daemon, Stage, about, mode, seconds, secret, simulator};

/// Where a token's value comes from, other than a file of its own.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Env,
    Credential,
}

/// A daemon's world in which the source's value is dead, and a hook has another.
struct World {
    server: Simulator,
    stage: Stage,
    kind: Kind,
}

impl World {
    async fn new(kind: Kind) -> Self {
        let server = simulator().await;
        let source = match kind {
            Kind::Env => "env = \"QUOTES\"",
            Kind::Credential => "credential = \"quotes\"",
        };
        let stage = Stage::new(&format!(
            r#"
[server.sarus]
url = "{}"
[reauth.relogin]
command = ["$DIR/hook"]
[token.quotes]
server = "sarus"
{source}
reauth = "relogin"
"#,
            server.url()
        ));
        server.add_token(&secret("new"), seconds(60));
        stage.script("hook", &format!("echo >> $DIR/runs; echo '{}'", secret("new")));
        Self { server, stage, kind }
    }

    /// Starts the daemon with this value in the source.
    fn start(&self, value: &str) -> Daemon {
        match self.kind {
            Kind::Env => self.stage.start_with(&[("QUOTES", value)]),
            Kind::Credential => {
                self.stage.write("credentials/quotes", value);
                let folder = self.stage.path("credentials");
                let folder = folder.to_str().expect("UTF-8");
                self.stage.start_with(&[("CREDENTIALS_DIRECTORY", folder)])
            }
        }
    }
}

#[tokio::test]
async fn new_value_is_stored_for_the_user_alone_and_restored_after_a_restart() {
    for kind in [Kind::Env, Kind::Credential] {
        let world = World::new(kind).await;
        let daemon = world.start(&secret("old"));
        daemon.event("reauth_succeeded", "quotes").await;
        daemon.stop().await;
        assert_eq!(mode(&world.stage.path("state/tokenkeep.db")), 0o600, "{kind:?}");

        let asked = about(&world.server, &secret("old")).len();
        let daemon = world.start(&secret("old"));
        daemon.event("token_checked", "quotes").await;
        let ended = daemon.stop().await;
        assert!(ended.story("quotes").is_empty(), "{kind:?}: {:?}", ended.story("quotes"));
        assert_eq!(about(&world.server, &secret("old")).len(), asked, "{kind:?}");
        assert_eq!(world.stage.lines_in("runs"), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn changed_source_wins_over_the_stored_value() {
    for kind in [Kind::Env, Kind::Credential] {
        let world = World::new(kind).await;
        let daemon = world.start(&secret("old"));
        daemon.event("reauth_succeeded", "quotes").await;
        daemon.stop().await;

        let changed = secret("changed");
        world.server.add_token(&changed, seconds(60));
        let kept = about(&world.server, &secret("new")).len();
        let daemon = world.start(&changed);
        daemon.event("token_checked", "quotes").await;
        daemon.stop().await;
        assert_eq!(about(&world.server, &changed).len(), 1, "{kind:?}");
        assert_eq!(about(&world.server, &secret("new")).len(), kept, "{kind:?}");
    }
}

#[tokio::test]
async fn stored_value_is_used_if_the_source_is_missing() {
    let world = World::new(Kind::Env).await;
    let daemon = world.start(&secret("old"));
    daemon.event("reauth_succeeded", "quotes").await;
    daemon.stop().await;

    let daemon = world.stage.start();
    daemon.event("token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.story("quotes"), ["token_missing"]);
    assert_eq!(world.stage.lines_in("runs"), 1);
}

#[tokio::test]
async fn stored_value_survives_a_kill_before_it_was_verified() {
    let world = World::new(Kind::Env).await;
    world.server.plan_fault(Plan::always(Trouble::Silence).for_token(&secret("new")));
    let daemon = world.start(&secret("old"));
    world
        .server
        .until(|requests| {
            requests.iter().any(|request| {
                request.value.as_ref().is_some_and(|value| value.expose() == secret("new"))
            })
        })
        .await;
    daemon.signal(rustix::process::Signal::KILL);
    daemon.ended().await;

    world.server.clear_faults();
    let daemon = world.start(&secret("old"));
    daemon.event("token_checked", "quotes").await;
    daemon.stop().await;
    assert_eq!(world.stage.lines_in("runs"), 1, "no second login");
}
