"""Protein tokens against naive loops and their Hugging Face tokenisers; what is refused, and why."""

from __future__ import annotations

import gzip
import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.records import SPECIAL_TOKENS, Record
from ssl_suite.modalities.dna import DNA
from ssl_suite.modalities.protein import PIECE, Protein
from tests.modalities.fuzz import stop, survive

RESIDUES, CODES = "ACDEFGHIKLMNPQRSTVWY", "XBZJUO"
ORDER = [*SPECIAL_TOKENS, *RESIDUES, *CODES, "*", "-"]
CLS, SEP = 2, 3
FUZZED = {".fa": 2000, ".fa.gz": 500, ".csv": 500, ".parquet": 2000}
SAMPLE = "samples/protein/swissprot2014_2900.fa.gz"


def encoded(protein: Protein, text: str) -> list[int]:
    return protein.encode(Record("r", text, "x.fa")).values.tolist()


def random_protein(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list(RESIDUES), length))


def fitted_bpe(**settings: object) -> Protein:
    protein = Protein(tokenizer="bpe", vocab_size=200, **settings)  # type: ignore[arg-type]
    protein.fit(iter([Record(str(i), random_protein(400, i) + "XB" + "MKTAYIAK" * 9, "x.fa") for i in range(40)]))
    return protein


def naive(text: str, ambiguous: str, soft_mask: str, stops: str, gaps: str) -> tuple[str, dict[str, int]]:
    """What becomes tokens, letter by letter, and the counts."""
    last = max(i for i, letter in enumerate(text) if letter not in "*-.")
    out, cut = "", False
    kinds = ("residues", "ambiguous", "final_stops", "inner_stops", "behind_stop", "gaps", "soft_masked")
    counts = dict.fromkeys(kinds, 0)
    for i, letter in enumerate(text):
        counts["ambiguous"] += letter.upper() in CODES
        if letter in "-.":
            counts["gaps"] += 1
            out += "-" if gaps == "keep" and not cut else ""
        elif letter == "*":
            counts["final_stops" if i > last else "inner_stops"] += 1
            cut = cut or (stops == "cut" and i < last)
            out += "*" if i < last and not cut else ""
        elif cut:
            counts["behind_stop"] += 1
        else:
            counts["residues"] += 1
            counts["soft_masked"] += letter.islower() and soft_mask == "x"
            read = "X" if ambiguous == "x" and letter.upper() in CODES else letter.upper()
            out += "X" if letter.islower() and soft_mask == "x" else read
    return out, {name: count for name, count in counts.items() if count}


@settings(deadline=None, max_examples=300)
@given(
    st.text(alphabet=RESIDUES + CODES + (RESIDUES + CODES).lower() + "*-." * 6, max_size=60),
    st.sampled_from(["keep", "x"]),
    st.sampled_from(["upper", "x"]),
    st.sampled_from(["keep", "cut"]),
    st.sampled_from(["drop", "keep"]),
)
def test_residue_tokens(text: str, ambiguous: str, soft_mask: str, stops: str, gaps: str) -> None:
    protein = Protein(ambiguous=ambiguous, soft_mask=soft_mask, stops=stops, gaps=gaps)  # type: ignore[arg-type]
    text = "MW" + text
    expected, counts = naive(text, ambiguous, soft_mask, stops, gaps)
    assert encoded(protein, text) == [ORDER.index(letter) for letter in expected]
    found = protein.encode(Record("r", text, "x.fa")).counts
    assert {name: count for name, count in found.items() if count} == counts


def test_vocabulary() -> None:
    vocabulary = Protein().vocabulary
    assert list(vocabulary.tokens) == ORDER
    low, high = vocabulary.targets
    assert "".join(vocabulary.tokens[low:high]) == RESIDUES


@pytest.mark.parametrize(
    ("settings_", "text", "tokens"),
    [
        ({}, "MKT*", "MKT"),
        ({}, "MKT*LV**", "MKT*LV"),
        ({}, "*MKT", "*MKT"),
        ({}, "mk-t..-*--", "MKT"),
        ({"gaps": "keep"}, "mk.t-*-", "MK-T--"),
        ({"stops": "cut"}, "MKT*LV*", "MKT"),
        ({"soft_mask": "x"}, "MkTb", "MXTX"),
        ({"ambiguous": "x"}, "MBZJUOX", "MXXXXXX"),
    ],
)
def test_stops_gaps_and_codes(settings_: dict, text: str, tokens: str) -> None:
    assert encoded(Protein(**settings_), text) == [ORDER.index(letter) for letter in tokens]


