"""Records of any modality on a plane by their embeddings, with a page on which each can be seen or heard.

Shapes: N records, D width.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.analysis import layout
from ssl_suite.analysis.report import DARK, LIGHT, Colours, Report
from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Record
from ssl_suite.evaluation import embedding, encoders, references
from ssl_suite.modalities.base import Modality
from ssl_suite.settings import config

COLOURS = 6  # most values of a column that have a colour of their own; the others share grey
THUMB, SECONDS, RATE = 64, 4.0, 16000  # pixels of a picture; seconds of a sound, and its samples a second
LETTERS = 160  # of a sequence or text
PAGE = Path(__file__).resolve().parent / "map.html.j2"
NEIGHBOURS = 10


def measure(given: Mapping[str, Any], say: Callable[[str], None]) -> Report:
    """Read, embed, lay out.

    Raises:
        SuiteError: the modality is not known, no record can be read, or none has the column.
    """
    begun = time.monotonic()
    reference = references.parse(given["encoder"])
    modality = _modality(reference, given["modality"])
    records = _drawn(_records(modality, given), given["most"], given["seed"])
    if not records:
        raise SuiteError(f"input={given['input']}: holds no record to draw.")
    if modality.learns and reference.kind != "run":
        modality.fit(iter(records))
    opened = encoders.open_encoder(reference, modality, given["seed"])
    layer = given["layer"]
    made = list(embedding.embed(records, opened.encoder, modality, _raise, layer=layer))
    say(f"{len(made):,} records embedded")
    vectors_ND = np.stack([one.vector_D for one in made])
    places_N2, method = layout.flat(vectors_ND, given["seed"], given["layout"])
    labels = [_label(record, given["color"]) for record in records]
    rows = [
        {"id": record.name, "source": Path(record.source).name, "x": float(x), "y": float(y), "color": label}
        for record, (x, y), label in zip(records, places_N2, labels, strict=True)
    ]
    return _report(rows, records, vectors_ND, modality, (reference.short, method, time.monotonic() - begun), given)


def _drawn(records: Iterator[Record], most: int, seed: int) -> list[Record]:
    """At most so many, each as likely as any other, in their order (Vitter 1985, algorithm R)."""
    rng, kept = np.random.default_rng(seed), []
    for i, record in enumerate(records):
        if i < most:
            kept.append((i, record))
        elif (place := int(rng.integers(i + 1))) < most:
            kept[place] = (i, record)
    return [record for _, record in sorted(kept, key=lambda pair: pair[0])]


def _modality(reference: references.Reference, name: str | None) -> Modality:
    from ssl_suite.settings.run_reference import CONFIG, split

    if reference.kind == "run":
        folder, _ = split(reference.name)
        section = config.read_run(folder / CONFIG)["modality"]
    elif name is None:
        raise SuiteError("modality= is missing: only a run knows its own; add modality=image, for example.")
    else:
        section = config.compose([f"modality={name}"])["modality"]
    return encoders.modality_for(reference, section, "map")


def _records(modality: Modality, given: Mapping[str, Any]) -> Iterator[Record]:
    """Of a file, a folder, a data set of the catalogue, or the built-in sample; with the column as a tag."""
    from ssl_suite.data import sources

    name, columns = given["input"], {}
    known = {path.stem for path in (resources.folder("conf") / "data").glob("*.yaml")}
    if name is None:
        found = sources.builtin(modality)
    elif name in known and not Path(name).exists():
        section = config.option("data", name)
        found = sources.resolve_entry(modality, section | given["place"])
        columns = {key: section[key] for key in ("column", "id_column") if section.get(key)}
    else:
        found = sources.resolve_path(name, modality.suffixes, given["data.cache"], root=given["data.root"])
    columns |= {key: given[key] for key in ("column", "id_column") if given[key]}
    for path in found.paths:
        values = _column(Path(path), given["color"])
        for i, record in enumerate(modality.read(Path(path), _raise, **columns)):
            if values is not None and i < len(values):
                record.tags[given["color"]] = str(values[i])
            yield record


def _column(path: Path, name: str | None) -> list | None:
    """A column of a table, a value a record; None where the file is no table or has no such column."""
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    if name is None or path.suffix not in (".parquet", ".csv", ".tsv"):
        return None
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path, columns=[name])[name].to_pylist()
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [row[name] for row in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")]
    except (KeyError, OSError, UnicodeError, pa.ArrowException):
        return None


def _raise(error: Exception) -> None:
    raise error


def _label(record: Record, name: str | None) -> str:
    if name is None:
        return ""
    value = {"id": record.name, "source": Path(record.source).name, **record.tags}.get(name)
    if value is None:
        known = ", ".join(["id", "source", *record.tags])
        raise SuiteError(f"color={name}: record {record.name} has no such column; it has {known}.")
    return value


def same_colour(vectors_ND: np.ndarray, labels: Sequence[str], seed: int) -> tuple[float, float]:
    """How many of a record's ten nearest (cosine) have its colour, as a share, and how many of shuffled colours."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(labels) - 1)
    near_NK = NearestNeighbors(n_neighbors=count + 1, metric="cosine").fit(vectors_ND).kneighbors()[1][:, :count]
    names = np.unique(labels, return_inverse=True)[1]
    mixed = np.random.default_rng(seed).permutation(names)
    return tuple(float((each[near_NK] == each[:, None]).mean()) for each in (names, mixed))  # type: ignore[return-value]


