"""The dialer: tunnels to endpoints, streams on them one after another, retry with the kept copy."""

import socket
import time
import uuid

from adit1 import (
    ALPN,
    MAX_ATTEMPTS,
    DialerState,
    Kind,
    Open,
    Outcome,
    ProtocolError,
    Reset,
    Retry,
    State,
    data_frames,
    decode_answer,
    decode_refuse,
    decode_reset,
    frame,
    is_fatal_alert,
    retry_place,
)
from relay import CHUNK, FOREVER, Relay
from tunnel import HandshakeFailed, Tunnel, covers, peer_names


class Stream:
    """One stream of the application: its preamble, its local end, and what it said before an answer."""

    def __init__(self, destination, local=None, probe=False, **fields):
        fields.setdefault("stream_id", uuid.uuid4().bytes)
        self.open = Open(destination, probe=probe, **fields)
        self.local = local
        self.copy = bytearray()
        self.copy_ended = probe


class DialerTunnel(Relay):
    """One tunnel as its dialer sees it."""

    def __init__(self, tunnel, timers):
        super().__init__(tunnel, DialerState(), timers)
        self.stream = None
        self.streams = 0
        self._ended = False
        self._broken = None

    # -- between streams

    def usable(self):
        """Reads all that has arrived; whether a stream may be opened."""
        self.idle_turn(time.monotonic())
        return not self.closed and not self.state.retired and self.tunnel.end is None

    def idle_turn(self, deadline):
        """Keeps reading the pooled tunnel until RETIRE, an end, an error, or the deadline."""
        try:
            self.process()
            while not self.closed and not self.state.retired and self.tunnel.end is None:
                if not self.turn(deadline) and time.monotonic() >= deadline:
                    break
                self.process()
        except ProtocolError as error:
            self._broken = self.broken(error)

    @property
    def broken_rule(self):
        """The rule the peer broke between streams."""
        return self._broken

    def close(self):
        """Closes an idle tunnel."""
        if not self.closed:
            self.tunnel.close_clean(self.timers.close_drain)
            self.closed = True

    # -- a stream

    def run(self, stream, open_deadline, limit=FOREVER):
        """Runs one stream to its end on this tunnel; the local end is closed only if that end is DONE."""
        self.outcome = Outcome(recycled=self.streams > 0)
        self.streams += 1
        self.stream, self.local = stream, stream.local
        try:
            self._first_write()
            while not self._over():
                self.process()
                self._progress()
                if self._over():
                    break
                self.turn(min(limit, open_deadline if self._unanswered() else FOREVER))
                self._check_time(open_deadline, limit)
        except ProtocolError as error:
            self.outcome.broken_rule = self.broken(error)
        return self._finish()

    def _first_write(self):
        """OPEN and what the application has already sent, in one write."""
        self._gather()
        outcome, stream = self.outcome, self.stream
        written = frame(Kind.OPEN, stream.open.encode()) + data_frames(bytes(stream.copy))
        self.state.opened(stream.open.probe)
        if stream.copy:
            self.state.sent_data(len(stream.copy))
            outcome.sent += len(stream.copy)
        if stream.copy_ended:
            written += frame(Kind.FIN)
            self.state.sent_fin()
            self.local_eof = True
        outcome.handed = bool(stream.copy) or stream.copy_ended
        self.tunnel.send(written)

    def _gather(self):
        """Adds to the copy what can be read at once."""
        stream = self.stream
        while self.local and not stream.copy_ended and len(stream.copy) < CHUNK:
            try:
                data = self.local.read(CHUNK - len(stream.copy))
            except OSError:
                return
            if data is None:
                return
            stream.copy += data
            stream.copy_ended = not data

    def _progress(self):
        if self.state.fin_read:
            self.shut_local()

    def _over(self):
        outcome = self.outcome
        if self.closed or outcome.refuse:
            return True
        if outcome.done:
            return not self.local or self.local_shut
        return self._ended

    def _unanswered(self):
        return self.state.state is State.OPENED

    def _check_time(self, open_deadline, limit):
        now = time.monotonic()
        if self._unanswered() and now >= open_deadline:
            self.outcome.error = "no answer in time"
        elif now >= limit:
            self.outcome.error = "the stream took too long"
        else:
            return
        self.abort(Reset.STALLED)

    def _finish(self):
        outcome = self.outcome
        if self.local and outcome.done:
            self.local.close()
        self.detach()
        if not outcome.done and not outcome.refuse and not self.closed:
            self.close_quietly()
        self.stream = None
        return outcome

    # -- what Relay asks

    def room(self):
        return self.state.room()

    def paused(self):
        """DONE ends the stream; what follows it is read when the tunnel is idle."""
        return self.stream is not None and self.outcome.done

    def may_reset(self):
        return self.state.state in (State.OPENED, State.ACCEPTED)

    def on_local_data(self, data):
        super().on_local_data(data)
        self.outcome.handed = True
        if self._unanswered():
            self.stream.copy += data
        self.state.sent_data(len(data))

    def on_local_end(self):
        self.stream.copy_ended = True
        self.outcome.handed = True
        self._send_fin()

    def _send_fin(self):
        self.tunnel.send(frame(Kind.FIN))
        self.state.sent_fin()

    def local_failed(self):
        if self.outcome.done:
            self.abort_local()
            return
        self.outcome.error = "the local end failed"
        super().local_failed()

    def on_end(self):
        if self.outcome and not self.outcome.done:
            self.outcome.end = self.tunnel.end
            self.outcome.handshake_failed = is_fatal_alert(self.tunnel.end) and not self.tunnel.read_any
            self._ended = True

    def on_frame(self, kind, payload):
        handlers = {
            Kind.DATA: self._on_data,
            Kind.ACCEPT: self._on_accept,
            Kind.REFUSE: self._on_refuse,
            Kind.FIN: self._on_fin,
            Kind.RESET: self._on_reset,
            Kind.RETIRE: self._on_retire,
            Kind.DONE: self._on_done,
        }
        handlers[kind](payload)

    def _on_data(self, payload):
        self.outcome.received += len(payload)
        if self.local:
            self.to_local += payload

    def _on_accept(self, payload):
        self.outcome.fields = decode_answer(payload)
        self.state.check_answer(self.outcome.fields)
        self.outcome.answer = "accept"
        self.state.accepted()
        self.stream.copy.clear()

    def _on_refuse(self, payload):
        self.outcome.refuse = decode_refuse(payload)
        self.outcome.answer = "refuse"
        self.state.refused()
        if self.state.state is State.REFUSED:
            self._send_fin()

    def _on_fin(self, _payload):
        self.state.fin_read = self.outcome.fin_read = True

    def _on_reset(self, payload):
        self.outcome.reset_read = decode_reset(payload)
        self.abort_local()
        self.close_quietly()

    def _on_retire(self, _payload):
        self.state.retired = True

    def _on_done(self, _payload):
        self.outcome.done = True
        self.state.done()


