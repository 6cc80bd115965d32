"""Text tokens: the same however a text is cut, the same in transformers, and what is counted and refused."""

from __future__ import annotations

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import SPECIAL_TOKENS
from ssl_suite.modalities import text as text_module
from ssl_suite.modalities import text_letters
from ssl_suite.modalities.text import Text
from tests.modalities.made_text import OTHERS, english, fitted, ids, record

KINDS = ("bpe", "wordpiece", "unigram")
PAD, UNK, CLS, SEP = 0, 1, 2, 3
TEXTS = [english()[0][:3000], *OTHERS.values()]
LETTERS = st.text(
    alphabet="".join(sorted(set("".join(OTHERS.values())))) + "\n\t  ..ab,\u0301\u3099\x0b\x85", max_size=60
)


def opened(text: Text, folder: Path):
    from transformers import AutoTokenizer

    text.save(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [{}, {"lower_case": True, "strip_accents": True}], ids=["plain", "folded"])
def test_auto_tokenizer_gives_the_same_ids(tmp_path: Path, kind: str, change: dict) -> None:
    text = fitted(kind, max_length=77, **change)
    tokenizer = opened(text, tmp_path)
    for one in [*TEXTS, "\n\n".join(TEXTS), "".join(TEXTS)]:
        assert tokenizer(one)["input_ids"] == [CLS, *ids(text, one), SEP]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == list(text.vocabulary.tokens)
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert (*special, tokenizer.mask_token_id) == (0, 1, 2, 3, 4)
    assert tokenizer.model_max_length == 77
    assert len(tokenizer(TEXTS[0], truncation=True)["input_ids"]) == 77
    masked = tokenizer("the [MASK] cat")["input_ids"]
    assert masked == [CLS, *ids(text, "the"), 4, *ids(text, "cat"), SEP]


@settings(deadline=None, max_examples=100)
@given(LETTERS, st.sampled_from(KINDS))
def test_any_letters_get_the_ids_of_the_library(one: str, kind: str) -> None:
    text = MADE[kind]
    tokenizer = text._ready().tokenizer
    tokenizer.encode_special_tokens = True
    assert ids(text, one) == tokenizer.encode(one, add_special_tokens=False).ids


MADE = {kind: fitted(kind) for kind in KINDS}


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="".join(map(chr, range(1, 128))), max_size=60))
def test_ascii_with_control_characters_too(one: str) -> None:
    text = MADE["bpe"]
    tokenizer = text._ready().tokenizer
    tokenizer.encode_special_tokens = True
    assert ids(text, one) == tokenizer.encode(one, add_special_tokens=False).ids
    assert text_letters.cleaned(one) == text_letters.CONTROL.sub(" ", one)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_do_not_depend_on_how_a_text_is_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, one = fitted(kind), "\n\n".join(TEXTS)
    whole = text.encode(record(one))
    sentences = text._sentences(record(one))
    assert ids(text, sentences) == whole.values.tolist()  # a list of sentences is a text
    apart = [ids(text, sentence) for sentence in sentences]
    assert list(chain.from_iterable(apart)) == whole.values.tolist()
    begins = np.cumsum([0, *map(len, apart)])[:-1][[len(some) > 0 for some in apart]]
    assert whole.bounds is not None and whole.bounds.tolist() == begins.tolist()
    monkeypatch.setattr(text_module, "AT_ONCE", 100)
    monkeypatch.setattr("ssl_suite.modalities.text_words.ROOM", 500)  # forgets all the time
    again = pickle.loads(pickle.dumps(text)).encode(record(one))
    assert again.values.tolist() == whole.values.tolist() and again.bounds.tolist() == whole.bounds.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_han_letter_is_a_token_and_a_word(kind: str) -> None:
    text = fitted(kind)
    rare = "龘"  # in no training text
    encoded = text.encode(record("我们去" + rare + "北京。"))
    tokens = [text.vocabulary.tokens[i] for i in encoded.values]
    assert tokens == ["我", "们", "去", "[UNK]", "北", "京", "。"]
    assert encoded.counts == {"letters": 7, "sentences": 1, "unknown": 1}
    assert not text.vocabulary.continues & set(encoded.values.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_continues_marks_the_rest_of_words(kind: str) -> None:
    text = fitted(kind)
    one = 'Universally acknowledged, "truth" (neighbourhood)! 我爱 extraordinariness'
    words, tokens = 0, [int(i) for i in ids(text, one)]
    groups: list[str] = []
    for i in tokens:
        piece = text.vocabulary.tokens[i].removeprefix("##").lstrip("▁")
        if i in text.vocabulary.continues:
            groups[-1] += piece
        else:
            groups.append(piece)
            words += 1
    wanted = ["Universally", "acknowledged", ",", '"', "truth", '"', "(", "neighbourhood", ")", "!", "我", "爱"]
    if kind != "wordpiece":  # a mark stands for a space, so a word behind an opening sign goes with the sign
        wanted = ["Universally", "acknowledged", ",", '"truth', '"', "(neighbourhood", ")", "!", "我", "爱"]
    # Unigram may part the mark from a sign; no letters are in a group then
    assert list(filter(None, groups)) == [*wanted, "extraordinariness"]
    assert len(tokens) > words


def test_counts_are_right() -> None:
    text = fitted("wordpiece")
    encoded = text.encode(record("One day. 龘 龘龘! Two\n\nThree  words here"))
    assert encoded.counts["unknown"] == 3 == int((encoded.values == UNK).sum())
    assert encoded.counts["sentences"] == 4 == len(encoded.bounds)
    assert encoded.counts["letters"] == len("One day.") + len("龘 龘龘!") + len("Two") + len("Three  words here")
    assert text.encode(record(" \n\u200b ")).values.tolist() == []


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("bpe", 'He said, "I don\'t (really) know." 他说：“你好！”我们去北京。Größe'),
        ("unigram", 'He said, "I don\'t (really) know." 他说：“你好！”我们去北京。Größe'),
        ("wordpiece", "he went to the house, and she went home."),
    ],
)
def test_spell_gives_the_text_back(kind: str, written: str) -> None:
    text = fitted(kind)
    spelt = text.decode(np.array(ids(text, written)))
    assert spelt == written.replace('" 他', '"他')  # a space before a Han letter is not kept
    assert fitted("wordpiece").decode(np.array(ids(fitted("wordpiece"), "我们去北京。"))) == "我们去北京。"


