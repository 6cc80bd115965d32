"""Registries of modalities and objectives, literal and lazy: a name to the dotted path of its class.

Another package adds its own by an entry point, one line in its ``pyproject.toml`` (of heads: ``ssl_suite.heads``)::

    [project.entry-points."ssl_suite.modalities"]
    sensor = "sensor:Sensor"

Entry points and not a path in the configuration: every process of a run finds the class by its name, and a run folder
from elsewhere can name no code but what its reader has installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from typing import Any

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.schema import parse, settings_of


class Registry(Mapping[str, str]):
    """The suite's own entries, and behind them those of other installed packages.

    Looking up a name of the suite's does not search the installed packages (10 ms); iteration does, and gives all.
    """

    def __init__(self, group: str, own: Mapping[str, str]) -> None:
        self.group, self.own = group, own

    def __getitem__(self, name: str) -> str:
        return self.own[name] if name in self.own else outside(self.group)[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.own, **outside(self.group)})

    def __len__(self) -> int:
        return len(list(iter(self)))


@cache
def outside(group: str) -> dict[str, str]:
    """The entries of installed packages: those of the entry points ``ssl_suite.GROUP``.

    Raises:
        SuiteError: two packages offer different classes under one name.
    """
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=f"ssl_suite.{group}"):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            packages = " and ".join(sorted(p.dist.name if p.dist is not None else p.value for p in (other, point)))
            raise SuiteError(f"{packages} both add '{point.name}' to ssl_suite.{group}; uninstall one of them.")
    return {name: point.value for name, point in found.items()}


MODALITIES = Registry(
    "modalities",
    {
        "text": "ssl_suite.modalities.text:Text",
        "dna": "ssl_suite.modalities.dna:DNA",
        "protein": "ssl_suite.modalities.protein:Protein",
        "music": "ssl_suite.modalities.music:Music",
        "image": "ssl_suite.modalities.image:Image",
        "speech": "ssl_suite.modalities.speech:Speech",
    },
)

OBJECTIVES = Registry(
    "objectives",
    {
        "mlm": "ssl_suite.objectives.mlm:MaskedLM",
        "whole_word": "ssl_suite.objectives.mlm:WholeWordLM",
        "span": "ssl_suite.objectives.span:SpanBERT",
        "nsp": "ssl_suite.objectives.pairs:NextSentence",
        "sop": "ssl_suite.objectives.pairs:SentenceOrder",
        "electra": "ssl_suite.objectives.electra:Electra",
        "cbow": "ssl_suite.objectives.cbow:CBOW",
        "clm": "ssl_suite.objectives.clm:CausalLM",
        "mass": "ssl_suite.objectives.mass:Mass",
        "bart": "ssl_suite.objectives.bart:Bart",
        "t5": "ssl_suite.objectives.t5:T5",
        "frames": "ssl_suite.objectives.frames:Frames",
        "apc": "ssl_suite.objectives.apc:Autoregressive",
        "cpc": "ssl_suite.objectives.cpc:ContrastivePredictive",
        "simclr": "ssl_suite.objectives.simclr:SimCLR",
        "byol": "ssl_suite.objectives.byol:Byol",
        "data2vec": "ssl_suite.objectives.data2vec:Data2Vec",
    },
)


def load(registry: Mapping[str, str], group: str, name: str) -> Any:
    """The class behind a name.

    Raises:
        SuiteError: an unknown name; ``group`` is the section it stands in.
    """
    if name not in registry:
        raise SuiteError(f"{group}={name} does not exist.{nearest(name, registry)}")
    module, _, attribute = registry[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(registry: Mapping[str, str], group: str, section: Mapping[str, Any], **given: Any) -> Any:
    """The object that a configuration section names.

    Args:
        registry: ``MODALITIES`` or ``OBJECTIVES``.
        group: the section's name in the configuration, for error messages.
        section: ``name`` and the settings of the class.
        given: arguments that do not come from the configuration, of ``schema.GIVEN``.

    Raises:
        SuiteError: as ``check``, or settings that do not go together.
    """
    cls, settings = check(registry, group, section)
    return cls(**settings, **given)


def check(registry: Mapping[str, str], group: str, section: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class that a section names, and its settings, checked one by one.

    Raises:
        SuiteError: an unknown name, an unknown key, or a value of the wrong type or out of range; the key is named as
            the user writes it (``group.key``).
    """
    cls = load(registry, group, str(section.get("name")))
    settings = {key: value for key, value in section.items() if key != "name"}
    found = parse(settings_of(cls), settings, "", f"{group}.")
    return cls, {key: getattr(found, key) for key in settings}
