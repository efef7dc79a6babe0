"""What Ray's errors mean to a run, in one line."""

_INSTALL = (
    "install this program and what it needs on every node, or submit the job with a runtime environment that does "
    "(`ray job submit --runtime-env ...`)"
)


def why_unfit(error: Exception) -> str:
    """Return why the program cannot run on a node, from the last line of the traceback that came from there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if _is_error(line)), lines[-1] if lines else type(error).__name__)
    remedy = f"; {_INSTALL}" if reason.startswith(("ModuleNotFoundError", "ImportError")) else ""
    return f"the program cannot run there: {reason}{remedy}"


def _is_error(line: str) -> bool:
    """Return whether a line of a traceback is the one that names the error."""
    name, colon, _ = line.partition(": ")
    return bool(colon) and name.replace(".", "").isidentifier() and name.endswith(("Error", "Exception"))
