#!/usr/bin/env python3
"""The recipes of docs/src/cluster.md for GNU parallel, Kubernetes, a loop, and importance matrices in parts.

    apt-get install parallel
    python3 interop/jobs.py --quantwright target/release/quantwright

Runs what the page shows, on this machine alone: GNU parallel with a job that fails once; the command of the
Kubernetes Job as its pods would, after a look at what the Job says; the loop, which is killed on the way and
started again. Each time the shards have to be those of a full run. An importance matrix that is made in parts and
merged has to be that of one run. slurm.py runs the recipe for Slurm. Without GNU parallel or PyYAML that part is
skipped.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slurm import ROOT, make_checkpoint

FIXTURE = ROOT / "fixtures" / "tiny-llama2"
PAGE = (ROOT / "docs/src/cluster.md").read_text()


def block(kind: str, word: str) -> str:
    """The block of the page in this language that holds a word."""
    [found] = [text for text in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S) if word in text]
    return found


class Recipes:
    def __init__(self, binary: Path, folder: Path) -> None:
        self.folder, self.full = folder, {}
        self.environment = os.environ | {"PATH": f"{binary.parent}:{os.environ['PATH']}"}
        make_checkpoint(folder / "checkpoint")

    def shell(self, command: str, **more: str) -> subprocess.Popen:
        environment = self.environment | more
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, command: str, **more: str) -> None:
        if self.shell(command, **more).wait():
            sys.exit(f"{command}: failed")

    def check(self, what: str, count: int) -> None:
        """The shards in `out` are those of a full run; removes them."""
        out, full = self.folder / "out", self.folder / f"full-{count}"
        if not full.exists():
            full.mkdir()
            self.run(f"quantwright convert checkpoint -o {full}/model.gguf --quiet --shards {count}")
        made, expected = (sorted(path.name for path in folder.iterdir()) for folder in (out, full))
        if made != expected:
            sys.exit(f"{what}: {made}")
        for name in made:
            if (out / name).read_bytes() != (full / name).read_bytes():
                sys.exit(f"{what}: {name} is not that of a full run")
        shutil.rmtree(out)
        print(f"{what}: {count} shards, those of a full run", flush=True)

    def parallel(self) -> None:
        if not shutil.which("parallel"):
            print("skipped: GNU parallel is not installed")
            return
        (self.folder / "out").mkdir()
        command = re.sub(r"^\$ ", "", block("console", "parallel")).replace("a,b,c,d", ":")
        # Shard 5 fails at first, as on a machine that goes away.
        wrapper = self.folder / "bin" / "quantwright"
        wrapper.parent.mkdir()
        binary = shutil.which("quantwright", path=self.environment["PATH"])
        wrapper.write_text(
            f'#!/bin/sh\ncase " $* " in *" 5/8 "*) mkdir {self.folder}/once 2>/dev/null && exit 9;; esac\n'
            f'exec {binary} "$@"\n'
        )
        wrapper.chmod(0o755)
        self.run(command, PATH=f"{wrapper.parent}:{self.environment['PATH']}")
        if not (self.folder / "once").exists():
            sys.exit("GNU parallel: no job failed")
        self.check("GNU parallel, one job tried twice", 8)

    def kubernetes(self) -> None:
        if not importlib.util.find_spec("yaml"):
            print("skipped: PyYAML is not installed")
            return
        import yaml

        job = yaml.safe_load(block("yaml", "kind: Job"))
        spec, pod = job["spec"], job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        assert spec["completionMode"] == "Indexed" and spec["parallelism"] <= spec["completions"]
        # A limit of tries for each index is only taken with this policy.
        assert spec["backoffLimitPerIndex"] > 0 and pod["restartPolicy"] == "Never"
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"]["memory"] == "1Gi"
        (self.folder / "out").mkdir()
        [path] = mounts.values()
        [arguments] = container["args"]
        command = [*container["command"], arguments.replace(path, str(self.folder))]
        for index in range(spec["completions"]):
            environment = self.environment | {"JOB_COMPLETION_INDEX": str(index)}
            subprocess.run(command, env=environment, check=True)
        self.check("Kubernetes, each pod's command", spec["completions"])

    def loop(self) -> None:
        out = self.folder / "out"
        out.mkdir()
        command = block("bash", "seq 16").replace("hf://ORG/NAME", "checkpoint")
        first = self.shell(command)
        while not (out / "model-00004-of-00016.gguf").exists() and first.poll() is None:
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        done = {path: path.stat().st_mtime_ns for path in out.glob("model-*.gguf")}
        if len(done) == 16:
            sys.exit("the loop was at its end before it was killed")
        self.run(command)
        if any(path.stat().st_mtime_ns != time for path, time in done.items()):
            sys.exit("the loop: a shard was written twice")
        self.check(f"the loop, killed after {len(done)} shards", 16)

    def matrix(self) -> None:
        text = FIXTURE.parent / "text" / "test.txt"
        model = f"quantwright imatrix {FIXTURE} -f {text} --ctx 128"
        self.run(f"{model} -o whole.gguf --chunks 3")
        for part in (1, 2, 3):
            self.run(f"{model} -o imatrix-{part}.gguf --from {part - 1} --chunks 1")
        [merge] = re.findall(r"^ +(quantwright imatrix --merge .*)$", PAGE, re.M)
        self.run(merge)
        command = ["quantwright", "hash", "--tensors", "--json"]
        hashes = [
            json.loads(subprocess.check_output([*command, self.folder / name], env=self.environment))["tensors"]
            for name in ("whole.gguf", "imatrix.gguf")
        ]
        if hashes[0] != hashes[1] or not hashes[0]:
            sys.exit("the sums of the merged importance matrix are not those of one run")
        print(f"an importance matrix in 3 parts: merged, the {len(hashes[0])} sums are those of one run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", type=Path, required=True)
    options = parser.parse_args()
    binary = options.quantwright.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The page calls the program by its name.
        (folder / "path").mkdir()
        (folder / "path" / "quantwright").symlink_to(binary)
        recipes = Recipes(folder / "path" / "quantwright", folder)
        for recipe in (recipes.parallel, recipes.kubernetes, recipes.loop, recipes.matrix):
            recipe()


if __name__ == "__main__":
    main()
