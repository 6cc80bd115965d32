"""Two languages to compare: their sentences, the word pairs of a dictionary, and encoders of English and its copy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.recipes import bilingual

FAKE = "fake"
MIDDLE = 200  # letters: a longer sentence is left out, a window might cut it


@dataclass(frozen=True)
class Languages:
    """Sentences and pairs of words.

    Attributes:
        code: of the other language.
        parallel: (English, other) sentences that translate each other.
        en, other: sentences of which none translates one of the other list.
        pairs: (English, other) words, lower-case; None: every English word and its copy.
    """

    code: str
    parallel: list[tuple[str, str]]
    en: list[str]
    other: list[str]
    pairs: list[tuple[str, str]] | None


def read(code: str, most: int, corpus: str | None, place: dict[str, Any]) -> Languages:
    """The two languages.

    Args:
        most: sentences of each.
        corpus: for the copy: a data set as ``bilingual.fake_english`` makes, or None for the built-in novels.

    Raises:
        SuiteError: the data are not here.
    """
    if code != FAKE:
        rows = _table("bilingual", place)
        mine = [(row["en"], row["other"], row["kind"]) for row in rows if row["language"] == code]
        # Every second one, so that both halves hold all of the sources.
        parallel = [(en, other) for en, other, kind in mine if kind == "sentence"]
        step = max(1, len(parallel) // (2 * most))
        parallel = parallel[::step][: 2 * most]
        pairs = [(en, other.lower()) for en, other, kind in mine if kind == "word" and en != other.lower()]
        return Languages(
            code, parallel[::2], [en for en, _ in parallel[::2]], [other for _, other in parallel[1::2]], pairs
        )
    halves: dict[str, list[str]] = {"en": [], FAKE: []}
    for row in _table(corpus, place) if corpus else sample():
        halves[row["language"]] += [one for one in row["sentences"] if 20 <= len(one) <= MIDDLE]
    en, fake = (half[:: max(1, len(half) // most)][:most] for half in halves.values())
    return Languages(code, [(one, bilingual.copied(one)) for one in en], en, fake, None)


def sample() -> list[dict[str, Any]]:
    """The built-in novels as ``bilingual.fake_english`` makes tables."""
    from ssl_suite.data import sources
    from ssl_suite.modalities.text import Text

    modality = Text()
    rows: list[dict[str, Any]] = []
    for path in sources.builtin(modality).paths:
        for record in modality.read(path, _raise):
            text = record.data if isinstance(record.data, str) else " ".join(record.data)
            for paragraph in re.split(r"\n\s*\n", text):
                sentences = [*filter(None, map(bilingual.letters, re.split(r"[.!?;]", paragraph)))]
                fake = len(rows) % 2 == 1
                made = [bilingual.copied(one) for one in sentences] if fake else sentences
                if made:
                    rows.append({"id": str(len(rows)), "language": FAKE if fake else "en", "sentences": made})
    return rows


def trained(given: dict[str, Any], say: Callable[[str], None]) -> list[str]:
    """Run folders of encoders of English and its copy, one for each of ``tokens``; those that are there stay.

    Raises:
        SuiteError: ``tokens`` are no numbers, or a run fails.
    """
    from ssl_suite.evaluation import pretrain

    out = Path(given["out"] or "runs/analysis") / "encoders"
    try:
        amounts = [int(one) for one in given["tokens"].split(",")]
    except ValueError:
        raise SuiteError(f"tokens={given['tokens']} should be whole numbers with commas, such as 300000.") from None
    words = list(given["run"])
    if given["corpus"]:
        words += [f"data={given['corpus']}", *(f"data.{key}={value}" for key, value in given["place"].items() if value)]
    else:
        words += [f"data.path={_written(out)}", "data.column=sentences"]
    batch = next(int(word.partition("=")[2]) for word in words if word.startswith("train.tokens_per_batch="))
    runs = []
    for tokens in amounts:
        steps, folder = max(2, tokens // batch), out / f"fake-{tokens}-{given['seed']}"
        mine = (*words, f"train.steps={steps}", f"seed={given['seed']}", f"out={folder}")
        runs.append(pretrain.Source(folder.name, folder, mine))
    pretrain.run(runs, 1, say)
    return [str(run.folder) for run in runs]


def _written(out: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = out / "fake_english.parquet"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as unfinished:
            pq.write_table(pa.Table.from_pylist(sample()), unfinished)
    return path


def _table(name: str, place: dict[str, Any]) -> Sequence[dict[str, Any]]:
    import pyarrow.parquet as pq

    from ssl_suite.data import sources
    from ssl_suite.modalities.text import Text
    from ssl_suite.settings import config

    path = sources.resolve_entry(Text(), config.option("data", name) | place).paths[0]
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _raise(error: Exception) -> None:
    raise error
