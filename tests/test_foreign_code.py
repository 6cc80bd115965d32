"""Python files in a model's folder never run: every call of transformers says so, and hostile folders are refused."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from typing import Any

import pytest

import ssl_suite
from ssl_suite import cli
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.prepare import prepare
from ssl_suite.modalities.text import Text
from ssl_suite.settings import config
from ssl_suite.training import build
from tests.evaluation import text_models

CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import BertConfig as Config, BertModel as Model, BertTokenizer as Tokens
"""
AUTO = {"AutoConfig": "foreign.Config", "AutoModel": "foreign.Model", "AutoTokenizer": ["foreign.Tokens", None]}


def opens(path: Path) -> list[tuple[str, bool]]:
    """Of each call of ``from_pretrained`` and ``from_config`` where it is, and whether it refuses foreign code."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
        if name in ("from_pretrained", "from_config"):
            words = {word.arg: word.value for word in node.keywords}  # type: ignore[attr-defined]
            value = words.get("trust_remote_code")
            refuses = isinstance(value, ast.Constant) and value.value is False and value.lineno == node.lineno  # type: ignore[attr-defined]
            found.append((f"{path}:{node.lineno}", refuses))  # type: ignore[attr-defined]
    return found


def test_every_call_refuses_foreign_code_on_its_own_line() -> None:
    calls = [call for path in Path(ssl_suite.__file__).parent.rglob("*.py") for call in opens(path)]
    assert len(calls) >= 5 and [where for where, refuses in calls if not refuses] == []


@pytest.fixture(params=["new architecture", "known architecture", "tokenizer alone"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A folder that would open well if its Python ran, and the file that the Python would write."""
    folder, marker = text_models.save(tmp_path / "hostile", "bert"), tmp_path / "ran"
    (folder / "foreign.py").write_text(CODE.format(marker=str(marker)))
    for name in ("config.json", "tokenizer_config.json")[request.param == "tokenizer alone" :]:
        content: dict[str, Any] = json.loads((folder / name).read_text()) | {"auto_map": AUTO}
        if request.param == "new architecture" and name == "config.json":
            content["model_type"] = "foreign"
        (folder / name).write_text(json.dumps(content))
    return folder, marker


@pytest.mark.parametrize(
    ("addition", "protocol"), [("", "finetune"), ("+map", "finetune"), ("+reembed", "finetune"), ("+map", "scratch")]
)
def test_bench_refuses_them(
    hostile: tuple[Path, Path],
    addition: str,
    protocol: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    folder, marker = hostile
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    words = [f"encoder=hf:{folder}{addition}", "budget=smoke", "task=sample", f"out={tmp_path / 'out'}"]
    assert cli.main(["bench", "cross_domain", f"protocol={protocol}", *words]) == 2
    said = capsys.readouterr().err
    assert "names Python code to run (auto_map)" in said and said.count("\n") == 1
    assert not marker.exists()


def test_the_start_of_a_run_and_the_tokenizer_refuse_them(
    hostile: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = hostile
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    cfg = config.compose([f"model.init=hf:{folder}"])
    with pytest.raises(SuiteError, match="names Python code to run"):
        build.learner(cfg, config.registry.build(config.registry.MODALITIES, "modality", cfg["modality"]))
    with pytest.raises(SuiteError, match="names Python code to run"):
        prepare(Text(tokenizer=f"hf:{folder}"), config.compose(["modality=text"])["data"])
    assert not marker.exists()
