"""One TCP connection under TLS 1.3, with TLS kept apart from the socket.

TLS runs between two memory buffers, so that this module alone decides what TCP does: half-close
without close_notify, RST, an alert at a chosen moment, an end that is no clean end.
"""

import base64
import select
import socket
import ssl
import struct
import time

from adit1 import ALPN

CHUNK = 65536
RDHUP = getattr(select, "POLLRDHUP", 0)
RENAMED_ALERTS = {
    "TLSV1_UNRECOGNIZED_NAME": "unrecognized_name",
    "TLSV1_UNSUPPORTED_EXTENSION": "unsupported_extension",
    "TLSV1_CERTIFICATE_UNOBTAINABLE": "certificate_unobtainable",
    "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE": "bad_certificate_status_response",
    "TLSV1_BAD_CERTIFICATE_HASH_VALUE": "bad_certificate_hash_value",
}


class HandshakeFailed(Exception):
    """The handshake did not end well; `end` tells how, as Tunnel.end does."""

    def __init__(self, end):
        super().__init__(end)
        self.end = end


# --- contexts -------------------------------------------------------------------------------------


def _restrict(context, ca, cert, key, alpn, tls12):
    """What both roles share: version, proof of both sides, ALPN."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if tls12 else ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if tls12 else ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if cert:
        context.load_cert_chain(cert, key)
    if alpn:
        context.set_alpn_protocols(alpn)


def dialer_context(ca, cert, key, alpn=(ALPN,), tls12=False):
    """The dialer's side of mutual TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context, ca, cert, key, list(alpn), tls12)
    return context


def acceptor_context(ca, cert, key, alpn=(ALPN,), tls12=False):
    """The acceptor's side: no tickets, and no default certificate for a name it does not cover."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, ca, cert, key, list(alpn), tls12)
    if not tls12:
        context.num_tickets = 0
    names = certificate_names(cert)

    def choose(_tls, name, _context):
        if name is not None and not covers(names, name):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    context.sni_callback = choose
    return context


def _element(der, at):
    """The DER element at an offset: (tag, value, offset behind it)."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, at = int.from_bytes(der[at : at + count], "big"), at + count
    return tag, der[at : at + length], at + length


def certificate_names(path):
    """The dNSName entries of the first certificate in a PEM file."""
    with open(path, encoding="ascii", errors="replace") as file:
        pem = file.read()
    body = pem.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    der = base64.b64decode(body)
    at = der.find(bytes.fromhex("0603551d11"))
    if at < 0:
        return []
    at += 5
    if der[at] == 0x01:
        at = _element(der, at)[2]
    listing = _element(_element(der, at)[1], 0)[1]
    names, at = [], 0
    while at < len(listing):
        tag, value, at = _element(listing, at)
        if tag == 0x82:
            names.append(value.decode("ascii", "replace"))
    return names


def covers(names, wanted):
    """Whether one of a certificate's names is, or by a left-most `*` matches, the wanted one."""
    wanted = wanted.lower()
    for name in (name.lower() for name in names):
        if name == wanted:
            return True
        if name.startswith("*.") and "." in wanted and wanted.split(".", 1)[1] == name[2:]:
            return True
    return False


def peer_names(tls):
    """The names in the peer's certificate."""
    return [value for _kind, value in (tls.getpeercert() or {}).get("subjectAltName", ())]


def alert_name(error):
    """The name of a fatal alert the peer sent, or None when our own TLS raised the error."""
    reason = getattr(error, "reason", None) or ""
    if reason in RENAMED_ALERTS:
        return RENAMED_ALERTS[reason]
    if "ALERT_" not in reason:
        return None
    return reason.split("ALERT_", 1)[1].lower()


# --- the tunnel -----------------------------------------------------------------------------------


