"""The folders that travel with the package, found in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

from ssl_suite.core.errors import SuiteError, nearest

FOLDERS = ("conf", "tasks", "samples", "leaderboards")
PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """The folder ``name``, one of ``FOLDERS``.

    A checkout (or an editable install) has it beside the package; a wheel carries it inside, as ``_resources/NAME``
    (see ``force-include`` in pyproject.toml). Treat it as read-only: an installation may belong to another user.

    Raises:
        SuiteError: no such folder, or an installation that lacks it.
    """
    if name not in FOLDERS:
        raise SuiteError(f"There is no folder of resources named '{name}'.{nearest(name, FOLDERS)}")
    installed = PACKAGE / "_resources" / name
    if installed.is_dir():
        return installed
    checkout = PACKAGE.parent / name
    # pyproject.toml tells a checkout from a site-packages that happens to hold a folder named "samples".
    if checkout.is_dir() and (PACKAGE.parent / "pyproject.toml").is_file():
        return checkout
    raise SuiteError(f"This installation of ssl_suite lacks its folder {installed}: install it again.")
