"""``python -m woodfisher_core``."""

import sys

from woodfisher_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
