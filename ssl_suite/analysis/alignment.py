"""Do languages lie on top of one another? Translations found by cosine among contextual vectors, layer by layer.

Mean reciprocal rank over dictionary pairs, after Cao et al. 2020 (arXiv:2002.03518) and Liu et al. 2020
(arXiv:2004.09205). Shapes: W words, S sentences, P pairs, L + 1 hidden states (0 is the embedder's output), D width.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ssl_suite.analysis import languages
from ssl_suite.analysis.languages import Languages
from ssl_suite.analysis.report import Colours, Report
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.data.loader import FRAME
from ssl_suite.data.recipes import bilingual
from ssl_suite.evaluation import encode, encoders, items, references
from ssl_suite.modalities import text_letters
from ssl_suite.settings import config

AT_ONCE = 2048  # positions of a forward pass: all layers' states of a pool of passes are in memory
FEWEST = 3  # places of a word of the copy in each half: a word met once is known by its neighbours
DRAWS = 1000  # of the bootstrap over words
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def measure(given: dict[str, Any], say: Callable[[str], None]) -> Report:
    """Read, train what is missing, encode, rank."""
    begun = time.monotonic()
    code = given["pair"].partition("-")[2]
    if given["encoder"] is None and code != languages.FAKE:
        raise SuiteError(f"encoder= is missing for pair={given['pair']}: add encoder=hf:NAME_OR_FOLDER or a run.")
    found = languages.read(code, given["sentences"], given["corpus"], given["place"])
    named = given["encoder"].split(",") if given["encoder"] else languages.trained(given, say)
    rows: list[dict[str, Any]] = []
    for text in named:
        reference = references.parse(text)
        modality = encoders.modality_for(reference, config.option("modality", "text"), "alignment")
        if modality.learns and reference.kind != "run":
            modality.fit(Record(str(i), one, "alignment") for i, one in enumerate([*found.en, *found.other]))
        for network in ("trained", "untrained"):
            if network == "trained" and reference.kind == "random":
                continue
            opened = encoders.open_encoder(reference, modality, given["seed"], network == "untrained")
            say(f"{reference.short}, {network}")
            shown = {"pair": given["pair"], "encoder": reference.short, "network": network}
            rows += [shown | row for row in _rows(found, opened.encoder, modality, given["prefix"], given["seed"])]
    return _report(rows, given, time.monotonic() - begun)


def _rows(found: Languages, encoder: Any, modality: Any, prefix: str, seed: int) -> list[dict[str, Any]]:
    """A row for each kind of context, direction and layer, and for the retrieval of sentences."""
    rows = []
    sides = {"disjoint": (found.en, found.other), "parallel": tuple(map(list, zip(*found.parallel, strict=True)))}
    wanted = [{pair[i] for pair in found.pairs} if found.pairs else None for i in (0, 1)]
    known_of = {
        contexts: [word_vectors(side, wanted[i], encoder, modality, prefix) for i, side in enumerate(texts)]
        for contexts, texts in sides.items()
    }
    # The same pairs for both kinds of context, so that their difference is that of the contexts.
    both = [set(known_of["disjoint"][i]) & set(known_of["parallel"][i]) for i in (0, 1)]
    pairs = found.pairs or [(word, bilingual.copied(word)) for word in known_of["disjoint"][0]]
    pairs = list(dict.fromkeys(pair for pair in pairs if pair[0] in both[0] and pair[1] in both[1]))
    if not pairs:
        raise SuiteError(f"pair=en-{found.code}: no pair of the dictionary stands in the sentences; take more.")
    for contexts, known in known_of.items():
        for direction, (one, two) in {"there": (0, 1), "back": (1, 0)}.items():
            mine = [(pair[one], pair[two]) for pair in pairs]
            facts = {"what": "words", "contexts": contexts, "direction": direction}
            rows += [facts | row for row in ranked(known[one], known[two], mine, seed)]
    vectors = [_sentence_vectors(list(side), encoder, modality, prefix) for side in zip(*found.parallel, strict=True)]
    for direction, (one, two) in {"there": (0, 1), "back": (1, 0)}.items():
        for layer in range(vectors[0].shape[1]):
            cosines_SS = unit(vectors[one][:, layer]) @ unit(vectors[two][:, layer]).T
            ranks_S = mid_ranks(cosines_SS, np.arange(len(cosines_SS)))
            right = (ranks_S >= 1) & (ranks_S < 1.5)
            rows.append(
                {"what": "sentences", "contexts": "parallel", "direction": direction, "layer": layer}
                | {"score": float(right.mean()), "of": len(right), "chance": 1 / len(right)}
            )
    return rows


def word_vectors(
    sentences: Sequence[str], wanted: set[str] | None, encoder: Any, modality: Any, prefix: str = ""
) -> dict[str, np.ndarray]:
    """(L + 1, D) of each word: the mean over its places of the mean state of its tokens.

    Args:
        wanted: words to look for; None takes every word with at least ``FEWEST`` places.
    """
    look = _finder(wanted)
    made, places = [], []
    for number, sentence in enumerate(sentences):
        ids_T, spans_T2, text = modality.located(Record(str(number), prefix + sentence, "alignment"))
        low = text.lower()
        room = modality.max_length - FRAME
        mine = []
        for word, start, end in look(low) if len(low) == len(text) else ():
            inside = np.flatnonzero((spans_T2[:, 0] < end) & (spans_T2[:, 1] > start))
            if start >= len(prefix) and len(inside) and inside[-1] < room:
                mine.append((word, inside))
        if mine:
            made.append(items.Sequence(ids_T[:room]))
            places.append(mine)
    sums: dict[str, Any] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for i, states_TLD in encode.states(encoder, modality, enumerate(made), "position", at_once=AT_ONCE):
        for word, inside in places[i]:
            sums[word] += states_TLD[inside].mean(0, dtype=np.float64)
            counts[word] += 1
    least = FEWEST if wanted is None else 1
    return {word: sums[word] / counts[word] for word in sums if counts[word] >= least}


def _finder(wanted: set[str] | None) -> Callable[[str], list[tuple[str, int, int]]]:
    """What gives the wanted words of a lower-case text, with their places.

    Words of scripts without spaces are found as letters, the longest first; of one letter they are left out, as a part
    of many others.
    """
    dense = sorted((w for w in wanted or () if text_letters.unspaced(w) and len(w) > 1), key=lambda w: (-len(w), w))
    inside = re.compile("|".join(map(re.escape, dense))) if dense else None

    def look(text: str) -> list[tuple[str, int, int]]:
        whole = [(m[0], *m.span()) for m in WORD.finditer(text) if wanted is None or m[0] in wanted]
        whole = [one for one in whole if not text_letters.unspaced(one[0])]
        return whole + [(m[0], *m.span()) for m in inside.finditer(text)] if inside else whole

    return look


def _sentence_vectors(sentences: list[str], encoder: Any, modality: Any, prefix: str) -> np.ndarray:
    """(S, L + 1, D): the mean of each sentence's states."""
    room = modality.max_length - FRAME
    made = [
        items.Sequence(modality.located(Record(str(i), prefix + one, "alignment"))[0][:room])
        for i, one in enumerate(sentences)
    ]
    return np.stack([one for _, one in encode.states(encoder, modality, enumerate(made), at_once=AT_ONCE)])


