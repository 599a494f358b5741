"""Scripts: any frame, or no frame, at any point of a tunnel, and what the peer must do then.

A script is a JSON list of steps; a step is an object with one verb and its options, and may have a
`name`. Play stops at the first step that fails.

  send KIND          a whole frame; payload by `hex`, `text`, `zeros` (a count), `code` (+ `text`), or for
                     OPEN by `to`, `probe`, `hops`, `workload`, `id`; KIND is a name or a number
  raw HEX            bytes as they are
  header [KIND, LEN] a frame's header alone; `cut`: only so many of its bytes
  together [STEPS]   several of the above in one write
  drip HEX           a byte every `every` seconds, until the peer ends the tunnel
  expect KIND        the next frame; `hex`, `text`, `code` must match; `skip`: kinds passed over
  expect_data        so many bytes of DATA by `text`, `hex` or `count`
  expect_end END     the peer's end: notify, bare, rst, alert, alert:NAME, tcp (bare or rst), any; `ignore`: drop
                     frames that come before it
  expect_silence S   nothing comes for so many seconds
  stall S            read nothing for so many seconds, or until the peer ends TCP
  close HOW          bare, rst; or, going on to read: half (TCP only), notify, alert
  stream {...}       (dialer) an ordinary stream under all rules: `to`, `text`, `probe`; `want`: fields of its report
  serve N            (acceptor) N ordinary streams under all rules
  repeat N           the `steps`, N times

`within` bounds every wait (10 s).
"""

import json
import os
import ssl
import time

from adit1 import FrameReader, Kind, Open, encode_refuse, encode_reset, frame, header, kind_name

WITHIN = 10.0


class StepFailed(Exception):
    """A step did not see what it expected."""


def load(text):
    """A script given as JSON, or as the name of a file of JSON."""
    if not text.lstrip().startswith("["):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    return json.loads(text)


def kind_number(kind):
    """A kind by name or number."""
    if isinstance(kind, int):
        return kind
    return int(kind, 0) if kind[:1].isdigit() else int(Kind[kind])


def payload_of(step, kind):
    """The payload a step describes."""
    if "hex" in step:
        return bytes.fromhex(step["hex"])
    if "zeros" in step:
        return bytes(step["zeros"])
    if kind == Kind.OPEN and "to" in step:
        return open_payload(step)
    if "code" in step:
        text = step.get("text", "")
        return encode_reset(step["code"]) if kind == Kind.RESET else encode_refuse(step["code"], text)
    return step.get("text", "").encode()


def open_payload(step):
    """An OPEN's payload by its fields."""
    fields = {key: step[key] for key in ("probe", "hops", "workload") if key in step}
    stream_id = bytes.fromhex(step["id"]) if "id" in step else os.urandom(16)
    return Open(step["to"], stream_id=stream_id, **fields).encode()


def bytes_of(step):
    """What a sending step writes."""
    if "send" in step:
        kind = kind_number(step["send"])
        return frame(kind, payload_of(step, kind))
    if "raw" in step:
        return bytes.fromhex(step["raw"])
    if "header" in step:
        kind, length = step["header"]
        return header(kind_number(kind), length)[: step.get("cut", 4)]
    if "together" in step:
        return b"".join(bytes_of(part) for part in step["together"])
    if "repeat" in step:
        return b"".join(bytes_of(part) for part in step["steps"]) * step["repeat"]
    raise StepFailed(f"not a step that sends: {step}")


