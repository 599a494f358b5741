//! Users and groups by name, wherever the host keeps them (nsswitch.conf(5)): files, a directory, systemd's dynamic users.

use std::{ffi::CString, io, ptr};

/// Longer entries than this are refused: a group's lists all its members.
const LONGEST: usize = 1 << 20;

/// The number of a user; none if nobody has that name.
///
/// # Errors
/// The look-up itself failed.
pub fn user(name: &str) -> io::Result<Option<u32>> {
    look_up(name, |name, buffer| {
        // SAFETY: passwd is plain data, and all zeros is a value of it.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: name is a C string; entry, buffer with its length, and found outlive the call, and nothing of them is
        // used after it but a number.
        let code = unsafe {
            libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found)
        };
        (code, (!found.is_null()).then_some(entry.pw_uid))
    })
}

/// The number of a group; none if none has that name.
///
/// # Errors
/// The look-up itself failed.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    look_up(name, |name, buffer| {
        // SAFETY: group is plain data, and all zeros is a value of it.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: as for a user.
        let code = unsafe {
            libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &raw mut found)
        };
        (code, (!found.is_null()).then_some(entry.gr_gid))
    })
}

/// Asks with a greater buffer for as long as the answer does not fit.
fn look_up(name: &str, ask: impl Fn(&CString, &mut [u8]) -> (i32, Option<u32>)) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    let mut size = 1024;
    loop {
        match ask(&name, &mut vec![0; size]) {
            (0, found) => return Ok(found),
            // What getpwnam(3) says some libraries return for "not found".
            (libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, _) => return Ok(None),
            (libc::EINTR, _) => {}
            (libc::ERANGE, _) if size < LONGEST => size *= 2,
            (code, _) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_this_host_have_numbers_and_others_have_none() {
        assert_eq!(user("root").unwrap(), Some(0));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(user("nobody-at-all").unwrap(), None);
        assert_eq!(group("nobody-at-all").unwrap(), None);
        assert!(user("a\0b").is_err());
    }
}