class Tunnel:
    """A TLS connection on a non-blocking socket.

    `end` is None while the peer may still say something, then one of `notify`, `bare` (TCP FIN
    without close_notify), `rst`, `alert:NAME` (the peer's), `tls:REASON` (our own TLS gave up).
    """

    def __init__(self, sock, context, server_side, sni=None):
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.end = None
        self.plain = bytearray()
        self.read_any = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=sni)
        self._out = bytearray()
        self._write_failed = False
        self._write_shut = False
        self._alerted = False
        self._closed = False

    # -- handshake

    def handshake(self, limit):
        """Runs the handshake; a failure's alert is written out before HandshakeFailed is raised."""
        deadline = time.monotonic() + limit
        while True:
            try:
                self.tls.do_handshake()
                self.flush()
                self._decrypt()
                return
            except ssl.SSLWantReadError:
                self.flush()
            except ssl.SSLError as error:
                self._tls_failed(error)
                self.flush()
            if self.end:
                raise HandshakeFailed(self.end)
            self._await_handshake_bytes(deadline)

    def _await_handshake_bytes(self, deadline):
        if not self.wait(deadline):
            raise HandshakeFailed("timeout")
        if self._receive() == b"" and self.end is None:
            self.end = "bare"

    # -- reading

    def fill(self):
        """Reads what the socket holds (one chunk) and decrypts it into `plain`."""
        ended = self._receive() == b""
        self._decrypt()
        if ended and self.end is None:
            self.end = "bare"

    def _receive(self):
        """One read of the socket. TLS is never told of TCP's end: it would take a bare one for
        close_notify, or answer it with an alert, and neither was said."""
        try:
            data = self.sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self.end = self.end or "rst"
            return None
        if data:
            self._incoming.write(data)
        return data

    def _decrypt(self):
        while self.end in (None, "rst"):
            try:
                piece = self.tls.read(CHUNK)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                self.end = "notify"
            except ssl.SSLError as error:
                self._tls_failed(error)
            else:
                if not piece:
                    self.end = "notify"
                self.read_any = self.read_any or bool(piece)
                self.plain += piece

    def _tls_failed(self, error):
        if isinstance(error, ssl.SSLZeroReturnError):
            self.end = "notify"
            return
        name = alert_name(error)
        self.end = f"alert:{name}" if name else f"tls:{(error.reason or 'error').lower()}"
        self._alerted = not name
        self.flush()

    def take(self):
        """The decrypted bytes, once."""
        taken = bytes(self.plain)
        self.plain.clear()
        return taken

    @property
    def raised_alert(self):
        """Whether our own TLS wrote a fatal alert."""
        return self._alerted

    # -- writing

    def send(self, data):
        """Hands bytes to TLS, whole, and to TCP as far as it goes."""
        for at in range(0, len(data), CHUNK):
            self.tls.write(data[at : at + CHUNK])
        self.flush()

    @property
    def backlog(self):
        """Encrypted bytes TCP has not taken yet."""
        return len(self._out) + self._outgoing.pending

    def flush(self):
        """Writes what TCP takes now; a failure is remembered, and what has arrived can still be read."""
        self._out += self._outgoing.read()
        while self._out and not self._write_failed:
            try:
                sent = self.sock.send(self._out)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._write_failed = True
                break
            del self._out[:sent]
        if self._write_failed:
            self._out.clear()

    @property
    def write_failed(self):
        """Whether TCP refused a write; the end, and perhaps an alert, is still to be read."""
        return self._write_failed

    # -- waiting

    def wait(self, deadline, read=True):
        """Waits until the socket can be read, flushing meanwhile; False when the deadline passed."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller = select.poll()
            events = (select.POLLIN if read else RDHUP) | (select.POLLOUT if self.backlog else 0)
            poller.register(self.sock, events)
            ready = poller.poll(left * 1000 + 1)
            if ready and ready[0][1] & select.POLLOUT:
                self.flush()
            if ready and ready[0][1] & ~select.POLLOUT:
                return True

    # -- ends

    def write_close_notify(self):
        """Hands close_notify to TLS and TCP."""
        try:
            self.tls.unwrap()
        except (ssl.SSLError, ValueError, OSError):
            pass
        self.flush()

    def write_alert(self):
        """Makes our own TLS send a fatal alert, by feeding it a record that does not decrypt."""
        self._incoming.write(bytes.fromhex("1703030020") + bytes(20480))
        try:
            while self.tls.read(CHUNK):
                pass
        except ssl.SSLError:
            self._alerted = True
        self.flush()

    def shut_write(self):
        """TCP half-close, nothing written."""
        if self._write_shut or self._closed:
            return
        self._write_shut = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def flush_for(self, limit):
        """Gives TCP some time to take the backlog."""
        deadline = time.monotonic() + limit
        while self.backlog and not self._write_failed and time.monotonic() < deadline:
            poller = select.poll()
            poller.register(self.sock, select.POLLOUT)
            poller.poll(max(0, deadline - time.monotonic()) * 1000 + 1)
            self.flush()

    def discard(self, limit):
        """Reads raw bytes and drops them until TCP's end; False if the limit passed first."""
        deadline = time.monotonic() + limit
        while self.wait(deadline):
            try:
                if not self.sock.recv(CHUNK):
                    return True
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                return True
        return False

    def close_clean(self, limit):
        """As an idle tunnel is closed: close_notify, half-close, read to the peer's end, close."""
        if self._closed:
            return
        self.write_close_notify()
        self.flush_for(limit)
        self.shut_write()
        self.discard(limit)
        self.close_tcp()

    def close_after_alert(self, limit):
        """Behind a fatal alert: half-close, and read on so that no RST destroys the alert."""
        self.flush_for(limit)
        self.shut_write()
        self.discard(limit)
        self.close_tcp()

    def close_tcp(self):
        """close() and nothing else."""
        self._closed = True
        self.sock.close()

    def kill(self):
        """TCP RST."""
        if self._closed:
            return
        linger_zero(self.sock)
        self.close_tcp()

    def reset(self, frame, wait):
        """Sends RESET if TCP takes it whole and at once, then waits for the peer's end; then RST."""
        if frame and not self.backlog and not self._write_failed:
            self.send(frame)
            if not self.backlog and not self._write_failed:
                self.shut_write()
                self.discard(wait)
        self.kill()


def linger_zero(sock):
    """From now on close() is an abort."""
    set_linger(sock, True)


def set_linger(sock, abort):
    """SO_LINGER 0 on, or off; a unix socket has none that matters."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(abort), 0))
    except OSError:
        pass
