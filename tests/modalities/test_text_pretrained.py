"""Tokenisers of others, by folder: their special tokens, words, ids, and what cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ssl_suite.core.errors import SuiteError
from ssl_suite.modalities.text import Text
from tests.modalities.made_text import OTHERS, english, ids

TEXTS = ["Hello there, (world)! It's 3.14.\n\nNext  one: naïve Größe.", english()[1][:1500], OTHERS["zh"], OTHERS["ru"]]


def folder(path: Path, tokenizer: Tokenizer, special: dict[str, str], **config) -> Path:
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special, **config}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def bert(path: Path) -> Path:
    """Special tokens in the middle of the vocabulary, texts cut to 20 tokens, as in many a BERT."""
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    first = ["[PAD]", *(f"[unused{i}]" for i in range(20)), *names.values()]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    words = tokenizer.get_vocab()
    plain = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # where [unused1] is a token like others
    plain.normalizer, plain.pre_tokenizer, plain.decoder = (
        tokenizer.normalizer,
        tokenizer.pre_tokenizer,
        tokenizer.decoder,
    )
    plain.add_special_tokens(["[PAD]", *names.values()])
    plain.enable_truncation(20)
    plain.enable_padding(length=20)
    return folder(path, plain, {"pad_token": "[PAD]", **names})


def gpt2(path: Path) -> Path:
    """Byte-level, one special token for everything, words without a space at a text's beginning."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    end = "<|endoftext|>"
    tokenizer.add_special_tokens([end])
    return folder(path, tokenizer, {"bos_token": end, "eos_token": end, "unk_token": end})


def roberta(path: Path) -> Path:
    """SentencePiece's marks, special tokens at both ends under other names."""
    names = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=list(names.values()), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return folder(path, tokenizer, names | {"mask_token": "<mask>", "bos_token": "<s>", "eos_token": "</s>"})


MAKERS = {"bert": bert, "gpt2": gpt2, "roberta": roberta}


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    return request.param, MAKERS[request.param](tmp_path / "pretrained")


def special(text: Text) -> list[str]:
    known = text.vocabulary
    return [known.tokens[i] for i in (known.pad, known.unk, known.cls, known.sep, known.mask)]


def test_special_tokens_and_targets(made: tuple[str, Path]) -> None:
    name, path = made
    text = Text(tokenizer=f"hf:{path}")
    known = text.vocabulary
    low, high = known.targets
    words = {
        "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        "gpt2": ["[PAD]", "[UNK]", "[CLS]", "<|endoftext|>", "[MASK]"],
        "roberta": ["<pad>", "<unk>", "<s>", "</s>", "<mask>"],
    }[name]
    assert special(text) == words and len({*special(text)}) == 5
    assert not {known.pad, known.unk, known.cls, known.sep, known.mask} & set(range(low, high))
    size = len(known)
    assert (low, high) == {"bert": (25, size), "gpt2": (0, size - 5), "roberta": (4, size - 1)}[name]
    assert text.vocabulary.continues < set(range(low, high))


def test_ids_are_those_of_the_pretrained_and_of_the_saved_one(made: tuple[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    _, path = made
    text = Text(tokenizer=f"hf:{path}", max_length=40)
    original = Tokenizer.from_file(str(path / "tokenizer.json"))
    original.no_truncation()
    original.no_padding()
    text.save(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    again = Text(tokenizer=f"hf:{tmp_path / 'gone'}")
    again.load(tmp_path / "saved")
    assert again.vocabulary == text.vocabulary and again.fingerprint() == text.fingerprint()
    for one in TEXTS[:2] + TEXTS[3:]:
        spaced = " ".join(one.split())  # white space is one space, whatever a tokeniser makes of line breaks
        expected = original.encode(spaced, add_special_tokens=False).ids
        assert ids(text, one) == expected == ids(again, one)
        assert saved(spaced)["input_ids"] == [text.vocabulary.cls, *expected, text.vocabulary.sep]
    assert saved.model_max_length == 40
    chinese = text.encode(text_record(OTHERS["zh"]))
    assert chinese.bounds is not None and len(chinese.bounds) >= 6
    spelt = text.decode(text.encode(text_record("they went to the house.")).values)
    assert spelt == "they went to the house."


def text_record(data: str):
    from tests.modalities.made_text import record

    return record(data)


def test_whole_words(made: tuple[str, Path]) -> None:
    _, path = made
    text = Text(tokenizer=f"hf:{path}")
    values = ids(text, "they were interestedness another then")
    starts = [i for i in values[1:] if i not in text.vocabulary.continues]  # a text's first token begins a word
    assert [1 + len(starts), len(values) > 5] == [5, True]


def test_a_tokeniser_that_looks_across_words_gets_whole_sentences(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, "the house of the house of the " * 50], trainer)
    text = Text(tokenizer=f"hf:{folder(tmp_path / 'across', tokenizer, {'unk_token': '[UNK]'})}")
    one = "the house of the quick brown fox"
    assert not text._ready().exact
    assert ids(text, one) == tokenizer.encode(one).ids
    assert text.vocabulary.continues == frozenset()


@pytest.mark.parametrize("name", ["", "./nowhere", "/no/such/folder", "a/b/c"])
def test_folders_that_are_not_there(name: str) -> None:
    with pytest.raises(SuiteError, match="there is no such folder; give hf:NAME or hf:FOLDER"):
        Text(tokenizer=f"hf:{name}").fit(iter([]))


def test_names_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SuiteError, match="hf:nobody/nothing: neither a folder here nor to be had from") as caught:
        Text(tokenizer="hf:nobody/nothing").fit(iter([]))
    assert "\n" not in str(caught.value)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SuiteError, match="holds no tokeniser that transformers opens") as caught:
        _ = Text(tokenizer=f"hf:{tmp_path}").vocabulary
    assert "\n" not in str(caught.value)
