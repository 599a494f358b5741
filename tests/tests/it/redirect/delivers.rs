//! What the rules do to connections: where each comes to be accepted, and for whom it was meant. No agent is here; who
//! answers says where he stands.

use std::{
    net::{Shutdown, SocketAddr},
    thread::{self, JoinHandle},
};

use adit_tests::{
    address::Address,
    cgroup::{Group, MOUNT},
    need, need_that,
    netns::{Family, Host, Hosts},
    skip::is_root,
    wait::LIMIT,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{OUTBOUND, Stage, TOOLS};

/// Where the door listens: in redirect mode also where forwarded connections come to.
const WIDE: &str = "listen = [\"0.0.0.0:4140\", \"[::]:4140\"]\nexpose = true\nmode = \"redirect\"\n";
const NEAR: &str = "listen = [\"127.0.0.1:4140\", \"[::1]:4140\"]\nmode = \"tproxy\"\n";

/// A user that every Debian has (base-passwd), whom a rule names, and the agent's.
const NAMED: &str = "backup";
const OWN: &str = "www-data";

const RULES: &str = r#"
[[outbound.redirect.include]]
net = ["10.77.0.0/24", "fd77::/64"]
port = ["6000-6100"]
[[outbound.redirect.include]]
user = "backup"
[[outbound.redirect.include]]
net = "127.0.0.5"
[[outbound.redirect.include]]
from = "forwarded"
interface = "docker0"
[[outbound.redirect.exclude]]
port = 6001
[[outbound.redirect.exclude]]
from = "forwarded"
port = 6001
"#;

#[test]
fn included_connections_come_to_the_door_with_their_destination_and_all_others_go_their_way() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy", "setpriv", "bash");
    need_that!(is_root(), "only root changes the kernel's rules");
    for door in [WIDE, NEAR] {
        let stage =
            Stage::with(&format!("[netfilter]\nuser = \"{OWN}\"\n{OUTBOUND}[outbound.redirect]\n{door}{RULES}"));
        let services = [6000, 6001, 80].map(|port| Answers::on(&stage.hosts, Host::B, port, false));
        let own = Answers::on(&stage.hosts, Host::A, 6000, false);
        for tool in TOOLS {
            let _ = stage.adit(&["apply", tool]).expect_success();
            let doors = Answers::door(&stage.hosts, door == NEAR);
            for family in Family::BOTH {
                let b = |port| Host::B.at(family, port);
                let from = |host: Host, to: &Address| stage.hosts.on(host, || asked(to, None));
                let case = format!("{tool} {family:?} {door}");
                // included: by network and port, and of a container
                assert_eq!(from(Host::A, &b(6000)), format!("door for {}", b(6000)), "{case}");
                assert_eq!(from(Host::Container, &b(80)), format!("door for {}", b(80)), "{case}");
                assert_eq!(stage.asked_as(NAMED, &b(80)), format!("door for {}", b(80)), "{case}");
                // neither
                assert_eq!(from(Host::A, &b(80)), "service", "{case}");
                assert_eq!(from(Host::A, &b(6001)), "service", "{case}");
                assert_eq!(from(Host::Container, &b(6001)), "service", "{case}");
                // the agent's own, and what is for this host itself
                assert_eq!(stage.hosts.on(Host::A, || asked(&b(6000), Some(0xad17))), "service", "{case}");
                assert_eq!(stage.asked_as(OWN, &b(6000)), "service", "{case}");
                assert_eq!(from(Host::A, &Host::A.at(family, 6000)), "service", "{case}");
                assert_eq!(stage.asked_as(NAMED, &Host::A.at(family, 6000)), "service", "{case}");
            }
            // a loopback address that a rule names
            let named = Address::parse("127.0.0.5:9");
            assert_eq!(stage.hosts.on(Host::A, || asked(&named, None)), "door for 127.0.0.5:9", "{tool} {door}");
            assert_eq!(stage.hosts.on(Host::A, || asked(&Address::parse("127.0.0.1:6000"), None)), "service");
            // each is counted
            let status = stage.adit(&["status"]).expect_success();
            let counted = |what: &str| {
                let line =
                    status.lines().find(|line| line.trim_start().starts_with(&format!("{what}  "))).unwrap_or_default();
                line.split_whitespace().nth_back(1).is_some_and(|packets| packets.parse::<u64>().unwrap() > 0)
            };
            for what in ["include 1", "include 2", "include 3", "include 4", "exclude 1", "exclude 2"] {
                assert!(counted(what), "{what} of {tool}: {status}");
            }
            // and while nobody listens at the door, nothing goes by itself
            drop(doors);
            for host in [Host::A, Host::Container] {
                let refused = stage.hosts.on(host, || try_ask(&Host::B.at(Family::V4, 6000)));
                assert!(refused.is_err(), "{host:?} {tool} {door}: {refused:?}");
            }
            let _ = stage.adit(&["remove"]).expect_success();
            assert_eq!(stage.hosts.on(Host::A, || asked(&Host::B.at(Family::V4, 6000), None)), "service");
        }
        drop((services, own));
    }
}

