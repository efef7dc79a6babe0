"""`mimo quantize` as a submitted job; it prepares weights for int8.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.quantize WEIGHTS IMAGES FILE
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("quantize", sys.argv[1:])
