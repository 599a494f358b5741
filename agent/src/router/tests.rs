//! What a router promises, with real rules and namers against a DNS server of the test.

use super::*;
use crate::addr::Address;
use crate::naming::Settings;
use crate::naming::server::{Reply, Server, found};
use crate::streams::Direction;
use adit_config::Config;
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

#[tokio::test]
async fn the_status_shows_no_endpoint_of_a_name_that_is_gone_though_no_stream_asks() {
    let world = world("/svc => /#/dns/redis.prod/1 ;").await;
    world.server.set("redis.prod", found(0, &["10.0.0.1"]));
    world.route("/svc").await.unwrap();
    let endpoints = || world.router.status().balancers[0].balancer.endpoints.len();
    assert_eq!(endpoints(), 1);
    world.server.set("redis.prod", Reply::Gone(60));
    let gone = async {
        while endpoints() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("within patience");
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
        ("/gone", "no_such_name", "nothing answers to '/gone': there is no address of /#/dns/gone.prod/1"),
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
    assert_eq!((status.routes.len(), status.balancers[0].balancer.endpoints[0].open), (0, 1));
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

/// Lets every endpoint of a way fail.
fn fail(way: &Way) {
    let mut failed = Vec::new();
    while let Some(lease) = way.balancer().pick(&failed) {
        lease.failed("refused");
        failed.push(lease.address().clone());
    }
}

#[tokio::test]
async fn a_failover_leaves_a_name_that_is_down_and_tries_it_anyway_when_all_are() {
    let world = world("/svc => /$/inet/10.0.0.1/1 || /$/inet/10.0.0.2/1 ;").await;
    let first = world.route("/svc").await.unwrap();
    assert_eq!(world.address("/svc").await, "10.0.0.1:1");
    fail(&first);
    let second = world.route("/svc").await.unwrap();
    assert_eq!(world.address("/svc").await, "10.0.0.2:1");
    fail(&second);
    assert_eq!(world.address("/svc").await, "10.0.0.1:1");
}

#[tokio::test]
async fn a_failover_goes_past_a_namer_that_failed() {
    let world = world("/svc => /#/dns/first.prod/1 || /#/dns/second.prod/1 ;").await;
    world.server.set("first.prod", Reply::Code(ResponseCode::ServFail));
    world.server.set("second.prod", found(60, &["10.0.0.2"]));
    assert_eq!(world.address("/svc").await, "10.0.0.2:1");
}

#[tokio::test]
async fn a_stream_that_used_a_way_up_is_led_to_the_next_only_where_the_rules_fail_over() {
    let rules = "/over => /$/inet/10.0.0.1/1 || /$/inet/10.0.0.2/1 ;
        /one => /$/inet/10.0.0.1/1 | /$/inet/10.0.0.2/1 ;
        /any => /$/inet/10.0.0.1/1 & /$/inet/10.0.0.2/1 ;";
    let world = world(rules).await;
    let first = world.router.way(&name("/over"), bound("/$/inet/10.0.0.1/1"));
    let second = world.router.way(&name("/over"), bound("/$/inet/10.0.0.2/1"));
    let past = async |spent: &[Arc<Way>], asked: &str| {
        let way = world.router.route_past(spent, &name(asked)).await;
        way.map(|way| way.bound().to_string()).map_err(|error| error.to_string())
    };
    let one = [first.clone()];
    assert_eq!(past(&one, "/over").await.unwrap(), "/$/inet/10.0.0.2/1");
    assert_eq!(past(&one, "/any").await.unwrap(), "/$/inet/10.0.0.2/1");
    assert_eq!(past(&one, "/one").await.unwrap_err(), "all that '/one' leads to was tried");
    assert_eq!(past(&[first, second], "/over").await.unwrap_err(), "all that '/over' leads to was tried");
}

fn bound(text: &str) -> Bound {
    Bound::parse(&name(text)).unwrap()
}

/// Rules for peers, as a file would have them.
fn peers(rules: &str) -> Peers {
    let around = r#"
        [tls]
        ca = "/ca"
        cert = "/cert"
        key = "/key"
        [outbound]
        dtab = "/svc => /$/inet/127.0.0.1/1"
    "#;
    let (config, _) = Config::parse("adit.toml".as_ref(), &[around, rules].concat()).unwrap();
    config.outbound.unwrap().peers
}

#[tokio::test]
async fn new_rules_hold_for_new_streams_and_a_known_road_keeps_what_is_known_of_it() {
    let world = world("/svc => /$/inet/10.0.0.1/1 ; /old => /$/inet/10.0.0.9/1 ;").await;
    let before = world.route("/svc").await.unwrap();
    assert!(before.expectation().is_err());
    let held = before.balancer().pick(&[]).unwrap();
    held.failed("refused");
    let dtab = Dtab::parse("/svc => /$/inet/10.0.0.1/1 || /$/inet/10.0.0.2/1 ;").unwrap();
    let rules = "[[outbound.peer]]\nname = \"/svc\"\nidentity = \"b.example\"\npool = 7\n";
    world.router.change(dtab.clone(), peers(rules));
    assert_eq!(*world.router.dtab(), dtab);
    assert_eq!(world.route("/old").await.unwrap_err().label(), "no_such_name");
    assert_eq!(world.address("/svc").await, "10.0.0.2:1", "what is known of the first is that it is down");
    let after = world.router.way(&name("/svc"), bound("/$/inet/10.0.0.1/1"));
    assert!(after.shares_road(&before));
    assert_eq!((after.settings().pool, after.balancer().open()), (Some(7), 1));
    assert_eq!(after.expectation().unwrap().name, name("/svc"));
    // A balancer of another kind counts anew.
    world.router.change(dtab, peers("[[outbound.peer]]\nname = \"/svc\"\nbalancer = \"ewma\"\n"));
    let anew = world.route("/svc").await.unwrap();
    assert_eq!((anew.bound().as_str(), anew.balancer().open()), ("/$/inet/10.0.0.1/1", 0));
}

#[tokio::test]
async fn an_endpoint_that_leaves_is_noticed_without_a_new_stream_where_its_streams_end() {
    let world = world("/svc => /#/dns/redis.prod/1 ;").await;
    world.server.set("redis.prod", found(0, &["10.0.0.1", "10.0.0.2"]));
    let rules = "[[outbound.peer]]\nname = \"/svc\"\non_leave = \"1ms\"\n";
    world.router.change((*world.router.dtab()).clone(), peers(rules));
    let way = world.route("/svc").await.unwrap();
    let held = way.balancer().pick(&[Address::Tcp("10.0.0.2:1".parse().unwrap())]).unwrap();
    world.server.set("redis.prod", found(0, &["10.0.0.2"]));
    timeout(PATIENCE, held.left()).await.expect("its stream is ended");
    assert_eq!(way.balancer().status().left, 1);
    let other = way.balancer().pick(&[]).unwrap();
    world.server.set("redis.prod", Reply::Code(ResponseCode::NXDomain));
    timeout(PATIENCE, other.left()).await.expect("a name that is gone has left too");
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

/// What a report says of its bound names.
fn standings(report: &delegate::Report) -> Vec<(&str, delegate::Standing)> {
    let bound = report.rows.iter().filter_map(|row| match &row.what {
        delegate::What::Bound(place) => Some((place.name.as_str(), place.standing)),
        _ => None,
    });
    bound.collect()
}

#[tokio::test]
async fn a_report_says_of_each_bound_name_whether_streams_go_there() {
    use delegate::Standing::{Absent, Behind, Drawn, PassedOver, Taken, Unasked};
    let rules = "/svc => /$/inet/10.0.0.9/1 ;
        /svc => /#/dns/gone.prod/1 | /$/inet/10.0.0.1/1 | (/$/inet/10.0.0.2/1 | ! | /$/inet/10.0.0.3/1) ;
        /two => 1 * /$/inet/10.0.0.1/1 & 0.5 * /$/inet/10.0.0.2/1 & 3 * /#/dns/gone.prod/1 ;
        /a => /a ; /bad => /$/inet/10.0.0.1/1 | /a ;";
    let world = world(rules).await;
    let report = async |asked: &str| {
        let asked = name(asked);
        let report = world.router.delegate(Direction::Inbound, &asked, None);
        timeout(PATIENCE, report).await.expect("within patience")
    };
    let svc = report("/svc").await;
    let (one, two, three, gone) =
        ("/$/inet/10.0.0.1/1", "/$/inet/10.0.0.2/1", "/$/inet/10.0.0.3/1", "/#/dns/gone.prod/1");
    let expected =
        [(gone, Absent), (one, Taken), (two, PassedOver), (three, Behind), ("/$/inet/10.0.0.9/1", PassedOver)];
    assert_eq!(standings(&svc), expected);
    assert_eq!(svc.outcome, delegate::Fate::To { address: "10.0.0.1:1".into(), bound: one.into(), down: false });
    assert_eq!(standings(&report("/two").await), [(one, Drawn), (two, Drawn), (gone, Absent)]);
    let bad = report("/bad").await;
    assert_eq!(standings(&bad), [(one, Unasked)]);
    assert!(matches!(bad.outcome, delegate::Fate::Refused(why) if why.starts_with("the rules loop: '/a'")));
    // and no name is in use for it
    assert!(world.router.status().routes.is_empty());
}

#[tokio::test]
async fn a_report_by_an_edited_table_goes_over_the_same_roads_and_changes_no_rule() {
    let world = world("/svc => /$/inet/10.0.0.1/1 ;").await;
    let lease = world.route("/svc").await.unwrap().balancer().pick(&[]).unwrap();
    let edited = Dtab::parse("/other => /$/inet/10.0.0.1/1 ;").unwrap();
    let other = name("/other");
    let asked = world.router.delegate(Direction::Inbound, &other, Some(edited));
    let report = timeout(PATIENCE, asked).await.expect("within patience");
    let delegate::What::Bound(place) = &report.rows[2].what else { panic!("{report:?}") };
    assert_eq!(place.endpoints[0].open, 1, "the stream that is there is seen");
    assert_eq!(world.address("/other").await, "no rule knows '/other'");
    drop(lease);
}

#[test]
fn the_work_of_a_report_takes_no_time_from_the_runtime_that_streams_are_on() {
    let new = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (streams, operator) = (new(), new());
    let world = streams.block_on(world("/svc => /$/inet/10.0.0.1/1 ;"));
    // given that runtime with no time for anybody, when another asks, then it has its answer
    let asked = name("/svc");
    let report = operator.block_on(async {
        let report = world.router.delegate(Direction::Inbound, &asked, None);
        timeout(PATIENCE, report).await.expect("within patience")
    });
    assert!(matches!(report.outcome, delegate::Fate::To { address, .. } if address == "10.0.0.1:1"));
}

#[tokio::test]
async fn a_trial_of_a_table_that_leads_to_hundreds_of_names_asks_for_none() {
    let world = world("/svc => /$/inet/10.0.0.1/1 ;").await;
    let branches: Vec<_> = (0..257).map(|at| format!("/#/dns/h{at}.test/1")).collect();
    let edited = Dtab::parse(&format!("/svc => {} ;", branches.join(" & "))).unwrap();
    let report = world.router.delegate(Direction::Outbound, &name("/svc"), Some(edited)).await;
    let delegate::Fate::Pending(why) = report.outcome else { panic!("{:?}", report.outcome) };
    assert!(why.starts_with("the table leads '/svc' to 257 bound names, and a trial asks for 256 at most"), "{why}");
    assert_eq!(world.router.inner.namers.followed(), 0);
    assert_eq!(report.rows.len(), 3 + 257);
}
