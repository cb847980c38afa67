use super::*;
use crate::store::Store;

const KEEP: Duration = Duration::from_secs(60);

fn value(text: &str) -> TokenValue {
    TokenValue::parse(text).unwrap()
}

fn line(text: &str) -> CompanionSource {
    CompanionSource::Line(value(text))
}

fn row(new: Option<&str>, replaces: Option<&str>) -> StoredCompanion {
    StoredCompanion { value: new.map(value), replaces: replaces.map(value) }
}

fn held(companions: &Companions, name: &str) -> HeldCompanion {
    let companion = companions.of(name).expect("it is configured");
    let state = Arc::clone(&companion.state).try_lock_owned().expect("no task uses it");
    HeldCompanion { companion, state }
}

/// The refresh token that counts if the source holds `source`.
fn current(held: &mut HeldCompanion, source: Option<&str>) -> Option<String> {
    held.note_source(source.map(value));
    held.current().expect("its own").map(|value| value.expose().to_owned())
}

fn with(names: &[&str]) -> Companions {
    let mut companions = Companions::default();
    for name in names {
        companions.set_source(name, line("unused"));
    }
    companions
}

#[test]
fn refresh_token_of_the_source_counts_until_it_is_spent() {
    let companions = with(&["a"]);
    let mut a = held(&companions, "a");
    assert_eq!(current(&mut a, None), None);
    assert_eq!(current(&mut a, Some("r-1")).as_deref(), Some("r-1"));
    a.replace(Some(&value("r-1")), Some(value("r-2")));
    for source in [Some("r-1"), None] {
        assert_eq!(current(&mut a, source).as_deref(), Some("r-2"), "{source:?}");
    }
    assert_eq!(current(&mut a, Some("operator's")).as_deref(), Some("operator's"));
}

