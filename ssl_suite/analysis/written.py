"""What a causal model writes, judged by counts of its training data, beside held-out and shuffled sequences.

Shapes: A symbols; sequences are 1-D arrays of symbols 0..A-1, -1 where a token is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon

from ssl_suite.analysis.report import Colours, Report
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.prepare import prepare
from ssl_suite.evaluation import pretrain
from ssl_suite.models import markov
from ssl_suite.models.generate import causal_model, generate
from ssl_suite.training import restore

Row = dict[str, Any]
Sequences = Sequence[np.ndarray]
TABLE = 1 << 22  # entries of the count model's largest table
ORDER = 5
SPECTRUM = 4  # bases of a word in DNA's spectrum


def measure(given: Mapping[str, Any], out: Path, say: Callable[[str], None]) -> Report:
    """Write, then judge; without ``encoder`` a small GPT is trained first, in ``out``.

    Raises:
        SuiteError: the run is not causal, its data are gone, or it has none that are held out.
    """
    begun = time.monotonic()
    encoder = given["encoder"] or _trained(given, out, say)
    loaded = restore.load_run(encoder)
    if not hasattr(loaded.objective, "next_logits"):
        name = loaded.config["objective"]["name"]
        raise SuiteError(f"encoder={encoder} was trained with objective={name}: give a run of objective=clm.")
    modality = loaded.modality
    model = causal_model(loaded.encoder, loaded.objective, modality.vocabulary, modality.max_length)
    draws = {key: given[key] for key in ("length", "temperature", "top_p", "seed")}
    made = generate(model, [[]] * given["samples"], modality.vocabulary, modality.max_length, **draws)
    say(f"{len(made)} sequences written")

    low, high = targets = modality.vocabulary.targets
    data = {key: given[f"data.{key}"] for key in ("root", "cache") if given[f"data.{key}"]}
    store = prepare(modality, loaded.config["data"] | data, report=say)
    train = markov.training_sequences(store, targets)
    own = [markov.symbols(np.array(one.ids, np.int64), targets) for one in made]
    held = list(markov.window_symbols(store.ids, store.split("valid"), targets)) if _has(store, "valid") else []
    if not held:
        raise SuiteError(f"encoder={encoder}: its data have no validation sequences to compare with.")
    rng = np.random.default_rng(given["seed"])
    held = [held[i][held[i] >= 0] for i in rng.permutation(len(held))[: len(own)]]
    if given["length"]:
        held = [one[: given["length"]] for one in held]
    if not sum(map(len, own)):
        raise SuiteError(f"encoder={encoder} ended every sequence at once: take more samples=, or train it longer.")
    sets = {"written": own, "held-out": held, "shuffled": [rng.permutation(one) for one in own]}
    words = [modality.vocabulary.tokens[i] for i in range(low, high)]
    rows = [*judged(train, sets, high - low, given["longest"]), *frequencies(train, sets, words)]
    rows += [*lengths(sets), *(composition(train, sets, words) if modality.name == "dna" else [])]
    roll, files = _tunes(modality, made, out) if hasattr(modality, "write_midi") else ([], [])
    ended = sum(one.ended for one in made)
    notes = [
        f"{len(made)} sequences from nothing, temperature {given['temperature']}, seed {given['seed']}; {ended} ended "
        f"by themselves, the others where length or window ends. As many held-out windows beside them.",
        "Count model: a chain of the training data with smoothed back-off, one order; per token. A low perplexity says "
        "commonplace, not good: the held-out sequences' is the one to meet.",
        "Shuffled: the tokens of each written sequence in random order, so the same frequencies and no grammar.",
        *([f"MIDI: {', '.join(files)}."] if files else []),
        f"{time.monotonic() - begun:.0f} s.",
    ]
    return _report(rows, roll, notes, modality.name, given)


def _has(store: Any, split: str) -> bool:
    return len(store.split(split).starts_S) > 0


def _trained(given: Mapping[str, Any], out: Path, say: Callable[[str], None]) -> str:
    folder = out / "encoders" / f"written-{given['modality']}-{given['steps']}"
    words = [f"modality={given['modality']}", "objective=clm", "model=tiny", "modality.max_length=128"]
    words += ["train.tokens_per_batch=1024", "train.lr=2e-3", f"train.steps={given['steps']}", f"out={folder}"]
    words += [f"data.cache={given['data.cache']}"] if given["data.cache"] else []
    return next(iter(pretrain.run([pretrain.Source("written", folder, tuple(words))], 1, say).values()))


def judged(train: Sequences, sets: Mapping[str, Sequences], alphabet: int, longest: int) -> list[Row]:
    """Perplexity of each set under a chain of ``train``, and the share of its n-grams that ``train`` lacks."""
    order = max(k for k in range(ORDER + 1) if k == 0 or alphabet ** (k + 1) <= TABLE)
    chain, rows = markov.fit(train, alphabet, order), []
    for name, some in sets.items():
        nats, count = map(sum, zip(*(markov.sequential(chain, one[None]) for one in some if len(one)), strict=True))
        row = {"what": "perplexity", "of": name, "n": order, "value": float(np.exp(nats / count)), "tokens": count}
        rows.append(row)
    for n, known, others in _ranks(train, sets, alphabet, longest):
        for name, ids in others.items():
            share = float(np.mean(~np.isin(ids, known))) if len(ids) else None
            rows.append({"what": "new n-grams", "of": name, "n": n, "value": share, "tokens": len(ids)})
    return rows


def _ranks(train: Sequences, sets: Mapping[str, Sequences], alphabet: int, longest: int) -> Any:
    """For each n the ids of the n-grams of ``train`` and of every set: equal where the n-grams are, without hashing."""
    groups = {"": train, **sets}
    line = np.concatenate([part for some in groups.values() for one in some for part in (one, [-1])]).astype(np.int64)
    ends = np.cumsum([sum(len(one) + 1 for one in some) for some in groups.values()])
    rank = line
    for n in range(1, longest + 1):
        if n > 1:  # the (n-1)-gram that begins here, and the symbol behind it
            whole = (rank[:-1] >= 0) & (line[n - 1 :] >= 0)
            rank = np.where(whole, rank[:-1] * alphabet + line[n - 1 :], -1)
        rank = np.where(rank < 0, -1, np.unique(np.where(rank < 0, 0, rank), return_inverse=True)[1])
        parts = dict(zip(groups, np.split(rank, ends[:-1]), strict=True))
        kept = {name: part[part >= 0] for name, part in parts.items()}
        yield n, np.unique(kept.pop("")), kept


def _shares(some: Sequences, alphabet: int) -> np.ndarray:
    counts = sum(np.bincount(one[one >= 0], minlength=alphabet) for one in some)
    return np.asarray(counts / max(1, np.sum(counts)))


def frequencies(train: Sequences, sets: Mapping[str, Sequences], words: Sequence[str]) -> list[Row]:
    """The share of each of the 24 commonest symbols, and each set's Jensen-Shannon distance to ``train`` (0 to 1)."""
    shares = {name: _shares(some, len(words)) for name, some in {"train": train, **sets}.items()}
    rows: list[Row] = [
        {"what": "frequency", "of": name, "symbol": words[i], "value": float(shares[name][i])}
        for i in np.argsort(-shares["train"], kind="stable")[:24]
        for name in ("train", "written", "held-out")
    ]
    for name in ("written", "held-out"):
        value = float(jensenshannon(shares["train"], shares[name], base=2))
        rows.append({"what": "distance of frequencies", "of": name, "value": value})
    return rows


