"""The second adit/1 against itself: pure rules first, then both roles over TLS on the loopback."""

import dataclasses
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import adit1
import peer
from acceptor import Behaviour, EchoService, Server
from adit1 import FrameReader, Kind, Malformed, Open, Outcome, ProtocolError, Retry, State, Timers, frame
from dialer import Dialer, Stream
from relay import SocketLocal
from script import Player
from tunnel import HandshakeFailed, acceptor_context, certificate_names, covers, dialer_context

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 20
NAME = "b.test"
FAST = dict(frame=0.3, alert_drain=0.5, refuse_drain=0.3, reset_wait=0.5, close_drain=1.0, retire_wait=0.3)


# --- certificates ---------------------------------------------------------------------------------


class Pki:
    """A CA with one dialer and one acceptor, and a stranger's CA, in a temporary folder."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.ca = self._authority("ca")
        self.other_ca = self._authority("other")
        self.dialer = self._leaf("ca", "a", "a.test")
        self.acceptor = self._leaf("ca", "b", NAME)
        self.stranger = self._leaf("other", "x", "a.test")

    def path(self, name):
        """A file of the folder."""
        return os.path.join(self._folder.name, name)

    def _openssl(self, *arguments):
        subprocess.run(("openssl", *arguments), check=True, capture_output=True, timeout=LIMIT)

    def _authority(self, name):
        key, cert = self.path(name + ".key"), self.path(name + ".pem")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self._openssl("req", "-x509", *curve, "-keyout", key, "-out", cert, "-subj", "/CN=" + name, "-days", "2")
        return cert

    def _leaf(self, authority, name, dns):
        key, request, cert, extra = (self.path(name + end) for end in (".key", ".csr", ".pem", ".ext"))
        with open(extra, "w", encoding="ascii") as file:
            file.write(f"subjectAltName=DNS:{dns}\nbasicConstraints=CA:FALSE\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self._openssl("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=" + name)
        signer = ("-CA", self.path(authority + ".pem"), "-CAkey", self.path(authority + ".key"), "-CAcreateserial")
        self._openssl("x509", "-req", "-in", request, *signer, "-out", cert, "-days", "2", "-extfile", extra)
        return cert, key

    def close(self):
        """Removes the folder."""
        self._folder.cleanup()


PKI = None


def setUpModule():
    global PKI
    PKI = Pki()


def tearDownModule():
    PKI.close()


# --- pure rules -----------------------------------------------------------------------------------


class Frames(unittest.TestCase):
    def reader(self, data, **options):
        reader = FrameReader(**options)
        reader.feed(data)
        return reader

    def test_a_frame_is_cut_at_every_byte(self):
        data = frame(Kind.REFUSE, adit1.encode_refuse(3, "no")) + frame(Kind.FIN)
        for cut in range(len(data)):
            reader = self.reader(data[:cut])
            items = list(iter(reader.next, None))
            reader.feed(data[cut:])
            items += list(iter(reader.next, None))
            self.assertEqual(items, [(Kind.REFUSE, b"\x00\x03no"), (Kind.FIN, b"")])

    def test_data_comes_in_pieces(self):
        reader = self.reader(adit1.header(Kind.DATA, 5) + b"ab")
        self.assertEqual(reader.next(), (Kind.DATA, b"ab"))
        self.assertIsNone(reader.next())
        self.assertFalse(reader.pending)
        reader.feed(b"cde" + b"\x04")
        self.assertEqual(reader.next(), (Kind.DATA, b"cde"))
        self.assertIsNone(reader.next())
        self.assertTrue(reader.pending)

    def test_bounds_are_judged_at_the_header(self):
        bad = [(0, 0), (0, adit1.MAX_DATA + 1), (1, 4097), (2, 4097), (3, 1), (3, 515), (4, 1), (5, 1), (5, 3), (6, 1)]
        bad += [(7, 1), (0x40, 4097), (0x7F, 0xFFFFFF)]
        bad += [(kind, 0) for kind in (*range(0x08, 0x40), *range(0x80, 0x100))]
        for kind, length in bad:
            with self.subTest(kind=kind, length=length), self.assertRaises(ProtocolError):
                self.reader(adit1.header(kind, length)).next()

    def test_limits_themselves_pass(self):
        for kind, length in [(0, 1), (0, adit1.MAX_DATA), (1, 0), (1, 4096), (3, 2), (3, 514), (5, 2), (0x40, 4096)]:
            self.reader(adit1.header(kind, length)).next()

    def test_a_run_of_extensions_is_bounded(self):
        whole = frame(0x40, bytes(4092))
        run = whole * 16
        self.assertEqual(len(run), adit1.EXTENSION_RUN_LIMIT)
        self.assertEqual(len(list(iter(self.reader(run).next, None))), 16)
        for between, broken in ((b"", True), (frame(Kind.RETIRE), True), (frame(Kind.FIN), False)):
            reader = self.reader(run + between + frame(0x7F))
            if broken:
                with self.assertRaises(ProtocolError):
                    list(iter(reader.next, None))
            else:
                self.assertEqual(len(list(iter(reader.next, None))), 18)

    def test_the_clock_sums_waits(self):
        clock = adit1.FrameClock(5)
        clock.waited(4.9)
        self.assertAlmostEqual(clock.remaining(), 0.1)
        with self.assertRaises(ProtocolError):
            clock.waited(0.1)


class Preamble(unittest.TestCase):
    def fields(self, *more):
        return adit1.encode_fields([(1, b"/svc/echo"), *more])

    def test_all_fields_survive(self):
        sent = Open("/svc/echo", (bytes(4), 9), (bytes(16), 65535), bytes(range(16)), 8, "unit ü", True)
        self.assertEqual(adit1.decode_open(sent.encode()), sent)

    def test_unknown_high_tags_are_skipped(self):
        more = [(0x80, b"x"), (0xFF, b""), (0x80, b"y")]
        self.assertEqual(adit1.decode_open(self.fields(*more)), Open("/svc/echo"))

    def test_malformed(self):
        bad = [b"", adit1.encode_fields([(5, b"\x01")]), self.fields()[:-1]]
        bad += [self.fields() + b"\x80", self.fields() + b"\x80\x00"]
        bad += [self.fields((tag, b"")) for tag in (0x00, 0x08, 0x7F)]
        bad += [self.fields((1, b"/again")), self.fields((7, b""), (7, b"")), self.fields((7, b"x"))]
        bad += [self.fields((4, bytes(15))), self.fields((4, bytes(17)))]
        bad += [self.fields((5, value)) for value in (b"", b"\x00", b"\x01\x01")]
        texts = (b"a" * 257, b"a\nb", b"\x7f", b"\xc2\x85", b"\xff", b"\xed\xa0\x80")
        bad += [self.fields((6, value)) for value in texts]
        for tag in (2, 3):
            endpoints = (b"", b"\x04" + bytes(18), b"\x06" + bytes(6), b"\x05" + bytes(6))
            bad += [self.fields((tag, value)) for value in endpoints]
        for payload in bad:
            with self.subTest(payload=payload), self.assertRaises(Malformed):
                adit1.decode_open(payload)

    def test_names(self):
        good = [b"/a", b"/a.b_c:#$%+@-9", b"/" + b"x" * 255, b"/a" * 32, b"/$a", b"/a/$", b"/..."]
        good += [b"/" + b"/".join([b"y" * 255] * 4)]
        bad = [b"", b"/", b"a", b"/a/", b"//a", b"/a//b", b"/.", b"/a/..", b"/" + b"x" * 256, b"/a" * 33]
        bad += [b"/$", b"/#/a", b"/a b", b"/a\n", b"/\xc3\xbc", b"/a\x00", b"/a~"]
        bad += [b"/" + b"/".join([b"y" * 255] * 4) + b"/z"]
        for name in good:
            self.assertEqual(adit1.check_name(name), name.decode())
        for name in bad:
            with self.subTest(name=name), self.assertRaises(Malformed):
                adit1.check_name(name)

    def test_answers_to_a_probe(self):
        self.assertEqual(adit1.decode_answer(adit1.encode_answer("/p", "7")), {"bound": "/p", "rule": "7"})
        self.assertEqual(adit1.decode_answer(adit1.encode_fields([(9, b"\x00")])), {})
        twice, control = [(1, b"a"), (1, b"b")], [(2, b"\x07")]
        for bad in (b"\x01", b"\x01\x00\x02a", adit1.encode_fields(twice), adit1.encode_fields(control)):
            with self.assertRaises(ProtocolError):
                adit1.decode_answer(bad)

    def test_codes(self):
        self.assertEqual(adit1.decode_refuse(adit1.encode_refuse(500, "ü" * 300)), (500, "ü" * 256))
        self.assertEqual([adit1.decode_reset(struct.pack(">H", code)) for code in (0, 1, 7, 8)], [1, 1, 7, 1])
        with self.assertRaises(ProtocolError):
            adit1.decode_refuse(b"\x00\x01a\x1bb")


class Vectors(unittest.TestCase):
    """The golden vectors of protocol/vectors.txt, which the first implementation reads as well."""

    FILE = os.path.join(HERE, "..", "..", "protocol", "vectors.txt")
    LEAST = {"header": 30, "open": 40, "accept": 8, "refuse": 12, "reset": 8, "acceptor": 40, "dialer": 40}

    def test_every_vector_is_read_as_it_says(self):
        seen = dict.fromkeys(self.LEAST, 0)
        with open(self.FILE, encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                if line.startswith("#") or " -> " not in line:
                    continue
                kind, given, expected = line.strip().partition(" ")[0], *line.strip().split(" ", 1)[1].split(" -> ")
                seen[kind] += 1
                with self.subTest(line=number, kind=kind, given=given[:80]):
                    self.assertEqual(self.said(kind, given), expected)
        for kind, least in self.LEAST.items():
            self.assertGreaterEqual(seen[kind], least, kind)

    def said(self, kind, given):
        """What this implementation says of one vector."""
        try:
            if kind in ("acceptor", "dialer"):
                return "ok " + End(kind).play(given)
            return getattr(self, "_" + kind)(unhex(given))
        except ProtocolError as error:
            return "error " + error.rule
        except Malformed:
            return "refuse malformed"

    @staticmethod
    def _header(given):
        kind, length = given[0], int.from_bytes(given[1:], "big")
        adit1.check_length(kind, length)
        return f"ok {adit1.kind_name(kind)} {length}"

    @staticmethod
    def _open(given):
        read = adit1.decode_open(given)
        if (read.hops or 1) > adit1.MAX_HOPS:
            return "refuse loop"
        written = read
        if read.hops == 1:
            written = dataclasses.replace(read, hops=None)
        said = [way(given, written.encode()), f"destination={read.destination}"]
        for name in ("source", "original"):
            address = getattr(read, name)
            if address:
                number = 4 if len(address[0]) == 4 else 6
                said.append(f"{name}={number}:{address[0].hex()}:{address[1]}")
        if read.stream_id:
            said.append(f"id={read.stream_id.hex()}")
        if written.hops:
            said.append(f"hops={written.hops}")
        if read.workload is not None:
            said.append(f"workload={hexed(read.workload)}")
        return " ".join(said + ["probe=yes"] * read.probe)

    @staticmethod
    def _accept(given):
        read = adit1.decode_answer(given)
        tags = {"bound": 1, "rule": 2}
        fields = [(tag, read[name].encode()) for name, tag in tags.items() if name in read]
        said = [f"{name}={hexed(read[name])}" for name in tags if name in read]
        return " ".join([way(given, adit1.encode_fields(fields)), *said])

    @staticmethod
    def _refuse(given):
        code, reason = adit1.decode_refuse(given)
        places = {Retry.NEVER: "no", Retry.ELSEWHERE: "elsewhere", Retry.SAME: "same"}
        retry = places[adit1.REFUSAL_RETRY.get(code, Retry.NEVER)] if code != 9 else "fresh"
        return f"{way(given, adit1.encode_refuse(code, reason))} code={code} retry={retry} reason={hexed(reason)}"

    @staticmethod
    def _reset(given):
        code = adit1.decode_reset(given)
        return f"{way(given, adit1.encode_reset(code))} code={code}"


def unhex(text):
    """`00*5+ff` as bytes; `-` is none."""
    pieces = [] if text == "-" else [piece.partition("*") for piece in text.split("+")]
    return b"".join(bytes.fromhex(digits) * int(times or 1) for digits, _, times in pieces)


def hexed(text):
    """Text as the vectors have it."""
    return text.encode().hex() or "-"


def way(given, written):
    """Whether an encoder writes these bytes, or only reads them."""
    return "same" if given == written else "reads"


class End:
    """One end of a tunnel without a tunnel: the state machine and the frame reader."""

    def __init__(self, role):
        self.acceptor = role == "acceptor"
        self.state = adit1.AcceptorState() if self.acceptor else adit1.DialerState()
        self.reader = FrameReader(self.state.place)
        self.aborted = False

    def play(self, steps):
        """`<HEX` is read, `>KIND` sent; the phase it ends in."""
        for step in steps.split(" "):
            if step[0] == ">":
                kind, _, length = step[1:].partition(":")
                getattr(self, ("_acceptor_" if self.acceptor else "_dialer_") + "sends")(kind, int(length or 0))
            elif self.state.state is not State.RESET:
                self._hear(unhex(step[1:]))
        return "aborted" if self.aborted else "reset" if self.state.state is State.RESET else self.state.state.value

    def _hear(self, data):
        self.reader.feed(data)
        while item := self.reader.next():
            kind, payload = item
            if kind == Kind.RESET:
                adit1.decode_reset(payload)
                self.aborted = True
            elif not adit1.is_extension(kind):
                (self._acceptor_hears if self.acceptor else self._dialer_hears)(kind, payload)

    def _acceptor_hears(self, kind, payload):
        if kind == Kind.OPEN:
            try:
                self.state.opened(adit1.decode_open(payload).probe)
            except Malformed:
                self.state.opened(False)
        elif kind == Kind.FIN:
            self.state.finned()

    def _acceptor_sends(self, kind, _length):
        getattr(self.state, "sent_" + kind.lower())()

    def _dialer_hears(self, kind, payload):
        state = self.state
        if kind == Kind.ACCEPT:
            state.check_answer(adit1.decode_answer(payload))
            state.accepted()
        elif kind == Kind.REFUSE:
            adit1.decode_refuse(payload)
            state.refused()
        elif kind == Kind.FIN:
            state.fin_read = True
        elif kind == Kind.RETIRE:
            state.retired = True
        elif kind == Kind.DONE:
            state.done()

    def _dialer_sends(self, kind, length):
        if kind in ("OPEN", "PROBE"):
            self.state.opened(kind == "PROBE")
        elif kind == "DATA":
            self.state.sent_data(length)
        else:
            getattr(self.state, "sent_" + kind.lower())()


class States(unittest.TestCase):
    def test_eager_data_is_bounded_until_the_answer(self):
        state = adit1.AcceptorState()
        state.opened(False)
        state.place(Kind.DATA, 65536)
        self.assertRaises(ProtocolError, state.place, Kind.DATA, 1)
        state.sent_accept()
        state.place(Kind.DATA, adit1.MAX_DATA)

    def test_data_behind_a_refusal_is_bounded_too(self):
        state = adit1.AcceptorState()
        state.opened(False)
        state.place(Kind.DATA, 65536)
        state.sent_refuse()
        self.assertRaises(ProtocolError, state.place, Kind.DATA, 1)

    def test_a_dialer_keeps_its_eager_bound(self):
        state = adit1.DialerState()
        state.opened(False)
        state.sent_data(65000)
        self.assertEqual(state.room(), 536)
        state.accepted()
        self.assertEqual(state.room(), adit1.MAX_DATA)


class Retries(unittest.TestCase):
    def test_refusals(self):
        elsewhere, same = {2, 4, 5, 6}, {7}
        for code in range(12):
            wanted = Retry.ELSEWHERE if code in elsewhere else Retry.SAME if code in same else Retry.NEVER
            outcome = Outcome(answer="refuse", refuse=(code, ""), handed=True)
            self.assertIs(adit1.retry_place(outcome), wanted, code)
        self.assertIs(adit1.retry_place(Outcome(answer="refuse", refuse=(7, "")), 1), Retry.ELSEWHERE)
        misdirected = Outcome(answer="refuse", refuse=(9, ""), recycled=True)
        self.assertIs(adit1.retry_place(misdirected), Retry.SAME)

    def test_no_endpoint_is_gone_back_to_twice(self):
        closed = Outcome(end="notify", handed=True)
        self.assertIs(adit1.retry_place(closed, 0), Retry.SAME)
        self.assertIs(adit1.retry_place(closed, 1), Retry.ELSEWHERE)

    def test_a_probe_is_always_safe_to_repeat(self):
        self.assertIs(adit1.retry_place(Outcome(end="bare", handed=True), probe=True), Retry.ELSEWHERE)

    def test_ends(self):
        cases = [
            (Outcome(end="notify", handed=True), Retry.SAME),
            (Outcome(end="alert:internal_error", handed=True), Retry.ELSEWHERE),
            (Outcome(end="bare", handed=True), Retry.NEVER),
            (Outcome(end="rst", handed=True), Retry.NEVER),
            (Outcome(end="tls:bad_record_mac", handed=True), Retry.NEVER),
            (Outcome(end="bare"), Retry.ELSEWHERE),
            (Outcome(end="rst", recycled=True), Retry.SAME),
            (Outcome(end="notify", answer="accept"), Retry.NEVER),
            (Outcome(end="notify", reset_sent=1), Retry.NEVER),
            (Outcome(broken_rule="any"), Retry.NEVER),
        ]
        for outcome, wanted in cases:
            self.assertIs(adit1.retry_place(outcome), wanted, outcome)


# --- both roles -----------------------------------------------------------------------------------


class Wire(unittest.TestCase):
    """An acceptor in threads of this process, its reports in a queue; a dialer with FAST timers."""

    def setUp(self):
        self.timers = Timers(**FAST)
        self.reports = Queue()
        self.pool = ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown, wait=False)
        self.service = EchoService()
        self.addCleanup(self.service.stop)

    def serve(self, steps=None, identity=None, timers=None, **behaviour):
        """An acceptor; its address."""
        behaviour.setdefault("target", self.service.address)
        context = acceptor_context(PKI.ca, *(identity or PKI.acceptor))
        timers, behaviour = timers or self.timers, Behaviour(**behaviour)
        play = peer.script_player(steps, timers, behaviour) if steps is not None else None
        server = Server(("127.0.0.1", 0), context, timers, behaviour, play, self.reports.put).start()
        self.addCleanup(server.stop)
        return server.address

    def report(self):
        """The next tunnel's report."""
        return self.reports.get(timeout=LIMIT)

    def dialer(self, *addresses, identity=None, timers=None, **options):
        """A dialer for these endpoints."""
        context = dialer_context(PKI.ca, *(identity or PKI.dialer))
        options.setdefault("expect", NAME)
        dialer = Dialer(list(addresses), context, timers or self.timers, **options)
        self.addCleanup(dialer.drop)
        return dialer

    def pair(self):
        """An application's socket, and the agent's end of it."""
        application, agent = socket.socketpair()
        application.settimeout(LIMIT)
        self.addCleanup(application.close)
        return application, SocketLocal(agent)

    def tcp_pair(self):
        """The same over TCP, where an abort can be told from an end."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            application = socket.create_connection(listener.getsockname(), timeout=LIMIT)
            agent = listener.accept()[0]
        self.addCleanup(application.close)
        return application, SocketLocal(agent)

    def begin(self, dialer, local, destination="/svc/echo", **fields):
        """Runs a stream in another thread; a future of (outcome, attempts)."""
        return self.pool.submit(dialer.run, Stream(destination, local, **fields))

    def echo(self, dialer, payload):
        """One whole stream; (what came back, outcome, attempts)."""
        application, local = self.pair()
        running = self.begin(dialer, local)
        sender = self.pool.submit(send_all, application, payload)
        got = read_all(application)
        sender.result(LIMIT)
        return (got, *running.result(LIMIT))

    def play(self, address, steps, dialer=None):
        """A scripted dialer; every step must be as expected."""
        tunnel = (dialer or self.dialer(address)).connect(address)
        self.addCleanup(tunnel.tunnel.close_tcp)
        player = Player(tunnel.tunnel)
        self.assertTrue(player.play(steps), player.results)
        return player

    def answered(self, steps, data=b"hello", probe=False):
        """An ordinary dialer against a scripted acceptor; (outcome, the acceptor's report)."""
        address = self.serve(steps=steps)
        application, local = self.tcp_pair()
        application.sendall(data)
        running = self.begin(self.dialer(address), None if probe else local, probe=probe)
        outcome, _attempts = running.result(LIMIT)
        if probe:
            local.abort()
        return outcome, application

    def script_was_good(self):
        """The scripted acceptor saw what it expected."""
        report = self.report()
        self.assertTrue(all(step["ok"] for step in report["script"]), report)


def send_all(sock, payload):
    """Sends and half-closes."""
    sock.sendall(payload)
    sock.shutdown(socket.SHUT_WR)


def read_all(sock):
    """Reads to the end."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def read_exact(sock, count):
    """Reads so many bytes."""
    got = b""
    while len(got) < count:
        got += sock.recv(count - len(got)) or b"!" * count
    return got


OPEN = {"send": "OPEN", "to": "/svc/echo"}
PROBE = {"send": "OPEN", "to": "/svc/echo", "probe": True}
FIN, RESET = {"send": "FIN"}, {"send": "RESET", "code": 1}
ACCEPTED = [OPEN, {"expect": "ACCEPT"}]
WHOLE = [{"together": [OPEN, FIN]}, {"expect": "ACCEPT"}, {"expect": "FIN"}, {"expect": "DONE"}]
TCP_END = {"expect_end": "tcp"}
ANY_END = {"expect_end": "any"}


class Streams(Wire):
    def test_bytes_come_back_and_the_tunnel_is_recycled(self):
        dialer = self.dialer(self.serve())
        for payload in (b"", b"x", os.urandom(65536), os.urandom(5_000_000)):
            got, outcome, _attempts = self.echo(dialer, payload)
            self.assertTrue(outcome.done, outcome)
            self.assertEqual(got, payload)
            self.assertEqual((outcome.sent, outcome.received), (len(payload), len(payload)))
        self.assertEqual(dialer.tunnels, 1)
        dialer.drop()
        report = self.report()
        self.assertEqual([stream["done"] for stream in report["streams"]], [True] * 4)
        self.assertEqual((report["end"], report["identity"]), ("notify", ["a.test"]))

    def service_of_test(self):
        """A service this test plays itself: (address, accept())."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(LIMIT)
        self.addCleanup(listener.close)

        def accept():
            sock = listener.accept()[0]
            sock.settimeout(LIMIT)
            self.addCleanup(sock.close)
            return sock

        return listener.getsockname(), accept

    def test_half_close_by_the_application(self):
        target, accept = self.service_of_test()
        application, local = self.pair()
        running = self.begin(self.dialer(self.serve(target=target)), local)
        send_all(application, b"question")
        service = accept()
        self.assertEqual(read_all(service), b"question")
        service.sendall(b"answer")
        self.assertEqual(read_exact(application, 6), b"answer")
        send_all(service, b" and more")
        self.assertEqual(read_all(application), b" and more")
        self.assertTrue(running.result(LIMIT)[0].done)

    def test_half_close_by_the_service_which_speaks_first(self):
        target, accept = self.service_of_test()
        application, local = self.pair()
        running = self.begin(self.dialer(self.serve(target=target)), local)
        service = accept()
        send_all(service, b"banner")
        self.assertEqual(read_all(application), b"banner")
        application.sendall(b"late")
        self.assertEqual(read_exact(service, 4), b"late")
        send_all(application, b" end")
        self.assertEqual(read_all(service), b" end")
        self.assertTrue(running.result(LIMIT)[0].done)

    def test_probe(self):
        dialer = self.dialer(self.serve())
        for _ in range(2):
            outcome, _attempts = dialer.run(Stream("/svc/echo", probe=True))
            self.assertTrue(outcome.done, outcome)
            self.assertEqual(outcome.fields["bound"], "/inet/{}/{}".format(*self.service.address))
        self.assertEqual(self.echo(dialer, b"after")[0], b"after")
        self.assertEqual(dialer.tunnels, 1)

    def test_reset_by_the_application(self):
        target, accept = self.service_of_test()
        application, local = self.tcp_pair()
        running = self.begin(self.dialer(self.serve(target=target)), local)
        application.sendall(b"x")
        service = accept()
        self.assertEqual(read_exact(service, 1), b"x")
        rst(application)
        self.assertRaises(ConnectionResetError, service.recv, 1)
        self.assertEqual(running.result(LIMIT)[0].reset_sent, 1)
        self.assertEqual(self.report()["streams"][0]["reset_read"], 1)

    def test_reset_by_the_service_after_its_last_words(self):
        target, accept = self.service_of_test()
        application, local = self.tcp_pair()
        running = self.begin(self.dialer(self.serve(target=target)), local)
        application.sendall(b"x")
        service = accept()
        self.assertEqual(read_exact(service, 1), b"x")
        rst(service)
        self.assertRaises(ConnectionResetError, application.recv, 1)
        self.assertEqual(running.result(LIMIT)[0].reset_read, 1)
        self.assertEqual(self.report()["streams"][0]["reset_sent"], 1)

    def test_a_lost_tunnel_aborts_the_service(self):
        target, accept = self.service_of_test()
        address = self.serve(target=target)
        for how in ("bare", "rst", "half", "notify", "alert"):
            with self.subTest(how=how):
                player = self.play(address, [*ACCEPTED, *sends("DATA")])
                service = accept()
                self.assertEqual(read_exact(service, 1), b"x")
                self.assertTrue(player.play([{"close": how}]))
                self.assertRaises(ConnectionResetError, service.recv, 1)


def rst(sock):
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Refusals(Wire):
    def test_the_kept_copy_is_sent_again_elsewhere(self):
        payload = os.urandom(100_000)
        dialer = self.dialer(self.serve(refuse=(4, "gone")), self.serve())
        got, outcome, attempts = self.echo(dialer, payload)
        self.assertTrue(outcome.done, outcome)
        self.assertEqual((got, attempts, dialer.tunnels), (payload, 2, 2))

    def test_draining_is_tried_on_a_fresh_tunnel_to_the_same_endpoint(self):
        dialer = self.dialer(self.serve(refuse=(7, "later"), refuse_count=1))
        got, outcome, attempts = self.echo(dialer, b"kept")
        self.assertEqual((got, outcome.done, attempts, dialer.tunnels), (b"kept", True, 2, 2))

    def test_a_refused_tunnel_is_pooled(self):
        dialer = self.dialer(self.serve(refuse=(3, "rule 4: DNS:a.test"), refuse_count=1))
        _application, local = self.pair()
        outcome, attempts = self.begin(dialer, local).result(LIMIT)
        self.assertEqual((outcome.refuse, attempts), ((3, "rule 4: DNS:a.test"), 1))
        self.assertEqual(self.echo(dialer, b"next")[0], b"next")
        self.assertEqual(dialer.tunnels, 1)

    def test_three_attempts_and_no_more(self):
        addresses = [self.serve(refuse=(6, "full")) for _ in range(4)]
        dialer = self.dialer(*addresses)
        _application, local = self.pair()
        outcome, attempts = self.begin(dialer, local).result(LIMIT)
        self.assertEqual((outcome.refuse, attempts, dialer.tunnels), ((6, "full"), 3, 3))

    def test_unreachable_unknown_and_loop(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            target = gone.getsockname()
        for code, behaviour, fields in (
            (4, {"target": target}, {}),
            (2, {"names": ["/svc/other"]}, {}),
            (8, {}, {"hops": 9}),
        ):
            _application, local = self.pair()
            outcome, _attempts = self.begin(self.dialer(self.serve(**behaviour)), local, **fields).result(LIMIT)
            self.assertEqual(outcome.refuse[0], code)

    def test_data_behind_a_refusal_is_discarded_until_fin(self):
        data = {"send": "DATA", "zeros": 65536}
        self.play(
            self.serve(refuse=(3, "no"), refuse_count=1),
            [OPEN, {"expect": "REFUSE", "code": 3}, data, FIN, *WHOLE],
        )

    def test_more_data_behind_a_refusal_breaks_a_rule(self):
        data = {"send": "DATA", "zeros": 65536}
        more = {"send": "DATA", "zeros": 1}
        self.play(self.serve(refuse=(3, "no")), [OPEN, {"expect": "REFUSE"}, data, more, TCP_END])
        self.assertTrue(self.report()["broken_rule"])

    def test_an_end_behind_a_refusal_is_closed_cleanly(self):
        self.play(self.serve(refuse=(3, "no")), [OPEN, {"expect": "REFUSE"}, {"close": "half"}, {"expect_end": "notify"}])
        self.assertIsNone(self.report()["broken_rule"])

    def test_no_fin_behind_a_refusal_ends_the_tunnel_cleanly(self):
        self.play(self.serve(refuse=(3, "no")), [OPEN, {"expect": "REFUSE"}, {"expect_end": "notify"}])

    def test_reset_behind_a_refusal_ends_the_tunnel(self):
        self.play(self.serve(refuse=(3, "no")), [OPEN, {"expect": "REFUSE"}, RESET, TCP_END])

    def test_malformed_preambles_are_refused_and_the_tunnel_lives(self):
        steps = []
        for payload in ("", "0100022f24", "01000161", "0100022f6105000100"):
            steps += [{"send": "OPEN", "hex": payload}, {"expect": "REFUSE", "code": 1}, FIN]
        self.play(self.serve(), steps + WHOLE)

    def test_a_dialer_with_half_of_its_data_unsent_sends_fin_after_refuse(self):
        steps = [
            {"expect": "OPEN"},
            {"expect_data": True, "count": 65536},
            {"expect_silence": 0.2},
            {"send": "REFUSE", "code": 3},
            {"expect": "FIN"},
        ]
        outcome, _application = self.answered(steps, bytes(70_000))
        self.assertEqual(outcome.refuse[0], 3)
        self.script_was_good()


class Ends(Wire):
    def test_before_the_answer(self):
        for how, retried in (("notify", True), ("alert", False), ("bare", False), ("rst", False)):
            with self.subTest(how=how):
                address = self.serve(close_after_open=how, close_count=1)
                application, local = self.tcp_pair()
                application.sendall(b"data")
                dialer = self.dialer(address)
                running = self.begin(dialer, local)
                if retried:
                    self.assertEqual(read_exact(application, 4), b"data")
                    application.shutdown(socket.SHUT_WR)
                outcome, attempts = running.result(LIMIT)
                self.assertEqual((outcome.done, attempts), (retried, 2 if retried else 1), outcome)
                self.assertEqual(outcome.end == "alert:bad_record_mac", how == "alert")
                self.assertEqual(outcome.handshake_failed, how == "alert")
                if not retried:
                    self.assertRaises(ConnectionResetError, application.recv, 1)

    def test_a_fatal_alert_is_tried_elsewhere_and_a_bare_end_is_if_nothing_was_said(self):
        for how, payload in (("alert", b"data"), ("bare", None), ("rst", None)):
            with self.subTest(how=how):
                self.reports = Queue()
                dialer = self.dialer(self.serve(close_after_open=how), self.serve())
                application, local = self.pair()
                running = self.begin(dialer, local)
                if payload:
                    application.sendall(payload)
                else:
                    report = self.report()
                    self.assertTrue(report["streams"][0]["error"])
                send_all(application, b"" if payload else b"late")
                self.assertEqual(read_all(application), payload or b"late")
                self.assertTrue(running.result(LIMIT)[0].done)

    def test_after_accept_every_end_is_an_abort(self):
        for how in ("notify", "alert", "bare", "rst"):
            with self.subTest(how=how):
                steps = [{"expect": "OPEN"}, {"expect_data": True, "count": 5}, {"send": "ACCEPT"}, {"close": how}]
                outcome, application = self.answered(steps + ([ANY_END] if how in ("notify", "alert") else []))
                self.assertFalse(outcome.done)
                self.assertEqual(outcome.answer, "accept")
                self.assertRaises(ConnectionResetError, application.recv, 1)

    def test_dialer_ends_an_idle_tunnel(self):
        for how in ("half", "notify"):
            self.play(self.serve(), [*WHOLE, {"close": how}, ANY_END])
            self.assertIsNone(self.report()["broken_rule"])

    def test_dialer_ends_a_tunnel_with_a_stream_on_it(self):
        for how in ("half", "notify"):
            self.play(self.serve(), [*ACCEPTED, {"close": how}, TCP_END])
            self.assertFalse(self.report()["streams"][0]["done"])

    def test_reset_by_the_dialer(self):
        self.play(self.serve(), [RESET, TCP_END])
        self.play(self.serve(), [*WHOLE, RESET, TCP_END])
        self.play(self.serve(), [*ACCEPTED, RESET, TCP_END])
        self.play(self.serve(stall_at="accept"), [{"together": [OPEN, FIN]}, RESET, TCP_END])
        self.play(self.serve(stall_at="done"), [*WHOLE[:3], RESET, TCP_END])

    def test_stalls_end_by_the_dialers_limits(self):
        timers = Timers(**FAST, open=0.5, handshake=0.5)
        for stall in ("handshake", "open", "accept"):
            with self.subTest(stall=stall):
                dialer = self.dialer(self.serve(stall_at=stall), timers=timers)
                _application, local = self.pair()
                outcome, _attempts = self.begin(dialer, local).result(LIMIT)
                wanted = "timeout" if stall == "handshake" else "no answer in time"
                self.assertEqual(outcome.end or outcome.error, wanted)
        for stall in ("data", "fin", "done"):
            with self.subTest(stall=stall):
                dialer = self.dialer(self.serve(stall_at=stall))
                application, local = self.pair()
                send_all(application, b"x")
                limit = peer.monotonic_limit(0.5)
                outcome, _attempts = self.pool.submit(dialer.run, Stream("/svc/echo", local), limit).result(LIMIT)
                self.assertEqual((outcome.error, outcome.reset_sent), ("the stream took too long", 3))


class Retirement(Wire):
    def test_idle(self):
        dialer = self.dialer(self.serve(retire_after=2))
        for expected in (1, 1, 2):
            self.assertEqual(self.echo(dialer, b"x")[0], b"x")
            if expected == 1 and dialer.pooled[1].streams == 2:
                self.assertEqual(dialer.idle(LIMIT), "retired")
            self.assertEqual(dialer.tunnels, expected)

    def test_with_a_stream_on_it(self):
        for when in ("open", "stream"):
            dialer = self.dialer(self.serve(retire_after=1, retire_when=when))
            self.assertEqual(self.echo(dialer, b"x")[0], b"x")
            self.assertTrue(dialer.retired)
            self.assertIsNone(dialer.pooled)
            self.assertEqual(self.report()["streams"][0]["done"], True)

    def test_an_idle_acceptor_retires_then_closes(self):
        timers = Timers(**{**FAST, "acceptor_idle": 0.2})
        self.play(self.serve(timers=timers), [{"expect": "RETIRE"}, {"expect_end": "notify"}])

    def test_extensions_do_not_keep_a_tunnel(self):
        timers = Timers(**{**FAST, "acceptor_idle": 0.6})
        drip = {"drip": "40000000" * 50, "every": 0.05}
        self.play(self.serve(timers=timers), [drip, {"expect": "RETIRE"}, {"expect_end": "notify"}])

    def test_a_crossed_open_is_served_or_refused(self):
        timers = Timers(**{**FAST, "retire_wait": 10})
        for refuse, last in ((False, WHOLE[1:]), (True, [{"expect": "REFUSE", "code": 7}])):
            address = self.serve(timers=timers, retire_after=1, refuse_crossed=refuse)
            self.play(address, [*WHOLE, {"expect": "RETIRE"}, WHOLE[0], *last, {"expect_end": "notify"}])

    def test_retired_dialer_closes(self):
        steps = [{"serve": 1}, {"send": "RETIRE"}, {"expect_end": "notify"}]
        dialer = self.dialer(self.serve(steps=steps))
        self.assertEqual(self.echo(dialer, b"x")[0], b"x")
        self.assertEqual(dialer.idle(LIMIT), "retired")
        dialer.drop()
        self.script_was_good()


def sends(*kinds):
    """A sending step for each kind, with a payload of legal length."""
    payloads = {"DATA": {"text": "x"}, "REFUSE": {"code": 3}, "RESET": {"code": 1}, "OPEN": {"to": "/svc/echo"}}
    return [{"send": kind, **payloads.get(kind, {})} for kind in kinds]


class IllegalToTheAcceptor(Wire):
    """Every frame that may not arrive, at every point, ends the tunnel by TCP alone."""

    def refused_frames(self, address, before, kinds, bad=(), end=TCP_END):
        for step in [*sends(*kinds), *bad]:
            with self.subTest(before=len(before), step=step):
                self.play(address, [*before, step, end])
                report = self.report()
                self.assertTrue(report["broken_rule"], report)

    BAD = [
        {"header": ["DATA", 0]},
        {"header": ["DATA", (1 << 20) + 1]},
        {"header": ["FIN", 1]},
        {"header": ["RESET", 1]},
        {"header": [0x08, 0]},
        {"header": [0x0F, 0]},
        {"header": [0x10, 0]},
        {"header": [0x80, 0]},
        {"header": [0xFF, 0]},
        {"header": [0x40, 4097]},
        {"repeat": 17, "steps": [{"send": 0x41, "zeros": 4092}]},
    ]

    def test_idle(self):
        kinds = ("DATA", "ACCEPT", "REFUSE", "FIN", "RETIRE", "DONE")
        bad = [*self.BAD, {"header": ["OPEN", 4097]}]
        self.refused_frames(self.serve(), [], kinds, bad)
        self.refused_frames(self.serve(), WHOLE, kinds)

    def test_opened(self):
        address = self.serve(stall_at="accept")
        bad = [{"send": "DATA", "zeros": 65537}, {"together": [{"send": "DATA", "zeros": 65536}, *sends("DATA")]}]
        self.refused_frames(address, [OPEN], ("OPEN", "ACCEPT", "REFUSE", "RETIRE", "DONE"), bad)

    def test_opened_after_fin(self):
        address = self.serve(stall_at="accept")
        self.refused_frames(address, [OPEN, FIN], ("DATA", "OPEN", "ACCEPT", "REFUSE", "FIN", "RETIRE", "DONE"))

    def test_accepted(self):
        self.refused_frames(self.serve(), ACCEPTED, ("OPEN", "ACCEPT", "REFUSE", "RETIRE", "DONE"), self.BAD)

    def test_accepted_after_fin(self):
        address = self.serve(stall_at="done")
        before = WHOLE[:3]
        self.refused_frames(address, before, ("DATA", "OPEN", "ACCEPT", "REFUSE", "FIN", "RETIRE", "DONE"))

    def test_refused(self):
        address = self.serve(refuse=(3, ""), timers=Timers(**{**FAST, "refuse_drain": LIMIT}))
        self.refused_frames(address, [OPEN, {"expect": "REFUSE"}], ("OPEN", "ACCEPT", "REFUSE", "RETIRE", "DONE"))

    def test_probe(self):
        answered = {"expect_end": "tcp", "ignore": True}
        self.refused_frames(self.serve(), [PROBE], ("DATA", "OPEN"), end=answered)
        address = self.serve(refuse=(3, ""), timers=Timers(**{**FAST, "refuse_drain": LIMIT}))
        self.refused_frames(address, [PROBE, {"expect": "REFUSE"}], ("DATA",))

    def test_a_begun_frame_must_be_whole_in_time(self):
        begun = [{"header": ["DATA", 5], "cut": 1}, {"header": ["OPEN", 50]}, {"header": [0x40, 9]}]
        self.refused_frames(self.serve(), [], (), [*begun, {"drip": "0100000a" + "00" * 9, "every": 0.05}])

    def test_a_begun_data_body_has_no_clock(self):
        data = [{"header": ["DATA", 2]}, {"raw": "61"}, {"expect_data": True, "text": "a"}]
        rest = [{"expect_silence": 0.5}, {"raw": "62"}, {"expect_data": True, "text": "b"}]
        self.play(self.serve(), [*ACCEPTED, *data, *rest])

    def test_extensions_are_skipped_between_any_frames(self):
        extension = {"send": 0x7F, "zeros": 4096}
        steps = [extension, OPEN, extension, {"expect": "ACCEPT"}, *sends("DATA"), extension]
        self.play(self.serve(), [*steps, {"expect_data": True, "text": "x"}, FIN, extension, *WHOLE[2:], *WHOLE])


class IllegalToTheDialer(Wire):
    """The same for the dialer, whose application is aborted and who does not try again."""

    def broken(self, before, kinds, bad=(), probe=False, ended=False):
        heard = [{"expect": "OPEN"}, {"expect": "FIN"} if probe else {"expect_data": True, "count": 5}]
        for step in [*sends(*kinds), *bad]:
            with self.subTest(step=step):
                outcome, application = self.answered([*heard, *before, step, TCP_END], probe=probe)
                self.assertTrue(outcome.broken_rule, outcome)
                self.script_was_good()
                if not probe and not ended:
                    self.assertRaises(ConnectionResetError, read_all, application)

    def test_opened(self):
        bad = [*IllegalToTheAcceptor.BAD, {"send": "ACCEPT", "hex": "01000161"}, {"send": "ACCEPT", "hex": "09"}, {"send": "REFUSE", "hex": "000307"}]
        bad += [{"header": header} for header in (["REFUSE", 1], ["REFUSE", 515], ["RETIRE", 1], ["DONE", 1])]
        bad += [{"together": sends("RETIRE", "RETIRE")}]
        self.broken([], ("DATA", "OPEN", "FIN", "RESET", "DONE"), bad)

    def test_accepted(self):
        self.broken([{"send": "ACCEPT"}], ("OPEN", "ACCEPT", "REFUSE", "DONE"), IllegalToTheAcceptor.BAD)

    def test_after_fin(self):
        self.broken(sends("ACCEPT", "FIN"), ("DATA", "OPEN", "ACCEPT", "REFUSE", "FIN", "DONE"), ended=True)

    def test_probe(self):
        self.broken([], ("DATA", "FIN", "RESET", "DONE"), [{"send": "ACCEPT", "hex": "0100"}], probe=True)
        self.broken(sends("ACCEPT"), ("DATA", "DONE", "ACCEPT", "REFUSE"), probe=True)

    def test_a_begun_frame_must_be_whole_in_time(self):
        self.broken([], (), [{"header": ["ACCEPT", 0], "cut": 3}, {"header": ["REFUSE", 2]}])

    def test_idle(self):
        for step in sends("DATA", "OPEN", "ACCEPT", "REFUSE", "FIN", "RESET", "DONE"):
            with self.subTest(step=step):
                dialer = self.dialer(self.serve(steps=[{"serve": 1}, step, TCP_END]))
                self.assertEqual(self.echo(dialer, b"x")[0], b"x")
                self.assertIn("broken", dialer.idle(LIMIT))
                self.script_was_good()

    def test_extensions_and_retire_are_skipped(self):
        extension = {"send": 0x40, "zeros": 4096}
        heard = [extension, {"expect": "OPEN"}, {"expect_data": True, "count": 5}]
        steps = [extension, *sends("RETIRE", "ACCEPT"), extension, {"send": "RESET", "code": 99}, TCP_END]
        outcome, application = self.answered(heard + steps)
        self.assertEqual((outcome.reset_read, outcome.broken_rule), (1, None))
        self.assertRaises(ConnectionResetError, application.recv, 1)
        self.script_was_good()

    def test_reset_is_followed_by_the_end_without_close_notify(self):
        steps = [{"expect": "OPEN"}, {"expect_data": True, "count": 5}]
        steps += [{"expect": "RESET", "code": 3}, {"expect_end": "bare"}]
        address = self.serve(steps=steps)
        application, local = self.tcp_pair()
        application.sendall(b"hello")
        running = self.begin(self.dialer(address, timers=Timers(**FAST, open=0.3)), local)
        self.assertEqual(running.result(LIMIT)[0].reset_sent, 3)
        self.script_was_good()


class Handshakes(Wire):
    def test_an_unknown_authority_is_told_by_name(self):
        for identity, alert in ((PKI.stranger, "unknown_ca"), ((None, None), "certificate_required")):
            dialer = self.dialer(self.serve(), identity=identity)
            _application, local = self.pair()
            outcome, _attempts = self.begin(dialer, local).result(LIMIT)
            self.assertTrue(outcome.handshake_failed, outcome)
            self.assertIn(alert, outcome.end.replace("tlsv13_", ""))
            self.assertIn("handshake", self.report())

    def test_a_name_not_covered_is_not_answered_with_the_default(self):
        dialer = self.dialer(self.serve(), sni="other.test")
        with self.assertRaises(HandshakeFailed) as caught:
            dialer.connect(dialer.endpoints[0])
        self.assertEqual(caught.exception.end, "alert:unrecognized_name")

    def test_no_name_gets_the_default_certificate(self):
        self.assertEqual(self.echo(self.dialer(self.serve(), expect=None), b"x")[0], b"x")

    def test_another_name_than_expected(self):
        dialer = self.dialer(self.serve(), sni=NAME, expect="other.test")
        self.assertRaises(HandshakeFailed, dialer.connect, dialer.endpoints[0])

    def test_alpn_must_agree(self):
        address = self.serve()
        dialer = self.dialer(address)
        dialer.context = dialer_context(PKI.ca, *PKI.dialer, alpn=("other/1",))
        self.assertRaises(HandshakeFailed, dialer.connect, address)

    def test_a_dialer_closes_when_its_alpn_was_not_taken(self):
        context = acceptor_context(PKI.ca, *PKI.acceptor, alpn=("other/1",))
        server = Server(("127.0.0.1", 0), context, self.timers, Behaviour(), report=self.reports.put).start()
        self.addCleanup(server.stop)
        with self.assertRaises(HandshakeFailed) as caught:
            self.dialer(server.address).connect(server.address)
        self.assertEqual(caught.exception.end, "no ALPN agreed")

    def test_tls12_is_not_spoken(self):
        address = self.serve()
        dialer = self.dialer(address)
        dialer.context = dialer_context(PKI.ca, *PKI.dialer, tls12=True)
        with self.assertRaises(HandshakeFailed) as caught:
            dialer.connect(address)
        self.assertEqual(caught.exception.end, "alert:protocol_version")

    def test_names_of_a_certificate(self):
        self.assertEqual(certificate_names(PKI.acceptor[0]), [NAME])
        self.assertTrue(covers(["*.b.test"], "X.b.test"))
        self.assertFalse(covers(["*.b.test", "b.test"], "x.y.b.test"))


class CommandLine(unittest.TestCase):
    def command(self, *arguments, identity=None):
        cert, key = identity or PKI.dialer
        return [sys.executable, os.path.join(HERE, "peer.py"), *arguments, "--ca", PKI.ca, "--cert", cert, "--key", key]

    def accept(self, *arguments):
        command = self.command("accept", "--listen", "127.0.0.1:0", *arguments, identity=PKI.acceptor)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.addCleanup(watchdog.cancel)
        return process, process.stdout.readline().strip()

    def dial(self, port, *arguments, given=b""):
        command = self.command("dial", "--connect", "127.0.0.1:" + port, "--expect", NAME, *arguments)
        done = subprocess.run(command, input=given, capture_output=True, timeout=LIMIT, check=False)
        return done.returncode, done.stdout, json.loads(done.stderr)

    def test_streams_probe_and_reports(self):
        process, port = self.accept("--echo")
        code, got, report = self.dial(port, given=b"hello")
        self.assertEqual((code, got, report["answer"], report["done"]), (0, b"hello", "accept", True))
        self.assertEqual(json.loads(process.stderr.readline())["streams"][0]["done"], True)
        code, got, report = self.dial(port, "--streams", "3", given=b"abc")
        self.assertEqual((code, got, report["tunnels"], len(report["streams"])), (0, b"abc" * 3, 1, 3))
        code, _got, report = self.dial(port, "--probe")
        self.assertEqual((code, report["fields"]["rule"]), (0, "0"))

    def test_failures_have_their_exit_codes(self):
        _process, port = self.accept("--echo", "--refuse", "3", "rule 1")
        code, _got, report = self.dial(port, given=b"x")
        self.assertEqual((code, report["refuse"]), (10, {"code": 3, "reason": "rule 1"}))
        code, _got, report = self.dial(port, "--no-cert")
        self.assertEqual((code, report["result"], report["alert"]), (12, "handshake", "certificate_required"))
        code, _got, report = self.dial(port, "--no-alpn")
        self.assertIn(code, (12, 14))

    def test_scripts(self):
        _process, port = self.accept("--echo")
        steps = [{"name": "one", "stream": {"text": "hi"}, "want": {"done": True, "text": "hi"}}, *WHOLE]
        code, _got, report = self.dial(port, "--script", json.dumps(steps))
        self.assertEqual((code, report["script"][0]["ok"]), (0, True), report)
        code, _got, report = self.dial(port, "--script", json.dumps([OPEN, {"expect": "DONE"}]))
        self.assertEqual((code, report["script"][1]["ok"]), (17, False))

    def test_scripted_acceptor(self):
        steps = [{"expect": "OPEN"}, {"send": "DATA", "text": "x"}, TCP_END]
        process, port = self.accept("--script", json.dumps(steps))
        code, _got, report = self.dial(port, given=b"")
        self.assertEqual((code, report["broken_rule"]), (13, "DATA while opened"))
        self.assertEqual(json.loads(process.stderr.readline())["script"][0]["ok"], True)


if __name__ == "__main__":
    unittest.main()
