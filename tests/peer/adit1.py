"""adit/1 as pure functions and state machines over bytes: frames, preamble, state rules, retry.

Written from the protocol document alone, as a second opinion on it. Nothing here does I/O.
"""

import enum
import re
import struct
import unicodedata
from dataclasses import dataclass, field

ALPN = "adit/1"
EAGER_LIMIT = 65536
EXTENSION_RUN_LIMIT = 65536
CONTROL_LIMIT = 4096
ANSWER_TEXT_LIMIT = 1024
MAX_DATA = 1 << 20
MAX_HOPS = 8
MAX_ATTEMPTS = 3


@dataclass
class Timers:
    """Every time limit in seconds. The last three have no value in the document."""

    frame: float = 5.0
    alert_drain: float = 2.0
    refuse_drain: float = 5.0
    reset_wait: float = 1.0
    close_drain: float = 5.0
    dialer_idle: float = 60.0
    acceptor_idle: float = 120.0
    retire_wait: float = 10.0
    handshake: float = 10.0
    open: float = 10.0
    connect: float = 5.0


class Kind(enum.IntEnum):
    """The frame kinds of adit/1."""

    DATA = 0x00
    OPEN = 0x01
    ACCEPT = 0x02
    REFUSE = 0x03
    FIN = 0x04
    RESET = 0x05
    RETIRE = 0x06
    DONE = 0x07


LENGTHS = {
    Kind.DATA: (1, MAX_DATA),
    Kind.OPEN: (0, CONTROL_LIMIT),
    Kind.ACCEPT: (0, CONTROL_LIMIT),
    Kind.REFUSE: (2, 514),
    Kind.FIN: (0, 0),
    Kind.RESET: (2, 2),
    Kind.RETIRE: (0, 0),
    Kind.DONE: (0, 0),
}


class Refusal(enum.IntEnum):
    """REFUSE codes."""

    MALFORMED = 1
    UNKNOWN = 2
    DENIED = 3
    UNAVAILABLE = 4
    TIMEOUT = 5
    OVERLOADED = 6
    DRAINING = 7
    LOOP = 8
    MISDIRECTED = 9


class Reset(enum.IntEnum):
    """RESET codes."""

    SOCKET = 1
    IDLE = 2
    STALLED = 3
    TOO_OLD = 4
    WITHDRAWN = 5
    DRAINING = 6
    INTERNAL = 7


class ProtocolError(Exception):
    """The peer broke a rule: abort the local socket and close the tunnel at once."""

    def __init__(self, rule, text):
        super().__init__(text)
        self.rule = rule


def broken(rule):
    """What raises a ProtocolError of this rule, for parsers that do not know whose bytes they read."""
    return lambda text: ProtocolError(rule, text)


class Malformed(Exception):
    """The preamble broke a rule: REFUSE 1."""


# --- frames ---------------------------------------------------------------------------------------


def is_extension(kind):
    """Whether a kind is one a receiver skips."""
    return 0x40 <= kind <= 0x7F


def kind_name(kind):
    """A frame kind as text."""
    return Kind(kind).name if kind in LENGTHS else f"0x{kind:02x}"


def header(kind, length):
    """The 4 header bytes, unchecked, so that a script can write a bad one."""
    return struct.pack(">BBH", kind, length >> 16 & 0xFF, length & 0xFFFF)


def frame(kind, payload=b""):
    """One whole frame."""
    return header(kind, len(payload)) + payload


def data_frames(payload):
    """Stream bytes as as few DATA frames as carry them."""
    return b"".join(frame(Kind.DATA, payload[i : i + MAX_DATA]) for i in range(0, len(payload), MAX_DATA))


def check_length(kind, length):
    """The bounds of section 2; unknown kinds have none that fits."""
    if is_extension(kind):
        low, high = 0, CONTROL_LIMIT
    elif kind in LENGTHS:
        low, high = LENGTHS[kind]
    elif 0x08 <= kind <= 0x0F:
        raise ProtocolError("reserved_kind", f"reserved frame kind 0x{kind:02x}")
    else:
        raise ProtocolError("unknown_kind", f"unknown frame kind 0x{kind:02x}")
    if not low <= length <= high:
        raise ProtocolError("length", f"{kind_name(kind)} of {length} bytes")


