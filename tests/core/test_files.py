"""YAML whose numbers are hydra's."""

import pytest
import yaml
from omegaconf import OmegaConf

from ssl_suite.core.files import YamlLoader


@pytest.mark.parametrize(
    "text", ["1e-4", "3E-5", "-2.5e3", "1.e+2", "0.1", "12", "1e", "e-4", "h3k9", "1e-4x", "'1e-4'"]
)
def test_a_number_is_one_to_hydra_too(text: str) -> None:
    assert yaml.load(f"a: {text}", YamlLoader)["a"] == OmegaConf.create(f"a: {text}").a
