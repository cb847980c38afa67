use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::daemon::tokens::{DeathReason, InventoryId, TokenOrigin};
use crate::lifecycle::{Policy, Renewal, Schedule, Slot};
use crate::scheduler::{Scheduler, ServerId, ServerLimits, TokenSpec};
use crate::secret::ValueRef;
use crate::settings::Source;
use crate::store::StoredValue;
use crate::time::Moment;

/// The values that occur; of different lengths, none a part of another, and none such that the
/// arena's own numbers could look like it.
const VALUES: [&str; 5] = ["abc-1", "abc-2", "xyz-3-longer", "xyz-4-longer", "#~"];

/// A registry, and the scheduler that gives its tokens their numbers.
struct World {
    scheduler: Scheduler,
    server: ServerId,
    spec: TokenSpec,
    registry: TokenRegistry,
}

impl World {
    fn new() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap();
        let mut scheduler = Scheduler::new(number(1), 1);
        let limits = ServerLimits { rate_limit: number(1), max_in_flight: number(1) };
        let server = scheduler.add_server(limits);
        let policy = Arc::new(Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(10),
            renewal: Renewal::Query,
            reauth: None,
            reauth_before: None,
            assumed: false,
            rotates: false,
        });
        let spec = TokenSpec { server, policy, reauth: None };
        Self { scheduler, server, spec, registry: TokenRegistry::default() }
    }

    fn terms(&self, origin: TokenOrigin) -> Arc<TokenConfig> {
        let (server, reauth) = (self.server, None);
        Arc::new(TokenConfig {
            origin,
            server,
            reauth,
            revoke_on_shutdown: false,
            env_file: None,
            refresh: None,
        })
    }

    fn add(&mut self, name: &str, terms: &Arc<TokenConfig>) -> TokenId {
        let id = self.scheduler.add_token(self.spec.clone(), false, Moment::from_millis(1));
        self.registry.add(id, name, terms, 7);
        id
    }

    fn remove(&mut self, id: TokenId) {
        self.scheduler.remove_token(id);
        self.registry.remove(id);
    }

    fn kept(&self, id: TokenId) -> TokenEntry<'_> {
        self.registry.token(id).unwrap()
    }
}

