//! `adit delegate`: what an operator is shown of a name, with a real name server behind the table, and that it is what
//! the streams then do.

use adit_tests::{
    address::{Address, Wire},
    agent::{adit, adit_with_input},
    dns::Dns,
    end::End,
    load::Service,
    mesh::{B, Mesh},
    need,
    process::Finished,
};

/// Every way to lead somewhere or nowhere. `{port}` is that of host B's door.
const TABLE: &str = "\
/svc/{service} => /#/dns/{service}.mesh.example/{port} ;
/svc/spare => /#/dns/gone.mesh.example/{port} | /#/dns/redis.mesh.example/{port} ;
/svc/health => /$/inet/127.0.0.1/1 || /#/dns/redis.mesh.example/{port} ;
/svc/shared => 3 * /#/dns/redis.mesh.example/{port} & 1 * /#/dns/gone.mesh.example/{port} & ~ ;
/svc/never => ! | /#/dns/redis.mesh.example/{port} ;
/a => /b ; /b => /a ; /svc/loop => /a ;
/svc/silent => /#/dns/silent.mesh.example/{port} ;";

struct World {
    dns: Dns,
    mesh: Mesh,
    _echo: Service,
}

#[test]
fn a_name_is_shown_step_by_step_to_the_endpoint_that_its_streams_go_to() {
    need!("unbound", "unbound-control");
    let world = world();
    let door = world.mesh.b.inbound().to_string();
    let page = world.ask(&["/svc/redis"]).expect_success();
    let bound = format!("/#/dns/redis.mesh.example/{}", world.mesh.b.inbound().port());
    let line =
        |text: &str| page.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {page}"));
    assert_eq!(page.lines().next(), Some("/svc/redis"));
    let rule = line("rule 1 (");
    assert!(page.lines().nth(rule).unwrap().contains("/svc/{service} => /#/dns/{service}.mesh.example/"), "{page}");
    assert!(rule < line(&bound) && line(&bound) < line("answer      1 address, "), "{page}");
    assert!(page.contains(&format!("must prove  {B} ([[outbound.peer]] 1), asked for /svc/redis")), "{page}");
    assert!(page.contains(&format!("> {door}   up   0 streams")), "{page}");
    assert_eq!(page.lines().last(), Some(format!("would go to {door}").as_str()));
    assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
    // and the rule's place is its line and column in the file
    let file = std::fs::read_to_string(world.mesh.a.dir().join("adit.toml")).unwrap();
    let (number, text) = file.lines().enumerate().find(|(_, line)| line.contains("/svc/{service} =>")).unwrap();
    let column = text.find("/svc/{service}").unwrap() + 1;
    assert!(page.contains(&format!("rule 1 ({}:{column})", number + 1)), "{page}");
    // and a stream goes there
    End::try_echo(&world.mesh.front("/svc/redis")).unwrap();
}

#[test]
fn each_branch_says_why_it_is_taken_or_not() {
    need!("unbound", "unbound-control");
    let world = world();
    let door = format!("would go to {}", world.mesh.b.inbound());
    // Past a name that is not there; the earlier rule is the fallback, and is not taken.
    world.dns.answer("spare.mesh.example", 60, &["127.0.0.1"]);
    let page = world.ask(&["/svc/spare"]).expect_success();
    assert!(page.contains("|   the first that is there") && page.contains("no such name, or no address, "), "{page}");
    assert_eq!(page.lines().last(), Some(door.as_str()), "{page}");
    assert!(
        page.contains("/#/dns/spare.mesh.example/") && page.contains("(not taken: another branch comes first)"),
        "{page}"
    );
    // By weight, without what is not there.
    let page = world.ask(&["/svc/shared"]).expect_success();
    assert!(page.contains("&   one of these, by weight") && page.contains("3 * /#/dns/redis.mesh.example/"), "{page}");
    assert!(page.contains("~   nothing: the next is asked"), "{page}");
    assert_eq!(page.lines().last(), Some(door.as_str()), "{page}");
}

#[test]
fn an_endpoint_that_is_down_is_passed_over_where_the_rule_says_so() {
    need!("unbound", "unbound-control");
    let world = world();
    let page = world.ask(&["/svc/health"]).expect_success();
    assert_eq!(page.lines().last(), Some("would go to 127.0.0.1:1"), "{page}");
    // when a stream has found out that nobody is there
    End::try_echo(&world.mesh.front("/svc/health")).unwrap();
    // then the next one would go to the other at once
    let page = world.ask(&["/svc/health"]).expect_success();
    assert!(page.contains("||  the first that is up") && page.contains("down, tried again in "), "{page}");
    assert!(page.contains("Connection refused"), "{page}");
    let door = format!("would go to {}", world.mesh.b.inbound());
    assert_eq!(page.lines().last(), Some(door.as_str()), "{page}");
}

#[test]
fn a_refusal_is_in_the_words_of_a_streams_own() {
    need!("unbound", "unbound-control");
    let world = world();
    let refused = |name: &str, why: &str| {
        let ended = world.ask(&[name]);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
        let last = ended.stdout.lines().last().unwrap().to_owned();
        assert!(last.starts_with(&format!("would be refused: {why}")), "{last}");
        let said = last.trim_start_matches("would be refused: ").to_owned();
        // and `adit ping`, which is a stream, says the same
        let ping = world.mesh.a.ping(name);
        assert!(ping.all().contains(&said), "{said}: {}", ping.all());
        ended.stdout
    };
    let page = refused("/svc/never", "'/svc/never' is forbidden by a rule ('!')");
    assert!(page.contains("(never reached: a `!` or `$` comes first)"), "{page}");
    let page =
        refused("/svc/loop", "the rules loop: '/a' leads back to itself by rule 6 (/a => /b), rule 7 (/b => /a)");
    assert!(page.contains("rule 8 ("), "{page}");
    refused("/svc/gone", "nothing answers to '/svc/gone': there is no address of /#/dns/gone.mesh.example/");
    refused("/else", "no rule knows '/else'");
}

