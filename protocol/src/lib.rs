//! adit/1, the tunnel protocol (`protocol/PROTOCOL.md`): bytes in, values out.
//!
//! The words of the project live here: logical names and patterns over them, frames, the preamble, refusals, and
//! the state machine of one stream on each side. Nothing in this crate does I/O, reads a clock, panics on what a
//! peer sent, or allocates by a length it was told.
//!
//! A tunnel's reader feeds a [`Decoder`] and shows each [`Header`] and each [`Item`] to its [`Dialer`] or [`Acceptor`];
//! its writer shows the machine each frame before it encodes it.
#![forbid(unsafe_code)]

mod answer;
mod cursor;
mod frame;
#[doc(hidden)]
pub mod laws;
mod name;
mod preamble;
mod refusal;
mod reset;
mod stream;
mod text;
mod violation;

pub use answer::Answer;
pub use frame::{
    Decoder, FrameClock, HEADER_LEN, Header, Item, Kind, MAX_CONTROL, MAX_DATA, MAX_EAGER, MAX_EXTENSIONS,
    MAX_PREAMBLE, MAX_REASON, Taken, put,
};
pub use name::{
    Captures, MAX_NAME, MAX_SEGMENT, MAX_SEGMENTS, MissingCapture, Name, NameError, Pattern, PatternError,
    PatternFault, Template,
};
pub use preamble::{MAX_HOPS, MAX_WORKLOAD, Preamble, StreamId, fit_workload};
pub use refusal::{Code, Refusal, RefusalCode, Retry};
pub use reset::ResetCode;
pub use stream::{Acceptor, Dialer, Phase, Receipt};
pub use violation::Violation;
