"""`mimo status` as a submitted job; it tells how far a run is.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.status OUTPUT
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("status", sys.argv[1:])