def _report(
    rows: list[dict[str, Any]],
    records: Sequence[Record],
    vectors_ND: np.ndarray,
    modality: Modality,
    made: tuple[str, str, float],
    given: Mapping[str, Any],
) -> Report:
    encoder, method, seconds = made
    labels = [row["color"] for row in rows]
    colour_of = _colour_of(labels)
    answer = [
        f"{len(rows):,} records of {modality.name} by {encoder}, {method}; hover over map-hover.html to see each."
    ]
    tables: dict[str, Any] = {}
    if given["color"] and len(set(labels)) > 1 and len(rows) > 2:
        same, mixed = same_colour(vectors_ND, labels, given["seed"])
        answer.append(
            f"Of a record's {min(NEIGHBOURS, len(rows) - 1)} nearest {same:.3f} have its {given['color']}, "
            f"with shuffled ones {mixed:.3f}; among all vectors, not on the plane."
        )
        tables["Neighbours of one colour"] = [{"color": given["color"], "same": same, "shuffled": mixed}]
    page = _hover_page(rows, [_shown(record, modality) for record in records], colour_of, encoder, method)
    notes = [
        "What lies near on the plane was near among the vectors; distances between groups mean little in t-SNE.",
        f"Layer {given['layer']}, mean over positions; seed {given['seed']}; {seconds:.0f} s.",
    ]
    keys = ("encoder", "input", "modality", "color", "layer", "most", "layout", "seed")
    return Report(
        "map", f"A map of {modality.name} by {encoder}", answer, rows,
        {"map-plane": partial(_draw, rows, colour_of)}, notes, given["command"], {key: given[key] for key in keys},
        tables or {"Records": rows}, {"map-plane": f"{len(rows):,} records on a plane ({method})."},
        {"map-hover.html": page},
    )  # fmt: skip


def _colour_of(labels: Sequence[str]) -> dict[str, int]:
    """The place of each value's colour: the commonest have their own, the others the last."""
    values, counts = np.unique(labels, return_counts=True)
    order = values[np.argsort(-counts, kind="stable")].tolist()
    return {value: min(i, COLOURS - 1) if len(order) > COLOURS else i for i, value in enumerate(order)}


