#!/usr/bin/env python3
"""Logits against those of transformers and llama.cpp, for one tiny random checkpoint of each family.

    python interop/graphs.py [--quantwright PATH] [--logits PATH] [--programs LLAMA_CPP/build/bin] [family…]

The checkpoints are those of architectures.py, with random weights, converted to F32. Both engines read the
same two windows of a hundred tokens; the largest difference of log-probabilities is given in parts of the
range of transformers'. Keys and values are in half precision here, log-probabilities in 16 bits. Of
llama-perplexity, which reads a text, the root mean square of the differences is given, in parts of the
standard deviation; a family that transformers cannot tell is held to it. Of encoders, which predict nothing,
the vectors of all tokens are compared, with keys and values in single precision.

Exits with 1 if a difference is larger than --tolerance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# Behind the packages: tokenizers.py beside this file is not the one that transformers wants.
sys.path.append(sys.path.pop(0))
import environment
import numpy as np
from kld import log_probabilities

# Last of the scripts here: it takes this folder out of the path.
import architectures

TEXT = architectures.FIXTURES / "text" / "test.txt"
TOKENS = 100
# Models whose vectors are compared. Of T5 that is the encoder.
ENCODERS = ["bert", "distilbert", "roberta", "xlm-roberta", "modern-bert", "gemma-embedding",
            "eurobert", "t5", "t5-gated", "umt5", "mt5", "t5-encoder"]
# Families whose models predict tokens.
DECODERS = [name for name, (kind, _, _) in architectures.FAMILIES.items()
            if ":Model" not in kind and "bert" not in name.lower() and not name.endswith("-hub")
            and name not in ENCODERS]
# Checkpoints that say what no key of a file says, as no published ones do: heads of another size than
# query_pre_attn_scalar, weights of experts that are not normalized, a norm before the gate, no
# position_embedding_type, embeddings that are not scaled, no scoring_func (with it DeepSeek V3 is 1.3e-7 from
# transformers); of DBRX transformers 5.23 leaves attn_config.rope_theta out (with it: 1.4e-7).
# Two FP8 checkpoints transformers does not run on a CPU: it mixes BF16 and F32, or misses scales that it makes up.
# They are held to llama.cpp's numbers.
UNSAID = {"gemma2", "gemma3", "gemma3-vision", "qwen3moe", "falcon-h1", "granite-all-attention", "afmoe",
          "deepseek3", "deepseek3-fp8", "dbrx", "llama-fp8-channel", "llama-fp8-tensor"}
# What is said in place of what architectures.py says: llama.cpp gives SmallThinker this window whatever the file
# says, and EXAONE 4 windows only in models of 64 layers.
CHANGED = {"smallthinker": {"sliding_window_size": 4096},
           "exaone4_5": {"text_config": {"sliding_window": None, "layer_types": ["full_attention"] * 4}}}
# Weights that are zero here: llama.cpp leaves out what attention makes in a layer of Deci that has no
# feed-forward part.
ZEROED = {"deci": "model.layers.2.self_attn.o_proj.weight"}


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip() or done.stdout).splitlines()[-1])
    return done.stdout


def expected(name: str, folder: Path, windows: list[list[int]]) -> np.ndarray | None:
    """Transformers' log-probabilities after each token; nothing if it has no class for the model."""
    import torch
    import transformers

    kind = architectures.FAMILIES[name][0]
    if not kind or name in architectures.BY_HAND:
        return None
    config = transformers.AutoConfig.from_pretrained(folder)
    # As the checkpoint says, and not what AutoModel would choose for it.
    cls = getattr(transformers, config.architectures[0], None)
    if cls is None:
        return None
    model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        rows = [model(torch.tensor([window])).logits[0].double().log_softmax(-1) for window in windows]
    return torch.stack(rows).numpy()