def ranked(
    source: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], seed: int
) -> list[dict[str, Any]]:
    """A row a layer: the mean reciprocal rank of each pair's target among the target words of all pairs.

    Other translations of the same word are no rivals; equal cosines share their ranks. ``chance`` is the expectation
    of random ranks, the interval a bootstrap over source words.
    """
    words = [list(dict.fromkeys(pair[i] for pair in pairs)) for i in (0, 1)]
    number = [{word: i for i, word in enumerate(some)} for some in words]
    at_P2 = np.array([[number[i][pair[i]] for i in (0, 1)] for pair in pairs])
    gold_WW = np.zeros((len(words[0]), len(words[1])), bool)
    gold_WW[at_P2[:, 0], at_P2[:, 1]] = True
    rivals_P = len(words[1]) + 1 - gold_WW[at_P2[:, 0]].sum(1)
    chance = float(np.mean([(1 / np.arange(1, n + 1)).sum() / n for n in rivals_P]))
    draws = np.random.default_rng(seed).integers(len(words[0]), size=(DRAWS, len(words[0])))
    rows = []
    for layer in range(len(next(iter(source.values())))):
        left, right = (
            unit(np.stack([known[word][layer] for word in some]))
            for known, some in zip((source, target), words, strict=True)
        )
        cosines_PW = (left @ right.T)[at_P2[:, 0]]
        own_P = cosines_PW[np.arange(len(pairs)), at_P2[:, 1]].copy()
        cosines_PW = np.where(gold_WW[at_P2[:, 0]], -np.inf, cosines_PW)
        cosines_PW[np.arange(len(pairs)), at_P2[:, 1]] = own_P
        reciprocal_P = 1 / mid_ranks(cosines_PW, at_P2[:, 1])
        sums_W = np.bincount(at_P2[:, 0], reciprocal_P, len(words[0]))
        counts_W = np.bincount(at_P2[:, 0], minlength=len(words[0]))
        low, high = np.quantile(sums_W[draws].sum(1) / counts_W[draws].sum(1), (0.025, 0.975))
        rows.append(
            {"layer": layer, "score": float(reciprocal_P.mean()), "low": float(low), "high": float(high)}
            | {"of": len(pairs), "candidates": len(words[1]), "chance": chance}
        )
    return rows


