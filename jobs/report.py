"""`mimo report` as a submitted job; it writes one page about runs or a sweep.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.report OUTPUT...
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("report", sys.argv[1:])
