#!/usr/bin/env python3
"""Which engines load our files, and whether they go on with a text as we do.

For each checkpoint of the fixtures and each recipe: every engine that is installed loads the file in a
process of its own and adds 24 greedy tokens to a prompt. Prints a table: `=` where the text equals ours, `~N`
where it parts after N characters (rounding decides between two near candidates in models as small as
these), and the engine's last words where it does not load the file. A file that an engine has to run, by the
list below, and does not run fails the check.

    python interop/engines.py --quantwright target/release/quantwright

Engines are Python packages: openvino-genai, mistralrs, transformers with torch and gguf, llama-cpp-python.
What is not installed is left out and named.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CHECKPOINTS = ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-mixtral", "tiny-phi2"]
RECIPES = ["f16", "q8_0", "q4_0", "q4_k_m", "q6_k", "q2_k", "iq4_xs"]
PROMPT = "The following example shows how to"
TOKENS = 24
# A Python package for each engine.
ENGINES = {
    "llama.cpp": "llama_cpp",
    "OpenVINO GenAI": "openvino_genai",
    "mistral.rs": "mistralrs",
    "transformers": "torch",
}
# What has to run. The others are printed as they are.
KNOWN = {
    "llama.cpp": (CHECKPOINTS, RECIPES),
    "OpenVINO GenAI": (["tiny-llama3", "tiny-qwen2"], ["f16", "q8_0", "q4_0", "q4_k_m"]),
    "mistral.rs": (["tiny-llama2", "tiny-llama3"], ["q8_0", "q4_0", "q4_k_m"]),
    "transformers": (["tiny-llama2", "tiny-llama3", "tiny-qwen2"], ["f16", "q8_0", "q4_0", "q4_k_m", "q6_k", "q2_k"]),
}


def go_on(engine: str, path: Path) -> str:
    """The text that an engine adds."""
    if engine == "llama.cpp":
        import llama_cpp

        model = llama_cpp.Llama(str(path), n_ctx=128, n_threads=2, verbose=False)
        done = model.create_completion(PROMPT, max_tokens=TOKENS, temperature=0.0)
        return done["choices"][0]["text"]
    if engine == "OpenVINO GenAI":
        import openvino_genai

        pipeline = openvino_genai.LLMPipeline(path, "CPU")
        config = openvino_genai.GenerationConfig(
            max_new_tokens=TOKENS, do_sample=False, apply_chat_template=False, ignore_eos=True
        )
        return str(pipeline.generate(PROMPT, config))
    if engine == "mistral.rs":
        from mistralrs import CompletionRequest, Runner, Which

        which = Which.GGUF(quantized_model_id=str(path.parent), quantized_filename=path.name)
        runner = Runner(which=which)
        request = CompletionRequest(
            model="default", prompt=PROMPT, max_tokens=TOKENS, temperature=0.0, best_of=1, echo_prompt=False
        )
        return runner.send_completion_request(request).choices[0].text
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    added = model.generate(ids, max_new_tokens=TOKENS, do_sample=False)[0, ids.shape[1] :]
    return tokenizer.decode(added)


def ours(binary: Path, path: Path) -> str:
    """The text that we add."""
    command = [binary, "generate", path, "-p", PROMPT, "-n", str(TOKENS), "--temp", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["text"]


def common(first: str, second: str) -> int:
    """How many characters two texts share at their start."""
    pairs = zip(first, second)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def last_words(text: str) -> str:
    """The last line of an error, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:60] if lines else "no message"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", type=Path, required=True)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="only these")
    parser.add_argument("--run", nargs=2, metavar=("ENGINE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        # Not this folder's tokenizers.py, where an engine imports the package of that name.
        sys.path.remove(str(Path(__file__).resolve().parent))
        engine, path = options.run
        print("\n" + json.dumps({"text": go_on(engine, Path(path))}))
        return

    binary = options.quantwright.resolve()
    engines = []
    for engine in options.engine or ENGINES:
        if importlib.util.find_spec(ENGINES[engine]):
            engines.append(engine)
        else:
            print(f"left out: {engine}, as {ENGINES[engine]} is not installed")
    failed = []
    print(f"| checkpoint | recipe | {' | '.join(engines)} |")
    print("|---|---|" + "---|" * len(engines))
    with tempfile.TemporaryDirectory() as scratch:
        for checkpoint in CHECKPOINTS:
            for recipe in RECIPES:
                folder = Path(scratch) / f"{checkpoint}-{recipe}"
                folder.mkdir()
                path = folder / "model.gguf"
                command = [binary, "convert", FIXTURES / checkpoint, "-o", path, "--type", recipe]
                subprocess.run([*command, "--quiet", "--no-sync"], check=True)
                expected = ours(binary, path).strip()
                cells = []
                for engine in engines:
                    own = [sys.executable, __file__, "--quantwright", binary, "--run", engine, path]
                    try:
                        done = subprocess.run(own, capture_output=True, text=True, timeout=180)
                    except subprocess.TimeoutExpired:
                        done = subprocess.CompletedProcess(own, 1, "", "no answer in 180 s")
                    if done.returncode == 0:
                        text = json.loads(done.stdout.splitlines()[-1])["text"].strip()
                        same = common(expected, text)
                        cells.append("=" if text == expected else f"~{same}")
                    else:
                        cells.append(last_words(done.stderr))
                        checkpoints, recipes = KNOWN[engine]
                        if checkpoint in checkpoints and recipe in recipes:
                            failed.append(f"{engine}: {checkpoint} in {recipe}")
                print(f"| {checkpoint} | {recipe} | {' | '.join(cells)} |", flush=True)
    if failed:
        sys.exit("not run: " + ", ".join(failed))


if __name__ == "__main__":
    main()
