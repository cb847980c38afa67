//! What people ask the daemon for: answered within its loop, which alone knows and decides.

pub(crate) mod queue;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::control::{self, Bound, Caller, Command, Handed, Health, Problem};
use crate::control::{ProblemKind, Reply};
use crate::daemon::Daemon;
use crate::daemon::queries::Query;
use crate::daemon::queries::dashboard::DashboardQuery;
use crate::daemon::queries::list::ListQuery;
use crate::daemon::queries::metrics::MetricsQuery;
use crate::daemon::tasks::Completion;
use crate::daemon::tasks::blocking::{USERS, blocking_among};
use crate::events::{Fields, Name, Severity};
use crate::lifecycle::{Request, Standing};
use crate::secret::ValueRef;
use crate::settings::{DEFAULT_SOCKET, Reader};
use crate::time::{Moment, whole_millis};

/// The group that may look, where it is there: the one that the package makes.
pub(crate) const GROUP: &str = "tokenkeep";

/// Time between two attempts to listen on `control.listen`: the address may be absent at boot, or
/// the port taken.
const LISTEN_RETRY: Duration = Duration::from_secs(3);

impl Daemon {
    /// Opens the control interface: on the socket that systemd has handed over, or on one of its
    /// own, and on the address that is configured. Not being able to is a warning: tokens are
    /// kept alive all the same. The address is tried again until it works.
    pub fn open_control(&mut self, inherited: Option<Bound>) {
        let (sender, commands) = control::channel();
        self.control.commands = Some(commands);
        self.open_socket(inherited, sender.clone());
        if let Err((listen, error)) = self.listen(sender.clone()) {
            let message = format!(
                "page, metrics and health are not served; trying again every {} s",
                LISTEN_RETRY.as_secs()
            );
            self.warn_of_control(&message, &listen.to_string(), &error.to_string());
            self.control.listen_retry = Some((clock::now() + LISTEN_RETRY, sender));
        }
    }

    /// Serves page, metrics and health on the configured address, if there is one.
    fn listen(&mut self, sender: mpsc::Sender<Command>) -> Result<(), (SocketAddr, io::Error)> {
        // A reload does not change it: `control.listen` needs a restart.
        let control = self.control.settings.get_or_insert_with(|| self.settings.control.clone());
        let Some(listen) = control.listen else { return Ok(()) };
        let interface = control::serve_public(listen, control, sender);
        self.control.interfaces.push(interface.map_err(|error| (listen, error))?);
        Ok(())
    }

    /// Tries the address again that could not be listened on, if that is due.
    pub(crate) fn retry_listen(&mut self, now: Moment) {
        let Some((due, _)) = &self.control.listen_retry else { return };
        if *due > now {
            return;
        }
        let Some((_, sender)) = self.control.listen_retry.take() else { return };
        if self.listen(sender.clone()).is_err() {
            self.control.listen_retry = Some((now + LISTEN_RETRY, sender));
            return;
        }
        let listen = self.control.settings.as_ref().and_then(|control| control.listen);
        let listen = listen.map(|listen| listen.to_string());
        let fields = Fields { path: listen.as_deref(), ..Fields::default() };
        let message = "page, metrics and health are served now";
        self.say(Name::ConfigWarning, Severity::Info, message, fields);
    }

    fn open_socket(&mut self, inherited: Option<Bound>, sender: mpsc::Sender<Command>) {
        let path = self.settings.control.socket.clone();
        let place = path.display().to_string();
        let bound =
            inherited.map_or_else(|| control::bind(&path, GROUP), |bound| Ok((bound, None)));
        let opened = bound.map_err(|fault| fault.to_string()).and_then(|(bound, remark)| {
            let interface = control::serve(bound, sender).map_err(|error| error.to_string())?;
            Ok((interface, remark))
        });
        match opened {
            Ok((interface, remark)) => {
                self.control.interfaces.push(interface);
                // Whoever puts it elsewhere has chosen the folder, and who may enter that.
                if let Some(remark) = remark.filter(|_| path == Path::new(DEFAULT_SOCKET)) {
                    let message = "the control socket is not for the group that it is meant for";
                    self.warn_of_control(message, &place, &remark);
                }
            }
            Err(error) => self.warn_of_control(
                "there is no control socket; `tokenkeep status` and the like cannot work",
                &place,
                &error,
            ),
        }
    }

