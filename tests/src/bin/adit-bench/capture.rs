//! What capture costs: a connection for each small request, to a listener of the agent and, through the same two agents, to the
//! service's own address, by REDIRECT and by TPROXY. The hosts are network namespaces, so the wire between them is a kernel's.

use std::rc::Rc;

use adit_tests::{
    address::Address,
    field::{Field, Mode, Road, Tool},
    load::Service,
    netns::{Family, Host},
};

use crate::{interleave, load, load::Kind, pairs::Pair};

const PORT: u16 = 7000;

/// Prints a table of all of them, interleaved.
pub(crate) fn compare(rounds: usize) {
    let captured = |mode| Road::Captured(Tool::Nftables, mode);
    let (mut services, mut pairs) = (Vec::new(), Vec::new());
    let roads = [
        ("", "direct", Road::Direct),
        ("listener (REDIRECT)", "captured (REDIRECT)", captured(Mode::Redirect)),
        ("listener (TPROXY)", "captured (TPROXY)", captured(Mode::Tproxy)),
    ];
    // In each field that has agents, both ways lead through the same two.
    for (explicit, unaware, road) in roads {
        let field = Rc::new(field(road));
        services.push(Service::start_inside(&field.hosts.enter(Host::B), "echo", &format!("[::]:{PORT}")));
        if road.is_captured() {
            let front = field.a().listener(&name());
            pairs.push(Pair::of_field(explicit, front, &field, road));
        }
        pairs.push(Pair::of_field(unaware, Host::B.at(Family::V4, PORT), &field, road));
    }
    interleave(&Kind::Short.title(), Kind::Short.units(), &pairs, rounds, |pair| {
        load::storm(&pair.enter(), pair.front())
    });
}

/// The name that the service has, whichever way it is asked for.
fn name() -> String {
    format!("/dst/{}/{PORT}", Host::B.ip(Family::V4))
}

fn field(road: Road) -> Field {
    let front = Address::any_port();
    let listener = format!("\n[[outbound.listener]]\nlisten = \"{front}\"\nto = \"{}\"\n", name());
    let quiet = "\n[log]\nlevel = \"warn\"\n";
    let field = Field::plan().a_also(&listener).a_also(quiet).b_also(quiet).start(road);
    for host in [Host::A, Host::B] {
        // Else the ports of closed connections, a minute each, would be too few for some rounds.
        let ports =
            "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse && echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range";
        let _ = field.hosts.say(host, &["sh", "-c", ports]).expect_success();
    }
    field
}
