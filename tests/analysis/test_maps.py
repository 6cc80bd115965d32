"""Maps: colours among neighbours against a loop, and pages on which each modality's records are seen or heard."""

import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from ssl_suite.analysis import maps, report
from ssl_suite.cli import main
from ssl_suite.core.errors import SuiteError

GIVEN = {"encoder": "random:tiny", "modality": "protein", "input": None, "color": None, "layer": -1, "most": 12}
GIVEN |= {"layout": "pca", "seed": 0, "column": None, "id_column": None, "data.root": None, "data.cache": None}
GIVEN |= {"command": "ssl_suite analyse map", "place": {"root": None, "cache": None}}


def test_neighbours_of_one_colour_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    vectors_ND, labels = rng.normal(size=(30, 4)), rng.choice(["a", "b"], 30).tolist()
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    shares = []
    for i in range(30):
        near = sorted((j for j in range(30) if j != i), key=lambda j: -unit_ND[i] @ unit_ND[j])[: maps.NEIGHBOURS]
        shares.append(np.mean([labels[j] == labels[i] for j in near]))
    assert maps.same_colour(vectors_ND, labels, 0)[0] == pytest.approx(np.mean(shares))
    planted_ND = np.repeat(np.eye(2), 15, axis=0) + rng.normal(scale=0.01, size=(30, 2))
    same, mixed = maps.same_colour(planted_ND, ["a"] * 15 + ["b"] * 15, 0)
    assert same == 1
    assert mixed < 0.7


def shown(found):
    return json.loads(re.search(r"const shown = (\[.*?\]), card", found.extra["map-hover.html"], re.S)[1])


@pytest.mark.parametrize("modality", ["image", "speech", "music", "protein"])
def test_each_modality_is_seen_or_heard(modality):
    found = maps.measure(GIVEN | {"modality": modality, "most": 4}, lambda text: None)
    assert len(found.rows) == 4
    items = shown(found)
    assert len(items) == 4
    assert found.extra["map-hover.html"].count("<circle tabindex") == 4
    if modality in ("image", "music"):
        image = Image.open(io.BytesIO(base64.b64decode(items[0]["image"].partition(",")[2])))
        assert np.asarray(image).std() > 0
    if modality in ("speech", "music"):
        sound_S, rate = soundfile.read(io.BytesIO(base64.b64decode(items[0]["sound"].partition(",")[2])))
        assert rate == maps.RATE
        assert np.abs(sound_S).max() > 0.1
    if modality == "protein":
        assert re.match("[A-Z]{20}", items[0]["text"])


def test_colours_of_a_table(tmp_path):
    path = tmp_path / "my.csv"
    rows = [f"{i},{'ACDEFGHIKL' * 3 if i % 2 else 'MNPQRSTVWY' * 3},{'x' if i % 2 else '</script>'}" for i in range(12)]
    path.write_text("\n".join(["id,sequence,kind", *rows]))
    found = maps.measure(GIVEN | {"input": str(path), "color": "kind"}, lambda text: None)
    assert [row["color"] for row in found.rows] == ["</script>", "x"] * 6
    assert "</script>" not in found.extra["map-hover.html"].partition("<script>")[0]
    assert found.tables["Neighbours of one colour"][0]["same"] > found.tables["Neighbours of one colour"][0]["shuffled"]
    assert len(report.picture(found.figures["map-plane"], report.DARK)) > 1000
    with pytest.raises(SuiteError, match="color=nothing: record 0 has no such column"):
        maps.measure(GIVEN | {"input": str(path), "color": "nothing"}, lambda text: None)


def test_commands_in_their_smoke_form(tmp_path, capsys):
    assert main(["analyse", "map", "budget=smoke", "layout=pca", f"out={tmp_path}"]) == 0
    assert main(["analyse", "context", "budget=smoke", "layout=pca", f"out={tmp_path}"]) == 0
    for name in ("map.html", "map.csv", "map-hover.html", "map-plane.dark.png", "context.md", "context-cosines.png"):
        assert (tmp_path / name).stat().st_size > 500
    numbers = (tmp_path / "context.csv").read_text().splitlines()
    assert sum(line.startswith("cosine,apple") for line in numbers) == 3 * 45  # every layer, every pair
    assert "apple: at layer" in capsys.readouterr().out
    assert main(["analyse", "map"]) == 2
    assert "encoder= is missing" in capsys.readouterr().err
