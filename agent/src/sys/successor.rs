//! Starting a process that is to take this one's place: it has some of this one's descriptors, by the rule of
//! sd_listen_fds(3), and for its parent whoever adopts orphans, which is the service manager: that one hears of its end, and
//! this process need not outlive it.

use std::{
    ffi::{CString, OsString},
    io::{self, PipeReader, Read},
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    ptr,
};

use libc::{c_char, c_int};

/// The first descriptor that is given (sd_listen_fds(3), SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// Variables that are about one process, and so are not the next one's.
const OWN: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
const LISTEN_PID: &str = "LISTEN_PID=";
/// Digits of the greatest process id, and the end of the text.
const DIGITS: usize = 11;

/// Starts `program` with this process' environment and standard streams, and these descriptors under these names. Returns
/// its process id once it runs. Blocks until then.
///
/// # Errors
/// The system has no process for it, or `program` cannot be run.
pub fn start(program: &Path, arguments: &[OsString], given: &[(String, BorrowedFd<'_>)]) -> io::Result<u32> {
    let (mut report, told) = io::pipe()?;
    let mut image = Image::new(program, arguments, given, told.as_raw_fd())?;
    let held = Signals::hold()?;
    // SAFETY: in the child, which has one thread, `Image::become_it` calls only what is async-signal-safe
    // (signal-safety(7)) and uses only memory that was allocated before; it never returns.
    let child = match unsafe { libc::fork() } {
        // SAFETY: as above; this is the child.
        0 => unsafe { image.become_it() },
        child => child,
    };
    let failed = io::Error::last_os_error();
    drop(held);
    if child < 0 {
        return Err(failed);
    }
    drop(told);
    reap(child)?;
    read_report(&mut report)
}

/// Everything that the new process is made of, allocated before there is one.
struct Image {
    program: CString,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// What `argv` and `envp` point into.
    _texts: Vec<CString>,
    /// `LISTEN_PID=`, and room for the number; `envp` points into it too.
    listen_pid: Vec<u8>,
    given: Vec<RawFd>,
    report: RawFd,
}

impl Image {
    fn new(
        program: &Path,
        arguments: &[OsString],
        given: &[(String, BorrowedFd<'_>)],
        report: RawFd,
    ) -> io::Result<Self> {
        let text =
            |bytes: Vec<u8>| CString::new(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error));
        let names: Vec<_> = given.iter().map(|(name, _)| name.replace(':', ",")).collect();
        let program = text(program.as_os_str().as_bytes().to_vec())?;
        let arguments = arguments.iter().map(|argument| text(argument.as_bytes().to_vec()));
        let arguments: Vec<_> = arguments.collect::<Result<_, _>>()?;
        let kept = std::env::vars_os().filter(|(name, _)| !OWN.iter().any(|own| name == own));
        let kept = kept.map(|(name, value)| [name.into_vec(), value.into_vec()].join(&b'='));
        let listen = [format!("LISTEN_FDS={}", given.len()), format!("LISTEN_FDNAMES={}", names.join(":"))];
        let variables = kept.chain(listen.map(String::into_bytes)).map(text).collect::<Result<Vec<_>, _>>()?;
        let mut listen_pid = LISTEN_PID.as_bytes().to_vec();
        listen_pid.resize(LISTEN_PID.len() + DIGITS, 0);
        // A CString's and a vector's bytes stay where they are when the value itself is moved.
        let argv = arguments.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        let own = listen_pid.as_ptr().cast::<c_char>();
        let envp = variables.iter().map(|text| text.as_ptr()).chain([own, ptr::null()]).collect();
        let texts = arguments.into_iter().chain(variables).collect();
        let given = given.iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect();
        Ok(Self { program, argv, envp, _texts: texts, listen_pid, given, report })
    }

    /// In a child of the old process: leaves a child of its own behind, which becomes the new one.
    ///
    /// # Safety
    /// There is one thread, and nothing else is done in this process.
    unsafe fn become_it(&mut self) -> ! {
        // SAFETY: as the caller says; every pointer is into memory that `self` owns and ends as execve(2) wants it.
        unsafe {
            match libc::fork() {
                0 => {}
                -1 => self.fail(),
                _ => libc::_exit(0),
            }
            self.settle_descriptors();
            let pid = libc::getpid();
            write_digits(&mut self.listen_pid[LISTEN_PID.len()..], pid);
            self.tell(pid);
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
            self.fail()
        }
    }

    /// Puts each descriptor in its place. First all of them are moved out of the way, for one may stand where another is to
    /// be.
    unsafe fn settle_descriptors(&mut self) {
        let count = RawFd::try_from(self.given.len()).unwrap_or(RawFd::MAX - FIRST);
        // SAFETY: the descriptors are this process' own, and nothing else uses them here.
        unsafe {
            self.report = self.out_of_the_way(self.report, FIRST + count);
            for at in 0..self.given.len() {
                self.given[at] = self.out_of_the_way(self.given[at], FIRST + count);
            }
            for (at, descriptor) in (FIRST..).zip(&self.given) {
                // Not closed at exec, for the copy's flag is its own (dup(2)).
                if libc::dup2(*descriptor, at) < 0 {
                    self.fail();
                }
            }
        }
    }

    unsafe fn out_of_the_way(&self, descriptor: RawFd, from: RawFd) -> RawFd {
        // SAFETY: fcntl(2) makes a copy, and touches no memory.
        match unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, from) } {
            copy if copy >= 0 => copy,
            // SAFETY: this is the child, which does nothing else.
            _ => unsafe { self.fail() },
        }
    }

    unsafe fn fail(&self) -> ! {
        // SAFETY: the number is this thread's, and the two calls are async-signal-safe.
        unsafe {
            let errno = *libc::__errno_location();
            self.tell(0);
            self.tell(errno);
            libc::_exit(127)
        }
    }

    unsafe fn tell(&self, number: c_int) {
        let bytes = number.to_ne_bytes();
        // SAFETY: the bytes live through the call. Fewer than a pipe's least room are written whole.
        unsafe { libc::write(self.report, bytes.as_ptr().cast(), bytes.len()) };
    }
}

/// Signals that come between fork and exec wait for the new program, which has no handler of this one's.
struct Signals(libc::sigset_t);

impl Signals {
    fn hold() -> io::Result<Self> {
        // SAFETY: both sets are this function's own, and are filled before they are read.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) {
                0 => Ok(Self(before)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: it is the set that was in force.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// Without the standard library's formatting, which may allocate.
fn write_digits(into: &mut [u8], number: c_int) {
    let mut rest = number.unsigned_abs();
    let count = rest.checked_ilog10().map_or(1, |log| log as usize + 1);
    for place in into.iter_mut().take(count).rev() {
        // A digit is below 10.
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The child that left a child of its own has ended by now, or will at once.
fn reap(child: c_int) -> io::Result<()> {
    loop {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(child, ptr::null_mut(), 0) } {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
            _ => return Ok(()),
        }
    }
}

/// The process id, and after it, if the program could not be run, why.
fn read_report(report: &mut PipeReader) -> io::Result<u32> {
    let mut bytes = Vec::new();
    report.read_to_end(&mut bytes)?;
    let numbers: Vec<_> =
        bytes.chunks_exact(4).map(|four| i32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect();
    match numbers[..] {
        [pid] => u32::try_from(pid).map_err(io::Error::other),
        [.., errno] => Err(io::Error::from_raw_os_error(errno)),
        [] => Err(io::Error::other("the process ended before it was one")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::*;

    fn script(text: &str) -> Vec<OsString> {
        ["sh", "-c", text].map(OsString::from).to_vec()
    }

    #[test]
    fn it_has_the_descriptors_and_is_told_that_they_are_its_own() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let given = [("one".to_owned(), there.as_fd()), ("a:b".to_owned(), there.as_fd())];
        let say =
            "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES ${WATCHDOG_PID-none} >&4; read word <&3; echo $word >&3";
        let pid = start(Path::new("/bin/sh"), &script(say), &given).unwrap();
        drop(there);
        here.write_all(b"word\n").unwrap();
        let mut heard = String::new();
        here.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, format!("{pid} {pid} 2 one:a,b none\nword\n"));
    }

    #[test]
    fn its_parent_is_another() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let given = [("one".to_owned(), there.as_fd())];
        start(Path::new("/bin/sh"), &script("echo $PPID >&3"), &given).unwrap();
        drop(there);
        let mut parent = String::new();
        here.read_to_string(&mut parent).unwrap();
        assert_ne!(parent.trim(), std::process::id().to_string());
    }

    #[test]
    fn what_cannot_be_run_is_an_error() {
        let missing = start(Path::new("/nowhere/adit"), &script(""), &[]).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("adit");
        fs::write(&file, "no program").unwrap();
        assert_eq!(start(&file, &script(""), &[]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
