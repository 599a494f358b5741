//! The values a key may have, each read from one TOML value into a type that cannot be wrong. None of
//! these knows which key it serves, but for naming it in a message.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use adit_protocol::{Name, Pattern, PatternError, Template};
use toml::de::DeValue;

use super::section::{Field, Wrong, kind};
use crate::dtab::host_name;
use crate::identity::IdentityPattern;
use crate::listen::TcpListen;
use crate::peers::OnLeave;
use crate::service::{Reach, Target};
use crate::tls::CREDENTIAL;

/// Longer waits are "off": it also keeps every sum with a clock far from overflow.
const MAX_WAIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

const WAIT_HELP: &str = "write a number and its unit (ms, s, m, h or d) as a string, such as \"10s\"";
const ADDRESS_HELP: &str = "write an address and a port, such as \"127.0.0.1:4143\" or \"[::1]:4143\"";

/// A string; `help` says which, for one who wrote something else.
pub(super) fn text<'a>(field: &Field<'a>, help: &str) -> Result<&'a str, Wrong> {
    match field.value {
        DeValue::String(text) => Ok(text),
        other => Err(mistyped(field, other, help)),
    }
}

pub(super) fn mistyped(field: &Field<'_>, value: &DeValue<'_>, help: &str) -> Wrong {
    Wrong::new(format!("{} {}", field.is(), kind(value)), help)
}

pub(super) fn boolean(field: &Field<'_>) -> Result<bool, Wrong> {
    match field.value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(mistyped(field, other, "write true or false")),
    }
}

/// A whole number that is not negative.
pub(super) fn number(field: &Field<'_>) -> Result<u64, Wrong> {
    match field.value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| Wrong::new(format!("`{}` cannot be {number}", field.key), COUNT_HELP)),
        other => Err(mistyped(field, other, COUNT_HELP)),
    }
}

const COUNT_HELP: &str = "write a whole number, at most 2147483647";

/// A number that fits every type it may be turned into, on every machine.
pub(super) fn count_or_zero(field: &Field<'_>) -> Result<usize, Wrong> {
    small(field).map(|number| number as usize)
}

fn small(field: &Field<'_>) -> Result<u32, Wrong> {
    let number = number(field)?;
    u32::try_from(number)
        .ok()
        .filter(|number| *number <= u32::MAX / 2)
        .ok_or_else(|| Wrong::new(format!("`{}` cannot be {number}", field.key), COUNT_HELP))
}

pub(super) fn count_u32(field: &Field<'_>) -> Result<u32, Wrong> {
    match small(field)? {
        0 => Err(Wrong::new(format!("{} 0, so nothing could pass", field.is()), "write 1 or more")),
        number => Ok(number),
    }
}

pub(super) fn count(field: &Field<'_>) -> Result<usize, Wrong> {
    count_u32(field).map(|number| number as usize)
}

/// A count, or `"auto"`.
pub(super) fn count_or_auto(field: &Field<'_>) -> Result<Option<usize>, Wrong> {
    let help = "write a whole number, or \"auto\"";
    match field.value {
        DeValue::Integer(_) => count(field).map(Some),
        DeValue::String(word) if word == "auto" => Ok(None),
        DeValue::String(word) => Err(Wrong::new(format!("{} {word:?}", field.is()), help)),
        other => Err(mistyped(field, other, help)),
    }
}

/// A number of bytes: a whole number, or `"64MiB"`.
pub(super) fn bytes(field: &Field<'_>) -> Result<usize, Wrong> {
    let help = "write a number and KiB, MiB or GiB below 2 GiB, such as \"64MiB\"";
    if let DeValue::Integer(_) = field.value {
        return count_or_zero(field);
    }
    let text = text(field, help)?;
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    units
        .iter()
        .find_map(|(unit, shift)| Some((whole(text.strip_suffix(unit)?)?, *shift)))
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= u64::from(u32::MAX / 2))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| Wrong::new(format!("{} {text:?}", field.is()), help))
}

/// Digits and nothing else: `u64::from_str` would take a sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A duration above zero.
pub(super) fn wait(field: &Field<'_>) -> Result<Duration, Wrong> {
    match wait_or_zero(field)? {
        Duration::ZERO => {
            let message = format!("{} zero, so it would be over before it began", field.is());
            Err(Wrong::new(message, "write a longer time"))
        }
        wait => Ok(wait),
    }
}

