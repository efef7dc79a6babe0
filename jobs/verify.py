"""`mimo verify` as a submitted job; it checks a finished run.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.verify OUTPUT
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("verify", sys.argv[1:])
