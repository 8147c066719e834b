"""`python -m scgenept_rt` is the command `scgenept-rt`."""

import sys

from scgenept_rt.installing import install_command


def main() -> None:
    """Run the command line, or say what to install for it."""
    try:
        from scgenept_rt.cli import main as run
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: the commands need {error.name}, which this installation, made for `predict_array`, does not have. "
            f"Install the extra `cpu` or `gpu` in place of `arrays`, such as by `{install_command('cpu')}`."
        )
    run()


if __name__ == "__main__":
    main()
