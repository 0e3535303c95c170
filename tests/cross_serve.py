#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""graft serve of another system, run through an emulator, as tests/cross calls it.

    cross_serve.py NATIVE COMMAND...    NATIVE: graft of this machine; COMMAND: emulator and graft of the other one

Both serve the tiny model with its adapters; the answers must be the same. Then what each system does in its own way: keys
files, an access log that is moved while it is written, paths out of the folder of adapters, TLS, ps, the end by Ctrl-C.
Ends with Check's line.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

here = pathlib.Path(__file__).resolve().parent
golden = here / "golden" / "peft"
native, other = [sys.argv[1]], [*sys.argv[2:-1], os.path.abspath(sys.argv[-1])]
windows = other[-1].endswith(".exe")
checks, bad = 0, []


def check(name, good, what=""):
    global checks
    checks += 1
    if not good:
        bad.append(name)
        print(f"{name}: {what}")


def path(p):  # wine shows the whole file system as drive Z:
    return f"Z:{p}" if windows else str(p)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, command, *options):
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*command, "serve", "-m", str(golden / "base.gguf"), "--device", "ref", "--listen",
                                         f"127.0.0.1:{self.port}", *options], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, start_new_session=True)
        for _ in range(600):
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {self.said()}")
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        raise SystemExit(f"the server does not answer: {self.said()}")

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def ask(self, method, target, body=None, key=None, tls=None):
        connection = (http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=tls) if tls else
                      http.client.HTTPConnection("127.0.0.1", self.port, timeout=60))
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection.request(method, target, json.dumps(body) if body is not None else None, headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, data

    def complete(self, model, key=None, **more):
        return self.ask("POST", "/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 12, "temperature": 0,
                                                    "logprobs": 2} | more, key)

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL if windows else signal.SIGTERM)
            self.process.wait(60)


def texts(reply):
    choice = json.loads(reply[1])["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"] if choice.get("logprobs") else None


def answers():
    """The same bytes as on this machine: base, adapters, a blend, a stream."""
    theirs = Server(other, "--adapter-dir", path(golden), "-c", "2048")
    ours = Server(native, "--adapter-dir", str(golden), "-c", "2048")
    try:
        names = [m["id"] for m in json.loads(ours.ask("GET", "/v1/models")[1])["data"]]
        check("models", [m["id"] for m in json.loads(theirs.ask("GET", "/v1/models")[1])["data"]] == names, names)
        blend = {"lora": [{"name": "plain", "scale": 0.5}, {"name": "rslora", "scale": 0.5}]}
        for model, more in [("base", {}), ("plain", {}), ("rslora", {}), ("dora", {}), ("base", blend)]:
            a, b = ours.complete(model, **more), theirs.complete(model, **more)
            check(f"answers of {model}", a[0] == b[0] == 200 and texts(a)[0] == texts(b)[0], (a, b))
            close = a[0] == b[0] == 200 and all(abs(x - y) < 1e-4 for x, y in zip(texts(a)[1], texts(b)[1]))
            check(f"log-probabilities of {model}", close, (a[1][-300:], b[1][-300:]))
        stream = theirs.complete("plain", stream=True)[1].decode()
        events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        whole = "".join(e["choices"][0]["text"] for e in events if e["choices"])
        check("stream", stream.rstrip().endswith("[DONE]") and whole == texts(theirs.complete("plain"))[0], stream[-200:])
        client = subprocess.run([sys.executable, str(here / "e2e" / "openai_client.py"), f"http://127.0.0.1:{theirs.port}/v1"],
                                capture_output=True, text=True)
        if client.returncode == 77:
            print("skipped: PyPI's openai is not installed")
        else:
            check("openai client", client.returncode == 0, client.stdout + client.stderr)
        metrics = theirs.ask("GET", "/metrics")[1].decode()
        for name in ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "threads"]:
            line = next((x for x in metrics.splitlines() if x.startswith(f"process_{name} ")), "no 0")
            check(name, not windows or float(line.split()[1]) > 0, line)  # under qemu /proc/self/stat has zeros
        check("paths out of the folder", theirs.ask("POST", "/v1/load_lora_adapter",
              {"lora_name": "out", "lora_path": "../../tiny"})[0] in (403, 404), "was loaded")
        ps = subprocess.run([*other, "ps", "--json", f"127.0.0.1:{theirs.port}"], capture_output=True, text=True)
        check("ps", ps.returncode == 0 and '"base"' in ps.stdout, ps.stdout + ps.stderr)
    finally:
        theirs.end()
        ours.end()


