//! What goes wrong, and what operators do.

use crate::chance::{DAY, HOUR, MINUTE, Ms, SECOND, whole};
use crate::host::Disk;
use crate::invariants::Violation;
use crate::world::{Happening, World};

/// Operators accept a restored etcd after this time at the earliest. See I1.
const ACCEPTS_AFTER: Ms = MINUTE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Incident {
    /// `kill -9`, and a restart after a while.
    Kill,
    /// The same, and the state directory is gone.
    Lose,
    /// The machine boots again.
    Reboot,
    /// SIGTERM, and a restart.
    Restart,
    /// SIGSTOP, and SIGCONT after this time.
    Stop(Ms),
    /// A host is cut off from etcd.
    Cut(Ms),
    /// Many messages between a host and etcd are lost or late.
    BadNetwork(Ms),
    /// Etcd executes nothing: an election, or its quorum is lost.
    EtcdDown(Ms),
    /// A lease ends although it is kept alive.
    LeaseEnds,
    /// Leases last longer than they should.
    LeasesLast(Ms),
    /// A watch ends.
    WatchEnds,
    /// A watch delivers nothing for a while.
    WatchSilent(Ms),
    BackUp,
    Restore,
    /// An operator logs in, and puts the value on one host.
    NewValue,
    /// A token is removed from the configuration of one host, or added there.
    Configure,
    /// The wall clock of a host jumps.
    ClockJumps,
    /// The API responds to nothing.
    ApiDown(Ms),
    /// A host is cut off from the API, and reaches etcd.
    ApiCut(Ms),
    /// The API refuses all logins.
    LoginsRefused(Ms),
    /// The API ends a session.
    SessionEnds,
}

impl World {
    pub(crate) fn plan_incident(&mut self) {
        let pause = self.plan.pause;
        let wait = self.fault_chance.spread((pause / 20).max(1), pause * 4);
        let incident = self.draw_incident();
        self.at(self.now + wait, Happening::Incident(incident));
    }

    fn draw_incident(&mut self) -> Incident {
        let failover = whole(self.plan.failover);
        let chance = &mut self.fault_chance;
        match chance.between(0, 99) {
            0..=14 => Incident::Kill,
            15..=18 => Incident::Lose,
            19..=22 => Incident::Reboot,
            23..=30 => Incident::Restart,
            31..=43 => Incident::Stop(chance.spread(SECOND, HOUR)),
            44..=51 => Incident::Cut(chance.spread(500, failover * 8)),
            52..=57 => Incident::BadNetwork(chance.spread(SECOND, failover * 8)),
            58..=61 => Incident::EtcdDown(chance.spread(50, 1_500)),
            62..=66 => Incident::EtcdDown(chance.spread(SECOND, failover * 20)),
            67..=71 => Incident::LeaseEnds,
            72..=73 => Incident::LeasesLast(chance.spread(SECOND, failover * 2)),
            74..=77 => Incident::WatchEnds,
            78..=79 => Incident::WatchSilent(chance.spread(SECOND, failover * 2)),
            80 => Incident::BackUp,
            81 => Incident::Restore,
            82..=84 => Incident::NewValue,
            85..=86 => Incident::Configure,
            87..=88 => Incident::ApiCut(chance.spread(SECOND, failover * 40)),
            89 => Incident::ClockJumps,
            90..=91 => Incident::ApiDown(chance.spread(SECOND, failover * 2)),
            92..=93 => Incident::LoginsRefused(chance.spread(SECOND, failover * 20)),
            _ => Incident::SessionEnds,
        }
    }

