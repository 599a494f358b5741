"""A second implementation of adit/1, to test the first one with. See README.md."""

import argparse
import json
import os
import sys
import tempfile
import threading
import time

from acceptor import AcceptorTunnel, Behaviour, EchoService, Server, describe
from adit1 import ALPN, Timers
from dialer import Dialer, Stream
from relay import FdLocal
from script import Player, load
from tunnel import HandshakeFailed, acceptor_context, dialer_context

EXIT = {
    "done": 0,
    "refused": 10,
    "reset": 11,
    "handshake": 12,
    "broken": 13,
    "lost": 14,
    "timeout": 15,
    "local": 16,
    "script": 17,
}
_stderr = threading.Lock()


def emit(report):
    """One JSON line on standard error."""
    with _stderr:
        sys.stderr.write(json.dumps(report, default=str) + "\n")
        sys.stderr.flush()


# --- arguments ------------------------------------------------------------------------------------


def host_port(text):
    """HOST:PORT as a pair."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def timers_of(settings):
    """Timers with some set by NAME=SECONDS."""
    timers = Timers()
    for setting in settings:
        name, _, value = setting.partition("=")
        if not hasattr(timers, name):
            raise SystemExit(f"no such timer: {name}")
        setattr(timers, name, float(value))
    return timers


def _shared(parser):
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--alpn", action="append", help=f"instead of {ALPN}; may be repeated")
    parser.add_argument("--no-alpn", action="store_true")
    parser.add_argument("--tls12", action="store_true", help="TLS 1.2 and nothing else")
    parser.add_argument("--script", help="a JSON list of steps, or a file of one (script.py)")
    parser.add_argument("--timer", action="append", default=[], metavar="NAME=SECONDS")


def _dial_arguments(parser):
    _shared(parser)
    parser.add_argument("--connect", action="append", type=host_port, required=True, help="may be repeated")
    parser.add_argument("--to", default="/svc/echo")
    parser.add_argument("--sni")
    parser.add_argument("--expect", help="a name the acceptor's certificate must have")
    parser.add_argument("--no-cert", action="store_true")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--hops", type=int)
    parser.add_argument("--workload")
    parser.add_argument("--idle", type=float, help="seconds to keep the tunnel after the last stream")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds one stream may take")


def _accept_arguments(parser):
    _shared(parser)
    parser.add_argument("--listen", type=host_port, required=True)
    parser.add_argument("--forward", type=host_port)
    parser.add_argument("--echo", action="store_true")
    parser.add_argument("--serve", action="append", default=[], help="a destination; all if none is given")
    parser.add_argument("--retire-after", type=int)
    parser.add_argument("--retire-when", choices=("idle", "open", "stream"), default="idle")
    parser.add_argument("--refuse-crossed", action="store_true", help="REFUSE 7 to an OPEN behind RETIRE")
    parser.add_argument("--refuse", nargs=2, metavar=("CODE", "REASON"))
    parser.add_argument("--refuse-count", type=int, help="refuse only so many streams")
    parser.add_argument("--close-after-open", choices=("bare", "rst", "alert", "notify"))
    parser.add_argument("--close-count", type=int, help="close behind only so many OPENs")
    parser.add_argument("--stall-at", choices=("handshake", "open", "accept", "data", "fin", "done"))
    parser.add_argument("--hold", type=float, default=60.0, help="seconds a stall lasts at most")


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _dial_arguments(commands.add_parser("dial"))
    _accept_arguments(commands.add_parser("accept"))
    return parser.parse_args(arguments)


def alpn_of(args):
    """The ALPN protocols offered or taken."""
    return [] if args.no_alpn else args.alpn or [ALPN]


# --- dial -----------------------------------------------------------------------------------------


def dial(args):
    """The dialer's command: its exit code."""
    context = dialer_context(args.ca, None if args.no_cert else args.cert, args.key, alpn_of(args), args.tls12)
    timers = timers_of(args.timer)
    dialer = Dialer(args.connect, context, timers, args.sni, args.expect, alpn_of(args) == [ALPN])
    if args.script:
        report, result = dial_script(args, dialer)
    else:
        report, result = dial_streams(args, dialer)
    report.update(role="dial", result=result, exit=EXIT[result], tunnels=dialer.tunnels, retired=dialer.retired)
    emit(report)
    return EXIT[result]


def dial_streams(args, dialer):
    """Streams one after another, until one fails."""
    reports, result = [], "done"
    source = Input(args.streams > 1, args.probe)
    for number in range(args.streams):
        stream = Stream(args.to, source.local(number, args.streams), args.probe, **fields_of(args))
        outcome, attempts = dialer.run(stream, monotonic_limit(args.limit))
        reports.append(report_of(outcome, attempts))
        result = result_of(outcome)
        if result != "done":
            break
    report = dict(reports[-1])
    if len(reports) > 1:
        report["streams"] = reports
    if args.idle is not None:
        report["idle"] = dialer.idle(args.idle)
    dialer.drop()
    return report, result


