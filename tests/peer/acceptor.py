"""The acceptor: one thread per tunnel, streams on it one after another, and its scripted failings."""

import errno
import os
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

from adit1 import (
    ALPN,
    MAX_HOPS,
    AcceptorState,
    Kind,
    Malformed,
    Outcome,
    ProtocolError,
    Refusal,
    State,
    decode_open,
    decode_reset,
    encode_answer,
    encode_refuse,
    frame,
)
from relay import FOREVER, Relay, SocketLocal
from tunnel import HandshakeFailed, Tunnel, peer_names


@dataclass
class Behaviour:
    """What an acceptor serves, and where it fails on purpose.

    `stall_at`: handshake, open, accept, data, fin or done. `close_after_open`: bare, rst, alert or
    notify. `retire_when`: idle (behind DONE), open (before the answer) or stream (behind ACCEPT) of
    stream number `retire_after`. `refuse_count`: how many streams are refused, None for all.
    """

    target: tuple = None
    names: list = field(default_factory=list)
    refuse: tuple = None
    refuse_count: int = None
    retire_after: int = None
    retire_when: str = "idle"
    refuse_crossed: bool = False
    close_after_open: str = None
    close_count: int = None
    stall_at: str = None
    hold: float = 60.0

    def __post_init__(self):
        self._lock = threading.Lock()
        self._used = {"refuse": 0, "close": 0}

    def _take(self, what, count):
        with self._lock:
            self._used[what] += 1
            return count is None or self._used[what] <= count

    def refusal(self):
        """The refusal to give to this stream, or None."""
        return self.refuse if self.refuse and self._take("refuse", self.refuse_count) else None

    def failing_close(self):
        """How to close instead of answering this stream, or None."""
        return self.close_after_open if self.close_after_open and self._take("close", self.close_count) else None


