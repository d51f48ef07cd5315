"""``python -m conversion``: the same as ``vision-parity``."""

from conversion.cli.app import run

if __name__ == "__main__":
    run()