    pub(crate) fn incident(&mut self, incident: Incident) -> Result<(), Violation> {
        let host = self.fault_chance.index(self.hosts.len());
        let token = self.fault_chance.index(self.plan.lives.len());
        self.trace.event(self.now, || format!("{incident:?}: host {host}, token {token}"));
        self.tally.incidents += 1;
        self.watch.calm.disturbed(self.now);
        self.plan_incident();
        let now = self.now;
        match incident {
            Incident::Kill | Incident::Lose | Incident::Reboot => self.kill(host, incident),
            Incident::Restart => {
                let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
                if !std::mem::replace(&mut daemon.is_leaving, true) {
                    daemon.scheduler.stop_reauth();
                    return self.turn(host, |daemon, now| daemon.replica.leave(now));
                }
            }
            Incident::Stop(time) => {
                let until = &mut self.hosts[host].stopped_until;
                *until = (*until).max(now + time);
                let until = *until;
                self.departed(host);
                self.troubled_until(until);
                self.at(until, Happening::Resumes(host));
            }
            Incident::Cut(time) => {
                let until = &mut self.hosts[host].cut_until;
                *until = (*until).max(now + time);
                self.troubled_until(now + time);
            }
            Incident::BadNetwork(time) => {
                self.hosts[host].bad_until = now + time;
                self.troubled_until(now + time);
            }
            Incident::EtcdDown(time) => {
                self.etcd.elected(now + time);
                self.troubled_until(now + time);
            }
            Incident::LeaseEnds => {
                let leases = self.etcd.leases();
                if !leases.is_empty() && now >= self.etcd.down_until {
                    let lease = leases[self.fault_chance.index(leases.len())];
                    self.etcd.end_lease(lease, now);
                    return self.etcd_changed();
                }
            }
            Incident::LeasesLast(time) => {
                self.etcd.delay_leases(time);
                self.troubled_until(now + time);
            }
            Incident::WatchEnds => {
                let watch = self.hosts[host].daemon.as_ref().and_then(|daemon| daemon.watch);
                if let Some(watch) = watch {
                    self.at(now, Happening::WatchEnds { host, generation: watch.generation });
                }
            }
            Incident::WatchSilent(time) => {
                let daemon = self.hosts[host].daemon.as_mut();
                if let Some(watch) = daemon.and_then(|daemon| daemon.watch.as_mut()) {
                    watch.silent_until = now + time;
                    self.troubled_until(now + time);
                }
            }
            Incident::BackUp => self.etcd.back_up(),
            Incident::Restore => self.restore(),
            Incident::NewValue => self.new_value(host, token),
            Incident::Configure => self.reconfigure(token),
            Incident::ClockJumps => {
                if self.plan.wrong_clocks {
                    let by = i64::try_from(self.fault_chance.spread(SECOND, DAY)).unwrap_or(0);
                    let ahead = self.fault_chance.odds(0.5);
                    self.hosts[host].wall_ahead += if ahead { by } else { -by };
                }
            }
            Incident::ApiDown(time) => {
                self.api.down_until = now + time;
                self.troubled_until(now + time);
            }
            Incident::ApiCut(time) => {
                let until = &mut self.hosts[host].api_cut_until;
                *until = (*until).max(now + time);
                self.watch.calm.disturbed(now + time);
            }
            Incident::LoginsRefused(time) => {
                self.api.refuses_until = now + time;
                self.troubled_until(now + time);
            }
            Incident::SessionEnds => {
                let newest = self.api.newest[token];
                self.api.sessions[newest].revoked = true;
            }
        }
        Ok(())
    }

    fn kill(&mut self, host: usize, incident: Incident) {
        let pause = self.fault_chance.spread(200, 30 * MINUTE);
        let now = self.now;
        let there = &mut self.hosts[host];
        if incident == Incident::Lose {
            there.disk = Disk::new(self.first_values.clone());
        }
        if incident == Incident::Reboot {
            there.reboot(now);
        }
        there.stopped_until = there.stopped_until.min(now);
        self.stop_daemon(host, pause);
    }

    /// Etcd is restored from a backup. Operators accept that, one replica after the other.
    fn restore(&mut self) {
        let cluster =
            if self.fault_chance.odds(0.5) { self.etcd.cluster } else { self.fault_chance.seed() };
        let now = self.now;
        if now < self.etcd.down_until || !self.etcd.restore(cluster, now) {
            return;
        }
        self.trace.event(now, || "etcd is restored".to_owned());
        self.tally.restored += 1;
        self.told_changes = 0;
        let down = self.fault_chance.spread(SECOND, MINUTE);
        self.etcd.elected(now + down);
        // A reload makes sense only once the replica has refused the restored etcd.
        let earliest = ACCEPTS_AFTER + self.longest_limit() + whole(self.plan.failover) * 4;
        let mut last = now;
        for host in 0..self.hosts.len() {
            let watch = self.hosts[host].daemon.as_ref().and_then(|daemon| daemon.watch);
            if let Some(watch) = watch.filter(|_| self.fault_chance.odds(0.8)) {
                self.at(now, Happening::WatchEnds { host, generation: watch.generation });
            }
            let accepts = now + earliest + self.fault_chance.spread(1, HOUR);
            for again in 0..3 {
                self.at(accepts + again * 2 * HOUR, Happening::Accepts(host));
            }
            last = last.max(accepts + 4 * HOUR);
        }
        self.watch.restored(now, last);
        self.troubled_until(last);
    }

    /// An operator logs in, and puts the value on one host.
    fn new_value(&mut self, host: usize, token: usize) {
        if self.api.single_session {
            return;
        }
        let value = self.api.log_in(token, self.now);
        self.operator_logged_in(token, value.session);
        self.hosts[host].disk.values[token] = Some(value);
        let wait = self.fault_chance.spread(1, 2_000);
        self.at(self.now + wait, Happening::ReadsSource { host, token });
    }

    /// A configuration changes, on one host after the other, or on one alone for a while.
    fn reconfigure(&mut self, token: usize) {
        let is_added = !self.hosts[0].configured[token];
        let spread = self.fault_chance.spread(SECOND, 10 * MINUTE);
        for host in 0..self.hosts.len() {
            let first = self.fault_chance.between(0, spread);
            self.at(self.now + first, Happening::Configures { host, token, is_added });
            if !is_added {
                let back = self.fault_chance.spread(spread, HOUR);
                let at = self.now + first + back;
                self.at(at, Happening::Configures { host, token, is_added: true });
            }
        }
        self.troubled_until(self.now + spread + HOUR);
    }
}
