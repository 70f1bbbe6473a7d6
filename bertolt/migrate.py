"""`python -m bertolt.migrate FILE.py...`: the command `bertolt migrate` under a name of its own."""

import sys

from bertolt.cli import main

if __name__ == "__main__":
    main(["migrate", *sys.argv[1:]])