@pytest.mark.parametrize(
    ("settings_", "text", "message"),
    [
        ({}, "MKT1LV?", r"1, \? \(first at position 4\) are not protein; remove what is no residue"),
        ({}, "MKTß", r"ß \(first at position 4\) is not protein"),
        ({}, "MK T", r"' ' \(first at position 3\)"),
        ({}, "--*.", "has no residue"),
        ({"stops": "cut"}, "*MKT", "has no residue"),
        ({"stops": "error"}, "MK*T*", r"\* at position 3 is a stop inside a protein; set modality.stops=keep or cut"),
        ({"gaps": "error"}, "MK.T-", r"\. at position 3 is a gap; set modality.gaps=drop or keep"),
        ({"ambiguous": "error"}, "MKuTX", r"U at position 3 is a code .* set modality.ambiguous=keep or x"),
        ({}, "ACGTTGCAACGTTGCATTGACA", r"its 22 letters are A, C, G, T or N .* use modality=dna"),
        ({}, "acguugcaacguugcauugaca", "use modality=dna"),
        ({}, "ACGTTGCAACGTTGCATTGANNNRYACGATACCAGTA", "use modality=dna"),
    ],
)
def test_what_is_refused(settings_: dict, text: str, message: str) -> None:
    with pytest.raises(BadRecord, match=message) as caught:
        encoded(Protein(**settings_), text)
    assert str(caught.value).startswith("x.fa: record 'r': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["AATAATAATAATAATAATAATAATAATAATA", "GAGAGAGAGAGAGAGAGAGAGAGA", "ACGTACGTACGTACGTACG"])
def test_odd_and_short_proteins_are_not_taken_for_dna(text: str) -> None:
    assert len(encoded(Protein(), text)) == len(text)  # P02732, a stretch of silk, and 19 letters


def test_dna_and_protein_name_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="use modality=protein"):
        DNA().encode(Record("r", random_protein(60), "x.fa"))
    reads = tmp_path / "x.fq"
    reads.write_text("@r\nACGTTGCAACGTTGCATTGACA\n+\n" + "I" * 22 + "\n")
    (record,) = Protein().read(reads, stop)
    with pytest.raises(BadRecord, match=r"x\.fq: record 'r': .* use modality=dna") as caught:
        Protein().encode(record)
    assert caught.value.reason == "DNA given as protein"


def test_genpept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.gp"
    path.write_text(
        "LOCUS       NP_1  12 aa  linear  PRI 01-JAN-2020\nDEFINITION  x.\nACCESSION   NP_1\nVERSION     NP_1.1\n"
        "ORIGIN\n        1 mktayiakqr qi\n//\n"
    )
    (record,) = Protein().read(path, stop)
    assert (record.name, encoded(Protein(), record.data)) == ("NP_1.1", encoded(Protein(), "MKTAYIAKQRQI"))


def test_bpe_spells_its_input_and_is_shorter() -> None:
    protein = fitted_bpe()
    text = "MKTAYIAK" * 200 + "XX" + random_protein(3000, 99) + "*" + random_protein(50, 98)
    values = protein.encode(Record("r", text, "x.fa")).values
    assert protein.decode(values) == text
    assert len(text) > 10 * PIECE
    assert len(values) < 0.75 * len(text)
    low, high = protein.vocabulary.targets
    assert len(protein.vocabulary) == high == 200
    assert sorted(protein.vocabulary.tokens[5:low]) == sorted([*CODES, "*", "-"])
    assert all(set(token) <= set(RESIDUES) for token in protein.vocabulary.tokens[low:high])
    assert encoded(pickle.loads(pickle.dumps(protein)), text) == values.tolist()


def test_bpe_needs_training() -> None:
    with pytest.raises(SuiteError, match="has not been trained"):
        encoded(Protein(tokenizer="bpe"), "MKT")
    with pytest.raises(SuiteError, match="no two neighbouring residues"):
        Protein(tokenizer="bpe").fit(iter([Record("r", "M", "x.fa")]))


