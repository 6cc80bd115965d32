"""What the vectors of symbols mean before any context: a run's embedding table.

Words: their nearest neighbours. Residues: whether those that evolution exchanges lie close, as BLOSUM62 has it
(Henikoff & Henikoff 1992). Shapes: V symbols, D width.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.analysis.report import Colours, Report
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.records import Record
from ssl_suite.evaluation import encoders, pretrain, references
from ssl_suite.modalities.protein_letters import RESIDUES
from ssl_suite.settings import config
from ssl_suite.settings.run_reference import CONFIG, split

SHUFFLES = 999
NEAREST = 8


def measure(given: Mapping[str, Any], out: Path, say: Callable[[str], None]) -> Report:
    """Open the run, or train CBOW in ``out`` where none is given; compare its vectors.

    Raises:
        SuiteError: the encoder has no table, or a word is none of its symbols.
    """
    begun = time.monotonic()
    reference = references.parse(given["encoder"] or _trained(given, out, say))
    if reference.kind != "run":
        raise SuiteError(f"encoder={reference.short} is no run; its table is of pieces that others chose. Name a run.")
    folder, _ = split(reference.name)
    cfg = config.read_run(folder / CONFIG)
    modality = encoders.modality_for(reference, cfg["modality"], "vectors")
    encoder = encoders.open_encoder(reference, modality, given["seed"]).encoder
    if not hasattr(getattr(encoder, "embeddings", None), "table_VD"):
        raise SuiteError(f"encoder={reference.short} has no table of symbols: it reads frames.")
    table_VD = encoder.embeddings.table_VD.detach().numpy().astype(np.float64)
    bare = encoders.open_encoder(reference, modality, given["seed"], scratch=True).encoder
    bare_VD = bare.embeddings.table_VD.detach().numpy().astype(np.float64)
    rows: list[dict[str, Any]] = []
    answer, figures, captions = [], {}, {}
    if modality.name == "protein" and set(RESIDUES) <= set(modality.vocabulary.tokens):
        places = [modality.vocabulary.tokens.index(letter) for letter in RESIDUES]
        found, control = (substitutions(each_VD[places], given["seed"]) for each_VD in (table_VD, bare_VD))
        rows += found.pop("pairs")
        answer.append(
            f"Cosines of the 190 pairs of residues against BLOSUM62: rank correlation {found['rho']:.3f} (p = "
            f"{found['p']:.3f}, residues exchanged {SHUFFLES} times); of the untrained table {control['rho']:.3f}."
        )
        rows.append({"what": "blosum62", **found, "untrained": control["rho"]})
        figures["vectors-blosum62"] = partial(_draw, rows)
        captions["vectors-blosum62"] = "Every pair of residues: its score in BLOSUM62, and the cosine of its vectors."
    for word in filter(None, given["neighbours"].split(",")):
        near = neighbours(word, table_VD, modality)
        rows += [{"what": "neighbour", "word": word, "rank": i + 1, **each} for i, each in enumerate(near)]
        answer.append(f"{word}: {', '.join(each['neighbour'] for each in near)}.")
    if not answer:
        raise SuiteError(f"modality={modality.name}: name words with neighbours=WORD,WORD; BLOSUM62 is for residues.")
    notes = [
        f"{reference.short}, {cfg['objective']['name']}; {len(table_VD):,} symbols of {table_VD.shape[1]} numbers.",
        f"Cosines after the mean over what is compared is taken away; seed {given['seed']}; "
        f"{time.monotonic() - begun:.0f} s.",
    ]
    keys = ("encoder", "neighbours", "modality", "data", "steps", "seed", "budget")
    summary = [row for row in rows if row["what"] != "pair"]
    return Report(
        "vectors", f"What symbols' vectors mean: {reference.short}", answer, rows, figures, notes, given["command"],
        {key: given[key] for key in keys}, {"Summary": summary}, captions,
    )  # fmt: skip


def _trained(given: Mapping[str, Any], out: Path, say: Callable[[str], None]) -> str:
    name = f"cbow-{given['modality']}-{given['data']}-{given['steps']}-{given['seed']}"
    folder = out / "encoders" / name
    words = [f"modality={given['modality']}", "objective=cbow", "model=tiny", f"train.steps={given['steps']}"]
    words += [f"data={given['data']}", f"seed={given['seed']}", f"out={folder}"]
    words += [f"data.{key}={value}" for key, value in given["place"].items() if value]
    return pretrain.run([pretrain.Source(name, folder, tuple(words))], 1, say)[name]


def centred_cosines(vectors_ND: np.ndarray) -> np.ndarray:
    """(N, N), after the mean was taken away."""
    from sklearn.metrics.pairwise import cosine_similarity

    return cosine_similarity(vectors_ND - vectors_ND.mean(0))


def substitutions(vectors_RD: np.ndarray, seed: int) -> dict[str, Any]:
    """Spearman's rho of the cosines of all pairs of the 20 residues, in the order of ``RESIDUES``, with BLOSUM62.

    ``p`` is one-sided, of a Mantel test: the residues are exchanged as wholes, since the pairs depend on one another.
    """
    from Bio.Align import substitution_matrices
    from scipy.stats import spearmanr

    matrix, cosines_RR = substitution_matrices.load("BLOSUM62"), centred_cosines(vectors_RD)
    scores_RR = np.array([[matrix[a, b] for b in RESIDUES] for a in RESIDUES])
    upper = np.triu_indices(len(RESIDUES), 1)
    rho = float(spearmanr(cosines_RR[upper], scores_RR[upper]).statistic)
    rng = np.random.default_rng(seed)
    mixed = []
    for _ in range(SHUFFLES):
        order = rng.permutation(len(RESIDUES))
        mixed.append(float(spearmanr(cosines_RR[np.ix_(order, order)][upper], scores_RR[upper]).statistic))
    pairs = [
        {"what": "pair", "a": RESIDUES[i], "b": RESIDUES[j], "blosum62": int(scores_RR[i, j])}
        | {"cosine": float(cosines_RR[i, j])}
        for i, j in itertools.combinations(range(len(RESIDUES)), 2)
    ]
    return {"rho": rho, "p": (1 + sum(each >= rho for each in mixed)) / (1 + SHUFFLES), "pairs": pairs}


def neighbours(word: str, table_VD: np.ndarray, modality: Any) -> list[dict[str, Any]]:
    """The symbols of highest cosine with a word's, of those that can be predicted.

    Raises:
        SuiteError: the word is no single symbol.
    """
    low, high = modality.vocabulary.targets
    tokens = [token.strip("▁Ġ") for token in modality.vocabulary.tokens[low:high]]
    ids = modality.encode(Record("word", word, "neighbours=")).values
    if len(ids) != 1 or not low <= ids[0] < high:
        hint = nearest(word, [token for token in tokens if len(token) > 2])
        raise SuiteError(f"neighbours={word}: is {len(ids)} symbols of this run, not one of its own.{hint}")
    cosines_V = centred_cosines(table_VD[low:high])[ids[0] - low]
    order = [i for i in np.argsort(-cosines_V, kind="stable").tolist() if i != ids[0] - low]
    return [{"neighbour": tokens[i], "cosine": float(cosines_V[i])} for i in order[:NEAREST]]


def _draw(rows: Sequence[Mapping[str, Any]], figure: Any, colours: Colours) -> None:
    axes = figure.subplots()
    pairs = [row for row in rows if row["what"] == "pair"]
    by_score: dict[int, list[float]] = {}
    for row in pairs:
        by_score.setdefault(row["blosum62"], []).append(row["cosine"])
    spread = np.random.default_rng(0).uniform(-0.15, 0.15, len(pairs))
    axes.scatter(
        [row["blosum62"] + x for row, x in zip(pairs, spread, strict=True)], [row["cosine"] for row in pairs],
        s=14, color=colours.series[0], alpha=0.7,
    )  # fmt: skip
    scores = sorted(by_score)
    axes.plot(scores, [np.mean(by_score[score]) for score in scores], "o-", color=colours.series[1], label="mean")
    axes.set(xlabel="BLOSUM62", ylabel="cosine, mean removed")
    axes.legend()
