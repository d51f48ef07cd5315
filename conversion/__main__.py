"""``python -m conversion``: the same as ``vision-parity``."""

import sys

from conversion.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
