//! The state database as its users see it: what was written is read after a restart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{Counter, CounterKey, Store, StoreReport, StoredValue, WriteReceipt, Writer};
use crate::clock;
use crate::lifecycle::{Method, PersistedLife};
use crate::secret::TokenValue;
use crate::token_source::PersistError;

const LIFE: u64 = 600_000;
const URL: &str = "https://api.example.net/";

fn value(text: &str) -> TokenValue {
    TokenValue::parse(text).unwrap()
}

fn life() -> PersistedLife {
    PersistedLife {
        expiry: clock::now() + Duration::from_millis(LIFE),
        remaining_ms: LIFE,
        life_ms: 700_000,
        by: Method::Renew,
        proven: true,
        unrenewable: false,
        this_boot: true,
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    (folder, path)
}

fn writer(path: &Path) -> Writer {
    opened(path).into_writer().unwrap()
}

fn done(receipt: WriteReceipt) -> Result<(), PersistError> {
    receipt.written.blocking_recv().unwrap()
}

/// Opens the database once the previous owner has released it.
fn opened(path: &Path) -> Store {
    loop {
        match Store::open(path) {
            Err(PersistError::Locked { .. }) => std::thread::yield_now(),
            store => return store.unwrap(),
        }
    }
}

fn lives(store: &mut Store, token: &TokenValue) -> BTreeMap<String, Option<PersistedLife>> {
    let mut lives = BTreeMap::new();
    store
        .lives(|stored_lives| {
            for life in stored_lives {
                let name = life.name.to_owned();
                lives.entry(name).or_insert_with(|| life.life_of(URL, token.by_ref()));
            }
        })
        .unwrap();
    lives
}

fn values(store: &mut Store) -> BTreeMap<String, StoredValue> {
    let mut values = BTreeMap::new();
    store
        .values(|name, stored, _| {
            values.insert(name.to_owned(), stored);
        })
        .unwrap();
    values
}

/// Fills a database and closes it.
fn fill(path: &Path, count: usize) {
    let mut writer = writer(path);
    for n in 0..count {
        writer.persist_life(&format!("t{n:05}"), URL, value("v-1").by_ref(), &life());
    }
    drop(writer.persist_value("quotes", value("new-1"), Some(value("old-1"))));
    done(writer.flush()).unwrap();
    drop(writer);
    drop(opened(path));
}

fn database(path: &Path) -> PathBuf {
    path.join("tokenkeep.db")
}

#[test]
fn life_is_restored_exactly_after_a_restart() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    let remembered = life();
    writer.persist_life("quotes", URL, value("v-1").by_ref(), &remembered);
    done(writer.flush()).unwrap();
    drop(writer);
    let found = lives(&mut opened(&path), &value("v-1"));
    assert_eq!(found, BTreeMap::from([("quotes".to_owned(), Some(remembered))]));
}

#[test]
fn life_reported_by_another_server_is_ignored() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    writer.persist_life("quotes", "https://elsewhere.example.net/", value("v-1").by_ref(), &life());
    done(writer.flush()).unwrap();
    drop(writer);
    assert_eq!(lives(&mut opened(&path), &value("v-1"))["quotes"], None);
}

#[test]
fn life_of_another_value_is_ignored() {
    let (_folder, path) = folder();
    fill(&path, 1);
    assert_eq!(lives(&mut opened(&path), &value("v-2"))["t00000"], None);
}

#[test]
fn tampered_life_fails_authentication_and_others_do_not() {
    let (_folder, path) = folder();
    fill(&path, 3);
    let store = opened(&path);
    let connection = &store.database.connection;
    let mut packed: Vec<u8> =
        connection.query_row("SELECT packed FROM lives", [], |row| row.get(0)).unwrap();
    // The first byte of a number of the token in the middle.
    let at = packed.windows(6).position(|bytes| bytes == b"t00001").unwrap() + 6;
    packed[at] ^= 1;
    connection.execute("UPDATE lives SET packed = ?", [packed]).unwrap();
    drop(store);
    let found = lives(&mut opened(&path), &value("v-1"));
    let fits = |name: &str| found[name].is_some();
    assert_eq!([fits("t00000"), fits("t00001"), fits("t00002")], [true, false, true]);
}

