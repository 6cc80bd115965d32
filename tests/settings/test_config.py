"""Composing: every option of every group, values as typed, and one line about each fault."""

from __future__ import annotations

import copy
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_suite.core import registry, resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.schema import help_text
from ssl_suite.settings import config, overrides
from ssl_suite.settings import schema as settings

CONF = resources.folder("conf")
OPTIONS = sorted(
    (file.parent.name, file.stem)
    for file in CONF.glob("*/*.yaml")
    if file.parent.name in ("modality", "objective", "model", "train", "launch", "data")
)


@pytest.fixture(scope="module")
def default() -> dict[str, Any]:
    return config.compose([])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes(group: str, option: str) -> None:
    cfg = config.compose([f"{group}={option}"])
    assert cfg[group].get("name", option) == option
    assert yaml.safe_load(config.dump(cfg)) == cfg


def test_default_is_plain_and_complete(default: dict[str, Any]) -> None:
    assert list(default) == ["seed", "out", "resume", "modality", "objective", "model", "data", "train", "launch"]
    assert (default["modality"]["name"], default["objective"]["name"], default["model"]["name"]) == (
        "dna",
        "mlm",
        "tiny",
    )
    for group, cls in settings.SECTIONS.items():
        required = {item.name for item in fields(cls) if item.default is MISSING}
        assert required <= set(default[group]) <= {item.name for item in fields(cls)}
    for name, kind in (("tiny", "transformer"), ("resnet18", "convnet")):
        given = set(config.read(CONF / "model" / f"{name}.yaml"))
        assert {item.name for item in fields(settings.MODELS[kind])} - given <= {"kind"} and given
    for name, cls in settings.LAUNCHERS.items():
        assert {item.name for item in fields(cls)} == set(config.read(CONF / "launch" / f"{name}.yaml"))
    plain = (dict, list, str, int, float, bool, type(None))
    assert all(type(value) in plain for value in overrides.flatten(default).values())