/// A duration above zero, or `"off"`.
pub(super) fn wait_or_off(field: &Field<'_>) -> Result<Option<Duration>, Wrong> {
    match field.value.as_str() {
        Some("off") => Ok(None),
        _ => wait(field).map(Some),
    }
}

/// A time that TCP's keepalive takes; the kernel refuses any other, and with it every connection.
pub(super) fn keepalive(field: &Field<'_>) -> Result<Duration, Wrong> {
    const MOST: Duration = Duration::from_secs(32_767);
    let wait = wait(field)?;
    if wait.subsec_nanos() != 0 || wait > MOST {
        let message = format!("`{}` cannot be that: TCP takes whole seconds, at most 32767", field.key);
        return Err(Wrong::new(message, "write from \"1s\" to \"9h\""));
    }
    Ok(wait)
}

/// How many probes TCP's keepalive takes.
pub(super) fn probes(field: &Field<'_>) -> Result<u32, Wrong> {
    match count_u32(field)? {
        number @ ..=127 => Ok(number),
        number => {
            Err(Wrong::new(format!("`{}` cannot be {number}: TCP takes at most 127", field.key), "write 1 to 127"))
        }
    }
}

/// A time that TCP_USER_TIMEOUT takes, or `"off"`.
pub(super) fn unacknowledged(field: &Field<'_>) -> Result<Option<Duration>, Wrong> {
    const MOST: Duration = Duration::from_millis(i32::MAX as u64);
    match wait_or_off(field)? {
        Some(wait) if wait > MOST => {
            let message = format!("`{}` cannot be that: TCP takes at most 24 days", field.key);
            Err(Wrong::new(message, "write up to \"24d\", or \"off\""))
        }
        wait => Ok(wait),
    }
}

/// A duration.
pub(super) fn wait_or_zero(field: &Field<'_>) -> Result<Duration, Wrong> {
    let text = text(field, WAIT_HELP)?;
    if text == "off" {
        let message = format!("`{}` cannot be off: something always waits for it", field.key);
        return Err(Wrong::new(message, WAIT_HELP));
    }
    let wait = parse_wait(text).ok_or_else(|| Wrong::new(format!("{} {text:?}", field.is()), WAIT_HELP))?;
    if wait > MAX_WAIT {
        let message = format!("{} longer than a year", field.is());
        return Err(Wrong::new(message, "write a shorter time, or \"off\" where it may be"));
    }
    Ok(wait)
}

fn parse_wait(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        "d" => seconds(24 * 60 * 60),
        _ => None,
    }
}

/// A path from the root: a service's working directory is not its file's.
pub(super) fn path(field: &Field<'_>) -> Result<PathBuf, Wrong> {
    const HELP: &str = "write the whole path, from `/`";
    absolute(field, text(field, HELP)?, HELP)
}

/// A path from the root, or `credential:NAME`, as it stands: which folder that is in, only the service manager knows.
pub(super) fn tls_file(field: &Field<'_>) -> Result<PathBuf, Wrong> {
    let Some(name) = field.value.as_str().and_then(|text| text.strip_prefix(CREDENTIAL)) else { return path(field) };
    if is_given_name(name) && !name.contains('/') && !matches!(name, "." | "..") {
        return Ok(PathBuf::from(format!("{CREDENTIAL}{name}")));
    }
    let message = format!("{} \"{CREDENTIAL}{name}\", which names no credential", field.is());
    Err(Wrong::new(
        message,
        "write the name that LoadCredential= of the unit gives it, such as \"credential:host.key\"",
    ))
}

fn absolute(field: &Field<'_>, text: &str, help: &str) -> Result<PathBuf, Wrong> {
    if text.contains('\0') {
        return Err(Wrong::new(format!("`{}` holds a NUL, which no path has", field.key), help));
    }
    match PathBuf::from(text) {
        path if path.is_absolute() => Ok(path),
        _ => Err(Wrong::new(format!("{} {text:?}, which is no absolute path", field.is()), help)),
    }
}

/// The longest path a socket may have: `sun_path` in unix(7), less its final NUL.
const MAX_SOCKET_PATH: usize = 107;

/// A path a socket may have.
pub(super) fn socket_path(field: &Field<'_>) -> Result<PathBuf, Wrong> {
    short(field, text(field, "write the whole path, such as \"/run/adit/admin.sock\"")?, "")
}