def guarded(folder):
    """Keys, their file's rights, a log that is moved, TLS."""
    keys, log = folder / "keys.json", folder / "access.log"
    key = subprocess.run([*other, "key", "--keys", path(keys), "--role", "operator"], capture_output=True, text=True)
    secret = key.stdout.strip()
    check("key", key.returncode == 0 and len(secret) == 49 and keys.exists(), key.stdout + key.stderr)
    again = subprocess.run([*other, "key", "--keys", path(keys)], capture_output=True, text=True)
    check("a second key", again.returncode == 0 and len(json.loads(keys.read_text())["keys"]) == 2, again.stderr)
    keys.chmod(0o666)
    open_to_all = subprocess.run([*other, "serve", "-m", str(golden / "base.gguf"), "--device", "ref", "--keys", path(keys)],
                                 capture_output=True, text=True, timeout=120)
    check("a keys file that others may write", open_to_all.returncode != 0 and "others than its owner" in open_to_all.stderr,
          open_to_all.stderr)
    keys.chmod(0o600)
    server = Server(other, "--keys", path(keys), "--access-log", path(log), "--log-size", "4KiB", "--log-files", "2")
    try:
        check("without a key", server.complete("base")[0] == 401)
        check("with a key", server.complete("base", secret)[0] == 200)
        shutil.move(log, folder / "moved.log")
        for _ in range(40):
            server.complete("base", secret, max_tokens=1)
        check("a log that was moved is rotated", log.exists() and (folder / "access.log.1").exists(), os.listdir(folder))
        check("lines of the log", all(json.loads(x)["status"] for x in log.read_text().splitlines()))
        if not windows:  # an emulator of Windows takes no Ctrl-C without a console
            server.process.terminate()
            check("ends when asked to", server.process.wait(60) == 0, server.process.returncode)
    finally:
        server.end()
    if not shutil.which("openssl"):
        print("skipped: openssl is not installed")
        return
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out",
                    folder / "cert.pem"], check=True, capture_output=True)
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    port = free_port()
    process = subprocess.Popen([*other, "serve", "-m", str(golden / "base.gguf"), "--device", "ref", "--listen",
                                f"127.0.0.1:{port}", "--tls-cert", path(folder / "cert.pem"), "--tls-key",
                                path(folder / "key.pem")], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        status = None
        for _ in range(300):
            try:
                connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
                connection.request("GET", "/livez")
                status = connection.getresponse().status
                break
            except OSError:
                time.sleep(0.1)
        check("TLS", status == 200, status)
        ps = subprocess.run([*other, "ps", "--tls-ca", path(folder / "cert.pem"), f"https://127.0.0.1:{port}"],
                            capture_output=True, text=True)
        check("ps over TLS", ps.returncode == 0 and "base" in ps.stdout, ps.stdout + ps.stderr)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def service():
    """A Windows service: started, asked, stopped."""
    port, sc = free_port(), [*other[:-1], "sc"]
    line = f'{path(other[-1])} serve -m {path(golden / "base.gguf")} --device ref --listen 127.0.0.1:{port}'
    subprocess.run([*sc, "create", "graft-test", "binPath=", line], capture_output=True)
    subprocess.run([*sc, "start", "graft-test"], capture_output=True)

    def alive():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def within(seconds, what):
        return any(what() or time.sleep(0.1) for _ in range(10 * seconds))

    check("a service starts", within(30, alive))
    subprocess.run([*sc, "stop", "graft-test"], capture_output=True)
    check("a service stops", within(30, lambda: b"STOPPED" in subprocess.run([*sc, "query", "graft-test"],
                                                                             capture_output=True).stdout) and not alive())
    subprocess.run([*sc, "delete", "graft-test"], capture_output=True)


answers()
with tempfile.TemporaryDirectory() as name:
    guarded(pathlib.Path(name))
    if windows:
        service()
print(f"{100 * (checks - len(bad)) // checks}%: Checks: {checks}, Failures: {len(bad)}, Errors: 0")
sys.exit(1 if bad else 0)