#[test]
fn a_family_that_the_door_does_not_listen_for_is_refused_and_not_let_through() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy");
    need_that!(is_root(), "only root changes the kernel's rules");
    for mode in ["redirect", "tproxy"] {
        let door = format!("[outbound.redirect]\nlisten = [\"127.0.0.1:4140\"]\nmode = \"{mode}\"\n");
        let stage = Stage::with(&format!("{OUTBOUND}{door}[[outbound.redirect.include]]\nport = 6000\n"));
        let _service = Answers::on(&stage.hosts, Host::B, 6000, false);
        let to = Host::B.at(Family::V6, 6000);
        assert_eq!(stage.hosts.on(Host::A, || asked(&to, None)), "service");
        for tool in TOOLS {
            let said = stage.adit(&["apply", tool]);
            let wanted = "no door for IPv6 connections of include 1, which are refused";
            assert!(said.stderr.contains(wanted), "{}", said.all());
            let _ = said.expect_success();
            assert!(stage.hosts.on(Host::A, || try_ask(&to)).is_err(), "{mode} {tool}");
            assert_eq!(stage.hosts.on(Host::A, || asked(&to, Some(0xad17))), "service", "the agent's own");
        }
    }
}

#[test]
fn a_captured_connection_whose_way_home_is_gone_goes_nowhere() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(&format!("{OUTBOUND}[outbound.redirect]\n{NEAR}{RULES}"));
    let _service = Answers::on(&stage.hosts, Host::B, 6000, false);
    let _door = Answers::door(&stage.hosts, true);
    for tool in TOOLS {
        let _ = stage.adit(&["apply", tool]).expect_success();
        for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip -6")] {
            let to = Host::B.at(family, 6000);
            assert_eq!(stage.hosts.on(Host::A, || asked(&to, None)), format!("door for {to}"));
            // as a network manager does that clears what it does not know
            stage.host(&format!("{ip} rule del fwmark 0xad18"));
            for host in [Host::A, Host::Container] {
                let led = stage.hosts.on(host, || try_ask(&to));
                assert!(led.is_err(), "{host:?} {family:?} {tool}: {led:?}");
            }
        }
        assert!(stage.adit(&["status"]).stdout.contains("missing: ip -6 rule add"));
    }
}

