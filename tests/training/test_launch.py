"""Real runs of a tiny model: in this process, under torchrun, on two "nodes", and through Slurm's batch file."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssl_suite import cli
from ssl_suite.core import machine
from ssl_suite.settings import config, runs
from ssl_suite.training import launch, slurm
from ssl_suite.training.distributed import processes

TINY = [
    *("data.path=in.fa", "modality.max_length=64", "train.tokens_per_batch=1024", "train.eval_tokens=256"),
    *("model.layers=1", "model.width=64", "model.heads=1", "model.mlp_width=64", "train.log_every=1"),
]
Result = tuple[int, str, str]
ENDLESS = ["train.steps=1000000", "train.checkpoint_every=2", "train.eval_every=1000000"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder with a small FASTA file of random bases."""
    bases = random.Random(0)
    records = [f">r{i}\n{''.join(bases.choices('ACGT', k=300))}\n" for i in range(40)]
    (tmp_path / "in.fa").write_text("".join(records))
    return tmp_path


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """``run(*words) -> (exit code, stdout, stderr)``, children included, in this process: it has torch loaded."""
    monkeypatch.chdir(place)

    def call(*words: str) -> Result:
        code = cli.main(["run", *words])
        return code, *capfd.readouterr()

    return call


def begin(place: Path, *words: str) -> subprocess.Popen[str]:
    """A run in a process of its own."""
    command = [sys.executable, "-m", "ssl_suite", "run", *words]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps(out: Path) -> int:
    return json.loads((out / "summary.json").read_text())["steps"]


