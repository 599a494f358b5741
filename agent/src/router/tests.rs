//! What a router promises, with real rules and namers against a DNS server of the test.

use super::*;
use crate::addr::Address;
use crate::naming::Settings;
use crate::naming::server::{Reply, Server, found};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// No wait of a test is longer; only a broken one comes near.
const PATIENCE: Duration = Duration::from_secs(20);

const MANY: usize = 10_000;

struct World {
    server: Server,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A router by these rules, with a DNS server of its own.
async fn world(rules: &str) -> World {
    let server = Server::start().await;
    let settings = Settings {
        servers: vec![server.address],
        min_ttl: Duration::from_millis(50),
        negative_ttl: Duration::from_millis(50),
        ..Settings::default()
    };
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let namers = Arc::new(Namers::new(settings, tasks.clone(), stop.clone()));
    let router = Router::new(Dtab::parse(rules).unwrap(), Peers::default(), namers);
    World { server, router, tasks, stop }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl World {
    async fn route(&self, asked: &str) -> Result<Arc<Way>, RouteError> {
        let name = name(asked);
        timeout(PATIENCE, self.router.route(&name)).await.expect("within patience")
    }

    /// Where the next stream to a name goes.
    async fn address(&self, asked: &str) -> String {
        match self.route(asked).await {
            Ok(way) => way.balancer().pick(&[]).expect("an endpoint").address().to_string(),
            Err(error) => error.to_string(),
        }
    }
}

#[tokio::test]
async fn a_name_leads_through_rules_and_dns_to_an_endpoint() {
    let world = world("/svc/{service} => /#/dns/{service}.prod.internal/4143 ;").await;
    world.server.set("redis.prod.internal", found(60, &["10.0.0.1"]));
    let way = world.route("/svc/redis").await.unwrap();
    let lease = way.balancer().pick(&[]).unwrap();
    assert_eq!(lease.address(), &Address::Tcp("10.0.0.1:4143".parse().unwrap()));
    assert_eq!(lease.bound().as_str(), "/#/dns/redis.prod.internal/4143");
}

#[tokio::test]
async fn a_warm_name_is_answered_without_waiting_or_asking() {
    let world = world("/svc => /#/dns/redis.prod/1 ;").await;
    world.server.set("redis.prod", found(60, &["10.0.0.1"]));
    let first = world.route("/svc").await.unwrap();
    world.server.set("redis.prod", Reply::Silence);
    let svc = name("/svc");
    let second = at_once(world.router.route(&svc)).expect("no wait").unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(world.server.asked("redis.prod", RecordType::A), 1);
}

/// What a future gives without waiting, if it does.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn an_alternative_takes_over_only_for_what_does_not_exist() {
    let world = world("/svc => /#/dns/first.prod/1 | /#/dns/second.prod/1 ;").await;
    world.server.set("second.prod", found(60, &["10.0.0.2"]));
    assert_eq!(world.address("/svc").await, "10.0.0.2:1");

    let failing = self::world("/svc => /#/dns/first.prod/1 | /#/dns/second.prod/1 ;").await;
    failing.server.set("first.prod", Reply::Code(ResponseCode::ServFail));
    failing.server.set("second.prod", found(60, &["10.0.0.2"]));
    let error = failing.route("/svc").await.unwrap_err();
    assert_eq!(error.label(), "namer_failed");
    assert!(error.to_string().starts_with("the addresses of '/#/dns/first.prod/1', to which '/svc' leads,"), "{error}");
}

#[tokio::test]
async fn each_way_to_lead_nowhere_has_its_own_words() {
    let world = world("/gone => /#/dns/gone.prod/1 ; /no => ! ; /none => $ ; /a => /b ; /b => /a ;").await;
    let rows = [
        ("/what", "no_such_name", "no rule knows '/what'"),
        ("/gone", "no_such_name", "nothing answers to '/gone': DNS knows no address of /#/dns/gone.prod/1"),
        ("/no", "forbidden", "'/no' is forbidden by a rule ('!')"),
        ("/none", "empty", "'/none' is empty by a rule ('$'): it has no address"),
        ("/a", "rules", "the rules loop: '/a' leads back to itself by rule 4 (/a => /b), rule 5 (/b => /a)"),
    ];
    for (asked, label, told) in rows {
        let error = world.route(asked).await.unwrap_err();
        assert_eq!((error.label(), error.to_string().as_str()), (label, told));
    }
}

#[tokio::test]
async fn a_union_shares_streams_by_weight() {
    let world = world("/svc => 9 * /$/inet/10.0.0.1/1 & 1 * /$/inet/10.0.0.2/1 ;").await;
    let mut seldom = 0;
    for _ in 0..1000 {
        seldom += usize::from(world.address("/svc").await == "10.0.0.2:1");
    }
    assert!((50..150).contains(&seldom), "{seldom} of 1000");
}

#[tokio::test]
async fn two_names_of_one_service_count_its_streams_together() {
    let world = world("/a => /$/inet/10.0.0.1/1 ; /b => /$/inet/10.0.0.1/1 ;").await;
    let one = world.route("/a").await.unwrap();
    let other = world.route("/b").await.unwrap();
    assert!(one.shares_road(&other));
    assert_eq!(world.router.status().balancers.len(), 1);
}

#[tokio::test]
async fn a_name_that_nobody_uses_is_dropped_and_a_stream_keeps_its_road() {
    let world = world("/svc => /$/inet/10.0.0.1/1 ;").await;
    let lease = world.route("/svc").await.unwrap().balancer().pick(&[]).unwrap();
    let later = Instant::now() + Duration::from_secs(601);
    world.router.inner.tables().sweep(later);
    world.router.inner.tables().sweep(later);
    let status = world.router.status();
    assert_eq!((status.routes.len(), status.balancers[0].endpoints[0].open), (0, 1));
    drop(lease);
    world.router.inner.tables().sweep(later);
    world.router.inner.tables().sweep(later);
    assert!(world.router.status().balancers.is_empty());
}

#[tokio::test]
async fn names_beyond_the_bound_make_room() {
    let world = world("/svc/* => /$/inet/10.0.0.1/1 ;").await;
    for at in 0..2 * MANY {
        world.route(&format!("/svc/{at}")).await.unwrap();
    }
    assert!(world.router.status().routes.len() < 2 * MANY);
}

#[tokio::test]
async fn its_task_ends_with_the_token() {
    let world = world("").await;
    world.stop.cancel();
    world.tasks.close();
    timeout(PATIENCE, world.tasks.wait()).await.expect("the task ends");
}

#[tokio::test]
async fn its_status_tells_what_leads_where() {
    let world = world("/svc => /$/inet/10.0.0.1/1 | /$/unix/run/a.sock ;").await;
    world.route("/svc").await.unwrap();
    let status = serde_json::to_value(world.router.status()).unwrap();
    assert_eq!(status["routes"][0]["tree"], "/$/inet/10.0.0.1/1 | /$/unix/run/a.sock");
    assert_eq!(status["balancers"][0]["endpoints"][0]["health"], "up");
}
