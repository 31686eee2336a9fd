"""Compares llama.cpp's tokens of our files with those of transformers, for the forms in which checkpoints keep tokenizers.

    python interop/tokens.py [--quantwright PATH] [--tool PATH] [--lines 2000] [--only WORD]
    python interop/tokens.py --snapshot

Needs llama-cpp-python, transformers 5, torch and sentencepiece. For each variant a folder is made from the
fixtures, as transformers 5 or an older version saves it, with a tiny model of random weights. It is
converted twice, by default and with --like-reference; a text of mixed languages, code, emoji and odd
spaces, the same in every run, is tokenized by llama.cpp with both files and by transformers with the
folder. The default has to be equal on every line; the other figure says what the difference is for. Our own
tokenizer, gguf-model's example `tokenize`, has to make llama.cpp's tokens of the same file.
`--snapshot` renews fixtures/tokenizers/tokens.json: what transformers makes of a few lines for each
tokenizer of the fixtures.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
TEXTS = [FIXTURES / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]

WORDS = """the quick brown fox jumps over a lazy dog and then tokenizers tokenization quantization weights of model
layers Rust documentation panic unwrap iterator closure lifetime café naïve Zürich straße señor fiancée don't we'll
I've CamelCase snake_case kebab-case HTTP/2 x86_64 UTF-8 e.g. i.e. Привет мир нещо Български Ελληνικά שלום مرحبا हिन्दी
ไทย 한국어 日本語 カタカナ ひらがな 中文 汉字 模型 量化 我想在apple工作 你好世界 苹果""".split()
CODE = ["fn main() {", "    let x: Vec<u8> = vec![0; 1024];", "\tif a != b && c >= d {", "return self._x[i] ** 2", "}",
        "// TODO(1.75)", "#include <stdio.h>", "for i in range(0, 10):", "\t\tprint(f'{i:>8}')", "SELECT * FROM t;",
        "<div class=\"a\">", "git commit -m 'x'", "0xDEAD_BEEF", "a->b::c<d>", "\\n\\t\\\\", "{{ x | y }}", "----", "=======", "```rust"]
EMOJI = ["😀", "🚀", "😶‍🌫️", "🦙🦙", "✅", "👩‍👩‍👧", "🇨🇭", "♥", "…", "—", "“quoted”", "½", "²", "\u00ad", "ﬁ", "Ａ"]
SPACES = [" "] * 12 + ["  ", "   ", "     ", " " * 9, " " * 20, "\t", "\t\t", " \t ", "\n", "\n\n", "\n\n\n", "\r\n", "\u00a0", "\u3000", ""]


def lines(count):
    """Texts of one to twelve pieces; none begins with a space, which is a case of its own."""
    chance = random.Random(16470)
    for _ in range(count):
        parts = []
        for _ in range(chance.randint(1, 12)):
            kind = chance.random()
            parts.append(
                chance.choice(WORDS) if kind < 0.6 else chance.choice(CODE) if kind < 0.75
                else chance.choice(EMOJI) if kind < 0.85 else str(chance.randint(0, 10 ** chance.randint(1, 9))))
            parts.append(chance.choice(SPACES))
        yield "".join(parts).lstrip(" ") or "x"


def write(path, value):
    path.write_text(json.dumps(value))


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    write(path, value)


def tokenizer_files(name, folder):
    folder.mkdir()
    for path in (FIXTURES / name).iterdir():
        if "token" in path.name:
            shutil.copy(path, folder)
    return folder


def resaved(source, folder):
    """As this version of transformers saves it."""
    import transformers

    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def weights(folder, kind, size, **settings):
    """config.json and random weights of a class of transformers."""
    import torch
    import transformers

    torch.manual_seed(0)
    small = dict(vocab_size=size, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
                 max_position_embeddings=256)
    head = {"Bert": "Model", "XLMRoberta": "Model", "GPT2": "LMHeadModel"}.get(kind, "ForCausalLM")
    config = getattr(transformers, {"Gemma3": "Gemma3Text"}.get(kind, kind) + "Config")(**small, **settings)
    model = getattr(transformers, kind + head)(config)
    # What save_pretrained writes beside the weights is made for this test only.
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


# Llama's ids of the start, the end and the filler of a text, and Gemma's.
LLAMA = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None, num_key_value_heads=2)
GEMMA = dict(bos_token_id=2, eos_token_id=1, pad_token_id=0, num_key_value_heads=2, head_dim=16)
NONE = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None, num_key_value_heads=4)


# What Llama 3 puts before a text; the fixture leaves it to the engine.
LLAMA3_START = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|begin_of_text|>": {
        "id": "<|begin_of_text|>", "ids": [1019], "tokens": ["<|begin_of_text|>"]}},
}


def as_strings(tokenizer):
    tokenizer["model"]["merges"] = [" ".join(merge) for merge in tokenizer["model"]["merges"]]


def older_steps(tokenizer):
    """The normalizer that transformers 4 gave Llama's tokenizers."""
    tokenizer["pre_tokenizer"] = None
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}


