"""What both roles do with one tunnel and one local end: wait, move bytes, keep the frame clock, abort."""

import os
import select
import socket
import time

from adit1 import FrameClock, FrameReader, Kind, Reset, data_frames, encode_reset, frame, is_extension
from tunnel import CHUNK, linger_zero, set_linger

BACKLOG = 4 * CHUNK
FOREVER = float("inf")
TROUBLE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class SocketLocal:
    """A local TCP socket: an abort is RST, and so is a crash, for SO_LINGER 0 is set from the start."""

    def __init__(self, sock):
        sock.setblocking(False)
        linger_zero(sock)
        self._sock = sock
        self.read_fd = self.write_fd = sock.fileno()

    def read(self, limit):
        """Bytes, b"" at the end, None when there are none yet."""
        try:
            return self._sock.recv(limit)
        except (BlockingIOError, InterruptedError):
            return None

    def write(self, data):
        """How many bytes were taken."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def shut_write(self):
        """Half-close; that the other end is gone already is no abort."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def failed(self):
        """Whether the socket holds an error."""
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def abort(self):
        """RST."""
        self._sock.close()

    def close(self):
        """A clean close of a stream that is over."""
        set_linger(self._sock, False)
        self._sock.close()


class FdLocal:
    """Standard input and output, or any two file descriptors."""

    def __init__(self, read_fd, write_fd, close_output=False):
        self.read_fd, self.write_fd = read_fd, write_fd
        self._close_output = close_output

    def read(self, limit):
        """Bytes, b"" at the end, None when there are none yet."""
        poller = select.poll()
        poller.register(self.read_fd, select.POLLIN)
        return os.read(self.read_fd, limit) if poller.poll(0) else None

    def write(self, data):
        """How many bytes were taken; never more than a pipe that is writable takes at once."""
        return os.write(self.write_fd, data[: select.PIPE_BUF])

    def shut_write(self):
        """Lets the reader of standard output see the end."""
        if self._close_output:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.write_fd)
            os.close(null)

    def failed(self):
        """A POLLERR on a pipe means that its reader is gone."""
        return True

    def abort(self):
        """Descriptors know no abort."""

    def close(self):
        """Their owner closes them."""


