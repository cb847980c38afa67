//! Invariant 6: every death, recovery and re-auth is said exactly once.

use tokenkeep::lifecycle::{DeadlineStage, Notice};
use tokenkeep::scheduler::ServerNotice;

use super::{Invariant, Violation};
use crate::chance::Ms;

/// What an answer about the value in use must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It lives.
    Alive,
    /// It lives, but has no life left: that is no recovery.
    Spent,
    /// Its life is over, finally.
    Dead,
    /// Nothing is concluded.
    Open,
    /// It is about another value than the one in use, which may take its place.
    Candidate,
    /// It says nothing of the value in use.
    Elsewhere,
}

/// What has been said of one token, and not been answered by its counterpart.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    trouble: bool,
    stage: DeadlineStage,
    unverified: bool,
    /// A re-auth attempt has started, and its end has not been said.
    attempt: Option<u32>,
}

/// What has been said in this step of the token that it is about.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    checked: u32,
    recovered: u32,
    deaths: u32,
    attempts_ended: u32,
}

/// The books of what was said.
#[derive(Debug)]
pub(crate) struct Reports {
    told: Vec<Told>,
    servers_down: Vec<bool>,
    /// The token that this step is about, with what is expected.
    about: Option<(usize, Answered)>,
    said: Said,
}

impl Reports {
    pub(super) fn new(servers: usize, subjects: usize) -> Self {
        Self {
            told: vec![Told::default(); subjects],
            servers_down: vec![false; servers],
            about: None,
            said: Said::default(),
        }
    }

    pub(super) fn restarted(&mut self) {
        self.told.fill(Told::default());
        self.servers_down.fill(false);
    }

    pub(super) fn renamed(&mut self, server: usize) {
        self.servers_down[server] = false;
    }

    pub(super) fn added(&mut self, subject: usize) {
        self.told[subject] = Told::default();
    }

    /// The rules changed: what is said of the time until the expiry may be said anew.
    pub(crate) fn changed(&mut self, subject: usize) {
        self.told[subject].stage = DeadlineStage::Calm;
    }

    /// An answer about this token is about to be told.
    pub(crate) fn answered(&mut self, subject: usize, answered: Answered) {
        self.about = Some((subject, answered));
    }

    /// Something is said of a token.
    pub(crate) fn said(
        &mut self,
        now: Ms,
        subject: usize,
        notice: &Notice,
    ) -> Result<(), Violation> {
        let broken = |what: &str| {
            let what = format!("token {subject}: {what}: {notice:?}");
            Err(Violation { invariant: Invariant::SaidOnce, at: now, what })
        };
        let answered = self.about.filter(|(whose, _)| *whose == subject);
        let answered = answered.map_or(Answered::Elsewhere, |(_, answered)| answered);
        let told = &mut self.told[subject];
        match notice {
            Notice::Checked { .. } => {
                self.said.checked += 1;
                told.stage = DeadlineStage::Calm;
                told.unverified = false;
            }
            Notice::CheckFailed { .. } => {
                told.trouble |= matches!(answered, Answered::Open | Answered::Dead);
            }
            Notice::Expiring { stage, .. } => {
                if *stage <= told.stage {
                    return broken("said before");
                }
                told.stage = *stage;
                told.trouble = true;
            }
            Notice::Unverified => {
                if std::mem::replace(&mut told.unverified, true) {
                    return broken("said before");
                }
                told.trouble = true;
            }
            Notice::Expired { candidate: false, .. }
            | Notice::Rejected { candidate: false, .. } => {
                if answered != Answered::Dead {
                    return broken("said without a final answer");
                }
                self.said.deaths += 1;
                told.trouble = true;
            }
            Notice::Missing { in_use, .. } => told.trouble |= !in_use,
            Notice::Recovered { .. } => {
                if !std::mem::take(&mut told.trouble) {
                    return broken("said without trouble before");
                }
                self.said.recovered += 1;
            }
            Notice::ReauthStarted { attempt, .. } => {
                if told.attempt.replace(*attempt).is_some() {
                    return broken("said before the end of the attempt before was");
                }
            }
            Notice::ReauthSucceeded { attempt, .. }
            | Notice::ReauthFailed { attempt, duration_ms: Some(_), .. } => {
                if told.attempt.take() != Some(*attempt) {
                    return broken("said of an attempt that is not under way");
                }
                self.said.attempts_ended += 1;
            }
            Notice::Expired { candidate: true, .. }
            | Notice::Rejected { candidate: true, .. }
            | Notice::ReauthFailed { duration_ms: None, .. }
            | Notice::RenewalNotObserved { .. }
            | Notice::Replaced(_)
            | Notice::RenewsBy(_)
            | Notice::Revoked
            | Notice::RevokeFailed { .. }
            | Notice::ReauthExhausted { .. }
            | Notice::StoreFailed { .. } => {}
        }
        Ok(())
    }

    /// Something is said of a server.
    pub(crate) fn said_of_server(
        &mut self,
        now: Ms,
        server: usize,
        notice: &ServerNotice,
    ) -> Result<(), Violation> {
        let down = match notice {
            ServerNotice::Unavailable { .. } => true,
            ServerNotice::Recovered { .. } | ServerNotice::Untried => false,
            ServerNotice::RenewalLearned(_) => return Ok(()),
        };
        if std::mem::replace(&mut self.servers_down[server], down) == down {
            let what = format!("server {server}: said before: {notice:?}");
            return Err(Violation { invariant: Invariant::SaidOnce, at: now, what });
        }
        Ok(())
    }

    /// The step is over: what had to be said, has been.
    pub(crate) fn settle(&mut self, now: Ms) -> Result<(), Violation> {
        let said = std::mem::take(&mut self.said);
        let Some((subject, answered)) = self.about.take() else { return Ok(()) };
        let told = &mut self.told[subject];
        let right = match answered {
            Answered::Alive => said.checked == 1 && said.deaths == 0 && !told.trouble,
            Answered::Spent => said.checked == 1 && said.deaths == 0 && said.recovered == 0,
            Answered::Dead => {
                told.trouble = true;
                said.checked == 0 && said.recovered == 0 && said.deaths + said.attempts_ended == 1
            }
            Answered::Open => said.checked == 0 && said.recovered == 0 && said.deaths == 0,
            Answered::Candidate => said.checked == 0 || (said.checked == 1 && !told.trouble),
            Answered::Elsewhere => true,
        };
        if right {
            return Ok(());
        }
        let what = format!("token {subject}: an answer ({answered:?}) led to {said:?}, {told:?}");
        Err(Violation { invariant: Invariant::SaidOnce, at: now, what })
    }
}
