"""`mimo bench` as a submitted job; it measures speed.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.bench restore|session|train|zoo
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("bench", sys.argv[1:])
