use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::secret::TokenValue;
use crate::token_source::replace;

/// Long enough for the slowest machine that runs the tests; reached only on failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than the delay of a report: settling and one poll.
const SILENCE: Duration = Duration::from_millis(1500);

struct World {
    folder: TempDir,
    watcher: Watcher,
}

impl World {
    /// Files named 1, 2, 3, ...; those in `watched` are watched.
    fn new(files: u32, watched: &[u32]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for key in 1..=files {
            fs::write(folder.path().join(key.to_string()), "old").unwrap();
        }
        let mut world = Self { folder, watcher: Watcher::new() };
        world.watch(watched);
        world
    }

    fn watch(&mut self, keys: &[u32]) {
        let paths: Vec<_> = keys.iter().map(|key| (*key, self.path(&key.to_string()))).collect();
        self.watcher.set_paths(paths);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn changed(&mut self) -> Vec<u32> {
        timeout(PATIENCE, self.watcher.changed()).await.expect("the change was not noticed")
    }

    async fn silent(&mut self) -> bool {
        timeout(SILENCE, self.watcher.changed()).await.is_err()
    }
}

#[tokio::test]
async fn an_atomic_replacement_is_reported_once() {
    let mut world = World::new(2, &[1, 2]);
    replace(&world.path("1"), &TokenValue::parse("new").unwrap()).unwrap();
    assert_eq!(world.changed().await, [1]);
    assert!(world.silent().await);
}

#[tokio::test]
async fn a_write_in_place_is_reported() {
    let mut world = World::new(2, &[1, 2]);
    fs::write(world.path("2"), "new").unwrap();
    assert_eq!(world.changed().await, [2]);
}

#[tokio::test]
async fn write_by_a_writer_that_keeps_the_file_open_is_reported() {
    let mut world = World::new(1, &[1]);
    let mut file = File::options().append(true).open(world.path("1")).unwrap();
    file.write_all(b"more").unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn a_removal_is_reported_and_so_is_the_new_file() {
    let mut world = World::new(1, &[1]);
    fs::remove_file(world.path("1")).unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::write(world.path("1"), "new").unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn polling_of_a_disk_that_hangs_does_not_delay_other_changes() {
    let mut world = World::new(1, &[1]);
    let (end, ended) = std::sync::mpsc::channel();
    let device = FileStamp::of(world.folder.path()).unwrap().device();
    world.watcher.busy.insert(device);
    world.watcher.passes.spawn_blocking(move || ended.recv().unwrap());
    world.watcher.check(1);
    fs::write(world.path("1"), "new").unwrap();
    assert_eq!(world.changed().await, [1]);
    assert!(world.silent().await && world.watcher.passes.len() == 1, "and no other is begun");
    end.send(PollResult { device, ..PollResult::default() }).unwrap();
    let caught_up = async {
        while !world.watcher.passes.is_empty() || !world.watcher.checks.is_empty() {
            let again = timeout(SETTLE_DELAY, world.watcher.changed()).await;
            assert!(again.is_err(), "it was reported before");
        }
    };
    timeout(PATIENCE, caught_up).await.expect("what waited is compared");
}

#[tokio::test]
async fn a_change_of_permissions_is_reported() {
    let mut world = World::new(1, &[1]);
    fs::set_permissions(world.path("1"), Permissions::from_mode(0o000)).unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn other_files_and_reads_are_ignored() {
    let mut world = World::new(3, &[1, 2]);
    fs::write(world.path("3"), "new").unwrap();
    fs::write(world.path(".tokenkeep-abc"), "new").unwrap();
    fs::read(world.path("1")).unwrap();
    assert!(world.silent().await);
}

#[tokio::test]
async fn simultaneous_changes_are_reported_together() {
    let mut world = World::new(3, &[1, 2, 3]);
    fs::write(world.path("3"), "new").unwrap();
    fs::write(world.path("1"), "new").unwrap();
    assert_eq!(world.changed().await, [1, 3]);
}

#[tokio::test]
async fn two_tokens_may_have_the_same_file() {
    let mut world = World::new(1, &[]);
    let path = world.path("1");
    world.watcher.set_paths([(7, path.clone()), (8, path.clone())]);
    fs::write(path, "new").unwrap();
    assert_eq!(world.changed().await, [7, 8]);
}

#[tokio::test]
async fn cancelled_wait_loses_no_change() {
    let mut world = World::new(1, &[1]);
    fs::write(world.path("1"), "new").unwrap();
    let mut changed = None;
    for _ in 0..5 {
        // One of these waits is long enough on any machine.
        changed = changed.or(timeout(Duration::from_millis(1), world.watcher.changed()).await.ok());
    }
    let changed = match changed {
        Some(changed) => changed,
        None => world.changed().await,
    };
    assert_eq!(changed, [1]);
}

#[tokio::test]
async fn directory_created_later_is_watched() {
    let mut world = World::new(0, &[]);
    let path = world.path("later/folder/1");
    world.watcher.set_paths([(1, path.clone())]);
    assert_eq!(world.watcher.unwatched_directories(), 1);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "new").unwrap();
    assert_eq!(world.changed().await, [1]);
    assert_eq!(world.watcher.unwatched_directories(), 0);
}

#[tokio::test]
async fn directory_removed_and_created_again_is_watched() {
    let mut world = World::new(0, &[]);
    let path = world.path("folder/1");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "old").unwrap();
    world.watcher.set_paths([(1, path.clone())]);
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "new").unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn directory_replaced_with_its_parent_is_watched() {
    let mut world = World::new(0, &[]);
    for (parent, content) in [("a", "old"), ("b", "newer")] {
        fs::create_dir_all(world.path(parent).join("folder")).unwrap();
        fs::write(world.path(parent).join("folder/1"), content).unwrap();
    }
    world.watcher.set_paths([(1, world.path("a/folder/1"))]);
    fs::rename(world.path("a"), world.path("c")).unwrap();
    fs::rename(world.path("b"), world.path("a")).unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::write(world.path("a/folder/1"), "newest").unwrap();
    assert_eq!(world.changed().await, [1]);
    assert_eq!(world.watcher.watched_directories(), 1);
}

#[tokio::test]
async fn change_of_the_target_of_a_symbolic_link_is_reported() {
    let mut world = World::new(0, &[]);
    fs::create_dir(world.path("elsewhere")).unwrap();
    fs::write(world.path("elsewhere/target"), "old").unwrap();
    symlink("elsewhere/target", world.path("1")).unwrap();
    world.watch(&[1]);
    fs::write(world.path("elsewhere/target"), "new").unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn changed_link_is_followed_again() {
    let mut world = World::new(3, &[]);
    fs::create_dir(world.path("elsewhere")).unwrap();
    fs::write(world.path("elsewhere/target"), "other").unwrap();
    symlink("2", world.path("link")).unwrap();
    world.watcher.set_paths([(1, world.path("link"))]);
    symlink("elsewhere/target", world.path("new")).unwrap();
    fs::rename(world.path("new"), world.path("link")).unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::write(world.path("elsewhere/target"), "newest").unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn swap_of_a_directory_of_links_like_in_kubernetes_is_reported() {
    let mut world = World::new(0, &[]);
    for (version, content) in [("..1", "old"), ("..2", "newer")] {
        fs::create_dir(world.path(version)).unwrap();
        fs::write(world.path(version).join("1"), content).unwrap();
    }
    symlink("..1", world.path("..data")).unwrap();
    symlink("..data/1", world.path("1")).unwrap();
    world.watch(&[1]);
    symlink("..2", world.path("..new")).unwrap();
    fs::rename(world.path("..new"), world.path("..data")).unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::write(world.path("..2/1"), "newest").unwrap();
    assert_eq!(world.changed().await, [1]);
}

#[tokio::test]
async fn removed_path_is_not_reported_and_others_are() {
    let mut world = World::new(3, &[1, 2]);
    fs::write(world.path("2"), "new").unwrap();
    world.watch(&[2, 3]);
    fs::write(world.path("1"), "new").unwrap();
    fs::write(world.path("3"), "new").unwrap();
    assert_eq!(world.changed().await, [2, 3]);
}

#[tokio::test]
async fn watch_ends_with_the_last_file_of_its_directory() {
    let mut world = World::new(2, &[1, 2]);
    world.watch(&[2]);
    assert_eq!(world.watcher.watched_directories(), 1);
    world.watch(&[]);
    assert_eq!(
        (world.watcher.watched_directories(), world.watcher.unwatched_directories()),
        (0, 0)
    );
}

#[tokio::test]
async fn ten_thousand_files_in_a_directory_need_one_watch() {
    let mut world = World::new(0, &[]);
    let keys: Vec<u32> = (1..=10_000).collect();
    world.watch(&keys);
    assert_eq!(world.watcher.watched_directories(), 1);
    fs::write(world.path("5000"), "new").unwrap();
    assert_eq!(world.changed().await, [5000]);
}

#[tokio::test]
async fn ten_thousand_changes_are_reported_despite_a_queue_overflow() {
    let mut world = World::new(0, &[]);
    let keys: Vec<u32> = (1..=10_000).collect();
    world.watch(&keys);
    for key in &keys {
        fs::write(world.path(&key.to_string()), "new").unwrap();
    }
    let mut missing: HashSet<u32> = keys.into_iter().collect();
    while !missing.is_empty() {
        for key in world.changed().await {
            missing.remove(&key);
        }
    }
}

#[tokio::test]
async fn without_inotify_changes_are_found_by_polling() {
    let mut world = World::new(2, &[1, 2]);
    world.watcher.stop_using_inotify(&io::ErrorKind::QuotaExceeded.into());
    fs::write(world.path("2"), "newer").unwrap();
    assert_eq!(world.changed().await, [2]);
    assert!(world.watcher.inotify_error().is_some());
}

/// A watched directory with the files 1 and 2.
fn directory() -> World {
    let mut world = World::new(2, &[]);
    let path = world.folder.path().to_owned();
    world.watcher.set_directories([(7, path)]);
    world
}

fn names<const N: usize>(names: [&str; N]) -> ChangedNames {
    ChangedNames::Names(names.into_iter().map(Into::into).collect())
}

#[tokio::test]
async fn changes_in_a_directory_are_reported_by_name() {
    let mut world = directory();
    fs::write(world.path("1"), "new").unwrap();
    fs::write(world.path("3"), "new").unwrap();
    fs::remove_file(world.path("2")).unwrap();
    replace(&world.path("4"), &TokenValue::parse("new").unwrap()).unwrap();
    assert_eq!(world.changed().await, [7]);
    assert_eq!(world.watcher.take_changed_names(7), names(["1", "2", "3", "4"]));
    assert!(world.silent().await);
    assert_eq!(world.watcher.take_changed_names(7), names([]));
}

#[tokio::test]
async fn replaced_directory_reports_all_files() {
    let mut world = directory();
    let path = world.folder.path().join("sub");
    world.watcher.set_directories([(8, path.clone())]);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("1"), "new").unwrap();
    assert_eq!(world.changed().await, [8]);
    assert_eq!(world.watcher.take_changed_names(8), ChangedNames::All);
    fs::write(path.join("1"), "newer").unwrap();
    assert_eq!(world.changed().await, [8]);
    assert_eq!(world.watcher.take_changed_names(8), names(["1"]));
}

#[tokio::test]
async fn directory_that_is_no_longer_watched_is_not_reported() {
    let mut world = directory();
    world.watcher.set_directories([]);
    assert_eq!(world.watcher.watched_directories(), 0);
    fs::write(world.path("1"), "new").unwrap();
    assert!(world.silent().await);
}

#[tokio::test]
async fn on_a_local_file_system_nothing_is_polled() {
    let world = World::new(2, &[1, 2]);
    assert!(!world.watcher.watches.has_polled());
}

#[tokio::test]
async fn missed_change_is_found_at_the_next_check() {
    let mut world = World::new(2, &[1, 2]);
    world.watcher.files.get_mut(&2).unwrap().stamp = None;
    world.watcher.check(1);
    assert!(world.silent().await);
    world.watcher.check(2);
    assert_eq!(world.changed().await, [2]);
    world.watcher.check(2);
    assert!(world.silent().await);
}

#[tokio::test]
async fn changed_link_among_parent_directories_is_followed_again() {
    let mut world = World::new(0, &[]);
    for (folder, content) in [("a", "old"), ("b", "newer")] {
        fs::create_dir_all(world.path(folder).join("deep")).unwrap();
        fs::write(world.path(folder).join("deep/1"), content).unwrap();
    }
    symlink("a", world.path("link")).unwrap();
    world.watcher.set_paths([(1, world.path("link/deep/1"))]);
    symlink("b", world.path("new")).unwrap();
    fs::rename(world.path("new"), world.path("link")).unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::write(world.path("b/deep/1"), "newest").unwrap();
    assert_eq!(world.changed().await, [1]);
    assert!(!world.watcher.watches.has_polled());
}

#[tokio::test]
async fn directory_is_watched_after_its_parent_is_created_again() {
    let mut world = World::new(0, &[]);
    let path = world.path("a/b/c/1");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "old").unwrap();
    world.watcher.set_paths([(1, path.clone())]);
    fs::remove_dir_all(world.path("a")).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "newer").unwrap();
    assert_eq!(world.changed().await, [1]);
    fs::write(&path, "newest").unwrap();
    assert_eq!(world.changed().await, [1]);
    assert!(!world.watcher.watches.has_polled());
}

#[tokio::test]
async fn changes_in_parent_directories_are_not_reported() {
    let mut world = World::new(1, &[]);
    fs::create_dir_all(world.path("deep/er")).unwrap();
    fs::write(world.path("deep/er/1"), "old").unwrap();
    world.watcher.set_paths([(1, world.path("deep/er/1"))]);
    fs::write(world.path("1"), "new").unwrap();
    fs::write(world.path("deep/2"), "new").unwrap();
    let events = world.watcher.events.as_mut().unwrap();
    let event = timeout(SILENCE, events.next()).await;
    assert!(event.is_err(), "{event:?}");
}

#[tokio::test]
async fn without_inotify_a_write_in_a_directory_is_reported() {
    let mut world = directory();
    world.watcher.stop_using_inotify(&io::ErrorKind::QuotaExceeded.into());
    assert_eq!(world.changed().await, [7]);
    assert_eq!(world.watcher.take_changed_names(7), names(["1", "2"]), "before the first pass");
    fs::write(world.path("2"), "newer").unwrap();
    fs::remove_file(world.path("1")).unwrap();
    assert_eq!(world.changed().await, [7]);
    assert_eq!(world.watcher.take_changed_names(7), names(["1", "2"]));
    fs::write(world.path("3"), "newer").unwrap();
    assert_eq!(world.changed().await, [7]);
    assert_eq!(world.watcher.take_changed_names(7), names(["3"]));
}
