"""`mimo evaluate` as a submitted job; it restores in memory and scores against ground truth.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.evaluate SOURCE REFERENCE OUTPUT
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("evaluate", sys.argv[1:])
