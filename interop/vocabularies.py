"""Compares the `tokenizer.*` and model-card keys with those of llama.cpp's own converter.

    python interop/vocabularies.py --llama-cpp SOURCE --tool target/debug/examples/tokenizer \
        [--cli target/release/quantwright]

SOURCE is the source of llama.cpp, e.g. vendor/llama.cpp of the source distribution of
llama-cpp-python. Needs transformers, tokenizers, sentencepiece, numpy and pyyaml; where PyTorch is
missing, an empty module stands for it. Variants of tokenizer files are made from the fixtures and
from small vocabularies trained here with the pre-tokenizers of published families. The reference
knows no hash of ours: where it refuses, it is given our name, and that hash is compared instead.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"


class Anything:
    """Stands for whatever the converter takes from PyTorch when it is imported."""

    def __getattr__(self, name):
        return Anything()

    def __call__(self, *args, **kwargs):
        return Anything()

    def __getitem__(self, key):
        return Anything()


def load_reference(source):
    sys.path[:0] = [str(source), str(source / "gguf-py")]
    # This file's own folder would hide the package `tokenizers`.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
    import transformers  # noqa: F401  before the stand-in, which it would take for PyTorch

    def attribute(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    try:
        import torch
    except ImportError:
        torch = types.ModuleType("torch")
        torch.__getattr__ = attribute
        sys.modules["torch"] = torch
    import conversion.base
    import conversion.bert
    import conversion.t5
    import gguf

    return conversion, gguf


class Recorder:
    """Takes the place of the GGUF writer and keeps the keys in the order they are set."""

    def __init__(self, gguf):
        self.writer = gguf.GGUFWriter(path=None, arch="llama")
        self.writer.kv_data[0].clear()
        self.gguf = gguf

    def __getattr__(self, name):
        return getattr(self.writer, name)

    def keys(self):
        found = {}
        for key, value in self.writer.kv_data[0].items():
            if key.startswith("llama."):
                continue
            name, content = value.type.name, value.value
            if name == "ARRAY":
                element = self.gguf.GGUFValueType.UINT8
                if not isinstance(content, bytes):
                    element = self.gguf.GGUFValueType.get_type(content[0])
                name = f"ARRAY {element.name}"
                content = [c.decode() if isinstance(c, bytes) else c for c in content]
            found[key] = [name, content]
        return found


METHODS = {
    "sentencepiece": "_set_vocab_sentencepiece",
    "byte-fallback": "_set_vocab_llama_hf",
    "byte-level": "_set_vocab_gpt2",
}


def by_reference(conversion, gguf, folder, kind, name):
    """The keys, and the hash that the reference refused to know, if it did."""
    base = conversion.base.TextModel
    classes = {
        "word-piece": conversion.bert.BertModel,
        "fairseq": conversion.bert.XLMRobertaModel,
        "unigram": conversion.t5.T5Model,
    }
    owner = classes.get(kind, base)
    model = owner.__new__(owner)
    model.dir_model = folder
    model.hparams = json.loads((folder / "config.json").read_text())
    model.gguf_writer = Recorder(gguf)
    refused = []

    def get_vocab_base_pre(tokenizer):
        try:
            return base.get_vocab_base_pre(model, tokenizer)
        except NotImplementedError:
            ids = tokenizer.encode(TEXT)
            refused.append(hashlib.sha256(str(ids).encode()).hexdigest())
            return name

    model.get_vocab_base_pre = get_vocab_base_pre
    if kind == "fairseq":
        model._xlmroberta_set_vocab()
        return model.gguf_writer.keys(), refused
    method = METHODS.get(kind)
    (getattr(base, method)(model) if method else model.set_vocab())
    return model.gguf_writer.keys(), refused


TEXT = None


def by_us(tool, folder, kind):
    # The reference has two functions for what is one kind here.
    kind = {"byte-fallback": "sentencepiece"}.get(kind, kind)
    done = subprocess.run(
        [tool, folder, kind],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return None, done.stderr.strip()
    return json.loads(done.stdout), done.stderr


# Regular expressions of published tokenizers, and llama.cpp's names.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FAMILIES = {
    "llama-bpe": [("split", CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST)],
    "qwen2": [("split", CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST)],
    "gpt-2": [("gpt2",)],
    "starcoder": [("digits", True), ("gpt2",)],
    "falcon": [("punctuation",), ("gpt2",), ("digits", False), ("split", "[0-9][0-9][0-9]")],
    "deepseek-coder": [
        ("split", "[\r\n]"),
        ("split", r"\s?\p{L}+"),
        ("split", r"\s?\p{P}+"),
        ("split", "[一-龥ࠀ-一가-\ud7ff]+"),
        ("digits", True),
    ],
}


def train(family, folder, extra=()):
    import tokenizers
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    steps = []
    for step in FAMILIES[family]:
        match step:
            case ("split", regex):
                steps.append(pre_tokenizers.Split(Regex(regex), "isolated"))
            case ("digits", each):
                steps.append(pre_tokenizers.Digits(each))
            case ("punctuation",):
                steps.append(pre_tokenizers.Punctuation("contiguous"))
            case ("gpt2",):
                steps.append(pre_tokenizers.ByteLevel(False))
    if ("gpt2",) not in FAMILIES[family]:
        steps.append(pre_tokenizers.ByteLevel(False, use_regex=False))
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT, (ROOT / "Cargo.toml").read_text()], trainer)
    made.add_tokens([tokenizers.AddedToken(t, normalized=False) for t in extra])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    write(folder / "config.json", {"vocab_size": 640, "eos_token_id": 0})
    write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"},
    )
    return folder


def write(path, value):
    path.write_text(json.dumps(value))


def edit(folder, file, change):
    path = folder / file
    value = json.loads(path.read_text())
    change(value)
    write(path, value)


def copy(name, to):
    to.mkdir(parents=True)
    for path in (FIXTURES / name).iterdir():
        if path.suffix == ".json" or path.name == "tokenizer.model":
            shutil.copy(path, to)
    return to


def template(single, pair, ids):
    names = lambda items: [
        {"Sequence": {"id": i, "type_id": 0}} if i in "AB" else {"SpecialToken": {"id": i, "type_id": 0}}
        for i in items
    ]
    tokens = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in ids.items()}
    return {
        "type": "TemplateProcessing",
        "single": names(single),
        "pair": names(pair),
        "special_tokens": tokens,
    }


def cases(top):
    """Folders, kinds and the name that the reference is given where it knows none."""
    for name, pre in [
        ("tiny-llama3", "llama-bpe"),
        ("tiny-qwen2", "qwen2"),
        ("tiny-phi2", "gpt-2"),
        ("tiny-mixtral", "llama-bpe"),
    ]:
        yield copy(name, top / name), "byte-level", pre
    yield copy("tiny-llama2", top / "tiny-llama2"), "sentencepiece", ""

    for family in FAMILIES:
        yield train(family, top / f"bpe-{family}"), "byte-level", family
    # Runs of spaces as tokens, as phi-2 and GPT-NeoX have them.
    extra = ["  ", "   ", "<|im_end|>", "<tool>", "▁x"]
    yield train("gpt-2", top / "bpe-added", extra), "byte-level", "gpt-2"

    eot, bos = "<|endoftext|>", {"<|endoftext|>": 0}
    for label, processor in {
        "bos": template([eot, "A"], [eot, "A", eot, "B"], bos),
        "bos-eos": template([eot, "A", eot], [eot, "A", eot, "B", eot], bos),
        "eos": template(["A", eot], ["A", eot, "B", eot], bos),
        "sequence": {
            "type": "Sequence",
            "processors": [
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                template([eot, "A"], [eot, "A", eot, "B"], bos),
            ],
        },
        "roberta": {
            "type": "RobertaProcessing",
            "cls": [eot, 0],
            "sep": [eot, 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
    }.items():
        for given in [{}, {"bos_token": eot}, {"bos_token": eot, "add_bos_token": True}]:
            folder = train("qwen2", top / f"post-{label}-{len(given)}")
            edit(folder, "tokenizer.json", lambda t: t.update(post_processor=processor))
            edit(folder, "tokenizer_config.json", lambda t: t.update(given))
            yield folder, "byte-level", "qwen2"

    # Chat templates.
    for label, value in {
        "text": "{{ messages }}",
        "list": [
            {"name": "default", "template": "d"},
            {"name": "tool_use", "template": "t"},
            {"name": "rag 2", "template": "r"},
        ],
    }.items():
        folder = train("qwen2", top / f"chat-{label}")
        edit(folder, "tokenizer_config.json", lambda t: t.update(chat_template=value))
        yield folder, "byte-level", "qwen2"
    folder = train("qwen2", top / "chat-jinja")
    (folder / "chat_template.jinja").write_text("jinja")
    yield folder, "byte-level", "qwen2"
    folder = train("qwen2", top / "chat-more")
    (folder / "chat_template.jinja").write_text("jinja")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    yield folder, "byte-level", "qwen2"
    folder = train("qwen2", top / "chat-json")
    write(folder / "chat_template.json", {"chat_template": "json"})
    yield folder, "byte-level", "qwen2"

    yield from sentencepiece_cases(top)
    yield bert(top / "bert"), "word-piece", "default"
    for lower in (True, False):
        yield bert_list(top / "bert", top / f"bert-list-{lower}", lower), "word-piece", "default"
    yield from fairseq_cases(top)


def sentencepiece_cases(top):
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    text = top / "text"
    text.write_text((ROOT / "fixtures/README.md").read_text() * 3)
    for kind in ["bpe", "unigram"]:
        folder = top / f"sp-{kind}"
        folder.mkdir()
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=400 if kind == "bpe" else 300,
            model_type=kind,
            byte_fallback=kind == "bpe",
            user_defined_symbols=["<user>"],
            control_symbols=["<ctrl>"],
            pad_id=3 if kind == "unigram" else -1,
        )
        write(folder / "config.json", {"vocab_size": 420, "bos_token_id": 1, "eos_token_id": 2})
        write(folder / "added_tokens.json", {"<added>": 405})
        write(
            folder / "tokenizer_config.json",
            {
                "bos_token": "<s>",
                "eos_token": {"content": "</s>"},
                "add_bos_token": True,
                "add_eos_token": False,
                "added_tokens_decoder": {
                    "5": {"content": "<user>", "special": False},
                    "406": {"content": "<unused1>", "special": False},
                    "407": {"content": "▁▁a", "special": False},
                    "999": {"content": "beyond", "special": True},
                },
            },
        )
        yield folder, "sentencepiece", ""
        yield folder, "unigram", ""
        older = top / f"sp-{kind}-spiece"
        if kind == "unigram":
            shutil.copytree(folder, older)
            (older / "tokenizer.model").rename(older / "spiece.model")
            yield older, "unigram", ""

    # The BPE model as tokenizer.json alone.
    processor = sentencepiece.SentencePieceProcessor(str(top / "sp-bpe" / "tokenizer.model"))
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece in pieces:
        for cut in range(1, len(piece)):
            if piece[:cut] in vocab and piece[cut:] in vocab and not piece.startswith("<"):
                merges.append((piece[:cut], piece[cut:]))
                break
    made = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(t, normalized=False) for t in ["<unk>", "<s>", "</s>"]])
    made.add_tokens([AddedToken("<extra>", normalized=False)])
    folder = top / "sp-json"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    write(folder / "config.json", {"vocab_size": 401, "bos_token_id": 1, "eos_token_id": 2})
    write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        },
    )
    yield folder, "byte-fallback", ""


def bert(folder):
    from tokenizers import BertWordPieceTokenizer

    folder.mkdir()
    made = BertWordPieceTokenizer(lowercase=True)
    made.train_from_iterator([TEXT, (ROOT / "Cargo.toml").read_text()], vocab_size=300, show_progress=False)
    made.save(str(folder / "tokenizer.json"))
    write(folder / "config.json", {"vocab_size": 304, "type_vocab_size": 2, "pad_token_id": 0})
    write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "unk_token": "[UNK]",
            "pad_token": "[PAD]",
            "mask_token": "[MASK]",
        },
    )
    return folder


def bert_list(whole, folder, lower):
    """The same tokenizer as the list of its tokens alone."""
    folder.mkdir()
    vocabulary = json.loads((whole / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in sorted(vocabulary, key=vocabulary.get)))
    config = {"vocab_size": 304, "type_vocab_size": 2, "pad_token_id": 0, "model_type": "bert"}
    write(folder / "config.json", config)
    write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": lower})
    return folder


def fairseq_cases(top):
    """XLM-RoBERTa's tokenizer as both of its files."""
    config = {"vocab_size": 620, "type_vocab_size": 1, "model_type": "xlm-roberta",
              "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    folder = top / "fairseq-json"
    shutil.copytree(FIXTURES / "tokenizers" / "xlm-roberta", folder)
    write(folder / "config.json", config)
    yield folder, "fairseq", ""
    plain = top / "fairseq-json-plain"
    shutil.copytree(folder, plain)
    write(plain / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer",
                                            "add_prefix_space": False})
    yield plain, "fairseq", ""
    for label in ("alone", "both"):
        folder = top / f"fairseq-model-{label}"
        folder.mkdir()
        shutil.copy(top / "sp-unigram" / "tokenizer.model", folder / "sentencepiece.bpe.model")
        if label == "both":
            shutil.copy(FIXTURES / "tokenizers" / "xlm-roberta" / "tokenizer.json", folder)
        write(folder / "config.json", dict(config, vocab_size=305))
        write(folder / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer",
                                                 "bos_token": "<s>", "eos_token": "</s>"})
        yield folder, "fairseq", ""


