"""The structure that ARCHITECTURE.md promises: imports point one way, modules stay small, starting up stays fast."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.main import JOBS

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("jobs", "cluster", "mimo_core")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MOST_LINES = 400
# What each room must not import.
FORBIDDEN = {
    "mimo_core": {"cluster", "jobs", "ray"},
    "cluster": {"jobs"},
    "jobs": {"ray"},
}
HEAVY = ("torch", "ray", "cv2", "s3fs", "botocore")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_modules() -> None:
    assert len(MODULES) > 30


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert not {module.split(".")[0] for module in imported(path)} & FORBIDDEN[room]


@pytest.mark.parametrize("path", [*MODULES, ROOT / "dev.py"], ids=name_of)
def test_modules_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(text))


def test_no_import_cycle_between_modules() -> None:
    """A module's imports, those inside functions left out, lead never back to it."""
    names = {
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
        for path in MODULES
    }
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        # What is imported for type checking only, or when a function runs, is not a dependency at import.
        body = [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        found = set()
        for node in body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            else:
                found |= {
                    f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else str(node.module)
                    for alias in node.names
                }
        graph[name] = found & set(names)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                if other != name:
                    visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running the code."""
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_engines_are_imported_only_when_opened() -> None:
    assert "torch" not in loaded_by("import mimo_core.sessions")
    assert "torch" not in loaded_by(
        "from mimo_core.sessions import SessionSpec, open_session\n"
        "open_session(SessionSpec(engine='identity', device='cpu', precision='fp32', weights=None)).close()"
    )


@pytest.mark.parametrize("argv", [["--help"], *([job, "--help"] for job in JOBS)], ids=" ".join)
def test_help_needs_no_heavy_package(argv: list[str]) -> None:
    code = (
        "import contextlib, io\nfrom jobs.main import main\nout = io.StringIO()\n"
        f"try:\n    with contextlib.redirect_stdout(out): code = main({argv!r})\n"
        "except SystemExit as end: code = end.code\n"
        "assert code == 0 and 'usage' in out.getvalue().lower(), (code, out.getvalue())"
    )
    assert not loaded_by(code)