#[test]
fn unreadable_commit_affects_only_its_own_tokens() {
    let (_folder, path) = folder();
    fill(&path, 2);
    let mut writer = writer(&path);
    writer.persist_life("later", URL, value("v-1").by_ref(), &life());
    done(writer.flush()).unwrap();
    drop(writer);
    for damage in ["packed = x'ffffffffff'", "wall_ms = wall_ms + 1", "boot = boot + 1"] {
        let store = opened(&path);
        let sql = format!("UPDATE lives SET {damage} WHERE number = 1");
        store.database.connection.execute(&sql, []).unwrap();
        drop(store);
        let found = lives(&mut opened(&path), &value("v-1"));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["later"], "{damage}");
    }
}

#[test]
fn last_life_of_a_token_counts() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    let last = PersistedLife { remaining_ms: LIFE + 1, ..life() };
    for pause in [true, false] {
        writer.persist_life("quotes", URL, value("v-1").by_ref(), &life());
        if pause {
            done(writer.flush()).unwrap();
        }
    }
    writer.persist_life("quotes", URL, value("v-1").by_ref(), &last);
    done(writer.flush()).unwrap();
    drop(writer);
    assert_eq!(lives(&mut opened(&path), &value("v-1"))["quotes"], Some(last));
}

#[test]
fn lives_are_durable_within_a_second() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    writer.persist_life("quotes", URL, value("v-1").by_ref(), &life());
    let began = clock::now();
    while !on_disk(&path).contains("quotes") {
        assert!(clock::now().since(began) < Duration::from_secs(20), "never written");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(writer);
    assert!(lives(&mut opened(&path), &value("v-1"))["quotes"].is_some());
}

#[test]
fn ended_life_is_not_restored() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    writer.persist_life("quotes", URL, value("v-1").by_ref(), &life());
    done(writer.flush()).unwrap();
    writer.delete_life("quotes");
    done(writer.flush()).unwrap();
    drop(writer);
    assert_eq!(lives(&mut opened(&path), &value("v-1"))["quotes"], None);
}

#[test]
fn rows_from_before_a_pass_are_deleted_after_it() {
    let (_folder, path) = folder();
    fill(&path, 3);
    let mut writer = writer(&path);
    writer.restart_compaction();
    writer.persist_life("t00000", URL, value("v-1").by_ref(), &life());
    assert!(matches!(writer.compaction_step(3), (1.., true)), "a round begins");
    done(writer.flush()).unwrap();
    writer.persist_life("t00001", URL, value("v-1").by_ref(), &life());
    assert!(matches!(writer.compaction_step(3), (1.., false)), "and goes on");
    writer.finish_compaction_pass();
    done(writer.flush()).unwrap();
    writer.persist_life("t00001", URL, value("v-1").by_ref(), &life());
    assert_eq!(writer.compaction_step(3), (0, false));
    done(writer.flush()).unwrap();
    drop(writer);
    let found = lives(&mut opened(&path), &value("v-1"));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["t00000", "t00001"], "the third is nobody's");
}

#[test]
fn lives_can_be_loaded_while_writing() {
    let (_folder, path) = folder();
    for _ in 0..3 {
        fill(&path, 2);
    }
    let mut writer = writer(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        writer.load_lives(before);
        let StoreReport::LivesLoaded(stored_lives) = runtime.block_on(writer.report()) else {
            panic!()
        };
        let Some((number, part)) = stored_lives else { break };
        let mut fits = 0;
        part.lives(|lives| {
            let value = value("v-1");
            fits += lives.iter().filter_map(|life| life.life_of(URL, value.by_ref())).count();
        });
        found.push((number, fits));
        before = Some(number);
    }
    assert_eq!(found, [(3, 2), (2, 2), (1, 2)]);
}

