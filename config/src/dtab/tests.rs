//! What a table promises, from its text to a bound name: Linkerd's documented examples as a table,
//! each error with its place, and the laws that hold for every table.

use super::*;
use proptest::prelude::*;

fn table(text: &str) -> Dtab {
    Dtab::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Where `asked` leads, printed; or the error.
fn leads(text: &str, asked: &str) -> String {
    match table(text).look_up(&name(asked)) {
        Ok(tree) => tree.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Why `asked` leads nowhere.
fn fails(text: &str, asked: &str) -> LookUpError {
    table(text).look_up(&name(asked)).expect_err("an error")
}

/// What Linkerd's and Finagle's documents of delegation tables show, with our bound names.
#[test]
fn the_documented_examples_lead_where_they_should() {
    let rows = [
        // A prefix is replaced and the rest kept.
        ("/host => /$/inet ;", "/host/web.prod/80", "/$/inet/web.prod/80"),
        // Rules apply again and again.
        ("/s => /$/inet/127.0.0.1 ; /svc => /s ;", "/svc/8080", "/$/inet/127.0.0.1/8080"),
        // The later rule is asked first, the earlier one is its fallback.
        ("/svc => /#/dns/a/1 ; /svc => /#/dns/b/1 ;", "/svc", "/#/dns/b/1 | /#/dns/a/1"),
        // No longest prefix: only the order counts.
        ("/svc/x => /#/dns/a/1 ; /svc => /#/dns/b/1 ;", "/svc/x", "/#/dns/b/1 | /#/dns/a/1"),
        // Segments, not characters.
        ("/svc => /#/dns/a/1 ; /sv => /#/dns/b/1 ;", "/svc", "/#/dns/a/1"),
        // A wildcard takes one segment, anywhere in the prefix.
        ("/http/1.1/*/web => /#/dns/w/1 ;", "/http/1.1/GET/web", "/#/dns/w/1"),
        ("/http/*/web => /#/dns/w/1 ;", "/http/1.1/GET/web", "no rule knows '/http/1.1/GET/web'"),
        // `|`, `~`, `!` and `$`.
        ("/svc => /#/dns/a/1 | /#/dns/b/1 ;", "/svc", "/#/dns/a/1 | /#/dns/b/1"),
        ("/svc => ~ | /#/dns/b/1 ;", "/svc", "/#/dns/b/1"),
        ("/svc => /#/dns/a/1 ; /svc => ~ ;", "/svc", "/#/dns/a/1"),
        ("/svc => /#/dns/a/1 ; /svc => ! ;", "/svc", "'/svc' is forbidden by a rule ('!')"),
        ("/svc => /#/dns/a/1 ; /svc => $ ;", "/svc", "'/svc' is empty by a rule ('$'): it has no address"),
        ("/svc => /#/dns/a/1 | ! | /#/dns/b/1 ;", "/svc", "/#/dns/a/1 | !"),
        // `&` draws by weight and drops dead branches.
        ("/svc => 0.9 * /#/dns/a/1 & 0.1 * /#/dns/b/1 ;", "/svc", "0.9 * /#/dns/a/1 & 0.1 * /#/dns/b/1"),
        ("/svc => 9 * /nowhere & 1 * /#/dns/b/1 ;", "/svc", "/#/dns/b/1"),
        ("/svc => 9 * ! & 1 * /#/dns/b/1 ;", "/svc", "/#/dns/b/1"),
        ("/svc => /nowhere & ~ ;", "/svc", "no rule knows '/svc'"),
        // `&` binds tighter than `|`; parentheses bind tightest.
        ("/s => /#/dns/a/1 & /#/dns/b/1 | /#/dns/c/1 ;", "/s", "/#/dns/a/1 & /#/dns/b/1 | /#/dns/c/1"),
        ("/s => /#/dns/a/1 & (/#/dns/b/1 | /#/dns/c/1) ;", "/s", "/#/dns/a/1 & (/#/dns/b/1 | /#/dns/c/1)"),
        // `||` binds tighter than `|` and looser than `&`; it drops and stops as `|` does.
        ("/s => /#/dns/a/1 || /#/dns/b/1 | /#/dns/c/1 ;", "/s", "/#/dns/a/1 || /#/dns/b/1 | /#/dns/c/1"),
        ("/s => /#/dns/a/1 | /#/dns/b/1 || /#/dns/c/1 ;", "/s", "/#/dns/a/1 | /#/dns/b/1 || /#/dns/c/1"),
        ("/s => /#/dns/a/1 & /#/dns/b/1 || /#/dns/c/1 ;", "/s", "/#/dns/a/1 & /#/dns/b/1 || /#/dns/c/1"),
        ("/s => /#/dns/a/1 || (/#/dns/b/1 | /#/dns/c/1) ;", "/s", "/#/dns/a/1 || (/#/dns/b/1 | /#/dns/c/1)"),
        ("/s => /#/dns/a/1 & (/#/dns/b/1 || /#/dns/c/1) ;", "/s", "/#/dns/a/1 & (/#/dns/b/1 || /#/dns/c/1)"),
        ("/s => ~ || /#/dns/b/1 || /nowhere ;", "/s", "/#/dns/b/1"),
        ("/s => /#/dns/a/1 || ! || /#/dns/b/1 ;", "/s", "/#/dns/a/1 || !"),
        ("/s => ! || /#/dns/b/1 | /#/dns/c/1 ;", "/s", "'/s' is forbidden by a rule ('!')"),
        ("/s => ~ || ~ | /#/dns/c/1 ;", "/s", "/#/dns/c/1"),
        ("/a => /#/dns/a/1 ; /s => /a || /#/dns/b/1 ; /s => ~ ;", "/s", "/#/dns/a/1 || /#/dns/b/1"),
        // A `!` ends alternatives and is dropped from a union; `$` does the one and not the other; `~` neither.
        ("/s => (! | /#/dns/a/1) & /#/dns/b/1 ;", "/s", "/#/dns/b/1"),
        ("/s => ($ | /#/dns/a/1) & /#/dns/b/1 ;", "/s", "$ & /#/dns/b/1"),
        ("/s => (~ | /#/dns/a/1) & /#/dns/b/1 ;", "/s", "/#/dns/a/1 & /#/dns/b/1"),
        ("/s => ! & ~ | /#/dns/b/1 ;", "/s", "/#/dns/b/1"),
        ("/s => $ & ~ | /#/dns/b/1 ;", "/s", "'/s' is empty by a rule ('$'): it has no address"),
        ("/s => 1 * ! | /#/dns/b/1 ;", "/s", "'/s' is forbidden by a rule ('!')"),
        // A weight of nothing stays: what it means is for whoever draws.
        ("/s => 0 * /#/dns/a/1 & 0 * /#/dns/b/1 ;", "/s", "0 * /#/dns/a/1 & 0 * /#/dns/b/1"),
        ("/s => 0 * /#/dns/a/1 ;", "/s", "/#/dns/a/1"),
        // `/` on the right drops the prefix, on the left matches everything.
        ("/drop => / ; /svc => /#/dns/a/1 ;", "/drop/svc", "/#/dns/a/1"),
        ("/svc => /#/dns/a/1 ; / => ! ;", "/svc", "'/svc' is forbidden by a rule ('!')"),
        // A bound name leads to itself, in any table.
        ("", "/#/dns/a/1", "/#/dns/a/1"),
        ("", "/svc", "no rule knows '/svc'"),
    ];
    for (text, asked, expected) in rows {
        assert_eq!(leads(text, asked), expected, "{asked} in {text}");
    }
}

/// Linkerd's ice cream stores, as its document has them, with an address at the end of the street.
#[test]
fn the_ice_cream_is_found() {
    let stores = "/USA/CA/SF => /#/dns ;";
    let rows = [
        // One rule; a path it does not match.
        ("/iceCreamStore => /USA/CA/SF/smitten ;", "/iceCreamStore/1/allFlavors", "/#/dns/smitten/1"),
        ("/iceCreamStore => /smitten ;", "/shoeStore/windowShop", "no rule knows '/shoeStore/windowShop'"),
        // The later store is unknown, so it is the earlier one.
        (
            "/smitten => /USA/CA/SF/Octavia/432 ; /iceCreamStore => /smitten ; /iceCreamStore => /humphrys ;",
            "/iceCreamStore/try/allFlavors",
            "/#/dns/Octavia/432",
        ),
        // Step by step, over five rules; what is left over stays with the bound name.
        (
            "/iceCreamStore => /smitten ; /smitten/try => /smittenLocation/waitInLine/thenTry ;
             /smittenLocation => /sanfrancisco/octavia/432 ; /california => /USA/CA ; /sanfrancisco => /california/SF ;",
            "/iceCreamStore/try/allFlavors",
            "/#/dns/octavia/432",
        ),
        // Wildcards.
        (
            "/http/1.1/GET/*/icecream => /USA/CA/SF/smitten/1 ;",
            "/http/1.1/GET/rockyroad/icecream",
            "/#/dns/smitten/1",
        ),
        // Alternates, unions and weights.
        ("/smitten => /USA/CA/SF/s/1 ; /iceCreamStore => /humphrys | /smitten ;", "/iceCreamStore", "/#/dns/s/1"),
        ("/smitten => 3 * /USA/CA/SF/o/432 & 1 * /USA/CA/SF/c/2404 ;", "/smitten", "3 * /#/dns/o/432 & /#/dns/c/2404"),
        ("/s => 0.7 * /humphrys & 0.3 * /USA/CA/SF/smitten/1 ;", "/s", "/#/dns/smitten/1"),
        // Negative, failure, empty.
        ("/iceCreamStore => ~ | /USA/CA/SF/smitten/1 ;", "/iceCreamStore", "/#/dns/smitten/1"),
        ("/iceCreamStore => /smitten | ! ;", "/iceCreamStore", "'/iceCreamStore' is forbidden by a rule ('!')"),
    ];
    for (text, asked, expected) in rows {
        assert_eq!(leads(&format!("{stores}{text}"), asked), expected, "{asked} in {text}");
    }
    let screaming = "/iceCream => /youScream ; /youScream => /weAllScream/for ; /weAllScream/for => /iceCream ;";
    assert!(matches!(fails(screaming, "/iceCream"), LookUpError::Loop { rules, .. } if rules.len() == 3));
}

/// Finagle's crawler, whose handlers are labels with `#`, with our namer for its serversets.
#[test]
fn the_crawler_is_found_in_staging_and_else_in_production() {
    let rules = "/zk# => /#/dns ; /zk => /zk# ; /s## => /zk/zk.local ; /s# => /s##/1 ; /s => /s# ; /s# => /s##/2 ;";
    assert_eq!(leads(rules, "/s/crawler"), "/#/dns/zk.local/2 | /#/dns/zk.local/1");
    let delegation = table(rules).delegate(&name("/s/crawler"));
    assert_eq!(numbers(&delegation), [5, 6, 3, 2, 1, 4, 3, 2, 1], "the order of the document's rewrites");
    let told = fails("/s => /s/prefix ;", "/s/crawler").to_string();
    assert!(told.starts_with("rule 1 (/s => /s/prefix) makes '/s/prefix/prefix"), "{told}");
}

/// The rules of a delegation, from 1, in the order in which they are taken.
fn numbers(delegation: &Delegation) -> Vec<usize> {
    let Outcome::Rules(steps) = &delegation.outcome else { return Vec::new() };
    let of = |step: &Step| {
        let below = step.tree.leaves().into_iter().flat_map(numbers);
        [step.rule + 1].into_iter().chain(below).collect::<Vec<_>>()
    };
    steps.iter().flat_map(of).collect()
}

#[test]
fn a_delegation_keeps_every_step_with_the_branches_that_come_to_nothing() {
    let rules = table("/a => /#/dns/a/1 ;\n  /svc => /b | 3 * /a & ~ ;\n/svc => ! ;");
    let delegation = rules.delegate(&name("/svc"));
    let Outcome::Rules(steps) = &delegation.outcome else { panic!("{delegation:?}") };
    assert_eq!(steps.iter().map(|step| rules.rule(step.rule).place.to_string()).collect::<Vec<_>>(), ["3:1", "2:3"]);
    assert_eq!(steps[0].tree, NameTree::Fail);
    let names: Vec<_> = steps[1].tree.leaves().iter().map(|leaf| leaf.name.to_string()).collect();
    assert_eq!(names, ["/b", "/a"]);
    assert_eq!(steps[1].tree.leaves()[0].outcome, Outcome::Rules(Vec::new()), "no rule knows /b");
}

#[test]
fn what_is_wrong_stands_where_it_belongs_and_behind_a_stop_it_does_not_count() {
    let rules = "/a => /b ; /b => /a ; /svc/{x} => /#/dns/h/1 | ! | /a | /#/dns/h/{x} ;";
    assert_eq!(leads(rules, "/svc/http"), "/#/dns/h/1 | !");
    let delegation = table(rules).delegate(&name("/svc/http"));
    assert_eq!(numbers(&delegation), [3, 1, 2]);
    let without = rules.replace(" ! |", "");
    assert!(matches!(fails(&without, "/svc/http"), LookUpError::Loop { .. }));
    assert!(matches!(fails(&without.replace("/a |", ""), "/svc/http"), LookUpError::BadBound { .. }));
}

#[test]
fn a_segment_may_become_as_long_as_a_name_has_it_and_no_longer() {
    let label = |len| "x".repeat(len);
    let rules = "/svc/{a}/{b} => /long/{a}{b} ; /long/* => /#/dns/a/1 ;";
    assert_eq!(leads(rules, &format!("/svc/{}/{}", label(127), label(128))), "/#/dns/a/1");
    let told = fails(rules, &format!("/svc/{}/{}", label(128), label(128))).to_string();
    assert!(told.starts_with("rule 1 (/svc/{a}/{b} => /long/{a}{b}) makes '/long/xxx"), "{told}");
    let errors = Dtab::parse(&format!("/a => /{} ;\n/{} => /a", label(256), label(256))).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.place.to_string()).collect::<Vec<_>>(), ["1:7", "2:2"], "{errors:?}");
}

#[test]
fn captures_rewrite_whole_and_part_segments() {
    let example = "/svc/{service} => /#/dns/{service}.prod.internal/4143 ;";
    assert_eq!(leads(example, "/svc/redis"), "/#/dns/redis.prod.internal/4143");
    let parts = "/svc/{kind}-{zone}/* => /#/dns/{zone}.{kind}/1 ;";
    assert_eq!(leads(parts, "/svc/db-eu/rw"), "/#/dns/eu.db/1");
    assert_eq!(leads(example, "/svc"), "no rule knows '/svc'");
}

#[test]
fn what_is_left_over_stays_with_the_leaf() {
    let tree = table("/svc => /#/dns/a/1 ;").look_up(&name("/svc/x/y")).unwrap();
    assert_eq!(tree.leaves()[0].residual(), "/x/y");
    assert_eq!(tree.leaves()[0].path().as_str(), "/#/dns/a/1");
}

#[test]
fn comments_stand_where_white_space_may() {
    let text = "# the whole fleet\n/svc => # where\n  /#/dns/a#1/1 ; # a hash in a label\n# end";
    let errors = Dtab::parse(text).unwrap_err();
    assert_eq!(errors[0].place.to_string(), "3:3", "a#1 was read whole: {errors:?}");
    assert_eq!(table(&text.replace("a#1", "a")).entries().len(), 1);
}

#[test]
fn a_loop_names_its_rules() {
    let looping = "/a => /b ; /b => /c ; /c => /a ;";
    let LookUpError::Loop { name, rules } = fails(looping, "/a/x") else { panic!("no loop") };
    assert_eq!(name.as_str(), "/a/x");
    assert_eq!(rules.iter().map(|rule| rule.number).collect::<Vec<_>>(), [1, 2, 3]);
    let told = fails("/a => /a ;", "/a").to_string();
    assert_eq!(told, "the rules loop: '/a' leads back to itself by rule 1 (/a => /a)");
}

#[test]
fn a_name_that_grows_is_told_with_its_rule() {
    let told = fails("/a => /a/b ;", "/a").to_string();
    assert!(told.starts_with("rule 1 (/a => /a/b) makes '/a/b/b"), "{told}");
    assert!(told.ends_with("a name has at most 32 segments"), "{told}");
}

/// `count` rules, each leading to the next by `step`, and at last to an address.
fn chain(count: usize, step: impl Fn(usize) -> String) -> String {
    let rules: String = (0..count).map(|at| format!("/n{at} => {} ;\n", step(at + 1))).collect();
    format!("{rules}/n{count} => /#/dns/a/1 ;")
}

#[test]
fn a_hundred_rules_one_after_another_are_followed_and_no_more() {
    assert_eq!(leads(&chain(99, |next| format!("/n{next}")), "/n0"), "/#/dns/a/1");
    let LookUpError::TooDeep { rules, .. } = fails(&chain(100, |next| format!("/n{next}")), "/n0") else {
        panic!("not too deep")
    };
    assert_eq!(rules.last().map(|rule| rule.number), Some(100));
}

#[test]
fn a_table_that_doubles_is_stopped_by_its_budget() {
    let doubling = chain(60, |next| format!("/n{next} & /n{next}"));
    assert!(matches!(fails(&doubling, "/n0"), LookUpError::TooMany { .. }));
    // and nothing of it is kept
    let outcome = table(&doubling).delegate(&name("/n0")).outcome;
    assert!(matches!(outcome, Outcome::Wrong(LookUpError::TooMany { .. })), "{outcome:?}");
}

#[test]
fn a_long_table_that_doubles_is_stopped_sooner() {
    let long: String = (0..20_000).map(|at| format!("/x{at} => ~ ;\n")).collect();
    let doubling = chain(10, |next| format!("/n{next} & /n{next}"));
    assert!(table(&doubling).look_up(&name("/n0")).is_ok());
    assert!(matches!(fails(&(long + &doubling), "/n0"), LookUpError::TooMany { .. }));
}

#[test]
fn a_table_knows_its_places_in_its_file() {
    let rules = table("/a => /b ;\n  /c => /d");
    assert_eq!((rules.within(), rules.rule(1).place.to_string().as_str()), (Within::Table, "2:3"));
    let file = "[outbound]\ndtab = \"\"\"\n/a => /b ;\n  /c => /d\"\"\"\n";
    let placed = rules.clone().standing_in(file, file.find("/a").unwrap());
    assert_eq!((placed.within(), placed.rule(1).place.to_string().as_str()), (Within::File, "4:3"));
    assert_eq!(placed, rules, "places are not what a table says");
}

#[test]
fn trees_within_trees_are_followed_to_their_bound() {
    let nested = |count| chain(count, |next| format!("{}/n{next}{}", "(~ | (~ & ".repeat(4), "))".repeat(4)));
    assert_eq!(leads(&nested(20), "/n0"), "/#/dns/a/1");
    assert!(matches!(fails(&nested(40), "/n0"), LookUpError::TooDeep { .. }));
}

#[test]
fn a_rule_that_leads_to_no_bound_name_is_named() {
    let told = fails("/svc/{port} => /#/dns/a/{port} ;", "/svc/http").to_string();
    let expected = "rule 1 (/svc/{port} => /#/dns/a/{port}) leads to '/#/dns/a/http': \
                    'http' is no port: a number from 1 to 65535";
    assert_eq!(told, expected);
}

/// The errors of a text, printed.
fn mistakes(text: &str) -> Vec<String> {
    Dtab::parse(text).expect_err("mistakes").iter().map(ToString::to_string).collect()
}

#[test]
fn every_mistake_is_reported_at_its_place() {
    let text = "/a -> /b ;\n/ok => /fine ;\n/c => /d /e ;\n  /f => ( /g | /h ;\n/i => 2 /j ;\n/k =>";
    let expected = [
        "1:4: '->' does not belong here; expected '=>' after the prefix",
        "3:10: '/e' does not belong here; expected '|', '||', '&' or ';' after a destination",
        "4:19: ';' does not belong here; expected ')'",
        "5:9: '/j' does not belong here; expected '*' between a weight and its destination",
        "6:6: the table ends here; expected a path, '~', '!', '$' or '('",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn what_a_rule_says_is_checked_before_anything_runs() {
    let rows = [
        (
            "/svc => /#/zk/x ;",
            "1:9: '/#/zk' is not a namer this version has; known: /$/inet, /$/unix, /#/dns, /#/srv, /#/fs",
        ),
        ("/svc => /#/dns/a/0 ;", "1:9: '0' is no port: a number from 1 to 65535"),
        ("/#/dns => /x ;", "1:1: bound names are never rewritten: '/#/dns'"),
        ("/svc => /{x} ;", "1:1: the destination uses {x}, which the prefix '/svc' does not capture"),
        ("svc => /a ;", "1:1: 'svc' does not belong here"),
        ("/a => /$/fail ;", "1:7: '/$/fail' is not a namer this version has; known: "),
        ("/a => || /b ;", "1:7: '||' does not belong here; expected a path, '~', '!', '$' or '('"),
        ("/a => /b ||| /c ;", "1:12: '|' does not belong here; expected a path"),
        ("/a => -1 * /b ;", "1:7: '-1' does not belong here"),
        ("/a => 1..2 * /b ;", "1:7: '1..2' does not belong here; expected a weight such as 1 or 0.5"),
        ("/a => /b/* ;", "1:7: no path: '*' may not stand in a segment"),
        ("/a/x* => /b ;", "1:5: "),
    ];
    for (text, expected) in rows {
        let mistakes = mistakes(text);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with(expected), "{}", mistakes[0]);
    }
    let deep = format!("/a => {}/b{} ;", "(".repeat(9), ")".repeat(9));
    assert_eq!(mistakes(&deep)[0], "1:15: parentheses nest deeper than 8; give the inner tree a rule of its own");
}

#[test]
fn a_part_of_a_bound_name_may_be_completed_by_the_rest() {
    assert_eq!(leads("/dns => /#/dns ;", "/dns/h/80"), "/#/dns/h/80");
    assert!(matches!(fails("/dns => /#/dns ;", "/dns/h"), LookUpError::BadBound { .. }));
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec("[abc]", 1..4).prop_map(|labels| format!("/{}", labels.join("/"))),
        Just("/#/dns/h/1".to_owned()),
        Just("/".to_owned()),
    ]
}

/// Weights as people write them, and as small as they could.
fn weight() -> impl Strategy<Value = String> {
    prop_oneof![
        (0_u32..50).prop_map(|tenths| (f64::from(tenths) / 10.0).to_string()),
        Just("0.0000001".to_owned()),
        Just(".5".to_owned()),
        Just("00.10".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
    ]
}

/// Texts of trees, with more parentheses than they need.
fn tree() -> impl Strategy<Value = String> {
    let simple =
        prop_oneof![4 => path(), 1 => Just("~".to_owned()), 1 => Just("!".to_owned()), 1 => Just("$".to_owned())];
    simple.prop_recursive(3, 12, 3, |inner| {
        let weighted = (weight(), inner.clone()).prop_map(|(weight, tree)| format!("{weight}*({tree})"));
        let whole = || inner.clone().prop_map(|tree| format!("({tree})"));
        prop_oneof![
            prop::collection::vec(whole(), 1..4).prop_map(|all| all.join("|")),
            prop::collection::vec(whole(), 1..4).prop_map(|all| all.join("||")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| all.join("||")),
            prop::collection::vec(weighted, 1..4).prop_map(|all| all.join(" & ")),
        ]
    })
}

fn dtab() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![
        5 => prop::collection::vec("[abc*]|\\{x\\}|a-\\{x\\}", 1..3)
            .prop_map(|labels| format!("/{}", labels.join("/")))
            .prop_filter("a capture has one place", |prefix| prefix.matches("{x}").count() < 2),
        1 => Just("/".to_owned()),
    ];
    // Where the prefix captures, the destinations use it.
    let rule = (prefix, tree()).prop_map(|(prefix, tree)| match prefix.contains("{x}") {
        true => format!("{prefix}=>{}", tree.replace("/b", "/{x}-b")),
        false => format!("{prefix}=>{tree}"),
    });
    prop::collection::vec(rule, 0..6).prop_map(|rules| rules.join(";"))
}

/// Every bound name in a delegation, reached or not.
fn bounds(delegation: &Delegation) -> Vec<&Bound> {
    match &delegation.outcome {
        Outcome::Bound(bound) => vec![bound],
        Outcome::Rules(steps) => steps.iter().flat_map(|step| step.tree.leaves()).flat_map(bounds).collect(),
        Outcome::Wrong(_) => Vec::new(),
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_table(text in dtab()) {
        let parsed = table(&text);
        prop_assert_eq!(&table(&parsed.to_string()), &parsed);
    }

    #[test]
    fn every_look_up_ends_with_bound_names_or_an_error(text in dtab(), asked in "(/[abc]){1,4}") {
        let (rules, asked) = (table(&text), name(&asked));
        if let Ok(tree) = rules.look_up(&asked) {
            prop_assert!(!matches!(tree, NameTree::Neg | NameTree::Fail | NameTree::Empty));
            // Each of its leaves is one of the delegation's.
            let delegation = rules.delegate(&asked);
            let kept = bounds(&delegation);
            prop_assert!(tree.leaves().iter().all(|leaf| kept.contains(leaf)));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[/a-c=>;|&()*~!$#{} \n.0-9é-]{0,60}") {
        if let Err(errors) = Dtab::parse(&text) {
            prop_assert!(errors.iter().all(|error| error.place.offset <= text.len()));
        }
    }
}