class Relay:
    """One tunnel with at most one stream; the roles are subclasses.

    A subclass has `state`, `outcome`, and gives on_frame(), on_end(), room() and may_reset().
    """

    def __init__(self, tunnel, state, timers):
        self.tunnel, self.state, self.timers = tunnel, state, timers
        self.reader = FrameReader(state.place)
        self.clock = FrameClock(timers.frame)
        self.closed = False
        self.outcome = None
        self.detach()

    def detach(self):
        """No local end."""
        self.local = None
        self.to_local = bytearray()
        self.local_eof = self.local_shut = self._muted = False

    # -- what a role decides

    def on_frame(self, kind, payload):
        """A whole frame, or a piece of DATA."""
        raise NotImplementedError

    def on_end(self):
        """The peer will say nothing more."""
        raise NotImplementedError

    def on_local_data(self, data):
        """Bytes of the local end were handed to TLS."""
        self.outcome.sent += len(data)

    def on_local_end(self):
        """The local end will give nothing more."""
        raise NotImplementedError

    def room(self):
        """How many bytes the local end may give now."""
        raise NotImplementedError

    def may_reset(self):
        """Whether RESET is this side's to send now."""
        raise NotImplementedError

    def paused(self):
        """Whether frames are left for later though they have come."""
        return False

    def extra(self):
        """Another descriptor to wait for, as (fd, events), or None."""
        return None

    def on_extra(self):
        """That descriptor is ready."""

    # -- the frames

    def process(self):
        """Handles all whole frames the local end has room for; then the peer's end, if it came."""
        self.reader.feed(self.tunnel.take())
        while len(self.to_local) < BACKLOG and not self.closed and not self.paused():
            item = self.reader.next()
            if item is None:
                if not self.reader.pending:
                    self.clock.whole()
                if self.tunnel.end:
                    self.on_end()
                return
            self.clock.whole()
            if not is_extension(item[0]):
                self.on_frame(*item)

    def reading(self):
        """Whether this side reads its tunnel now."""
        return self.tunnel.end is None and len(self.to_local) < BACKLOG and not self.paused()

    # -- waiting

    def turn(self, deadline):
        """One wait for anything, and what it allows; whether anything came."""
        reading, begun, started = self.reading(), self.reader.pending, time.monotonic()
        if reading and begun:
            deadline = min(deadline, started + self.clock.remaining())
        wanted = self._wanted(reading)
        ready = _poll(wanted, deadline - started)
        if reading and begun:
            self.clock.waited(time.monotonic() - started)
        self._tunnel_ready(ready.get(self.tunnel.sock.fileno(), 0), reading)
        self._local_ready(ready, wanted)
        other = self.extra()
        if other and ready.get(other[0]):
            self.on_extra()
        return bool(ready)

    def _wanted(self, reading):
        wanted = {}
        if self.tunnel.end is None:
            events = (select.POLLIN if reading else 0) | (select.POLLOUT if self.tunnel.backlog else 0)
            wanted[self.tunnel.sock.fileno()] = events
        if self.local:
            inward, outward = self._want_local_read(), bool(self.to_local)
            if inward or not self._muted:
                wanted[self.local.read_fd] = select.POLLIN if inward else 0
            if outward or not self._muted:
                fd = self.local.write_fd
                wanted[fd] = wanted.get(fd, 0) | (select.POLLOUT if outward else 0)
        other = self.extra()
        if other:
            wanted[other[0]] = other[1]
        return wanted

    def _want_local_read(self):
        ending = self.tunnel.end or self.tunnel.write_failed
        return not self.local_eof and not ending and self.tunnel.backlog < BACKLOG and self.room() > 0

    def _tunnel_ready(self, events, reading):
        if events & select.POLLOUT:
            self.tunnel.flush()
        if reading and events & ~select.POLLOUT:
            self.receive()
        elif events & TROUBLE and not reading:
            self.tunnel.end = "rst"
            self.on_end()

    def receive(self):
        """Reads one chunk of the tunnel."""
        self.tunnel.fill()
        self.reader.feed(self.tunnel.take())

    # -- the local end

    def _local_ready(self, ready, wanted):
        if not self.local or self.closed:
            return
        local = self.local
        inward, outward = ready.get(local.read_fd, 0), ready.get(local.write_fd, 0)
        try:
            if outward & select.POLLOUT and self.to_local:
                del self.to_local[: local.write(self.to_local[:CHUNK])]
            if inward & (select.POLLIN | TROUBLE) and wanted.get(local.read_fd, 0) & select.POLLIN:
                if self._want_local_read():
                    self.read_local()
            elif (inward | outward) & TROUBLE:
                self._local_trouble(inward | outward)
        except OSError:
            self.local_failed()

    def _local_trouble(self, events):
        """An error, or both directions ended, on a local end that is not being read."""
        self._muted = True
        if events & select.POLLERR and self.local.failed() and not (self.local_eof and self.local_shut):
            raise ConnectionResetError

    def read_local(self):
        """Moves one chunk, or the end, from the local end to the tunnel."""
        data = self.local.read(min(CHUNK, self.room()))
        if data is None:
            return
        if data:
            self._send_data(data)
        else:
            self.local_eof = True
            self.on_local_end()

    def _send_data(self, data):
        self.tunnel.send(data_frames(data))
        self.on_local_data(data)

    def shut_local(self):
        """Passes the peer's FIN on, once all before it is written."""
        if self.local and not self.to_local and not self.local_shut:
            self.local_shut = True
            self.local.shut_write()

    def local_failed(self):
        """The local socket is gone: pass on what can still be read, then abort the stream.

        Its end is not passed on: once the error has been fetched, a dead socket reads like a
        half-closed one, and FIN in front of RESET would make a truncated stream look whole.
        """
        try:
            while self._want_local_read() and (data := self.local.read(min(CHUNK, self.room()))):
                self._send_data(data)
        except OSError:
            pass
        self.abort(Reset.SOCKET)

    # -- ends

    def abort_local(self):
        """RST to the local end."""
        if self.local:
            self.local.abort()
        self.detach()

    def abort(self, code):
        """This side gives the stream up."""
        self.abort_local()
        allowed = self.may_reset()
        if allowed:
            self.outcome.reset_sent = int(code)
            self.state.sent_reset()
        self.tunnel.reset(frame(Kind.RESET, encode_reset(code)) if allowed else None, self.timers.reset_wait)
        self.closed = True

    def broken(self, error):
        """The peer broke a rule."""
        self.abort_local()
        self.tunnel.kill()
        self.closed = True
        return str(error)

    def close_quietly(self):
        """TCP close, nothing written."""
        self.tunnel.close_tcp()
        self.closed = True


def _poll(wanted, seconds):
    """Waits for any of {fd: events}; {fd: events that are}."""
    poller = select.poll()
    for fd, events in wanted.items():
        poller.register(fd, events)
    limit = None if seconds == FOREVER else max(0, seconds) * 1000 + 1
    return dict(poller.poll(limit))