    fn warn_of_control(&mut self, message: &str, place: &str, error: &str) {
        let fields = Fields { error: Some(error), path: Some(place), ..Fields::default() };
        self.say(Name::ConfigWarning, Severity::Warn, message, fields);
    }

    /// Somebody asks for something. Whoever has gone meanwhile is not answered.
    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::Act { request: Request::Reauth, reply, .. } if self.stopping => {
                drop(reply.send(Err(stopping())));
            }
            Command::Reload { reply, .. } if self.stopping => drop(reply.send(Err(stopping()))),
            Command::Health(reply) => drop(reply.send(Ok(self.health()))),
            Command::List(listing, reply) => {
                if let Some(search) = ListQuery::begin(&listing, reply) {
                    self.control.surveys.add(Query::ListQuery(search));
                }
            }
            Command::Alive(reply) => drop(reply.send(Ok(()))),
            Command::Metrics { names, reply } => {
                self.control.surveys.add(Query::MetricsQuery(MetricsQuery::begin(names, reply)));
            }
            Command::Look { names, reply } => {
                self.control
                    .surveys
                    .add(Query::DashboardQuery(DashboardQuery::begin(names, reply)));
            }
            Command::Token(name, reply) => {
                let story = self.tokens.registry.id_of(&name).and_then(|id| self.story(id));
                drop(reply.send(story.ok_or_else(|| Problem::no_token(&name))));
            }
            Command::Act { name, request, caller, reply } => {
                let done = self.act(&name, request, caller);
                let action = (Some(&*name), word(request));
                self.log_action(action, caller, done.as_ref().err());
                self.perform();
                drop(reply.send(done));
            }
            Command::Value { name, caller, reply } => self.value(name, caller, reply),
            Command::Reload { caller, reply } => {
                if caller.may_act() {
                    self.log_action((None, "reload"), caller, None);
                    let number = self.reload();
                    drop(reply.send(Ok(number)));
                } else {
                    let problem = forbidden();
                    self.log_action((None, "reload"), caller, Some(&problem));
                    drop(reply.send(Err(problem)));
                }
            }
            // Whoever may not ask for one must not take up a place for the length of it either.
            Command::Outcome { caller, reply, .. } if !caller.may_act() => {
                drop(reply.send(Err(forbidden())));
            }
            Command::Outcome { number, reply, .. } => self.reloads.wait(number, reply),
        }
    }

    fn act(&mut self, name: &str, request: Request, caller: Caller) -> Result<(), Problem> {
        if !caller.may_act() {
            return Err(forbidden());
        }
        let id = self.tokens.registry.id_of(name).ok_or_else(|| Problem::no_token(name))?;
        let asked =
            self.tokens.scheduler.request(id, request, clock::now(), &mut self.tokens.actions);
        asked.map_err(|refusal| Problem::new(ProblemKind::Conflict, refusal.to_string()))
    }

    /// A value is handed to root, the daemon's user and the token's readers; who is one of these
    /// last is looked up beside the loop.
    fn value(&mut self, name: String, caller: Caller, reply: Reply<Handed>) {
        if self.tokens.registry.id_of(&name).is_none() {
            // Who may not act is not told which names there are by this path.
            return drop(reply.send(Err(Problem::no_token(&name))));
        }
        if caller.may_act() {
            return self.hand_out(&name, caller, true, reply);
        }
        let readers = self.readers(&name);
        self.queries.spawn(async move {
            let may = move || caller.is_among(&readers);
            let may = blocking_among(&USERS, may).await;
            Completion::Introduced { name, caller, may, reply }
        });
    }

    pub(crate) fn hand_out(&mut self, name: &str, caller: Caller, may: bool, reply: Reply<Handed>) {
        let result = if may { self.value_of(name) } else { Err(forbidden()) };
        match &result {
            Ok(_) => {
                let fields =
                    Fields { token: Some(name), uid: Some(caller.uid), ..Fields::default() };
                self.say(Name::ValueRead, Severity::Info, "the value was handed out", fields);
            }
            Err(problem) => self.log_action((Some(name), "value"), caller, Some(problem)),
        }
        drop(reply.send(result));
    }

    /// The value in use, unless it is known to be dead: whoever asks for it would only be refused
    /// by the server.
    fn value_of(&self, name: &str) -> Result<Handed, Problem> {
        let known = self.tokens.registry.id_of(name).and_then(|id| {
            let (token, kept) = (self.tokens.scheduler.token(id)?, self.tokens.registry.token(id)?);
            Some((token, kept.value(token.active_slot()).map(ValueRef::to_value)))
        });
        let (token, value) = known.ok_or_else(|| Problem::no_token(name))?;
        let lack = match (token.standing(), value) {
            (Standing::Expired, _) => "the token has expired",
            (Standing::Rejected, _) => "the server has rejected the token, or it was revoked",
            (_, None) => "the token has no value",
            (_, Some(value)) => {
                let verified = token.bound().is_some_and(|bound| bound > clock::now());
                return Ok(Handed { value, verified });
            }
        };
        let is_coming = token.is_reauthenticating() || token.has_candidate();
        let next = if is_coming { "; a new value is on its way" } else { "" };
        Err(Problem::new(ProblemKind::Conflict, format!("{lack}{next}")))
    }

    fn readers(&self, name: &str) -> Vec<Reader> {
        let kept = self.tokens.registry.id_of(name).and_then(|id| self.tokens.registry.token(id));
        let Some(kept) = kept else { return Vec::new() };
        let upkeep = if let Some(stock) = kept.stock() {
            self.stocks.by_id.get(&stock).map(|stock| &stock.settings.upkeep)
        } else {
            let tokens = &self.settings.tokens;
            let found = tokens.binary_search_by(|token| token.name.as_str().cmp(name));
            found.ok().map(|index| &tokens[index].upkeep)
        };
        upkeep.map(|upkeep| upkeep.readers.clone()).unwrap_or_default()
    }

    fn log_action(
        &mut self,
        (token, action): (Option<&str>, &str),
        caller: Caller,
        problem: Option<&Problem>,
    ) {
        let uid = Some(caller.uid);
        let fields = Fields { token, action: Some(action), uid, ..Fields::default() };
        match problem {
            None => {
                let message = format!("user {} asks for: {action}", caller.uid);
                self.say(Name::ActionRequested, Severity::Info, &message, fields);
            }
            Some(problem) => {
                let fields = Fields { error: Some(&problem.message), ..fields };
                let message = format!("user {} was refused: {action}", caller.uid);
                self.say(Name::ActionRefused, Severity::Warn, &message, fields);
            }
        }
    }

    fn health(&self) -> Health {
        Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: whole_millis(clock::now().since(self.control.since)),
            counts: self.counts(),
            servers: self.server_views(),
            config_rejected: self.config_rejected.clone(),
        }
    }
}

