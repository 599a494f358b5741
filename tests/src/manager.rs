//! A service manager as systemd is one to a service (sd_notify(3), sd_listen_fds(3)): it starts agents with the sockets that
//! it was given or keeps, hears what they tell, keeps the sockets they hand over, and gives them to the next. It restarts
//! nothing and kills nobody: the test does.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tempfile::TempDir;

use crate::wait::{LIMIT, until};

/// What the process becomes that is to be a service: it takes the sockets, and then is what it was asked to be.
const LAUNCH: &str = r#"
import fcntl, os, socket, sys
caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
caller.connect(sys.argv[1] + "/launch")
names, fds, _, _ = socket.recv_fds(caller, 65536, 64)
caller.close()
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for fd in fds:
    os.close(fd)
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ.update(NOTIFY_SOCKET=sys.argv[1] + "/notify")
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names.decode().strip())
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// How often its threads look whether they are to end.
const LOOK: Duration = Duration::from_millis(50);
/// The most descriptors of one message.
const MOST: usize = 8;

/// The manager; it ends with the test.
#[derive(Debug)]
pub struct Manager {
    dir: TempDir,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    said: Mutex<Vec<String>>,
    /// Sockets of a .socket unit: each start is given them.
    bound: Mutex<Vec<(String, OwnedFd)>>,
    kept: Mutex<Vec<(String, OwnedFd)>>,
    ends: AtomicBool,
}

impl Manager {
    /// One that has no socket yet.
    #[must_use]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let state = Arc::new(State::default());
        let notify = UnixDatagram::bind(dir.path().join("notify")).expect("a new folder takes a socket");
        notify.set_read_timeout(Some(LOOK)).expect("a socket takes a time limit");
        let launch = UnixListener::bind(dir.path().join("launch")).expect("a new folder takes a socket");
        launch.set_nonblocking(true).expect("a socket can be made not to block");
        let (hears, gives) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            thread::spawn(move || {
                while !hears.ends.load(Relaxed) {
                    hears.hear(&notify);
                }
            }),
            thread::spawn(move || {
                while !gives.ends.load(Relaxed) {
                    gives.give(&launch);
                }
            }),
        ];
        Self { dir, state, threads }
    }

    /// The command that leads an agent under this manager, with these variables in its environment.
    #[must_use]
    pub fn leads(&self, variables: &[&str]) -> Vec<String> {
        let dir = self.dir.path().display().to_string();
        let python = ["python3", "-c", LAUNCH, &dir];
        ["env"].iter().chain(variables).chain(&python).map(|word| (*word).to_owned()).collect()
    }

    /// A path in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Binds a socket for every agent from now on, as a .socket unit does.
    pub fn binds(&self, name: &str, socket: impl Into<OwnedFd>) {
        lock(&self.state.bound).push((name.to_owned(), socket.into()));
    }

    /// Keeps a socket, as if an agent had handed it over before.
    pub fn keeps(&self, name: &str, socket: impl Into<OwnedFd>) {
        lock(&self.state.kept).push((name.to_owned(), socket.into()));
    }

    /// What it keeps, by name, in order of the alphabet.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.state.kept).iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// All it was told, a message each.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        lock(&self.state.said).clone()
    }

    /// Forgets what it was told so far.
    pub fn forget(&self) {
        lock(&self.state.said).clear();
    }

    /// Waits until it was told something that holds `text`; that message.
    pub fn until_said(&self, text: &str) -> String {
        until(&format!("an agent to say {text}"), LIMIT, || self.said().into_iter().find(|said| said.contains(text)))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.state.ends.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    /// One message, if there is one.
    fn hear(&self, notify: &UnixDatagram) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 4096];
        let heard = recvmsg(notify, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map(|it| it.bytes);
        let Ok(length) = heard else { return };
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<_>>()),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        let text = String::from_utf8_lossy(&text[..length]).trim_end().to_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        let mut kept = lock(&self.kept);
        if text.contains("FDSTOREREMOVE=1") {
            kept.retain(|(other, _)| *other != name);
        } else if text.contains("FDSTORE=1") {
            // As systemd does, it keeps no socket twice, and any number of them under one name.
            let known: Vec<_> = kept.iter().map(|(_, descriptor)| inode(descriptor)).collect();
            let new = descriptors.into_iter().filter(|descriptor| !known.contains(&inode(descriptor)));
            kept.extend(new.map(|descriptor| (name.clone(), descriptor)));
        }
        drop(kept);
        // What else came with it, such as the end of a barrier's pipe, is closed here.
        lock(&self.said).push(text);
    }

    /// The sockets, to whoever asks.
    fn give(&self, launch: &UnixListener) {
        let Ok((caller, _)) = launch.accept() else { return thread::sleep(LOOK / 10) };
        let (bound, kept) = (lock(&self.bound), lock(&self.kept));
        let all: Vec<_> = bound.iter().chain(&*kept).collect();
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        let descriptors: Vec<_> = all.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)), "at most {MOST} sockets");
        let names = format!("{}\n", names.join(":"));
        sendmsg(&caller, &[IoSlice::new(names.as_bytes())], &mut ancillary, SendFlags::empty())
            .expect("who asks for sockets takes them");
    }
}

/// Which socket it is, of all that there are.
fn inode(descriptor: &OwnedFd) -> u64 {
    rustix::fs::fstat(descriptor).expect("an open descriptor has a state").st_ino
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of the manager panics")
}
