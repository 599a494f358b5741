//! The law of the two state machines: whatever a dialer and an acceptor do, what one may send the other accepts, however
//! the bytes are cut on their way; counts agree, and a stream that is over leaves both idle.

use crate::frame::{Kind, MAX_EAGER, put};
use crate::{
    Acceptor, Answer, Code, Decoder, Dialer, Header, Item, Name, Phase, Preamble, Receipt, Refusal, ResetCode,
    Violation,
};

/// Each byte is one act: who does it, what, and how much of it. What is under way is delivered at the end.
pub fn stream(bytes: &[u8]) {
    let mut tunnel = Tunnel::default();
    for byte in bytes {
        tunnel.act(*byte);
        tunnel.agree_on_what_is_known();
    }
    tunnel.deliver(usize::MAX, usize::MAX);
    tunnel.agree_on_everything();
}

/// Two ends, and what is under way between them.
#[derive(Default)]
struct Tunnel {
    dialer: Dialer,
    acceptor: Acceptor,
    to_acceptor: Wire,
    to_dialer: Wire,
}

/// One direction: what was sent and not yet read, and its reader.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    reader: Decoder,
}

/// What an end does: the low bits of a byte; the high ones say how much.
const ACTS: [fn(&mut Tunnel, usize); 16] = [
    |tunnel, _| tunnel.open(false),
    |tunnel, much| tunnel.dial(Kind::Data, much),
    |tunnel, _| tunnel.dial(Kind::Fin, 0),
    |tunnel, _| tunnel.dial(Kind::Reset, 2),
    |tunnel, much| tunnel.deliver(1 + much, 0),
    |tunnel, much| tunnel.deliver(0, 1 + much),
    |tunnel, _| tunnel.accept(),
    |tunnel, _| tunnel.refuse(),
    |tunnel, much| tunnel.answer(Kind::Data, much),
    |tunnel, _| tunnel.answer(Kind::Fin, 0),
    |tunnel, _| tunnel.answer(Kind::Done, 0),
    |tunnel, _| tunnel.answer(Kind::Reset, 2),
    |tunnel, much| tunnel.misfit(much),
    |tunnel, _| tunnel.open(true),
    |tunnel, much| tunnel.extend(much),
    |tunnel, _| tunnel.deliver(usize::MAX, usize::MAX),
];

impl Tunnel {
    fn act(&mut self, byte: u8) {
        let act = ACTS[usize::from(byte & 0x0f)];
        act(self, usize::from(byte >> 4));
    }

    fn open(&mut self, probe: bool) {
        if self.dialer.open(probe).is_ok() {
            let preamble = Preamble { probe, ..Preamble::to(Name::parse("/svc/law").unwrap()) };
            preamble.encode(&mut self.to_acceptor.bytes);
        }
    }

    fn dial(&mut self, kind: Kind, len: usize) {
        // Some of the sizes stand at the eager bound.
        let len = if kind == Kind::Data && len > 8 { self.dialer.eager_room().min(MAX_EAGER) } else { len };
        let before = self.dialer.clone();
        match self.dialer.send(kind, len) {
            Ok(()) => send(kind, len, &mut self.to_acceptor.bytes),
            Err(_) => assert_eq!(self.dialer, before, "a call that fails changes nothing"),
        }
    }

    fn answer(&mut self, kind: Kind, len: usize) {
        let before = self.acceptor.clone();
        match self.acceptor.send(kind, len) {
            Ok(()) => send(kind, len, &mut self.to_dialer.bytes),
            Err(_) => assert_eq!(self.acceptor, before, "a call that fails changes nothing"),
        }
    }

    fn accept(&mut self) {
        let told = self.acceptor.is_probe().then(|| "/$/inet/10.0.0.1/80".to_owned());
        let answer = Answer { bound: told, rule: None };
        let mut frame = Vec::new();
        answer.encode(&mut frame);
        if self.acceptor.send(Kind::Accept, frame.len() - crate::HEADER_LEN).is_ok() {
            self.to_dialer.bytes.append(&mut frame);
        }
    }

    fn refuse(&mut self) {
        let refusal = Refusal::new(Code::Draining, "a law");
        if self.acceptor.send(Kind::Refuse, 2 + refusal.reason.len()).is_ok() {
            refusal.encode(&mut self.to_dialer.bytes);
        }
    }