def variants(top):
    """Names and folders."""
    llama = resaved(tokenizer_files("tiny-llama2", top / "llama2"), top / "Llama, tokenizer.json alone")
    weights(llama, "Llama", 1024, **LLAMA)
    yield llama

    folder = shutil.copytree(llama, top / "Llama, tokenizer.json of transformers 4")
    edit(folder / "tokenizer.json", lambda t: (as_strings(t), older_steps(t)))
    edit(folder / "tokenizer_config.json", lambda t: t.update(tokenizer_class="PreTrainedTokenizerFast"))
    yield folder

    folder = tokenizer_files("tiny-llama2", top / "Llama, tokenizer.model")
    weights(folder, "Llama", 1024, **LLAMA)
    yield folder

    folder = shutil.copytree(llama, top / "Mistral, tokenizer.json alone, chat tokens")
    added = [{"id": 1024 + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": i < 2} for i, token in enumerate(["<|im_start|>", "<|im_end|>", "<tool>"])]
    edit(folder / "tokenizer.json", lambda t: (t["added_tokens"].extend(added), older_steps(t)))
    edit(folder / "tokenizer_config.json", lambda t: t.update(
        tokenizer_class="PreTrainedTokenizerFast", eos_token="<|im_end|>", extra_special_tokens=["<|im_start|>"]))
    weights(folder, "Mistral", 1032, **dict(LLAMA, eos_token_id=1025))
    yield folder

    folder = shutil.copytree(folder, top / "Phi-3, tokenizer.model, chat tokens in tokenizer.json")
    shutil.copy(FIXTURES / "tiny-llama2" / "tokenizer.model", folder)
    weights(folder, "Phi3", 1032, **dict(LLAMA, eos_token_id=1025))
    yield folder

    gemma = top / "gemma"
    train_gemma(gemma)
    for kind, label in [("Gemma", "Gemma"), ("Gemma2", "Gemma 2"), ("Gemma3", "Gemma 3")]:
        folder = resaved(gemma, top / f"{label}, tokenizer.json alone")
        weights(folder, kind, 1300, **GEMMA)
        yield folder
    folder = shutil.copytree(folder, top / "Gemma 3, tokenizer.model and tokenizer.json")
    shutil.copy(gemma / "tokenizer.model", folder)
    yield folder

    folder = shutil.copytree(gemma, top / "Gemma 3, tokenizer.model")
    weights(folder, "Gemma3", 1300, **GEMMA)
    yield folder

    for name, kind, label in [("tiny-llama3", "Llama", "Llama 3"), ("tiny-qwen2", "Qwen2", "Qwen2")]:
        folder = resaved(tokenizer_files(name, top / name), top / f"{label}, tokenizer.json")
        if kind == "Llama":
            edit(folder / "tokenizer.json", lambda t: t.update(post_processor=LLAMA3_START))
        weights(folder, kind, 1024, **NONE)
        yield folder
    folder = shutil.copytree(top / "Llama 3, tokenizer.json", top / "Llama 3, with tiktoken's tokenizer.model")
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\nIw== 2\n")
    yield folder

    for name, kind, label, own in [("tiny-qwen2", "Qwen2", "Qwen2", "Qwen2Tokenizer"), ("tiny-phi2", "GPT2", "GPT-2", "GPT2Tokenizer")]:
        folder = listed(FIXTURES / name, top / f"{label}, vocab.json and merges.txt", own)
        weights(folder, kind, 1024, **NONE)
        yield folder

    folder = top / "BERT, tokenizer.json"
    shutil.copytree(FIXTURES / "tokenizers" / "bert", folder)
    weights(folder, "Bert", 1003)
    yield folder
    fairseq = top / "fairseq"
    train_fairseq(fairseq)
    folder = shutil.copytree(fairseq, top / "XLM-RoBERTa, sentencepiece.bpe.model")
    weights(folder, "XLMRoberta", 602, **XLMR)
    yield folder
    for kind, label in [("XLMRoberta", "XLM-RoBERTa"), ("Bert", "BERT with XLM-RoBERTa's tokenizer")]:
        folder = resaved(fairseq, top / f"{label}, tokenizer.json")
        weights(folder, kind, 602, **XLMR)
        yield folder


XLMR = dict(bos_token_id=0, eos_token_id=2, pad_token_id=1)


def train_fairseq(folder):
    """A unigram model with the replacements of characters that SentencePiece has by default."""
    import sentencepiece

    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for path in TEXTS for line in path.read_text().splitlines()),
        model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=600, model_type="unigram", minloglevel=2)
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
        "cls_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"})


def train_gemma(folder):
    """A vocabulary of Gemma's kind: no space before the text, runs of spaces and line ends as pieces."""
    import sentencepiece

    folder.mkdir()
    runs = ["▁" * n for n in range(2, 32)] + ["\n" * n for n in range(1, 32)] + ["\t" * n for n in range(1, 8)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for path in TEXTS for line in path.read_text().splitlines()),
        model_prefix=str(folder / "tokenizer"), vocab_size=1200, model_type="bpe", byte_fallback=True,
        add_dummy_prefix=False, remove_extra_whitespaces=False, normalization_rule_name="identity",
        split_digits=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>", minloglevel=2,
        user_defined_symbols=["<mask>", "<unused0>", "<start_of_turn>", "<end_of_turn>", "<table>", *runs])
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>",
        "pad_token": "<pad>", "add_bos_token": True, "extra_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})