#[test]
fn database_of_the_first_version_keeps_values_and_counters() {
    let (_folder, path) = folder();
    fill(&path, 2);
    let store = opened(&path);
    let sql = "DROP TABLE lives; CREATE TABLE token (name TEXT PRIMARY KEY, tag INTEGER NOT NULL) \
               STRICT, WITHOUT ROWID; INSERT INTO token VALUES ('quotes', 1); \
               PRAGMA user_version = 1;";
    store.database.connection.execute_batch(sql).unwrap();
    drop(store);
    let mut store = opened(&path);
    assert!(store.set_aside().is_none());
    assert_eq!(values(&mut store)["quotes"].value, value("new-1"));
    assert!(lives(&mut store, &value("v-1")).is_empty(), "these cost a check of each");
    drop(store);
    fill(&path, 2);
    assert_eq!(lives(&mut opened(&path), &value("v-1")).len(), 2);
}

#[test]
fn stored_value_is_durable_with_its_receipt_and_the_last_one_counts() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    done(writer.persist_value("quotes", value("new-1"), Some(value("old-1")))).unwrap();
    done(writer.persist_value("quotes", value("new-2"), None)).unwrap();
    done(writer.persist_value("a/../b\0", value("new-3"), None)).unwrap();
    drop(writer);
    let stored = |value, replaces| StoredValue { value, replaces };
    assert_eq!(
        values(&mut opened(&path)),
        BTreeMap::from([
            ("quotes".to_owned(), stored(value("new-2"), None)),
            ("a/../b\0".to_owned(), stored(value("new-3"), None)),
        ])
    );
}

#[test]
fn counters_and_renewal_methods_are_restored() {
    let (_folder, path) = folder();
    let writer = writer(&path);
    let count = Counter { window_end_ms: i64::MAX / 2, count: 2, in_a_row: 1 };
    writer.persist_counter(CounterKey::Token("quotes".to_owned()), count);
    writer.persist_counter(CounterKey::Reauth("quotes".to_owned()), Counter { count: 0, ..count });
    writer.persist_renewal_method("sarus", "https://one", true);
    writer.persist_renewal_method("other", "https://two", true);
    done(writer.flush()).unwrap();
    drop(writer);
    let mut store = opened(&path);
    let mut counts = Vec::new();
    store.counters(|counted, count| counts.push((counted, count))).unwrap();
    assert_eq!(counts, [(CounterKey::Token("quotes".to_owned()), count)]);
    let mut renewal_methods = Vec::new();
    let address = |_: &str| Some("https://one".to_owned());
    store
        .renewal_methods(address, |server, renewing| {
            renewal_methods.push((server.to_owned(), renewing));
        })
        .unwrap();
    assert_eq!(renewal_methods, [("sarus".to_owned(), true)], "another address is another server");
}

#[test]
fn directories_and_files_are_private() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    done(writer.persist_value("quotes", value("new-1"), None)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{entry:?}");
        files += 1;
    }
    assert_eq!(files, 3, "the lock, the database, its log");
}

#[test]
fn second_daemon_in_the_same_directory_is_refused() {
    let (_folder, path) = folder();
    let writer = writer(&path);
    let fault = Store::open(&path).unwrap_err();
    assert!(matches!(&fault, PersistError::Locked { path: locked } if *locked == path));
    drop(writer);
    opened(&path);
}

#[test]
fn error_names_the_directory_that_cannot_be_created() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("state"), PathBuf::from("/proc/tokenkeep")] {
        let fault = Store::open(&path).unwrap_err();
        assert!(fault.to_string().starts_with(path.to_str().unwrap()), "{fault}");
    }
}

