"""The pages: numbers of verified rows only, readable without network or script, the same bytes every time."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import rows
from ssl_suite.leaderboard import figures, render, words
from ssl_suite.leaderboard.table import Column, Contrast, Line
from tests.leaderboard import add, classified, valued

OLDER, BROKEN = (
    f"h3@gue20--{arm}--finetune--small--{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
    for arm, tag in (("BERT", "older"), ("rand", "broken"))
)
VOID = {"meta", "br", "line", "circle", "path"}  # without an end tag, here
ARMS = {"specific-SSL": 0.84, "specific-scratch": 0.7, "BERT": 0.8, "re-emb": 0.79, "rand": 0.7, "odd <arm>|*x*": 0.5}


class Page(HTMLParser):
    """What a browser would make of the page: cells by table, identifiers, addresses; tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if found.get("id") else []
        self.addresses += [found[name] for name in ("href", "src") if found.get(name)]  # type: ignore[misc]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"<{tag}> closes at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def fill(root: Path) -> Path:
    """Two tasks, one with too few test items; a task of numbers; a row that fails; one that was superseded."""
    for k, (task, items, reference) in enumerate((("h3@gue20", 400, "H3"), ("splice@kao100", 160, "splice"))):
        for j, (arm, right) in enumerate(ARMS.items()):
            found = {"task__reference": reference, "task__caveat": "A <b>bold</b> | caveat."}
            add(root, classified(items, right, draw=10 * k + j), arm=arm, task=task, **found)
    stability = {"task": "stability@tape", "task__modality": "protein", "task__reference": "stability"}
    add(root, valued(400), arm="BERT", **stability)
    add(root, classified(400, 0.9), arm="BERT", task="h3@gue20", tag="older", created="2026-11-22T04:00:00Z")
    add(root, classified(400, 0.99), arm="rand", task="h3@gue20", tag="broken", created="2026-11-24T04:00:00Z")
    path = root / "predictions" / "cross_domain" / f"{BROKEN}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fill(tmp_path_factory.mktemp("board"))
    written = render.render(folder)
    assert [path.name for path in written] == ["cross_domain.md", "cross_domain.html", "cross_domain.png"]
    return folder


@pytest.fixture(scope="module")
def html(root: Path) -> str:
    return (root / "cross_domain.html").read_text("utf-8")


@pytest.fixture(scope="module")
def markdown(root: Path) -> str:
    return (root / "cross_domain.md").read_text("utf-8")


def test_the_same_rows_give_the_same_bytes_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    for name in ("rows", "predictions"):
        shutil.copytree(root / name, tmp_path / "elsewhere" / name)
    shutil.copy(root / rows.MANIFEST, tmp_path / "elsewhere")
    again = render.render(tmp_path / "elsewhere", "cross_domain")
    for path in again:
        assert path.read_bytes() == (root / path.name).read_bytes(), path.name
    assert not list(tmp_path.rglob("*.writing"))
    for name in ("cross_domain.md", "cross_domain.png"):  # somebody else's of the same name
        for path in again:
            path.unlink(missing_ok=True)
        (tmp_path / "elsewhere" / name).write_text("mine")
        with pytest.raises(SuiteError, match=f"{name} is no page of `ssl_suite board render`"):
            render.render(tmp_path / "elsewhere", "cross_domain")
        assert (tmp_path / "elsewhere" / name).read_text() == "mine"


def test_the_page_is_whole_and_needs_no_other_file(html: str) -> None:
    page = Page(html)
    assert not page.open
    assert len(set(page.ids)) == len(page.ids)
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:  # links to what lies beside it, never anything that a browser fetches by itself
            assert address.startswith(("rows/", "predictions/", "plans/", "data:text/csv;"))
    assert not re.search(r"https?://|url\(|@import|<link|<img|src=", html)
    assert "prefers-color-scheme: dark" in html
    for named in (found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found):
        assert named in page.ids
    assert all(found.get("scope") for tag, found in page.tags if tag == "th")