def differences(ours, theirs):
    for key in dict.fromkeys([*theirs, *ours]):
        a, b = ours.get(key), theirs.get(key)
        if key == "tokenizer.ggml.scores" and a and b and len(a[1]) == len(b[1]):
            if all(abs(x - y) <= 1e-6 * abs(y) for x, y in zip(a[1], b[1])):
                continue
        if key == "tokenizer.chat_templates" and a and b:
            # The reference takes them from a set, in any order.
            a, b = ["", sorted(a[1])], ["", sorted(b[1])]
        if a != b:
            where = ""
            if a and b and isinstance(a[1], list) and isinstance(b[1], list):
                at = [i for i, (x, y) in enumerate(zip(a[1], b[1])) if x != y][:3]
                where = f" ({len(a[1])} and {len(b[1])}; " + ", ".join(
                    f"[{i}] {a[1][i]!r} not {b[1][i]!r}" for i in at
                ) + ")"
                a = b = "…"
            yield f"{key}: {a} not {b}{where}"
    if list(ours) != list(theirs) and set(ours) == set(theirs):
        yield f"order: {list(ours)} not {list(theirs)}"


CARDS = {
    "full": "---\nlicense: apache-2.0\nlicense_name: n\nlicense_link: l\ntags:\n- a\n- b\npipeline_tag: text-generation\n"
    "language:\n- en\n- no\nbase_model: mistralai/Mistral-7B-v0.1\ndatasets:\n- org/set-v2\n"
    "- https://huggingface.co/org2/Set-3\nmodel_creator: Someone\nmodel_name: A Name\nmodel_type: mistral\n---\n# Text\n",
    "merge": "---\nlicense: [mit, other]\nbase_model:\n- a/B-7B-Instruct-v2\n- https://huggingface.co/c/D-v1.5-13b\n"
    "- https://example.org/x\n- {name: Own, author: me, url: u}\nbase_model_relation: merge\nlanguage: de\ntags: one\n---\n",
    "own": "---\nname: N\nauthor: A\nversion: v9\norganization: O\ndescription: |\n  two\n  lines\nfinetune: f\nbasename: b\n"
    "size_label: 9B\nurl: u\ndoi: d\nuuid: i\nrepo_url: r\n---\n",
    "empty": "---\n---\n",
    "none": "# Text\n---\nlicense: mit\n---\n",
    "nulls": "---\nlicense:\nbase_model:\ntags: []\nlanguage: ['no', 'off']\n---\n",
    "tab": "---\ntags:\n-\ta\nlicense: mit\n---\n",
}
OVERRIDES = {
    "general.name": "Given",
    "general.license.name": "given",
    "general.url": "https://example.org",
    "general.tags": ["x", "y"],
    "general.base_models": [{"name": "Base", "repo_url": "r"}],
    "general.sampling.temp": 0.5,
    "general.quantized_by": "me",
}


