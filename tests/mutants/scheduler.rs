//! Bugs of the scheduler of one daemon, which `tests/simulation` must catch.

use crate::Mutant;

const SURVIVAL: &str = "NothingDiesThatCouldHaveLived";
const ONE_AT_A_TIME: &str = "OneAtATime";
const LIMITS: &str = "LimitsHold";
const LOGINS: &str = "LoginsHaveAReason";
const ORDER: &str = "UrgentFirst";
const SAID_ONCE: &str = "SaidOnce";
const SCHEDULE: &str = "NeverStalls";
const BOUND: &str = "BoundIsTrue";
const RENEWAL: &str = "RenewalIsProven";
const RECOVERY: &str = "RecoveryIsPrompt";
const LOST: &str = "NothingIsLost";
const SLOTS: &str = "SlotsAreShared";
const FRESH: &str = "RetriesAreFresh";
const BOOTS: &str = "BootsPostponeNothing";
const FREE: &str = "InconclusiveIsFree";
const KEPT: &str = "NothingIsKept";
const OUTAGES: &str = "OutagesAreReal";
const SPENT: &str = "NothingIsSpentTwice";

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the bound is counted from receipt",
        file: "src/lifecycle/reading.rs",
        text: "        self.sent + self.remaining()\n",
        becomes: "        self.received + self.remaining()\n",
        caught_by: &[BOUND],
    },
    Mutant {
        name: "growth is judged by two lower ends",
        file: "src/lifecycle/reading.rs",
        text: "self.expiry() >= earlier.latest_end() + margin",
        becomes: "self.expiry() >= earlier.expiry() + margin",
        caught_by: &[RENEWAL],
    },
    Mutant {
        name: "the backoff ignores the bound",
        file: "src/lifecycle/backoff.rs",
        text: "let limit = reading.and_then(|reading| max_retry_pause(reading, now)).unwrap_or(Duration::MAX);",
        becomes: "let _ = (reading, now);\n    let limit = Duration::MAX;",
        caught_by: &[SURVIVAL],
    },
    Mutant {
        name: "a pause may take a third of any time that is left",
        file: "src/lifecycle/backoff.rs",
        text: "(left / 3).min(share)",
        becomes: "(left / 3).max(share.min(left / 3))",
        caught_by: &[SURVIVAL],
    },
    Mutant {
        name: "a first 401 is believed",
        file: "src/lifecycle/check_result.rs",
        text: "Task::Watch | Task::Check | Task::Reauth => Task::ConfirmRejection { in_proof: false },",
        becomes: "Task::Watch | Task::Check | Task::Reauth => {
                return self.mark_dead(Validity::Rejected, fault);
            }",
        caught_by: &[LOGINS, SAID_ONCE],
    },
    Mutant {
        name: "a time-out is believed to be a death",
        file: "src/lifecycle/check_result.rs",
        text: "self.unanswered(fault, Duration::ZERO);",
        becomes: "self.mark_dead(Validity::Expired, fault);",
        caught_by: &[LOGINS, SAID_ONCE],
    },
    Mutant {
        name: "a recovery serves first who came first",
        file: "src/scheduler/transitions.rs",
        text: "let waiting = active.wait_key();",
        becomes: "let waiting = (now, id.0);",
        caught_by: &[ORDER],
    },
    Mutant {
        name: "the breaker's probes do not rotate",
        file: "src/scheduler/server_gate.rs",
        text: "            (logs_in(*id), self.breaker.has_failed(*id), self.breaker.has_probed(*id))\n",
        becomes: "            (logs_in(*id), self.breaker.has_failed(*id), false)\n",
        caught_by: &[SURVIVAL, RECOVERY],
    },
    Mutant {
        name: "a token's budget is forgotten at a restart",
        file: "src/scheduler/restore.rs",
        text: "        self.apply_event(id, Event::AttemptsCounted(attempts), now);\n",
        becomes: "        let _ = attempts;\n",
        caught_by: &[LOGINS],
    },
    Mutant {
        name: "a way's failures are forgotten at a restart",
        file: "src/scheduler/mod.rs",
        text: "self.reauths[reauth.index()].restore(failures);",
        becomes: "let _ = (reauth, failures);",
        caught_by: &[LOGINS],
    },
    Mutant {
        name: "a resumed life counts from the restart",
        file: "src/lifecycle/restore.rs",
        text: "let sent = Moment::from_millis(persisted.expiry.as_millis() - remaining_ms);",
        becomes: "let sent = self.now;",
        caught_by: &[BOUND],
    },
    Mutant {
        name: "a quiet time for logins is ignored",
        file: "src/scheduler/reauth_limiter.rs",
        text: "        self.paused_until = until;\n",
        becomes: "        let _ = until;\n",
        caught_by: &[LOGINS],
    },
    Mutant {
        name: "a Retry-After is ignored",
        file: "src/scheduler/server_gate.rs",
        text: "self.throttled_until = self.throttled_until.max(now + wish);",
        becomes: "let _ = (now, wish);",
        caught_by: &[LIMITS],
    },
    Mutant {
        name: "requests are not paced",
        file: "src/scheduler/rate_limiter.rs",
        text: ".saturating_add(self.interval_us());",
        becomes: ";",
        caught_by: &[LIMITS],
    },
    Mutant {
        name: "a place in flight is never given back",
        file: "src/scheduler/server_health.rs",
        text: "        self.servers[id.index()].gate.on_request_finished();\n",
        becomes: "",
        caught_by: &[LOST],
    },
    Mutant {
        name: "a token with a request under way may start another",
        file: "src/lifecycle/next_action.rs",
        // Only for requests: a write that goes on for ever would be begun for ever, in one step.
        text: "        if self.in_flight.is_some() {\n            return None;",
        becomes: "        if self.in_flight.is_some() && resource != Resource::Server {\n            return None;",
        caught_by: &[ONE_AT_A_TIME, SCHEDULE],
    },
    Mutant {
        name: "an alarm is said twice",
        file: "src/lifecycle/deadline_warnings.rs",
        text: "            return self.notify(Notice::Unverified);\n",
        becomes: "            self.notify(Notice::Unverified);\n            return self.notify(Notice::Unverified);\n",
        caught_by: &[SAID_ONCE],
    },
    Mutant {
        name: "a recovery is not said",
        file: "src/lifecycle/check_result.rs",
        text: "if lives && std::mem::take(&mut self.token.unrecovered) {",
        becomes: "if lives && std::mem::take(&mut self.token.unrecovered) && false {",
        caught_by: &[SAID_ONCE],
    },
    Mutant {
        name: "nobody is woken for a bound",
        file: "src/scheduler/token_slot.rs",
        text: "token.due_for(Resource::None), token.next_deadline_warning()];",
        becomes: "token.due_for(Resource::None)];",
        caught_by: &[SCHEDULE],
    },
    Mutant {
        name: "a value from the source is taken unverified",
        file: "src/lifecycle/source_change.rs",
        text: "Validity::Missing | Validity::Expired | Validity::Rejected => {\n                self.discard_rotation();",
        becomes: "Validity::Missing
            | Validity::Expired
            | Validity::Rejected
            | Validity::Alive(_) => {
                self.discard_rotation();",
        caught_by: &[SURVIVAL],
    },
    Mutant {
        name: "a renewal whose answer was lost is put down to a query",
        file: "src/lifecycle/renewal_proof.rs",
        text: "if by == Method::Query && self.token.renew_unanswered {",
        becomes: "if by == Method::Query && self.token.renew_unanswered && false {",
        caught_by: &[RENEWAL],
    },
    Mutant {
        name: "what does not grow is not renewed",
        file: "src/lifecycle/renewal_proof.rs",
        text: "(false, Renewal::Auto) => self.follow_up_with(Task::TryRenew),",
        becomes: "(false, Renewal::Auto) => self.renewal_not_observed(reading),",
        caught_by: &[SURVIVAL, RENEWAL],
    },
    Mutant {
        name: "tokens are not told of a recovery",
        file: "src/scheduler/server_health.rs",
        text: "                self.notify_failing_tokens(id, &Event::ServerRecovered, now);\n",
        becomes: "",
        caught_by: &[RECOVERY, OUTAGES],
    },
    Mutant {
        name: "a cancelled action keeps its permit",
        file: "src/scheduler/completions.rs",
        text: "        self.report_health(ticket, HealthSignal::Unknown, None, now);\n        self.finish_action(ticket, Event::Cancelled, now);",
        becomes: "        self.finish_action(ticket, Event::Cancelled, now);",
        caught_by: &[LOST],
    },
    Mutant {
        name: "an action whose token is gone is not cancelled",
        file: "tests/simulation/actions.rs",
        text: "            self.cancelled.push(ticket);\n",
        becomes: "            let _ = ticket;\n",
        caught_by: &[LOST],
    },
    Mutant {
        name: "a hook slot is never given back",
        file: "src/scheduler/mod.rs",
        text: "        self.running_hooks -= 1;\n",
        becomes: "",
        caught_by: &[LOST],
    },
    Mutant {
        name: "a server gets fewer requests than its rate limit allows",
        file: "src/scheduler/rate_limiter.rs",
        text: ".saturating_add(self.interval_us());",
        becomes: ".saturating_add(self.interval_us().max(20_000));",
        caught_by: &[RECOVERY, ORDER],
    },
    Mutant {
        name: "no hook slot is reserved",
        file: "src/scheduler/admission.rs",
        text: "free as usize > self.reauths.iter().filter(is_idle).count()",
        becomes: "self.reauths.iter().filter(is_idle).count() < usize::MAX && free > 0",
        caught_by: &[SLOTS],
    },
    Mutant {
        name: "a retry uses a pooled connection",
        file: "src/lifecycle/token.rs",
        text: "        if self.failures > 0 {\n            return Connection::Fresh;",
        becomes: "        if false {\n            return Connection::Fresh;",
        caught_by: &[FRESH],
    },
    Mutant {
        name: "a candidate that takes its place is asked on a pooled connection",
        file: "src/lifecycle/values.rs",
        text: "            self.token.failures = candidate.failures;\n",
        becomes: "            let _ = candidate.failures;\n",
        caught_by: &[FRESH],
    },
    Mutant {
        name: "fresh connections are taken from the pool",
        file: "tests/simulation/connections.rs",
        text: "            Connection::Fresh => true,",
        becomes: "            Connection::Fresh => false,",
        caught_by: &[SURVIVAL, RENEWAL],
    },
    Mutant {
        name: "a life of another boot is trusted",
        file: "src/lifecycle/restore.rs",
        text: "        if !persisted.this_boot {",
        becomes: "        if false {",
        caught_by: &[BOOTS],
    },
    Mutant {
        name: "an inconclusive attempt counts for its token",
        file: "src/lifecycle/reauth_budget.rs",
        text: "            self.refund();\n            self.inconclusive = inconclusive;",
        becomes: "            self.inconclusive = inconclusive;",
        caught_by: &[FREE],
    },
    Mutant {
        name: "an inconclusive attempt counts for its method",
        file: "src/scheduler/transitions.rs",
        text: "Notice::ReauthFailed { fault, .. } => Some(fault.inconclusive),",
        becomes: "Notice::ReauthFailed { .. } => Some(false),",
        caught_by: &[FREE],
    },
    Mutant {
        name: "a removed server is kept for ever",
        file: "src/scheduler/mod.rs",
        text: "            self.free_servers.push(server);\n",
        becomes: "            let _ = server;\n",
        caught_by: &[KEPT],
    },
    Mutant {
        name: "a removed reauth method with a command in flight is kept for ever",
        file: "src/scheduler/mod.rs",
        text: "        if method.is_removed {\n            self.release_reauth(reauth);\n        }\n",
        becomes: "",
        caught_by: &[KEPT],
    },
    Mutant {
        name: "a server that is down is probed at any pause",
        file: "src/scheduler/circuit_breaker.rs",
        text: "                outage.next_probe = now + gap(outage.failures).clamp(SHORTEST_GAP, LONGEST_GAP);",
        becomes: "                outage.next_probe = now + gap(outage.failures).max(4 * LONGEST_GAP);",
        caught_by: &[OUTAGES],
    },
    Mutant {
        name: "probes go to tokens that have failed",
        file: "src/scheduler/server_gate.rs",
        text: "self.breaker.has_failed(*id), self.breaker.has_probed(*id))\n        };",
        becomes: "!self.breaker.has_failed(*id), self.breaker.has_probed(*id))\n        };",
        caught_by: &[OUTAGES],
    },
    Mutant {
        name: "dead tokens keep the breaker from opening",
        file: "src/scheduler/server_health.rs",
        text: "(ticket.serial, server.counts.asked());",
        becomes: "(ticket.serial, server.counts.total());",
        caught_by: &[OUTAGES],
    },
    Mutant {
        name: "tokens with trouble of their own open the breaker again and again",
        file: "src/scheduler/circuit_breaker.rs",
        text: "            if self.own_failures.len() < asked {\n                return BreakerChange::None;\n            }",
        becomes: "",
        caught_by: &[OUTAGES],
    },
    Mutant {
        name: "a renewal whose response was lost is repeated at once",
        file: "src/lifecycle/rotation.rs",
        text: "        self.token.held_until = Some(held_until);\n",
        becomes: "        self.token.held_until = Some(self.now);\n        let held_until = self.now;\n",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "a renewal is repeated again and again in the last room",
        file: "src/lifecycle/rotation.rs",
        text: "if self.now < last { last } else { reading.expiry() }",
        becomes: "last",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "a recovery brings a held renewal forward",
        file: "src/lifecycle/token.rs",
        text: "        let now = self.not_held(now);\n",
        becomes: "",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "only the value whose response was lost is held",
        file: "src/lifecycle/rotation.rs",
        text: "        self.token.due = self.token.due.max(held_until);\n",
        becomes: "",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "the loss of a response that is not waited for any more holds nothing",
        file: "src/lifecycle/check_result.rs",
        text: "                    self.hold_renewal();\n                }\n            }\n            Some(InFlight::Reauth",
        becomes: "                }\n            }\n            Some(InFlight::Reauth",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "a new value of a login waits like the old one",
        file: "src/lifecycle/reauth.rs",
        text: "self.token.held_until = self.token.held_until.map(|_| self.now);",
        becomes: "",
        caught_by: &[RECOVERY, OUTAGES],
    },
    Mutant {
        name: "the first 401 for a new refresh token is believed",
        file: "src/lifecycle/rotation.rs",
        text: "        if let Task::ConfirmRejection { .. } = self.token.task {\n            self.token.task = Task::Check;\n        }\n",
        becomes: "",
        caught_by: &[SAID_ONCE, LOGINS],
    },
    Mutant {
        name: "a first renewal without a response is repeated at will",
        file: "src/lifecycle/rotation.rs",
        text: "            _ if self.is_life_unknown() => self.now + self.context.policy.timeout,\n",
        becomes: "",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "a loss does not count once another refresh token has come",
        file: "src/lifecycle/rotation.rs",
        text: "(fault.may_have_acted || is_absent)",
        becomes: "(fault.may_have_acted && !self.token.refresh_replaced || is_absent)",
        caught_by: &[SPENT],
    },
    Mutant {
        name: "a token without a value is believed to be alive by a renewal that names none",
        file: "src/lifecycle/check_result.rs",
        text: "            return self.not_rotated(result.outcome, rejected);\n",
        becomes: "            let _ = rejected;\n",
        caught_by: &[SAID_ONCE, LOGINS],
    },
];