def test_every_key_is_explained() -> None:
    for file in CONF.glob("*/*.yaml"):
        if (file.parent.name == "data" and "source:" in file.read_text()) or file.parent.name in ("bench", "analysis"):
            continue  # a catalogue entry is data about data; keys of others are told by ``Benchmark`` and by ``--help``
        if "--help` explains the keys" in file.read_text():
            group, section = file.parent.name, config.read(file)
            texts = help_text(settings.section_class({group: section}, group))
            assert all(texts.get(key) for key in section if key not in ("name", "recipes")), file
            continue
        for line in file.read_text().splitlines():
            if ":" in line and not line.startswith(("#", " ", "name:", "defaults:")):
                assert "#" in line, f"{file}: {line}"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("objectve=mlm", "objectve is not a key of the configuration. Did you mean 'objective'?"),
        ("objective=mml", "objective=mml does not exist. Did you mean 'mlm'?"),
        ("modality=rna", "modality=rna does not exist. Did you mean 'dna'?"),
        ("train.stepz=3", "Did you mean 'train.steps'?"),
        ("trian.steps=3", "Did you mean 'train.steps'?"),
        ("steps=3", "Did you mean 'train.steps'?"),
        ("lr=3", "Did you mean 'train.lr'?"),
        ("objective.mask_rte=0.2", "Did you mean 'objective.mask_rate'?"),
        ("+objective.rate=0.2", "'objective.rate' is not a known key"),
        ("+blub=1", "'blub' is not a known key. Choose one of: data, launch"),
        ("mini", "'mini' is not of the form key=value. Did you mean 'model=mini'?"),
        ("launch.partition=gpu", "launch.partition is not a key of launch as chosen, but of launch=slurm."),
        ("~train.wandb", "train.wandb missing"),
        ("~model", "model missing"),
        ("train.steps=-5", "train.steps=-5 should be greater than or equal to 1."),
        ("train.steps=1.5", "train.steps=1.5 should be a valid integer."),
        ("train.lr=0", "train.lr=0 should be greater than 0."),
        ("train.lr=nan", "train.lr=nan should be a finite number."),
        ("train.lr=fast", "train.lr=fast should be a valid number."),
        ("train.lr=(3", "The value of train.lr=(3 cannot be read"),
        ("train.precision=fp16", "should be 'auto', 'fp32' or 'bf16'"),
        ("train.schedule=cosin", "should be 'cosine', 'linear', 'constant' or 'wsd'"),
        ("train.compile=maybe", "should be 'auto' or be a valid boolean"),
        ("train.wandb=yes", "train.wandb=yes should be a valid boolean."),
        ("train.betas=[0.9]", "should have at least 2 items"),
        ("train.warmup=1", "train.warmup=1 should be less than 1"),
        ("train.threads=0", "train.threads=0 should be greater than or equal to 1."),
        ("model.width=102", "model.width=102 must be a multiple of 2 x model.heads"),
        ("data.valid_fraction=1", "data.valid_fraction=1 should be less than 1"),
        ("data.on_error=ignore", "should be 'stop' or 'skip'"),
        ("data.path=", "data.path= should have at least 1 character"),
        ("seed=-1", "seed=-1 should be greater than or equal to 0"),
        ("seed=1,2", "seed=1,2 gives several values: add -m"),
        ("out=[1]", "out=[1] should be a valid string."),
        ("objective.mask_rate=lots", "objective.mask_rate=lots should be a valid number."),
        ("modality.max_length=long", "modality.max_length=long should be a valid integer."),
        ("modality.tokenizer=bases", "modality.tokenizer=bases should be 'base', 'kmer' or 'bpe'."),
        ("data.path=${nowhere}", "nowhere"),
    ],
)
def test_fault_is_one_line(word: str, expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        config.compose([word])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_objective_has_the_recipe_of_the_modality() -> None:
    """As it stands in its file, shown before anything runs; a word of the user's wins over it, and null is a word."""
    file = config.read(resources.folder("conf") / "objective" / "mlm.yaml")
    own, plain = file["recipes"]["image"], {key: x for key, x in file.items() if key != "recipes"}
    assert own and plain | own != plain
    cfg = config.compose(["modality=image"])
    assert cfg["objective"] == plain | own and cfg["train"]["tokens_per_batch"] == 8192
    assert config.compose(["modality=protein"])["objective"] == plain
    found = config.compose(["modality=image", "objective.mask_rate=0.2", "objective.recipes.image.span=2"])
    assert found["objective"] == plain | own | {"mask_rate": 0.2, "span": 2}
    assert config.validate(found)["objective"] == found["objective"]


@pytest.mark.parametrize(
    ("modality", "objective"), list(zip(registry.MODALITIES.own, ["simclr", "byol"] * 3, strict=True))
)
def test_contrasts_have_64_sequences_a_step(modality: str, objective: str) -> None:
    cfg = config.compose([f"modality={modality}", f"objective={objective}"])
    assert cfg["train"]["tokens_per_batch"] >= 64 * cfg["modality"]["max_length"]
    assert cfg["train"]["tokens_per_batch"] % cfg["train"]["tokens_per_row"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["launch.processes=2", "train.tokens_per_batch=512"],
        ["launch.processes=3", "train.tokens_per_batch=8192"],
        ["launch.processes=16", "objective=simclr", "train.tokens_per_batch=1024"],
        ["launch.processes=2", "train.tokens_per_batch=512", "modality.max_length=1024"],
        ["launch=torchrun", "launch.nodes=3", "launch.rendezvous=a:1", "train.tokens_per_batch=2000"],
        ["train.tokens_per_batch=6000", "train.tokens_per_row=700"],
        ["train.tokens_per_row=300"],
    ],
)
def test_remedies_for_rows_and_processes_work_when_followed(words: list[str]) -> None:
    """As the line writes them: both keys at once; and each number of processes it names."""
    with pytest.raises(SuiteError) as caught:
        config.compose(words)
    text = str(caught.value)
    remedy = re.search(r"set (train\.tokens_per_batch=\d+) (train\.tokens_per_row=\d+)", text)
    assert remedy is not None, text
    kept = [word for word in words if not word.startswith("train.tokens")]
    config.compose([*kept, *remedy.groups()])
    if works := re.search(r": use ([\d, ]+) process", text):
        for number in works[1].split(", "):
            own = [word for word in words if not word.startswith(("launch", "train.tokens_per_row"))]
            config.compose([*own, f"launch.processes={number}"])
    assert "1 rows" not in text and "1 processes" not in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train.tokens_per_row=300"], "train.tokens_per_row=300 is shorter than modality.max_length=512"),
        (["train.tokens_per_batch=300"], "train.tokens_per_batch=300 is shorter than modality.max_length=512"),
        (["train.tokens_per_batch=5000", "train.tokens_per_row=2048"], "set train.tokens_per_batch=4096"),
        (["launch.processes=3"], "use 1, 2, 4 processes, or set train.tokens_per_batch=6144"),
        (["launch=torchrun", "launch.processes=2", "launch.nodes=3"], "6 processes cannot share the 4 rows"),
        (["train.tokens_per_row=512", "train.rows_per_forward=3"], "use 1, 2, 4, 8, 16"),
        (["launch=torchrun", "launch.rendezvous=here"], "must be HOST:PORT"),
        (["launch=torchrun", "launch.nodes=4:1"], "a range such as 1:4"),
        (["launch=torchrun", "launch.nodes=1:2", "launch.node_rank=0"], "needs a fixed launch.nodes"),
        (["launch=torchrun", "launch.node_rank=1"], "launch.node_rank=1 must be from 0 to 0"),
        (["launch=slurm", "launch.extra=[mem]"], "must be #SBATCH options"),
    ],
)
def test_what_does_not_fit_together(words: list[str], expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        config.compose(words)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "/a/b=c.fa",
        "two words.fa",
        "a,b.fa",
        "x(1)#2~.fa",
        'it\'s "quoted".fa',
        "back\\",
        "back\\'s",
        "*.fa",
        "ä/β.fa",
        "null.fa",
    ],
)
def test_paths_are_taken_as_typed(path: str) -> None:
    assert config.compose([f"data.path={path}"])["data"]["path"] == path


