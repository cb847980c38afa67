use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::api::Client;
use crate::lifecycle::{Action, CheckResult, Notice, Slot};
use crate::outcome::Outcome;
use crate::secret::{TokenValue, ValueRef};
use crate::settings::{EnvFile, Notify, NotifyTarget, Source, Token, load};
use crate::store::StoredValue;
use crate::time::Moment;
use crate::token_source::{ExportedFile, PersistError};

/// Tokens without a daemon: all of one server, each in a file of its name.
struct World {
    folder: tempfile::TempDir,
    tokens: Tokens,
}

fn value(text: &str) -> TokenValue {
    TokenValue::parse(text).unwrap()
}

const fn exported(had_other_value: bool) -> ExportedFile {
    ExportedFile { gid: None, had_other_value }
}

impl World {
    fn new() -> Self {
        let tokens = Tokens::new(NonZeroU32::MIN, Duration::from_secs(60), 1);
        Self { folder: tempfile::tempdir().unwrap(), tokens }
    }

    /// The settings of a token whose file holds `NAME-1`.
    fn settings(&mut self, name: &str, server: &str) -> Token {
        let dir = self.folder.path();
        let text = format!(
            "[server.{server}]\nurl = \"http://127.0.0.1:1\"\n\
             [token.{name}]\nserver = \"{server}\"\nfile = \"{}/{name}.token\"\n",
            dir.display()
        );
        fs::write(dir.join("tokenkeep.toml"), text).unwrap();
        let settings = load(&dir.join("tokenkeep.toml"), std::iter::empty()).unwrap().settings;
        let server = settings.servers[0].clone();
        let client = Ok(Client::new(&server).unwrap());
        self.tokens.put_server(server, client);
        settings.tokens[0].clone()
    }

    fn config(&mut self, name: &str, server: &str) -> (Arc<TokenConfig>, TokenSpec) {
        let token = self.settings(name, server);
        let origin = TokenOrigin::Own(token.source);
        let config = self.tokens.config_for(&token.keep_alive, origin, false, &mut Vec::new());
        let (config, spec) = config.unwrap();
        (Arc::new(config), spec)
    }

    /// Adds a token. Returns the ticket of its first check, which is pending.
    fn add(&mut self, name: &str) -> Ticket {
        fs::write(self.folder.path().join(format!("{name}.token")), format!("{name}-1")).unwrap();
        let (config, spec) = self.config(name, "sarus");
        let id = self.tokens.add(name, &config, spec, 0);
        self.tokens.read_source_now(id);
        self.pending(id).last().copied().expect("a first check")
    }

    fn pending(&self, id: TokenId) -> Vec<Ticket> {
        let pending = self.tokens.scheduler.outputs.iter().filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(*ticket).filter(|ticket| ticket.token == id),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        pending.collect()
    }

    /// Removes the token `first` whose action is running, and adds `second` with its number.
    /// Returns the ticket of the action, and for which token it was started.
    fn with_stale_ticket() -> (Self, Ticket, ValueOwner) {
        let mut world = Self::new();
        let ticket = world.add("first");
        let owner = world.owner(ticket.token);
        world.tokens.scheduler.outputs.clear();
        world.tokens.remove(ticket.token);
        assert_eq!(world.add("second").token, ticket.token, "the number is reused");
        (world, ticket, owner)
    }

    /// Puts `text` in place of the current value of the token `quotes`, as if the file could not be
    /// written. Returns whether `token_replaced` waits.
    fn replace_current(&mut self, id: TokenId, text: &str, by: ReplacedBy) -> bool {
        let slot = self.tokens.scheduler.spare_slot(id).other();
        self.tokens.registry.put(id, slot, value(text).by_ref());
        self.tokens.waits_for_files(id, &Notice::Replaced(by))
    }

    fn set_env_file(&mut self, id: TokenId) {
        let (config, spec) = self.config("quotes", "sarus");
        let path = self.folder.path().join("quotes.env");
        let env_file = Some(EnvFile { path, variable: "QUOTES".to_owned(), group: None });
        let config = Arc::new(TokenConfig { env_file, ..Arc::into_inner(config).unwrap() });
        assert!(self.tokens.replace(id, &config, &spec));
    }

