//! What people ask the daemon for: answered within its loop, which alone knows and decides.

use std::future::pending;
use std::path::Path;

use tokio::sync::mpsc;

use super::Daemon;
use super::deeds::{self, Done};
use super::picture::Picture;
use super::scrape::Scrape;
use super::search::Search;
use super::survey::{Look, Surveys};
use crate::clock;
use crate::control::{self, Bound, Caller, Command, Health, Interface, Problem, ProblemKind};
use crate::control::{Reloaded, Reply};
use crate::events::{Fields, Name, Severity};
use crate::lifecycle::Request;
use crate::secret::{TokenValue, ValueRef};
use crate::settings::{DEFAULT_SOCKET, Reader};
use crate::time::{Moment, whole_millis};

/// The group that may look, where it is there: the one that the package makes.
pub(crate) const GROUP: &str = "tokenkeep";

/// The daemon's end of the control interface.
#[derive(Debug)]
pub(super) struct Desk {
    /// `None` without an interface.
    commands: Option<mpsc::Receiver<Command>>,
    /// They end with the daemon.
    interfaces: Vec<Interface>,
    pub(super) surveys: Surveys,
    /// Those who wait for the end of the reload under way, and of the one after it.
    pub(super) reloads: [Vec<Reply<Reloaded>>; 2],
    since: Moment,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            commands: None,
            interfaces: Vec::new(),
            surveys: Surveys::default(),
            reloads: [Vec::new(), Vec::new()],
            since: clock::now(),
        }
    }

    /// The next thing that somebody asks for; `None` when a look at the tokens is to go on.
    pub(super) async fn next(&mut self) -> Option<Command> {
        let Self { commands, surveys, .. } = self;
        tokio::select! {
            biased;
            command = asked(commands) => Some(command),
            () = surveys.turn() => None,
        }
    }
}

async fn asked(commands: &mut Option<mpsc::Receiver<Command>>) -> Command {
    let command = match commands {
        Some(commands) => commands.recv().await,
        None => None,
    };
    match command {
        Some(command) => command,
        None => pending().await,
    }
}

impl Daemon {
    /// Opens the control interface: on the socket that systemd has handed over, or on one of its
    /// own, and on the address that is configured. Not being able to is a warning: tokens are
    /// kept alive all the same.
    pub fn open_control(&mut self, inherited: Option<Bound>) {
        let (sender, commands) = control::channel();
        self.control.commands = Some(commands);
        self.open_socket(inherited, sender.clone());
        let Some(listen) = self.settings.control.listen else { return };
        match control::serve_public(listen, &self.settings.control, sender) {
            Ok(interface) => self.control.interfaces.push(interface),
            Err(error) => self.warn_of_control(
                "page, metrics and health are not served",
                &listen.to_string(),
                &error.to_string(),
            ),
        }
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

    /// Does what somebody asks for, and goes on with the looks under way: neither holds up the
    /// other.
    pub(super) fn attend(&mut self, command: Option<Command>) {
        if let Some(command) = command {
            self.command(command);
        }
        self.survey();
    }

    /// Somebody asks for something. Whoever has gone meanwhile is not answered.
    fn command(&mut self, command: Command) {
        match command {
            Command::Health(reply) => drop(reply.send(Ok(self.health()))),
            Command::List(listing, reply) => {
                if let Some(search) = Search::begin(&listing, reply) {
                    self.control.surveys.add(Look::Search(search));
                }
            }
            Command::Alive(reply) => drop(reply.send(Ok(()))),
            Command::Metrics { names, reply } => {
                self.control.surveys.add(Look::Scrape(Scrape::begin(names, reply)));
            }
            Command::Look { names, reply } => {
                self.control.surveys.add(Look::Picture(Picture::begin(names, reply)));
            }
            Command::Token(name, reply) => {
                let story = self.roster.id_of(&name).and_then(|id| self.story(id));
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
                    self.control.reloads[usize::from(self.reloading)].push(reply);
                    self.reload();
                } else {
                    let problem = forbidden();
                    self.log_action((None, "reload"), caller, Some(&problem));
                    drop(reply.send(Err(problem)));
                }
            }
        }
    }

    fn act(&mut self, name: &str, request: Request, caller: Caller) -> Result<(), Problem> {
        if !caller.may_act() {
            return Err(forbidden());
        }
        let id = self.roster.id_of(name).ok_or_else(|| Problem::no_token(name))?;
        let asked = self.keeper.request(id, request, clock::now(), &mut self.outputs);
        asked.map_err(|refusal| Problem::new(ProblemKind::Conflict, refusal.to_string()))
    }

    /// A value is handed to root, the daemon's user and the token's readers; who is one of these
    /// last is looked up beside the loop.
    fn value(&mut self, name: String, caller: Caller, reply: Reply<TokenValue>) {
        if self.roster.id_of(&name).is_none() {
            // Who may not act is not told which names there are by this path.
            return drop(reply.send(Err(Problem::no_token(&name))));
        }
        if caller.may_act() {
            return self.hand_out(&name, caller, true, reply);
        }
        let readers = self.readers(&name);
        self.queries.spawn(async move {
            let may = deeds::blocking(move || caller.is_among(&readers)).await;
            Done::Introduced { name, caller, may, reply }
        });
    }

    pub(super) fn hand_out(
        &mut self,
        name: &str,
        caller: Caller,
        may: bool,
        reply: Reply<TokenValue>,
    ) {
        let id = self.roster.id_of(name);
        let slot = id.and_then(|id| Some(self.keeper.token(id)?.active_slot()));
        let kept = id.and_then(|id| self.roster.token(id));
        let value =
            kept.zip(slot).and_then(|(kept, slot)| kept.value(slot).map(ValueRef::to_value));
        let result = match value {
            _ if !may => Err(forbidden()),
            _ if kept.is_none() => Err(Problem::no_token(name)),
            Some(value) => Ok(value),
            None => Err(Problem::new(ProblemKind::Conflict, "the token has no value")),
        };
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

    fn readers(&self, name: &str) -> Vec<Reader> {
        let kept = self.roster.id_of(name).and_then(|id| self.roster.token(id));
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

    /// A reload has ended: whoever waits for it hears so, and the next one's turn comes.
    pub(super) fn tell_of_reload(&mut self, outcome: &Reloaded) {
        for reply in self.control.reloads[0].drain(..) {
            drop(reply.send(Ok(outcome.clone())));
        }
        self.control.reloads.swap(0, 1);
    }

    fn health(&self) -> Health {
        Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: whole_millis(clock::now().since(self.control.since)),
            counts: self.counts(),
            servers: self.server_views(),
        }
    }
}

fn forbidden() -> Problem {
    let message = "only root and the daemon's own user may do that; those whom a token's \
                   `readers` name may fetch its value";
    Problem::new(ProblemKind::Forbidden, message)
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