def test_every_cell_is_its_rows_number(root: Path, html: str) -> None:
    heads, *lines = Page(html).tables[0]
    assert [head.split()[0] for head in heads] == ["Arm", "stability", "h3", "splice"]
    by_arm = {line[0].strip(): [" ".join(cell.split()) for cell in line[1:]] for line in lines}
    assert list(by_arm) == list(ARMS)
    for row in rows.read_all(root):
        place = ("stability@tape", "h3@gue20", "splice@kao100").index(row["task"]["name"])
        cell = by_arm[row["arm"]][place]
        mean = f"{100 * row['metrics'][0]['value']:.1f}"
        if row["run_id"] in (OLDER, BROKEN):
            assert not cell.startswith(mean)
        elif row["task"]["n_test"] >= rows.FEWEST:
            assert cell.startswith((f"{mean} rank ", f"{mean}rank ")), cell
        else:  # the interval alone
            assert mean not in cell
    assert "published 83.0" in by_arm["BERT"][1] and "published 95.0" in by_arm["rand"][2]
    assert by_arm["rand"][0] == "not measured published 65.8"


def test_intervals_hold_items_and_seeds(root: Path) -> None:
    """Against a naive loop: of each resample of the items the mean over seeds that are drawn again."""
    board = render.load(root, "cross_domain")
    (section,) = board.sections
    column = next(column for column in section.columns if column.task["name"] == "h3@gue20")
    cell = section.cells[Line("BERT"), column]
    made = rows.read_predictions(root, cell.row)
    right_SI = made.stacked() == made.labels_I
    rng = np.random.default_rng(5)
    values = []
    for _ in range(4000):
        items, seeds = rng.integers(len(made.items_I), size=len(made.items_I)), rng.integers(3, size=3)
        values.append(np.mean([right_SI[seed, items].mean() for seed in seeds]))
    assert (cell.low, cell.high) == pytest.approx(np.quantile(values, (0.025, 0.975)), abs=0.004)


def test_too_few_items_cannot_be_sorted(html: str) -> None:
    heads = [found for tag, found in Page(html).tags if tag == "th" and found.get("scope") == "col"][:4]
    assert ["data-sort" in found for found in heads] == [True, True, True, False]


