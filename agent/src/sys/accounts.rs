//! Users and groups by name, as passwd(5) and group(5) have them.
//!
//! The files are read, and not NSS asked: a look-up there may wait for a server on the network, loads the operator's modules
//! into this process, and is unsafe code. Accounts of a directory are known by their numbers.

use std::{fs::File, io, io::Read, path::Path};

/// Where users are.
pub const USERS: &str = "/etc/passwd";
/// Where groups are.
pub const GROUPS: &str = "/etc/group";

/// The longest file of accounts that is read, in bytes: some hundred thousand of them.
const MOST: u64 = 16 << 20;

/// The number of a user: the name itself, if it is one, or its number in [`USERS`].
///
/// # Errors
/// There is none, or the file cannot be read.
pub fn user(name: &str) -> io::Result<u32> {
    lookup(USERS, "user", name)
}

/// The same of a group.
///
/// # Errors
/// There is none, or the file cannot be read.
pub fn group(name: &str) -> io::Result<u32> {
    lookup(GROUPS, "group", name)
}

/// Names and numbers in the order of a file.
///
/// # Errors
/// The file cannot be read, or is longer than any such file.
pub fn read(file: &Path) -> io::Result<Vec<(String, u32)>> {
    let mut text = String::new();
    File::open(file)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is longer than {MOST} bytes", file.display()),
        ));
    }
    Ok(parse(&text))
}

fn lookup(file: &str, what: &str, name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = read(Path::new(file))?.into_iter().find(|(known, _)| known == name).map(|(_, number)| number);
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} `{name}` in {file}")))
}

/// The first and the third field of each line that has both.
fn parse(text: &str) -> Vec<(String, u32)> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_is_passed_over() {
        let text = "root:x:0:0:root:/root:/bin/sh\n\n# a remark\n+::::::\nbad:x:many:0::/:\nweb:x:33:33::/var/www:\n";
        assert_eq!(parse(text), [("root".to_owned(), 0), ("web".to_owned(), 33)]);
    }

    #[test]
    fn a_number_is_an_account_and_a_name_is_looked_up() {
        assert_eq!(user("4711").unwrap(), 4711);
        assert_eq!((user("root").unwrap(), group("root").unwrap()), (0, 0));
        let missing = user("no such user").unwrap_err().to_string();
        assert_eq!(missing, "there is no user `no such user` in /etc/passwd");
    }
}
