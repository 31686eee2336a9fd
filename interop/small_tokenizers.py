"""Makes the small tokenizers of encoders in fixtures/tokenizers.

    python interop/small_tokenizers.py

Needs tokenizers, sentencepiece and transformers. Both are trained on texts of this repository; the
unigram model has a compiled list of replacements of characters, an empty one.
"""

import io
import json
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken, BertWordPieceTokenizer, Tokenizer, decoders, models, normalizers, pre_tokenizers,
    processors,
)

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures" / "tokenizers"
TEXTS = [ROOT / name for name in ("fixtures/README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]


def word_piece(folder):
    folder.mkdir(parents=True, exist_ok=True)
    made = BertWordPieceTokenizer(lowercase=True)
    lines = [line for path in TEXTS for line in path.read_text().splitlines()]
    made.train_from_iterator(lines, vocab_size=1000, show_progress=False)
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")])
    made.save(str(folder / "tokenizer.json"))
    settings = dict(tokenizer_class="BertTokenizer", do_lower_case=True, cls_token="[CLS]",
                    sep_token="[SEP]", unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def unigram(folder):
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    lines = [line for path in TEXTS for line in path.read_text().splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=600, model_type="unigram",
        normalization_rule_name="identity", minloglevel=2)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    own = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = own + [(piece.piece, piece.score) for piece in proto.pieces[3:]] + [("<mask>", 0.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.Precompiled(CHARSMAP)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)])
    made.add_special_tokens([AddedToken(token, normalized=False) for token, _ in own])
    made.add_special_tokens([AddedToken("<mask>", normalized=False, lstrip=True)])
    made.save(str(folder / "tokenizer.json"))
    settings = dict(tokenizer_class="XLMRobertaTokenizer", bos_token="<s>", eos_token="</s>",
                    sep_token="</s>", cls_token="<s>", unk_token="<unk>", pad_token="<pad>",
                    mask_token=dict(content="<mask>", lstrip=True, __type="AddedToken"),
                    clean_up_tokenization_spaces=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


# The smallest list there is: a double array of as many empty units as a byte has values, and an
# empty replacement.
CHARSMAP = (1024).to_bytes(4, "little") + bytes(1024 + 1)

if __name__ == "__main__":
    word_piece(FIXTURES / "bert")
    unigram(FIXTURES / "xlm-roberta")