#[test]
fn strict_ports_are_closed_to_other_hosts_and_open_to_this_one() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy");
    need_that!(is_root(), "only root changes the kernel's rules");
    let stage = Stage::with(
        "[inbound]\nlisten = [\"0.0.0.0:4143\"]\nstrict = true\n[[inbound.service]]\nname = \"/svc/a\"\n\
         to = \"127.0.0.1:6000\"\nallow = [\"*.web.test\"]\n",
    );
    let _services = [6000, 6001].map(|port| Answers::on(&stage.hosts, Host::A, port, false));
    for tool in TOOLS {
        let _ = stage.adit(&["apply", tool]).expect_success();
        for family in Family::BOTH {
            for host in [Host::B, Host::Container] {
                assert!(stage.hosts.on(host, || try_ask(&Host::A.at(family, 6000))).is_err(), "{host:?} {tool}");
                assert_eq!(stage.hosts.on(host, || asked(&Host::A.at(family, 6001), None)), "service");
            }
            assert_eq!(stage.hosts.on(Host::A, || asked(&Host::A.at(family, 6000), None)), "service");
        }
        assert_eq!(stage.hosts.on(Host::A, || asked(&Address::parse("127.0.0.1:6000"), None)), "service");
    }
}

#[test]
fn answers_to_a_clients_address_come_home() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy");
    need_that!(is_root(), "only root changes the kernel's rules");
    let service = |name: &str, to: &str| {
        format!(
            "[[inbound.service]]\nname = \"/svc/{name}\"\nto = \"{to}\"\nallow = [\"*.web.test\"]\nsource = \"transparent\"\n"
        )
    };
    let targets = ["127.0.0.1:6000", "[::1]:6000", "10.77.0.1:6000", "[fd77::1]:6000"];
    let services: String = targets.iter().enumerate().map(|(i, to)| service(&format!("s{i}"), to)).collect();
    // beside a door whose rules must not take these for captured ones
    let door = format!("{OUTBOUND}[outbound.redirect]\n{NEAR}[[outbound.redirect.include]]\nport = [6000]\n");
    let stage = Stage::with(&format!("[inbound]\nlisten = [\"0.0.0.0:4143\"]\n{services}{door}"));
    let _service = Answers::on(&stage.hosts, Host::A, 6000, false);
    for tool in TOOLS {
        let _ = stage.adit(&["apply", tool]).expect_success();
        for target in targets {
            let to = Address::parse(target);
            let family = if to.to_string().contains('[') { Family::V6 } else { Family::V4 };
            let answer = stage.hosts.on(Host::A, || asked_as_client(&Host::B.at(family, 0), &to));
            assert_eq!(answer, "service", "{target} by {tool}");
        }
        let _ = stage.adit(&["remove"]).expect_success();
    }
}

#[test]
fn connections_of_a_control_group_are_captured_and_no_others() {
    need!("ip", "nft", "iptables-nft", "iptables-legacy", "bash");
    need_that!(is_root(), "only root changes the kernel's rules");
    let path = format!("adit-captured-{}", std::process::id());
    let group = Group::make(&path);
    let include = format!("[[outbound.redirect.include]]\ncgroup = \"{path}\"\n");
    let stage = Stage::with(&format!("{OUTBOUND}[outbound.redirect]\n{WIDE}{include}"));
    let _service = Answers::on(&stage.hosts, Host::B, 6000, false);
    let _door = Answers::door(&stage.hosts, false);
    let to = Host::B.at(Family::V4, 6000);
    for tool in TOOLS {
        let _ = stage.adit_within(&MOUNT, &["apply", tool]).expect_success();
        let enter = group.enter();
        let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
        assert_eq!(stage.asked_by(&enter, &to), format!("door for {to}"), "{tool}");
        assert_eq!(stage.asked_by(&[], &to), "service", "{tool}");
    }
}

/// Who answers at a port, on every address of a host, until it is dropped.
struct Answers {
    sockets: Vec<Socket>,
    threads: Vec<JoinHandle<()>>,
}

impl Answers {
    /// Who answers says `service`.
    fn on(hosts: &Hosts, host: Host, port: u16, transparent: bool) -> Self {
        let any = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        Self::at(hosts, host, &any, transparent, |_| "service".to_owned())
    }

