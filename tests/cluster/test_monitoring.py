"""The dashboard and the alerts ask for what runs tell, and Prometheus takes them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mimo_core.distributed.metrics import COUNTERS, GAUGES

FOLDER = Path(__file__).parents[2] / "cluster" / "monitoring"
TOLD = {f"ray_mimo_{name}_total": labels for name, (_, labels) in COUNTERS.items()} | {
    f"ray_mimo_{name}": labels for name, (_, labels) in GAUGES.items()
}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Prometheus")


def panels() -> dict[str, list[str]]:
    """The dashboard's queries by the titles of their panels, for all runs."""
    document = json.loads((FOLDER / "grafana_dashboard.json").read_text(encoding="utf-8"))
    return {
        panel["title"]: [
            target["expr"].replace("$run", ".*").replace("$__rate_interval", "20s") for target in panel["targets"]
        ]
        for panel in document["panels"]
    }


def alerts() -> dict[str, str]:
    document = yaml.safe_load((FOLDER / "prometheus_rules.yaml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule["expr"] for group in document["groups"] for rule in group["rules"]}


def test_what_is_asked_for_is_told() -> None:
    queries = [query for asked in panels().values() for query in asked] + list(alerts().values())
    asked = set()
    for query in queries:
        for name, selected in re.findall(r"(ray_mimo_\w+)(?:\{([^}]*)\})?", query):
            asked.add(name)
            assert set(re.findall(r"(\w+)=", selected)) <= {"run", *TOLD[name]}, query
    assert asked == set(TOLD), "each is seen somewhere"


def test_the_panels_lie_beside_each_other() -> None:
    document = json.loads((FOLDER / "grafana_dashboard.json").read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


@needs_promtool
def test_each_alert_fires_and_resolves() -> None:
    done = subprocess.run(["promtool", "test", "rules", "prometheus_rules_test.yaml"], cwd=FOLDER, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = (FOLDER / "prometheus_rules_test.yaml").read_text(encoding="utf-8")
    assert all(f"alertname: {name}\n        exp_alerts" in tried for name in alerts())


@needs_promtool
def test_prometheus_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    queries = [query for asked in panels().values() for query in asked]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