def fields_of(args):
    """OPEN's fields given on the command line."""
    return {name: getattr(args, name) for name in ("hops", "workload") if getattr(args, name) is not None}


def monotonic_limit(seconds):
    """A deadline that many seconds from now."""
    return time.monotonic() + seconds


class Input:
    """Standard input as the local end of every stream; kept in a file when there are several."""

    def __init__(self, several, probe):
        self._probe, self._file = probe, None
        if several and not probe:
            self._file = tempfile.TemporaryFile()
            while data := os.read(0, 65536):
                self._file.write(data)
            self._file.flush()

    def local(self, number, count):
        """The local end of stream `number` of `count`."""
        if self._probe:
            return None
        if not self._file:
            return FdLocal(0, 1, close_output=True)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        return FdLocal(self._file.fileno(), 1, close_output=number + 1 == count)


def report_of(outcome, attempts=1):
    """A stream's report."""
    report = {key: value for key, value in vars(outcome).items() if key not in ("handed", "refuse")}
    report["attempts"] = attempts
    if outcome.refuse:
        report["refuse"] = {"code": outcome.refuse[0], "reason": outcome.refuse[1]}
    if outcome.end and outcome.end.startswith("alert:"):
        report["alert"] = outcome.end[6:]
    return report


def result_of(outcome):
    """One word for how a stream ended."""
    if outcome.done:
        return "done"
    if outcome.broken_rule:
        return "broken"
    if outcome.error:
        return "local" if "local" in outcome.error else "timeout"
    if outcome.refuse:
        return "refused"
    if outcome.reset_read is not None:
        return "reset"
    return "handshake" if outcome.handshake_failed else "lost"


def dial_script(args, dialer):
    """One tunnel, and the script on it."""
    try:
        tunnel = dialer.connect(args.connect[0])
    except HandshakeFailed as error:
        return {"end": error.end, "alert": error.end.partition("alert:")[2] or None}, "handshake"

    def ordinary(step, reader):
        return script_stream(tunnel, step["stream"], reader)

    player = Player(tunnel.tunnel, ordinary)
    good = player.play(load(args.script))
    report = {"script": player.results, "end": tunnel.tunnel.end}
    tunnel.tunnel.close_tcp()
    return report, "done" if good else "script"


def script_stream(tunnel, wanted, reader):
    """One ordinary stream inside a script, its input and output held in files."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        given.write(wanted.get("text", "").encode())
        given.seek(0)
        probe = wanted.get("probe", False)
        local = None if probe else FdLocal(given.fileno(), taken.fileno())
        tunnel.reader.feed(reader.drain())
        stream = Stream(wanted.get("to", "/svc/echo"), local, probe)
        outcome = tunnel.run(stream, monotonic_limit(10), monotonic_limit(30))
        reader.feed(tunnel.reader.drain() if not tunnel.reader.inside else b"")
        taken.seek(0)
        return dict(report_of(outcome), text=taken.read(4096).decode("utf-8", "replace"))


# --- accept ---------------------------------------------------------------------------------------


def behaviour_of(args):
    """The acceptor's behaviour from the command line."""
    target = EchoService().address if args.echo else args.forward
    if not target and not args.script:
        raise SystemExit("--forward or --echo is needed")
    refuse = (int(args.refuse[0]), args.refuse[1]) if args.refuse else None
    names = ("refuse_count", "retire_after", "retire_when", "refuse_crossed", "close_after_open", "close_count")
    given = {name: getattr(args, name) for name in names}
    return Behaviour(target=target, names=args.serve, refuse=refuse, stall_at=args.stall_at, hold=args.hold, **given)


def script_player(steps, timers, behaviour):
    """What plays the script on every tunnel."""

    def play(tunnel, report):
        relay = AcceptorTunnel(tunnel, timers, behaviour)

        def ordinary(step, reader):
            relay.reader.feed(reader.drain())
            relay.serve(streams=relay.ended + step["serve"])
            reader.feed(relay.reader.drain() if not relay.reader.inside else b"")
            describe(relay, report)
            return {"streams": relay.ended, "broken_rule": relay.broken_rule}

        player = Player(tunnel, ordinary)
        player.play(steps)
        report["end"] = tunnel.end
        return player.results

    return play


def accept(args):
    """The acceptor's command: never returns."""
    context = acceptor_context(args.ca, args.cert, args.key, alpn_of(args), args.tls12)
    timers, behaviour = timers_of(args.timer), behaviour_of(args)
    play = script_player(load(args.script), timers, behaviour) if args.script else None
    server = Server(args.listen, context, timers, behaviour, play, emit)
    print(server.address[1], flush=True)
    server.run()
    return 0


def main(arguments=None):
    """Runs one command."""
    args = parse(arguments)
    return dial(args) if args.command == "dial" else accept(args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
