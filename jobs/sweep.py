"""`mimo sweep` as a submitted job; it evaluates a grid of choices.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.sweep SWEEP.yaml OUTPUT
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("sweep", sys.argv[1:])