/// `scheme` is what stands before the path where the file writes it.
fn short(field: &Field<'_>, text: &str, scheme: &str) -> Result<PathBuf, Wrong> {
    if text.len() > MAX_SOCKET_PATH {
        let message = format!("the socket path of `{}` is longer than 107 bytes", field.key);
        return Err(Wrong::new(message, "choose a shorter one"));
    }
    absolute(field, text, &format!("write the whole path, such as \"{scheme}/run/adit/redis.sock\""))
}

/// The path of `unix:/path`, or `None` for another text.
pub(super) fn unix(field: &Field<'_>) -> Result<Option<PathBuf>, Wrong> {
    match field.value.as_str().and_then(|text| text.strip_prefix("unix:")) {
        Some(path) => short(field, path, "unix:").map(Some),
        None => Ok(None),
    }
}

/// An address to listen on. A host name is refused: what it means may change under the file.
pub(super) fn address(field: &Field<'_>) -> Result<SocketAddr, Wrong> {
    let text = text(field, ADDRESS_HELP)?;
    text.parse().map_err(|_| Wrong::new(format!("{} {text:?}, which is no address and port", field.is()), ADDRESS_HELP))
}

/// An address to listen on, or `systemd:NAME`.
pub(super) fn tcp_listen(field: &Field<'_>) -> Result<TcpListen, Wrong> {
    match given(field)? {
        Some(name) => Ok(TcpListen::Given(name)),
        None => address(field).map(TcpListen::At),
    }
}

/// The name of `systemd:NAME`, or `None` for another text. What FileDescriptorName= takes (systemd.socket(5)).
pub(super) fn given(field: &Field<'_>) -> Result<Option<String>, Wrong> {
    let Some(name) = field.value.as_str().and_then(|text| text.strip_prefix("systemd:")) else { return Ok(None) };
    if is_given_name(name) {
        return Ok(Some(name.to_owned()));
    }
    let message = format!("{} \"systemd:{name}\", which names no socket of systemd's", field.is());
    Err(Wrong::new(message, "write what FileDescriptorName= of the .socket unit says, such as \"systemd:redis\""))
}

fn is_given_name(name: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    !name.is_empty() && name.len() <= MAX_GIVEN && name.bytes().all(is_name)
}

/// The longest name that FileDescriptorName= takes (systemd.socket(5)).
const MAX_GIVEN: usize = 255;

/// An address to ask; the port may be left out.
pub(super) fn server(field: &Field<'_>) -> Result<SocketAddr, Wrong> {
    /// RFC 1035 section 4.2.
    const DNS_PORT: u16 = 53;
    match text(field, ADDRESS_HELP)?.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => address(field).and_then(|server| match server.port() {
            0 => Err(Wrong::new(format!("{} {server}, and nothing answers on port 0", field.is()), ADDRESS_HELP)),
            _ => Ok(server),
        }),
    }
}

/// A DNS name that is a zone's, in lower case and without a trailing dot.
pub(super) fn zone(field: &Field<'_>) -> Result<String, Wrong> {
    let help = "write a DNS name, such as \"consul\" or \"prod.internal\"";
    let text = text(field, help)?;
    let name = host_name(text).ok().filter(|name| name.parse::<IpAddr>().is_err());
    name.ok_or_else(|| Wrong::new(format!("{} {text:?}, which is no DNS name", field.is()), help))
}

/// `"keep"`, or how long the streams of an endpoint that left may go on.
pub(super) fn on_leave(field: &Field<'_>) -> Result<OnLeave, Wrong> {
    match field.value.as_str() {
        Some("keep") => Ok(OnLeave::Keep),
        Some("off") => Err(Wrong::new("`on_leave` is \"off\"", "write \"keep\" to let such streams go on")),
        _ => wait_or_zero(field)
            .map(OnLeave::After)
            .map_err(|wrong| Wrong { help: format!("{}, or \"keep\"", wrong.help), ..wrong }),
    }
}

/// Permission bits, as chmod(1) writes them.
pub(super) fn mode(field: &Field<'_>) -> Result<u32, Wrong> {
    let help = "write the octal digits of chmod(1), such as \"0660\"";
    let text = text(field, help)?;
    Some(text)
        .filter(|text| (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| Wrong::new(format!("{} {text:?}", field.is()), help))
}

/// A user's or group's name, or its number as text.
pub(super) fn account(field: &Field<'_>) -> Result<String, Wrong> {
    word(field, "write the name of an account or its number, such as \"adit\" or \"1000\"")
}

/// What a certificate is called in the file.
pub(super) fn id(field: &Field<'_>) -> Result<String, Wrong> {
    word(field, "write a word of letters, digits, `-`, `_` and `.`")
}

fn word(field: &Field<'_>, help: &str) -> Result<String, Wrong> {
    let text = text(field, help)?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(is_word) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(format!("{} {text:?}", field.is()), help))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(field: &Field<'_>, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let help = format!("write {}", known.join(" or "));
    let text = text(field, &help)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| Wrong::new(format!("{} {text:?}", field.is()), help))
}