def saved(out: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step_")) for folder in (out / "checkpoints").glob("step_*"))


def after_a_checkpoint(out: Path, action: Callable[[], object]) -> threading.Thread:
    """Start a thread that waits for the run in ``out`` to have saved, then does something to it."""

    def wait() -> None:
        limit = time.monotonic() + 120
        while not saved(out) and time.monotonic() < limit:
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_one_process_goes_on_and_keeps_its_settings(place: Path, run: Callable[..., Result]) -> None:
    assert run(*TINY, "train.steps=2", "train.lr=2e-3", "out=r")[0] == 0
    assert steps(place / "r") == 2
    assert config.read(place / "r" / "config.yaml")["train"]["lr"] == 2e-3

    code, _, err = run(*TINY, "train.steps=3", "out=r")
    assert (code, err.count("\n")) == (2, 1)
    assert "train.lr=0.002 (now 0.001)" in err
    assert "resume=true" in err

    assert run("out=r", "resume=true", "train.steps=3")[0] == 0
    assert steps(place / "r") == 3
    assert config.read(place / "r" / "config.yaml")["train"]["lr"] == 2e-3


def test_a_fault_before_the_first_step_leaves_no_folder(place: Path, run: Callable[..., Result]) -> None:
    for words, expected in ((["objective.mask_rate=1.5"], "mask_rate=1.5"), (["data.path=no.fa"], "no.fa")):
        code, _, err = run(*TINY, *words, "out=r")
        assert (code, err.count("\n")) == (2, 1)
        assert expected in err
        assert not (place / "r").exists()


def test_two_processes_save_when_their_parent_gets_a_signal(place: Path, run: Callable[..., Result]) -> None:
    after_a_checkpoint(place / "r", lambda: os.kill(os.getpid(), signal.SIGTERM))
    code, out, err = run(*TINY, *ENDLESS, "launch.processes=2", "out=r")
    assert (code, err) == (0, "")  # torchrun's own talk is in its log
    assert "stopped after step" in out  # what rank 0 says is not
    lines = (place / "r" / "metrics.jsonl").read_text().splitlines()
    assert saved(place / "r")[-1] == json.loads(lines[-1])["step"]  # the step it was at, not an older one
    assert not (place / "r" / "worker.pid").exists()


def test_two_processes_give_a_users_fault_as_one_line(place: Path, run: Callable[..., Result]) -> None:
    code, _, err = run(*TINY, "data.path=no.fa", "launch.processes=2", "out=r")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: data.path=no.fa")
    assert not (place / "r").exists()


def test_a_worker_that_dies_is_reported(place: Path, run: Callable[..., Result]) -> None:
    pid = place / "r" / "worker.pid"
    after_a_checkpoint(place / "r", lambda: os.kill(int(pid.read_text().split()[0]), signal.SIGKILL))
    code, _, err = run(*TINY, *ENDLESS, "launch.processes=2", "out=r")
    assert code == 1
    assert err.endswith(
        "Worker 0 failed with exit code -9 (killed; was the memory full?).\nThe whole output is in r/torchrun.log.\n"
    )
    assert "torch/distributed/run.py" not in err


def test_a_folder_in_use_is_refused(place: Path, run: Callable[..., Result]) -> None:
    with runs.lock(place / "r"):
        code, _, err = run(*TINY, "out=r")
    assert (code, err) == (2, "error: out=r is in use by another run: wait for it, or choose another folder.\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_nodes_of_torchrun(place: Path, run: Callable[..., Result]) -> None:
    where = [
        "launch=torchrun",
        "launch.nodes=2",
        f"launch.rendezvous=127.0.0.1:{free_port()}",
        "train.steps=2",
        "out=r",
    ]
    second = begin(place, *TINY, *where, "launch.node_rank=1")
    code, out, err = run(*TINY, *where, "launch.node_rank=0")
    outputs = second.communicate(timeout=60)
    assert (code, err, second.returncode, outputs[1]) == (0, "", 0, "")
    assert steps(place / "r") == 2
    assert ("2/2" in out, "2/2" in outputs[0]) == (True, False)  # rank 0 is on the first node


def test_elastic_torchrun(place: Path, run: Callable[..., Result]) -> None:
    """One node, its rank left to the rendezvous; its worker dies, is restarted, and goes on from its checkpoint."""
    pid = place / "r" / "worker.pid"
    where = ["launch=torchrun", f"launch.rendezvous=127.0.0.1:{free_port()}", "launch.max_restarts=1", "out=r"]

    def kill_then_stop() -> None:
        first = int(pid.read_text().split()[0])
        os.kill(first, signal.SIGKILL)
        reached, limit = saved(place / "r")[-1], time.monotonic() + 60
        while saved(place / "r")[-1] <= reached + 2 and time.monotonic() < limit:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    after_a_checkpoint(place / "r", kill_then_stop)
    code, out, err = run(*TINY, *ENDLESS, *where)
    assert (code, err) == (0, "")
    assert "resuming from step" in out


def test_several_nodes_need_a_common_folder(run: Callable[..., Result]) -> None:
    code, _, err = run(*TINY, "launch=torchrun", "launch.nodes=2")
    assert (code, err.count("\n")) == (2, 1)
    assert "out=" in err


STUBS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done\nSLURM_NODEID=0 exec "$@"\n',
    "scontrol": 'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> scontrol.log; fi\n',
    "sbatch": 'echo "Submitted batch job 7"; echo "$@" > sbatch.log\n',
}


@pytest.fixture
def cluster(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm of three small scripts on PATH; srun really runs torchrun."""
    (place / "bin").mkdir()
    for name, body in STUBS.items():
        (place / "bin" / name).write_text(f"#!/bin/bash\n{body}")
        (place / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", str(random.randrange(40000)))
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost")
    return place


def test_slurm_saves_before_the_limit_requeues_and_goes_on(cluster: Path, run: Callable[..., Result]) -> None:
    code, out, err = run(*TINY, *ENDLESS, "launch=slurm", "launch.gpus_per_node=0", "out=r")
    assert (code, err) == (0, "")
    assert "next: sbatch r/job.sbatch" in out
    script = cluster / "r" / slurm.FILE
    subprocess.run(["bash", "-n", script], check=True)

    job = subprocess.Popen(["bash", script], cwd=cluster, start_new_session=True)
    # To the batch shell alone, as --signal=B:USR1@… does.
    after_a_checkpoint(cluster / "r", lambda: job.send_signal(signal.SIGUSR1))
    assert job.wait(150) == 0
    stopped_at = saved(cluster / "r")[-1]
    assert (cluster / "scontrol.log").read_text() == f"requeue {os.environ['SLURM_JOB_ID']}\n"

    assert run("out=r", "resume=true", f"train.steps={stopped_at + 1}")[0] == 0
    assert subprocess.run(["bash", script], cwd=cluster, timeout=120).returncode == 0
    assert steps(cluster / "r") == stopped_at + 1
    assert (cluster / "scontrol.log").read_text().count("requeue") == 1  # a run that is done stays out of the queue


def test_slurm_submits(cluster: Path, run: Callable[..., Result]) -> None:
    code, out, err = run(*TINY, "launch=slurm", "launch.submit=true", "out=r")
    assert (code, err) == (0, "")
    assert "Submitted batch job 7" in out
    assert (cluster / "sbatch.log").read_text() == "r/job.sbatch\n"


def test_slurm_without_sbatch(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = run(*TINY, "launch=slurm", "launch.submit=true", "out=r")
    assert (code, err.count("\n")) == (2, 1)
    assert "needs sbatch" in err


def test_slurm_script() -> None:
    cfg = config.compose(
        ["launch=slurm", "launch.nodes=2", "launch.processes=2", "launch.partition=gpu", "launch.extra=['--mem=8G']"]
    )
    lines = slurm.script(cfg, Path("/data/my runs/r"), Path("/home/me"), launch.WORKER).splitlines()
    assert lines[0] == "#!/bin/bash"
    expected = (
        *("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=2", "--cpus-per-task=8", "--partition=gpu", "--mem=8G"),
        *("--signal=B:USR1@120", "--requeue", "--open-mode=append", "--time=24:00:00", "--chdir=/home/me"),
        "--output='/data/my runs/r/slurm-%j.log'",
    )
    assert {f"#SBATCH {option}" for option in expected} <= set(lines)
    assert "run='/data/my runs/r'" in lines
    assert not any("--account" in line for line in lines)
    assert "export OMP_NUM_THREADS=4" in lines


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """train.threads, else OMP_NUM_THREADS, else an even share of the cores that this process may use."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores, share in ((16, 4), (6, 1), (2, 1)):
        monkeypatch.setattr(machine, "usable_cores", lambda cores=cores: cores)
        assert machine.cpu_threads(None, 4) == share
    for value, expected in (("3", 3), ("", 1), ("0", 1), ("4,2", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert machine.cpu_threads(None, 4) == expected
    assert machine.cpu_threads(5, 4) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    with processes({"threads": None, "precision": "fp32"}):
        assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