#[test]
fn damaged_database_is_set_aside_and_replaced() {
    let (_folder, path) = folder();
    for damage in [
        "",
        "no database at all, but long enough to have a header of a hundred bytes. \
                        Something else was written here by mistake, and now it is of no use.",
    ] {
        fill(&path, 1);
        let content = fs::read(database(&path)).unwrap();
        let damage =
            if damage.is_empty() { &content[..content.len() / 2] } else { damage.as_bytes() };
        fs::write(database(&path), damage).unwrap();
        let mut store = opened(&path);
        let found = lives(&mut store, &value("v-1"));
        let fault = store.set_aside().expect("a warning");
        let PersistError::Damaged { aside, .. } = &fault else { panic!("{fault}") };
        assert_eq!(fs::read(aside).unwrap(), damage);
        assert!(found.is_empty());
        let mut writer = store.into_writer().unwrap();
        done(writer.persist_value("quotes", value("new-1"), None)).unwrap();
        drop(writer);
        fs::remove_file(database(&path)).unwrap();
    }
}

#[test]
fn unknown_write_version_in_the_header_is_damage_and_not_a_missing_permission() {
    let (_folder, path) = folder();
    fill(&path, 1);
    let mut content = fs::read(database(&path)).unwrap();
    content[18] = 3;
    fs::write(database(&path), content).unwrap();
    let fault = opened(&path).set_aside().expect("a warning");
    assert!(matches!(fault, PersistError::Damaged { .. }), "{fault}");
}

#[test]
fn database_of_a_later_version_is_set_aside() {
    let (_folder, path) = folder();
    fill(&path, 1);
    let store = opened(&path);
    store.database.connection.pragma_update(None, "user_version", 9).unwrap();
    drop(store);
    let mut store = opened(&path);
    let fault = store.set_aside().expect("a warning");
    assert!(matches!(fault, PersistError::Foreign { version: 9, .. }), "{fault}");
    assert!(values(&mut store).is_empty());
    assert!(path.join("tokenkeep.db.version-9").exists());
}

#[test]
fn damaged_lives_do_not_affect_the_values() {
    let (_folder, path) = folder();
    fill(&path, 3_000);
    let store = opened(&path);
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'lives'";
    let page: u16 = store.database.connection.query_row(sql, [], |row| row.get(0)).unwrap();
    let page = usize::from(page);
    drop(store);
    let mut content = fs::read(database(&path)).unwrap();
    content[(page - 1) * 4_096..page * 4_096].fill(0xff);
    fs::write(database(&path), content).unwrap();

    let mut store = opened(&path);
    assert!(lives(&mut store, &value("v-1")).is_empty());
    assert!(matches!(store.set_aside(), Some(PersistError::Damaged { .. })));
    assert_eq!(values(&mut store)["quotes"].value, value("new-1"));
}

/// The database, whose counters are damaged once it is open.
fn damaged_while_open(path: &Path) -> Store {
    let mut content = fs::read(database(path)).unwrap();
    let store = opened(path);
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'attempt'";
    let page: u16 = store.database.connection.query_row(sql, [], |row| row.get(0)).unwrap();
    let page = usize::from(page);
    content[(page - 1) * 4_096..page * 4_096].fill(0xff);
    fs::write(database(path), content).unwrap();
    store
}

#[test]
fn database_damaged_while_writing_is_replaced() {
    let (_folder, path) = folder();
    fill(&path, 3_000);
    let mut writer = damaged_while_open(&path).into_writer().unwrap();
    writer.persist_life("t00000", URL, value("v-1").by_ref(), &life());
    let count = Counter { window_end_ms: i64::MAX / 2, count: 2, in_a_row: 1 };
    writer.persist_counter(CounterKey::Token("quotes".to_owned()), count);
    done(writer.flush()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(writer.report()), StoreReport::StartedOver(_)));
    writer.persist_life("t00001", URL, value("v-1").by_ref(), &life());
    done(writer.flush()).unwrap();
    drop(writer);
    let mut store = opened(&path);
    assert!(lives(&mut store, &value("v-1"))["t00001"].is_some());
    assert_eq!(values(&mut store)["quotes"].value, value("new-1"));
}

