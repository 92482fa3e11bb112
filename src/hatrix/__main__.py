"""``python -m hatrix`` is the ``hatrix`` command."""

from hatrix.app.cli import main

if __name__ == "__main__":
    main()
