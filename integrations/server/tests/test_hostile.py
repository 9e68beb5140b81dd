"""Requests damaged at random: each is answered or closed, and a good client notices nothing."""

import random
import socket
import threading

import serving

REQUESTS = 1500


def mutations(seed, good):
    rng = random.Random(seed)
    tokens = [b"\r\n", b"\0", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"[" * 50, b"1e999",
              b"-1", b"\xff", b'{"inputs":', b"18446744073709551616", b"HTTP/9.9", b'"shape":[-1]', b"\\ud800", b"%00"]
    for _ in range(REQUESTS):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at:at + rng.randint(1, 40)]
            elif kind == 2:
                data[at:at] = rng.choice(tokens)
            else:
                data = data[:max(at, 1)]
        yield bytes(data)


def test_damaged_requests_do_no_harm(server, pixels, expected, names):
    body, headers = serving.infer_body(names, {names["input"]: pixels})
    head = "".join(f"{k}: {v}\r\n" for k, v in {**headers, "Host": "x", "Content-Length": len(body)}.items())
    good = b"POST /v2/models/tiny/infer HTTP/1.1\r\n" + head.encode() + b"\r\n" + body
    stopping, answers = threading.Event(), []

    def good_client():
        while not stopping.is_set():
            status, fields, text = server.request("POST", "/v2/models/tiny/infer", body, headers)
            size = int(fields["Inference-Header-Content-Length"] or 0)
            answers.append(status == 200 and text[size:] == expected.tobytes())

    thread = threading.Thread(target=good_client)
    thread.start()
    try:
        before = server.rss()
        for data in mutations(2, good):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
                try:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)  # then the server need not wait for more
                    answer = b""
                    while part := s.recv(65536):
                        answer += part
                except ConnectionError:
                    continue
                assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:100]
        growth = server.rss() - before
    finally:
        stopping.set()
        thread.join()
    assert answers and all(answers)
    assert growth < 16 << 20, growth