    fn owner(&self, id: TokenId) -> ValueOwner {
        ValueOwner::of(self.tokens.registry.token(id).unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.token"))
    }

    fn write_file(&self, text: &str) {
        fs::write(self.file("quotes"), text).unwrap();
    }

    /// A reload gives the token `quotes` another source.
    fn set_source(&mut self, id: TokenId, source: Source) {
        let (config, spec) = self.config("quotes", "sarus");
        let origin = TokenOrigin::Own(source);
        let config = Arc::new(TokenConfig { origin, ..Arc::into_inner(config).unwrap() });
        assert!(self.tokens.replace(id, &config, &spec));
    }

    /// A token `quotes` that a renewal has given the value `quotes-2`. Returns the ticket of the
    /// write, which is running.
    fn with_running_write() -> (Self, Ticket) {
        let mut world = Self::new();
        let check = world.add("quotes");
        world.tokens.scheduler.outputs.clear();
        let mut answer = alive();
        let slot = world.tokens.scheduler.spare_slot(check.token).other();
        let (from, to) = (Some(value("quotes-1")), value("quotes-2"));
        let replaced = ReplacedValue { owner: world.owner(check.token), slot, from, to };
        world.tokens.take_replaced_value(check, Some(replaced), &mut answer);
        world.tokens.on_checked(check, answer);
        let write = world.pending(check.token);
        world.tokens.scheduler.outputs.clear();
        (world, write[0])
    }

    /// Whether the current value of `quotes` will be written, by the scheduler or by a retry, to
    /// `file`, or by its name.
    fn will_write(&mut self, id: TokenId, file: Option<&Path>) -> bool {
        // Longer than the pause after a cancelled action, shorter than any life.
        let soon = clock::now() + Duration::from_secs(10);
        self.tokens.scheduler.wake(soon);
        let entry = self.tokens.registry.token(id).unwrap();
        let is_current = entry.file().as_deref() == file
            && entry.in_source() != Some(value("quotes-2").by_ref());
        let is_write = |output: &SchedulerOutput| {
            matches!(output, SchedulerOutput::Action(_, Action::Persist { .. }))
        };
        let by_scheduler = self.tokens.scheduler.outputs.iter().any(is_write);
        let retries = self.tokens.take_file_writes(soon);
        let by_retry = retries.iter().any(|retry| Some(&*retry.path) == file);
        is_current && (by_scheduler || by_retry)
    }

    /// A token `quotes`, whose new value `quotes-2` is not in its file, and `token_replaced` waits.
    fn with_waiting_notice() -> (Self, TokenId) {
        let mut world = Self::new();
        world.tokens.log.subscriptions_mut().configure(&[Notify {
            name: "app".to_owned(),
            events: Some(vec![EventName::TokenReplaced]),
            tokens: None,
            target: NotifyTarget::Command(vec!["/bin/true".to_owned()]),
            timeout: Duration::from_secs(1),
        }]);
        let id = world.add("quotes").token;
        assert!(world.replace_current(id, "quotes-2", ReplacedBy::Reauth));
        assert_eq!(world.replacements(), [""; 0]);
        (world, id)
    }

    /// `by` of each `token_replaced` that was logged since the last call.
    fn replacements(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.tokens.log.subscriptions_mut().take("app"));
        events.map(|event| event.text("by").unwrap().to_owned()).collect()
    }

    fn value_in(&self, id: TokenId, slot: Slot) -> Option<TokenValue> {
        self.tokens.registry.token(id)?.value(slot).map(ValueRef::to_value)
    }

    /// Whether the token has `second-1` only, and its source was not touched.
    fn is_untouched(&self, id: TokenId) -> bool {
        let spare = self.tokens.scheduler.spare_slot(id);
        let own = value("second-1");
        let entry = self.tokens.registry.token(id).unwrap();
        entry.value(spare.other()) == Some(own.by_ref())
            && entry.value(spare).is_none()
            && entry.in_source() == Some(own.by_ref())
            && entry.epoch() == 0
    }
}

fn alive() -> CheckResult {
    let now = clock::now();
    let outcome = Outcome::Alive { remaining: Duration::from_secs(600) };
    CheckResult { sent: now, received: now, outcome, replaced: false, cannot_renew: false }
}

