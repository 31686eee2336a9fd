#!/usr/bin/env python3
"""The Slurm recipe of docs/src/cluster.md, run by Slurm.

    apt-get install --no-install-recommends slurmctld slurmd slurm-client
    python3 interop/slurm.py --quantwright target/release/quantwright

Starts slurmctld and slurmd on this machine, as root, without munge and without systemd, and submits
what the page says: an array of six jobs, one shard each, and a check that runs after all of them. One
job is requeued while it writes, as Slurm does when a node fails, and one runs twice. The shards have to
be those of a full run, and merged the single file. Where Slurm is not installed it is skipped.
"""

import argparse
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARDS = 6
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
# How long a requeued job waits.
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=2
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_checkpoint(folder: Path) -> None:
    """A Llama checkpoint of about 200 MB: a shard of it takes long enough to be interrupted."""
    tiny = ROOT / "fixtures" / "tiny-llama2"
    hidden, inner, layers, vocabulary = 1024, 2816, 6, 8192
    config = json.loads((tiny / "config.json").read_text()) | {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": vocabulary,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tiny / name, folder)
    shapes = {
        "model.embed_tokens": (vocabulary, hidden),
        "model.norm": (hidden,),
        "lm_head": (vocabulary, hidden),
    }
    for i in range(layers):
        shapes |= {
            f"model.layers.{i}.{name}": shape
            for name, shape in {
                "self_attn.q_proj": (hidden, hidden),
                "self_attn.k_proj": (256, hidden),
                "self_attn.v_proj": (256, hidden),
                "self_attn.o_proj": (hidden, hidden),
                "mlp.gate_proj": (inner, hidden),
                "mlp.up_proj": (inner, hidden),
                "mlp.down_proj": (hidden, inner),
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
            }.items()
        }
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        offsets = [end, end + size]
        header[f"{name}.weight"] = {"dtype": "F16", "shape": shape, "data_offsets": offsets}
        end += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        # Random halves between 2^-7 and 2^-5, of either sign.
        for at in range(0, end, 1 << 22):
            piece = bytearray(os.urandom(min(1 << 22, end - at)))
            piece[1::2] = piece[1::2].translate(bytes(b & 0x83 | 0x20 for b in range(256)))
            file.write(piece)


class Slurm:
    def __init__(self, folder: Path) -> None:
        self.folder, self.daemons = folder, []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        configuration = folder / "slurm.conf"
        host = socket.gethostname().split(".")[0]
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                host=host,
                port=free_port(),
                node_port=free_port(),
                cpus=os.cpu_count(),
            )
        )
        self.environment = os.environ | {"SLURM_CONF": str(configuration)}
        for daemon in ("slurmctld", "slurmd"):
            log = open(folder / f"{daemon}.out", "w")
            self.daemons.append(
                subprocess.Popen([daemon, "-D"], env=self.environment, stdout=log, stderr=log)
            )

    def __call__(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def wait(self, what: str, until, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                for log in self.folder.glob("*.log"):
                    print(f"--- {log.name}\n{log.read_text()[-3000:]}")
                sys.exit(f"{what}: not within {seconds:.0f} s")
            time.sleep(0.02)

    def state(self, job: str) -> str:
        shown = self("scontrol", "--oneliner", "show", "job", job)
        return re.search(r"JobState=(\S+)", shown)[1]

    def stop(self) -> None:
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(30)


def scripts() -> list[str]:
    """The batch scripts on the page, in order: the array and the check."""
    page = (ROOT / "docs/src/cluster.md").read_text()
    return [text for text in re.findall(r"```bash\n(.*?)```", page, re.S) if "#SBATCH" in text]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantwright", required=True, help="the binary")
    binary = Path(parser.parse_args().quantwright).resolve()
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        print(f"skipped: needs root and Slurm ({', '.join(missing) or 'not root'})")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work, checkpoint = folder / "work", folder / "work" / "checkpoint"
        work.mkdir()
        make_checkpoint(checkpoint)
        convert = [binary, "convert", checkpoint, "--type", "q4_k_m", "--quiet", "-o"]
        subprocess.run([*convert, work / "whole.gguf"], check=True)
        (work / "all").mkdir()
        subprocess.run([*convert, work / "all/model.gguf", "--shards", str(SHARDS)], check=True)
        array, check = scripts()
        (work / "shards.sh").write_text(array)
        (work / "check.sh").write_text(check)
        (work / "out").mkdir()
        slurm = Slurm(folder)
        slurm.environment["PATH"] = f"{binary.parent}:{os.environ['PATH']}"
        try:
            slurm.wait("the node", lambda: "idle" in slurm("sinfo", "--noheader", "-o", "%T"), 60)
            here = ["--parsable", f"--chdir={work}"]
            job = slurm("sbatch", *here, str(work / "shards.sh"))
            after = slurm("sbatch", *here, f"--dependency=afterok:{job}", str(work / "check.sh"))

            # A node fails while shard 3 is written: nothing is left, and the job starts anew.
            partial = lambda: list((work / "out").glob(".model-00003-of-*"))
            slurm.wait("shard 3", partial)
            slurm("scontrol", "requeue", f"{job}_3")
            slurm.wait("the end of shard 3", lambda: not partial(), 30)
            third = work / "out/model-00003-of-00006.gguf"
            interrupted = not third.exists()

            slurm.wait("the check", lambda: slurm.state(after) not in ("PENDING", "RUNNING"))
            report = (work / f"check-{after}.txt").read_text()
            assert slurm.state(after) == "COMPLETED", report
            restarts = slurm("scontrol", "--oneliner", "show", "job", f"{job}_3")
            assert "Restarts=1" in restarts, restarts
            assert interrupted, "shard 3 was complete before it was requeued"

            # A job that is run again leaves its shard alone.
            before = third.stat().st_mtime_ns
            again = slurm("sbatch", *here, "--array=3", str(work / "shards.sh"))
            slurm.wait("shard 3 again", lambda: slurm.state(f"{again}_3") == "COMPLETED")
            assert third.stat().st_mtime_ns == before, "shard 3 was written again"
        finally:
            slurm.stop()
        shards = sorted(path.name for path in (work / "out").iterdir())
        assert shards == sorted(path.name for path in (work / "all").iterdir()), shards
        for shard in shards:
            same = (work / "out" / shard).read_bytes() == (work / "all" / shard).read_bytes()
            assert same, f"{shard} is not that of a full run"
        merge = [binary, "merge", work / "out" / shards[0], "-o", work / "merged.gguf"]
        subprocess.run(merge, check=True, stdout=subprocess.DEVNULL)
        same = (work / "merged.gguf").read_bytes() == (work / "whole.gguf").read_bytes()
        assert same, "the merged shards are not the single file"
    print(f"{SHARDS} jobs, one of them requeued, one run twice: the shards are those of a full run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
