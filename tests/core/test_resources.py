"""The folders that travel with the package, in a checkout. tests/test_wheel.py looks at an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError


def test_every_folder_is_there() -> None:
    assert {name: resources.folder(name).is_dir() for name in resources.FOLDERS} == dict.fromkeys(
        resources.FOLDERS, True
    )
    assert (resources.folder("conf") / "run.yaml").is_file()


def test_unknown_folder() -> None:
    with pytest.raises(SuiteError, match="Did you mean 'samples'"):
        resources.folder("sample")


def test_an_installation_without_them_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "ssl_suite"
    (package.parent / "samples").mkdir(parents=True)  # somebody else's folder, beside the package
    package.mkdir()
    monkeypatch.setattr(resources, "PACKAGE", package)
    with pytest.raises(SuiteError, match="install it again"):
        resources.folder("samples")
    (package / "_resources" / "samples").mkdir(parents=True)
    assert resources.folder("samples") == package / "_resources" / "samples"