def _draw(rows: Sequence[Mapping[str, Any]], colour_of: Mapping[str, int], figure: Any, colours: Colours) -> None:
    axes = figure.subplots()
    for at in sorted(set(colour_of.values())):
        own = [row for row in rows if colour_of[row["color"]] == at]
        values = [value for value, place in colour_of.items() if place == at]
        label = values[0] if len(values) == 1 else f"{len(values)} others"
        axes.scatter(
            [row["x"] for row in own], [row["y"] for row in own], s=14, marker="osD^vP"[at],
            color=colours.series[at], label=label or None, alpha=0.8,
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    if len(colour_of) > 1:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _shown(record: Record, modality: Modality) -> dict[str, str]:
    """What the page shows of a record: a picture, a sound with its picture, or the beginning of a text."""
    return SHOWN.get(modality.name, _text)(record, modality)


def _text(record: Record, modality: Modality) -> dict[str, str]:
    data = record.data if isinstance(record.data, str) else " ".join(map(str, record.data))
    return {"text": data[:LETTERS] + "…" * (len(data) > LETTERS)}


def _png(image: Any) -> str:
    found = io.BytesIO()
    image.save(found, format="PNG")
    return "data:image/png;base64," + base64.b64encode(found.getvalue()).decode()


def _picture(record: Record, modality: Modality) -> dict[str, str]:
    from PIL import Image

    from ssl_suite.modalities import image_files

    image = Image.open(io.BytesIO(record.data), formats=image_files.FORMATS).convert("RGB")
    image.thumbnail((THUMB * 2, THUMB * 2))
    return {"image": _png(image)}


def _sound(record: Record, modality: Modality) -> dict[str, str]:
    """The first seconds."""
    import soundfile
    import torch
    import torchaudio

    with soundfile.SoundFile(io.BytesIO(record.data)) as sound:
        rate = sound.samplerate
        samples_SC = sound.read(int(SECONDS * rate), dtype="float32", always_2d=True)
    samples_S = torchaudio.functional.resample(torch.from_numpy(samples_SC.mean(1)), rate, RATE)
    return {"sound": _mp3(samples_S.numpy())}


def _mp3(samples_S: np.ndarray) -> str:
    import soundfile

    found = io.BytesIO()
    soundfile.write(found, 0.8 * samples_S / max(float(np.abs(samples_S).max()), 1e-9), RATE, format="MP3")
    return "data:audio/mpeg;base64," + base64.b64encode(found.getvalue()).decode()


def _roll(record: Record, modality: Modality) -> dict[str, str]:
    """The piano roll of the first seconds, and the notes as sines."""
    import symusic
    from PIL import Image

    score: Any = symusic.Score.from_midi(record.data)
    score = score.to("second")
    notes = [note for track in score.tracks if not track.is_drum for note in track.notes if note.start < 2 * SECONDS]
    if not notes:
        return {"text": "no pitched note in the first seconds"}
    first = min(note.start for note in notes)
    roll_PT, sound_S = np.zeros((88, 2 * THUMB), np.uint8), np.zeros(int((2 * SECONDS + 2) * RATE), np.float32)
    for note in notes:
        begin, end = note.start - first, min(note.start - first + note.duration, 2 * SECONDS)
        a, b = (int(place / SECONDS * THUMB) for place in (begin, end))
        roll_PT[np.clip(108 - note.pitch, 0, 87), a : max(a + 1, b)] = 255
        times_S = np.arange(int(max(end - begin, 0.05) * RATE)) / RATE
        tone_S = np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * times_S) * np.exp(-3 * times_S)
        place = int(begin * RATE)
        sound_S[place : place + len(tone_S)] += tone_S[: len(sound_S) - place].astype(np.float32)
    return {"image": _png(Image.fromarray(roll_PT)), "sound": _mp3(sound_S)}


SHOWN: dict[str, Callable[[Record, Modality], dict[str, str]]] = {
    "image": _picture,
    "speech": _sound,
    "music": _roll,
}


def _hover_page(
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, str]],
    colour_of: Mapping[str, int],
    encoder: str,
    method: str,
) -> str:
    """One file: an SVG of points; the pointer or the keyboard shows and plays what a point is."""
    import jinja2

    places_N2 = np.array([[row["x"], -row["y"]] for row in rows])
    span = np.ptp(places_N2, axis=0)
    unit_N2 = (places_N2 - places_N2.min(0)) / np.where(span > 0, span, 1)
    points = [
        {"x": round(20 + 760 * x, 1), "y": round(20 + 560 * y, 1), "colour": colour_of[row["color"]]}
        | {"label": f"{row['id']} {row['color']}".strip()}
        for row, (x, y) in zip(rows, unit_N2.tolist(), strict=True)
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    data = json.dumps(list(shown)).replace("<", "\\u003c")
    names: dict[int, list[str]] = {}
    for value, at in colour_of.items():
        names.setdefault(at, []).append(value)
    legend = {at: each[0] if len(each) == 1 else f"{len(each)} others" for at, each in names.items()}
    template = environment.from_string(PAGE.read_text("utf-8"))
    return template.render(
        points=points,
        data=data,
        legend=legend,
        light=LIGHT,
        dark=DARK,
        title=f"{len(rows):,} records by {encoder}, {method}",
    )
