"""The notebook runs from top to bottom, and shows what a notebook can show; it is kept without outputs."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# What a notebook's kernel does, as far as this one needs it: the value of a cell's last line is shown.
KERNEL = """
import ast, json, sys
shown, space = [], {}
for cell in json.load(sys.stdin):
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), space) if last else None
    shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
print(json.dumps(shown))
"""


def cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_shows_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(cells()),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    made, file, scores, part, folder, table, _ = json.loads(done.stdout.splitlines()[-1])
    assert "mimo-unet-lite" in made
    assert file.count("data:image/jpeg;base64,") == 4, "whole and detail, before and after"
    assert len(file) < 600_000
    before, after = ast.literal_eval(scores)
    assert after["psnr"] > before["psnr"] + 1
    assert part.count("data:image/jpeg;base64,") == 2, "small enough to be shown whole"
    assert "2 images restored" in folder
    assert "1 failed (1 truncated)" in folder
    assert "<code>damaged.jpg</code>" in folder
    assert "error_kind" in table
