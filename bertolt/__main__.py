"""`python -m bertolt`."""

from bertolt.cli import main

if __name__ == "__main__":
    main()