#[tokio::test]
async fn write_to_a_source_that_a_reload_has_replaced_is_repeated_for_the_new_one() {
    let outcomes: [fn() -> Result<WriteOutcome, PersistError>; 4] = [
        || Ok(WriteOutcome::Written(value("quotes-2"))),
        || Ok(WriteOutcome::SourceChanged(value("quotes-3"))),
        || Ok(WriteOutcome::NotInFile(value("quotes-2"), PersistError::NoStateDir)),
        || Ok(WriteOutcome::InStateDir(PersistError::NoStateDir)),
    ];
    for outcome in outcomes {
        for has_file in [true, false] {
            let (mut world, write) = World::with_running_write();
            let (old, new) = (world.file("quotes"), world.file("moved"));
            let file = has_file.then_some(&*new);
            let source = file.map_or_else(
                || Source::Env("QUOTES".to_owned()),
                |file| Source::File(file.to_owned()),
            );
            world.set_source(write.token, source);
            assert!(world.tokens.on_stored(write, Some(&old), outcome()).is_none());
            assert!(world.will_write(write.token, file), "{:?}", outcome());
        }
    }
}

#[tokio::test]
async fn write_by_name_of_a_token_that_a_reload_gives_a_file_is_followed_by_one_to_the_file() {
    let (mut world, write) = World::with_running_write();
    let written = Ok(WriteOutcome::Written(value("quotes-2")));
    assert!(world.tokens.on_stored(write, None, written).is_none());
    let file = world.file("quotes");
    assert!(world.will_write(write.token, Some(&file)));
}

#[tokio::test]
async fn retried_write_to_a_file_that_a_reload_has_replaced_is_repeated_for_the_new_one() {
    let (mut world, id) = World::with_waiting_notice();
    world.tokens.resume_file_retry(id);
    let write = world.tokens.take_file_writes(clock::now()).pop().unwrap();
    let new = world.file("moved");
    world.set_source(id, Source::File(new.clone()));
    let written = Ok(WriteOutcome::Written(value("quotes-2")));
    world.tokens.on_file_written(id, "quotes", &write.path, written);
    assert!(world.will_write(id, Some(&new)));
}

#[tokio::test]
async fn stale_write_does_not_change_the_next_token_with_the_number() {
    let foreign = || value("first-2");
    for outcome in [WriteOutcome::Written(foreign()), WriteOutcome::SourceChanged(foreign())] {
        let (mut world, ticket, _) = World::with_stale_ticket();
        assert!(world.tokens.on_stored(ticket, None, Ok(outcome)).is_none());
        assert!(world.is_untouched(ticket.token));
    }
}

#[tokio::test]
async fn stale_reauth_output_does_not_change_the_next_token_with_the_number() {
    let found = || crate::token_source::Found { value: value("first-2"), warnings: Vec::new() };
    for output in [ReauthOutput::NewValue(found().value), ReauthOutput::InSource(Ok(found()))] {
        let (mut world, ticket, owner) = World::with_stale_ticket();
        world.tokens.on_reauthenticated(ticket, owner, Duration::ZERO, output);
        assert!(world.is_untouched(ticket.token));
    }
}

#[tokio::test]
async fn value_that_a_renewal_names_after_its_token_was_removed_is_kept_for_the_name() {
    for is_added in [false, true] {
        let (mut world, ticket, owner) = World::with_stale_ticket();
        if is_added {
            world.add("first");
        }
        let (slot, from) = (Slot::A, Some(value("first-1")));
        let replaced = ReplacedValue { owner, slot, from, to: value("first-2") };
        world.tokens.take_replaced_value(ticket, Some(replaced), &mut alive());
        assert!(world.is_untouched(ticket.token));
        if !is_added {
            world.add("first");
        }
        let id = world.tokens.registry.id_of("first").unwrap();
        let values = [Slot::A, Slot::B].map(|slot| world.value_in(id, slot));
        assert!(values.contains(&Some(value("first-2"))), "added: {is_added}, {values:?}");
    }
}

#[tokio::test]
async fn value_of_a_late_renewal_does_not_replace_that_of_a_changed_source() {
    let (mut world, ticket, owner) = World::with_stale_ticket();
    let id = world.add("first").token;
    fs::write(world.file("first"), "first-3").unwrap();
    world.tokens.read_source_now(id);
    let (slot, from) = (Slot::A, Some(value("first-1")));
    let replaced = ReplacedValue { owner, slot, from, to: value("first-2") };
    world.tokens.take_replaced_value(ticket, Some(replaced), &mut alive());
    let values = [Slot::A, Slot::B].map(|slot| world.value_in(id, slot));
    assert!(!values.contains(&Some(value("first-2"))), "{values:?}");
}