class FrameReader:
    """Cuts received bytes into frames; every header is judged before its payload is awaited.

    `place(kind, length)` is the state machine's judge and raises ProtocolError. `strict=False`
    turns every judgement off, for scripts that want to see whatever comes.
    """

    def __init__(self, place=None, strict=True):
        self._place = place or (lambda kind, length: None)
        self._strict = strict
        self._buffer = bytearray()
        self._kind = None
        self._left = 0
        self._run = 0

    def feed(self, data):
        """Adds received bytes."""
        self._buffer += data

    @property
    def buffered(self):
        """Bytes fed and not yet returned by next()."""
        return len(self._buffer)

    @property
    def pending(self):
        """Whether a header, or a frame other than DATA, is begun and not whole (when next() gave None)."""
        if self._kind is None:
            return bool(self._buffer)
        return self._kind != Kind.DATA

    @property
    def inside(self):
        """Whether any frame is begun and not whole."""
        return self._kind is not None or bool(self._buffer)

    def drain(self):
        """Gives back what was fed and not read, for another reader; only between frames."""
        assert self._kind is None
        return self._take(len(self._buffer))

    def next(self):
        """The next (kind, payload), or None; DATA comes in pieces, as it came in."""
        if self._kind is None and not self._header():
            return None
        if self._kind == Kind.DATA:
            return self._piece()
        if len(self._buffer) < self._left:
            return None
        kind, payload = self._kind, self._take(self._left)
        self._kind = None
        return kind, payload

    def _take(self, count):
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _header(self):
        if len(self._buffer) < 4:
            return False
        kind, high, low = struct.unpack(">BBH", self._take(4))
        length = high << 16 | low
        if self._strict:
            check_length(kind, length)
            self._count_run(kind, length)
            if not is_extension(kind):
                self._place(kind, length)
        self._kind, self._left = kind, length
        return True

    def _piece(self):
        if not self._buffer and self._left:
            return None
        piece = self._take(min(self._left, len(self._buffer)))
        self._left -= len(piece)
        if not self._left:
            self._kind = None
        return Kind.DATA, piece

    def _count_run(self, kind, length):
        if is_extension(kind):
            self._run += 4 + length
            if self._run > EXTENSION_RUN_LIMIT:
                raise ProtocolError("extensions", "more than 64 KiB of extension frames in a row")
        elif kind != Kind.RETIRE:
            self._run = 0


class FrameClock:
    """The time one frame may take: summed over the waits, never put back by a byte that came."""

    def __init__(self, limit):
        self._limit = limit
        self._spent = 0.0

    def remaining(self):
        """Seconds of waiting left."""
        return max(0.0, self._limit - self._spent)

    def waited(self, seconds):
        """Counts a wait on the tunnel with nothing left to read."""
        self._spent += seconds
        if self._spent >= self._limit:
            raise ProtocolError("unfinished", "a frame was begun and not whole in time")

    def whole(self):
        """No control frame or header is begun any more."""
        self._spent = 0.0


# --- text, names, fields --------------------------------------------------------------------------

SEGMENT = re.compile(rb"[A-Za-z0-9._:#$%+@-]{1,255}\Z")