#[test]
fn a_server_that_says_nothing_is_waited_for_a_while() {
    need!("unbound", "unbound-control");
    let world = world();
    world.dns.keep_silent_about("silent.mesh.example");
    let ended = world.ask(&["/svc/silent"]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    let last = ended.stdout.lines().last().unwrap();
    assert!(last.starts_with("pending: the namer of '/#/dns/silent.mesh.example/"), "{last}");
}

#[test]
fn an_edited_table_is_tried_and_changes_nothing() {
    need!("unbound", "unbound-control");
    let world = world();
    let port = world.mesh.b.inbound().port();
    let file = world.mesh.a.dir().join("edited.dtab");
    std::fs::write(&file, format!("# an experiment\n/else => /#/dns/redis.mesh.example/{port} ;\n")).unwrap();
    let file = file.display().to_string();
    // given a name that the agent's own table does not know, then by the edited one it leads somewhere
    let ended = world.ask(&["/else", "--dtab", &file]);
    // (nobody is expected under such a name, so no stream would be opened)
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    let page = ended.stdout;
    assert!(page.contains("rule 1 (2:1 of the table)  /else => "), "{page}");
    assert!(page.contains("would be refused: no [[outbound.peer]] that matches /else "), "{page}");
    // and for one that is known, to another place
    let other = format!("/svc => /$/inet/127.0.0.1/{port} | ! ;");
    let page = world.ask_with_input(&["/svc/redis", "--dtab", "-"], &other).expect_success();
    assert!(page.contains(&format!("/$/inet/127.0.0.1/{port}   (left over and ignored: /redis)")), "{page}");
    // and nothing is changed
    assert!(world.ask(&["/svc/redis"]).expect_success().contains("rule 1 ("));
    let status = world.mesh.a.admin("/status");
    assert!(!status.contains("\"name\": \"/else\""), "{status}");
}

#[test]
fn the_mistakes_of_an_edited_table_are_told_with_their_places() {
    need!("unbound", "unbound-control");
    let world = world();
    let ended = world.ask_with_input(&["/svc/redis", "--dtab", "-"], "/a -> /b ;\n/c => /#/zk/x ;\n");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("standard input:1:4: '->' does not belong here"), "{lines:?}");
    assert!(lines[1].starts_with("standard input:2:7: '/#/zk' is not a namer this version has"), "{lines:?}");
    let long = world.ask_with_input(&["/svc/redis", "--dtab", "-"], &"#".repeat((1 << 20) + 1));
    assert!(long.stderr.contains("longer than 1 MiB"), "{}", long.all());
    assert_eq!(adit(&["delegate", "svc"]).status.code(), Some(2));
}

#[test]
fn it_is_answered_on_the_socket_only() {
    let b = Mesh::plan().service("/svc/echo", &Address::parse("127.0.0.1:9"));
    let (b, _dir) = b.start_b();
    for method in ["GET", "POST"] {
        let answer = b.admin_answer(method, "/delegate?name=/svc/echo");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\n/delegate is answered on the admin socket only\n"), "{answer}");
    }
    let file = b.dir().join("adit.toml").display().to_string();
    let ended = adit(&["delegate", "/svc/echo", "--config", &file]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.all());
    assert!(ended.stderr.contains("opens no admin socket"), "{}", ended.all());
}

#[test]
fn the_inbound_table_is_asked_where_that_is_wanted() {
    let plan = Mesh::plan().service("/svc/echo", &Address::parse("127.0.0.1:9"));
    let socket = plan.path("b.sock").display().to_string();
    let plan = plan.b_table("/local => /$/inet/127.0.0.1/9 ;").b_also(&format!("socket = \"{socket}\"\n"));
    let (_b, _dir) = plan.start_b();
    let page = adit(&["delegate", "/local", "--inbound", "--socket", &socket]).expect_success();
    assert!(!page.contains("must prove"), "{page}");
    assert_eq!(page.lines().last(), Some("would go to 127.0.0.1:9"));
    let hinted = adit(&["delegate", "/svc/echo", "--inbound", "--socket", &socket]);
    let hint = "no rule knows '/svc/echo'; it is the name of a service, whose `to` is 127.0.0.1:9";
    assert!(!hinted.status.success() && hinted.stdout.contains(hint), "{}", hinted.all());
    let ended = adit(&["delegate", "/local", "--socket", &socket]);
    assert_eq!(ended.stderr, "adit: this agent has no [outbound]\n");
}

fn world() -> World {
    let dns = Dns::start();
    dns.answer("redis.mesh.example", 60, &["127.0.0.1"]);
    let echo = Service::start(Wire::Tcp, "echo");
    let plan = Mesh::plan().service("/svc/redis", echo.address()).service("/svc/health", echo.address());
    let socket = format!("socket = \"{}\"\n", plan.path("a.sock").display());
    // The mesh writes the table between quotation marks; two more on each side let it have lines of its own.
    let mesh = plan.table(&format!("\"\"\n{TABLE}\n\"\"")).a_also(&socket).a_also(&dns.table()).start();
    World { dns, mesh, _echo: echo }
}

impl World {
    fn ask(&self, arguments: &[&str]) -> Finished {
        self.ask_with_input(arguments, "")
    }

    /// The same with text on standard input.
    fn ask_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        let file = self.mesh.a.dir().join("adit.toml").display().to_string();
        adit_with_input(&[&["delegate", "--config", &file], arguments].concat(), input)
    }
}
