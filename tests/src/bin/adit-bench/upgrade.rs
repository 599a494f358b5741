//! Upgrades and reloads of both hosts, one after another, while applications open streams all the time: how many of those
//! failed, which is to be none; how long an upgrade takes; and what the last agents hold beside the first ones.

use std::{
    fs,
    time::{Duration, Instant},
};

use adit_tests::{
    address::Wire,
    agent::Agent,
    churn::{Calls, under_load},
    load::Service,
    mesh::Mesh,
};

const ECHO: &str = "/svc/echo";

/// So many rounds: in each, both agents read a changed file, and are then upgraded. Returns whether no stream has failed.
pub(crate) fn run(rounds: usize) -> bool {
    let (echo, plan) = (Service::start(Wire::Tcp, "echo"), Mesh::plan());
    let socket = |name: &str| format!("socket = \"{}\"\n", plan.path(name).display());
    let (a, b) = (socket("a.sock"), socket("b.sock"));
    let mut mesh = plan.service(ECHO, echo.address()).a_also(&a).b_also(&b).start();
    let front = mesh.front(ECHO);
    println!("before   A {}   B {}", held(&mesh.a), held(&mesh.b));
    let (began, mut took) = (Instant::now(), Vec::new());
    let Calls { good, bad } = under_load(&front, || {
        for round in 1..=rounds {
            for agent in [&mut mesh.a, &mut mesh.b] {
                agent.edit(|text| format!("{text}\n# round {round}\n"));
                let _ = agent.reload().expect_success();
                let began = Instant::now();
                let _ = agent.upgrade().expect_success();
                took.push(began.elapsed());
            }
            if round % 10 == 0 {
                println!("{round:>4} rounds   A {}   B {}", held(&mesh.a), held(&mesh.b));
            }
        }
    });
    took.sort();
    let [median, most] = [took[took.len() / 2], took[took.len() - 1]].map(|span: Duration| span.as_millis());
    println!("{} upgrades and as many reloads in {:.0?}: {good} streams, {bad} failed", took.len(), began.elapsed());
    println!("an upgrade took {median} ms, the longest {most}");
    bad == 0
}

/// Descriptors and resident memory of the process that serves now.
fn held(agent: &Agent) -> String {
    let pid = agent.pid();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map_or("?", str::trim);
    format!("{descriptors} descriptors, {resident}")
}
