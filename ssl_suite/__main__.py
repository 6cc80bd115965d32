"""``python -m ssl_suite``."""

import sys

from ssl_suite.cli import main

if __name__ == "__main__":
    sys.exit(main())
