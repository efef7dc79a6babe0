"""`mimo triage` as a submitted job; it looks at an archive before it is restored.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.triage SOURCE OUTPUT.parquet
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("triage", sys.argv[1:])