def listed(source, folder, own):
    """A byte-level tokenizer as older versions of transformers saved it."""
    folder.mkdir()
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    write(folder / "vocab.json", tokenizer["model"]["vocab"])
    pairs = "\n".join(merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{pairs}\n")
    vocabulary = tokenizer["model"]["vocab"]
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"] if token["content"] not in vocabulary}
    write(folder / "added_tokens.json", added)
    decoder = {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in tokenizer["added_tokens"]}
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": own, "eos_token": tokenizer["added_tokens"][0]["content"], "added_tokens_decoder": decoder,
        "unk_token": tokenizer["added_tokens"][0]["content"], "bos_token": tokenizer["added_tokens"][0]["content"]})
    return folder


def own_tokens(tool, file, texts, *options):
    """Our own tokens of texts."""
    done = subprocess.run([tool, file, "--parse-special", *options], input="\0".join(texts).encode(), capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode())
    return [[int(id) for id in line.split()] for line in done.stdout.decode().split("\n")[:-1]]


def snapshot():
    """What transformers makes of a few lines."""
    import transformers

    texts = list(lines(40))
    # XLM-RoBERTa's small one has no table of replacements, without which engines keep tabs and line ends.
    folders = [*sorted(FIXTURES.glob("tiny-*")), FIXTURES / "tokenizers" / "bert"]
    tokens = {}
    for folder in folders:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokens[folder.name] = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    shown = ",\n".join(f"    {json.dumps(name)}: {json.dumps(ids, separators=(',', ':'))}" for name, ids in tokens.items())
    text = json.dumps(texts, ensure_ascii=True)
    (FIXTURES / "tokenizers" / "tokens.json").write_text(f'{{"texts": {text},\n "tokens": {{\n{shown}\n}}}}\n')


def tokens_of(quantwright, tool, folder, texts, chat, *options):
    """llama.cpp's tokens of texts, of a word with what the file puts around it and of a chat; or why there are none."""
    import llama_cpp

    output = folder.parent / "out.gguf"
    command = [quantwright, "convert", folder, "-o", output, "-t", "f32", "--force", "--quiet", "--no-sync", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()
    model = llama_cpp.Llama(str(output), vocab_only=True, verbose=False)
    try:
        plain = [model.tokenize(text.encode(), add_bos=False, special=True) for text in texts]
        around = model.tokenize(b"Hello", add_bos=True, special=True)
        turns = model.tokenize(chat.encode(), add_bos=False, special=True)
    finally:
        model.close()
    own = own_tokens(tool, output, [*texts, chat]) == [*plain, turns]
    own &= own_tokens(tool, output, ["Hello"], "--add-special") == [around]
    return (plain, around, turns, own), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quantwright", help="the binary (default: built in release mode)")
    parser.add_argument("--tool", help="gguf-model's example `tokenize` (default: built in release mode)")
    parser.add_argument("--snapshot", action="store_true")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--only", default="", help="variants with this in their names")
    arguments = parser.parse_args()
    # This file's own folder would hide the package `tokenizers`.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if arguments.snapshot:
        return snapshot()
    quantwright = environment.quantwright(arguments.quantwright)
    tool = arguments.tool or environment.built("--example", "tokenize")
    texts = list(lines(arguments.lines))
    wrong = 0
    print("| checkpoint | equal | with --like-reference |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as top:
        for folder in variants(Path(top)):
            if arguments.only not in folder.name:
                continue
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            expected = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
            around = tokenizer.encode("Hello")
            # Engines that put a space before each text put one behind each of these too.
            special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
            chat = "Hello".join(tokenizer.convert_ids_to_tokens(sorted(special)))
            cells = []
            for options in [[], ["--like-reference"]]:
                found, problem = tokens_of(quantwright, tool, folder, texts, chat, *options)
                if problem:
                    cells.append(problem if not options else "refused")
                    continue
                plain, found, turns, own = found
                unequal = [i for i, (a, b) in enumerate(zip(plain, expected)) if a != b]
                cell = f"{len(texts) - len(unequal)}"
                if found != around:
                    cell += ", not what is put around a text"
                if [id for id in turns if id in special] != sorted(special):
                    cell += ", not the special tokens"
                if not own:
                    cell += ", our own tokenizer differs"
                if not options and unequal:
                    i = unequal[0]
                    cell += f" ({texts[i]!r}: {plain[i]} not {expected[i]})"
                cells.append(cell)
            wrong += cells[0] != str(len(texts))
            print(f"| {folder.name.strip()} | {cells[0]} | {cells[1]} |", flush=True)
    print(f"{len(texts)} lines; {wrong} variants differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
