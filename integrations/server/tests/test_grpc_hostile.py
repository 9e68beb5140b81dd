"""HTTP/2 and gRPC that is damaged, cut or abusive, built with hyperframe and hpack: the connection is answered or cut,
memory stays, and a good client (grpcio) notices nothing."""

import contextlib
import random
import socket
import threading
import time

import grpc
import hpack
import pytest
import serving
from conftest import HAS_GRPC, TINY
from hyperframe import frame as f
from tritonclient.grpc import service_pb2, service_pb2_grpc

if not HAS_GRPC:
    pytest.skip("this mpqserve was built without gRPC", allow_module_level=True)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
GROWTH = 24 << 20
DAMAGED = 1500


def head(stream=1, path=INFER, flags=("END_HEADERS",), **fields):
    block = hpack.Encoder().encode([(":method", fields.pop("method", "POST")), (":scheme", "http"), (":path", path),
                                    (":authority", "x"), ("te", "trailers"),
                                    ("content-type", fields.pop("content_type", "application/grpc")),
                                    *((k.replace("_", "-"), v) for k, v in fields.items())])
    return f.HeadersFrame(stream, block, flags=list(flags)).serialize()


def data(body, stream=1, end=True):
    size = 16384
    parts = [body[i:i + size] for i in range(0, len(body), size)] or [b""]
    return b"".join(f.DataFrame(stream, part, flags=["END_STREAM"] if end and part is parts[-1] else []).serialize()
                    for part in parts)


def start():
    return PREFACE + f.SettingsFrame(0).serialize()


class Answer:
    """What a server sent until it closed, or was silent for `seconds`."""

    def __init__(self, port, sent, seconds=3.0, close=False):
        self.frames, self.fields, self.data, self.closed = [], {}, {}, False
        got = b""
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as s:
            try:
                s.sendall(sent)
                if close:
                    s.shutdown(socket.SHUT_WR)
                while part := s.recv(65536):
                    got += part
                self.closed = True
            except ConnectionError:
                self.closed = True
            except TimeoutError:
                pass
        decoder = hpack.Decoder()
        while len(got) >= 9:
            frame, size = f.Frame.parse_frame_header(memoryview(got[:9]))
            frame.parse_body(memoryview(got[9:9 + size]))
            got = got[9 + size:]
            self.frames.append(frame)
            if isinstance(frame, f.HeadersFrame):
                self.fields.setdefault(frame.stream_id, {}).update(dict(decoder.decode(frame.data)))
            elif isinstance(frame, f.DataFrame):
                self.data[frame.stream_id] = self.data.get(frame.stream_id, b"") + frame.data

    def status(self, stream=1):
        return self.fields.get(stream, {}).get("grpc-status")

    def goaway(self):
        return next((frame.error_code for frame in self.frames if isinstance(frame, f.GoAwayFrame)), None)


