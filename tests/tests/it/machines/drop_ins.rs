//! The drop-ins that are shipped beside the unit, each as it is: with it the agent does, in its sandbox, what the file asks
//! for; without it the agent says what it lacks, and carries nothing.

use adit_tests::{
    machine::{self, Machine},
    need, need_that,
    netns::Hosts,
    wait::{LIMIT, until},
};

use super::furnish::{Redis, boot, furnish};

/// Where the package has them.
const EXAMPLES: &str = "/usr/share/doc/adit/examples";
/// Where they take effect.
const FOLDER: &str = "/etc/systemd/system/adit.service.d";
const FILE: &str = "/etc/adit/adit.toml";

#[test]
fn each_drop_in_gives_the_agent_what_it_says_and_nothing_else_does() {
    need!("redis-cli");
    need_that!(machine::missing().is_none(), machine::missing().unwrap());
    let hosts = Hosts::join();
    let (a, b) = boot(&hosts);
    furnish(&a, &b);
    a.shell(&format!("mkdir --parents {FOLDER}"));
    let first = a.shell(&format!("cat {FILE}")) + "\n";

    // keys that only root reads
    a.shell("chmod 0600 /etc/adit/tls/* && chown root: /etc/adit/tls/*");
    let text = first.replace("/etc/adit/tls/", "credential:");
    refuses(&a, &text, "let LoadCredential= of the systemd unit name it");
    takes(&a, "credentials");
    Redis::connect(&hosts).serves();
    let nobody = a.say(&["runuser", "-u", "adit", "--", "cat", "/etc/adit/tls/host.key"]);
    assert!(nobody.stderr.contains("Permission denied"), "{}", nobody.all());
    leaves(&a, "credentials");
    a.shell("chown root:adit /etc/adit/tls/* && chmod 0640 /etc/adit/tls/*");

    // a door at a port below 1024
    let low = "[[outbound.listener]]\nlisten = \"127.0.0.1:79\"\nto = \"/dst/10.77.0.2/6379\"\n";
    refuses(&a, &format!("{first}{low}"), "CAP_NET_BIND_SERVICE  [[outbound.listener]] listen 127.0.0.1:79");
    takes(&a, "low-ports");
    assert_eq!(a.shell("redis-cli -p 79 ping"), "PONG");
    leaves(&a, "low-ports");

    // a process behind a unix socket
    let unix = "[[outbound.listener]]\nlisten = \"unix:/run/adit/redis.sock\"\nmode = \"0666\"\n\
                to = \"/dst/10.77.0.2/6379\"\n[[outbound.workload]]\nunit = \"app.service\"\nallow = true\n\
                [[outbound.workload]]\ndeny = true\n";
    let app = || {
        let run = ["systemd-run", "--unit=app.service", "--quiet", "--wait", "--pipe", "--collect"];
        a.say(&[&run[..], &["redis-cli", "-s", "/run/adit/redis.sock", "ping"]].concat()).all()
    };
    a.write(FILE, format!("{first}{unix}"));
    a.shell("systemctl restart adit.service");
    assert!(!app().contains("PONG"), "the agent has not seen whose the connection is");
    takes(&a, "unix-workloads");
    assert!(app().contains("PONG"), "{}", a.journal("adit.service"));
    let stranger = a.say(&["redis-cli", "-s", "/run/adit/redis.sock", "ping"]).all();
    assert!(!stranger.contains("PONG"), "{stranger}");
    leaves(&a, "unix-workloads");

    // TPROXY
    let text = first.replace("[outbound.redirect]\n", "[outbound.redirect]\nmode = \"tproxy\"\n");
    refuses(&a, &text, "CAP_NET_ADMIN         [outbound.redirect] mode \"tproxy\"");
    takes(&a, "capture");
    a.shell("systemctl reload adit-redirect.service");
    Redis::connect(&hosts).serves();
    leaves(&a, "capture");

    // and the rules, held by the agent itself
    a.write(FILE, &first);
    takes(&a, "redirect");
    a.shell("systemctl disable adit-redirect.service");
    assert_eq!(a.say(&["systemctl", "is-active", "adit-redirect.service"]).stdout.trim(), "inactive");
    assert_eq!(a.shell("adit redirect status | grep ^configuration"), "configuration: matches");
    Redis::connect(&hosts).serves();
    a.shell("systemctl reload adit.service && systemctl stop adit.service");
    assert_eq!(a.shell("adit redirect remove"), "nothing of adit's is installed");
}

/// By this file, the agent as it is shipped does not start, and says why.
fn refuses(machine: &Machine<'_>, text: &str, why: &str) {
    machine.write(FILE, text);
    machine.shell("systemctl restart --no-block adit.service");
    until(&format!("the agent to say {why}"), LIMIT, || machine.journal("adit.service").contains(why).then_some(()));
}

/// Installs a drop-in as the package has it, by which the agent starts.
fn takes(machine: &Machine<'_>, name: &str) {
    machine.shell(&format!("cp {EXAMPLES}/{name}.conf {FOLDER} && systemctl daemon-reload"));
    machine.shell("systemctl restart adit.service");
}

/// Takes it away again.
fn leaves(machine: &Machine<'_>, name: &str) {
    machine.shell(&format!("rm {FOLDER}/{name}.conf && systemctl daemon-reload"));
}