#[tokio::test]
async fn notices_of_a_removed_token_are_dropped_when_its_number_is_reused() {
    let mut world = World::new();
    let id = world.add("first").token;
    let notice = SchedulerOutput::TokenNotice(id, crate::lifecycle::Notice::Unverified);
    world.tokens.scheduler.outputs = vec![notice];
    world.tokens.remove(id);
    let (config, spec) = world.config("second", "sarus");
    assert_eq!(world.tokens.add("second", &config, spec, 0), id);
    assert_eq!(world.tokens.scheduler.outputs, []);
}

#[tokio::test]
async fn action_that_has_not_started_is_cancelled_when_its_token_is_replaced() {
    let mut world = World::new();
    let before = world.add("quotes");
    let old = world.tokens.servers.id_of("sarus").unwrap();
    let (config, spec) = world.config("quotes", "other");
    let new = spec.server;
    assert!(world.tokens.replace(before.token, &config, &spec));
    assert_eq!(world.tokens.scheduler.in_flight(old), 0);
    let pending = world.pending(before.token);
    assert!(!pending.contains(&before), "{pending:?}");
    assert_eq!(usize::try_from(world.tokens.scheduler.in_flight(new)), Ok(pending.len()));
}

#[tokio::test]
async fn replacing_a_token_by_the_same_configuration_changes_nothing() {
    let mut world = World::new();
    let ticket = world.add("quotes");
    let (config, spec) = world.config("quotes", "sarus");
    assert!(!world.tokens.replace(ticket.token, &config, &spec));
    assert_eq!(world.pending(ticket.token), [ticket]);
}

#[tokio::test]
async fn token_that_is_added_gets_the_value_that_was_kept_for_its_name() {
    let mut world = World::new();
    let stored = StoredValue { value: value("quotes-2"), replaces: Some(value("quotes-1")) };
    world.tokens.recorder.stash_value("quotes", stored);
    let id = world.add("quotes").token;
    let spare = world.tokens.scheduler.spare_slot(id);
    assert_eq!(world.value_in(id, spare.other()), Some(value("quotes-2")));
}

#[tokio::test]
async fn read_that_began_before_a_write_is_repeated() {
    let mut world = World::new();
    let id = world.add("first").token;
    let request = world.tokens.read_request(id).unwrap();
    world.tokens.registry.outdate_reads(id);
    fs::write(world.folder.path().join("first.token"), "first-2").unwrap();
    world.tokens.on_source_read(request.read());
    let again = world.tokens.reads.pop().expect("another read").pop().unwrap();
    world.tokens.on_source_read(again.read());
    let spare = world.tokens.scheduler.spare_slot(id);
    assert_eq!(world.value_in(id, spare), Some(value("first-2")));
}

#[tokio::test]
async fn value_that_a_response_names_is_taken_only_for_the_value_that_was_checked() {
    let mut world = World::new();
    let ticket = world.add("first");
    let slot = world.tokens.scheduler.spare_slot(ticket.token).other();
    let mut replaced = |from, to| {
        let owner = world.owner(ticket.token);
        let replaced = ReplacedValue { owner, slot, from: Some(value(from)), to: value(to) };
        world.tokens.replace_value(ticket, replaced)
    };
    assert!(!replaced("another", "new-1"));
    assert!(replaced("first-1", "new-2"));
    assert_eq!(world.value_in(ticket.token, slot), Some(value("new-2")));
}

#[tokio::test]
async fn token_replaced_is_logged_when_a_watched_file_gets_the_new_value_from_elsewhere() {
    let (mut world, id) = World::with_waiting_notice();
    world.tokens.read_source_now(id);
    assert_eq!(world.replacements(), [""; 0], "the file has the old value");
    world.write_file("quotes-2");
    world.tokens.read_source_now(id);
    assert_eq!(world.replacements(), ["reauth"]);
    world.tokens.read_source_now(id);
    assert_eq!(world.replacements(), [""; 0], "once");
}

