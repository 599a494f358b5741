//! What a stream pays for its name: the route of a warm one and the pick of an endpoint, in time and in allocations, by
//! how many names and endpoints there are. `scripts/bench route` runs it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use adit::{
    addr::{Address, Weight, Weighted},
    balance::Balancer,
    naming::{Namers, Settings},
    router::Router,
};
use adit_config::{
    Config,
    dtab::Dtab,
    peers::{BalancerKind, OnLeave, Peers},
};
use adit_protocol::Name;
use divan::{AllocProfiler, Bencher};
use tokio::runtime::{Builder, Runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A router that knows so many names, each of which leads to a bound name of its own, and the runtime its chores need.
struct Warm {
    router: Router,
    names: Vec<Name>,
    runtime: Runtime,
}

/// A stream that asks for what is known never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a warm name waits"),
    }
}

impl Warm {
    fn of(names: u32) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        let namers = Arc::new(Namers::new(Settings::default(), TaskTracker::new(), CancellationToken::new()));
        // Room for the cold ones too.
        let router = Router::keeping(names as usize + 100_000, dtab(), peers(), namers);
        drop(guard);
        let names: Vec<_> = (0..names).map(name).collect();
        let warm = Self { router, names, runtime };
        warm.names.iter().for_each(|name| drop(at_once(warm.router.route(name)).unwrap()));
        warm
    }
}

fn name(number: u32) -> Name {
    let [_, a, b, c] = number.to_be_bytes();
    Name::parse(&format!("/svc/10.{a}.{b}.{c}")).unwrap()
}

fn dtab() -> Dtab {
    Dtab::parse("/svc/{host} => /$/inet/{host}/4143 ;").unwrap()
}

/// Rules like those of a site with a certificate for each service.
fn peers() -> Peers {
    let file = r#"
        [tls]
        ca = "/ca"
        cert = "/cert"
        key = "/key"
        [outbound]
        dtab = "/svc => /$/inet/127.0.0.1/4143"
        [[outbound.peer]]
        name = "/svc/{service}"
        identity = "prod.example"
    "#;
    Config::parse("adit.toml".as_ref(), file).unwrap().0.outbound.unwrap().peers
}

/// How many of the names are asked for in turn.
#[derive(Clone, Copy)]
enum Asked {
    /// As many as a host talks to in one moment: what it needs to know of them is at hand.
    Some = 50,
    /// Each of them, so that of a great number nothing is at hand: what is measured is the memory.
    All = 1_000_000,
}

impl Warm {
    /// Names in turn, each as whoever asks has it: in the cache. They are far apart, so that neighbours are of no use.
    fn asks(&self, asked: Asked) -> impl FnMut() -> Name {
        let (mut turn, most) = (0, self.names.len().min(asked as usize));
        move || {
            turn = (turn + 1) % most;
            self.names[turn * 7919 % self.names.len()].clone()
        }
    }

    fn bench_route(&self, bencher: Bencher<'_, '_>, asked: Asked) {
        let _inside = self.runtime.enter();
        let bencher = bencher.with_inputs(self.asks(asked));
        bencher.bench_local_refs(|name| at_once(self.router.route(black_box(name))).unwrap());
    }

    fn bench_route_and_pick(&self, bencher: Bencher<'_, '_>, asked: Asked) {
        let _inside = self.runtime.enter();
        bencher.with_inputs(self.asks(asked)).bench_local_refs(|name| {
            let way = at_once(self.router.route(black_box(name))).unwrap();
            way.balancer().pick(&[]).unwrap()
        });
    }
}

#[divan::bench(args = [10, 1_000, 100_000], sample_size = 100)]
fn route(bencher: Bencher<'_, '_>, names: u32) {
    Warm::of(names).bench_route(bencher, Asked::Some);
}

#[divan::bench(args = [10, 1_000, 100_000], sample_size = 100)]
fn route_and_pick(bencher: Bencher<'_, '_>, names: u32) {
    Warm::of(names).bench_route_and_pick(bencher, Asked::Some);
}

#[divan::bench(args = [1_000, 100_000], sample_size = 100)]
fn route_to_each(bencher: Bencher<'_, '_>, names: u32) {
    Warm::of(names).bench_route(bencher, Asked::All);
}

#[divan::bench(args = [1_000, 100_000], sample_size = 100)]
fn route_to_each_and_pick(bencher: Bencher<'_, '_>, names: u32) {
    Warm::of(names).bench_route_and_pick(bencher, Asked::All);
}

/// A name that was never asked for: beside the cost, a proof that allocations would be seen in the others.
#[divan::bench(sample_size = 1)]
fn cold_route(bencher: Bencher<'_, '_>) {
    let warm = Warm::of(1);
    let _inside = warm.runtime.enter();
    let mut next = 1;
    let new = || {
        next += 1;
        name(next)
    };
    bencher.with_inputs(new).bench_local_refs(|name| at_once(warm.router.route(name)).unwrap());
}

#[divan::bench(args = [10, 100, 1_000, 10_000], consts = [0, 1])]
fn pick<const EWMA: usize>(bencher: Bencher<'_, '_>, endpoints: u32) {
    let kind = [BalancerKind::Least, BalancerKind::Ewma][EWMA];
    let balancer = Balancer::new(Name::parse("/#/dns/db.example/4143").unwrap(), kind, OnLeave::Keep);
    let endpoint = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        let weight = Weight::thousandths(1000 * (1 + number % 5));
        Weighted { weight, ..Weighted::plain(Address::Tcp(([10, a, b, c], 4143).into())) }
    };
    balancer.update(&(0..endpoints).map(endpoint).collect());
    bencher.bench_local(|| balancer.pick(&[]).unwrap());
}
