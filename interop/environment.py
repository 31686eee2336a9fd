"""The virtual environment of these scripts: interop/.venv, made on first use."""

import functools
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = HERE / ".venv"
REQUIREMENTS = HERE / "requirements.txt"


def install() -> Path:
    """Installs what requirements.txt lists, unless that is done; the environment's interpreter.

    llama-cpp-python is compiled there: some minutes, with a C++ compiler; CMake comes with it.
    """
    python = VENV / "bin" / "python"
    stamp = VENV / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {REQUIREMENTS.name} into {VENV.relative_to(ROOT)}", flush=True)
        if not python.exists():
            venv.create(VENV, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return python


def enter() -> None:
    """Runs the script again inside the environment."""
    if Path(sys.prefix).resolve() != VENV.resolve():
        python = str(install())
        os.execv(python, [python, *sys.argv])


def quantwright(path: str | None) -> Path:
    """The binary: the one given, or the release build of this tree."""
    return Path(path).resolve() if path else built("--bin", "quantwright")


@functools.cache
def built(kind: str, name: str) -> Path:
    """A program of this tree (`--bin` or `--example`), in release mode."""
    build = ["cargo", "build", "--quiet", "--release", "--workspace", kind, name]
    subprocess.run(build, cwd=ROOT, check=True)
    release = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    return release / "examples" / name if kind == "--example" else release / name


if __name__ == "__main__":
    install()