    /// What is seldom done: RETIRE, and an OPEN that is malformed.
    fn misfit(&mut self, much: usize) {
        if much < 8 {
            self.answer(Kind::Retire, 0);
        } else if self.dialer.open(false).is_ok() {
            put(Kind::Open, b"\x01", &mut self.to_acceptor.bytes);
        }
    }

    fn extend(&mut self, much: usize) {
        let kind = Kind::Extension(0x40 + u8::try_from(much).unwrap_or(0));
        if much < 8 { self.dial(kind, much) } else { self.answer(kind, much) }
    }

    /// Lets each end read at most so many bytes of what is under way to it.
    fn deliver(&mut self, to_acceptor: usize, to_dialer: usize) {
        self.to_acceptor.deliver(to_acceptor, &mut self.acceptor);
        self.to_dialer.deliver(to_dialer, &mut self.dialer);
    }

    /// What must hold at every moment.
    fn agree_on_what_is_known(&self) {
        let (dialer, acceptor) = (&self.dialer, &self.acceptor);
        assert!(acceptor.retired() || !dialer.retired(), "RETIRE is the acceptor's word");
        assert_eq!(dialer.is_reusable(), dialer.phase() == Phase::Idle && !dialer.retired());
        assert!(dialer.phase() != Phase::Idle || dialer.eager_room() == 0);
        assert!(!acceptor.may_finish() || acceptor.phase() == Phase::Accepted);
    }

    /// What must hold once all that was sent has been read.
    fn agree_on_everything(&self) {
        let (dialer, acceptor) = (&self.dialer, &self.acceptor);
        match (dialer.phase(), acceptor.phase()) {
            (Phase::Idle | Phase::Opened | Phase::Accepted | Phase::Refused, phase) if phase == dialer.phase() => {
                assert_eq!(dialer.sent(), acceptor.received());
                assert_eq!(acceptor.sent(), dialer.received());
                assert_eq!(dialer.fin_sent(), acceptor.fin_received());
                assert_eq!(acceptor.fin_sent(), dialer.fin_received());
                assert_eq!(dialer.retired(), acceptor.retired());
            }
            // One reset the stream, or both did: no more of it can be read.
            (Phase::Reset, Phase::Aborted | Phase::Reset) | (Phase::Aborted, Phase::Reset) => {}
            (dialer, acceptor) => panic!("the dialer is {dialer} and the acceptor {acceptor}"),
        }
    }
}

/// The reader's half of a machine.
trait End {
    fn phase(&self) -> Phase;
    fn expect(&self, header: Header) -> Result<(), Violation>;
    fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation>;
}

impl End for Dialer {
    fn phase(&self) -> Phase {
        self.phase()
    }

    fn expect(&self, header: Header) -> Result<(), Violation> {
        self.expect(header)
    }

    fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation> {
        self.receive(item)
    }
}

impl End for Acceptor {
    fn phase(&self) -> Phase {
        self.phase()
    }

    fn expect(&self, header: Header) -> Result<(), Violation> {
        self.expect(header)
    }

    fn receive(&mut self, item: &Item<'_>) -> Result<Receipt, Violation> {
        self.receive(item)
    }
}

impl Wire {
    /// Reads at most so many bytes as `end` does. Who reset the stream, or heard RESET, reads nothing more.
    fn deliver(&mut self, most: usize, end: &mut impl End) {
        let most = most.min(self.bytes.len());
        let mut piece: &[u8] = &self.bytes[..most];
        while !matches!(end.phase(), Phase::Reset | Phase::Aborted) {
            let taken = self.reader.next(piece, |header| end.expect(header));
            let taken = taken.unwrap_or_else(|broken| panic!("what was sent is refused: {broken}"));
            piece = &piece[taken.consumed..];
            let Some(item) = taken.item else { break };
            let _ = end.receive(&item).unwrap_or_else(|broken| panic!("what was sent is refused: {broken}"));
        }
        self.bytes.drain(..most);
    }
}

fn send(kind: Kind, len: usize, out: &mut Vec<u8>) {
    match kind {
        Kind::Reset => ResetCode::TooOld.encode_reset(out),
        _ => put(kind, &vec![0x5a; len], out),
    }
}
