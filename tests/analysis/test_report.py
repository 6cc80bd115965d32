"""A report's files: every number in the CSV and JSON, two pictures a figure, a page that needs no other file."""

import csv
import io
import json

import pytest
from PIL import Image

from ssl_suite.analysis import report
from ssl_suite.core.errors import SuiteError

ROWS = [{"layer": 0, "score": 0.25}, {"layer": 1, "score": 0.5, "note": "a|b <c>"}]


def made(**changes):
    def draw(figure, colours):
        figure.subplots().plot([row["score"] for row in ROWS], color=colours.series[0])

    facts = {"name": "probe", "title": "A <title>", "answer": ["It rises."], "rows": ROWS, "figures": {"line": draw}}
    facts |= {"notes": ["Seed 0."], "command": "ssl_suite analyse probe", "captions": {"line": "score by layer"}}
    return report.Report(**(facts | changes))


def test_files(tmp_path):
    page = report.write(made(settings={"seed": 0}), tmp_path / "new")
    found = list(csv.DictReader(io.StringIO((page.parent / "probe.csv").read_text())))
    assert [row["score"] for row in found] == ["0.25", "0.5"]
    assert found[0]["note"] == ""
    content = json.loads((page.parent / "probe.json").read_text())
    assert content["rows"] == ROWS
    assert content["settings"] == {"seed": 0}
    light, dark = (Image.open(page.parent / f"line{end}") for end in (".png", ".dark.png"))
    assert light.getpixel((0, 0))[:3] == (255, 255, 255)
    assert max(dark.getpixel((0, 0))[:3]) < 64
    assert light.width >= 1200


def test_pages_say_all_and_escape(tmp_path):
    page = report.write(made(), tmp_path)
    html, markdown = page.read_text(), (tmp_path / "probe.md").read_text()
    for text in ("It rises.", "Seed 0.", "ssl_suite analyse probe", "score by layer", "0.250"):
        assert text in html
        assert text in markdown
    assert "A &lt;title&gt;" in html
    assert html.count("data:image/png;base64,") == 2
    assert 'src="http' not in html
    assert "a\\|b" in markdown


def test_long_tables_are_cut_on_the_page_alone(tmp_path):
    rows = [{"i": i} for i in range(report.MOST + 5)]
    page = report.write(made(rows=rows), tmp_path)
    assert f"({report.MOST} of {len(rows)} rows" in page.read_text()
    assert len((tmp_path / "probe.csv").read_text().splitlines()) == len(rows) + 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SuiteError, match="cannot be written"):
        report.write(made(), tmp_path / "file")
