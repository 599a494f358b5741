//! What bounds each service, and how one that goes on through a reload keeps the places its streams have.

use std::{sync::Arc, time::Duration};

use adit_config::Policy;

use crate::{inbound::Bounds, slots::Slots};

/// What bounds each service, and then each capture. One that goes on from `before` keeps its places.
pub(super) fn bounds(policy: &Policy, before: Option<(&Policy, &[Bounds])>, connect: Duration) -> Vec<Bounds> {
    let none = Policy::default();
    let (old, places) = before.unwrap_or((&none, &[]));
    let (of_services, of_captures) = places.split_at(old.services.len());
    let mut services: Vec<_> = old.services.iter().map(|service| &service.names).zip(of_services).collect();
    let mut captures: Vec<_> = old.captures.iter().map(|capture| &capture.ports).zip(of_captures).collect();
    let bounds_of = |label: Option<String>, slots, timeout: Option<Duration>| {
        Bounds::new(label.unwrap_or_default(), slots, timeout.unwrap_or(connect))
    };
    let services = policy.services.iter().map(|service| {
        let label = service.names.first().map(ToString::to_string);
        bounds_of(label, slots_of(&service.names, service.max_streams, &mut services), service.connect_timeout)
    });
    let captures = policy.captures.iter().map(|capture| {
        let label = capture.ports.first().map(|ports| format!("/dst/{{ip}}/{ports}"));
        bounds_of(label, slots_of(&capture.ports, capture.max_streams, &mut captures), capture.connect_timeout)
    });
    services.chain(captures).collect()
}

/// The places for streams of one service, as many as it has now: those of the service before that has a name in common with
/// it (of a capture, ports), whose streams it goes on with, if that one is `left`. A name more or less gives nobody a second
/// set of places.
fn slots_of<T: PartialEq>(names: &[T], most: Option<u32>, left: &mut Vec<(&Vec<T>, &Bounds)>) -> Arc<Slots> {
    let most = most.map_or(usize::MAX, |most| most as usize);
    let is_it = |(before, _): &(&Vec<T>, &Bounds)| before.iter().any(|name| names.contains(name));
    match left.iter().position(is_it) {
        Some(at) => {
            let (_, bounds) = left.swap_remove(at);
            bounds.slots.resize(most);
            Arc::clone(&bounds.slots)
        }
        None => Slots::new(most),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use adit_config::Config;

    use super::{super::policy, *};

    #[test]
    fn a_service_and_a_capture_that_go_on_keep_their_places_wherever_they_stand() {
        let service = |name: &str| {
            format!("[[inbound.service]]\nname = \"{name}\"\nto = \"127.0.0.1:9\"\nallow = [\"a.example\"]\n")
        };
        let capture = |ports: &str| {
            format!("[[inbound.capture]]\nports = {ports}\nallow = [\"a.example\"]\nconnect_timeout = \"1s\"\n")
        };
        let policy_of = |entries: String| {
            let tls = "[tls]\nca = \"/ca\"\ncert = \"/cert\"\nkey = \"/key\"\n[inbound]\nlisten = [\"127.0.0.1:1\"]\n";
            let (config, _) = Config::parse(Path::new("adit.toml"), &format!("{tls}{entries}")).unwrap();
            policy(&config)
        };
        let connect = Duration::from_secs(5);
        // given a service and two captures, and then a service more, and one capture with a port more
        let old = policy_of(service("/svc/x") + &capture("[1000]") + &capture("[2000, \"3000-3010\"]"));
        let new = policy_of(service("/svc/y") + &service("/svc/x") + &capture("[\"3000-3010\", 4000]"));
        let before = bounds(&old, None, connect);
        let after = bounds(&new, Some((&old, &before)), connect);
        // then those that go on have the places they had
        assert_eq!((before.len(), after.len()), (3, 3));
        let same = |one: &Bounds, other: &Bounds| Arc::ptr_eq(&one.slots, &other.slots);
        assert!(same(&after[1], &before[0]) && same(&after[2], &before[2]));
        assert!(before.iter().all(|bounds| !same(bounds, &after[0])));
        assert_eq!((after[1].connect, after[2].connect), (connect, Duration::from_secs(1)));
    }
}
