"""`mimo restore` as a submitted job; it restores every image of a folder, bucket or list.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.restore SOURCE OUTPUT
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("restore", sys.argv[1:])