def read_text(value, error):
    """UTF-8 without control characters, or raises `error`."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise error("text is not UTF-8") from None
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise error("control character in text")
    return text


def check_name(name):
    """The rules of a logical name as it may stand on the wire."""
    if len(name) > 1024 or not name.startswith(b"/"):
        raise Malformed("ill-formed destination")
    segments = name[1:].split(b"/")
    if len(segments) > 32:
        raise Malformed("destination of more than 32 segments")
    for segment in segments:
        if not SEGMENT.match(segment) or segment in (b".", b".."):
            raise Malformed("ill-formed segment in destination")
    if segments[0] in (b"$", b"#"):
        raise Malformed("a bound name as destination")
    return name.decode("ascii")


def encode_fields(fields):
    """(tag, value) pairs as a field list."""
    return b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)


def split_fields(payload, error):
    """A field list as (tag, value) pairs; raises `error` if cut short."""
    fields, at = [], 0
    while at < len(payload):
        if len(payload) - at < 3:
            raise error("bytes after the last field")
        tag, length = struct.unpack_from(">BH", payload, at)
        at += 3
        if len(payload) - at < length:
            raise error("truncated field")
        fields.append((tag, payload[at : at + length]))
        at += length
    return fields


def encode_endpoint(address, port):
    """An (address bytes, port) pair as `source` and `original destination` carry it."""
    return bytes([4 if len(address) == 4 else 6]) + address + struct.pack(">H", port)


def decode_endpoint(value):
    """The reverse of encode_endpoint."""
    sizes = {4: 7, 6: 19}
    if not value or sizes.get(value[0]) != len(value):
        raise Malformed("ill-formed socket address")
    return value[1:-2], struct.unpack(">H", value[-2:])[0]


@dataclass
class Open:
    """The preamble."""

    destination: str
    source: tuple = None
    original: tuple = None
    stream_id: bytes = None
    hops: int = None
    workload: str = None
    probe: bool = False

    def encode(self):
        """The OPEN payload."""
        fields = [(1, self.destination.encode())]
        if self.source:
            fields.append((2, encode_endpoint(*self.source)))
        if self.original:
            fields.append((3, encode_endpoint(*self.original)))
        if self.stream_id is not None:
            fields.append((4, self.stream_id))
        if self.hops is not None:
            fields.append((5, bytes([self.hops])))
        if self.workload is not None:
            fields.append((6, self.workload.encode()))
        if self.probe:
            fields.append((7, b""))
        return encode_fields(fields)


def _read_id(value):
    if len(value) != 16:
        raise Malformed("stream id is not 16 bytes")
    return value


def _read_hops(value):
    if len(value) != 1 or not value[0]:
        raise Malformed("ill-formed hops")
    return value[0]


def _read_workload(value):
    if len(value) > 256:
        raise Malformed("workload of more than 256 bytes")
    return read_text(value, Malformed)


def _read_probe(value):
    if value:
        raise Malformed("probe is not empty")
    return True


OPEN_FIELDS = {
    1: ("destination", check_name),
    2: ("source", decode_endpoint),
    3: ("original", decode_endpoint),
    4: ("stream_id", _read_id),
    5: ("hops", _read_hops),
    6: ("workload", _read_workload),
    7: ("probe", _read_probe),
}


def decode_open(payload):
    """An OPEN payload as an Open, or Malformed."""
    found = {}
    for tag, value in split_fields(payload, Malformed):
        if tag >= 0x80:
            continue
        if tag not in OPEN_FIELDS:
            raise Malformed(f"unknown tag 0x{tag:02x}")
        name, read = OPEN_FIELDS[tag]
        if name in found:
            raise Malformed(f"repeated {name}")
        found[name] = read(value)
    if "destination" not in found:
        raise Malformed("no destination")
    return Open(**found)


def encode_answer(bound, rule):
    """ACCEPT's payload for a probe."""
    return encode_fields([(1, bound.encode()), (2, rule.encode())])


def decode_answer(payload):
    """ACCEPT's fields as a dict; unknown ones are skipped."""
    names, found = {1: "bound", 2: "rule"}, {}
    error = broken("answer_fields")
    for tag, value in split_fields(payload, error):
        if tag not in names:
            continue
        if names[tag] in found:
            raise error(f"repeated {names[tag]} in ACCEPT")
        if len(value) > ANSWER_TEXT_LIMIT:
            raise error(f"{names[tag]} of {len(value)} bytes in ACCEPT")
        found[names[tag]] = read_text(value, error)
    return found


def encode_refuse(code, reason=""):
    """REFUSE's payload, the reason cut at a character to fit its 512 bytes."""
    return struct.pack(">H", code) + reason.encode()[:512].decode("utf-8", "ignore").encode()


def decode_refuse(payload):
    """REFUSE's (code, reason)."""
    return struct.unpack_from(">H", payload)[0], read_text(payload[2:], broken("refuse_text"))


def encode_reset(code):
    """RESET's payload."""
    return struct.pack(">H", code)


def decode_reset(payload):
    """RESET's code; an unknown one is 1."""
    code = struct.unpack(">H", payload)[0]
    return code if code in set(Reset) else int(Reset.SOCKET)


# --- state rules ----------------------------------------------------------------------------------


