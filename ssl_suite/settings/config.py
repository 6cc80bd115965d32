"""From command-line words to one plain, validated configuration, and to the YAML file that freezes it.

Hydra composes once, in the parent process. Everything after that reads ``config.yaml`` without hydra.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ssl_suite.core import atomic, registry, resources
from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.settings import overrides, run_reference
from ssl_suite.settings import schema as settings

NAME = "run.yaml"


def compose(words: Sequence[str], config_dir: str | Path | None = None) -> dict[str, Any]:
    """The configuration that the words choose, as nested dicts of plain values.

    Args:
        words: hydra overrides such as ``model=mini`` and ``train.lr=3e-4``.
        config_dir: a folder of the user's own, laid out like ``conf/``; its files come before the suite's.

    Raises:
        SuiteError: a wrong key, option or value; one line, with the nearest right one.
    """
    folders = _folders(config_dir)
    groups = overrides.find_groups(folders)
    parsed = [overrides.parse(text, groups) for text in words]
    chosen = [word for word in parsed if word.key in groups]
    for word in chosen:
        overrides.check_option(word, groups)
    first = _hydra([str(word) for word in chosen], folders)
    typed = {word.key: word.value for word in parsed}
    init = None if typed.get("model.init_tokens") == "new" else typed.get("model.init")
    begun = _modality_of_run(init) if init else {}
    brought = (first["data"].get("source") or {}).get("modality") or begun.get("name")
    if brought not in (None, first["modality"]["name"]) and "modality" not in typed and brought in groups["modality"]:
        # A data set known by name, or a run to start from, brings its modality; one that is asked for stands.
        parsed.append(overrides.parse(f"modality={brought}", groups))
        first = _hydra([str(word) for word in (*chosen, parsed[-1])], folders)
    known = overrides.with_sections(overrides.flatten(first))
    for word in parsed:
        if word.key not in groups:
            overrides.check_key(word, known, groups)
    ready = [str(word) if word.key in groups else overrides.for_hydra(word) for word in parsed]
    cfg = with_recipe(_hydra(ready, folders), {word.key for word in parsed})
    if init:
        cfg["modality"] = _continued(cfg["modality"], begun, init, typed)
    # Under resume=true the values that must fit together are those of the saved run: runs.resolve_run checks them.
    return validate(cfg, fit=cfg.get("resume") is not True)


def _modality_of_run(init: str) -> dict[str, Any]:
    """The ``modality`` section of the run that ``model.init`` names; empty where it names none."""
    file = run_reference.split(init)[0] / run_reference.CONFIG
    found = read(file).get("modality") if file.is_file() else None
    return found if isinstance(found, dict) else {}


def _continued(
    section: dict[str, Any], begun: Mapping[str, Any], init: str, typed: Mapping[str, str | None]
) -> dict[str, Any]:
    """The ``modality`` section of a run that starts from ``init``: where nothing else was typed, as it was there.

    Args:
        begun: the section of the run it starts from; of a folder of ``transformers`` there is none, and text takes its
            tokenizer.
    """
    place = Path(init.removeprefix("hf:")).expanduser()
    given: Mapping[str, Any] = begun if begun.get("name") == section["name"] else {}
    if not begun and section["name"] == "text" and ((place / "tokenizer.json").is_file() or not place.exists()):
        given = {"tokenizer": f"hf:{place}"}
    return section | {k: x for k, x in given.items() if k in section and f"modality.{k}" not in typed}


def sweep(words: Sequence[str], config_dir: str | Path | None = None) -> list[list[str]]:
    """The jobs that ``--multirun`` makes of the words: the product of all values, as lists of words."""
    groups = overrides.find_groups(_folders(config_dir))
    return [[str(word) for word in job] for job in overrides.expand(overrides.parse(text, groups) for text in words)]


def with_recipe(cfg: dict[str, Any], named: set[str]) -> dict[str, Any]:
    """``cfg`` with the objective's recipe for the modality at hand, which stands under ``recipes`` of its file.

    Args:
        named: dotted keys that the user gave; their values stand.
    """
    section = {key: value for key, value in cfg["objective"].items() if key != "recipes"}
    recipe = cfg["objective"].get("recipes", {}).get(cfg["modality"].get("name"), {})
    section |= {key: value for key, value in recipe.items() if f"objective.{key}" not in named}
    return {**cfg, "objective": section}


def validate(cfg: dict[str, Any], fit: bool = True) -> dict[str, Any]:
    """Check all of ``cfg`` (with ``fit`` also what its sections must agree on); fill in the sizes that are null.

    Raises:
        SuiteError: one line about the first fault.
    """
    settings.validate(cfg)
    if cfg["modality"].get("max_length") is None:  # the modality's other settings give it, as a picture's size does
        built = registry.build(registry.MODALITIES, "modality", cfg["modality"])
        cfg = {**cfg, "modality": {**cfg["modality"], "max_length": built.max_length}}
    train = cfg["train"]
    if train["tokens_per_batch"] is None:
        sequences = settings.section_class(cfg, "objective").sequences
        batch = max(settings.TOKENS_PER_BATCH, sequences * cfg["modality"]["max_length"])
        train = {**train, "tokens_per_batch": batch}
        cfg = {**cfg, "train": train}
    if train["tokens_per_row"] is None:
        row = settings.row_length(train["tokens_per_batch"], cfg["modality"]["max_length"])
        cfg = {**cfg, "train": {**train, "tokens_per_row": row}}
    if fit:
        settings.check_fit(cfg)
    return cfg


def _folders(config_dir: str | Path | None) -> list[Path]:
    shipped = resources.folder("conf")
    if config_dir is None:
        return [shipped]
    own = Path(config_dir).expanduser().resolve()
    if not own.is_dir():
        raise SuiteError(f"--config-dir {config_dir} is not a folder: give one laid out like {shipped}.")
    return [own, shipped]


def _hydra(words: list[str], folders: list[Path]) -> dict[str, Any]:
    """Compose ``run.yaml`` with the words; the first folder that has a file wins."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    top = next(folder / NAME for folder in folders if (folder / NAME).is_file())
    path = ",".join(f'"file://{folder}"' for folder in folders)
    try:
        # Hydra lets the folder of the top file hide all others, so that file stands alone in one of its own.
        with TemporaryDirectory() as alone:
            shutil.copy(top, alone)
            with initialize_config_dir(alone, version_base="1.3"):
                composed = hydra_compose(top.stem, overrides=[*words, f"hydra.searchpath=[{path}]"])
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise SuiteError(f"The configuration cannot be composed: {_one_line(error)}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _one_line(error: BaseException) -> str:
    """The first sentence of an exception, and of the one that caused it."""
    lines = [str(error).strip().splitlines()[:1] for error in (error, error.__cause__) if error]
    return "; ".join(line[0].strip() for line in lines if line)


def dump(cfg: Mapping[str, Any]) -> str:
    """``cfg`` as YAML, its keys in their order."""
    return yaml.safe_dump(dict(cfg), sort_keys=False, allow_unicode=True, width=120)


def write(path: Path, cfg: Mapping[str, Any]) -> None:
    """Write ``cfg`` as YAML, so that the file is either the old one or the new one, never half of one.

    Raises:
        SuiteError: the folder cannot be made or written.
    """
    try:
        atomic.write(path, dump(cfg))
    except OSError as error:
        raise SuiteError(f"{path} cannot be written: {error.strerror}. Choose another out=.") from error


def option(group: str, name: str) -> dict[str, Any]:
    """``conf/GROUP/NAME.yaml`` by itself, without composing; numbers such as ``1e-4`` are numbers, as hydra reads them.

    Raises:
        SuiteError: there is no such file; names the nearest.
    """
    from omegaconf import OmegaConf

    path = resources.folder("conf") / group / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise SuiteError(f"{group}={name} does not exist.{nearest(name, known)}")
    found = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def read(path: Path) -> dict[str, Any]:
    """The configuration in a YAML file that ``write`` wrote.

    Raises:
        SuiteError: no such file, or not a YAML mapping.
    """
    try:
        cfg = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SuiteError(f"{path} is not YAML: {_one_line(error)}. Restore it, or choose another out=.") from error
    if not isinstance(cfg, dict):
        raise SuiteError(f"{path} does not hold a configuration. Restore it, or choose another out=.")
    return cfg


def read_run(path: Path) -> dict[str, Any]:
    """The frozen configuration of a run, with sections that name what they configure.

    Raises:
        SuiteError: as ``read``, or a section is missing or names nothing.
    """
    cfg = read(path)
    for group in ("modality", "objective", "model"):
        section = cfg.get(group)
        if not isinstance(section, dict) or not isinstance(section.get("name"), str):
            raise SuiteError(f"{path}: its section '{group}' is damaged. Restore it, or choose another out=.")
    return cfg