fn line() -> TokenOrigin {
    TokenOrigin::Line(InventoryId(1))
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Put(Slot, &'static str),
    Settle(Slot),
    SourceMatch(Option<&'static str>),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let slot = || prop_oneof![Just(Slot::A), Just(Slot::B)];
    let value = || prop::sample::select(&VALUES[..]);
    let deed = prop_oneof![
        3 => (slot(), value()).prop_map(|(slot, value)| Deed::Put(slot, value)),
        1 => slot().prop_map(Deed::Settle),
        2 => prop::option::of(value()).prop_map(Deed::SourceMatch),
    ];
    prop::collection::vec(deed, 0..40)
}

proptest! {
    #[test]
    fn a_token_has_the_values_that_it_was_given_and_nothing_is_left_of_others(deeds in deeds()) {
        let mut world = World::new();
        let terms = world.terms(line());
        let id = world.add("quotes", &terms);
        let (mut values, mut in_source) = ([None, None], None);
        for deed in deeds {
            match deed {
                Deed::Put(slot, value) => {
                    world.registry.put(id, slot, ValueRef::from_parsed(value));
                    values[slot as usize] = Some(value);
                }
                Deed::Settle(slot) => {
                    world.registry.settle(id, slot);
                    if values[slot as usize].is_some() {
                        values[slot.other() as usize] = None;
                    }
                }
                Deed::SourceMatch(value) => {
                    world.registry.set_in_source(id, value.map(ValueRef::from_parsed));
                    in_source = value;
                }
            }
            let kept = world.kept(id);
            let held = [Slot::A, Slot::B].map(|slot| kept.value(slot).map(ValueRef::expose));
            prop_assert_eq!(held, values);
            prop_assert_eq!(kept.in_source().map(ValueRef::expose), in_source);
        }
        for value in VALUES {
            let wanted = values.contains(&Some(value)) || in_source == Some(value);
            prop_assert_eq!(world.registry.arena.holds(value.as_bytes()), wanted, "{}", value);
        }
        world.remove(id);
        prop_assert!(VALUES.iter().all(|value| !world.registry.arena.holds(value.as_bytes())));
        prop_assert!(world.registry.more.is_empty());
    }
}

#[test]
fn a_token_is_found_by_its_name_until_it_is_removed() {
    let mut world = World::new();
    let terms = world.terms(line());
    let ids: Vec<_> = (0..1000).map(|n| world.add(&format!("t{n}"), &terms)).collect();
    for n in (0..1000).step_by(2) {
        world.remove(ids[n]);
    }
    for (n, id) in ids.iter().enumerate() {
        let name = format!("t{n}");
        assert_eq!(world.registry.id_of(&name), (n % 2 == 1).then_some(*id), "{name}");
    }
    assert_eq!((world.registry.len(), world.registry.ids().count()), (500, 500));
}

#[test]
fn a_number_that_is_given_anew_brings_nothing_of_the_token_before() {
    let mut world = World::new();
    let terms = world.terms(line());
    let id = world.add("first", &terms);
    let value = || ValueRef::from_parsed("abc-1");
    world.registry.put(id, Slot::A, value());
    world.registry.put(id, Slot::B, ValueRef::from_parsed("abc-2"));
    world
        .registry
        .keep_restored_value(id, StoredValue { value: value().to_value(), replaces: None });
    world.registry.set_death_reason(id, DeathReason::default());
    world.registry.set_counted(id, 3);
    world.remove(id);
    let id = world.add("second", &terms);
    let kept = world.kept(id);
    assert_eq!((kept.name(), kept.value(Slot::A), kept.in_source()), ("second", None, None));
    assert!(kept.death_reason().is_none());
    assert!(world.registry.take_restored_value(id).is_none());
    assert_eq!(world.registry.set_counted(id, 0), 0);
}

#[test]
fn a_life_ends_what_is_known_of_the_value_that_died() {
    let mut world = World::new();
    let terms = world.terms(line());
    let id = world.add("quotes", &terms);
    world.registry.put(id, Slot::B, ValueRef::from_parsed("abc-1"));
    world.registry.set_death_reason(id, DeathReason::default());
    world.registry.settle(id, Slot::B);
    assert!(world.kept(id).death_reason().is_none());
    assert!(world.registry.more.is_empty());
}

#[test]
fn each_token_has_its_own_terms_whoever_shares_them() {
    let mut world = World::new();
    let own = |n: u32| TokenOrigin::Own(Source::Env(format!("T{n}")));
    let mut expected = Vec::new();
    for n in 0..300 {
        let origin = if n % 3 == 0 { own(n) } else { TokenOrigin::Line(InventoryId(n % 7)) };
        let terms = world.terms(origin);
        expected.push((world.add(&format!("t{n}"), &terms), terms));
    }
    for (place, (id, terms)) in expected.iter_mut().enumerate() {
        if place % 2 == 0 {
            *terms = world.terms(TokenOrigin::Line(InventoryId(99)));
            world.registry.set_config(*id, terms);
        }
    }
    for (id, terms) in &expected {
        assert!(Arc::ptr_eq(world.kept(*id).config(), terms));
    }
}

#[test]
fn terms_that_nobody_is_kept_on_any_more_make_room_for_others() {
    let mut world = World::new();
    let id = {
        let terms = world.terms(line());
        world.add("quotes", &terms)
    };
    for _ in 0..=u32::from(u16::MAX) {
        let terms = world.terms(line());
        world.registry.set_config(id, &terms);
        assert!(Arc::ptr_eq(world.kept(id).config(), &terms));
    }
}

#[test]
fn index_of_tokens_with_two_values_each_is_not_built_again_at_once() {
    let mut world = World::new();
    let id = world.add("a", &world.terms(line()));
    let mut new = ValueOwners::with_capacity(10_000);
    (0..20_000).for_each(|value: u64| new.add(value << 32, id));
    let mut owners = ValueOwners::default();
    owners.rebuild(new);
    assert!(!owners.is_outdated(10_000));
    (0..7_000).for_each(|value: u64| owners.add(value << 32, id));
    assert!(owners.is_outdated(10_000));
}