fn forbidden() -> Problem {
    let message = "only root and the daemon's own user may do that; those whom a token's \
                   `readers` name may fetch its value";
    Problem::new(ProblemKind::Forbidden, message)
}

fn stopping() -> Problem {
    Problem::new(ProblemKind::Conflict, "tokenkeep is stopping")
}

const fn word(request: Request) -> &'static str {
    match request {
        Request::Check => "check",
        Request::Reauth => "reauth",
        Request::Pause => "pause",
        Request::Resume => "resume",
        Request::Revoke => "revoke",
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::daemon::control::queue::tests::attended;

    #[tokio::test]
    async fn whoever_may_not_act_does_not_wait_for_a_reload_either() {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, _sender) = attended(folder.path());
        let number = daemon.reloads.ask().0;
        let mut wait = |caller| {
            let (reply, mut answer) = oneshot::channel();
            daemon.command(Command::Outcome { number, caller, reply });
            answer.try_recv().ok().map(|answer| answer.map_err(|problem| problem.kind))
        };
        let foreign = Caller { uid: u32::MAX - 1, gid: 0 };
        assert_eq!(wait(foreign), Some(Err(ProblemKind::Forbidden)));
        assert_eq!(wait(Caller { uid: 0, gid: 0 }), None, "it has not ended");
    }
}