    /// Who answers says that it is the door, and for whom the connection was.
    fn door(hosts: &Hosts, tproxy: bool) -> Self {
        let (near, wide) = (["127.0.0.1:4140", "[::1]:4140"], ["0.0.0.0:4140", "[::]:4140"]);
        let at = (if tproxy { near } else { wide }).map(str::to_owned);
        Self::at(hosts, Host::A, &at, tproxy, move |socket| {
            let socket = SockRef::from(socket);
            let meant = if tproxy {
                socket.local_addr()
            } else if socket.domain().unwrap() == Domain::IPV4 {
                socket.original_dst_v4()
            } else {
                socket.original_dst_v6()
            };
            format!("door for {}", meant.unwrap().as_socket().unwrap())
        })
    }

    fn at(
        hosts: &Hosts,
        host: Host,
        addresses: &[String],
        transparent: bool,
        say: impl Fn(&Socket) -> String + Clone + Send + 'static,
    ) -> Self {
        let mut answers = Self { sockets: Vec::new(), threads: Vec::new() };
        for address in addresses {
            let address: SocketAddr = address.parse().unwrap();
            let socket = hosts.on(host, || listen(address, transparent));
            let (accepting, say) = (socket.try_clone().unwrap(), say.clone());
            answers.sockets.push(socket);
            answers.threads.push(thread::spawn(move || {
                // Ends when the socket is shut down.
                while let Ok((caller, _)) = accepting.accept() {
                    let said = say(&caller);
                    // A caller that has gone heard nothing, which its own test will say.
                    let _ = caller.send(said.as_bytes());
                }
            }));
        }
        answers
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.sockets.iter().for_each(|socket| _ = socket.shutdown(Shutdown::Both));
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

fn listen(address: SocketAddr, transparent: bool) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    if transparent {
        set_transparent(&socket, address);
    }
    socket.bind(&SockAddr::from(address)).unwrap();
    socket.listen(16).unwrap();
    // As the agent's own doors: what they answer is its own traffic.
    socket.set_mark(0xad17).unwrap();
    socket
}

fn set_transparent(socket: &Socket, address: SocketAddr) {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).unwrap(),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).unwrap(),
    }
}

/// What who answers there says, from a socket with this mark.
fn asked(to: &Address, mark: Option<u32>) -> String {
    let socket = Socket::new(Domain::for_address(socket_of(to)), Type::STREAM, None).unwrap();
    if let Some(mark) = mark {
        socket.set_mark(mark).unwrap();
    }
    hear(&socket, to).unwrap_or_else(|error| format!("nobody: {error}"))
}

fn try_ask(to: &Address) -> std::io::Result<String> {
    let socket = Socket::new(Domain::for_address(socket_of(to)), Type::STREAM, None)?;
    // Long against any answer on one machine, short where a packet is dropped.
    socket.set_write_timeout(Some(std::time::Duration::from_secs(2)))?;
    hear(&socket, to)
}

/// As an agent does for a service that sees its client's address.
fn asked_as_client(client: &Address, to: &Address) -> String {
    let address = socket_of(to);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    set_transparent(&socket, address);
    socket.set_mark(0xad18).unwrap();
    socket.bind(&socket_of(client).into()).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    hear(&socket, to).unwrap_or_else(|error| format!("nobody: {error}"))
}

fn hear(socket: &Socket, to: &Address) -> std::io::Result<String> {
    socket.connect(&socket_of(to).into())?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut heard = Vec::new();
    std::io::Read::read_to_end(&mut &*socket, &mut heard)?;
    Ok(String::from_utf8(heard).unwrap())
}

fn socket_of(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(_) => panic!("only TCP goes through netfilter"),
    }
}

impl Stage {
    /// What a process of A's hears there that runs as this user.
    fn asked_as(&self, user: &str, to: &Address) -> String {
        self.asked_by(&["setpriv", "--reuid", user, "--clear-groups"], to)
    }

    fn asked_by(&self, enter: &[&str], to: &Address) -> String {
        let to = socket_of(to);
        let script = format!("exec 3<>/dev/tcp/{}/{} && cat <&3", to.ip(), to.port());
        let words: Vec<_> = enter.iter().copied().chain(["bash", "-c", &script]).collect();
        self.hosts.say(Host::A, &words).all()
    }
}