#[tokio::test]
async fn token_replaced_is_logged_when_a_late_write_has_put_the_new_value_into_the_file() {
    let (mut world, id) = World::with_waiting_notice();
    world.tokens.resume_file_retry(id);
    let written = || Ok(WriteOutcome::SourceChanged(value("quotes-2")));
    let file = world.file("quotes");
    world.tokens.on_file_written(id, "quotes", &file, written());
    assert_eq!(world.replacements(), ["reauth"]);
}

#[tokio::test]
async fn token_replaced_is_logged_when_a_reload_takes_the_file_away() {
    let (mut world, id) = World::with_waiting_notice();
    world.set_source(id, Source::Env("QUOTES".to_owned()));
    assert_eq!(world.replacements(), ["reauth"]);
}

#[tokio::test]
async fn value_of_an_earlier_run_is_logged_when_its_file_gets_it_from_elsewhere() {
    let (mut world, _) = World::with_waiting_notice();
    world.tokens.remove(world.tokens.registry.id_of("quotes").unwrap());
    let stored = StoredValue { value: value("quotes-2"), replaces: Some(value("quotes-1")) };
    world.tokens.recorder.stash_value("quotes", stored);
    let id = world.add("quotes").token;
    assert_eq!(world.replacements(), [""; 0]);
    world.write_file("quotes-2");
    world.tokens.read_source_now(id);
    assert_eq!(world.replacements(), ["reauth"]);
}

#[tokio::test]
async fn value_that_is_replaced_again_before_it_is_in_the_file_is_one_token_replaced() {
    let (mut world, id) = World::with_waiting_notice();
    assert!(world.replace_current(id, "quotes-3", ReplacedBy::Renewal));
    assert_eq!(world.replacements(), [""; 0], "the file has the old value");
    world.write_file("quotes-3");
    world.tokens.read_source_now(id);
    assert_eq!(world.replacements(), ["renewal"]);
}

#[tokio::test]
async fn first_write_over_another_value_in_the_env_file_is_a_token_replaced() {
    for had_other_value in [true, false] {
        let (mut world, id) = World::with_waiting_notice();
        world.tokens.replaced.clear();
        world.write_file("quotes-2");
        world.tokens.read_source_now(id);
        world.set_env_file(id);
        for n in 1..=2 {
            let write = world.tokens.take_env_file_writes(clock::now()).pop().unwrap();
            world.tokens.on_env_file_written(write, Ok(exported(had_other_value)));
            assert!(world.tokens.take_env_file_writes(clock::now()).is_empty());
            let is_logged = n == 1 && had_other_value;
            assert_eq!(world.replacements(), if is_logged { vec!["source"] } else { vec![] });
            // Another process has changed the file.
            world.tokens.env_files.note_change(id, true);
        }
    }
}

#[tokio::test]
async fn token_replaced_waits_for_a_write_of_the_env_file_that_is_running_or_has_failed() {
    let (mut world, id) = World::with_waiting_notice();
    world.set_env_file(id);
    world.write_file("quotes-2");
    world.tokens.read_source_now(id);
    let now = clock::now();
    let begin = |world: &mut World, now| world.tokens.take_env_file_writes(now).pop().unwrap();
    let write = begin(&mut world, now);
    world.tokens.on_env_file_written(write, Ok(exported(false)));
    assert!(world.tokens.take_env_file_writes(now).is_empty());
    assert_eq!(world.replacements(), ["reauth"]);

    // The value changes, and changes back while the write of the other one is running.
    world.write_file("quotes-3");
    assert!(world.replace_current(id, "quotes-3", ReplacedBy::Source));
    world.tokens.env_files.note_change(id, false);
    let write = begin(&mut world, now);
    world.write_file("quotes-2");
    assert!(world.replace_current(id, "quotes-2", ReplacedBy::Source));
    world.tokens.read_source_now(id);
    let error = PersistError::timed_out("/quotes.env", "writing");
    world.tokens.on_env_file_written(write, Err(error));
    assert_eq!(world.replacements(), [""; 0], "the write may still be made");
    let write = begin(&mut world, Moment::NEVER);
    assert_eq!(write.value, value("quotes-2"));
    world.tokens.on_env_file_written(write, Ok(exported(false)));
    assert!(world.tokens.take_env_file_writes(now).is_empty());
    assert_eq!(world.replacements(), ["source"]);
}
