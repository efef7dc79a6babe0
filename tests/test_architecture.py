"""The structure that ARCHITECTURE.md promises: imports point one way, modules stay small, starting up stays fast."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from mimo_core.cli.main import JOBS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mimo_core"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Lowest first: a room imports only rooms before it.
ROOMS = (
    *("version", "errors", "hardware", "torch_device", "wording"),
    *("storage", "images", "models", "metrics", "datasets", "triage", "engines", "training"),
    *("runs", "inference", "sweep", "report", "distributed", "cli"),
)
KNOWS_RAY = "distributed"
MOST_LINES = 400
HEAVY = ("torch", "ray", "cv2", "s3fs", "botocore")
# A fifth of a second each, which is most of what a help page may take.
HEAVY_FOR_HELP = (*HEAVY, "numpy", "pyarrow")


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it: in functions and for type checking only, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def room_of(module: str) -> str | None:
    return module.split(".")[1] if module.startswith("mimo_core.") else None


def test_imports_point_one_way() -> None:
    wrong = []
    for name, path in MODULES.items():
        room = room_of(name)
        if room is None:
            continue
        below = ROOMS[: ROOMS.index(room) + 1]
        wrong += [f"{name} -> {other}" for other in imports_of(path) if room_of(other) not in (None, *below)]
        wrong += [f"{name} -> ray" for other in imports_of(path) if other.split(".")[0] == "ray" and room != KNOWS_RAY]
    assert not wrong, wrong


def test_no_modules_import_each_other() -> None:
    graph = {name: {other for other in imports_of(path) if other in MODULES} - {name} for name, path in MODULES.items()}
    # Raises CycleError, which names the circle.
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


def test_modules_stay_small_and_say_what_they_are() -> None:
    for path in (*MODULES.values(), *(ROOT / "jobs").glob("*.py"), ROOT / "dev.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES, path
        assert ast.get_docstring(ast.parse(text)), path


def test_every_job_has_a_file_for_ray_job_submit() -> None:
    # What a shell completes is asked of the machine that the shell runs on.
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__"} == set(JOBS) - {"completion"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running the code."""
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_engines_are_imported_only_when_opened() -> None:
    assert "torch" not in loaded_by(
        "import mimo_core.engines\n"
        "from mimo_core.engines import SessionSpec, open_session\n"
        "open_session(SessionSpec(engine='identity', device='cpu', precision='fp32', weights=None)).close()"
    )


def test_help_needs_no_heavy_package() -> None:
    pages = [["--help"], *([job, "--help"] for job in JOBS)]
    pages += [["bench", verb, "--help"] for verb in ("restore", "session", "zoo", "train")]
    code = (
        "import contextlib, io\nfrom mimo_core.cli.main import main\n"
        f"for argv in {pages!r}:\n"
        "    out = io.StringIO()\n"
        "    try:\n        with contextlib.redirect_stdout(out): code = main(argv)\n"
        "    except SystemExit as end: code = end.code\n"
        "    assert code == 0 and 'usage' in out.getvalue().lower(), (argv, code, out.getvalue())\n"
        f"    loaded = [name for name in {HEAVY_FOR_HELP!r} if name in sys.modules]\n"
        "    assert not loaded, (argv, loaded)"
    )
    assert not loaded_by(code)