@pytest.fixture(scope="module")
def body(names, pixels):
    request = service_pb2.ModelInferRequest(model_name="tiny")
    request.inputs.add(name=names["input"], datatype="UINT8", shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    return serving.grpc_message(request.SerializeToString())


@contextlib.contextmanager
def good_client(server, body, expected):
    """Asks all the time: every answer must be right, one at least must come, though a full queue may refuse; and the
    server may not grow."""
    request = service_pb2.ModelInferRequest.FromString(body[5:])
    stopping, answers, deadline = threading.Event(), [], time.monotonic() + 60

    def work():
        with grpc.insecure_channel(server.grpc_address) as channel:
            infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            while not stopping.is_set() or (not answers and time.monotonic() < deadline):
                try:
                    answers.append(infer(request, timeout=60).raw_output_contents[0] == expected.tobytes())
                except grpc.RpcError as error:
                    if error.details() != "the queue is full":
                        raise
                    time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    before = server.rss()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert answers and all(answers)
    assert server.rss() - before < GROWTH


def test_a_good_request_by_hand(server, body, expected):
    answer = Answer(server.facts["grpc_port"], start() + head() + data(body), 1)
    assert answer.status() == "0" and expected.tobytes() in answer.data[1]
    # In single bytes, and in several frames.
    split = b"".join(data(body[i:i + 100], end=i + 100 >= len(body)) for i in range(0, len(body), 100))
    assert Answer(server.facts["grpc_port"], start() + head() + split, 1).status() == "0"


@pytest.mark.parametrize("why, sent, status", [
    ("cut prefix", head() + data(b"\0\0"), "13"),
    ("cut message", head() + data(b"\0\0\0\1\0abc"), "13"),
    ("huge length", head() + data(b"\0\xff\xff\xff\xffabc", end=False), "8"),
    ("compressed", head() + data(b"\1\0\0\0\1a"), "13"),
    ("bad flag", head() + data(b"\7\0\0\0\1a"), "13"),
    ("no message", head(flags=("END_HEADERS", "END_STREAM")), "12"),
    ("two messages", head() + data(b"\0\0\0\0\0" * 2), "12"),
    ("no protobuf", head() + data(serving.grpc_message(b"\xff" * 100)), "13"),
    ("deep protobuf", head() + data(serving.grpc_message(b"\x2b" * 5000)), "13"),
    ("gzip", head(grpc_encoding="gzip") + data(b"\1\0\0\0\1a"), "12"),
    ("bad timeout", head(grpc_timeout="soon") + data(b"\0\0\0\0\0"), "3"),
    ("long timeout", head(grpc_timeout="123456789S") + data(b"\0\0\0\0\0"), "3"),
    ("negative timeout", head(grpc_timeout="-1S") + data(b"\0\0\0\0\0"), "3"),
    ("unknown method", head(path="/x/y") + data(b"\0\0\0\0\0"), "12"),
    ("no time", head(grpc_timeout="0n", path="/inference.GRPCInferenceService/ServerLive") + data(b"\0\0\0\0\0"), "4"),
    ("a long head", head(x="y" * 9000) + data(b"\0\0\0\0\0"), "8"),
])
def test_bad_calls_get_a_status(server, why, sent, status):
    answer = Answer(server.facts["grpc_port"], start() + sent, 1)
    assert answer.status() == status, (why, answer.fields, answer.frames)


@pytest.mark.parametrize("sent, status", [
    (head(method="GET", flags=("END_HEADERS", "END_STREAM")), "405"), (head(content_type="text/plain"), "415")])
def test_what_is_not_grpc_gets_a_status_of_http(server, sent, status):
    assert Answer(server.facts["grpc_port"], start() + sent, 1).fields[1] == {":status": status}


@pytest.mark.parametrize("sent", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + b"\0" * 200, b"\0" * 1000,
    start() + data(b"abc", stream=5),  # a stream that is not open
    start() + head(stream=2) + data(b"", stream=2),  # the server's numbers
    start() + f.Frame.serialize(f.WindowUpdateFrame(0, 0)),
    start() + b"\xff\xff\xff\0\0\0\0\0\1",  # a frame of 16 MiB
    start() + b"\0\0\4\x09\4\0\0\0\1abcd",  # CONTINUATION without HEADERS
    start() + b"\0\0\3\1\4\0\0\0\1\xff\xff\xff",  # HPACK that is none
    start() + f.WindowUpdateFrame(0, 2**31 - 1).serialize() * 2])  # a window that overflows
def test_what_is_not_http2_is_cut(server, sent):
    assert Answer(server.facts["grpc_port"], sent, 10).closed


