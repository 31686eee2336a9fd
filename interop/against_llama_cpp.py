#!/usr/bin/env python3
"""Files made by quantwright against files made by llama.cpp itself.

For each checkpoint, type and choice of importance matrix: the file quantwright makes from the
checkpoint equals, byte for byte, the file that llama_model_quantize makes from quantwright's F32
file; llama.cpp loads it; and it continues a prompt with the same tokens, chosen greedily.

Prints a table; exits with 1 if anything differs.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

if __name__ == "__main__":
    environment.enter()

import gguf
import llama_cpp
import llama_cpp._logger
import numpy as np

CHECKPOINTS = ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"]
# As --type has it, and llama.cpp's number for it.
TYPES = {"F16": 1, "Q8_0": 7, "Q2_K": 10, "Q4_K_M": 15, "Q6_K": 18}
PROMPT = "The following example shows how to"
TOKENS = 48


def convert(binary: Path, checkpoint: Path, output: Path, *options: str) -> None:
    command = [binary, "convert", checkpoint, "-o", output, "--quiet", "--no-sync", *options]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr}")


class Matrix:
    """An importance matrix as the llama-quantize program hands it to llama_model_quantize."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        tensors = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
        self.means = {}
        for name in (name for name in tensors if name.endswith(".in_sum2")):
            name = name.removesuffix(".in_sum2")
            counts = np.rint(tensors[f"{name}.counts"].reshape(-1, 1)).astype(np.float32)
            sums = tensors[f"{name}.in_sum2"].reshape(len(counts), -1).astype(np.float32)
            self.means[name] = np.where(counts > 0, sums / np.maximum(counts, 1), 1).ravel()
        self.datasets = reader.get_field("imatrix.datasets").contents()
        self.chunks = int(reader.get_field("imatrix.chunk_count").contents())
        self.path = path

    def entries(self) -> ctypes.Array:
        rows = [
            (name.encode(), mean.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), mean.size)
            for name, mean in self.means.items()
        ]
        return (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))(*rows)

    def overrides(self) -> ctypes.Array:
        """The keys that say where the weights of a file come from."""
        entries = (llama_cpp.llama_model_kv_override * 5)()
        texts = {"file": str(self.path), "dataset": self.datasets[0]}
        numbers = {"entries_count": len(self.means), "chunks_count": self.chunks}
        for entry, (key, value) in zip(entries, (texts | numbers).items()):
            entry.key = f"quantize.imatrix.{key}".encode()
            if isinstance(value, str):
                entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
                entry.value.val_str = value.encode()[:127]
            else:
                entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
                entry.value.val_i64 = value
        return entries


def quantize(source: Path, output: Path, file_type: int, matrix: Matrix | None) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = 2
    if matrix:
        entries, overrides = matrix.entries(), matrix.overrides()
        params.imatrix = entries
        params.kv_overrides = overrides
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(output).encode(), ctypes.byref(params)
    )
    if status != 0:
        sys.exit(f"llama_model_quantize: status {status}")


def continuation(path: Path) -> list[int]:
    """Tokens that llama.cpp puts after the prompt, the likeliest each time."""
    model = llama_cpp.Llama(str(path), n_ctx=128, n_threads=2, verbose=False)
    tokens = model.generate(model.tokenize(PROMPT.encode()), temp=0.0)
    found = [token for token, _ in zip(tokens, range(TOKENS))]
    model.close()
    return found


def difference(ours: Path, theirs: Path) -> str:
    a, b = ours.read_bytes(), theirs.read_bytes()
    if a == b:
        return ""
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"bytes differ from {at} on, sizes {len(a)} and {len(b)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantwright", help="the binary; built if not given")
    binary = environment.quantwright(parser.parse_args().quantwright)
    fixtures = environment.ROOT / "fixtures"
    llama_cpp._logger.set_verbose(False)

    print(f"llama-cpp-python {llama_cpp.__version__}, {TOKENS} tokens after {PROMPT!r}\n")
    print(f"{'checkpoint':13}{'type':8}{'imatrix':9}{'bytes':>9}  {'file':7}{'tokens':7}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in CHECKPOINTS:
            path = fixtures / checkpoint
            lossless = Path(folder, f"{checkpoint}-f32.gguf")
            convert(binary, path, lossless, "--type", "f32")
            for name, number in TYPES.items():
                for matrix in (None, Matrix(path / "imatrix.gguf")):
                    ours, theirs = Path(folder, "ours.gguf"), Path(folder, "theirs.gguf")
                    # llama-quantize names the matrix in files that none of its weights went into too.
                    options = ["--imatrix", str(matrix.path), "--like-reference"] if matrix else []
                    convert(binary, path, ours, "--force", "--type", name, *options)
                    quantize(lossless, theirs, number, matrix)
                    problem = difference(ours, theirs)
                    same = continuation(ours) == continuation(theirs)
                    failed += bool(problem) + (not same)
                    print(
                        f"{checkpoint:13}{name:8}{'yes' if matrix else 'no':9}"
                        f"{ours.stat().st_size:9}  {'differs' if problem else 'equal':7}"
                        f"{'equal' if same else 'differ':7}{problem}",
                        flush=True,
                    )
    print(f"\n{failed} differences" if failed else "\nno difference")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
