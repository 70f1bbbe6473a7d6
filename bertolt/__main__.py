"""`bertolt` and `python -m bertolt`: signals are minded before anything large is imported."""

from bertolt.base.process import end_with_torchrun, whole_process


def main() -> None:
    """Run the command line as a process of its own; exit codes are those of `bertolt.cli.main`."""
    end_with_torchrun()
    with whole_process():
        from bertolt.cli import main as run

        run()


if __name__ == "__main__":
    main()