#[test]
fn old_copy_that_is_put_back_into_the_source_is_never_sent() {
    let companions = with(&["a"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    for (sent, new) in [("r-1", "r-2"), ("r-2", "r-3"), ("r-3", "r-4")] {
        a.replace(Some(&value(sent)), Some(value(new)));
        a.is_in_source();
        assert_eq!(current(&mut a, Some(new)).as_deref(), Some(new));
    }
    for old in ["r-1", "r-2", "r-3"] {
        assert_eq!(current(&mut a, Some(old)).as_deref(), Some("r-4"), "{old}");
    }
}

#[test]
fn stored_refresh_token_counts_as_long_as_the_source_holds_what_it_replaced() {
    let mut companions = Companions::default();
    companions.load("a", row(Some("r-2"), Some("r-1")), None);
    companions.set_source("a", line("r-1"));
    let mut a = held(&companions, "a");
    assert_eq!(current(&mut a, Some("r-1")).as_deref(), Some("r-2"));
    assert_eq!(current(&mut a, None).as_deref(), Some("r-2"));
    assert_eq!(current(&mut a, Some("r-9")).as_deref(), Some("r-9"));
    assert_eq!(a.state().row(), None, "it is superseded");
}

#[test]
fn source_that_cannot_be_read_for_a_time_keeps_what_was_replaced() {
    let mut companions = Companions::default();
    companions.load("a", row(Some("r-2"), Some("r-1")), None);
    companions.set_source("a", line("r-1"));
    let mut a = held(&companions, "a");
    assert_eq!(current(&mut a, None).as_deref(), Some("r-2"));
    a.replace(Some(&value("r-2")), Some(value("r-3")));
    assert_eq!(a.state().row(), Some(row(Some("r-3"), Some("r-1"))));
}

#[test]
fn session_without_a_refresh_token_voids_the_one_before_until_the_source_changes() {
    for stored in [None, Some("r-2")] {
        let mut companions = Companions::default();
        if stored.is_some() {
            companions.load("a", row(stored, Some("r-1")), None);
        }
        companions.set_source("a", line("r-1"));
        let mut a = held(&companions, "a");
        current(&mut a, Some("r-1"));
        a.begin_session(None);
        assert_eq!(current(&mut a, Some("r-1")), None);
        assert_eq!(a.state().row(), Some(row(None, Some("r-1"))));
        assert!(!a.state().is_unsaved());
        assert_eq!(current(&mut a, Some("r-3")).as_deref(), Some("r-3"));
    }
}

#[test]
fn new_refresh_token_in_the_source_is_news_and_an_own_write_is_not() {
    let companions = with(&["a"]);
    let mut a = held(&companions, "a");
    let mut is_news = |source: Option<&str>| {
        a.note_source(source.map(value));
        if source == Some("r-1") {
            a.replace(Some(&value("r-1")), Some(value("r-2")));
        }
        a.state().take_news()
    };
    let sources = [Some("r-1"), Some("r-2"), Some("r-1"), None, Some("r-3"), Some("r-3")];
    assert_eq!(sources.map(&mut is_news), [false, false, false, false, true, false]);
}

#[test]
fn old_copy_that_is_put_back_does_not_count_after_a_restart_either() {
    let companions = with(&["a"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    for (sent, new) in [("r-1", "r-2"), ("r-2", "r-3")] {
        a.replace(Some(&value(sent)), Some(value(new)));
        a.is_in_source();
        current(&mut a, Some(new));
    }
    assert!(!a.state().is_changed());
    a.note_source(Some(value("r-1")));
    assert!(a.state().is_changed(), "it is to be stored");
    assert_eq!(a.state().row(), Some(row(Some("r-3"), Some("r-1"))));
    a.state().is_in_database();
    a.note_source(Some(value("r-1")));
    assert!(!a.state().is_changed());
    a.note_source(Some(value("r-2")));
    assert_eq!(a.state().row(), Some(row(Some("r-3"), Some("r-2"))));
    assert!(a.state().is_changed());
}

#[test]
fn refresh_token_of_another_token_is_refused_even_if_it_is_spent() {
    let companions = with(&["a", "b"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    a.replace(Some(&value("r-1")), Some(value("r-2")));
    let mut b = held(&companions, "b");
    for source in ["r-1", "r-2"] {
        b.note_source(Some(value(source)));
        let refusal = b.current().unwrap_err();
        assert_eq!((&*refusal.owner, refusal.is_passing), ("a", false), "{source}");
    }
    assert_eq!(b.owner_of(&value("r-2")).as_deref(), Some("a"));
    assert_eq!(b.owner_of(&value("r-3")), None);
    assert_eq!(current(&mut b, Some("r-3")).as_deref(), Some("r-3"));
}

#[test]
fn token_that_is_renamed_keeps_its_refresh_token() {
    let mut companions = with(&["old"]);
    let mut old = held(&companions, "old");
    current(&mut old, Some("r-1"));
    old.replace(Some(&value("r-1")), Some(value("r-2")));
    old.state().is_in_database();
    companions.release("old", KEEP);
    companions.set_source("new", line("r-1"));
    let mut new = held(&companions, "new");
    new.note_source(Some(value("r-1")));
    assert!(new.current().unwrap_err().is_passing, "the old name's renewal has not ended");
    drop(old);
    assert_eq!(current(&mut new, Some("r-1")).as_deref(), Some("r-2"));
}

#[test]
fn token_that_is_removed_and_added_again_keeps_its_refresh_token() {
    let mut companions = with(&["a"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    companions.release("a", KEEP);
    assert!(companions.of("a").is_none());
    companions.set_source("a", line("r-1"));
    // The task that was running all the time has its successor only now.
    a.replace(Some(&value("r-1")), Some(value("r-2")));
    drop(a);
    assert_eq!(current(&mut held(&companions, "a"), Some("r-1")).as_deref(), Some("r-2"));
}

#[test]
fn refresh_tokens_in_memory_only_are_listed() {
    let companions = with(&["a", "b"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    a.replace(Some(&value("r-1")), Some(value("r-2")));
    drop(a);
    let names = || companions.save_all().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(), ["a".into()]);
    held(&companions, "a").state().is_in_database();
    assert_eq!(names(), []);
}

#[test]
fn debug_output_of_companions_contains_no_refresh_token() {
    let mut companions = with(&["a"]);
    companions.set_source("b", line("S3CR3T-line"));
    let mut a = held(&companions, "a");
    a.note_source(Some(value("S3CR3T-1")));
    a.replace(Some(&value("S3CR3T-1")), Some(value("S3CR3T-2")));
    let shown = format!("{a:?} {companions:?}");
    assert!(!shown.contains("S3CR3T"), "{shown}");
}

#[test]
fn login_of_a_token_leaves_the_refresh_token_of_another_one_alone() {
    for new in [None, Some("r-b")] {
        let companions = with(&["a", "b"]);
        let mut a = held(&companions, "a");
        current(&mut a, Some("r-1"));
        a.replace(Some(&value("r-1")), Some(value("r-2")));
        let mut b = held(&companions, "b");
        for source in ["r-1", "r-2"] {
            b.note_source(Some(value(source)));
            assert!(b.is_source_foreign(), "{source}");
            b.begin_session(new.map(value));
        }
        assert_eq!(current(&mut a, Some("r-2")).as_deref(), Some("r-2"));
        if new.is_some() {
            assert_eq!(current(&mut b, Some("r-2")).as_deref(), new, "the login's counts");
        }
        b.note_source(Some(value("r-2")));
        a.replace(Some(&value("r-2")), Some(value("r-3")));
        assert_eq!(current(&mut a, Some("r-1")).as_deref(), Some("r-3"));
    }
}

#[test]
fn restart_after_logins_with_copies_of_a_refresh_token_keeps_both_sessions() {
    let mut companions = Companions::default();
    companions.load("a", row(Some("r-a"), Some("r-1")), None);
    companions.load("b", row(Some("r-b"), Some("r-1")), None);
    companions.set_source("a", line("r-1"));
    companions.set_source("b", line("r-1"));
    for (name, expected) in [("a", "r-a"), ("b", "r-b"), ("a", "r-a")] {
        let found = current(&mut held(&companions, name), Some("r-1"));
        assert_eq!(found.as_deref(), Some(expected));
    }
}

#[test]
fn copy_of_a_refresh_token_that_another_token_has_spent_is_never_sent() {
    let companions = with(&["a", "b"]);
    let mut b = held(&companions, "b");
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    b.note_source(Some(value("r-1")));
    assert!(b.current().is_err());
    assert!(!b.state().is_changed(), "it is not spent yet");
    a.replace(Some(&value("r-1")), Some(value("r-2")));
    drop(a);
    b.note_source(Some(value("r-1")));
    assert_eq!(&*b.current().unwrap_err().owner, "a");
    assert_eq!(b.state().row(), Some(row(None, Some("r-1"))), "it survives a restart");
    let mut a = held(&companions, "a");
    for number in 2..40 {
        let [sent, new] = [number, number + 1].map(|number| value(&format!("r-{number}")));
        a.note_source(Some(sent.clone()));
        a.replace(Some(&sent), Some(new));
    }
    assert_eq!(current(&mut b, Some("r-1")), None);
    assert_eq!(current(&mut b, Some("r-new")).as_deref(), Some("r-new"));
}

#[test]
fn refresh_token_that_the_source_shows_during_a_login_is_kept() {
    let companions = with(&["a"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    a.note_source(Some(value("operator's")));
    a.begin_session(None);
    assert_eq!(current(&mut a, Some("operator's")).as_deref(), Some("operator's"));
    assert!(a.state().take_news());
    a.begin_session(None);
    assert_eq!(current(&mut a, Some("operator's")), None);
}

#[test]
fn claims_of_a_removed_token_are_dropped_with_it() {
    let mut companions = with(&["a", "b"]);
    let mut a = held(&companions, "a");
    current(&mut a, Some("r-1"));
    a.replace(Some(&value("r-1")), Some(value("r-2")));
    drop(a);
    companions.release("a", Duration::ZERO);
    assert_eq!(lock(&companions.shared.claims).len(), 2);
    companions.release("b", KEEP);
    assert_eq!(lock(&companions.shared.claims).len(), 0);
}

#[tokio::test]
async fn row_of_a_token_that_is_configured_again_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let until = clock::now() + KEEP;
    let stored = || row(Some("r-2"), Some("r-1"));
    let mut companions = Companions::default();
    for name in ["a", "b"] {
        companions.load(name, stored(), Some(until));
    }
    companions.set_source("a", line("r-1"));
    let writer = Store::open(folder.path()).unwrap().into_writer().unwrap();
    for name in ["a", "b"] {
        drop(writer.companions().persist(name, stored(), Some(wall_ms(until))));
    }
    companions.set_writer(Some(writer.companions()));
    writer.close().await.unwrap();

    let mut rows = Vec::new();
    let each = |name: &str, found, until: Option<i64>| {
        rows.push((name.to_owned(), found, until.is_some()));
    };
    Store::open(folder.path()).unwrap().companions(each).unwrap();
    assert_eq!(rows, [("a".to_owned(), stored(), false), ("b".to_owned(), stored(), true)]);
}