def unit(vectors_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1; of a zero vector zeros."""
    norms_N1 = np.linalg.norm(vectors_ND.astype(np.float64), axis=1, keepdims=True)
    return np.divide(vectors_ND, norms_N1, out=np.zeros(vectors_ND.shape), where=norms_N1 > 0)


def mid_ranks(scores_NW: np.ndarray, own_N: np.ndarray) -> np.ndarray:
    """(N,) the rank of each row's own column, 1 the highest; among equal scores the middle one."""
    own_N1 = scores_NW[np.arange(len(own_N)), own_N][:, None]
    close_NW = np.abs(scores_NW - own_N1) <= 1e-12  # of two computations of the same vector
    return ((scores_NW > own_N1) & ~close_NW).sum(1) + (close_NW.sum(1) + 1) / 2


def best(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any]:
    """Of the rows with these values that of the highest score."""
    mine = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return max(mine, key=lambda row: row["score"])


def _report(rows: list[dict[str, Any]], given: Mapping[str, Any], seconds: float) -> Report:
    summary, answer = [], []
    shown = list(dict.fromkeys((row["encoder"], row["network"]) for row in rows))
    for encoder, network in shown:
        mine = [row for row in rows if row["encoder"] == encoder and row["network"] == network]
        there, back = (best(mine, what="words", contexts="disjoint", direction=way) for way in ("there", "back"))
        zero = best(mine, what="words", contexts="disjoint", direction="there", layer=0)
        parallel = best(mine, what="words", contexts="parallel", direction="there")
        said = best(mine, what="sentences", direction="there")
        summary.append(
            {"encoder": encoder, "network": network, "MRR": there["score"], "low": there["low"], "high": there["high"]}
            | {"layer": there["layer"], "back": back["score"], "layer 0": zero["score"], "parallel": parallel["score"]}
            | {"chance": there["chance"], "pairs": there["of"], "sentences found": said["score"], "of": said["of"]}
        )
        if network == "trained":
            answer.append(
                f"{given['pair']}, {encoder}: MRR {there['score']:.3f} ({there['low']:.3f} to {there['high']:.3f}) at "
                f"layer {there['layer']} and {zero['score']:.3f} at layer 0, of {there['of']:,} pairs in sentences "
                f"that do not translate each other (chance {there['chance']:.3f}); in sentences that do "
                f"{parallel['score']:.3f}. "
                f"Of {said['of']:,} sentences {said['score']:.1%} find their translation first."
            )
    notes = [
        "MRR: the mean of 1 / rank of a word's translation among all target words by cosine; identical strings are "
        "left out, other translations of the same word are no rivals, equal cosines share their ranks.",
        "The best layer is chosen on the same pairs; every layer, direction and control is in the CSV.",
        f"{given['sentences']:,} sentences of each language at most; seed {given['seed']}; {seconds:.0f} s.",
    ]
    if given["pair"] == "en-fake":
        notes.append(
            "The copy is English in the letters of another script: no token is shared but the special ones, the halves "
            "are other documents, and every word has a known translation (Dufter and Schütze 2020)."
        )
    name = f"alignment-{given['pair']}"
    figures = {f"{name}-layers": partial(_draw, rows)}
    captions = {
        f"{name}-layers": "MRR by layer. Solid: disjoint sentences, with 95 % intervals over words; dashed: translated "
        "sentences; dotted: the same network untrained; grey: chance."
    }
    settings = {key: given[key] for key in ("encoder", "pair", "tokens", "sentences", "prefix", "seed", "budget")}
    return Report(
        name, f"Do {given['pair'].replace('-', ' and ')} lie on top of one another?",
        answer or ["No trained encoder was given."], rows, figures, notes, given["command"], settings,
        {"Best layers": summary}, captions,
    )  # fmt: skip


def _draw(rows: Sequence[Mapping[str, Any]], figure: Any, colours: Colours) -> None:
    axes = figure.subplots()
    words = [row for row in rows if row["what"] == "words" and row["direction"] == "there"]
    for colour, encoder in zip(colours.series * 4, dict.fromkeys(row["encoder"] for row in words), strict=False):
        kinds = {("trained", "disjoint"): "-", ("trained", "parallel"): "--", ("untrained", "disjoint"): ":"}
        for (network, contexts), style in kinds.items():
            line = [r for r in words if (r["encoder"], r["network"], r["contexts"]) == (encoder, network, contexts)]
            if not line:
                continue
            layers = [row["layer"] for row in line]
            label = encoder if style == "-" else None
            axes.plot(
                layers, [row["score"] for row in line], style, color=colour, label=label, marker="o", markersize=3
            )
            if style == "-":
                low, high = ([row[key] for row in line] for key in ("low", "high"))
                axes.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(words[0]["chance"], color=colours.soft, linewidth=0.8, label="chance")
    for style, label in {"--": "translated sentences", ":": "untrained"}.items():
        axes.plot([], [], style, color=colours.soft, label=label)
    axes.set(xlabel="layer (0: the embedder's output)", ylabel="mean reciprocal rank", ylim=(0, 1.02))
    axes.legend(fontsize=9)
