"""Compares fixtures/golden/tokenizer-ids.json with what Hugging Face's library makes of its tokenizers.

    python interop/tokenizer_ids.py

Needs tokenizers 0.23.2. The ids of the file are those of the library in Rust with fancy-regex; its package for
Python searches with Oniguruma.
"""

import json
import re
import sys
from pathlib import Path

# A script beside this one has the library's name.
sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

from tokenizers import Tokenizer  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "fixtures/golden/tokenizer-ids.json"
SOURCE = ROOT / "convert/src/tokenizer/hash.rs"

# Cases whose expressions Oniguruma reads in another way: at the edges of words, at the ends of lines.
READ_DIFFERENTLY = [52, 78]


def hashed_text():
    """The text in hash.rs."""
    literal = re.search(r'TEXT: &str = "(.*?)";\n', SOURCE.read_text(), re.S).group(1)
    literal = re.sub(r"\\\n\s*", "", literal)
    escapes = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(r"\\(?:u\{(\w+)\}|(.))", lambda m: chr(int(m[1], 16)) if m[1] else escapes[m[2]], literal)


def file_of(model, case):
    """A tokenizer.json: the settings that it has to have, then those of the case."""
    added = [
        {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, **token}
        for token in case.get("added_tokens") or []
    ]
    model = {**model, **case["settings"]}
    if model["type"] == "BPE":
        model = {
            "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **model,
        }
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": case.get("normalizer"), "pre_tokenizer": case.get("pre_tokenizer"),
        "post_processor": None, "decoder": None, "model": model,
    }


def main():
    golden = json.loads(GOLDEN.read_text())
    hashed, differ = hashed_text(), []
    for i, case in enumerate(golden["cases"]):
        tokenizer = Tokenizer.from_str(json.dumps(file_of(golden["models"][case["model"]], case)))
        ids = tokenizer.encode(hashed if case.get("whole_text") else golden["text"], add_special_tokens=False).ids
        if ids != case["ids"]:
            differ.append(i)
            if i not in READ_DIFFERENTLY:
                print(f"case {i}: {ids} instead of {case['ids']}")
    print(f"{len(golden['cases'])} tokenizers, {len(differ)} differ")
    sys.exit(differ != READ_DIFFERENTLY)


main()
