"""The batch file of ``launch=slurm``: ``srun torchrun``, saved before the limit, requeued, resumed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "job.sbatch"

# Slurm signals the batch shell alone (B:), which wakes rank 0; all ranks then save and stop together. torchrun itself
# must not get USR1: it would die of it. Node ranks are fixed to Slurm's, so rank 0 is on the first node, where this
# shell runs and where its process id means something. TERM (preemption, scancel) saves too but does not requeue:
# a preempted job is requeued by Slurm itself, a cancelled one should stay away.
BODY = """
run={run}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
again=0

save() {{
    [ -s "$run/worker.pid" ] && kill -USR1 "$(cut -d ' ' -f 1 "$run/worker.pid")"
}}
trap 'again=1; save' USR1
trap save TERM

rm -f "$run/worker.pid" "$run/error.txt"
export OMP_NUM_THREADS={threads}
srun --ntasks-per-node=1 --cpus-per-task={cpus} bash -c 'exec "$0" -m torch.distributed.run \\
    --nnodes {nodes} --nproc-per-node {processes} --node-rank "$SLURM_NODEID" \\
    --master-addr "$1" --master-port "$2" -m {worker} "$3"' {python} "$first" "$port" "$run" &
step=$!
wait "$step"; code=$?
while kill -0 "$step" 2>/dev/null; do wait "$step"; code=$?; done  # a trap ends wait early
wait "$step"; code=$?

if [ "$again" = 1 ] && [ "$code" = 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def script(cfg: Mapping[str, Any], out: Path, folder: Path, worker: str) -> str:
    """The text of the batch file.

    Args:
        cfg: with ``launch`` as in ``conf/launch/slurm.yaml``.
        out: the run folder, absolute; on a file system that all nodes share.
        folder: the working directory of the job, in which relative data paths are meant.
        worker: the module that torchrun starts.
    """
    launch = cfg["launch"]
    gpus = launch["processes"] if launch["gpus_per_node"] is None else launch["gpus_per_node"]
    options = {
        "job-name": f"{cfg['modality']['name']}-{cfg['objective']['name']}",
        "partition": launch["partition"],
        "account": launch["account"],
        "nodes": launch["nodes"],
        "ntasks-per-node": 1,
        "cpus-per-task": launch["cpus_per_task"],
        "gpus-per-node": gpus or None,
        "time": launch["time"],
        "signal": f"B:USR1@{launch['signal_seconds']}",
        "open-mode": "append",
        "chdir": folder,
        "output": out / "slurm-%j.log",
    }
    lines = [f"--{key}={shlex.quote(str(value))}" for key, value in options.items() if value is not None]
    head = [f"#SBATCH {line}" for line in [*lines, "--requeue", *launch["extra"]]]
    body = BODY.format(
        run=shlex.quote(str(out)),
        threads=cfg["train"]["threads"] or max(1, launch["cpus_per_task"] // launch["processes"]),
        cpus=launch["cpus_per_task"],
        nodes=launch["nodes"],
        processes=launch["processes"],
        worker=worker,
        python=shlex.quote(sys.executable),
    )
    return "\n".join(["#!/bin/bash", *head]) + "\n" + body
