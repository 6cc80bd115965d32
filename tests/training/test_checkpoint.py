import json
import resource
from pathlib import Path

import pytest
import torch

from ssl_suite.core.errors import SuiteError
from ssl_suite.training import checkpoint
from ssl_suite.training.distributed import DistributedContext
from tests.training import children

ALONE = DistributedContext()


def learner(seed: int = 0, width: int = 8) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.LayerNorm(width), torch.nn.Linear(width, 2))
    return module, torch.optim.AdamW(module.parameters(), lr=0.1)


def work(module: torch.nn.Module, optimiser: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        module(torch.randn(16, 4, generator=draw)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()


def test_restores_weights_state_and_facts_exactly(tmp_path):
    module, optimiser = learner()
    work(module, optimiser, 3)
    checkpoint.save(tmp_path, 3, module, optimiser, {"tokens": 7, "valid_loss": 0.5}, ALONE)
    work(module, optimiser, 4, seed=1)
    other, other_optimiser = learner(seed=9)
    facts = checkpoint.load(tmp_path / "step_00000003", other, other_optimiser, ALONE)
    assert facts["step"] == 3 and facts["tokens"] == 7
    work(other, other_optimiser, 4, seed=1)
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_keeps_the_newest_and_the_best(tmp_path):
    module, optimiser = learner()
    for step, loss in [(1, 0.9), (2, 0.3), (3, None), (4, 0.8), (5, 0.7)]:
        checkpoint.save(tmp_path, step, module, optimiser, {"valid_loss": loss}, ALONE)
        checkpoint.prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000002", "step_00000004", "step_00000005"]
    assert checkpoint.best(tmp_path).name == "step_00000002"


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "manifest"])
def test_damage_is_seen_and_passed_over(tmp_path, harm):
    module, optimiser = learner()
    for step in (1, 2):
        checkpoint.save(tmp_path, step, module, optimiser, {}, ALONE)
    newest = tmp_path / "step_00000002"
    path = newest / (checkpoint.MANIFEST if harm == "manifest" else checkpoint.STATE)
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif harm == "remove":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2])
    said = []
    assert checkpoint.sound(tmp_path, said.append) == tmp_path / "step_00000001"
    assert len(said) == 1 and "step_00000002 is damaged" in said[0] and "falling back" in said[0]


def test_a_checkpoint_half_written_is_not_one(tmp_path):
    module, optimiser = learner()
    checkpoint.save(tmp_path, 1, module, optimiser, {}, ALONE)
    (tmp_path / ".writing_00000002").mkdir()
    (tmp_path / ".writing_00000002" / checkpoint.WEIGHTS).write_bytes(b"half")
    assert [p.name for p in checkpoint.names(tmp_path)] == ["step_00000001"]
    checkpoint.save(tmp_path, 2, module, optimiser, {}, ALONE)
    assert checkpoint.damage(tmp_path / "step_00000002") is None


def _save_with_limit(root: Path, said: Path) -> None:
    """A file size limit stands in for a full disk: the kernel refuses to write on, as it does on one."""
    module, optimiser = learner(width=20_000)
    checkpoint.save(root, 1, module, optimiser, {}, ALONE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        checkpoint.save(root, 2, module, optimiser, {}, ALONE)
    except SuiteError as error:
        said.write_text(str(error))


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    root, said = tmp_path / "checkpoints", tmp_path / "said.txt"
    children.finish([children.start(_save_with_limit, root, said, folder=tmp_path / "logs")], tmp_path / "logs")
    line = said.read_text()
    assert "step 2 could not be written" in line and "newest good one is step_00000001" in line and "\n" not in line
    assert [p.name for p in root.iterdir()] == ["step_00000001"]
    assert checkpoint.damage(root / "step_00000001") is None


def test_no_permission_is_one_line(tmp_path):
    """Root may write anywhere, so the refusal is made by a file that stands where the folder should be."""
    module, optimiser = learner()
    (tmp_path / "checkpoints").write_text("not a folder")
    with pytest.raises(SuiteError, match=r"step 1 could not be written \(.*\); the newest good one is none"):
        checkpoint.save(tmp_path / "checkpoints", 1, module, optimiser, {}, ALONE)


def test_manifest_is_plain_json(tmp_path):
    module, optimiser = learner()
    checkpoint.save(tmp_path, 12, module, optimiser, {"seconds": 1.5}, ALONE)
    facts = json.loads((tmp_path / "step_00000012" / checkpoint.MANIFEST).read_text())
    assert facts["step"] == 12 and facts["seconds"] == 1.5 and len(facts["sha256"]) == 2
