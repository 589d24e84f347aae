#!/usr/bin/env python3
"""Load on `sluice serve`, measured from outside: fairness and sameness of parallel streams, memory over many requests, the server's own
cost per token and per idle connection, and the first token after a SIGKILL. Not among the tests: they have no timings.

usage: load.py PATH_OF_SLUICE [streams|memory|overhead|idle|restart]...      (all of them)
Prints a line per figure: what, the figure, its bound, "ok" or "MISSED". Exit status 1 if one is missed."""
import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time

STREAMS = int(os.environ.get("STREAMS", 64))
REQUESTS = int(os.environ.get("REQUESTS", 10000))
missed = False


def report(what, value, bound=None, unit=""):
    """bound: the most that value may be, or None."""
    global missed
    bad = bound is not None and value > bound
    missed = missed or bad
    verdict = "" if bound is None else f"\tat most {bound:g}\t{'MISSED' if bad else 'ok'}"
    print(f"{what}\t{value:.4g}{' ' + unit if unit else ''}{verdict}", flush=True)


def median(values):
    return sorted(values)[len(values) // 2]


class Server:
    """A server on a free port, in a with statement."""

    def __init__(self, *args):
        self.args = [sys.argv[1], "serve", "-q", "--port", "0", *args]

    def __enter__(self):
        self.process = subprocess.Popen(self.args, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit("load: the server does not start")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def __exit__(self, *error):
        self.end(signal.SIGTERM)

    def end(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait()
        self.process.stdout.close()

    def status_kb(self, key):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(rf"^{key}:\s*(\d+) kB", f.read(), re.M).group(1))

    def cpu_seconds(self):
        """Of its first thread, which is the loop, and of the others together, to the nanosecond."""
        tasks = f"/proc/{self.process.pid}/task"
        loop = others = 0
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/schedstat") as f:
                spent = int(f.read().split()[0]) / 1e9
            if int(task) == self.process.pid:
                loop = spent
            else:
                others += spent
        return loop, others

    async def ask(self, path, body):
        """The whole reply as pieces of (time, bytes), the time when it was sent first."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        text = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
        pieces = [(time.monotonic(), b"")]
        writer.write(head.encode() + text)
        while piece := await reader.read(65536):
            pieces.append((time.monotonic(), piece))
        writer.close()
        return pieces

    def ask_now(self, path, body):
        return parse(asyncio.run(self.ask(path, body)))


class Reply:
    def __init__(self):
        self.text, self.times, self.usage, self.message = "", [], {}, {}


def parse(pieces):
    """A stream's text, the times of its deltas since the request was sent, and its usage; or a whole message."""
    reply, began, held, whole = Reply(), pieces[0][0], b"", b"".join(p for _, p in pieces)
    if not whole.startswith(b"HTTP/1.1 200"):
        sys.exit(f"load: {whole[:500]!r}")
    if b"text/event-stream" not in whole.split(b"\r\n\r\n", 1)[0]:
        reply.message = json.loads(re.search(rb"\{.*\}", whole, re.S).group(0))
        reply.usage = reply.message.get("usage", {})
        return reply
    for when, piece in pieces:
        held += piece
        lines = held.split(b"\n")
        held = lines.pop()
        for line in lines:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            reply.usage = event.get("usage") or reply.usage
            delta = event["choices"][0]["delta"] if event.get("choices") else {}
            content = delta.get("content") or delta.get("reasoning_content")
            if content:
                reply.text += content
                reply.times.append(when - began)
    return reply


def chat(words, tokens, **more):
    return {"messages": [{"role": "user", "content": words}], "max_tokens": tokens, "stream": True,
            "stream_options": {"include_usage": True}, **more}


CHAT = "/v1/chat/completions"


def end_token(server):
    return server.ask_now("/tokenize", {"content": "<｜end▁of▁sentence｜>"}).message["tokens"][0]


def streams():
    """STREAMS of 128 tokens at once, each with a prompt of its own, compared with the same one alone."""
    with Server() as server:
        end = end_token(server)
        asks = [chat(f"Tell me about the number {i}.", 128, logit_bias={str(end): -100}) for i in range(STREAMS)]

        async def together():
            return await asyncio.gather(*(server.ask(CHAT, a) for a in asks))

        side_by_side = [parse(p) for p in asyncio.run(together())]
        alone = [server.ask_now(CHAT, a) for a in asks]
    rates = [(r.usage["completion_tokens"] - 1) / (r.times[-1] - r.times[0]) for r in side_by_side]
    first = sorted(r.times[0] for r in side_by_side)
    report(f"{STREAMS} streams: fastest to slowest, tokens per second", max(rates) / min(rates), 2)
    report(f"{STREAMS} streams: texts that differ from the same request alone",
           sum(a.text != b.text for a, b in zip(side_by_side, alone)), 0)
    report(f"{STREAMS} streams: p99 time to the first token", first[int(0.99 * (STREAMS - 1))], unit="s")
    report(f"{STREAMS} streams: median time to the first token", median(first), unit="s")
    report(f"{STREAMS} streams: all together", sum(rates), unit="tokens/s")
    report("1 stream", median([127 / (r.times[-1] - r.times[0]) for r in alone]), unit="tokens/s")


def memory():
    """REQUESTS of four tokens, 32 at once, with a KV budget that is full soon."""
    with Server("--kv-memory", "64M") as server:
        sizes = []

        async def worker(numbers):
            for i in numbers:
                body = chat(f"What is {i} and {i * 7 % 1000}?", 4)
                body["stream"] = i % 2 == 0
                if i % 2:
                    del body["stream_options"]
                parse(await server.ask(CHAT, body))
                if i % (REQUESTS // 10) == 0:
                    sizes.append((i, server.status_kb("VmRSS")))

        async def all_of_them():
            numbers = iter(range(1, REQUESTS + 1))
            await asyncio.gather(*(worker(numbers) for _ in range(32)))

        asyncio.run(all_of_them())
    for i, kb in sizes:
        report(f"memory after {i} requests", kb / 1024, unit="MiB")
    report("memory after all requests to that after a fifth of them", sizes[-1][1] / sizes[1][1], 1.02)


def wake_up_seconds():
    """Processor time of a thread that does nothing but sleep two milliseconds, each time: what the system takes, whatever is woken."""
    before = time.thread_time_ns()
    for _ in range(500):
        time.sleep(0.002)
    return (time.thread_time_ns() - before) / 500 / 1e9


def overhead():
    """Processor time of a server without a model, for each token that it sends (four bytes of a script): as fast as it can, and a token
    every few milliseconds, each with its own wake-ups. Where one stream is alone each token wakes the loop, which counts without."""
    for token_ms, tokens in (0, 4000), (2, 500):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as script:
            script.write(json.dumps({"content": "abc " * tokens, "repeat": True, "token_ms": token_ms}) + "\n")
            script.flush()
            with Server("--script", script.name) as server:
                for n in 1, STREAMS:
                    async def together():
                        return await asyncio.gather(*(server.ask(CHAT, chat("go", tokens)) for _ in range(n)))

                    before = server.cpu_seconds()
                    pieces = asyncio.run(together())
                    loop, others = (after - was for after, was in zip(server.cpu_seconds(), before))
                    sent = sum(parse(p).usage["completion_tokens"] for p in pieces)
                    pace = f"one every {token_ms} ms" if token_ms else "as fast as it can"
                    alone = n == 1 and token_ms > 0
                    report(f"processor time per token, {n} streams, {pace}: the server's loop", 1e6 * loop / sent, None if alone else 50, unit="us")
                    if alone:
                        report("the same beyond a wake-up of any thread", 1e6 * (loop / sent - wake_up_seconds()), 50, unit="us")
                    report(f"processor time per token, {n} streams, {pace}: the thread in the model's place", 1e6 * others / sent, unit="us")


def idle():
    """Memory of connections that have asked once and stay, plain and with TLS."""
    async def one(port, tls):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read(4096)
        return writer

    async def many(server, n, tls):
        for writer in [await one(server.port, tls) for _ in range(50)]:
            writer.close()
        await asyncio.sleep(0.5)
        before = server.status_kb("VmRSS")
        writers = [await one(server.port, tls) for _ in range(n)]
        after = server.status_kb("VmRSS")
        for writer in writers:
            writer.close()
        return (after - before) / n

    with tempfile.TemporaryDirectory() as folder:
        script, key, cert = (os.path.join(folder, name) for name in ("script", "key", "cert"))
        with open(script, "w") as f:
            f.write('{"content": "hello", "repeat": true}\n')
        with Server("--script", script) as server:
            report("memory per idle connection, of 900", asyncio.run(many(server, 900, None)), 16, unit="KiB")
        if not shutil.which("openssl"):
            print("memory per idle connection with TLS\tskipped: openssl makes its certificate")
            return
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", cert],
                       check=True, stderr=subprocess.DEVNULL)
        tls = ssl.create_default_context(cafile=cert)
        tls.check_hostname = False
        with Server("--script", script, "--tls-cert", cert, "--tls-key", key) as server:
            report("memory per idle connection with TLS, of 900", asyncio.run(many(server, 900, tls)), 16, unit="KiB")


def restart():
    """One long conversation with two servers, turn by turn. Before each turn the second is killed and started again; in every other turn
    the client breaks off in the middle first. Both give the same bytes, so each turn is the same request twice, and the two are compared."""
    async def break_off(server, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        text = json.dumps(body).encode()
        writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(text)) + text)
        seen = b""
        while seen.count(b'"content": "') < 6 and (piece := await reader.read(65536)):
            seen += piece
        writer.close()

    def start(folder):
        server = Server("--kv-dir", folder, "--ctx", "64K").__enter__()
        server.ask_now(CHAT, chat("Warm up.", 2))
        return server

    def ask(server, body):
        reply = server.ask_now(CHAT, body)
        cached = reply.usage["prompt_tokens_details"]["cached_tokens"]
        return reply, reply.times[0], reply.usage["prompt_tokens"] - cached

    seen = {False: [], True: []}
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as lost:
        warm, killed = start(kept), start(lost)
        end = end_token(warm)
        talk = [{"role": "user", "content": " ".join(f"Item {i} is worth {i * 31 % 97}." for i in range(1500))}]

        def body_of(tokens):
            # Without an end, so that there is a middle to break off in.
            return {**chat("", tokens, logit_bias={str(end): -100}), "messages": talk}

        for i in range(31):
            broken = i % 2 == 0
            if i > 0 and broken:
                asyncio.run(break_off(warm, body_of(2000)))
                asyncio.run(break_off(killed, body_of(2000)))
            if i > 0:
                killed.end(signal.SIGKILL)
                killed = start(lost)
            reply, before, new = ask(warm, body_of(60))
            again, after, new_again = ask(killed, body_of(60))
            if again.text != reply.text:
                sys.exit("load: a killed server answers otherwise")
            if i > 0:
                seen[broken].append((after / before, before, after, new, new_again, reply.usage["prompt_tokens"]))
            # What a tool might have said.
            words = " ".join(f"line {k} has {k * i % 89} words" for k in range(25))
            talk += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": words}]
        warm.end(signal.SIGTERM)
        killed.end(signal.SIGTERM)
    for broken, turns in seen.items():
        what = "a turn that broke off, again" if broken else "the next turn"
        _, before, after, new, new_again, tokens = (median(column) for column in zip(*turns))
        report(f"restart: first token of {what}, some {tokens} tokens, {new} of them new, warm", 1e3 * before, unit="ms")
        report(f"restart: first token of {what}, {new_again} tokens new, after SIGKILL", 1e3 * after, unit="ms")
    report("restart: the next turn after SIGKILL to warm", median([turn[0] for turn in seen[False]]), 1.15)
    # What the turn had read when it broke off is in memory, but need not be on disk yet: it is read again, as if it were new.
    report("restart: a turn that broke off, after SIGKILL, to the same with a client that left", median([turn[0] for turn in seen[True]]))
    least = min(turn[1] for turn in seen[False])
    report("restart: a turn that broke off, after SIGKILL, to a warm next turn", min(turn[2] for turn in seen[True]) / least, 1.15)


if __name__ == "__main__":
    known = {"streams": streams, "memory": memory, "overhead": overhead, "idle": idle, "restart": restart}
    chosen = sys.argv[2:] or list(known)
    if len(sys.argv) < 2 or any(name not in known for name in chosen):
        sys.exit(__doc__)
    for name in chosen:
        known[name]()
    sys.exit(missed)
