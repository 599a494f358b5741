//! An agent hands its place to another process, a successor of the same or of another version: the successor is started
//! with the sockets that listen, makes itself ready while this one serves on, and says so over the line between the two;
//! then it is told to go, and accepts from there on. Whatever goes wrong before that word changes nothing.
//!
//! `old` is the side of the agent that is to be succeeded, `new` that of its successor, `word` what they say. What either
//! does about doors, streams and signals is `app`'s to know.

mod new;
mod old;
mod word;

pub use new::{Go, Heritage, Line};
pub use old::{Failed, Origin, Successor};

/// What the line is called among the descriptors that a successor is given.
const LINE: &str = "adit-predecessor";
/// And those of agents before, which still carry streams: this, and a number.
const OLDER: &str = "adit-predecessor-";
