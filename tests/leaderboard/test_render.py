"""The pages: numbers of verified rows only, readable without network or script, the same bytes every time."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import rows
from ssl_suite.leaderboard import figures, render, words
from ssl_suite.leaderboard.table import Column, Contrast, Line, Table
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
            assert address.startswith(("rows/", "predictions/"))
    assert not re.search(r"https?://|url\(|@import|<link|<img|src=", html)
    assert "prefers-color-scheme: dark" in html
    for named in (found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found):
        assert named in page.ids
    assert all(found.get("scope") for tag, found in page.tags if tag == "th")


def test_every_cell_is_its_rows_number(root: Path, html: str) -> None:
    (_, _, heads, *lines), *_ = Page(html).tables
    assert [head.split()[0] for head in heads] == ["Arm", *["here", "lecture"] * 3]
    by_arm = {line[0].strip(): [" ".join(cell.split()) for cell in line[1:]] for line in lines}
    assert list(by_arm) == list(ARMS)
    for row in rows.read_all(root):
        place = ("stability@tape", "h3@gue20", "splice@kao100").index(row["task"]["name"])
        cell = by_arm[row["arm"]][2 * place]
        mean = f"{100 * row['metrics'][0]['value']:.1f}"
        low, high = (f"{100 * bound:.1f}" for bound in row["metrics"][0]["ci95"])
        if row["run_id"] in (OLDER, BROKEN):
            assert not cell.startswith(mean)
        elif row["task"]["n_test"] >= rows.FEWEST:
            assert cell.startswith((f"{mean} rank ", f"{mean}rank ")), cell
            assert cell.endswith(f"{low}–{high}")
        else:  # the interval alone
            assert cell.split()[0] == f"{low}–{high}" and mean not in cell
    assert by_arm["BERT"][3] == "83.0" and by_arm["rand"][5] == "95.0" and by_arm["rand"][1] == "65.8"
    assert by_arm["rand"][0] == "not measured"


def test_too_few_items_cannot_be_sorted(html: str) -> None:
    heads = [found for tag, found in Page(html).tags if tag == "th" and found.get("scope") == "col"][:7]
    assert ["data-sort" in found for found in heads] == [True, True, True, True, True, False, True]


def test_a_failing_row_is_named_and_its_numbers_are_nowhere(root: Path, html: str, markdown: str) -> None:
    value = rows.read(root / "rows" / "cross_domain" / f"{BROKEN}.json")["metrics"][0]["value"]
    for text in (html, markdown):
        assert BROKEN in text and "failed verification" in text
        assert f"{100 * value:.1f}" not in text
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
    assert len(blocks) == 6  # scores, finding, pre-training, data, methods, published
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    assert "![" in markdown and "](cross_domain.png)" in markdown


def test_the_verdicts_are_in_plain_words(html: str, markdown: str) -> None:
    for text in (unescape(html), markdown):
        assert "BERT is better than rand on 2 of 2 tasks. The lecture's finding holds on 2 tasks measured." in text
        assert "Not measured: stability." in text
        assert "pays: specific-SSL is better" in text
        assert "not told apart from BERT" in text
    tested = r"\(p [=&lt;]+ \.\d+, corrected [^)]+\)"
    assert re.search(rf"holds\. BERT is better than rand by \d+\.\d to \d+\.\d points {tested}", html)


def contrast(outcome: str, n_test: int = 1000) -> Contrast:
    column = Column((), "accuracy", True, {"n_test": n_test}, "small")
    gain, low, high, p = {
        "better": (0.074, 0.051, 0.098, 0.0009),
        "worse": (-0.03, -0.05, -0.01, 0.021),
        "open": (0.0, -0.0149, 0.0151, 1.0),
    }[outcome]
    return Contrast(column, Line("BERT"), Line("rand"), gain, low, high, p, p)


@pytest.mark.parametrize(
    ("outcome", "sentence", "gain", "interval", "p"),
    [
        ("better", "holds. BERT is better than rand by 5.1 to 9.8 points", "+7.4", "+5.1 to +9.8", "p < .001"),
        ("worse", "the opposite. rand is better than BERT by 1.0 to 5.0 points", "−3.0", "−5.0 to −1.0", "p = .021"),
        ("open", "not shown. BERT − rand is somewhere in −1.5 to +1.5 points", "0.0", "−1.5 to +1.5", "p = 1.00"),
    ],
)
def test_a_contrast_in_words(outcome: str, sentence: str, gain: str, interval: str, p: str) -> None:
    each = contrast(outcome)
    assert each.outcome == outcome
    assert words.sentence(each) == f"{sentence} ({p})"
    assert (words.gain(each), words.interval(each), words.tested(each)) == (gain, [interval], p)
    corrected = replace(each, p=0.011, holm=0.088)
    assert words.probabilities(corrected) == ["p = .011", "corrected .088"]
    assert words.tested(corrected) == "p = .011, corrected .088"
    assert words.tested(replace(corrected, p=0.0001, holm=0.0008)) == "p < .001, corrected < .001"
    few = contrast(outcome, rows.FEWEST - 1)  # its interval alone
    assert (words.gain(few), words.interval(few), words.tested(few)) == (interval, [], p)


def test_the_summary_counts_what_is_shown_and_which_way_the_rest_points() -> None:
    column = Column((), "accuracy", True, {"title": "splice"}, "small")
    shown = words.Finding(column, "yes", "", "", "", "open", "", ahead=True)
    ahead, behind = replace(shown, status="open"), replace(shown, status="open", ahead=False)
    text = words.summary([shown, ahead, behind])
    assert "better than rand on 1 of 3 tasks (splice) and cannot be told apart from it on 2" in text
    assert "BERT's score is the higher one on 2 of 3." in text
    assert "Told apart or not" not in words.summary([shown, shown])


@pytest.mark.parametrize(
    ("above", "below", "status"),
    [("better", "better", "yes"), ("better", "open", "open"), ("open", "open", "open"), ("worse", "better", "no")],
)
def test_re_emb_between(above: str, below: str, status: str) -> None:
    main, over, under = contrast("better"), contrast(above), contrast(below)
    over = Contrast(main.column, Line("re-emb"), Line("rand"), over.gain, over.low, over.high, over.p, over.holm)
    under = Contrast(main.column, Line("BERT"), Line("re-emb"), under.gain, under.low, under.high, under.p, under.holm)
    made = Table(contrasts={("BERT", "rand"): [main], ("re-emb", "rand"): [over], ("BERT", "re-emb"): [under]})
    assert words.between(made, main.column, main)[0] == status
    assert words.between(Table(), main.column, main)[0] == "missing"


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((44.3, 71.2), (88.1, 99.7), (-3.0, 64.0), (0.2, 0.9), (61.4, 62.9), (0.0, 100.0)):
        found = figures.ticks(low, high)
        assert 3 <= len(found) <= 6 and low <= min(found) and max(found) <= high
        steps = np.diff(found)
        assert steps == pytest.approx(steps[0]) and f"{steps[0]:e}"[0] in "125"


def test_no_rows_and_a_wrong_name_are_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"^There are no rows below .*`ssl_suite bench` writes them\.$"):
        render.render(tmp_path)
    with pytest.raises(SuiteError, match="Did you mean 'cross_domain'"):
        render.render(root, "crossdomain")


def test_a_benchmark_without_references_and_without_bert_has_a_page(tmp_path: Path) -> None:
    add(tmp_path, valued(400), arm="mine", task="own@x", benchmark="own", metrics=("rmse", "spearman"))
    text = {path.suffix: path.read_bytes() for path in render.render(tmp_path)}
    page = Page(text[".html"].decode())
    assert not page.open and [head.split()[0] for head in page.tables[0][2]] == ["Arm", "here"]
    assert "lecture" not in text[".html"].decode().split("</style>")[1].lower() and text[".png"].startswith(b"\x89PNG")


def test_an_empty_cell_says_why(tmp_path: Path) -> None:
    add(tmp_path, classified(), arm="BERT", task="h3@gue20")
    add(tmp_path, classified(right=0.7), arm="rand", task="h3@gue20")
    add(tmp_path, classified(right=0.4), arm="majority", task="h3@gue20", tag="more", task__n_train=2871)
    add(tmp_path, classified(right=0.7), arm="rand", task="h4@gue20")
    add(tmp_path, classified(right=0.4), arm="majority", task="h4@gue20")
    add(tmp_path, valued(), arm="rand", task="stability@tape")
    board = render.load(tmp_path, "cross_domain")
    gap, columns = render.gaps(board), {column.task["name"]: column for column in board.main.columns}
    assert gap(Line("majority"), columns["h3@gue20"]) == "other setting"
    assert gap(Line("majority"), columns["stability@tape"]) == "undefined"
    assert gap(Line("BERT"), columns["h4@gue20"]) == "not measured"
    assert (
        gap(Line("rand", "another"), columns["h3@gue20"]) == "not measured"
    )  # rand is measured here, this kind is not
    for said in ("other setting", "undefined", "not measured"):
        assert said in render.html(board) and said in render.markdown(board)


def test_further_settings_are_told_apart_and_say_nothing_of_what_they_lack(tmp_path: Path) -> None:
    for budget, arms in {"small": ("BERT", "rand"), "brief": ("BERT", "rand"), "long": ("rand",)}.items():
        for arm in arms:
            add(tmp_path, classified(right=0.7), arm=arm, budget__name=budget)
    board = render.load(tmp_path, "cross_domain")
    assert [column.budget for column in board.main.columns] == ["small"]
    title = board.main.columns[0].task["title"]
    for page, row in ((render.markdown(board), "| {} |"), (render.html(board), '<th scope="row">{} ')):
        assert row.format(title) in page and row.format(f"{title} (brief)") in page
    ((_, found),) = render._findings(board, board.other)
    assert [each.column.budget for each in found] == ["brief"]  # long has no BERT


def test_columns_of_two_budgets_say_which(tmp_path: Path) -> None:
    add(tmp_path, classified(), arm="rand", task="h3@gue20", budget__name="brief")
    add(tmp_path, classified(), arm="rand", task="h4@gue20", budget__name="warm")
    board = render.load(tmp_path, "cross_domain")
    html, markdown = render.html(board), render.markdown(board)
    for column in board.main.columns:
        assert f'<span class="what">budget {column.budget}</span>' in html
        assert f"({column.budget})<br>" in markdown
    assert {column.budget for column in board.main.columns} == {"brief", "warm"} and not board.other.columns


@pytest.mark.parametrize(
    ("count", "window", "said"),
    [(0, 128, "0"), (1867, 128, "1,867 (to 126)"), (12, None, "12"), (12, 502, "12 (to 500)")],
)
def test_what_is_read_of_long_items(count: int, window: int | None, said: str) -> None:
    task = {"n_truncated": count} | ({"max_length": window} if window else {})
    assert words.truncated(task) == said
