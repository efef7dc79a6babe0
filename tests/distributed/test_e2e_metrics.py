"""What Prometheus reads of a run on a cluster, and what the dashboard's panels show of it."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from archives import make_archive
from fixtures_clusters import cluster
from fixtures_runs import Runs
from fixtures_s3 import RestartableServer, free_ports
from processes import wait_until

from mimo_core.runs.statistics import STAGES

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DASHBOARD = Path(__file__).parents[2] / "cluster" / "monitoring" / "grafana_dashboard.json"
_SAMPLE = re.compile(r"ray_mimo_(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_OWN = ("run", "outcome", "error_kind", "direction", "stage", "state")

FAILED = ("images_total", "out", "failed", "empty")

Samples = dict[tuple[str, ...], float]


def scrape(port: int) -> Samples:
    """What a node tells of runs, by name and values of labels; nothing where it does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    samples: Samples = {}
    for sample in filter(None, map(_SAMPLE.match, lines)):
        labels = dict(_LABEL.findall(sample["labels"]))
        samples[(sample["name"], *(labels[name] for name in _OWN if name in labels))] = float(sample["value"])
    return samples


def test_a_run_can_be_scraped_while_it_works(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 60)
    (source / "0.png").write_bytes(b"")
    options = ("--engine", "identity", "--shard-size", 2, "--workers", 2)
    with cluster(cpus=2, environment={"RAY_metrics_report_interval_ms": "500"}) as made:
        run = runs.start(source, output, *options, on=made, faults="pause-image:1")
        seen: Samples = {}

        def look() -> bool:
            seen.update(scrape(made.metrics))
            return seen.get(("images_total", "out", "restored", ""), 0) >= 4 and FAILED in seen

        run.until(look, "images are counted")
        assert seen["images_planned", "out"] == 61
        assert 4 <= seen["images_done", "out"] < 61
        assert seen[FAILED] == 1
        assert seen["workers", "out", "ready"] == seen["workers", "out", "asked"] == 2
        assert seen["workers", "out", "waiting_for_storage"] == seen["driver_waits", "out"] == 0
        assert seen["running", "out"] == 1
        assert seen["tasks_waiting", "out"] > 0
        assert seen["bytes_total", "out", "read"] > 1000 < seen["bytes_total", "out", "written"]
        assert 0 <= seen["lease_age_seconds", "out"] < 15
        assert {name[2] for name in seen if name[0] == "stage_seconds_total"} == set(STAGES)
        # The pause before each image counts as computing.
        assert 0 < seen["busy_seconds_total", "out"] <= seen["worker_seconds_total", "out"]
        assert run.end().code == 3
        # What was so at the moment goes with the driver, so that no alert stays.
        wait_until(lambda: ("running", "out") not in scrape(made.metrics), "a run that has ended is told of no more")


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """A Prometheus that scrapes a node every second; its port."""
    (port,) = free_ports(1)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DASHBOARD.with_name("prometheus_rules.yaml"))],
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def ask(port: int, query: str) -> list[str]:
    """The values that a query has now."""
    place = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(place, timeout=30) as answer:
            return [series["value"][1] for series in json.load(answer)["data"]["result"]]
    except urllib.error.HTTPError as error:
        # It says so while it starts.
        if error.code != 503:
            raise AssertionError(f"{query}: {error.read().decode()}") from error
    except OSError:
        pass
    return []


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")
def test_every_panel_of_the_dashboard_shows_something(runs: Runs, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    make_archive(source, 120)
    (source / "0.png").write_bytes(b"")
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = {target["expr"]: panel["title"] for panel in document["panels"] for target in panel["targets"]}
    # Nothing is given again here.
    unseen = {query for query in queries if "tasks_again" not in query}
    options = ("--engine", "identity", "--shard-size", 2, "--workers", 2)
    with (
        cluster(cpus=2, environment={"RAY_metrics_report_interval_ms": "500"}) as made,
        prometheus(tmp_path, made.metrics) as port,
    ):
        run = runs.start(source, output, *options, on=made, faults="pause-image:1")

        def look() -> bool:
            for query in list(unseen):
                values = ask(port, query.replace("$run", "out").replace("$__rate_interval", "20s"))
                if values and values != ["NaN"]:
                    print(queries[query], values)
                    unseen.remove(query)
            return not unseen

        run.until(look, f"panels {[queries[query] for query in unseen]}")


@pytest.mark.s3
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")
def test_an_alert_fires_while_the_storage_is_away_and_resolves_when_it_is_back(runs: Runs, tmp_path: Path) -> None:
    server = RestartableServer(tmp_path)
    server.s3.client().create_bucket(Bucket="archive")
    source = tmp_path / "in"
    make_archive(source, 300)
    environment = {**server.s3.environment(), "AWS_CONFIG_FILE": os.devnull}
    options = ("--engine", "identity", "--shard-size", 2, "--workers", 2)
    firing = 'ALERTS{alertname="MimoStorageAway",alertstate="firing",run="out"}'
    try:
        with (
            cluster(cpus=2, environment={"RAY_metrics_report_interval_ms": "500", **environment}) as made,
            prometheus(tmp_path, made.metrics) as port,
        ):
            arguments = (source, "s3://archive/out", *options)
            run = runs.start(*arguments, environment=environment, on=made, faults="pause-image:0.5")
            run.until(lambda: ask(port, 'ray_mimo_images_total{outcome="restored"} > 4'), "images")
            assert not ask(port, firing)
            server.kill()
            begun = time.monotonic()
            run.until(lambda: ask(port, firing), "the alert fires")
            print(f"fires {time.monotonic() - begun:.0f} s after the outage begins")
            assert not ask(port, 'ALERTS{alertname="MimoManyFailures"}')
            server.start()
            begun = time.monotonic()
            run.until(lambda: not ask(port, firing), "the alert resolves")
            print(f"resolves {time.monotonic() - begun:.0f} s after the storage is back")
            assert run.alive
    finally:
        server.stop()
