"""`python -m loadtests peers`, also as `python -m loadtests.peers`."""

import sys

from loadtests.peers.command import main

if __name__ == "__main__":
    sys.exit(main())
