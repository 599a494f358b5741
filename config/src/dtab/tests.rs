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

/// Texts of trees, with more parentheses than they need.
fn tree() -> impl Strategy<Value = String> {
    let simple =
        prop_oneof![4 => path(), 1 => Just("~".to_owned()), 1 => Just("!".to_owned()), 1 => Just("$".to_owned())];
    simple.prop_recursive(3, 12, 3, |inner| {
        let weighted =
            ((0_u32..50), inner.clone()).prop_map(|(tenths, tree)| format!("{}*({tree})", f64::from(tenths) / 10.0));
        prop_oneof![
            prop::collection::vec(inner.prop_map(|tree| format!("({tree})")), 1..4).prop_map(|all| all.join("|")),
            prop::collection::vec(weighted, 1..4).prop_map(|all| all.join(" & ")),
        ]
    })
}

fn dtab() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![
        5 => prop::collection::vec("[abc*]", 1..3).prop_map(|labels| format!("/{}", labels.join("/"))),
        1 => Just("/".to_owned()),
    ];
    let rule = (prefix, tree()).prop_map(|(prefix, tree)| format!("{prefix}=>{tree}"));
    prop::collection::vec(rule, 0..6).prop_map(|rules| rules.join(";"))
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_table(text in dtab()) {
        let parsed = table(&text);
        prop_assert_eq!(&table(&parsed.to_string()), &parsed);
    }

    #[test]
    fn every_look_up_ends_with_bound_names_or_an_error(text in dtab(), asked in "(/[abc]){1,4}") {
        if let Ok(tree) = table(&text).look_up(&name(&asked)) {
            prop_assert!(!matches!(tree, NameTree::Neg | NameTree::Fail | NameTree::Empty));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[/a-c=>;|&()*~!$#{} \n.0-9é-]{0,60}") {
        if let Err(errors) = Dtab::parse(&text) {
            prop_assert!(errors.iter().all(|error| error.place.offset <= text.len()));
        }
    }
}