/// A logical name, written out.
pub(super) fn name(field: &Field<'_>) -> Result<Name, Wrong> {
    let text = text(field, "write a name, such as \"/svc/redis\"")?;
    Name::parse(text).map_err(|cause| Wrong::new(format!("{} {text:?}, which is no name: {cause}", field.is()), ""))
}

/// A pattern over names.
pub(super) fn pattern(field: &Field<'_>) -> Result<Pattern, Wrong> {
    Pattern::parse(text(field, "write a name or a pattern, such as \"/svc/redis\" or \"/svc/{service}\"")?)
        .map_err(|cause| misshapen(field, &cause))
}

/// A text with captures.
pub(super) fn template(field: &Field<'_>) -> Result<Template, Wrong> {
    Template::parse(text(field, "write a string, which may hold captures: \"{service}.prod.internal\"")?)
        .map_err(|cause| misshapen(field, &cause))
}

fn misshapen(field: &Field<'_>, cause: &PatternError) -> Wrong {
    let message = format!("{} misshapen here: {cause}", field.is());
    Wrong { offset: Some(cause.offset), message, help: String::new() }
}

const STAR_HELP: &str = "a `*` is the first label of a name, as in `*.web.prod.internal`, or the end of a SPIFFE id, as in \
                         `spiffe://prod.internal/web/*`";

/// One entry of an allow list.
pub(super) fn identity_pattern(field: &Field<'_>) -> Result<IdentityPattern, Wrong> {
    let text = text(field, "write whom to admit, such as \"*.web.prod.internal\"")?;
    IdentityPattern::parse(text).map_err(|cause| match text {
        "*" => Wrong::new(cause.message, cause.help),
        _ if text.contains('*') => Wrong::new(cause.message, STAR_HELP),
        _ => Wrong::new(cause.message, cause.help),
    })
}

/// One entry of `reach`.
pub(super) fn reach(field: &Field<'_>) -> Result<Reach, Wrong> {
    let help = "write a network and a port, such as \"10.1.0.0/16:5432\" or \"[fd00::/8]:5432\"";
    let text = text(field, help)?;
    Reach::parse(text).map_err(|cause| Wrong::new(format!("`{text}` is not where a name may lead: {cause}"), help))
}

/// Where a service is.
pub(super) fn target(field: &Field<'_>) -> Result<Target, Wrong> {
    if let Some(path) = unix(field)? {
        return Ok(Target::Unix(path));
    }
    let text = text(field, TARGET_HELP)?;
    if text.starts_with('/') {
        return name_template(field).map(Target::Name);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(Target::Tcp(address)),
        Ok(_) => Err(Wrong::new(format!("`to` is {text:?}, and nothing answers on port 0"), TARGET_HELP)),
        Err(_) => Err(no_target(text)),
    }
}

const TARGET_HELP: &str = "write \"127.0.0.1:6379\", \"unix:/run/x.sock\" or a name such as \"/svc/redis\"";

/// A host name has to be looked up, again and again: that is what names are for.
fn no_target(text: &str) -> Wrong {
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains([':', '/', ' ']) => {
            let message = format!("`to` is {text:?}, and a host name is no address");
            Wrong::new(message, format!("write \"/#/dns/{host}/{port}\" to have it looked up"))
        }
        _ => Wrong::new(format!("`to` is {text:?}, which leads nowhere"), TARGET_HELP),
    }
}

/// A template that is a name once its captures are filled in.
pub(super) fn name_template(field: &Field<'_>) -> Result<Template, Wrong> {
    let template = template(field)?;
    if template.is_literal() {
        name(field)?;
    }
    Ok(template)
}

/// Threads, or `"auto"`.
pub(super) fn threads(field: &Field<'_>) -> Result<Option<usize>, Wrong> {
    /// More than any machine has cores; each costs a stack.
    const MAX_THREADS: usize = 1024;
    match count_or_auto(field)? {
        Some(threads) if threads > MAX_THREADS => {
            let message = format!("`threads` cannot be {threads}");
            Err(Wrong::new(message, "write 1 to 1024, or \"auto\""))
        }
        threads => Ok(threads),
    }
}