def test_the_csv_holds_every_row_once(root: Path, html: str) -> None:
    content = base64.b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", html)[1]).decode()  # type: ignore[index]
    found = {entry["run_id"]: entry for entry in csv.DictReader(io.StringIO(content))}
    shown = {row["run_id"]: row for row in rows.read_all(root) if row["run_id"] not in (OLDER, BROKEN)}
    assert set(found) == set(shown)
    for name, entry in found.items():
        assert float(entry["value"]) == pytest.approx(shown[name]["metrics"][0]["value"], rel=1e-5)
        assert entry["command"].startswith(f"ssl_suite bench cross_domain task={shown[name]['task']['name']} ")
    assert re.search(r"arms=BERT text=random budget=small", content)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_a_browser_filters_and_sorts(html: str, tmp_path: Path) -> None:
    """A click on a head, a choice in two filters, and the page as it is then."""
    script = """<script>
    const clicked = [...document.querySelectorAll("table.board thead button")][2];
    clicked.click();
    for (const [key, value] of [["arm", "rand"], ["modality", "dna"]]) {
      const select = document.querySelector(`select[data-filter=${key}]`);
      select.value = value;
      select.dispatchEvent(new Event("change"));
    }
    </script></body>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", script))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    command = [str(CHROMIUM), *words, folder, (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    (table,) = re.findall(r'<table class="board sortable">.*?</table>', done, re.S)
    lines = re.findall(r"<tr data-arm=(.*?)>(.*?)</tr>", table, re.S)
    assert 'aria-sort="descending"' in table
    places = [float(re.findall(r'data-v="([^"]+)"', cells)[-1]) for _, cells in lines if "data-v" in cells]
    assert places == sorted(places, reverse=True) and len(places) == len(ARMS)
    hidden = {name.split('"')[1] for name, _ in lines if "hidden" in name}
    assert {unescape(name) for name in hidden} == set(ARMS) - {"rand"}
    heads = re.findall(r"<th scope=\"col\" data-modality=\"(\w+)\"([^>]*)>", table)
    assert {name for name, rest in heads if "hidden" in rest} == {"protein"}
    assert '<form class="filters">' in done


def test_a_failing_row_is_named_and_its_numbers_are_nowhere(root: Path, html: str, markdown: str) -> None:
    value = rows.read(root / "rows" / "cross_domain" / f"{BROKEN}.json")["metrics"][0]["value"]
    for text in (html, markdown):
        assert BROKEN in text and "failed verification" in text
        assert not re.search(rf"[^\d.]{100 * value:.1f}[^\"]", text)
        assert str(root) not in text
        assert "is not known to git here" in text  # a mark: the row is shown, and why it is doubtful
        assert re.search(rf"{OLDER}.*is shown for the same arm and setting", text)


def test_what_rows_say_is_text_not_markup(html: str, markdown: str) -> None:
    assert "<b>bold</b>" not in html and "&lt;b&gt;bold&lt;/b&gt; | caveat." in html
    assert "<b>bold" not in markdown and "A &lt;b>bold&lt;/b> \\| caveat." in markdown
    assert "odd &lt;arm&gt;|*x*" in html and "odd &lt;arm>\\|\\*x\\*".replace("-", "&#8209;") in markdown


@pytest.mark.parametrize(
    ("text", "cell", "code"),
    [
        ("a|b\n- c `d`", "a\\|b - c \\`d\\`", "`a\\|b - c 'd'`"),
        ("<img src=x> & [x](y)", "&lt;img src=x> &amp; \\[x\\](y)", "`<img src=x> & [x](y)`"),
        ("__a_b__ ~~c~~ *d* \\", "\\_\\_a_b\\_\\_ \\~\\~c\\~\\~ \\*d\\* \\\\", "`__a_b__ ~~c~~ *d* \\`"),
        ("x\u2028y\r\n|", "x y \\|", "`x y \\|`"),
    ],
)
def test_names_are_escaped(text: str, cell: str, code: str) -> None:
    assert render.plain(text) == cell
    assert render.code(text) == code


def test_tables_for_github_have_as_many_cells_in_every_line(markdown: str) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.MULTILINE)
    assert len(blocks) == 8  # scores, four contrasts, data, methods, published
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert "![" in markdown and "](cross_domain.png)" in markdown


def test_the_answer_is_in_two_sentences(html: str, markdown: str) -> None:
    for text in (unescape(html), markdown):
        assert "Does pre-training on text help?" in text
        assert (
            "BERT is better than rand on 2 of 2 tasks. Told apart or not, its score is the higher one on 2 of 2" in text
        )
        assert (
            "published, on other data for the most part, it was on 2 of 2; 1 further task not measured with both."
            in text
        )
    assert "| splice | " in markdown and "| +2.5 |" in markdown  # published: 97.5 - 95.0


def contrast(outcome: str, n_test: int = 1000, title: str = "x") -> Contrast:
    column = Column("accuracy", True, {"n_test": n_test, "title": title}, "small")
    gain, low, high, p = {
        "better": (0.074, 0.051, 0.098, 0.0009),
        "worse": (-0.03, -0.05, -0.01, 0.021),
        "open": (0.0, -0.0149, 0.0151, 1.0),
    }[outcome]
    return Contrast(column, Line("BERT"), Line("rand"), gain, low, high, p, p)


@pytest.mark.parametrize(
    ("outcome", "gain", "interval", "p"),
    [
        ("better", "+7.4", "+5.1 to +9.8", "p < .001"),
        ("worse", "−3.0", "−5.0 to −1.0", "p = .021"),
        ("open", "0.0", "−1.5 to +1.5", "p = 1.00"),
    ],
)
def test_a_contrast_in_words(outcome: str, gain: str, interval: str, p: str) -> None:
    each = contrast(outcome)
    assert each.outcome == outcome
    assert (words.gain(each), words.tested(each)) == (f"{gain} ({interval})", p)
    corrected = replace(each, p=0.011, holm=0.088)
    assert words.tested(corrected) == "p = .011, corrected .088"
    assert words.tested(replace(corrected, p=0.0001, holm=0.0008)) == "p < .001, corrected < .001"
    assert words.gain(contrast(outcome, rows.FEWEST - 1)) == interval  # its interval alone


def test_the_answer_counts_what_is_shown_and_which_way_the_rest_points() -> None:
    found = [contrast("better", title="splice"), contrast("open", title="h3"), contrast("worse", title="h4")]
    assert words.answer(found, 3) == (
        "BERT is better than rand on 1 of 3 tasks (splice), cannot be told apart from it on 1 (h3) and is worse on 1"
        " (h4). Told apart or not, its score is the higher one on 1 of 3."
    )
    assert words.answer([replace(found[0], published=-1.0)], 2).endswith(
        "; published, on other data for the most part, it was on 0 of 1; 1 further task not measured with both."
    )
    assert words.answer([], 2) == "The two have not been measured on the same task yet. So there is no answer."


def test_a_strong_control_is_on_the_scale_and_a_weak_one_at_its_edge() -> None:
    entry = figures.Entry
    weak, strong = entry("a", "control", 2, 4, 3, weak=True), entry("b", "control", 91, 95, 93, weak=True)
    drawn = figures.forest([entry("c", "pretrained", 60, 70, 65), entry("d", "random", 55, 66, 60), weak, strong], 30.0)
    first, _, edge, best = drawn.bars
    assert best.high is not None and first.high is not None and first.high < best.high < drawn.width
    assert edge.low is None and edge.note == "◂ 3.0" and drawn.zero is None


def test_no_rows_and_a_wrong_name_are_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"^There are no rows below .*`ssl_suite bench` writes them\.$"):
        render.render(tmp_path)
    with pytest.raises(SuiteError, match="Did you mean 'cross_domain'"):
        render.render(root, "crossdomain")


def test_a_benchmark_whose_file_is_gone_has_a_page(tmp_path: Path) -> None:
    add(tmp_path, valued(400), arm="mine", task="own@x", benchmark="own", metrics=("rmse", "spearman"))
    text = {path.suffix: path.read_bytes() for path in render.render(tmp_path)}
    page = Page(text[".html"].decode())
    assert not page.open and [head.split()[0] for head in page.tables[0][0]] == ["Arm", "own"]
    assert "ssl_suite bench own task=own@x arms=mine budget=small" in text[".html"].decode() and text[
        ".png"
    ].startswith(b"\x89PNG")


def test_a_benchmark_of_ones_own_says_its_own_words(tmp_path: Path) -> None:
    text = """title: Ours
