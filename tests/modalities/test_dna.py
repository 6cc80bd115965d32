"""DNA tokens against naive loops, their Hugging Face tokenisers, and random views against string operations."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import SPECIAL_TOKENS, Record
from ssl_suite.modalities.dna import DNA, PIECE
from ssl_suite.modalities.dna_letters import AMBIGUOUS, BASES, LETTERS
from tests.modalities.made import encoded, fitted_bpe, random_bases

IUPAC = st.text(alphabet=LETTERS + "U" + (LETTERS + "U").lower(), max_size=200)
KMERS = [{"tokenizer": "kmer", "k": k, "stride": stride} for k, stride in ((2, 1), (3, 3), (6, 1), (6, 6), (8, 1))]
PAD, UNK, CLS, SEP = 0, 1, 2, 3


def naive_spelling(text: str, ambiguous: str, soft_mask: str) -> str:
    out = ""
    for letter in text:
        read = letter.upper().replace("U", "T")
        if (letter.islower() and soft_mask == "n") or (read not in BASES and ambiguous == "n"):
            read = "N"
        out += read
    return out


@settings(deadline=None, max_examples=60)
@given(IUPAC, st.sampled_from(["n", "keep"]), st.sampled_from(["upper", "n"]))
def test_base_tokens(text: str, ambiguous: str, soft_mask: str) -> None:
    dna = DNA(ambiguous=ambiguous, soft_mask=soft_mask)  # type: ignore[arg-type]
    text = text + BASES * 60  # never mostly ambiguity codes, which would be taken for protein
    order = [*SPECIAL_TOKENS, *"ACGT", *"NRYSWKMBDHV"]
    assert dna.vocabulary.tokens == tuple(order)
    assert encoded(dna, text) == [order.index(letter) for letter in naive_spelling(text, ambiguous, soft_mask)]
    counts = dna.encode(Record("r", text, "x.fa")).counts
    assert counts["bases"] == len(text)
    assert counts["ambiguous"] == sum(letter.upper() in AMBIGUOUS for letter in text)
    assert counts.get("soft_masked", 0) == (sum(map(str.islower, text)) if soft_mask == "n" else 0)
    low, high = dna.vocabulary.targets
    assert "".join(order[low:high]) == "ACGT"


@pytest.mark.parametrize("settings_", KMERS, ids=str)
@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 8, 61])
def test_kmers(settings_: dict, length: int) -> None:
    dna, k, stride = DNA(**settings_), settings_["k"], settings_["stride"]
    text = random_bases(length)
    text = text[: length // 2] + ("N" if length > 6 else "") + text[length // 2 :]
    words = [text[i : i + k] for i in range(0, len(text) - k + 1, stride)]
    tokens = dna.vocabulary.tokens
    assert encoded(dna, text) == [tokens.index(word) if "N" not in word else UNK for word in words]
    counts = dna.encode(Record("r", text, "x.fa")).counts
    assert counts["unknown"] == sum("N" in word for word in words)
    assert counts["dropped"] == (len(text) - k * len(words) if stride == k else 0)
    assert dna.vocabulary.reach == (k if stride == 1 else 1)
    assert len(tokens) == 5 + 4**k
    assert dna.vocabulary.targets == (5, 5 + 4**k)


def test_bpe_spells_its_input_and_is_shorter() -> None:
    dna = fitted_bpe()
    text = random_bases(3000, seed=5) + "N" * 9 + random_bases(333, seed=6)
    values = dna.encode(Record("r", text, "x.fa")).values
    assert dna.decode(values) == text
    assert len(values) < 0.5 * len(text)
    low, high = dna.vocabulary.targets
    assert len(dna.vocabulary) == high == 100
    assert set(dna.vocabulary.tokens[5:low]) == set(AMBIGUOUS)
    assert all(set(token) <= set(BASES) for token in dna.vocabulary.tokens[low:high])


def test_bpe_gives_a_long_record_the_ids_of_the_undivided_text() -> None:
    dna = fitted_bpe()
    text = random_bases(70_000, seed=7) + "NN" + random_bases(70_001, seed=8)  # longer than what is given at a time
    whole = dna._bpe.encode(text, add_special_tokens=False).ids
    assert encoded(dna, text) == whole
    assert PIECE * 1024 < 70_000


def test_bpe_needs_training() -> None:
    with pytest.raises(SuiteError, match="has not been trained"):
        encoded(DNA(tokenizer="bpe"), "ACGT")
    with pytest.raises(SuiteError, match="no two neighbouring bases"):
        DNA(tokenizer="bpe").fit(iter([Record("r", "A", "x.fa")]))


@pytest.mark.parametrize("make", [DNA, lambda **s: DNA(tokenizer="kmer", k=4, stride=4, **s), fitted_bpe])
@pytest.mark.parametrize("ambiguous", ["n", "keep"])
@pytest.mark.parametrize("soft_mask", ["upper", "n"])
def test_auto_tokenizer_gives_the_same_ids(tmp_path: Path, make, ambiguous: str, soft_mask: str) -> None:
    from transformers import AutoTokenizer

    dna = make(ambiguous=ambiguous, soft_mask=soft_mask, max_length=77)
    dna.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    draw = np.random.default_rng(3)
    plenty = list(BASES * 6 + "U" + BASES.lower() * 2 + "u" + AMBIGUOUS + AMBIGUOUS.lower())
    for length in (1, 4, 63, 64, 65, 1003):
        text = "".join(draw.choice(plenty, length)) + BASES * 4
        assert tokenizer(text)["input_ids"] == [CLS, *encoded(dna, text), SEP]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == list(dna.vocabulary.tokens)
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert (*special, tokenizer.mask_token_id) == (0, 1, 2, 3, 4)
    assert tokenizer.model_max_length == 77
    assert len(tokenizer("ACGT" * 200, truncation=True)["input_ids"]) <= 77
    masked = tokenizer("ACGT[MASK]ACGT")["input_ids"]
    assert masked == [CLS, *encoded(dna, "ACGT"), 4, *encoded(dna, "ACGT"), SEP]


def test_auto_tokenizer_of_overlapping_kmers_reads_words(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    dna = DNA(tokenizer="kmer", k=3)
    dna.save(tmp_path)
    values = dna.encode(Record("r", "ACGTNACGT", "x.fa")).values
    assert dna.decode(values) == "ACG CGT [UNK] [UNK] [UNK] ACG CGT"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(dna.decode(values))["input_ids"] == [CLS, *values.tolist(), SEP]


def test_load_restores_a_bpe_and_refuses_another_vocabulary(tmp_path: Path) -> None:
    dna = fitted_bpe()
    dna.save(tmp_path)
    again = DNA(tokenizer="bpe", vocab_size=100)
    assert again.fingerprint() != dna.fingerprint()
    again.load(tmp_path)
    text = random_bases(500, seed=9)
    assert encoded(again, text) == encoded(dna, text)
    assert again.fingerprint() == dna.fingerprint()
    with pytest.raises(SuiteError, match="tokeniser has 100 tokens"):
        DNA().load(tmp_path)
    with pytest.raises(SuiteError, match="does not exist"):
        DNA().load(tmp_path / "nothing")


def test_pickles_with_its_tokeniser() -> None:
    dna = fitted_bpe()
    copy = pickle.loads(pickle.dumps(dna))
    assert encoded(copy, "ACGTTTACG") == encoded(dna, "ACGTTTACG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACGTMKVLEF", "L, E, F|E, F, L"),
        ("ACGTACGTACL", r"L \(first at position 11\) is not DNA; if this is protein, use modality=protein"),
        ("MKTAYSV" * 3, "ambiguity codes .* if this is protein, use modality=protein"),
        ("ACG-T", r"- \(first at position 4\) is not DNA; take the gaps"),
        ("ACGé", "not DNA"),
    ],
)
def test_what_is_not_dna_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadRecord, match=message) as caught:
        encoded(DNA(), text)
    assert str(caught.value).startswith("x.fa: record 'r': ")
    assert "\n" not in str(caught.value)


def test_ambiguity_codes_can_be_refused() -> None:
    dna = DNA(ambiguous="error")
    assert encoded(dna, "ACGT") == [5, 6, 7, 8]
    with pytest.raises(BadRecord, match="N at position 3 is an ambiguity code"):
        encoded(dna, "ACnTR")


@pytest.mark.parametrize(
    "make", [DNA, lambda: DNA(tokenizer="kmer", k=3), lambda: DNA(tokenizer="kmer", k=3, stride=3), fitted_bpe]
)
def test_identity_is_that_of_the_reverse_complement(make) -> None:
    dna = make()
    text = random_bases(300, seed=4)
    other = random_bases(300, seed=5)
    turned = str(Seq(text).reverse_complement())
    one, two, three = (dna.identity(dna.encode(Record("r", t, "x")).values) for t in (text, turned, other))
    assert one == two != three
    assert len(one) == 16
    stored = dna.encode(Record("r", text, "x")).values.astype(np.uint16)  # as a store may hold it
    assert dna.identity(stored) == one


def test_complement_of_every_letter_agrees_with_biopython() -> None:
    dna = DNA(ambiguous="keep")
    ids = encoded(dna, LETTERS * 2 + BASES * 20)
    turned = dna.opposite[np.asarray(ids)[::-1]]
    assert dna.decode(turned) == str(Seq(dna.decode(np.asarray(ids))).reverse_complement())


@pytest.mark.shared
def test_the_whole_yeast_genome() -> None:
    import os

    dna = DNA()
    path = Path(os.environ["SSL_DATA_DIR"]) / "bio/pretrain/yeast_R64-1-1_genome.parquet"
    total = np.zeros(len(dna.vocabulary), dtype=np.int64)

    def stop(error: SuiteError) -> None:
        raise error

    for record in dna.read(path, stop):
        total += np.bincount(dna.encode(record).values, minlength=len(total))
    assert total[5:9].tolist() == [3766349, 2320576, 2317100, 3753080]
    assert total.sum() == 12_157_105
