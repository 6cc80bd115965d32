"""What a summary and a row say of the checkout they were made from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ssl_suite.training import finish


def test_added_rows_make_no_tree_dirty_and_changed_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "ssl_suite" / "training" / "finish.py"
    module.parent.mkdir(parents=True)
    module.write_text("a = 1\n")
    monkeypatch.setattr(finish, "__file__", str(module))
    assert finish.git_state() == (None, None)  # no checkout
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "a")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    commit, dirty = finish.git_state()
    assert commit is not None and len(commit) == 40 and dirty is False
    for name in ("rows/x/a.json", "predictions/x/a.parquet", "manifest.jsonl"):
        path = tmp_path / "leaderboards" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert finish.git_state() == (commit, False)
    (tmp_path / "leaderboards" / "x.md").write_text("a page")
    assert finish.git_state() == (commit, True)
    (tmp_path / "leaderboards" / "x.md").unlink()
    module.write_text("a = 2\n")
    assert finish.git_state() == (commit, True)