def cards(gguf, cli, top):
    """Whole conversions with model cards, by the command line."""
    for label, card in CARDS.items():
        for overrides in [None, OVERRIDES]:
            folder = top / f"Card-{label}" / "Org-Tiny-Llama-1.8M-chat-v1.0"
            if not folder.exists():
                shutil.copytree(FIXTURES / "tiny-llama3", folder)
                (folder / "README.md").write_text(card)
            given = top / "given.json"
            write(given, OVERRIDES)
            out = top / "out.gguf"
            command = [cli, "convert", folder, "-o", out, "-t", "f32", "--force", "--quiet"]
            subprocess.run(command + (["--metadata", given] if overrides else []), check=True)
            shown = subprocess.run([cli, "inspect", "--json", out], check=True, capture_output=True)
            ours = json.loads(shown.stdout)["metadata"]
            ours = {
                key: [entry["type"] + (" STRING" if "element_type" in entry else ""), entry["value"]]
                for key, entry in ours.items()
                if key.startswith("general.")
                and key not in ("general.architecture", "general.type")
                and not key.endswith(("file_type", "quantization_version"))
            }
            recorder = Recorder(gguf)
            metadata = gguf.Metadata.load(given if overrides else None, folder, None, 1_845_504)
            if metadata.size_label is None:
                metadata.size_label = gguf.size_label(1_845_504, 1_845_504, 0, 0)
            metadata.set_gguf_meta_model(recorder)
            theirs = recorder.keys()
            for pairs in (ours, theirs):
                for pair in pairs.values():
                    if pair[0] == "FLOAT32":
                        pair[1] = round(pair[1], 6)
            yield f"card {label}{' replaced' if overrides else ''}", list(differences(ours, theirs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--tool", type=Path, required=True)
    parser.add_argument("--cli", type=Path)
    arguments = parser.parse_args()
    conversion, gguf = load_reference(arguments.llama_cpp)
    global TEXT
    source = (arguments.llama_cpp / "conversion/base.py").read_text()
    import ast

    TEXT = ast.literal_eval(re.search(r"chktxt = ('.*')", source).group(1))
    wrong = total = 0
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)

        def results():
            for folder, kind, name in cases(top / "tokenizers"):
                ours, said = by_us(arguments.tool.resolve(), folder, kind)
                try:
                    theirs, refused = by_reference(conversion, gguf, folder, kind, name)
                except Exception as error:  # noqa: BLE001  whatever the reference stops at
                    theirs, refused = None, []
                    said = f"{said or 'converted'}; the reference: {type(error).__name__} {error}"
                if ours is None or theirs is None:
                    yield f"{folder.name} {kind}", [said]
                    continue
                found = list(differences(ours, theirs))
                found += [f"hash {h} not among ours" for h in refused if said and h not in said]
                yield f"{folder.name} {kind}", found
            if arguments.cli:
                yield from cards(gguf, arguments.cli.resolve(), top)

        (top / "tokenizers").mkdir()
        for label, found in results():
            total += 1
            wrong += bool(found)
            print(("DIFFERS " if found else "equal   ") + label)
            for line in found:
                print("    " + line[:600])
    print(f"{total - wrong} of {total} equal")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
