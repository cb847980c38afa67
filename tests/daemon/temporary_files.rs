//! Temporary files with a token value that a kill leaves beside token files.

use std::fs;

use crate::support::{Stage, seconds, secret, server_table, simulator, token_table, until};

/// The names of temporary files in the stage's folder.
fn temporary(stage: &Stage) -> Vec<String> {
    let names = fs::read_dir(stage.path("")).expect("a folder");
    let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(".tokenkeep-")).collect()
}

#[tokio::test]
async fn leftover_of_a_killed_write_is_removed_at_the_next_start() {
    let server = simulator().await;
    let stage =
        Stage::new(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(600));
    stage.write(".tokenkeep-aB3dEf", &format!("{}\n", secret("left")));
    stage.write(".tokenkeep-ab1defghiJ", &secret("left"));
    stage.write(".tokenkeep-backup", "not-ours");
    stage.write(".tokenkeep-aB3dE1", "not a token, and not ours");
    let used = fs::File::create(stage.path(".tokenkeep-aB3dE2")).expect("a file");
    rustix::fs::flock(&used, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    until("the leftovers are removed", || temporary(&stage).len() == 3).await;
    daemon.stop().await;
    let mut left = temporary(&stage);
    left.sort();
    assert_eq!(left, [".tokenkeep-aB3dE1", ".tokenkeep-aB3dE2", ".tokenkeep-backup"]);
}