#[test]
fn damage_that_maintenance_finds_is_recovered_without_a_write() {
    let (_folder, path) = folder();
    fill(&path, 1);
    let mut writer = damaged_while_open(&path).into_writer().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(writer.report()), StoreReport::StartedOver(_)));
}

#[test]
fn values_survive_a_recovery_that_cannot_write_until_later() {
    for obstacle in ["damaged", "new"] {
        let (_folder, path) = folder();
        fill(&path, 1);
        let mut store = opened(&path);
        let obstacle = path.join(format!("tokenkeep.db.{obstacle}"));
        fs::create_dir(&obstacle).unwrap();
        for _ in 0..2 {
            store.start_over().unwrap_err();
        }
        fs::remove_dir(&obstacle).unwrap();
        store.start_over().unwrap();
        assert_eq!(values(&mut store)["quotes"].value, value("new-1"), "{obstacle:?}");
        drop(store);
        assert_eq!(values(&mut opened(&path))["quotes"].value, value("new-1"), "{obstacle:?}");
    }
}

#[test]
fn recovery_that_was_killed_between_its_renames_is_completed_at_the_next_start() {
    let (_folder, path) = folder();
    fill(&path, 1);
    fs::rename(database(&path), path.join("tokenkeep.db.new")).unwrap();
    assert_eq!(values(&mut opened(&path))["quotes"].value, value("new-1"));
}

#[test]
fn unfinished_replacement_is_deleted_at_the_next_start() {
    let (_folder, path) = folder();
    fill(&path, 1);
    for name in ["tokenkeep.db.new", "tokenkeep.db.new-wal"] {
        fs::write(path.join(name), "secret-unfinished").unwrap();
    }
    assert_eq!(values(&mut opened(&path))["quotes"].value, value("new-1"));
    assert!(!on_disk(&path).contains("secret-unfinished"));
}

#[test]
fn database_that_was_moved_away_is_replaced_with_its_values() {
    let (_folder, path) = folder();
    fill(&path, 1);
    let backup = path.with_file_name("backup.db");
    fs::copy(database(&path), &backup).unwrap();
    for restored in [false, true] {
        let mut writer = writer(&path);
        let name = format!("restored-{restored}");
        done(writer.persist_value(&name, value("new-2"), None)).unwrap();
        let moved = path.with_file_name("moved.db");
        fs::rename(database(&path), &moved).unwrap();
        if restored {
            fs::copy(&backup, database(&path)).unwrap();
        }
        done(writer.persist_value("later", value("new-3"), None)).unwrap();
        drop(writer);
        let found = values(&mut opened(&path));
        for (name, expected) in [("quotes", "new-1"), (&name, "new-2"), ("later", "new-3")] {
            assert_eq!(found[name].value, value(expected), "{name}");
        }
        let moved = fs::read(moved).unwrap();
        assert!(String::from_utf8_lossy(&moved).contains("new-2"), "the log was not applied");
    }
}

#[test]
fn debug_output_contains_no_value() {
    let (_folder, path) = folder();
    fill(&path, 1);
    let mut store = opened(&path);
    let mut printed = format!("{store:?} {:?}", values(&mut store));
    store.lives(|rows| printed += &format!("{rows:?}")).unwrap();
    printed += &format!("{:?}", store.into_writer().unwrap());
    assert!(!printed.contains("new-1") && !printed.contains("old-1"), "{printed}");
}

/// The content of all files in the state directory, as text.
fn on_disk(path: &Path) -> String {
    let files = fs::read_dir(path).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    files.map(|content| String::from_utf8_lossy(&content).into_owned()).collect()
}

