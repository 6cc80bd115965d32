"""The report of ``senses``: heat maps of cosines, sense accuracy by layer, and a word's uses on a plane."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ssl_suite.analysis import layout, senses
from ssl_suite.analysis.report import Colours, Report
from ssl_suite.analysis.senses import Use
from ssl_suite.evaluation import encoders, references
from ssl_suite.settings import config

HEAT = 40  # uses of a set whose cosines are drawn one by one
PLANE = 200  # of a set whose uses are drawn as points


@dataclass(frozen=True)
class Measured:
    """A set: its uses, their vectors, a row a layer, the same of the untrained network ([] where the encoder is one)
    and the controls that no layer changes."""

    name: str
    uses: list[Use]
    vectors_NLD: np.ndarray
    rows: list[dict[str, Any]]
    untrained: list[dict[str, Any]]
    controls: dict[str, Any]

    @property
    def best(self) -> int:
        """The first layer of highest accuracy; chosen on the same sentences."""
        return int(np.argmax([row["accuracy"] for row in self.rows]))


def measure(given: dict[str, Any], say: Callable[[str], None]) -> Report:
    """Read, encode, compare."""
    begun = time.monotonic()
    reference = references.parse(given["encoder"])
    modality = encoders.modality_for(reference, config.option("modality", "text"), "context")
    sets = {
        name: senses.read(name, given["word"], given["most"] or None, given["seed"], given["place"])
        for name in given["sentences"].split(",")
    }
    if modality.learns and reference.kind != "run":
        from ssl_suite.data import sources

        paths = sources.builtin(modality).paths
        modality.fit(record for path in paths for record in modality.read(path, _raise))
    opened = encoders.open_encoder(reference, modality, given["seed"])
    bare = None if reference.kind == "random" else encoders.open_encoder(reference, modality, given["seed"], True)
    found = []
    for name, uses in sets.items():
        say(f"{name}: {len(uses):,} sentences")
        vectors_NLD = senses.vectors(uses, opened.encoder, modality)
        rows, controls = senses.accuracies(uses, vectors_NLD, given["seed"])
        untrained: list[dict[str, Any]] = []
        if bare is not None:
            untrained, _ = senses.accuracies(uses, senses.vectors(uses, bare.encoder, modality), given["seed"])
        found.append(Measured(name, uses, vectors_NLD, rows, untrained, controls))
    return _report(found, reference.short, opened, given, time.monotonic() - begun)


def _raise(error: Exception) -> None:
    raise error


def _report(found: Sequence[Measured], encoder: str, opened: Any, given: dict[str, Any], seconds: float) -> Report:
    rows, figures, captions = [], {"context-layers": partial(_draw_layers, found)}, {}
    captions["context-layers"] = (
        f"Share of uses whose nearest other use (cosine, mean removed) has the same sense, by layer of {encoder}; "
        "band: 95 % interval. Dashed: the same network untrained. Dotted: always the commonest sense."
    )
    summary = []
    for each in found:
        bare = {row["layer"]: row["accuracy"] for row in each.untrained}
        extra = {"majority": each.controls["majority"]}
        rows += [
            {"what": "accuracy", "set": each.name, **row, **extra, "untrained": bare.get(row["layer"])}
            for row in each.rows
        ]
        best, first = each.rows[each.best], each.rows[0]
        summary.append(
            {"set": each.name, "words": each.controls["words"], "tested": best["tested"], "best layer": each.best}
            | {"accuracy": best["accuracy"], "low": best["low"], "high": best["high"], "layer 0": first["accuracy"]}
            | {"majority": each.controls["majority"], "shuffled labels": best["shuffled"]}
            | {"untrained, same layer": bare.get(each.best)}
        )
    heat = next((each for each in found if len(each.uses) <= HEAT and each.controls["words"] == 1), None)
    if heat is not None:
        maps = _cosines(heat)
        rows += _cosine_rows(heat, maps)
        figures["context-cosines"] = partial(_draw_cosines, heat, maps)
        captions["context-cosines"] = (
            f"Cosines of {heat.uses[0].word} in the {len(heat.uses)} sentences of '{heat.name}', mean removed, "
            "by layer; lines part the senses. -1 blue, 1 red."
        )
    plane = max(
        (each for each in found if len(each.uses) <= PLANE and each.controls["words"] == 1),
        key=lambda each: len(each.uses),
        default=None,
    )
    if plane is not None:
        points = [layout.flat(plane.vectors_NLD[:, at], given["seed"], given["layout"]) for at in (0, plane.best)]
        rows += _point_rows(plane, points)
        figures["context-plane"] = partial(_draw_plane, plane, points)
        captions["context-plane"] = (
            f"The {len(plane.uses)} uses of {plane.uses[0].word} in '{plane.name}' on a plane ({points[0][1]}): "
            f"layer 0 and layer {plane.best}."
        )
    answer = [_sentence(each) for each in found]
    notes = _notes(encoder, opened, given, seconds)
    shown = {key: given[key] for key in ("encoder", "sentences", "word", "most", "seed", "layout", "budget")}
    title = f"Does context change a word? {encoder}"
    return Report(
        "context", title, answer, rows, figures, notes, given["command"], shown, {"Sense accuracy": summary}, captions
    )


def _sentence(each: Measured) -> str:
    best, first = each.rows[each.best], each.rows[0]
    bare = f", untrained {each.untrained[each.best]['accuracy']:.3f}" if each.untrained else ""
    return (
        f"{each.name}: at layer {each.best} the nearest other use has the same sense for {best['right']:.3g} of "
        f"{best['tested']} ({best['accuracy']:.3f}, {best['low']:.3f} to {best['high']:.3f}), at layer 0 for "
        f"{first['right']:.3g} ({first['accuracy']:.3f}); majority {each.controls['majority']:.3f}{bare}."
    )


def _notes(encoder: str, opened: Any, given: dict[str, Any], seconds: float) -> list[str]:
    return [
        f"Encoder {encoder}, {opened.params:,} parameters; weights {(opened.weights_sha256 or 'random')[:12]}.",
        "All text is lower-case: a capital would tell the sense. A word's vector is the mean of its tokens' states; "
        "of each word and layer the mean over its uses is taken away.",
        "A set without a train part compares each use with all others; else test uses with those of train.",
        "Layer 0 knows the word and its place alone. In 'apple' both senses have the word at the same places, so that "
        "its nearest use at layer 0 is one of the other sense: it can fall below one half.",
        "The best layer is chosen on the same sentences; the row of every layer is in the CSV.",
        f"Seed {given['seed']}; at most {given['most'] or 'all'} uses of each word and part; {seconds:.0f} s.",
    ]


def _order(each: Measured) -> np.ndarray:
    return np.argsort([use.sense for use in each.uses], kind="stable")


def _cosines(each: Measured) -> list[np.ndarray]:
    order_N = _order(each)
    layers = [each.vectors_NLD[order_N, layer] for layer in range(each.vectors_NLD.shape[1])]
    return [senses.cosines(vectors_ND, vectors_ND.mean(0)) for vectors_ND in layers]


def _cosine_rows(each: Measured, maps: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    uses = [each.uses[i] for i in _order(each)]
    return [
        {"what": "cosine", "set": each.name, "layer": layer, "a": uses[i].name, "b": uses[j].name}
        | {"sense_a": uses[i].sense, "sense_b": uses[j].sense, "cosine": float(cosines_NN[i, j])}
        for layer, cosines_NN in enumerate(maps)
        for i in range(len(uses))
        for j in range(i)
    ]


def _point_rows(each: Measured, points: Sequence[tuple[np.ndarray, str]]) -> list[dict[str, Any]]:
    return [
        {"what": method, "set": each.name, "layer": layer, "a": use.name, "sense_a": use.sense}
        | {"x": float(x), "y": float(y)}
        for layer, (places_N2, method) in zip((0, each.best), points, strict=True)
        for use, (x, y) in zip(each.uses, places_N2, strict=True)
    ]


def _draw_layers(found: Sequence[Measured], figure: Any, colours: Colours) -> None:
    wide = min(3, len(found))
    tall = -(-len(found) // wide)
    figure.set_size_inches(7.5, 0.6 + 2.4 * tall)
    for at, each in enumerate(found):
        axes = figure.add_subplot(tall, wide, at + 1)
        layers = [row["layer"] for row in each.rows]
        axes.fill_between(
            layers, [row["low"] for row in each.rows], [row["high"] for row in each.rows],
            color=colours.series[0], alpha=0.25, linewidth=0,
        )  # fmt: skip
        axes.plot(layers, [row["accuracy"] for row in each.rows], "o-", color=colours.series[0], markersize=3)
        if each.untrained:
            axes.plot(layers, [row["accuracy"] for row in each.untrained], "--", color=colours.series[1])
        axes.axhline(each.controls["majority"], linestyle=":", color=colours.soft)
        axes.set(title=f"{each.name} ({each.rows[0]['tested']:,})", ylim=(-0.03, 1.03), xlabel="layer")
        axes.set_ylabel("1-NN accuracy" if at % wide == 0 else "")
        axes.title.set_fontsize(9)


def _draw_cosines(each: Measured, maps: Sequence[np.ndarray], figure: Any, colours: Colours) -> None:
    wide = min(5, len(maps))
    tall = -(-len(maps) // wide)
    figure.set_size_inches(7.5, 0.4 + 1.6 * tall)
    names = [each.uses[i].sense for i in _order(each)]
    edges = [i - 0.5 for i in range(1, len(names)) if names[i] != names[i - 1]]
    for layer, cosines_NN in enumerate(maps):
        axes = figure.add_subplot(tall, wide, layer + 1)
        image = axes.imshow(cosines_NN, cmap=colours.diverging, vmin=-1, vmax=1)
        for edge in edges:
            axes.axhline(edge, color=colours.ink, linewidth=0.8)
            axes.axvline(edge, color=colours.ink, linewidth=0.8)
        axes.set_title(f"layer {layer}", fontsize=9)
        axes.set_xticks([])
        middles = [np.mean([i for i, name in enumerate(names) if name == sense]) for sense in dict.fromkeys(names)]
        axes.set_yticks(middles if layer % wide == 0 else [], list(dict.fromkeys(names)) if layer % wide == 0 else [])
        axes.tick_params(length=0, labelsize=8)
    figure.colorbar(image, ax=figure.axes, shrink=0.6, label="cosine")


def _draw_plane(each: Measured, points: Sequence[tuple[np.ndarray, str]], figure: Any, colours: Colours) -> None:
    figure.set_size_inches(7.5, 3.8)
    names = np.array([use.sense for use in each.uses])
    for at, (layer, (places_N2, _)) in enumerate(zip((0, each.best), points, strict=True)):
        axes = figure.add_subplot(1, 2, at + 1)
        for colour, marker, sense in zip(colours.series * 4, "osD^vPX*" * 3, np.unique(names), strict=False):
            own_N2 = places_N2[names == sense]
            axes.scatter(own_N2[:, 0], own_N2[:, 1], s=22, color=colour, marker=marker, label=sense, alpha=0.8)
        axes.set_title(f"layer {layer}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.axes[-1].legend(fontsize=8, loc="best", frameon=True, facecolor=colours.ground, labelcolor=colours.ink)
