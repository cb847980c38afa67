//! Properties of how the state database is read, for arbitrary input. See `crate::fuzzing`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::commit::WriteBatch;
use super::database::Database;
use super::encoding::{LifeBatch, add_life};
use super::mac::Salt;
use super::model::{ClockContext, ClockReading, Counter, CounterKey, StoredValue, WriteContext};
use super::{Store, StoredLife};
use crate::lifecycle::{Method, PersistedLife};
use crate::secret::{TokenValue, ValueRef};
use crate::time::Moment;

const URL: &str = "https://api.example.net/";
const VALUE: &str = "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77";
const KEPT: &str = "kept-7f3d11aa";
const REPLACED: &str = "old-7f3d11aa";

/// Bytes of a tag.
const MAC_BYTES: usize = 8;

/// The longest expiry and life that are written; any number can be read.
const LONGEST_MS: u64 = 366 * 86_400_000;

thread_local! {
    static TEMPLATE: Template = Template::new();
}

/// For every `input`, read as the packed lives of a row, as rows, or as changes to the file: the
/// database is read to its end or set aside; a life or value is handed out as it was written, or
/// not at all.
///
/// # Panics
///
/// If the property does not hold.
pub fn state_database(input: &[u8]) {
    let mut input = Numbers(input);
    match input.byte() % 3 {
        0 => check_packed(&mut input),
        1 => TEMPLATE.with(|template| template.check_rows(&mut input)),
        _ => TEMPLATE.with(|template| template.check_damage(&mut input)),
    }
}

/// Arbitrary bytes as numbers; behind their end all are 0.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> i64 {
        let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
        i64::from_le_bytes(bytes)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..len).unwrap_or_default()
    }
}

fn life(expiry: Moment) -> PersistedLife {
    PersistedLife {
        expiry,
        remaining_ms: 600_000,
        life_ms: 700_000,
        by: Method::Renew,
        proven: true,
        unrenewable: false,
        this_boot: true,
    }
}

fn value(text: &str) -> ValueRef<'_> {
    ValueRef::parse(text).expect("a value")
}

/// A row that begins with one entry that was written, and goes on with anything.
fn check_packed(input: &mut Numbers<'_>) {
    let mut present = || ClockReading {
        now: Moment::from_millis(input.number().unsigned_abs()),
        wall_ms: input.number(),
    };
    let (at, present) = (present(), present());
    let (boot, written_ms) = (input.number(), input.number());
    let salt = Salt([7; 16]);
    let written = WriteContext { boot: 1, at };
    let life =
        life(present.now + Duration::from_millis(input.number().unsigned_abs() % LONGEST_MS));
    let mut packed = Vec::new();
    add_life(&mut packed, (salt, 1), ["quotes", URL], value(VALUE), &life);
    packed.extend_from_slice(input.0);
    let clocks = ClockContext { boot, present, written_ms };
    let part = LifeBatch { clocks, salt, written, packed };
    let mut stored_lives = Vec::new();
    part.lives(|some| stored_lives.extend(some.iter().map(|one| (one.name.to_owned(), read(one)))));
    for life in stored_lives.iter().filter_map(|(_, life)| life.as_ref()) {
        let left = life.expiry.since(present.now);
        assert!(left <= Duration::from_millis(life.remaining_ms), "more than was left: {left:?}");
        assert!(life.expiry > present.now, "a life that is over: {life:?}");
    }
    let (name, found) = stored_lives.pop().expect("the first entry, which comes last");
    assert_eq!(name, "quotes");
    if let Some(found) = found {
        let PersistedLife { expiry, this_boot, .. } = found;
        assert_eq!(found, PersistedLife { expiry, this_boot, ..life });
        assert!(!this_boot || expiry == life.expiry, "{found:?}");
    }
}

fn read(one: &StoredLife<'_>) -> Option<PersistedLife> {
    assert_eq!(one.life_of(URL, value("another-value")), None);
    assert_eq!(one.life_of("https://other.example.net/", value(VALUE)), None);
    one.life_of(URL, value(VALUE))
}

/// A small database, to be copied and changed.
struct Template {
    folder: TempDir,
    bytes: Vec<u8>,
    life: PersistedLife,
}

