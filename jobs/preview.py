"""`mimo preview` as a submitted job; it restores a sample in several ways.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.preview SOURCE --to PAGE.html
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("preview", sys.argv[1:])
