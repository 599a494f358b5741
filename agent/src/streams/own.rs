//! Connections of our own: what each is for, known from before anybody can accept it, so that one which comes back to a door
//! of ours is taken for what it is.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use adit_protocol::StreamId;

use super::{Streams, lock};
use crate::addr::Ends;

/// A stream that passes through this agent: what a connection from it to ourselves continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The stream's id, kept from agent to agent.
    pub id: StreamId,
    /// How many tunnels it has gone through.
    pub hops: u8,
}

/// What a connection of our own is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// It brings this stream to a service: what comes of it continues the stream. By its number here too, for a peer may give
    /// several streams one id.
    Carry(Hop, u64),
    /// It is to be a tunnel, which no door for applications may take for one of theirs. Set once one of ours has met it.
    Tunnel(Arc<AtomicBool>),
}

/// A tunnel that this agent is about to open has come to one of its own doors for applications: its name leads to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTunnel;

/// Keeps one of our own connections known; dropping it forgets it.
#[derive(Debug)]
pub struct OwnConnection {
    streams: Arc<Streams>,
    ends: Ends,
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        let mut own = lock(&self.streams.own);
        if let Some(others) = own.get_mut(&self.ends.from) {
            others.retain(|(to, _)| *to != self.ends.to);
            if others.is_empty() {
                own.remove(&self.ends.from);
            }
        }
    }
}

impl Streams {
    /// Remembers what the connection is for which `begin` begins, and whose ends it returns. Nobody learns meanwhile what a
    /// connection continues: one of our own doors may accept it before `begin` has returned. So `begin` must not wait.
    ///
    /// # Errors
    /// Those of `begin`.
    pub fn own<T>(
        self: &Arc<Self>,
        purpose: Purpose,
        begin: impl FnOnce() -> io::Result<(T, Option<Ends>)>,
    ) -> io::Result<(T, Option<OwnConnection>)> {
        let mut own = lock(&self.own);
        let (begun, ends) = begin()?;
        let known = ends.map(|ends| {
            own.entry(ends.from).or_default().push((ends.to, purpose));
            OwnConnection { streams: Arc::clone(self), ends }
        });
        Ok((begun, known))
    }

    /// The stream that a connection from `from` continues, if it is one of our own (PROTOCOL.md section 3, hops). Where it
    /// was meant to go, `to`, is asked only when it may be one: somebody else's may well have the local end of ours.
    ///
    /// # Errors
    /// It is no application's: this agent dials a tunnel, and who dials is told.
    pub fn continued_by<T>(&self, from: SocketAddr, to: impl FnOnce() -> T) -> Result<Option<Hop>, OwnTunnel>
    where
        T: IntoIterator<Item = SocketAddr>,
    {
        let Some(ours) = lock(&self.own).get(&from).cloned() else { return Ok(None) };
        let found = to().into_iter().find_map(|to| ours.iter().find(|(other, _)| *other == to));
        match found.map(|(_, purpose)| purpose) {
            None => Ok(None),
            Some(Purpose::Carry(hop, _)) => Ok(Some(*hop)),
            Some(Purpose::Tunnel(came_back)) => {
                came_back.store(true, Relaxed);
                Err(OwnTunnel)
            }
        }
    }
}
