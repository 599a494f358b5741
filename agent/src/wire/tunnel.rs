//! A tunnel: a channel with the protocol's frames on it, every one of them passed through the state machine of its
//! side, whether it arrives or leaves (PROTOCOL.md sections 2 and 4).
//!
//! It opens no connection, waits for nothing and decides nothing about a stream; it keeps anyone from breaking the
//! protocol, ourselves included.

use std::time::{Duration, Instant};

use adit_protocol::{
    Acceptor, Answer, Decoder, Dialer, FrameClock, HEADER_LEN, Header, Item, Kind, Preamble, Receipt, Refusal,
    ResetCode, Violation, put,
};

use super::{
    buffer::Buffer,
    channel::{Channel, Filled},
};

/// A tunnel of either side.
#[derive(Debug)]
pub struct Tunnel {
    /// The TLS connection below. In a box, for a tunnel is handed on from owner to owner, each of which has room for it.
    pub channel: Box<Channel>,
    decoder: Decoder,
    role: Role,
    /// How many of the channel's opened bytes, from the front, are payload that waits to be taken.
    due: usize,
    /// How long a frame that was begun has been waited for.
    clock: FrameClock,
}

/// The state machine of our side.
#[derive(Debug)]
pub enum Role {
    /// We opened the tunnel.
    Dialer(Dialer),
    /// We accepted it.
    Acceptor(Acceptor),
}

/// What arrived: one frame, or a piece of DATA.
#[derive(Debug)]
pub enum Arrival {
    /// Stream bytes: see [`Tunnel::payload`]. Nothing else arrives until they are taken.
    Payload,
    /// The dialer asks for a stream; an ill-formed preamble brings the refusal that it earns.
    Open(Result<Preamble, Refusal>),
    /// The acceptor took the stream.
    Accept(Answer),
    /// The acceptor did not.
    Refuse(Refusal),
    /// No more bytes from the peer in this stream.
    Fin,
    /// The peer aborted the stream.
    Reset(ResetCode),
    /// No further stream on this tunnel.
    Retire,
    /// The stream is over.
    Done,
    /// Something that crossed a word of ours and means nothing any more.
    Ignored,
    /// The peer aborted a stream that was over for us: the tunnel is to be closed.
    CloseQuietly,
}

impl Tunnel {
    /// The dialer's end of a fresh channel.
    pub fn dialer(channel: Channel) -> Self {
        Self::new(channel, Role::Dialer(Dialer::new()))
    }

    /// The acceptor's end of a fresh channel.
    pub fn acceptor(channel: Channel) -> Self {
        Self::new(channel, Role::Acceptor(Acceptor::new()))
    }

    fn new(channel: Channel, role: Role) -> Self {
        Self { channel: Box::new(channel), decoder: Decoder::new(), role, due: 0, clock: FrameClock::default() }
    }

    /// The next thing that arrived and was read; `None` when more must be read first (see [`Self::fill`]).
    ///
    /// # Errors
    /// The peer broke the protocol: abort the stream and close the tunnel at once.
    pub fn arrival(&mut self) -> Result<Option<Arrival>, Violation> {
        debug_assert_eq!(self.due, 0, "payload must be taken before the next frame is looked at");
        let opened = self.channel.opened();
        if opened.is_empty() {
            return Ok(None);
        }
        let role = &self.role;
        let taken = self.decoder.next(opened, |header| role.expect(header))?;
        let receipt = match &taken.item {
            Some(item) => Some(self.role.receive(item)?),
            None => None,
        };
        let mut consumed = taken.consumed;
        let arrival = taken.item.map(|item| match receipt {
            Some(Receipt::Ignored) => Arrival::Ignored,
            Some(Receipt::CloseQuietly) => Arrival::CloseQuietly,
            Some(Receipt::Taken) | None => {
                if let Item::Data(piece) = item {
                    self.due = piece.len();
                    consumed -= piece.len();
                }
                Arrival::from(item)
            }
        });
        self.channel.take(consumed);
        Ok(arrival)
    }

    /// Reads once from the socket; see [`Channel::fill`].
    pub fn fill(&mut self) -> Filled {
        self.pause();
        let filled = self.channel.fill();
        if filled == Filled::NotNow
            && let Some(frame) = self.decoder.awaited()
        {
            self.clock.run(Some(frame), Instant::now());
        }
        filled
    }

    /// Stops the clock of a begun frame: nobody reads the tunnel until the next [`Self::fill`].
    pub fn pause(&mut self) {
        if self.clock.is_running() {
            self.clock.stop(Instant::now());
        }
    }

    /// When the frame that was begun must be whole, if one was and nothing of it is left to read.
    pub fn frame_deadline(&self, limit: Duration) -> Option<Instant> {
        self.clock.deadline(limit)
    }

    /// Looks whether that moment has passed.
    ///
    /// # Errors
    /// The peer began a frame and did not finish it: the protocol is broken.
    pub fn check_frame(&self, limit: Duration) -> Result<(), Violation> {
        match self.frame_deadline(limit) {
            Some(deadline) if deadline <= Instant::now() => Err(Violation::Unfinished),
            _ => Ok(()),
        }
    }

    /// The payload that waits to be taken.
    pub fn payload(&self) -> &[u8] {
        &self.channel.opened()[..self.due]
    }