def flood(port, frames, limit=40 << 20, seconds=20.0):
    """Sends until the server closes; bytes that it took. -1: it took them all."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as s:
        s.setblocking(True)
        reader = threading.Thread(target=drain, args=(s,), daemon=True)
        reader.start()
        try:
            s.sendall(start())
            for part in frames:
                s.sendall(part)
                sent += len(part)
                if sent > limit:
                    return -1
        except OSError:
            return sent
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_WR)
        reader.join(seconds)
    return sent


def drain(s):
    with contextlib.suppress(OSError):
        while s.recv(65536):
            pass


def rapid_reset():
    for i in range(1, 200001, 2):
        yield head(i) + f.RstStreamFrame(i, 8).serialize()


def continuations():
    yield f.HeadersFrame(1, b"").serialize()
    while True:
        yield f.ContinuationFrame(1, b"\0\1a\1b" * 100).serialize()


def long_text():
    """One HPACK text of 4 MiB, in pieces."""
    yield f.HeadersFrame(1, b"\0\x7f" + b"\xff\xff\xff\1").serialize()
    while True:
        yield f.ContinuationFrame(1, b"a" * 16000).serialize()


FLOODS = {
    "rapid reset": rapid_reset,
    "continuations": continuations,
    "one long text": long_text,
    "settings": lambda: iter(lambda: f.SettingsFrame(0, {4: 70000}).serialize() * 50, None),
    "pings": lambda: iter(lambda: f.PingFrame(0, b"12345678").serialize() * 50, None),
    "priorities": lambda: iter(lambda: f.PriorityFrame(1, 3, 5).serialize() * 50, None),
    "empty data": lambda: (part for start_ in (head(), None) for part in (
        [start_] if start_ else iter(lambda: f.DataFrame(1, b"").serialize() * 50, None))),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_are_cut(server, body, expected, name):
    with good_client(server, body, expected):
        for _ in range(3):
            taken = flood(server.facts["grpc_port"], FLOODS[name]())
            assert 0 <= taken < 16 << 20, taken


def test_damaged_bytes_do_no_harm(server, body, expected):
    """Frames of a good call, changed at random."""
    rng = random.Random(7)
    good = start() + head() + data(body)
    with good_client(server, body, expected):
        for _ in range(DAMAGED):
            sent = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                at = min(rng.randrange(len(good)) if rng.random() < 0.5 else rng.randrange(24, 140), len(sent) - 1)
                kind = rng.randrange(4)
                if kind == 0:
                    sent[at] = rng.randrange(256)
                elif kind == 1:
                    del sent[at:at + rng.randint(1, 40)]
                elif kind == 2:
                    sent[at:at] = rng.choice([b"\0\0\0\4\0\0\0\0\0", b"\xff" * 9, head(3), data(b"\0" * 9, 1),
                                              f.RstStreamFrame(1, 0).serialize(), f.GoAwayFrame(0).serialize()])
                else:
                    sent = sent[:max(at, 1)]
            Answer(server.facts["grpc_port"], bytes(sent), 20, close=True)


def test_damaged_messages_do_no_harm(server, body, expected):
    """Whole frames around protobuf that was changed at random: each call has a status."""
    rng = random.Random(8)
    with good_client(server, body, expected):
        for _ in range(60):
            calls = b""
            for i in range(20):
                message = bytearray(body[5:])
                for _ in range(rng.randint(1, 3)):
                    at = rng.randrange(min(len(message), 120) if rng.random() < 0.8 else len(message))
                    if rng.random() < 0.6:
                        message[at] = rng.randrange(256)
                    else:
                        del message[at:at + rng.randint(1, 30)]
                calls += head(2 * i + 1) + data(serving.grpc_message(bytes(message)), 2 * i + 1)
            answer = Answer(server.facts["grpc_port"], start() + calls + f.GoAwayFrame(0).serialize(), 20)
            assert answer.closed and all(answer.status(2 * i + 1) in ("0", "3", "5", "13", "14") for i in range(20)), answer.fields


def test_a_peer_that_takes_nothing_is_cut_and_holds_little(server, body, expected):
    """A window of no bytes: answers cannot go. Others are served meanwhile."""
    with good_client(server, body, expected):
        sent = PREFACE + f.SettingsFrame(0, {4: 0}).serialize()
        held = [socket.create_connection(("127.0.0.1", server.facts["grpc_port"])) for _ in range(20)]
        for s in held:
            s.sendall(sent + b"".join(head(i) + data(body, i) for i in range(1, 60, 2)))
        time.sleep(1)
        for s in held:
            s.close()


def test_more_streams_than_allowed_are_refused(server, body):
    calls = b"".join(head(2 * i + 1) + data(body, 2 * i + 1, end=False) for i in range(200))
    answer = Answer(server.facts["grpc_port"], start() + calls, 2)
    refused = [frame for frame in answer.frames if isinstance(frame, f.RstStreamFrame) and frame.error_code == 7]
    assert len(refused) == 200 - 128
    assert answer.goaway() is None


def test_many_silent_connections_do_not_disturb_a_good_client(tmp_path, body, expected):
    serving.put_model(tmp_path, "tiny", TINY)
    with serving.Server(tmp_path, "--grpc-port", "0") as server, good_client(server, body, expected):
        silent = [socket.create_connection(("127.0.0.1", server.facts["grpc_port"])) for _ in range(300)]
        for i, s in enumerate(silent):
            s.sendall((start() + head() + data(body, end=False))[:i * 3])
        time.sleep(1)
        for s in silent:
            s.close()


def test_no_greeting_is_cut_in_time(server):
    with socket.create_connection(("127.0.0.1", server.facts["grpc_port"]), timeout=30) as s:
        begin = time.monotonic()
        s.sendall(PREFACE[:10])
        while s.recv(65536):
            pass
        assert 5 < time.monotonic() - begin < 25


def test_more_connections_than_allowed_are_closed_and_room_comes_back(tmp_path, body):
    serving.put_model(tmp_path, "tiny", TINY)
    with serving.Server(tmp_path, "--grpc-port", "0", "--max-connections", "20") as server:
        sockets = [socket.create_connection(("127.0.0.1", server.facts["grpc_port"])) for _ in range(60)]
        time.sleep(0.3)
        for s in sockets:
            s.close()
        assert serving.wait_until(
            lambda: Answer(server.facts["grpc_port"], start() + head() + data(body), 0.5).status() == "0", 5)