class AcceptorTunnel(Relay):
    """One tunnel as its acceptor sees it."""

    def __init__(self, tunnel, timers, behaviour):
        super().__init__(tunnel, AcceptorState(), timers)
        self.behaviour = behaviour
        self.outcomes = []
        self.retired = False
        self.broken_rule = None
        self.ended = 0
        self._connecting = None
        self._due = {}
        self._idle()

    # -- the loop

    def serve(self, streams=None):
        """Serves until the tunnel is closed, or that many streams are over."""
        try:
            while not self.closed and not (streams is not None and self.ended >= streams):
                self.process()
                self._progress()
                if self.closed or (streams is not None and self.ended >= streams):
                    break
                self.turn(min(self._due.values(), default=FOREVER))
                self._check_time()
        except ProtocolError as error:
            self._stop_connecting()
            self.broken_rule = self.broken(error)

    def _check_time(self):
        now = time.monotonic()
        for name, due in list(self._due.items()):
            if now >= due and name in self._due and not self.closed:
                del self._due[name]
                getattr(self, f"_{name}_due")()

    def _progress(self):
        """What has become possible: pass FIN on, say DONE."""
        state = self.state
        if self.closed or state.state is not State.ACCEPTED or not state.fin_read:
            return
        self.shut_local()
        if state.fin_sent and (self.local_shut or not self.local) and self.behaviour.stall_at != "done":
            self.tunnel.send(frame(Kind.DONE))
            state.sent_done()
            self.outcome.done = True
            if self.local:
                self.local.close()
            self._stream_over()

    # -- between streams

    def _idle(self):
        self.detach()
        self._due = {"idle": time.monotonic() + self.timers.acceptor_idle}

    def _idle_due(self):
        self.retire()

    def retire(self):
        """Says RETIRE, once; an idle tunnel then gets some time for an OPEN that crossed."""
        if not self.retired:
            self.retired = True
            self.tunnel.send(frame(Kind.RETIRE))
            self.state.sent_retire()
        if self.state.state is State.IDLE:
            self._due = {"retire": time.monotonic() + self.timers.retire_wait}

    def _retire_due(self):
        self._close_clean()

    def _close_clean(self):
        self.abort_local()
        self.tunnel.close_clean(self.timers.close_drain)
        self.closed = True

    def _stream_over(self):
        """DONE was sent, or REFUSE and the dialer's FIN read."""
        self.ended += 1
        self._idle()
        if self.retired:
            self._close_clean()
        elif self.behaviour.retire_after == self.ended and self.behaviour.retire_when == "idle":
            self.retire()

    # -- frames

    def on_frame(self, kind, payload):
        handlers = {
            Kind.OPEN: self._on_open,
            Kind.DATA: self._on_data,
            Kind.FIN: self._on_fin,
            Kind.RESET: self._on_reset,
        }
        handlers[kind](payload)

    def _on_open(self, payload):
        self._due = {}
        self.outcome = Outcome()
        self.outcomes.append(self.outcome)
        try:
            preamble = decode_open(payload)
        except Malformed as error:
            self.state.opened(False)
            self._refuse(Refusal.MALFORMED, str(error))
            return
        self.state.opened(preamble.probe)
        self.outcome.fields = {"destination": preamble.destination, "hops": preamble.hops or 1}
        if preamble.stream_id:
            self.outcome.fields["id"] = preamble.stream_id.hex()
        how = self.behaviour.failing_close()
        if how:
            self._fail(how)
        elif self.behaviour.stall_at == "accept":
            self._hold()
        else:
            self._answer(preamble)

    def _answer(self, preamble):
        """Judges, routes, and begins to connect; a probe is answered at once."""
        crossed = self.retired
        if self._retire_at("open"):
            self.retire()
        refusal = self._judge(preamble, crossed)
        if refusal:
            self._refuse(*refusal)
        elif preamble.probe:
            self._accept(encode_answer("/inet/{}/{}".format(*self.behaviour.target), "0"))
            self._send_fin()
        else:
            self._connect()

    def _retire_at(self, when):
        return self.behaviour.retire_when == when and self.behaviour.retire_after == len(self.outcomes)

    def _judge(self, preamble, crossed):
        """A refusal, or None."""
        if (preamble.hops or 1) > MAX_HOPS:
            return Refusal.LOOP, "too many hops"
        if self.behaviour.names and preamble.destination not in self.behaviour.names:
            return Refusal.UNKNOWN, "no such destination"
        if crossed and self.behaviour.refuse_crossed:
            return Refusal.DRAINING, "the tunnel is retired"
        return self.behaviour.refusal()

    def _refuse(self, code, reason):
        self.outcome.answer, self.outcome.refuse = "refuse", (int(code), reason)
        self.tunnel.send(frame(Kind.REFUSE, encode_refuse(code, reason)))
        self.state.sent_refuse()
        self.to_local.clear()
        if self.state.state is State.IDLE:
            self._stream_over()
        else:
            self._due = {"refused": time.monotonic() + self.timers.refuse_drain}

    def _refused_due(self):
        self._close_clean()

    def _accept(self, fields=b""):
        self.tunnel.send(frame(Kind.ACCEPT, fields))
        self.state.sent_accept()
        self.outcome.answer = "accept"
        if self.behaviour.stall_at:
            self._hold()
        if self._retire_at("stream"):
            self.retire()

    def _on_data(self, payload):
        if self.state.state is State.REFUSED:
            return
        self.outcome.received += len(payload)
        self.to_local += payload

    def _on_fin(self, _payload):
        refused = self.state.state is State.REFUSED
        self.state.finned()
        self.outcome.fin_read = True
        if refused:
            self._stream_over()

    def _on_reset(self, payload):
        if self.state.state is not State.IDLE:
            self.outcome.reset_read = decode_reset(payload)
        self._stop_connecting()
        self.abort_local()
        self.close_quietly()

    def on_end(self):
        """The dialer's end: quiet between streams, an abort with one on the tunnel."""
        self._stop_connecting()
        if self.state.state is not State.IDLE:
            self.outcome.end = self.tunnel.end
        if self.local or self.state.state in (State.OPENED, State.ACCEPTED):
            self.abort_local()
            self.tunnel.kill()
            self.closed = True
        else:
            self._close_clean()

    # -- the service

    def _connect(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._connecting = sock
        self._due = {"connect": time.monotonic() + self.timers.connect}
        if sock.connect_ex(self.behaviour.target) not in (0, errno.EINPROGRESS):
            self._connect_failed()

    def extra(self):
        return (self._connecting.fileno(), select.POLLOUT) if self._connecting else None

    def on_extra(self):
        if self._connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._connect_failed()
            return
        self.local, self._connecting = SocketLocal(self._connecting), None
        self._due = {}
        self._accept()

    def _stop_connecting(self):
        if self._connecting:
            self._connecting.close()
            self._connecting = None

    def _connect_failed(self):
        self._stop_connecting()
        self._refuse(Refusal.UNAVAILABLE, "the service could not be reached")

    def _connect_due(self):
        self._stop_connecting()
        self._refuse(Refusal.TIMEOUT, "connecting took too long")

    # -- what Relay asks

    def reading(self):
        stalled = self.behaviour.stall_at == "data" and self.state.state is State.ACCEPTED
        return super().reading() and not stalled

    def room(self):
        accepted = self.state.state is State.ACCEPTED and not self.state.fin_sent
        return 1 << 20 if accepted and self.behaviour.stall_at != "data" else 0

    def may_reset(self):
        return self.state.may_reset()

    def on_local_end(self):
        if self.behaviour.stall_at != "fin":
            self._send_fin()

    def _send_fin(self):
        self.tunnel.send(frame(Kind.FIN))
        self.state.sent_fin()

    # -- scripted failings

    def _hold(self):
        """A stalled tunnel is held no longer than this."""
        self._due = {"hold": time.monotonic() + self.behaviour.hold}

    def _hold_due(self):
        self._stop_connecting()
        self.abort_local()
        self.tunnel.kill()
        self.closed = True

    def _fail(self, how):
        """Closes instead of answering."""
        self.outcome.error = f"closed by order: {how}"
        if how == "rst":
            self.tunnel.kill()
        elif how == "notify":
            self.tunnel.close_clean(self.timers.close_drain)
        elif how == "alert":
            self.tunnel.write_alert()
            self.tunnel.close_after_alert(self.timers.alert_drain)
        else:
            self.tunnel.close_after_alert(self.timers.close_drain)
        self.closed = True


class Server:
    """A listener with one thread per tunnel; every tunnel's report goes to `report(dict)`."""

    def __init__(self, listen, context, timers, behaviour, play=None, report=None):
        self.context, self.timers, self.behaviour = context, timers, behaviour
        self._play, self._report = play, report or (lambda _report: None)
        self._listener = socket.create_server(listen, backlog=64)
        self.address = self._listener.getsockname()[:2]
        self._thread = None

    def start(self):
        """Accepts in a thread of its own."""
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def run(self):
        """Accepts until the listener is closed."""
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(sock,), daemon=True).start()

    def stop(self):
        """Closes the listener; tunnels go on."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()

    def _tunnel(self, sock):
        report = {"role": "accept", "identity": [], "streams": []}
        try:
            self._serve(sock, report)
        except (OSError, ssl.SSLError) as error:
            report["error"] = f"{type(error).__name__}: {error}"
        finally:
            sock.close()
        self._report(report)

    def _serve(self, sock, report):
        tunnel = Tunnel(sock, self.context, server_side=True)
        if self.behaviour.stall_at == "handshake":
            tunnel.wait(time.monotonic() + self.behaviour.hold, read=False)
            return
        try:
            tunnel.handshake(self.timers.handshake)
        except HandshakeFailed as error:
            report["handshake"] = error.end
            tunnel.close_after_alert(self.timers.alert_drain if tunnel.raised_alert else 0)
            return
        report["identity"] = peer_names(tunnel.tls)
        report["alpn"] = tunnel.tls.selected_alpn_protocol()
        if report["alpn"] != ALPN and not self._play:
            tunnel.close_tcp()
        elif self.behaviour.stall_at == "open":
            tunnel.wait(time.monotonic() + self.behaviour.hold, read=False)
        elif self._play:
            report["script"] = self._play(tunnel, report)
            tunnel.close_tcp()
        else:
            relay = AcceptorTunnel(tunnel, self.timers, self.behaviour)
            relay.serve()
            describe(relay, report)


def describe(relay, report):
    """Adds what became of a tunnel to its report."""
    report["streams"] += [vars(outcome) for outcome in relay.outcomes]
    report["retired"] = relay.retired
    report["end"] = relay.tunnel.end
    report["broken_rule"] = relay.broken_rule


class EchoService:
    """A TCP service that gives back what it gets, half-close included."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()[:2]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_echo, args=(sock,), daemon=True).start()

    def stop(self):
        """Closes the listener."""
        self._listener.close()


def _echo(sock):
    """Echo without a deadlock: reading stops while too much is unwritten."""
    held, ended = bytearray(), False
    sock.setblocking(False)
    try:
        while held or not ended:
            poller = select.poll()
            wanted = (select.POLLOUT if held else 0) | (select.POLLIN if len(held) < 1 << 20 and not ended else 0)
            poller.register(sock, wanted)
            events = poller.poll()[0][1]
            if events & select.POLLOUT and held:
                del held[: sock.send(held[:65536])]
            if events & select.POLLIN:
                data = sock.recv(65536)
                held += data
                ended = not data
            elif events & (select.POLLERR | select.POLLHUP):
                raise OSError(os.strerror(errno.ECONNRESET))
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    finally:
        sock.close()