def lengths(sets: Mapping[str, Sequences]) -> list[Row]:
    """Quartiles of the tokens of a sequence."""
    return [
        {"what": "length", "of": name, "n": q, "value": float(np.percentile([len(one) for one in sets[name]], q))}
        for name in ("written", "held-out")
        for q in (25, 50, 75)
    ]


def composition(train: Sequences, sets: Mapping[str, Sequences], words: Sequence[str]) -> list[Row]:
    """GC content, and the Jensen-Shannon distance of the spectrum of ``SPECTRUM``-mers to that of ``train``, of DNA."""
    spelled = {
        name: ["".join(words[i] if i >= 0 else "N" for i in one) for one in some]
        for name, some in {"train": train, **sets}.items()
    }
    rows, spectra = [], {}
    for name, some in spelled.items():
        text = "N".join(some)
        bases = sum(text.count(base) for base in "ACGT")
        rows.append({"what": "GC", "of": name, "value": (text.count("G") + text.count("C")) / max(1, bases)})
        code = np.array(["ACGT".find(letter) for letter in text])
        windows = np.lib.stride_tricks.sliding_window_view(code, SPECTRUM)
        windows = windows[(windows >= 0).all(1)]
        spectra[name] = np.bincount(windows @ 4 ** np.arange(SPECTRUM), minlength=4**SPECTRUM)
    for name in sets:
        value = float(jensenshannon(spectra["train"], spectra[name], base=2)) if spectra[name].any() else 1.0
        rows.append({"what": "distance of 4-mers", "of": name, "n": SPECTRUM, "value": value})
    return rows