@pytest.mark.parametrize("kind", KINDS)
def test_identity_and_kin(kind: str) -> None:
    text = fitted(kind)
    one = english()[0][:4000]
    values, other = (text.encode(record(data)).values for data in (one, english()[1][:4000]))
    same = text.encode(record("  " + one.replace(" the ", " The ").replace(" ", "\n\t "))).values
    assert text.identity(values) == text.identity(same) == text.identity(values.astype(np.uint16))
    assert text.identity(values) != text.identity(other)
    assert len(text.identity(values)) == 16
    near = text.encode(record(one[:2000] + one[2100:].replace(", ", " - "))).values

    def alike(a: np.ndarray, b: np.ndarray) -> float:
        first, second = set(text.near_duplicate_features(a).tolist()), set(text.near_duplicate_features(b).tolist())
        return len(first & second) / len(first | second)

    assert text.near_duplicate_features(values).dtype == np.uint64 and len(text.near_duplicate_features(values)) == len(
        np.unique(text.near_duplicate_features(values))
    )
    assert alike(values, same) == 1.0
    assert alike(values, near) > 0.9 > 0.01 > alike(values, other)


def test_kin_counts_runs_of_five_words() -> None:
    text = fitted("bpe")

    def runs(data: str) -> int:
        return len(text.near_duplicate_features(text.encode(record(data)).values))

    assert [runs("one"), runs("one two three four five"), runs("one two three four five six")] == [1, 1, 2]
    assert runs("one, two. three! four? five") == 1
    assert runs("a b c d e " * 10) == 5
    assert runs("... !!") == runs("") == 0


@pytest.mark.parametrize(
    ("data", "fault"), [("a\0b", "NUL characters"), (["ok", "a\0"], "NUL characters"), ("\ud800", "surrogate pair")]
)
def test_what_is_no_text_is_refused(data: str | list[str], fault: str) -> None:
    with pytest.raises(BadRecord, match=f"x.txt: record 'a b' holds .*{fault}") as caught:
        fitted("bpe").encode(record(data, "a\nb"))
    assert "\n" not in str(caught.value)


def test_special_tokens_in_a_text_are_text() -> None:
    for kind in KINDS:
        text = pickle.loads(pickle.dumps(fitted(kind)))
        assert not set(ids(text, "a [PAD] [MASK] [SEP]b [CLS]")) & {PAD, CLS, SEP, 4}


def test_needs_training_and_text() -> None:
    with pytest.raises(SuiteError, match="BPE tokeniser has not been trained"):
        ids(Text(), "abc")
    for kind in KINDS:
        with pytest.raises(SuiteError, match=f"no text to train modality.tokenizer={kind}"):
            Text(tokenizer=kind).fit(iter([record("  "), record([])]))
        small = Text(tokenizer=kind, vocab_size=64)
        small.fit(iter([record("ab ab ba")]))
        assert UNK not in ids(small, "ab ba") and UNK in ids(small, "xyz")


def test_vocabulary_size_is_kept_with_more_letters_than_room() -> None:
    letters = "".join(map(chr, range(0x4E00, 0x4F00))) + "的" * 50 + "一" * 40
    for kind in KINDS:
        text = Text(tokenizer=kind, vocab_size=100)
        text.fit(iter([record(letters)]))
        assert len(text.vocabulary) <= 100
        assert text.vocabulary.tokens[:5] == SPECIAL_TOKENS and text.vocabulary.targets == (5, len(text.vocabulary))
        assert UNK not in ids(text, "的一")


def test_load_restores_and_refuses_another_kind(tmp_path: Path) -> None:
    text = fitted("bpe")
    text.save(tmp_path)
    again = Text(tokenizer="bpe", vocab_size=1500)
    assert again.fingerprint() != text.fingerprint()
    again.load(tmp_path)
    assert again.fingerprint() == text.fingerprint() and again.vocabulary == text.vocabulary
    assert ids(again, TEXTS[1]) == ids(text, TEXTS[1])
    with pytest.raises(SuiteError, match=r"holds a BPE tokeniser, modality\.tokenizer=wordpiece"):
        Text(tokenizer="wordpiece").load(tmp_path)
    with pytest.raises(SuiteError, match="does not exist"):
        Text().load(tmp_path / "nothing")
