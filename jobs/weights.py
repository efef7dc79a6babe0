"""`mimo weights` as a submitted job; it looks at network weights and converts them.

ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.weights list|inspect|convert
"""

import sys

from mimo_core.cli.main import entry

if __name__ == "__main__":
    entry("weights", sys.argv[1:])