class Dialer:
    """Endpoints in order, a pool of one tunnel, and the retry rules."""

    def __init__(self, endpoints, context, timers, sni=None, expect=None, check_alpn=True):
        self.endpoints, self.context, self.timers = endpoints, context, timers
        self.sni, self.expect, self._check_alpn = sni or expect, expect, check_alpn
        self.pooled = None
        self.tunnels = 0
        self.retired = False

    def connect(self, endpoint):
        """A fresh tunnel; HandshakeFailed tells why there is none."""
        try:
            sock = socket.create_connection(endpoint, timeout=self.timers.connect)
        except OSError as error:
            raise HandshakeFailed(f"connect: {error.strerror or error}") from None
        tunnel = Tunnel(sock, self.context, server_side=False, sni=self.sni)
        self.tunnels += 1
        try:
            tunnel.handshake(self.timers.handshake)
            self._check_peer(tunnel)
        except HandshakeFailed:
            if tunnel.raised_alert:
                tunnel.close_after_alert(self.timers.alert_drain)
            tunnel.close_tcp()
            raise
        return DialerTunnel(tunnel, self.timers)

    def _check_peer(self, tunnel):
        if self._check_alpn and tunnel.tls.selected_alpn_protocol() != ALPN:
            raise HandshakeFailed("no ALPN agreed")
        names = peer_names(tunnel.tls)
        if self.expect and self.expect not in names and not covers(names, self.expect):
            raise HandshakeFailed("the certificate is not the expected one's")

    def run(self, stream, limit=FOREVER):
        """One stream, tried again where the rules allow; (last outcome, attempts)."""
        open_deadline = time.monotonic() + self.timers.open
        at, returned, attempts, outcome = 0, 0, 0, Outcome()
        while attempts < MAX_ATTEMPTS and at < len(self.endpoints) and time.monotonic() < open_deadline:
            tunnel = self._tunnel(at, outcome)
            if tunnel is None:
                at, returned = at + 1, 0
                continue
            attempts += 1
            outcome = tunnel.run(stream, open_deadline, limit)
            self._keep(tunnel, at)
            place = Retry.NEVER if outcome.done else retry_place(outcome, returned, stream.open.probe)
            if place is Retry.NEVER:
                break
            returned += place is Retry.SAME
            if place is Retry.ELSEWHERE:
                at, returned = at + 1, 0
            else:
                self.drop()
        if stream.local and not outcome.done:
            stream.local.abort()
        return outcome, attempts

    def _tunnel(self, at, outcome):
        """The pooled tunnel if it is this endpoint's and alive, else a fresh one, else None."""
        if self.pooled and self.pooled[0] == at:
            tunnel = self.pooled[1]
            if tunnel.usable():
                self.pooled = None
                return tunnel
        self.drop()
        try:
            return self.connect(self.endpoints[at])
        except HandshakeFailed as error:
            outcome.end = error.end
            outcome.handshake_failed = not error.end.startswith("connect:")
            return None

    def _keep(self, tunnel, at):
        """Pools a tunnel whose stream is over, unless it was retired."""
        self.retired = self.retired or tunnel.state.retired
        if tunnel.closed:
            return
        if tunnel.state.retired or tunnel.tunnel.end is not None:
            tunnel.close()
        else:
            self.pooled = (at, tunnel)

    def idle(self, seconds):
        """Keeps reading the pooled tunnel; returns what ended that, or "idle"."""
        if not self.pooled:
            return "closed"
        tunnel = self.pooled[1]
        tunnel.idle_turn(time.monotonic() + min(seconds, self.timers.dialer_idle))
        if tunnel.broken_rule:
            return f"broken: {tunnel.broken_rule}"
        if tunnel.state.retired:
            self.retired = True
            return "retired"
        return tunnel.tunnel.end or "idle"

    def drop(self):
        """Closes the pooled tunnel."""
        if self.pooled:
            self.retired = self.retired or self.pooled[1].state.retired
            self.pooled[1].close()
            self.pooled = None
