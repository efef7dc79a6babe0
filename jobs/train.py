"""`mimo train` as a submitted job; it trains or fine-tunes weights.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.train OUTPUT
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("train", sys.argv[1:])