@pytest.mark.parametrize("make", [Protein, fitted_bpe])
@pytest.mark.parametrize("settings_", [{}, {"ambiguous": "x", "gaps": "keep"}, {"soft_mask": "x"}, {"stops": "cut"}])
def test_auto_tokenizer_gives_the_same_ids(tmp_path: Path, make, settings_: dict) -> None:
    from transformers import AutoTokenizer

    protein = make(**settings_, max_length=77)
    protein.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    draw = np.random.default_rng(3)
    plenty = list(RESIDUES * 4 + RESIDUES.lower() + CODES + CODES.lower() + "-.*")
    for length in (1, 4, 63, 257, 803):
        for end in ("", "*", "-*.*-"):
            text = "M" + "".join(draw.choice(plenty, length)) + end
            assert tokenizer(text)["input_ids"] == [CLS, *encoded(protein, text), SEP]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == list(protein.vocabulary.tokens)
    assert tokenizer.model_max_length == 77
    masked = tokenizer("MKTAY[MASK]WVHHC")["input_ids"]
    assert masked == [CLS, *encoded(protein, "MKTAY"), 4, *encoded(protein, "WVHHC"), SEP]


def test_load_restores_a_bpe_and_refuses_another_vocabulary(tmp_path: Path) -> None:
    protein = fitted_bpe()
    protein.save(tmp_path)
    again = Protein(tokenizer="bpe", vocab_size=200)
    assert again.fingerprint() != protein.fingerprint()
    again.load(tmp_path)
    text = random_protein(500, seed=9)
    assert encoded(again, text) == encoded(protein, text)
    assert again.fingerprint() == protein.fingerprint()
    with pytest.raises(SuiteError, match="tokeniser has 200 tokens"):
        Protein().load(tmp_path)


@pytest.mark.parametrize("make", [Protein, fitted_bpe])
def test_identity_and_kin(make) -> None:
    protein = make()
    text = random_protein(300, seed=4)
    text = text[:150] + "X" + text[150:] + text[:20]
    values = protein.encode(Record("r", text, "x")).values
    assert protein.identity(values) == protein.identity(values.astype(np.uint16))  # as a store may hold it
    assert protein.identity(values) != protein.identity(values[::-1])
    assert len(protein.identity(values)) == 16
    words = {text[i : i + 6] for i in range(len(text) - 5)}
    words = {word for word in words if "X" not in word}
    numbers = [sum(RESIDUES.index(letter) << 5 * (5 - i) for i, letter in enumerate(word)) for word in words]
    found = protein.near_duplicate_features(values)
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(numbers)
    assert len(protein.near_duplicate_features(values[:1])) == 0


def test_the_sample_is_protein_and_is_found() -> None:
    path = resources.folder("samples").parent / SAMPLE
    protein, faults = Protein(), FaultCounter("stop")
    total = np.zeros(len(protein.vocabulary), dtype=np.int64)
    names = []
    for record in protein.read(path, faults):
        names.append(record.name)
        total += np.bincount(protein.encode(record).values, minlength=len(total))
    assert (len(names), int(total.sum())) == (2900, 962_855)
    assert dict(zip("XBZU", total[[25, 26, 27, 29]].tolist(), strict=True)) == {"X": 41, "B": 7, "Z": 6, "U": 2}
    assert path.stat().st_size <= 600_000
    assert path.name.endswith(protein.suffixes)


def valid_files() -> dict[str, list[bytes]]:
    rows = {f"P{i:05d}": random_protein(40 + 9 * i, i) for i in range(4)}
    fasta = "".join(f">{name} a protein\n{text[:60]}\n{text[60:]}*\n" for name, text in rows.items()).encode()
    table = "accession,sequence\n" + "".join(f"{name},{text}\n" for name, text in rows.items())
    parquet = io.BytesIO()
    pq.write_table(pa.table({"accession": list(rows), "sequence": list(rows.values())}), parquet)
    packed = gzip.compress(fasta, mtime=0)
    return {
        ".fa": [fasta, fasta.lower()],
        ".fa.gz": [packed],
        ".csv": [table.encode()],
        ".parquet": [parquet.getvalue()],
    }


@pytest.mark.parametrize("suffix", FUZZED)
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    seen = survive(Protein(), suffix, valid_files()[suffix], tmp_path, count=FUZZED[suffix])
    assert 0 < seen["loaded"] < FUZZED[suffix], seen
