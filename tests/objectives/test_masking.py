"""Hidden positions counted independently: their share, their lengths, and what overlapping k-mers tell of them."""

from __future__ import annotations

import itertools
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_suite.core import registry
from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record, Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.dna import DNA
from ssl_suite.models.embedders import embedder
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives import masking
from ssl_suite.objectives.bart import Denoising
from ssl_suite.objectives.mass import MaskedStretch
from ssl_suite.objectives.pairs import TRUE, NextArranger, OrderArranger
from ssl_suite.objectives.t5 import SpanCorruption
from tests.objectives.made_contents import Made

ROW, ROWS, SLOTS = 512, 4, 8
FULL, SPARSE = [[126] * 4, [250, 254], [510], [100, 150, 254]], [[60], [8, 20], [], [200]]  # ids of each sequence
GEOMETRIC = 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10)  # SpanBERT's lengths 1 to 10, written out


@cache
def modality(name: str) -> Modality:
    small = {"text": {"vocab_size": 300}, "image": {"size": 32, "patch": 4}, "kmer": {"tokenizer": "kmer", "k": 6}}
    made = registry.load(registry.MODALITIES, "modality", name.replace("kmer", "dna"))(**small.get(name, {}))
    if name == "text":
        words = "the whole of a reader's understanding depends on sentences being written plainly and simply"
        made.fit(iter([Record("a", [words] * 3, "a.txt")]))
    return made


