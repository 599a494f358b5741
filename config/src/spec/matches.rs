//! The values by which rules pick connections: networks, ports, marks of packets, interfaces, and processes by user, unit
//! and control group. What can be written here can be given to nft(8), iptables(8) and ip(8) as it is: no quotation mark,
//! no white space and no wildcard of theirs gets through.

use toml::de::DeValue;

use super::section::{Field, Wrong};
use super::value::{boolean, mistyped, number, text};
use crate::net::{Net, Ports};
use crate::workload::Glob;

const PORTS_HELP: &str = "write a port from 1 to 65535 or a range, such as 6379 or \"6000-6100\"";

/// A port, or `"6000-6100"`.
pub(super) fn ports(field: &Field<'_>) -> Result<Ports, Wrong> {
    let found = match field.value {
        DeValue::Integer(_) => number(field).ok().and_then(|number| Ports::parse(&number.to_string())),
        DeValue::String(text) => Ports::parse(text),
        other => return Err(mistyped(field, other, PORTS_HELP)),
    };
    found.ok_or_else(|| Wrong::new(format!("{} {}, which is no port", field.is(), shown(field)), PORTS_HELP))
}

/// The value as the file has it.
fn shown(field: &Field<'_>) -> String {
    match field.value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::String(text) => format!("{text:?}"),
        _ => String::new(),
    }
}

/// A network, or one address.
pub(super) fn net(field: &Field<'_>) -> Result<Net, Wrong> {
    let help = "write a network or an address, such as \"10.0.0.0/8\" or \"fd00::1\"";
    let text = text(field, help)?;
    Net::parse(text).map_err(|cause| Wrong::new(format!("{} {text:?}, and {cause}", field.is()), help))
}

const MARK_HELP: &str = "write a whole number from 1 to 0xffffffff, such as 0xad17";

/// The mark of a packet. 0 is that of all which nobody marked.
pub(super) fn mark(field: &Field<'_>) -> Result<u32, Wrong> {
    let DeValue::Integer(_) = field.value else {
        return Err(mistyped(field, field.value, MARK_HELP));
    };
    let found = number(field).ok().and_then(|number| u32::try_from(number).ok()).filter(|mark| *mark > 0);
    found.ok_or_else(|| Wrong::new(format!("`{}` cannot be {}", field.key, shown(field)), MARK_HELP))
}

/// A mark, or `"off"`.
pub(super) fn mark_or_off(field: &Field<'_>) -> Result<Option<u32>, Wrong> {
    match field.value.as_str() {
        Some("off") => Ok(None),
        Some(word) => Err(Wrong::new(format!("{} {word:?}", field.is()), format!("{MARK_HELP}, or \"off\""))),
        None => mark(field).map(Some),
    }
}

/// A routing table of one's own. 253 to 255 are those by which the host itself finds its ways (ip-route(8)).
pub(super) fn route_table(field: &Field<'_>) -> Result<u32, Wrong> {
    match mark(field)? {
        table @ 253..=255 => {
            let message = format!("`{}` cannot be {table}: that table is the host's own", field.key);
            Err(Wrong::new(message, "write the number of one that nothing else uses, such as 44311"))
        }
        table => Ok(table),
    }
}

/// The longest name of an interface: IFNAMSIZ in netdevice(7), less its final NUL.
const MAX_INTERFACE: usize = 15;

/// An interface by its name. `*` and `+`, with which nft and iptables mean several, are refused.
pub(super) fn interface(field: &Field<'_>) -> Result<String, Wrong> {
    let help = "write the name of one, at most 15 letters, digits and `-_.:@`, such as \"docker0\"";
    let text = text(field, help)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    let is_option = text.starts_with('-') || matches!(text, "" | "." | "..");
    if !is_option && text.len() <= MAX_INTERFACE && text.bytes().all(is_name) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{} {text:?}, which is no interface", field.is()), help))
}

/// A control group, kept without the slash it may begin with.
pub(super) fn cgroup(field: &Field<'_>) -> Result<String, Wrong> {
    let help = "write its path below the mount of cgroup2, such as \"system.slice/web.service\"";
    let text = text(field, help)?;
    let path = text.strip_prefix('/').unwrap_or(text);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_cgroup_byte);
    from_mount(field, text, path)?;
    if path.split('/').all(is_segment) {
        return Ok(path.to_owned());
    }
    Err(Wrong::new(format!("{} {text:?}, which is no control group", field.is()), help))
}

/// Where cgroup2 is mounted. A path that begins with it is taken for one from there, and is none.
const MOUNT: &str = "sys/fs/cgroup/";

fn from_mount(field: &Field<'_>, text: &str, path: &str) -> Result<(), Wrong> {
    match path.strip_prefix(MOUNT) {
        None => Ok(()),
        Some(rest) => {
            let message = format!("{} {text:?}, which says where cgroup2 is mounted", field.is());
            Err(Wrong::new(message, format!("write \"/{rest}\"")))
        }
    }
}

/// What systemd, and those who make containers, name control groups with; `\` is in names that systemd escaped
/// (systemd-escape(1)).
fn is_cgroup_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.@\\+=,~".contains(&byte)
}

/// A systemd unit; one `*` stands for any text.
pub(super) fn unit(field: &Field<'_>) -> Result<Glob, Wrong> {
    const HELP: &str = "write a unit, such as \"web.service\" or \"web@*.service\"";
    let text = text(field, HELP)?;
    let found = glob(field, text, text.bytes().all(|byte| byte == b'*' || is_cgroup_byte(byte)), HELP)?;
    if !may_end_a_unit(text.rsplit('*').next().unwrap_or(text), text.contains('*')) {
        let message = format!("{} {text:?}, and no unit with processes is called so", field.is());
        return Err(Wrong::new(message, "end it in .service, .scope, .socket, .mount or .swap, or with `*`"));
    }
    Ok(found)
}

/// Whether a unit that processes can be in (systemd.unit(5)) ends like this.
fn may_end_a_unit(end: &str, is_open: bool) -> bool {
    let kinds = [".service", ".scope", ".socket", ".mount", ".swap"];
    kinds.iter().any(|kind| end.ends_with(kind) || (is_open && kind.ends_with(end)))
}

/// A control group from the root of cgroup2; one `*` stands for any text.
pub(super) fn cgroups(field: &Field<'_>) -> Result<Glob, Wrong> {
    const HELP: &str =
        "write a path from the root of cgroup2, such as \"/system.slice/web.service\" or \"/user.slice/*\"";
    let text = text(field, HELP)?;
    from_mount(field, text, text.strip_prefix('/').unwrap_or(text))?;
    let is_path = text.starts_with('/')
        && (text == "/" || !text.ends_with('/'))
        && text.bytes().all(|byte| b"*/".contains(&byte) || is_cgroup_byte(byte));
    glob(field, text, is_path, HELP)
}

fn glob(field: &Field<'_>, text: &str, is_good: bool, help: &str) -> Result<Glob, Wrong> {
    if text.matches('*').count() > 1 {
        let message = format!("{} {text:?}, and one `*` is all it may have", field.is());
        return Err(Wrong::new(message, help));
    }
    let found = Some(text).filter(|text| is_good && !text.is_empty()).and_then(Glob::parse);
    found.ok_or_else(|| Wrong::new(format!("{} {text:?}", field.is()), help))
}

/// A key that says something only where it is true.
pub(super) fn yes(field: &Field<'_>) -> Result<(), Wrong> {
    match boolean(field)? {
        true => Ok(()),
        false => Err(Wrong::new(format!("{} false, which says nothing", field.is()), "write true, or leave it out")),
    }
}