class State(enum.Enum):
    """Where a tunnel's stream is."""

    IDLE = "idle"
    OPENED = "opened"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    RESET = "after its own RESET"


def out_of_place(kind, state):
    """A frame that has no place in this state."""
    return ProtocolError("place", f"{kind_name(kind)} while {state.state.value}")


class DialerState:
    """What a dialer may receive, and what it has sent."""

    def __init__(self):
        self.state = State.IDLE
        self.retired = False
        self._clear()

    def _clear(self):
        self.probe = False
        self.fin_sent = False
        self.fin_read = False
        self.eager = 0

    # own frames

    def opened(self, probe):
        """OPEN was handed to TLS."""
        assert self.state is State.IDLE and not self.retired
        self._clear()
        self.state, self.probe = State.OPENED, probe

    def room(self):
        """How many payload bytes may be sent now."""
        if self.probe or self.fin_sent:
            return 0
        if self.state is State.OPENED:
            return EAGER_LIMIT - self.eager
        return MAX_DATA if self.state is State.ACCEPTED else 0

    def sent_data(self, count):
        """DATA was handed to TLS."""
        assert count <= self.room()
        if self.state is State.OPENED:
            self.eager += count

    def sent_fin(self):
        """FIN was handed to TLS; after REFUSE it ends the stream."""
        assert not self.fin_sent and self.state in (State.OPENED, State.ACCEPTED, State.REFUSED)
        self.fin_sent = True
        if self.state is State.REFUSED:
            self.state = State.IDLE

    def sent_reset(self):
        """RESET was handed to TLS."""
        self.state = State.RESET

    # the acceptor's frames

    def place(self, kind, length):
        """Judges a header."""
        if kind == Kind.RETIRE:
            if self.retired:
                raise ProtocolError("retire_twice", "a second RETIRE")
        elif self.state is State.ACCEPTED:
            self._place_accepted(kind)
        elif self.state is not State.OPENED or kind not in (Kind.ACCEPT, Kind.REFUSE):
            raise out_of_place(kind, self)

    def _place_accepted(self, kind):
        if kind == Kind.DATA and self.probe:
            raise ProtocolError("probe_data", "DATA on a probe")
        if kind in (Kind.DATA, Kind.FIN) and self.fin_read:
            raise ProtocolError("after_fin", f"{kind_name(kind)} after FIN")
        if kind == Kind.DONE and not (self.fin_sent and self.fin_read):
            raise ProtocolError("done_early", "DONE before both FIN")
        if kind not in (Kind.DATA, Kind.FIN, Kind.RESET, Kind.DONE):
            raise out_of_place(kind, self)

    def check_answer(self, fields):
        """The fields of ACCEPT: those of a probe's answer, to a probe only."""
        if fields and not self.probe:
            raise ProtocolError("answer_to_stream", "ACCEPT tells a route, and no probe was asked")

    def accepted(self):
        """ACCEPT was read."""
        self.state = State.ACCEPTED

    def refused(self):
        """REFUSE was read; the stream is over once FIN is sent."""
        self.state = State.IDLE if self.fin_sent else State.REFUSED

    def done(self):
        """DONE was read."""
        self.state = State.IDLE