def rows_of(of: Modality, contents: list[list[int]]) -> Batch:
    """Rows of random ids (and frames) between [CLS] and [SEP], each with its padding as a sequence of its own."""
    draw, v = np.random.default_rng(0), of.vocabulary
    if of.frame is not None and of.frame.grid is not None:
        contents = [[64] * (sum(row) // 66) for row in contents]  # pictures have one length
    values, lengths = np.zeros((len(contents), ROW), np.int64), np.zeros((len(contents), SLOTS), np.int64)
    for line, sizes, row in zip(values, lengths, contents, strict=True):
        place = 0
        for slot, size in enumerate(row):
            line[place : place + size + 2] = [v.cls, *draw.integers(*v.targets, size), v.sep]
            sizes[slot], place = size + 2, place + size + 2
        sizes[-1] = ROW - place
    flat = lengths.reshape(-1)
    frames = None
    if of.frame is not None:
        frames = torch.from_numpy(draw.integers(0, 200, (values.size, of.frame.width)).astype(of.frame.dtype))
    real = torch.from_numpy((lengths > 0) & (np.arange(SLOTS) < SLOTS - 1)).flatten()
    return Batch(
        values=torch.from_numpy(values.reshape(-1)),
        offsets_B1=torch.from_numpy(np.concatenate(([0], flat.cumsum()))).int(),
        max_length=ROW,
        lengths=tuple(flat.tolist()),
        real_B=real,
        index_B=torch.arange(len(flat)),
        tokens=int(flat[real.numpy()].sum()),
        squares=0,
        rows=len(contents),
        frames_NF=frames,
    )


def built(name: str, of: Modality, **settings: Any) -> tuple[Encoder, Any]:
    torch.manual_seed(0)
    frame = of.frame
    facts = {"features": frame.features, "grid": frame.grid} if frame else {}
    spec = EncoderSpec(1, 64, 1, 48, len(of.vocabulary), windows=(None,), thetas=(100.0,), **facts)
    encoder, cls = Encoder(spec, embedder(spec, of)), registry.load(registry.OBJECTIVES, "objective", name)
    given = {"modality": of, "spec": spec} | ({"encoder": encoder} if name in ("data2vec", "cbow") else {})
    given |= {} if name != "cbow" else {"spec": None}
    return encoder, cls(**{key: x for key, x in given.items() if x is not None}, **settings)


def hidden_N(encoder: Encoder, objective: Any, batch: Batch, rng: Rng) -> np.ndarray:
    """(N,) bool: what the objective hides or predicts, by whichever part of it draws the masks."""
    found = np.zeros(len(batch.values), bool)
    part = getattr(objective, "part", objective)
    if hasattr(part, "corrupt"):
        picks, labels, _ = part.corrupt(batch, rng)
        found[picks[labels != -100].numpy()] = True
    elif hasattr(part, "hide"):
        picks, valid, _ = part.hide(batch, rng)
        found[picks[valid].numpy()] = True
    elif hasattr(part, "alter"):
        found = part.alter(batch, encoder.embeddings.features(batch), rng)[1].numpy()
    elif hasattr(part, "draw"):
        picks = (part._starts(batch) + part.draw(batch, rng)[1]).flatten()
        found[picks[batch.real_B[batch.sequence_ids_N()[picks]]].numpy()] = True
    else:
        picks, valid = part.choose(batch, rng, masking.maskable_N(batch.values, part.vocabulary))
        found[picks[valid].numpy()] = True
    return found


MASKING: list[tuple[str, dict, tuple[str, ...], float]] = [
    ("mlm", {}, ("text", "dna", "kmer", "speech"), 0.15),
    ("mlm", {"mask_rate": 0.4, "span": 10}, ("speech", "image", "text"), 0.4),
    ("mlm", {"static": True}, ("text", "protein", "kmer"), 0.15),
    ("whole_word", {}, ("text",), 0.15),
    ("span", {}, ("text", "dna", "kmer", "image"), 0.15),
    ("nsp", {}, ("text", "dna"), 0.15),
    ("sop", {"span": "geometric"}, ("text", "kmer"), 0.15),
    ("electra", {}, ("text", "music"), 0.15),
    ("cbow", {"rate": 0.3}, ("text", "protein"), 0.3),
    ("data2vec", {}, ("dna", "music"), 0.15),
    ("data2vec", {}, ("speech", "image"), 0.5),
    ("frames", {}, ("speech",), 0.15),
    ("frames", {}, ("image",), 0.75),
]


@pytest.mark.parametrize(("name", "settings", "names", "rate"), MASKING)
def test_the_realised_share_is_the_rate_with_much_and_little_padding(name, settings, names, rate):
    """Hidden positions over content tokens in 30 batches, within five standard errors; nothing else is hidden."""
    for kind, contents in itertools.product(names, (FULL, SPARSE)):
        of = modality(kind)
        encoder, objective = built(name, of, **settings)
        batch, shares, sizes = rows_of(of, contents), [], set()
        low, high = of.vocabulary.targets
        content = ((batch.values >= low) & (batch.values < high)).numpy()
        for step in range(30):
            draws = Rng(step, 0, torch.arange(ROWS))  # static masks follow the seed
            hidden = hidden_N(encoder, objective, batch, draws)
            assert not (hidden & ~content).any(), (kind, "a special token or padding is hidden")
            shares.append(hidden.sum() / content.sum())
            if hasattr(objective, "masker"):
                sizes.add(len(objective.masker(batch, draws)[0]))
        assert len(sizes) <= 1  # K does not depend on the padding
        error = 5 * np.std(shares) / 30**0.5 + 1e-9
        assert abs(np.mean(shares) - rate) < error < 0.1, (kind, np.mean(shares))


def test_geometric_lengths_are_truncated_and_renormalised():
    """SpanBERT's: a mean of 3.80 words and 3.0 % of the spans at the longest, by chi-squared against the formula."""
    lengths = masking.span_lengths(Rng(0, 0, torch.arange(50)), 4000, "geometric").numpy()
    counts = np.bincount(lengths, minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    assert stats.chisquare(counts[1:], GEOMETRIC * len(lengths)).pvalue > 1e-4
    assert lengths.mean() == pytest.approx(3.797, abs=0.02) and counts[10] / len(lengths) == pytest.approx(
        0.030, abs=2e-3
    )


def chosen_spans(objective: Any, batch: Batch, step: int) -> tuple[list[int], list[int]]:
    """First and last position of each hidden span, as the mask marks them: touching spans are told apart."""
    draws = [Rng(0, step, torch.arange(batch.rows)) for _ in range(2)]
    picks, valid = objective.masker(batch, draws[0])
    head, size = objective.masker.spans(batch, masking.maskable_N(batch.values, objective.vocabulary), draws[1])
    first = picks[valid][head[picks[valid]] == picks[valid]]
    assert size[first].sum() == valid.sum()  # whole spans
    return first.tolist(), (first + size[first] - 1).tolist()


def test_spans_of_tokens_have_the_formula_s_lengths():
    """The first 50 spans of each sequence by chi-squared, and the mean of the hidden ones, whose last is a little
    shorter in each row because it must come near the budget."""
    objective, batch = built("span", modality("dna"))[1], rows_of(modality("dna"), [[510]] * 20)
    allowed, drawn, hidden = masking.maskable_N(batch.values, objective.vocabulary), [], []
    for step in range(20):
        head, size = objective.masker.spans(batch, allowed, Rng(0, step, torch.arange(20)))
        for row in range(20):
            own = slice(512 * row + 1, 512 * row + 511)
            drawn += size[own][head[own] == torch.arange(own.start, own.stop)][:50].tolist()
        firsts, lasts = chosen_spans(objective, batch, step)
        hidden += [last - first + 1 for first, last in zip(firsts, lasts, strict=True)]
    counts = np.bincount(drawn, minlength=11)
    assert len(counts) == 11 and stats.chisquare(counts[1:], GEOMETRIC * len(drawn)).pvalue > 1e-4
    assert np.mean(hidden) == pytest.approx(3.797, abs=0.1)
    assert np.mean(np.array(hidden) == 10) == pytest.approx(0.030, abs=0.006)


def test_spans_count_whole_words_and_start_at_words():
    """On text, by a loop over the tokens: spans begin and end with words, and hold as many as the formula says."""
    of = modality("text")
    objective, batch = built("span", of)[1], rows_of(of, [[510]] * 20)
    going_on = torch.tensor(sorted(of.vocabulary.continues))
    batch.values[::2] = torch.where(torch.isin(batch.values[::2], going_on), 5, batch.values[::2])  # words of 1 or 2
    assert 5 not in of.vocabulary.continues
    goes_on = [
        i > 0 and id_ in of.vocabulary.continues and before > 4
        for i, (before, id_) in enumerate(itertools.pairwise([0, *batch.values.tolist()]))
    ]
    assert 0.2 < np.mean(goes_on) < 0.5
    words = []
    for step in range(20):
        for first, last in zip(*chosen_spans(objective, batch, step), strict=True):
            assert not goes_on[first] and not goes_on[last + 1]
            words.append(goes_on[first : last + 1].count(False))
    assert max(words) == 10
    assert np.mean(words) == pytest.approx(3.797, abs=0.15)
    assert np.mean(np.array(words) == 10) == pytest.approx(0.030, abs=0.008)


@pytest.mark.parametrize("span", [3, 10])
def test_fixed_spans_are_whole_and_stand_anywhere(span):
    masker = masking.Masker(Vocabulary(tuple(map(str, range(20))), targets=(5, 9)), 0.5, span)
    batch = rows_of(SimpleNamespace(vocabulary=masker.vocabulary, frame=None), [[510]] * 4)
    allowed, starts = masking.maskable_N(batch.values, masker.vocabulary), set()
    for step in range(30):
        head, size = masker.spans(batch, allowed, Rng(0, step, torch.arange(4)))
        for row in range(4):
            sizes = size[512 * row + 1 : 512 * row + 511][(head == torch.arange(2048))[512 * row + 1 : 512 * row + 511]]
            assert (sizes[1:-1] == span).all() and sizes.sum() == 510
            starts.add(int(sizes[0]))
    assert starts == set(range(1, span + 1))


def letters_seen(shown: np.ndarray, mask: int, k: int) -> np.ndarray:
    """(letters,) bool: which letters of a sequence some visible k-mer spells."""
    seen = np.zeros(len(shown) + k - 1, bool)
    for place, token in enumerate(shown):
        if token >= 5 and token != mask:
            seen[place : place + k] = True
    return seen


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mlm", {}),
        ("mlm", {"span": 3}),
        ("mlm", {"span": "geometric", "mask_rate": 0.5}),
        ("mlm", {"static": True}),
        ("span", {}),
        ("sop", {}),
        ("nsp", {"span": "geometric"}),
        ("data2vec", {}),
    ],
)
@pytest.mark.parametrize("k", [3, 6])
def test_no_masked_k_mer_is_spelled_by_its_neighbours(name, settings, k):
    """Letter by letter: behind [MASK] at least one letter of each k-mer is seen nowhere, random and unchanged ones, N
    and the ends of sequences included."""
    dna = DNA(tokenizer="kmer", k=k)
    objective, batch = built(name, dna, **settings)[1], rows_of(dna, FULL)
    for start in range(37, 2048, 101):  # an N: k words are unknown
        batch.values[start : start + k].masked_fill_(batch.values[start : start + k] >= 5, 1)
    masked = 0
    for step in range(20):
        draws = Rng(0, step, torch.arange(ROWS))
        shown = (objective.hide if name == "data2vec" else objective.corrupt)(batch, draws)[2].numpy()
        for start, end in itertools.pairwise(batch.offsets_B1.tolist()):
            content = shown[start + 1 : end - 1]
            seen = letters_seen(content, 4, k)
            for place in np.flatnonzero(content == 4):
                assert not seen[place : place + k].all()
                masked += 1
    assert masked > 2000


class Genome:
    """Windows of 6-mers of random records, with the interface of ``data.arrange.Contents``."""

    def __init__(self, k: int, records: int = 1000) -> None:
        draw, dna = np.random.default_rng(0), DNA(tokenizer="kmer", k=k)
        letters = ["".join(draw.choice(list("ACGT"), 60)) for _ in range(records)]
        self.windows = [
            dna.encode(Record(str(i), text, "a.fa")).values.astype(np.int64) for i, text in enumerate(letters)
        ]
        self.dna = dna

    def ids(self, item: int) -> np.ndarray:
        return self.windows[item]

    def bounds(self, item: int) -> np.ndarray:
        return np.zeros(0, np.int64)

    def random_other_record(self, item: int, draw: np.random.Generator) -> int:
        return (item + 1 + int(draw.integers(len(self.windows) - 1))) % len(self.windows)


@pytest.mark.parametrize("arranger", [NextArranger, OrderArranger])
@pytest.mark.parametrize("k", [3, 6])
def test_letters_at_the_cut_do_not_tell_the_pair(arranger, k):
    """A rule that calls a pair true where the two words at the cut share a letter's place, for every possible shift, is
    right in half of the cases; with the words that stand at the cut it would be always."""
    contents, draw = Genome(k), np.random.default_rng(1)
    tokens, arrange = contents.dna.vocabulary.tokens, arranger(contents.dna.vocabulary)
    pairs = []
    for item in range(1000):
        for _ in range(2):
            made = arrange(contents, item, draw)
            ids, cut = made.source, int(np.flatnonzero(made.source == 3)[0])
            pairs.append((tokens[ids[cut - 1]], tokens[ids[cut + 1]], made.label == TRUE))
    for shift in range(1, k):  # the second word begins so many letters after the first
        right = np.mean([(a[shift:] == b[: k - shift]) == true for a, b, true in pairs])
        chance = 4.0 ** (shift - k)  # of agreeing by accident, the same for both labels
        assert abs(right - 0.5) < 5 * (0.25 / len(pairs)) ** 0.5 + chance / 2
        agree = [
            np.mean([a[shift:] == b[: k - shift] for a, b, true in pairs if true is label]) for label in (True, False)
        ]
        assert abs(agree[0] - agree[1]) < 5 * (2 * max(chance, 1e-3) / 1000) ** 0.5


@pytest.mark.parametrize(
    "arranger",
    [
        SpanCorruption,
        lambda v: Denoising(v, infill=0.3, mean_length=1.0),
        lambda v: Denoising(v, mask_rate=0.3),
        lambda v: Denoising(v, delete=0.3),
        lambda v: MaskedStretch(v, span=0.3, random_share=0.0),
    ],
)
@pytest.mark.parametrize("n", [9, 20, 100])
def test_the_source_of_a_decoder_spells_no_hidden_k_mer(arranger, n):
    """Each place is an id of its own, so what the source still shows is known: of k-mers that it lacks, one letter at
    least stands in none that it shows."""
    k, hidden = 6, 0
    vocabulary = Vocabulary(tuple(map(str, range(5 + n))), targets=(5, 5 + n), reach=k)
    ids, draw, arrange = np.arange(5, 5 + n), np.random.default_rng(0), arranger(vocabulary)
    for _ in range(200):
        source = arrange(Made([ids]), 0, draw).source[1:-1]
        shown = np.isin(ids, source)
        seen = letters_seen(np.where(shown, 5, 0), 4, k)
        for place in np.flatnonzero(~shown):
            assert not seen[place : place + k].all()
            hidden += 1
    assert hidden > 200


def test_context_of_a_bag_of_words_shares_no_letter():
    """CBOW's neighbours begin k positions away on both sides, as many as asked for."""
    _, objective = built("cbow", modality("kmer"), window=3)
    assert objective.steps_W.tolist() == [-8, -7, -6, 6, 7, 8]
    assert built("cbow", modality("dna"), window=3)[1].steps_W.tolist() == [-3, -2, -1, 1, 2, 3]


def test_electra_on_overlapping_k_mers_is_refused_with_a_remedy_that_works():
    with pytest.raises(SuiteError, match=r"gives it away. Set modality.stride=6, or use objective=mlm"):
        built("electra", modality("kmer"))
    built("electra", DNA(tokenizer="kmer", k=6, stride=6))
