#!/usr/bin/env python3
"""The wheel of the program, and with --module that of the Python module, installed and used.

Builds the wheel with maturin, installs it into a fresh environment without any other package, and converts a
fixture with the `quantwright` that is on its path: the file has to be the one that the binary of this tree
makes. The module's own tests run in another fresh environment, with numpy and gguf.

    python3 interop/wheel.py --quantwright target/release/quantwright [--module]

maturin, and what the tests of the module need, come from PyPI.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURE = ROOT / "fixtures" / "tiny-llama2"


def run(*command: object, **options: object) -> None:
    done = subprocess.run([str(word) for word in command], **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}")


def fresh(folder: Path, *packages: object) -> Path:
    """A new environment with these packages; the folder of its programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    run(programs / "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return programs


def wheel(maturin: Path, project: Path, out: Path) -> Path:
    """The wheel of a project. Its crates are compiled as `cargo build --release` does, once for both."""
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    environment = os.environ | {"CARGO_TARGET_DIR": str(target)}
    run(maturin, "build", "--release", "--quiet", "--out", out, cwd=project, env=environment)
    [made] = out.glob("*.whl")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", type=Path, required=True)
    parser.add_argument("--module", action="store_true", help="also the Python module, which takes minutes")
    options = parser.parse_args()
    binary = options.quantwright.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        maturin = fresh(folder / "maturin", "maturin") / "maturin"

        program = wheel(maturin, ROOT, folder / "program")
        programs = fresh(folder / "user", program)
        files = []
        for name, own in [("wheel", programs / "quantwright"), ("tree", binary)]:
            files.append(folder / f"{name}.gguf")
            run(own, "convert", FIXTURE, "-o", files[-1], "--quiet", "--no-sync")
        if files[0].read_bytes() != files[1].read_bytes():
            sys.exit("the program of the wheel makes another file")
        print(f"{program.name}: {program.stat().st_size / 2**20:.1f} MiB, installed, converts as the tree's does")

        if options.module:
            module = wheel(maturin, ROOT / "python", folder / "module")
            programs = fresh(folder / "tests", module, "pytest", "gguf")
            run(programs / "python", "-m", "pytest", "-q", ROOT / "python" / "tests")
            print(f"{module.name}: {module.stat().st_size / 2**20:.1f} MiB, its tests pass")


if __name__ == "__main__":
    main()
