"""`mimo doctor` as a submitted job; it says what the node that drives has, and what is wrong with it.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.doctor PLACE
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("doctor", sys.argv[1:])