def test_values_keep_their_kind() -> None:
    slurm = ["launch=slurm", "launch.account=0123", "launch.time=01:30:00", "launch.extra=['--mem=8G','--qos=a b']"]
    others = ["train.lr=3e-4", "train.clip=null", "data.path=null", "seed=7", "objective.span=geometric"]
    cfg = config.compose([*slurm, *others])
    assert (cfg["launch"]["account"], cfg["launch"]["time"]) == ("0123", "01:30:00")
    assert cfg["launch"]["extra"] == ["--mem=8G", "--qos=a b"]
    assert (cfg["train"]["lr"], cfg["train"]["clip"], cfg["data"]["path"]) == (3e-4, None, None)
    assert (cfg["seed"], cfg["objective"]["span"]) == (7, "geometric")


@pytest.mark.parametrize(
    ("batch", "longest", "row"),
    [
        (8192, 512, 2048),
        (8192, 500, 2048),
        (8192, 4096, 8192),
        (8192, 3000, 8192),
        (6000, 512, 3000),
        (97, 10, 97),
        (96, 8, 32),
    ],
)
def test_row_length(batch: int, longest: int, row: int) -> None:
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    assert row == min([n for n in divisors if n >= 4 * longest], default=batch)  # the definition, by trying all
    assert settings.row_length(batch, longest) == row


def test_row_length_does_not_depend_on_the_processes() -> None:
    rows = {config.compose([f"launch.processes={n}"])["train"]["tokens_per_row"] for n in (1, 2, 4)}
    assert rows == {2048}


def test_own_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    own = "defaults: [tiny]\nname: narrow\nwidth: 64\nheads: 1\n"
    (tmp_path / "model" / "narrow.yaml").write_text(own)
    cfg = config.compose(["model=narrow", "model.layers=3"], tmp_path)
    assert (cfg["model"]["name"], cfg["model"]["layers"], cfg["model"]["mlp_width"]) == ("narrow", 3, 320)
    (tmp_path / "model" / "tiny.yaml").write_text((CONF / "model" / "tiny.yaml").read_text().replace("128", "192"))
    assert config.compose([], tmp_path)["model"]["width"] == 192
    with pytest.raises(SuiteError, match=r"model=narow does not exist\. Did you mean 'narrow'"):
        config.compose(["model=narow"], tmp_path)
    with pytest.raises(SuiteError, match="is not a folder"):
        config.compose([], tmp_path / "nowhere")


def test_write_and_read(tmp_path: Path, default: dict[str, Any]) -> None:
    path = tmp_path / "deep" / "config.yaml"
    cfg = copy.deepcopy(default)
    cfg["launch"] |= {"time": "24:00:00"}  # YAML 1.1 would read this as a number in base 60
    cfg["data"]["path"] = "ä: #1.fa"
    config.write(path, cfg)
    assert config.read(path) == cfg
    assert [file.name for file in path.parent.iterdir()] == ["config.yaml"]


def test_read_faults(tmp_path: Path) -> None:
    for content, expected in ((b"a: [", "is not YAML"), (b"- 1", "does not hold"), (b"\xff\xfe\xfa", "is not YAML")):
        (tmp_path / "c.yaml").write_bytes(content)
        with pytest.raises(SuiteError, match=expected):
            config.read(tmp_path / "c.yaml")
    with pytest.raises(SuiteError, match="No such file"):
        config.read(tmp_path / "none.yaml")


def test_write_fault(tmp_path: Path, default: dict[str, Any]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuiteError, match=r"cannot be written: .* Choose another out="):
        config.write(tmp_path / "file" / "config.yaml", default)


def test_sweep_is_the_product() -> None:
    jobs = config.sweep(["modality=dna", "model=tiny,mini", "seed=range(0,3)", "data.path=a=1.fa,b c.fa"])
    assert len(jobs) == 2 * 3 * 2
    assert jobs[0] == ["modality=dna", "model=tiny", "seed=0", "data.path=a=1.fa"]
    assert jobs[1] == ["modality=dna", "model=tiny", "seed=0", "data.path=b c.fa"]
    assert jobs[-1] == ["modality=dna", "model=mini", "seed=2", "data.path=b c.fa"]
    assert config.sweep(["data.path='a,b.fa'"]) == [["data.path='a,b.fa'"]]
    assert config.sweep(["train.betas=[0.9,0.99]"]) == [["train.betas=[0.9,0.99]"]]


def test_a_data_set_that_is_known_by_name_brings_its_modality() -> None:
    assert config.compose(["data=swissprot2014_sample"])["modality"]["name"] == "protein"
    assert config.compose(["data=yeast", "modality.k=4"])["modality"]["k"] == 4
    assert config.compose(["data=swissprot2014_sample", "modality.max_length=99"])["modality"]["max_length"] == 99
    assert config.compose(["data=swissprot2014_sample", "modality=dna"])["modality"]["name"] == "dna"
