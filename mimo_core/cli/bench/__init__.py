"""`mimo bench restore|session|zoo|train`: what this machine makes of the network."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from mimo_core.cli.main import OK, USAGE
from mimo_core.cli.streams import show

_VERBS = {
    "restore": "the plain float32 loop, the bare session and the whole job, side by side on the same images",
    "session": "latencies of one session by queue depth and batch",
    "zoo": "the model zoo's table: every variant in every precision, on one machine in one run",
    "train": "the crops that are prepared in a second against those that the network takes",
}


def main(argv: Sequence[str]) -> int:
    """Run `mimo bench VERB ...`."""
    if argv[:1] and argv[0] in _VERBS:
        return int(import_module(f"mimo_core.cli.bench.{argv[0]}").main(argv[1:]))
    wanted = bool(argv) and argv[0] in ("-h", "--help")
    verbs = "\n".join(f"  {verb:<8} {text}" for verb, text in _VERBS.items())
    text = f"usage: mimo bench VERB [arguments]\n\n{verbs}\n\n`mimo bench VERB --help` shows its arguments."
    near = get_close_matches(argv[0], _VERBS, n=1) if argv and not wanted else []
    text += f"\n\ndid you mean `mimo bench {near[0]}`?" if near else ""
    show(text, sys.stdout if wanted else sys.stderr)
    return OK if wanted else USAGE
