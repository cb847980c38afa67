//! Bugs of replicas, and controls in the model of etcd, which `tests/replicas` must catch.

use crate::Mutant;

const ONE_SPENDING: &str = "OneSpendingAtATime";
const ASKED: &str = "EachTokenIsAsked";
const NEWEST: &str = "SpentForTheNewest";
const ONE_LOGIN: &str = "OneDeathOneLogin";
const STEADY: &str = "SteadyState";

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "replicas: the claim is on the lease",
        file: "tests/replicas/host.rs",
        text: "claim_on_lease: false,",
        becomes: "claim_on_lease: true,",
        caught_by: &[ONE_SPENDING, NEWEST],
    },
    Mutant {
        name: "replicas: a claim does not need the value's revision",
        file: "src/cluster/replica/claims.rs",
        text: "        transaction.expected.push((value.clone(), parts.mirror.revision(&value)));\n",
        becomes: "",
        caught_by: &[NEWEST, ONE_LOGIN],
    },
    Mutant {
        name: "replicas: claims have no nonce",
        file: "src/cluster/replica/claims.rs",
        text: "let nonce = self.chance.u64(..);",
        becomes: "let nonce = 0;",
        caught_by: &[ONE_SPENDING, NEWEST],
    },
    Mutant {
        name: "replicas: a lost slot is left at once",
        file: "src/cluster/replica/view.rs",
        text: "if slot.asked && !asked && !is_over {",
        becomes: "if slot.asked && !asked && !is_over && self.me.is_empty() {",
        caught_by: &[ASKED],
    },
    Mutant {
        name: "replicas: digests do not matter",
        file: "src/cluster/replica/view.rs",
        text: "slot.keep_until.is_some() || !self.lists_the_same(owner, index)",
        becomes: "slot.keep_until.is_some() && !owner.is_empty()",
        caught_by: &[ASKED],
    },
    Mutant {
        name: "replicas: a replica does not say which servers it cannot reach",
        file: "src/cluster/replica/reach.rs",
        text: "(false, false) => Some(self.since + failover / 3),",
        becomes: "(false, false) => None,",
        caught_by: &[ASKED],
    },
    Mutant {
        name: "replicas: reads are serializable",
        file: "tests/replicas/etcd.rs",
        text: "const CONSISTENCY: Consistency = Consistency::Linearizable;",
        becomes: "const CONSISTENCY: Consistency = Consistency::Serializable;",
        caught_by: &[STEADY],
    },
    Mutant {
        name: "replicas: a claim is stolen by the clock of its replica",
        file: "src/cluster/replica/claims.rs",
        text: "*seen + stolen_after(claim.limit)",
        becomes: "claim.taken.1 + stolen_after(claim.limit)",
        caught_by: &[ONE_SPENDING, NEWEST],
    },
    Mutant {
        name: "replicas: a claim is stolen before its limit",
        file: "src/cluster/replica/claims.rs",
        text: "*seen + stolen_after(claim.limit)",
        becomes: "*seen + claim.limit / 4",
        caught_by: &[ONE_SPENDING, NEWEST],
    },
    Mutant {
        name: "replicas: a spending does not look at the clock",
        file: "src/cluster/replica/claims.rs",
        text: "                && now <= spend.begin_by()\n                && mirror.claims.get(hash).is_some_and(|seen| seen.claim.nonce == spend.nonce)\n",
        becomes: "                && { let _ = (now, mirror, hash); true }\n",
        caught_by: &[ONE_SPENDING, NEWEST],
    },
    Mutant {
        name: "replicas: a restarted replica releases its claim at once",
        file: "src/cluster/replica/claims.rs",
        text: "taken.min(*seen) + claim.limit",
        becomes: "taken.min(*seen)",
        caught_by: &[ONE_SPENDING, NEWEST],
    },
];