    /// Says that `count` bytes of the payload were passed on.
    pub fn take_payload(&mut self, count: usize) {
        debug_assert!(count <= self.due, "more payload was taken than had arrived");
        self.due -= count;
        self.channel.take(count);
    }

    /// The state machine of our side.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Seals an OPEN and, in the same record, the first bytes of the stream and its FIN.
    ///
    /// # Errors
    /// When the tunnel is not idle: a mistake of ours.
    pub fn open(&mut self, preamble: &Preamble, eager: &[u8], fin: bool) -> Result<(), Unsent> {
        let Role::Dialer(dialer) = &mut self.role else {
            return Err(Unsent::Misuse(Violation::Place { phase: adit_protocol::Phase::Idle, kind: Kind::Open }));
        };
        dialer.open(preamble.probe)?;
        let mut frames = Vec::with_capacity(128 + eager.len());
        preamble.encode(&mut frames);
        if !eager.is_empty() {
            dialer.send(Kind::Data, eager.len())?;
            put(Kind::Data, eager, &mut frames);
        }
        if fin {
            dialer.send(Kind::Fin, 0)?;
            put(Kind::Fin, &[], &mut frames);
        }
        self.seal(&frames)
    }

    /// Seals the DATA frame that `framed` holds behind room for its header; empties it.
    ///
    /// # Errors
    /// When a frame must not be sent now (a mistake of ours), or TLS takes nothing any more.
    pub fn send_data(&mut self, framed: &mut Buffer) -> Result<(), Unsent> {
        let payload = framed.len() - HEADER_LEN;
        self.role.send(Kind::Data, payload)?;
        framed.data_mut()[..HEADER_LEN].copy_from_slice(&Header::data(payload).encode());
        let sealed = self.seal(framed.data());
        framed.clear();
        sealed
    }

    /// Seals a DATA frame of `payload`: for the bytes before the answer, which are kept besides.
    ///
    /// # Errors
    /// As [`Self::send_data`].
    pub fn send_eager(&mut self, payload: &[u8]) -> Result<(), Unsent> {
        self.role.send(Kind::Data, payload.len())?;
        let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
        put(Kind::Data, payload, &mut frame);
        self.seal(&frame)
    }

    /// Seals a frame that has no payload.
    ///
    /// # Errors
    /// As [`Self::send_data`].
    pub fn send(&mut self, kind: Kind) -> Result<(), Unsent> {
        self.role.send(kind, 0)?;
        self.seal(&Header { kind, len: 0 }.encode())
    }

    /// Seals RESET.
    ///
    /// # Errors
    /// As [`Self::send_data`].
    pub fn send_reset(&mut self, code: ResetCode) -> Result<(), Unsent> {
        self.send_encoded(Kind::Reset, |out| code.encode_reset(out))
    }

    /// Seals ACCEPT.
    ///
    /// # Errors
    /// As [`Self::send_data`].
    pub fn send_accept(&mut self, answer: &Answer) -> Result<(), Unsent> {
        self.send_encoded(Kind::Accept, |out| answer.encode(out))
    }

    /// Seals REFUSE.
    ///
    /// # Errors
    /// As [`Self::send_data`].
    pub fn send_refusal(&mut self, refusal: &Refusal) -> Result<(), Unsent> {
        self.send_encoded(Kind::Refuse, |out| refusal.encode(out))
    }

    fn send_encoded(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), Unsent> {
        let mut frame = Vec::with_capacity(64);
        encode(&mut frame);
        self.role.send(kind, frame.len() - HEADER_LEN)?;
        self.seal(&frame)
    }

    fn seal(&mut self, frames: &[u8]) -> Result<(), Unsent> {
        if self.channel.seal(frames) { Ok(()) } else { Err(Unsent::Tls) }
    }
}

impl Role {
    fn expect(&self, header: Header) -> Result<(), Violation> {
        match self {
            Self::Dialer(dialer) => dialer.expect(header),
            Self::Acceptor(acceptor) => acceptor.expect(header),
        }
    }

    fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation> {
        match self {
            Self::Dialer(dialer) => dialer.receive(item),
            Self::Acceptor(acceptor) => acceptor.receive(item),
        }
    }

    fn send(&mut self, kind: Kind, len: usize) -> Result<(), Violation> {
        match self {
            Self::Dialer(dialer) => dialer.send(kind, len),
            Self::Acceptor(acceptor) => acceptor.send(kind, len),
        }
    }
}

/// Why a frame was not sealed.
#[derive(Debug)]
pub enum Unsent {
    /// The state machine does not let us send it now: a mistake of ours, never the peer's.
    Misuse(Violation),
    /// TLS takes nothing any more: the channel ended.
    Tls,
}

impl From<Violation> for Unsent {
    fn from(violation: Violation) -> Self {
        Self::Misuse(violation)
    }
}

impl From<Item<'_>> for Arrival {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Data(_) => Self::Payload,
            Item::Open(opening) => Self::Open(opening),
            Item::Accept(answer) => Self::Accept(answer),
            Item::Refuse(refusal) => Self::Refuse(refusal),
            Item::Fin => Self::Fin,
            Item::Reset(code) => Self::Reset(code),
            Item::Retire => Self::Retire,
            Item::Done => Self::Done,
        }
    }
}
