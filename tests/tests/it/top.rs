//! `adit top`: on a real terminal, and without one.

use std::{path::Path, process::Command};

use adit_tests::{
    address::Address,
    agent::{adit, binary},
    end::End,
    listener::Listener,
    mesh::{B, Mesh},
    need,
    process::{Finished, run},
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";

#[test]
fn one_frame_is_text_for_whoever_has_no_terminal() {
    // given a live stream
    let (mesh, service, socket, _dir) = mesh();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    let mut served = service.accept();
    assert_eq!(served.receive(5), b"hello");
    // then one frame shows it, in 24 lines of at most 80
    let frame = adit(&["top", "--once", "--interval", "0.1", "--socket", &socket]).expect_success();
    assert_eq!(frame.lines().count(), 24, "{frame}");
    assert!(frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
    for fact in ["ready", "[1] streams", ECHO, " out ", "q quit"] {
        assert!(frame.contains(fact), "no `{fact}` in:\n{frame}");
    }
    for (table, fact) in [("names", ECHO), ("endpoints", &*mesh.b.inbound().to_string()), ("identities", B)] {
        let frame =
            adit(&["top", "--once", "--interval", "0.1", "--table", table, "--socket", &socket]).expect_success();
        assert!(frame.contains(fact), "no `{fact}` in:\n{frame}");
    }
    let none = adit(&["top", "--once", "--interval", "0.1", "--filter", "nothing like it", "--socket", &socket])
        .expect_success();
    assert!(!none.contains(ECHO) && none.contains("[0 of 1 hold"), "{none}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let (_mesh, _service, socket, _dir) = mesh();
    let ended = adit(&["top", "--socket", &socket]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("adit top needs a terminal"), "{}", ended.stderr);
}

#[test]
fn a_terminal_shows_it_obeys_keys_and_is_given_back_at_q_and_at_a_signal() {
    need!("tmux", "stty");
    let (mesh, service, socket, dir) = mesh();
    let mut client = End::connect(&mesh.front(ECHO));
    client.send(b"hello");
    let mut served = service.accept();
    assert_eq!(served.receive(5), b"hello");
    for farewell in ["q", "TERM"] {
        // given a terminal of 80 by 24 in which it runs
        let screen = Screen::start(dir.path(), farewell, &socket);
        screen.until_it_shows("down/s");
        screen.until_it_shows(ECHO);
        // when a table is chosen by a key, then it is there
        screen.press("3");
        screen.until_it_shows(&mesh.b.inbound().to_string());
        screen.press("/");
        screen.press("nothing");
        screen.press("Enter");
        screen.until_it_shows("[0 of 1 hold");
        // and when it ends, then the terminal is as it was
        match farewell {
            "q" => screen.press("q"),
            _ => {
                let pid = std::fs::read_to_string(screen.dir.join(format!("{farewell}.pid"))).unwrap();
                let _ = run(Command::new("kill").args(["-TERM", pid.trim()]), LIMIT).expect_success();
            }
        }
        screen.until_it_shows("given back");
        let shown = screen.shown();
        assert!(!shown.contains("q quit"), "{shown}");
        // nor has it filled the agent's log, however often it looked
        let callers = mesh.a.log().matches("a caller at the admin socket").count();
        assert!(callers <= 4, "{callers} callers");
        let modes = std::fs::read_to_string(screen.dir.join(format!("{farewell}.modes"))).unwrap();
        assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
    }
}

#[test]
fn it_ends_with_its_terminal() {
    need!("tmux");
    let (_mesh, _service, socket, dir) = mesh();
    let screen = Screen::start(dir.path(), "gone", &socket);
    screen.until_it_shows("down/s");
    let pid = std::fs::read_to_string(screen.dir.join("gone.pid")).unwrap();
    let _ = screen.tmux(&["kill-server"]).expect_success();
    until("it to end", LIMIT, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // Who adopted it may not have looked at it yet.
        stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

fn mesh() -> (Mesh, Listener, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock").display().to_string();
    let service = Listener::at(&Address::any_port());
    let plan = Mesh::plan().service(ECHO, service.address());
    (plan.a_also(&format!("socket = \"{socket}\"\n")).start(), service, socket, dir)
}

/// A tmux server of the test's own, with one window.
struct Screen {
    dir: std::path::PathBuf,
    server: String,
}

impl Screen {
    /// Runs it until it ends, and then looks at the terminal's modes.
    fn start(dir: &Path, name: &str, socket: &str) -> Self {
        let at = dir.display();
        let screen = Self { dir: dir.to_owned(), server: format!("{at}/{name}.tmux") };
        let script = format!(
            "{} top --interval 0.2 --socket {socket} & echo $! > {at}/{name}.pid; fg >/dev/null; stty -a > {at}/{name}.modes; \
             echo given back; cat",
            binary().display()
        );
        let window = ["new-session", "-d", "-x", "80", "-y", "24", "bash", "-m", "-c", &script];
        let _ = screen.tmux(&window).expect_success();
        screen
    }

    fn tmux(&self, words: &[&str]) -> Finished {
        run(Command::new("tmux").env("TERM", "xterm").args(["-f", "/dev/null", "-S", &self.server]).args(words), LIMIT)
    }

    fn press(&self, key: &str) {
        let _ = self.tmux(&["send-keys", key]).expect_success();
    }

    fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).stdout
    }

    fn until_it_shows(&self, text: &str) {
        until(&format!("the screen to show `{text}`"), LIMIT, || self.shown().contains(text).then_some(()));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