def _tunes(modality: Any, made: Sequence[Any], out: Path) -> tuple[list[Row], list[str]]:
    """Write the first five tunes as MIDI; the notes of the first that has any, in quarters."""
    import symusic

    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    files: list[Any] = []
    for number, one in enumerate(made[:5], 1):
        path = out / f"written-{number}.mid"
        notes = modality.write_midi(np.array(one.ids, np.int64), path)
        files.append(f"{path.name} ({notes} notes)")
        if notes and not rows:
            midi: Any = symusic.Score(path)
            score = midi.to("quarter")
            rows = [
                {"what": "note", "of": path.name, "start": float(note.time), "duration": float(note.duration)}
                | {"value": int(note.pitch), "track": track}
                for track, part in enumerate(score.tracks)
                for note in part.notes
            ]
    return rows, files


def _report(rows: list[Row], roll: list[Row], notes: list[str], kind: str, given: Mapping[str, Any]) -> Report:
    value = {(row["what"], row["of"], row.get("n")): row["value"] for row in rows}
    order = next(row["n"] for row in rows if row["what"] == "perplexity")
    tell = {name: value["perplexity", name, order] for name in ("written", "held-out", "shuffled")}
    new = max(row["n"] for row in rows if row["what"] == "new n-grams" and row["value"] is not None)
    answer = [
        f"Perplexity under a chain of order {order}: {tell['written']:.2f} of what it wrote, {tell['held-out']:.2f} of "
        f"held-out {kind}, {tell['shuffled']:.2f} of its own tokens shuffled.",
        f"Of its {new}-grams {_percent(value['new n-grams', 'written', new])} are not in the training data (held-out "
        f"{_percent(value['new n-grams', 'held-out', new])}).",
    ]
    if kind == "dna":
        answer.append(
            f"GC {value['GC', 'written', None]:.3f}, of the training data {value['GC', 'train', None]:.3f}; distance "
            f"of 4-mers {value['distance of 4-mers', 'written', SPECTRUM]:.3f}, held-out "
            f"{value['distance of 4-mers', 'held-out', SPECTRUM]:.3f}."
        )
    figures, captions = {"written": partial(_draw, rows)}, {"written": "New n-grams, and the commonest symbols."}
    if roll:
        figures["written-roll"] = partial(_draw_roll, roll)
        captions["written-roll"] = f"Piano roll of {roll[0]['of']}; a colour a track."
    keys = ("encoder", "modality", "samples", "length", "temperature", "top_p", "longest", "seed", "budget")
    tables = {"Numbers": [row for row in rows if row["what"] != "frequency"]}
    return Report(
        "written", f"What a GPT writes: {kind}", answer, [*rows, *roll], figures, notes, given["command"],
        {key: given[key] for key in keys}, tables, captions,
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return "none (too short)" if share is None else f"{100 * share:.1f} %"


def _draw(rows: Sequence[Row], figure: Any, colours: Colours) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    for name, mark in (("written", "o"), ("held-out", "s"), ("shuffled", "^")):
        own = [row for row in rows if row["what"] == "new n-grams" and row["of"] == name and row["value"] is not None]
        left.plot([row["n"] for row in own], [100 * row["value"] for row in own], f"{mark}-", label=name)
    left.set(xlabel="n", ylabel="n-grams not in the training data, %", ylim=(-3, 103))
    left.legend(fontsize=8)
    marks = {"written": "o", "held-out": "s", "train": "_"}
    for (name, mark), colour in zip(marks.items(), (*colours.series[:2], colours.ink), strict=True):
        own = [row for row in rows if row["what"] == "frequency" and row["of"] == name]
        right.plot(range(len(own)), [100 * row["value"] for row in own], mark, color=colour, label=name)
    shown = [row["symbol"].replace("$", r"\$") for row in own]
    right.set_xticks(range(len(own)), shown, fontsize=8, rotation=90 if max(map(len, shown)) > 2 else 0)
    right.set(ylabel="share of tokens, %")
    right.legend(fontsize=8)


def _draw_roll(notes: Sequence[Row], figure: Any, colours: Colours) -> None:
    axes = figure.subplots()
    for row in notes:
        colour = colours.series[row["track"] % len(colours.series)]
        axes.barh(row["value"], max(row["duration"], 0.05), left=row["start"], height=0.8, color=colour)
    axes.set(xlabel="quarters", ylabel="pitch (60 is middle C)")
