"""The chaos campaign: runs over a bucket, whose workers, nodes, drivers, cluster and server are killed at random.

    python -m tests.chaos --seed 1 --kills 200

Each run restores a real archive on a cluster of two nodes. It goes on by itself after everything but the end of its
driver or of the whole cluster, after which the campaign gives the same command again, as a job's retry policy does. At
the end of each run its outputs and records are compared with those of an undisturbed one. Prints a Markdown table;
exits with 1 if anything was lost, came twice, differs or was blamed, or if a run ended for any other reason.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from archives import TORCH, download, make_archive, outputs, restore_undisturbed, rows
from fixtures_clusters import Cluster, cluster
from fixtures_runs import Run
from fixtures_s3 import RestartableServer, S3Server
from processes import end_all, marked
from s3_proxy import Handler, Proxy, slow_down

from mimo_core.models.network import MimoUNet, arrays_of
from mimo_core.models.weights import ModelSpec, save_weights

BUCKET = "archive"
OUTAGE_SECONDS = 10.0
VICTIMS = {"worker": 50, "driver": 16, "node": 14, "object server": 10, "outage": 8, "cluster": 2}
"""What is struck, by weight. `cluster` is its control service (GCS), without which Ray ends everything."""


@dataclass
class Tally:
    """What was done, and what came of it."""

    strikes: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    images: int = 0
    notes: list[str] = field(default_factory=list)


class Trial:
    """One run, struck until it is finished."""

    def __init__(self, campaign: "Campaign", number: int, made: Cluster) -> None:
        self._campaign = campaign
        self._rng, self._tally = campaign.rng, campaign.tally
        self._number = number
        self._cluster = made
        self._nodes = 1
        self._excuse = ""
        self._add_node()
        self._run = self._start()

    def work(self) -> None:
        """Strike now and then; give the command again where the run was ended by a strike that ends it."""
        while True:
            self._wait(self._rng.uniform(1.0, 6.0))
            if self._run.alive:
                # A run whose cluster is gone is about to end for that.
                if self._excuse != "cluster" and sum(self._tally.strikes.values()) < self._campaign.kills:
                    self._strike(self._rng.choices(list(VICTIMS), list(VICTIMS.values()))[0])
                continue
            code = self._run.process.returncode
            if code == 0:
                return None
            self._tally.restarts[self._excuse or "no strike that ends a run"] += 1
            if not self._excuse:
                self._tally.notes.append(f"run {self._number} ended with {code}: {self._run.text[-1500:]}")
            if self._excuse == "cluster":
                self._cluster.close()
                return self._campaign.attempt(self._number)
            self._excuse = ""
            self._run = self._start()

    def close(self) -> None:
        """End what is left."""
        end_all(self._run.mark)
        self._run.process.wait(30)

    def _start(self) -> Run:
        log = self._campaign.folder / f"run-{self._number}-{time.monotonic_ns()}.log"
        arguments = [f"s3://{BUCKET}/in", f"s3://{BUCKET}/out-{self._number}", *TORCH]
        arguments += ["--weights", str(self._campaign.weights), "--shard-size", "4", "--workers", "1:2"]
        faults = {"MIMO_FAULTS": "pause-image:0.3;pause-commit:0.5"}
        return Run(arguments, log, {**self._campaign.environment, **self._cluster.driver_environment, **faults})

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._run.alive and time.monotonic() < deadline:
            time.sleep(0.05)

    def _strike(self, victim: str) -> None:
        workers = [pid for name in self._cluster.nodes for pid in self._cluster.workers(name)]
        if victim == "worker" and not workers:
            return
        self._tally.strikes[victim] += 1
        if victim == "worker":
            _kill(self._rng.choice(workers))
        elif victim == "driver":
            self._excuse = "driver"
            _kill(self._run.process.pid)
            self._run.process.wait(30)
        elif victim == "node":
            self._cluster.kill_node(f"node-{self._nodes}")
            self._add_node()
        elif victim == "object server":
            self._campaign.server.kill()
            time.sleep(OUTAGE_SECONDS)
            self._campaign.server.start()
        elif victim == "outage":
            with self._campaign.outage(self._rng.choice([Handler.drop, slow_down])):
                time.sleep(OUTAGE_SECONDS)
        else:
            self._excuse = "cluster"
            for pid, command in marked(f"{self._cluster.mark}-head").items():
                if "gcs_server" in command:
                    _kill(pid)

    def _add_node(self) -> None:
        self._nodes += 1
        self._cluster.start_node(f"node-{self._nodes}", cpus=1)


class _Passing(Proxy):
    """Drops connections, without a word, while the server behind it is dead."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Campaign:
    """Runs until as many strikes have been made as were asked for."""

    def __init__(self, seed: int, kills: int, images: int, folder: Path, server: RestartableServer) -> None:
        self.rng = random.Random(seed)
        self.kills = kills
        self.folder = folder
        self.server = server
        self.tally = Tally()
        self.weights = folder / "tiny.safetensors"
        save_weights(
            self.weights,
            ModelSpec(8, 1, "nearest"),
            arrays_of(MimoUNet(8, 1).state_dict()),
        )
        self._away: list[object] = []
        self._proxy = _Passing(server.s3.endpoint, self._meddle)
        threading.Thread(target=self._proxy.serve_forever, args=(0.05,), daemon=True).start()
        self.environment = {**S3Server(self._proxy.endpoint).environment(), "AWS_CONFIG_FILE": os.devnull}
        self._keys = make_archive(folder / "in", images)
        client = server.s3.client()
        client.create_bucket(Bucket=BUCKET)
        for key in self._keys:
            client.put_object(Bucket=BUCKET, Key=f"in/{key}", Body=(folder / "in" / key).read_bytes())
        restore_undisturbed(folder / "in", folder / "undisturbed", self.weights)
        self._expected = outputs(folder / "undisturbed")

    def run(self) -> Tally:
        """Work on one run after another."""
        while sum(self.tally.strikes.values()) < self.kills:
            self.tally.runs += 1
            self.attempt(self.tally.runs)
            self._compare(self.tally.runs)
            print(f"run {self.tally.runs}: {dict(self.tally.strikes)}, {dict(self.tally.wrong)}", flush=True)
        return self.tally

    def attempt(self, number: int) -> None:
        """Work on a run on a cluster of its own until it is finished."""
        with cluster(cpus=1, environment=self.environment) as made:
            trial = Trial(self, number, made)
            try:
                trial.work()
            finally:
                trial.close()

    @contextmanager
    def outage(self, answer: object) -> Iterator[None]:
        """Let the storage be away for the duration of the block."""
        self._away.append(answer)
        try:
            yield
        finally:
            self._away.clear()

    def _meddle(self, handler: Handler, number: int) -> bool:
        answer = self._away[-1] if self._away else None
        if callable(answer):
            answer(handler)
        return answer is not None

    def _compare(self, number: int) -> None:
        copy = self.folder / f"copy-{number}"
        download(self.server.s3.client(), BUCKET, f"out-{number}/", copy)
        found, written, tally = rows(copy), outputs(copy), self.tally
        counted = Counter(str(row["key"]) for row in found)
        tally.images += len(self._keys)
        tally.wrong["lost"] += sum(key not in counted for key in self._keys)
        tally.wrong["twice"] += sum(times > 1 for times in counted.values())
        tally.wrong["blamed"] += sum(row["status"] != "restored" for row in found)
        tally.wrong["differing"] += sum(written.get(key) != value for key, value in self._expected.items())
        tally.notes += [f"{row['key']}: {row['error_kind']}: {row['error']}" for row in found if row["error"]]
        shutil.rmtree(copy)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def table(tally: Tally, seed: int, seconds: float) -> str:
    """Return the summary as Markdown."""
    strikes = ", ".join(f"{number} {victim}" for victim, number in tally.strikes.most_common())
    restarts = ", ".join(f"{number} after: {cause}" for cause, number in tally.restarts.most_common()) or "none"
    lines = [
        "| what | outcome |",
        "|---|---|",
        f"| seed | {seed} |",
        f"| struck | {sum(tally.strikes.values())}: {strikes} |",
        f"| runs, images | {tally.runs}, {tally.images} in {seconds / 60:.0f} min |",
        *(f"| {name} | {tally.wrong[name]} |" for name in ("lost", "twice", "differing", "blamed")),
        f"| the command was given again | {restarts} |",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=120, help="in the archive that each run restores")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        server = RestartableServer(folder)
        stack.callback(server.stop)
        tally = Campaign(arguments.seed, arguments.kills, arguments.images, folder, server).run()
    print(table(tally, arguments.seed, time.monotonic() - begun))
    for note in tally.notes[:20]:
        print(f"\n{note}")
    return 1 if any(tally.wrong.values()) or tally.restarts["no strike that ends a run"] else 0


if __name__ == "__main__":
    sys.exit(main())
