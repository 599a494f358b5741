//! What a kernel lacks of what rules need, read from what the tools say of it, which is many lines for one cause. Pure; where
//! nothing here knows their words, they stand as they are.

use std::collections::BTreeSet;

/// How nft, and iptables where its tables are nft's, say that there is no nf_tables: in words of the C library.
const NO_NFT: [&str; 4] = [
    "Unable to initialize Netlink socket: Protocol not supported",
    "Failed to initialize nft: Protocol not supported",
    "cache initialization failed: Invalid argument",
    "Could not fetch rule set generation id: Invalid argument",
];

/// What rules that need nothing of nft are made with.
const ELSE: &str = "or take `--iptables=iptables-legacy`";

/// The words of our rules in nft, and the modules that know them.
const WORDS: [(&str, &str); 8] = [
    ("type nat", "nft_chain_nat"),
    ("tproxy ", "nft_tproxy"),
    ("redirect ", "nft_redir"),
    ("dnat ", "nft_nat"),
    ("socket cgroupv2", "nft_socket"),
    ("fib ", "nft_fib_inet"),
    ("reject ", "nft_reject_inet"),
    ("ct ", "nft_ct"),
];

/// What is missing, and what brings it.
pub(super) fn missing(said: &str) -> Option<String> {
    if NO_NFT.iter().any(|words| said.contains(words)) {
        return Some(format!("this kernel has no nf_tables: load the module nf_tables, {ELSE}"));
    }
    if let Some(table) = between(said, "unable to initialize table '", "'") {
        let base = if said.contains("ip6tables") { "ip6table" } else { "iptable" };
        return Some(format!("this kernel has no table {table} of iptables: load the module {base}_{table}"));
    }
    if said.starts_with("/dev/stdin:1:") && said.contains("Operation not supported") {
        return Some(format!(
            "nf_tables of this kernel has no tables of the family inet: it takes one with CONFIG_NF_TABLES_INET, {ELSE}"
        ));
    }
    if said.contains("TABLE_ADD failed (Operation not supported)") {
        return Some(format!("nf_tables of this kernel has no tables of the family ip, {}", &ELSE[3..]));
    }
    // Others may be warned of where the rule that is refused is another one.
    let extensions: BTreeSet<_> = said.lines().filter_map(|line| between(line, "Warning: Extension ", " ")).collect();
    if extensions.is_empty() {
        return None;
    }
    let v6 = said.contains("ip6tables");
    let modules: BTreeSet<_> = extensions.iter().map(|name| module(name, v6)).collect();
    let names: Vec<_> = extensions.into_iter().collect();
    let modules = modules.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!("this kernel does not know {} of iptables: load {modules}", names.join(", ")))
}

/// The module of an extension of iptables.
fn module(extension: &str, v6: bool) -> String {
    match extension {
        "tcp" | "udp" => "xt_tcpudp".to_owned(),
        "REJECT" => if v6 { "ip6t_REJECT" } else { "ipt_REJECT" }.to_owned(),
        "DNAT" => "xt_nat".to_owned(),
        _ => format!("xt_{extension}"),
    }
}

/// The modules that know the words of a line which nft refuses for this cause, if the kernel may lack one.
pub(super) fn modules_of(line: &str, cause: &str) -> Option<String> {
    let may_lack = ["No such file or directory", "not supported"].iter().any(|words| cause.contains(words));
    let rule = line.split(" comment ").next().unwrap_or_default();
    let modules: Vec<_> = WORDS.iter().filter(|(word, _)| rule.contains(word)).map(|(_, module)| *module).collect();
    (may_lack && !modules.is_empty()).then(|| modules.join(", "))
}

/// The first complaint of nft about a rule or a chain, without those about the table that follow from it, and without the
/// lines it repeats: the line's number, and the cause.
pub(super) fn first_of_nft(said: &str, input: &str) -> Option<(usize, String)> {
    let complaints = said.lines().filter_map(|line| {
        let (place, cause) = line.strip_prefix("/dev/stdin:")?.split_once(": ")?;
        let number: usize = place.split(':').next()?.parse().ok()?;
        Some((number, cause.trim_start_matches("Error: ").to_owned()))
    });
    let is_table = |number: usize| {
        let line = input.lines().nth(number.saturating_sub(1)).unwrap_or_default();
        !line.starts_with('\t')
    };
    let all: Vec<_> = complaints.collect();
    all.iter().find(|(number, _)| !is_table(*number)).or(all.first()).cloned()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_said_in_a_line_with_what_brings_it() {
        for (said, wanted) in [
            ("mnl.c:60: Unable to initialize Netlink socket: Protocol not supported", "load the module nf_tables"),
            ("netlink: Error: cache initialization failed: Invalid argument", "load the module nf_tables"),
            (
                "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\nError occurred at \
                 line: 1",
                "has no table nat of iptables: load the module iptable_nat",
            ),
            ("ip6tables-restore: unable to initialize table 'mangle'", "load the module ip6table_mangle"),
            ("/dev/stdin:1:1-20: Error: Could not process rule: Operation not supported", "CONFIG_NF_TABLES_INET"),
            (
                "Warning: Extension tcp revision 0 not supported, missing kernel module?\nWarning: Extension TPROXY \
                 revision 0 not supported, missing kernel module?\nWarning: Extension tcp is not supported\n\
                 iptables-restore: line 24 failed",
                "does not know TPROXY, tcp of iptables: load xt_TPROXY, xt_tcpudp",
            ),
        ] {
            let missing = missing(said).unwrap();
            assert!(missing.contains(wanted) && !missing.contains('\n'), "{missing}");
        }
        assert_eq!(missing("iptables-restore: line 24 failed"), None);
    }

    #[test]
    fn of_many_complaints_of_nft_the_first_about_a_rule_counts() {
        let input =
            "add table inet adit\ntable inet adit {\n\tchain a {\n\t\tmeta mark 1\n\t\ttproxy ip to :1\n\t}\n}\n";
        let said = "/dev/stdin:2:12-15: Error: Could not process rule: No such file or directory\ntable inet adit {\n\
                    ^^^\n/dev/stdin:5:3-17: Error: Could not process rule: No such file or directory\n";
        let wanted = (5, "Could not process rule: No such file or directory".to_owned());
        assert_eq!(first_of_nft(said, input), Some(wanted));
        let modules = |line, cause| modules_of(line, cause).unwrap_or_default();
        let absent = "Could not process rule: No such file or directory";
        assert_eq!(modules("ct mark 1 tproxy ip to :1 comment \"fib \"", absent), "nft_tproxy, nft_ct");
        assert_eq!(modules("meta mark 1", absent), "");
        assert_eq!(modules("ct mark 1", "Could not process rule: File exists"), "");
        assert_eq!(first_of_nft("flush: no", input), None);
    }
}
