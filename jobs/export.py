"""`mimo export` as a submitted job; it writes a network as ONNX.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.export WEIGHTS FILE
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("export", sys.argv[1:])
