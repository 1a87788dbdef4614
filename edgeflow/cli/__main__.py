"""``python -m edgeflow.cli``: the same as the ``edgeflow`` script."""

from edgeflow.cli.app import main

if __name__ == "__main__":
    main()
