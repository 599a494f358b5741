//! How the agent stands, in the one line that a service manager shows.

use std::fmt;

/// The counts of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) doors: usize,
    pub(super) streams: usize,
    pub(super) tunnels: usize,
    /// Agents from before an upgrade that have streams yet, which are not counted here.
    pub(super) predecessors: usize,
    /// Whether the file on disk is another than the one in force.
    pub(super) is_behind: bool,
    pub(super) is_draining: bool,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_draining {
            write!(f, "draining: {} left", counted(self.streams, "stream"))?;
        } else {
            let [doors, streams, tunnels] = [(self.doors, "door"), (self.streams, "stream"), (self.tunnels, "tunnel")]
                .map(|(n, of)| counted(n, of));
            write!(f, "{doors}, {streams}, {tunnels}")?;
        }
        if self.predecessors > 0 {
            write!(f, "; {} with streams yet", counted(self.predecessors, "predecessor"))?;
        }
        if self.is_behind && !self.is_draining {
            write!(f, "; the file on disk is not in force")?;
        }
        Ok(())
    }
}

fn counted(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Standing =
        Standing { doors: 1, streams: 0, tunnels: 2, predecessors: 0, is_behind: false, is_draining: false };

    #[test]
    fn each_count_has_its_word() {
        assert_eq!(QUIET.to_string(), "1 door, 0 streams, 2 tunnels");
        let before = Standing { predecessors: 2, is_behind: true, ..QUIET };
        assert_eq!(
            before.to_string(),
            "1 door, 0 streams, 2 tunnels; 2 predecessors with streams yet; the file on disk is not in force"
        );
    }

    #[test]
    fn a_drain_says_what_is_left_and_no_more() {
        let draining = Standing { streams: 1, predecessors: 1, is_behind: true, is_draining: true, ..QUIET };
        assert_eq!(draining.to_string(), "draining: 1 stream left; 1 predecessor with streams yet");
    }
}