def vectors(folder: Path, tokens: list[int]) -> np.ndarray:
    """What comes out of transformers' encoder for each token."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model = model.encoder if hasattr(model, "decoder") else model
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).last_hidden_state[0].double().numpy()


def zero(folder: Path, tensor: str) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        if tensor in weights:
            weights[tensor].zero_()
            save_file(weights, file, metadata={"format": "pt"})


class Check:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.binary = environment.quantwright(args.quantwright)

    def predictions(self, file: Path, text: Path, out: Path, ctx: int) -> np.ndarray:
        """Ours for two windows: log-probabilities of the second half of each."""
        run(self.binary, "kl", file, file, "-f", text, "--ctx", ctx, "--chunks", 2, "--save-base", out)
        return log_probabilities(out)

    def transformers(self, name: str, folder: Path, file: Path) -> float | None:
        keys = json.loads(run(self.binary, "inspect", file, "--json"))["metadata"]
        tokens = np.random.default_rng(7).integers(3, 1000, 2 * TOKENS)
        # Windows begin with this one, in models whose texts do.
        bos = keys.get("tokenizer.ggml.bos_token_id")
        if bos:
            tokens[::TOKENS] = bos["value"]
        theirs = expected(name, folder, [window.tolist() for window in np.split(tokens, 2)])
        if theirs is None:
            return None
        text = folder / "tokens.json"
        text.write_text(json.dumps(tokens.tolist()))
        ours = self.predictions(file, text, folder / "tokens.kld", TOKENS)
        theirs = theirs[:, TOKENS // 2 : TOKENS - 1].reshape(len(ours), -1)
        ours = ours[:, : theirs.shape[1]]
        return float(np.abs(ours - theirs).max() / (theirs.max() - theirs.min()))

    def encoder(self, folder: Path, file: Path) -> float:
        tokens = np.random.default_rng(7).integers(3, 1000, TOKENS).tolist()
        out = folder / "vectors.f32"
        run(self.args.logits or environment.built("--example", "logits"), file, out, *tokens)
        theirs = vectors(folder, tokens)
        ours = np.fromfile(out, dtype="<f4").reshape(theirs.shape)
        return float(np.abs(ours - theirs).max() / (theirs.max() - theirs.min()))

    def llama_cpp(self, folder: Path, file: Path) -> float | None:
        if not self.args.programs:
            return None
        theirs = folder / "theirs.kld"
        run(Path(self.args.programs) / "llama-perplexity", "-m", file, "-f", TEXT, "-c", 128, "--chunks", 2,
            "-t", 2, "--kl-divergence-base", theirs)
        a = self.predictions(file, TEXT, folder / "ours.kld", 128)
        b = log_probabilities(theirs)
        return float(np.sqrt(((a - b) ** 2).mean()) / b.std())

    def run(self, name: str, root: Path) -> bool:
        folder, file = root / name.replace("phi3", "phi-three"), root / f"{name}.gguf"
        folder.mkdir()
        architectures.make(name, folder, True)
        if name in CHANGED:
            config = folder / "config.json"
            said = json.loads(config.read_text())
            for key, value in CHANGED[name].items():
                said[key] = said[key] | value if isinstance(value, dict) else value
            config.write_text(json.dumps(said))
        if name in ZEROED:
            zero(folder, ZEROED[name])
        # Weights that come in blocks are restored, too: what meets them would be rounded to eight bits.
        command = [self.binary, "convert", folder, "-o", file, "-t", "f32", "--allow-requantize",
                   "--force", "--no-sync", "--quiet"]
        if architectures.pre_tokenizer(name) == architectures.PRE:
            command += ["--pre-tokenizer", architectures.PRE]
        run(*command)
        if name in ENCODERS:
            results = [self.encoder(folder, file), None]
        else:
            theirs = None if name in UNSAID else self.transformers(name, folder, file)
            results = [theirs, self.llama_cpp(folder, file)]
        shown = [f"{result:10.2e}" if result is not None else f"{'-':>10}" for result in results]
        found = [result for result in results if result is not None]
        good = bool(found) and results[0] is not None and results[0] <= self.args.tolerance or (
            results[0] is None and bool(found) and found[0] <= self.args.tolerance_of_llama_cpp)
        print(f"{name:24}{''.join(shown)}{'' if good else '  !'}", flush=True)
        return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", help="the binary; by default the release build of this tree")
    parser.add_argument("--programs", help="folder with llama-perplexity")
    parser.add_argument("--logits", help="the example `logits`; by default the release build of this tree")
    parser.add_argument("--tolerance", type=float, default=2e-3)
    parser.add_argument("--tolerance-of-llama-cpp", type=float, default=0.03)
    parser.add_argument("families", nargs="*", default=[*DECODERS, *ENCODERS])
    args = parser.parse_args()
    check, failed = Check(args), []
    print(f"{'':24}{'transf.':>10}{'llama.cpp':>10}")
    with tempfile.TemporaryDirectory() as root:
        for name in args.families:
            try:
                good = check.run(name, Path(root))
            except Exception as error:  # A family that fails must not hide the others.
                print(f"{name:24}{type(error).__name__}: {str(error)[:400]}", flush=True)
                good = False
            if not good:
                failed.append(name)
    sys.exit(f"differ: {' '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