class AcceptorState:
    """What an acceptor may receive, and what it has sent."""

    def __init__(self):
        self.state = State.IDLE
        self.may_open = True
        self.retired = False
        self._clear()

    def _clear(self):
        self.probe = False
        self.fin_sent = False
        self.fin_read = False
        self.eager = 0

    # the dialer's frames

    def place(self, kind, length):
        """Judges a header; counts eager data by what is announced."""
        if self.state is State.IDLE:
            self._place_idle(kind)
        elif kind == Kind.DATA:
            self._place_data(length)
        elif kind == Kind.FIN and self.fin_read:
            raise ProtocolError("after_fin", "FIN after FIN")
        elif kind not in (Kind.FIN, Kind.RESET):
            raise out_of_place(kind, self)

    def _place_idle(self, kind):
        if kind == Kind.OPEN and not self.may_open:
            raise ProtocolError("open_after_retire", "OPEN that cannot have crossed RETIRE")
        if kind not in (Kind.OPEN, Kind.RESET):
            raise out_of_place(kind, self)

    def _place_data(self, length):
        if self.probe:
            raise ProtocolError("probe_data", "DATA on a probe")
        if self.fin_read:
            raise ProtocolError("after_fin", "DATA after FIN")
        if self.state is State.ACCEPTED:
            return
        self.eager += length
        if self.eager > EAGER_LIMIT:
            raise ProtocolError("eager", "more than 65536 bytes without ACCEPT")

    def opened(self, probe):
        """OPEN was read; if RETIRE was sent, this is the one that crossed it."""
        self._clear()
        self.may_open = not self.retired
        self.state, self.probe = State.OPENED, probe

    def finned(self):
        """FIN was read."""
        self.fin_read = True
        if self.state is State.REFUSED:
            self.state = State.IDLE

    # own frames

    def sent_retire(self):
        """RETIRE was handed to TLS: once, and one OPEN may have crossed it if no answer or DONE is to come."""
        assert not self.retired and self.state is not State.RESET
        self.retired = True
        self.may_open = self.state in (State.IDLE, State.REFUSED)

    def sent_accept(self):
        """ACCEPT was handed to TLS."""
        assert self.state is State.OPENED
        self.state = State.ACCEPTED

    def sent_refuse(self):
        """REFUSE was handed to TLS."""
        assert self.state is State.OPENED
        self.state = State.IDLE if self.fin_read else State.REFUSED

    def sent_fin(self):
        """FIN was handed to TLS."""
        assert self.state is State.ACCEPTED and not self.fin_sent
        self.fin_sent = True

    def sent_done(self):
        """DONE was handed to TLS."""
        assert self.state is State.ACCEPTED and self.fin_sent and self.fin_read
        self.state = State.IDLE

    def may_reset(self):
        """Only after ACCEPT, and before DONE."""
        return self.state is State.ACCEPTED

    def sent_reset(self):
        """RESET was handed to TLS."""
        assert self.may_reset()
        self.state = State.RESET


# --- retry ----------------------------------------------------------------------------------------


class Retry(enum.Enum):
    """Where a stream is tried again."""

    NEVER = "never"
    SAME = "a fresh tunnel to the same endpoint"
    ELSEWHERE = "another endpoint"


REFUSAL_RETRY = {
    Refusal.UNKNOWN: Retry.ELSEWHERE,
    Refusal.UNAVAILABLE: Retry.ELSEWHERE,
    Refusal.TIMEOUT: Retry.ELSEWHERE,
    Refusal.OVERLOADED: Retry.ELSEWHERE,
    Refusal.DRAINING: Retry.SAME,
    Refusal.MISDIRECTED: Retry.SAME,
}


@dataclass
class Outcome:
    """What became of one stream on one tunnel."""

    answer: str = "none"
    refuse: tuple = None
    reset_read: int = None
    reset_sent: int = None
    done: bool = False
    fin_read: bool = False
    handed: bool = False
    handshake_failed: bool = False
    recycled: bool = False
    end: str = None
    error: str = None
    broken_rule: str = None
    sent: int = 0
    received: int = 0
    fields: dict = field(default_factory=dict)


def is_fatal_alert(end):
    """Whether a tunnel's end was an alert other than close_notify, sent by the peer."""
    return bool(end) and end.startswith("alert:")


def retry_place(outcome, returned=0, probe=False):
    """Whether, and where, a stream is tried again; `returned`: it was sent back to this endpoint before."""
    if outcome.answer == "accept" or outcome.broken_rule or outcome.error:
        return Retry.NEVER
    if outcome.reset_read is not None or outcome.reset_sent is not None:
        return Retry.NEVER
    place = _place_of(outcome, probe)
    return Retry.ELSEWHERE if place is Retry.SAME and returned else place


def _place_of(outcome, probe):
    if outcome.refuse:
        code = outcome.refuse[0]
        if code == Refusal.MISDIRECTED and not outcome.recycled:
            return Retry.NEVER
        return REFUSAL_RETRY.get(code, Retry.NEVER)
    if is_fatal_alert(outcome.end):
        return Retry.ELSEWHERE
    if outcome.end == "notify":
        return Retry.SAME
    if outcome.handed and not probe:
        return Retry.NEVER
    return Retry.SAME if outcome.recycled else Retry.ELSEWHERE