introduction: What we ask.
tasks: [own]
arms:
  plain: {encoder: "{text}", protocol: finetune, text: a plain one}
  none: {encoder: none, protocol: majority, role: control, text: the commonest}
contrasts: [{a: plain, b: none, main: true, text: "Is it better?"}]
aggregates:
  - {name: mean score}
  - {name: to people, kind: human_relative, settings: {human: {own: {accuracy: 0.5}}}}
"""
    (tmp_path / "own.yaml").write_text(text)
    for arm, right in (("none", 0.34), ("plain", 0.9), ("other", 0.36)):
        protocol = "majority" if arm == "none" else "finetune"
        made = classified(400, right, draw=len(arm), seeds=(100,) if arm == "none" else (100, 101, 102))
        add(tmp_path / "l", made, arm=arm, task="own@x", benchmark="own", protocol__name=protocol)
    (page, *_) = [path.read_text() for path in render.render(tmp_path / "l", "own", str(tmp_path))[:2]][::-1]
    seen = unescape(page)
    for said in (
        "<h1>Ours</h1>",
        "What we ask.",
        "Is it better?",
        "plain is better than none on 1 of 1 task.",
        "a plain one",
    ):
        assert said in seen
    lines = {line[0].strip(): " ".join(line[1].split()) for line in Page(page).tables[0][1:]}
    assert lines["other"].endswith("no evidence") and "no evidence" not in lines["plain"]
    board = render.load(tmp_path / "l", "own", str(tmp_path))
    (mean, relative) = board.sections[0].aggregates
    value = rows.read(next((tmp_path / "l").glob("rows/own/*plain*")))["metrics"][0]["value"]
    assert (mean.by_line[Line("plain")], relative.by_line[Line("plain")]) == pytest.approx((value, value / 0.5))
    assert 'class="zero"' in page  # the majority's line, in the panel too


def test_budgets_are_sections(tmp_path: Path) -> None:
    for budget, arms in {"small": ("BERT", "rand"), "brief": ("BERT", "rand"), "long": ("rand",)}.items():
        for arm in arms:
            add(tmp_path, classified(right=0.7), arm=arm, budget__name=budget)
    board = render.load(tmp_path, "cross_domain")
    assert [section.budget for section in board.sections] == ["small", "brief", "long"]  # the contrast, then by size
    html = render.html(board)
    assert re.findall(r'<section class="budget" data-budget="(\w+)"', html) == ["small", "brief", "long"]
    assert [len(section.columns) for section in board.sections] == [1, 1, 1]
