#!/usr/bin/env python3
"""Conversions from a server on loopback beside conversions from files.

Makes a random Llama checkpoint of about 750 MB in fp16, serves its folder from another process, and converts
it to each type in turns from the folder and from the address. Server and program share the cores. Prints the
medians, the ratio of the speeds and that of the processor time, which other work on the machine does not
change; the files have to be equal, and the first type has to reach --least in either. Needs Linux and Python
alone.

    python3 interop/loopback.py --quantwright target/release/quantwright [--folder /dev/shm] [TYPE…]
"""

import argparse
import filecmp
import multiprocessing
import os
import re
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scale

TYPES = ["q4_k_m", "q6_k", "q8_0", "f16"]
LAYERS = 7


class Handler(socketserver.StreamRequestHandler):
    """Answers GET, with and without a range, and keeps connections; bodies go from the page cache."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        while line := self.rfile.readline():
            span = None
            while (field := self.rfile.readline()) not in (b"\r\n", b""):
                if found := re.match(rb"range: bytes=(\d+)-(\d+)", field, re.I):
                    span = (int(found[1]), int(found[2]))
            self.answer(self.server.root / line.split()[1].decode().lstrip("/"), span)

    def answer(self, path: Path, span: tuple[int, int] | None) -> None:
        if not path.is_file():
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        size = path.stat().st_size
        first, last = (span[0], min(span[1], size - 1)) if span else (0, size - 1)
        status = f"206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}" if span else "200 OK"
        head = f'HTTP/1.1 {status}\r\nContent-Length: {last + 1 - first}\r\nETag: "{size}"\r\n\r\n'
        self.wfile.write(head.encode())
        with open(path, "rb") as file:
            while first <= last:
                first += os.sendfile(self.connection.fileno(), file.fileno(), first, last + 1 - first)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root


def serve(root: Path, port) -> None:
    with Server(root) as server:
        port.send(server.server_address[1])
        server.serve_forever()


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="for input and output; the system's for temporary files")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts")
    parser.add_argument("--least", type=float, default=0.75, help="what the first type has to reach")
    parser.add_argument("types", nargs="*", default=TYPES, metavar="TYPE")
    options = parser.parse_args()
    binary = options.quantwright.resolve()
    ratios = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        size = scale.make(folder / "checkpoint", options.layers)
        here, there = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(folder, there), daemon=True)
        server.start()
        address = f"http://127.0.0.1:{here.recv()}/checkpoint"
        print(f"{size / 1e6:.0f} MB of fp16 weights, {options.threads} threads, server on the same cores")
        print("| type | from files | from the server | MB/s | ratio | processor time: files, server | ratio |")
        print("|---" * 7 + "|", flush=True)
        outputs = [folder / "near.gguf", folder / "far.gguf"]

        def convert(source: object, output: Path, kind: str) -> tuple[float, float]:
            """Seconds, and those of the processors for the program and the server."""
            output.unlink(missing_ok=True)
            command = [binary, "convert", source, "-o", output, "--type", kind, "--quiet", "--no-sync"]
            start, served = time.monotonic(), processor(server.pid)
            process = subprocess.Popen([*map(str, command), "--threads", str(options.threads)])
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{source} to {kind}: exit status {os.waitstatus_to_exitcode(status)}")
            used = usage.ru_utime + usage.ru_stime + processor(server.pid) - served
            return time.monotonic() - start, used

        for kind in options.types:
            runs = [[], []]
            for _ in range(options.runs):
                for source, output, done in zip([folder / "checkpoint", address], outputs, runs):
                    done.append(convert(source, output, kind))
            if not filecmp.cmp(*outputs, shallow=False):
                sys.exit(f"{kind}: the files differ")
            (near, used_near), (far, used_far) = ([statistics.median(n) for n in zip(*done)] for done in runs)
            ratios.append(max(near / far, used_near / used_far))
            print(
                f"| {kind} | {near:.2f} s | {far:.2f} s | {size / far / 1e6:.0f} | {near / far:.2f} "
                f"| {used_near:.2f} s, {used_far:.2f} s | {used_near / used_far:.2f} |",
                flush=True,
            )
        server.terminate()
    if ratios[0] < options.least:
        print(f"{options.types[0]} from the server has {ratios[0]:.2f} of the speed from files, not {options.least}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
