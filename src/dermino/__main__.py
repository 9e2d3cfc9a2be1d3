"""``python -m dermino``."""

from dermino.cli.main import main

if __name__ == "__main__":
    main()
