"""The `allos` command: a prompt in, the answer out.

Standard output is only the answer; everything else goes to standard error.
"""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command with the arguments of this process and return its exit status."""
    try:
        from allos.cli import process  # here, so that Ctrl-C during the import ends as quietly as later

        return process.run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
