#!/usr/bin/env python3
"""Which GGUF files are accepted: our reader against the one of the PyPI package `gguf`.

The corpus is `fuzz/seeds/gguf_read`, small files named after what is in them, and whatever else is
given. Where the readers differ, the file has to be in one of the lists below with the reason; a
difference that is not there, or no longer one, fails. Files that are given have no names to look up:
of those, only what we accept and gguf refuses is a failure.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import environment

SEEDS = environment.ROOT / "fuzz" / "seeds" / "gguf_read"

# gguf accepts, we refuse: each is a row of convert-cli/tests/bad_inputs.rs.
OURS_REFUSES = {
    "CVE-2024-21802-5": "ggml has four dimensions; five overran a fixed array",
    "alignment-2MiB": "a power of two, but beyond what any file needs",
    "array-of-arrays-empty": "no loader reads one, and readers recurse on them",
    "hf.js-2020-nested": "as above, fifty levels deep",
    "bool-2": "neither false nor true",
    "llama.cpp-24884-empty-key": "a key without a name",
    "name-64": "ggml has room for 63 bytes",
    "name-empty": "a tensor without a name",
    "value-length": "a string that ends after the file does; gguf gives what there is",
    "disorder": "loaders want tensors in the order of their data",
    "gap": "bytes of no tensor between two",
    "overlap": "bytes of two tensors",
    "offset-wraps": "an offset near 2^64, which gguf adds without a check",
    "trailing-bytes": "bytes of no tensor at the end",
    "unaligned": "data that is not where the alignment has it",
}

# We accept, gguf refuses.
THEIRS_REFUSES: dict[str, str] = {}

# Reads the header and makes every tensor's view of the data, as its constructor does.
READ = "import gguf, sys; gguf.GGUFReader(sys.argv[1])"

# Seconds and bytes that gguf gets: some hostile counts have it loop or allocate without end.
SECONDS, MEMORY = 20, 4 << 30


def theirs(path: Path) -> bool:
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    command = [sys.executable, "-c", READ, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, preexec_fn=limit)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def ours(binary: Path, path: Path) -> bool:
    """Whether the structure and the places of the data are sound, whatever is missing for a model."""
    command = [binary, "verify", "--json", path]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{path}: verify ended with {done.returncode}")
    checks = {c["what"].split(":")[0]: c["problems"] for c in json.loads(done.stdout)["checks"]}
    return checks.get("structure") == 0 and checks.get("data") == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quantwright", help="the binary, instead of building one")
    parser.add_argument("files", nargs="*", type=Path, help="more files")
    args = parser.parse_args()
    binary = environment.quantwright(args.quantwright)
    seeds = sorted(SEEDS.iterdir())
    failures, both, neither = [], 0, 0
    for path in seeds + args.files:
        verdict = ours(binary, path), theirs(path)
        both += verdict == (True, True)
        neither += verdict == (False, False)
        known = path.parent == SEEDS
        for expected, listed, what in [
            ((False, True), OURS_REFUSES, "gguf accepts it and we do not"),
            ((True, False), THEIRS_REFUSES, "we accept it and gguf does not"),
        ]:
            if verdict == expected and path.name not in listed and (known or verdict[0]):
                failures.append(f"{path.name}: {what}")
            elif known and verdict != expected and path.name in listed:
                failures.append(f"{path.name}: listed, but not so: {what}")
    names = {path.name for path in seeds}
    failures += [f"{n}: no such seed" for n in {*OURS_REFUSES, *THEIRS_REFUSES} - names]
    print(
        f"{len(seeds) + len(args.files)} files: both accept {both}, both refuse {neither}, "
        f"only gguf {len(OURS_REFUSES)} and only we {len(THEIRS_REFUSES)} of the seeds"
    )
    for failure in sorted(failures):
        print(f"FAILED {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    environment.enter()
    main()