impl Template {
    fn new() -> Self {
        // In memory where that is possible: each input is a file that is written and synchronized.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a folder");
        let path = folder.path().join("template.db");
        let (mut database, _) = Database::open(&path).expect("a database");
        let clocks = database.clocks();
        let life = life(clocks.present.now + Duration::from_secs(600));
        let mut batch = WriteBatch::default();
        let key = database.life_key();
        for name in ["quotes", "orders"] {
            add_life(batch.lives.open_row(), key, [name, URL], value(VALUE), &life);
        }
        let parse = |text| TokenValue::parse(text).expect("a value");
        let stored = StoredValue { value: parse(KEPT), replaces: Some(parse(REPLACED)) };
        batch.values.insert("quotes".into(), Some(stored));
        let count = Counter { window_end_ms: i64::MAX, count: 3, in_a_row: 1 };
        batch.counts.insert(CounterKey::Token("quotes".to_owned()), count);
        batch.renewal_methods.insert("sarus".into(), Some((URL.to_owned(), true)));
        database.commit(&batch, clocks.present).expect("written");
        drop(database);
        let bytes = fs::read(&path).expect("the database");
        Self { folder, bytes, life }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state").join("tokenkeep.db")
    }

    /// Puts `bytes` where the database is, and removes what else is there.
    fn put(&self, bytes: &[u8]) {
        let path = self.path();
        let state = path.parent().expect("a folder");
        // There is none at first.
        let _ = fs::remove_dir_all(state);
        fs::create_dir(state).expect("a folder");
        fs::write(path, bytes).expect("written");
    }

    /// Rows with any numbers and texts, in place of those that were written.
    fn check_rows(&self, input: &mut Numbers<'_>) {
        self.put(&self.bytes);
        let connection = Connection::open(self.path()).expect("a database");
        connection.execute_batch("PRAGMA synchronous = OFF; BEGIN").expect("begun");
        // What a constraint keeps out is not there to be read.
        while !input.0.is_empty() {
            let table = input.byte() % 5;
            let (text, other) = (input.bytes(), input.bytes());
            let numbers = [input.number(), input.number(), input.number()];
            let [one, two, three] = numbers;
            let _ = match table {
                0 => connection.execute(
                    "REPLACE INTO value VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT), NULL)",
                    params![text, one, other],
                ),
                1 => connection.execute(
                    "REPLACE INTO attempt VALUES (?, CAST(? AS TEXT), ?, ?, ?)",
                    params![i64::from(input.byte()), text, one, two, three],
                ),
                2 => connection.execute(
                    "REPLACE INTO lesson VALUES (CAST(? AS TEXT), ?, ?)",
                    params![text, one, two],
                ),
                3 => connection.execute(
                    "REPLACE INTO removed VALUES (CAST(? AS TEXT), ?)",
                    params![text, one],
                ),
                _ => connection.execute(
                    "REPLACE INTO lives VALUES (?, 1, ?, ?, ?, ?)",
                    params![i64::from(input.byte()), one, two, three, other],
                ),
            };
        }
        connection.execute_batch("COMMIT").expect("written");
        drop(connection);
        self.check_reading(false);
    }

    /// The file with bytes of it changed.
    fn check_damage(&self, input: &mut Numbers<'_>) {
        let mut bytes = self.bytes.clone();
        while !input.0.is_empty() {
            let at = usize::from(u16::from_le_bytes([input.byte(), input.byte()])) % bytes.len();
            for (place, byte) in bytes[at..].iter_mut().zip(input.bytes()) {
                *place = *byte;
            }
        }
        let changed = bytes.iter().zip(&self.bytes).filter(|(new, old)| new != old).count();
        self.put(&bytes);
        self.check_reading(changed < MAC_BYTES);
    }

    /// `is_tagged`: too little has been changed to forge a tag, which a fuzzer that sees every
    /// comparison is able to do.
    fn check_reading(&self, is_tagged: bool) {
        let mut store = Store::open(self.path().parent().expect("a folder")).expect("opened");
        store
            .lives(|some| {
                for life in some.iter().filter_map(read).filter(|_| is_tagged) {
                    let PersistedLife { expiry, this_boot, .. } = life;
                    assert_eq!(life, PersistedLife { expiry, this_boot, ..self.life });
                    assert!(!this_boot || expiry == self.life.expiry, "{life:?}");
                }
            })
            .expect("lives");
        store
            .values(|name, stored, _| {
                let replaced = stored.replaces.as_ref().map(TokenValue::expose);
                let read = (name, stored.value.expose(), replaced);
                assert!(!is_tagged || read == ("quotes", KEPT, Some(REPLACED)), "{read:?}");
            })
            .expect("values");
        store.counters(|_, _| ()).expect("counts");
        store
            .renewal_methods(|_| Some(URL.to_owned()), |server, _| assert_eq!(server, "sarus"))
            .expect("lessons");
    }
}