/// Waits until no file in the state directory contains any of these texts.
fn erased(path: &Path, texts: &[String]) {
    let end = clock::now() + Duration::from_secs(40);
    loop {
        let held = on_disk(path);
        let left = texts.iter().filter(|text| held.contains(text.as_str())).count();
        if left == 0 {
            return;
        }
        assert!(clock::now() < end, "{left} of {} values are still there", texts.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Values that fill a page each, a fraction of one, or several.
fn values_of(length: usize, count: usize) -> Vec<String> {
    let pad = "x".repeat(length);
    (0..count).map(|n| format!("secret-{n:04}-{pad}-end-{n:04}")).collect()
}

#[test]
fn replaced_and_deleted_values_are_erased_from_database_and_log() {
    for length in [8, 900, 4_000] {
        let (_folder, path) = folder();
        let mut writer = writer(&path);
        let values = values_of(length, 60);
        for (n, text) in values.iter().enumerate() {
            done(writer.persist_value(&format!("t{n}"), value(text), None)).unwrap();
        }
        assert!(on_disk(&path).contains("secret-0000"));
        for n in 0..values.len() {
            if n % 2 == 0 {
                writer.delete_value(&format!("t{n}"));
            } else {
                drop(writer.persist_value(&format!("t{n}"), value("other"), None));
            }
        }
        let marks: Vec<String> = (0..60).map(|n| format!("-{n:04}")).collect();
        erased(&path, &marks);
    }
}

#[test]
fn value_of_a_removed_token_is_erased_after_its_retention() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    let wall_ms = || clock::wall_clock().as_millisecond();
    for name in ["gone", "kept", "back"] {
        done(writer.persist_value(name, value(&format!("secret-{name}")), None)).unwrap();
    }
    writer.expire_value("gone", wall_ms() + 1_500);
    writer.expire_value("kept", wall_ms() + 3_600_000);
    writer.expire_value("back", wall_ms() + 1_500);
    writer.retain_value("back");
    done(writer.flush()).unwrap();
    erased(&path, &["secret-gone".to_owned()]);
    drop(writer);
    let found = values(&mut opened(&path));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["back", "kept"]);
}

#[test]
fn value_that_expired_while_no_daemon_ran_is_not_restored_and_is_erased() {
    let (_folder, path) = folder();
    let mut first = writer(&path);
    done(first.persist_value("gone", value("secret-gone"), None)).unwrap();
    first.expire_value("gone", clock::wall_clock().as_millisecond() + 1);
    done(first.flush()).unwrap();
    drop(first);
    let mut store = opened(&path);
    assert!(values(&mut store).is_empty());
    let writer = store.into_writer().unwrap();
    erased(&path, &["secret-gone".to_owned()]);
    drop(writer);
}

#[test]
fn removed_attempts_servers_and_boots_leave_no_rows() {
    let (_folder, path) = folder();
    let first = writer(&path);
    let count = |window_end_ms| Counter { window_end_ms, count: 1, in_a_row: 1 };
    let wall_ms = clock::wall_clock().as_millisecond();
    first.persist_counter(CounterKey::Token("gone".to_owned()), count(wall_ms + 1));
    first.persist_counter(CounterKey::Reauth("gone".to_owned()), count(wall_ms + 1));
    first.persist_counter(CounterKey::Token("kept".to_owned()), count(wall_ms + 3_600_000));
    first.persist_renewal_method("gone", URL, true);
    done(first.flush()).unwrap();
    drop(first);
    drop(opened(&path));
    let other = rusqlite::Connection::open(database(&path)).unwrap();
    for n in 0..50 {
        other.execute("INSERT INTO boot (id) VALUES (?)", [format!("boot-{n}")]).unwrap();
    }
    drop(other);
    let mut store = opened(&path);
    store.renewal_methods(|_| None, |_, _| unreachable!()).unwrap();
    let writer = store.into_writer().unwrap();
    let rows = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        let store = opened(&path);
        store.database.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    erased(&path, &["boot-49".to_owned()]);
    drop(writer);
    assert_eq!(["attempt", "lesson", "boot"].map(rows), [1, 0, 1]);
}