class Player:
    """Plays one script on one tunnel; `native` runs the steps `stream` and `serve`."""

    def __init__(self, tunnel, native=None):
        self.tunnel, self._native = tunnel, native
        self.reader = FrameReader(strict=False)
        self.results = []

    def play(self, steps):
        """Runs the steps; whether all were as expected."""
        for step in steps:
            name = step.get("name") or next(iter(step))
            result = {"name": name, "ok": True}
            self.results.append(result)
            try:
                result["got"] = self._step(step)
            except StepFailed as error:
                result["ok"], result["got"] = False, str(error)
                return False
            except (OSError, ssl.SSLError, ValueError) as error:
                result["ok"], result["got"] = False, f"{type(error).__name__}: {error}"
                return False
        return True

    def _step(self, step):
        if "repeat" in step:
            return self._repeat(step)
        for verb in ("expect", "expect_data", "expect_end", "expect_silence", "stall", "close", "drip"):
            if verb in step:
                return getattr(self, f"_{verb}")(step, time.monotonic() + step.get("within", WITHIN))
        if "stream" in step or "serve" in step:
            return self._ordinary(step)
        return self._write(bytes_of(step), time.monotonic() + step.get("within", WITHIN))

    def _repeat(self, step):
        for _ in range(step["repeat"]):
            for part in step["steps"]:
                self._step(part)

    def _ordinary(self, step):
        got, want = self._native(step, self.reader), step.get("want", {})
        wrong = {key: got.get(key) for key in want if got.get(key) != want[key]}
        if wrong:
            raise StepFailed(f"the stream's report has {wrong}")
        return got

    # -- writing

    def _write(self, data, deadline):
        """Writes all of it; that the peer is gone is for a later step to see."""
        self.tunnel.send(data)
        self.tunnel.flush_for(deadline - time.monotonic())
        if self.tunnel.backlog:
            raise StepFailed(f"the peer takes no more: {self.tunnel.backlog} bytes are left")

    def _drip(self, step, deadline):
        for value in bytes.fromhex(step["drip"]):
            self.tunnel.send(bytes([value]))
            if self._readable(time.monotonic() + step["every"]):
                self.tunnel.fill()
                self.reader.feed(self.tunnel.take())
            if self.tunnel.end or self.tunnel.write_failed:
                return "the peer ended it"
        return None

    # -- reading

    def _readable(self, deadline):
        return self.tunnel.wait(deadline)

    def _frame(self, deadline):
        """The next whole frame, or piece of DATA, or None at the peer's end."""
        while True:
            self.reader.feed(self.tunnel.take())
            item = self.reader.next()
            if item:
                return item
            if self.tunnel.end:
                return None
            if not self._readable(deadline):
                raise StepFailed("nothing came in time")
            self.tunnel.fill()

    def _expect(self, step, deadline):
        kind = kind_number(step["expect"])
        skip = {kind_number(other) for other in step.get("skip", ())}
        item = self._frame(deadline)
        while item and item[0] in skip:
            item = self._frame(deadline)
        if item is None:
            raise StepFailed(f"end: {self.tunnel.end}")
        if item[0] != kind:
            raise StepFailed(f"{kind_name(item[0])} {item[1][:64].hex()}")
        self._compare(step, kind, item[1])
        return item[1][:64].hex()

    def _compare(self, step, kind, payload):
        if "code" in step and int.from_bytes(payload[:2], "big") != step["code"]:
            raise StepFailed(f"{kind_name(kind)} {payload[:64].hex()}")
        if "hex" in step and payload != bytes.fromhex(step["hex"]):
            raise StepFailed(f"{kind_name(kind)} {payload[:64].hex()}")
        if "text" in step and step["text"].encode() not in payload:
            raise StepFailed(f"{kind_name(kind)} {payload[:64]!r}")

    def _expect_data(self, step, deadline):
        wanted = bytes.fromhex(step["hex"]) if "hex" in step else step.get("text", "").encode()
        count, got = step.get("count", len(wanted)), b""
        while len(got) < count:
            item = self._frame(deadline)
            if item is None or item[0] != Kind.DATA:
                raise StepFailed(f"after {len(got)} bytes {kind_name(item[0]) if item else self.tunnel.end}")
            got += item[1]
        if len(got) > count or wanted and got != wanted:
            raise StepFailed(f"{len(got)} bytes, {got[:64]!r}")
        return len(got)

    def _expect_end(self, step, deadline):
        wanted, item = step["expect_end"], None
        if self.tunnel.raised_alert:
            if not self.tunnel.discard(deadline - time.monotonic()):
                raise StepFailed("no end in time")
            return "tcp"
        while True:
            item = self._frame(deadline)
            if item is None:
                break
            if not step.get("ignore"):
                raise StepFailed(f"{kind_name(item[0])} {item[1][:64].hex()}")
        end = self.tunnel.end
        matches = (
            wanted in ("any", end)
            or wanted == "alert"
            and end.startswith("alert:")
            or wanted == "tcp"
            and end in ("bare", "rst")
        )
        if not matches:
            raise StepFailed(f"end: {end}")
        return end

    def _expect_silence(self, step, _deadline):
        deadline = time.monotonic() + step["expect_silence"]
        while self._readable(deadline):
            self.tunnel.fill()
            self.reader.feed(self.tunnel.take())
            item = self.reader.next()
            if item or self.tunnel.end:
                raise StepFailed(kind_name(item[0]) if item else f"end: {self.tunnel.end}")

    def _stall(self, step, _deadline):
        ended = self.tunnel.wait(time.monotonic() + step["stall"], read=False)
        return "the peer ended TCP" if ended else None

    # -- ends

    def _close(self, step, _deadline):
        how, tunnel = step["close"], self.tunnel
        if how == "bare":
            tunnel.close_tcp()
        elif how == "rst":
            tunnel.kill()
        elif how == "half":
            tunnel.shut_write()
        elif how == "notify":
            tunnel.write_close_notify()
            tunnel.shut_write()
        elif how == "alert":
            tunnel.write_alert()
            tunnel.shut_write()
        else:
            raise StepFailed(f"no such close: {how}")
