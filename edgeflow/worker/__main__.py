"""``python -m edgeflow.worker``: what `edgeflow.deploy(local=True)` starts.

The same as ``edgeflow worker``, without the command line's dependencies. Certificates and join token come
from the environment; see `edgeflow.net.security`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from edgeflow.errors import EdgeflowError
from edgeflow.incident import heed_environment
from edgeflow.net.security import Access
from edgeflow.worker.server import serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edgeflow.worker", description=__doc__)
    parser.add_argument("--bind", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype")
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--memory-limit-bytes", type=int)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--data-port", type=int, default=0)
    parser.add_argument("--watch-stdin", action="store_true", help="end when standard input ends")
    parser.add_argument("--log-level", default="WARNING")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=arguments.pop("log_level"), stream=sys.stderr)
    heed_environment()
    try:
        serve(**arguments, access=Access.of())
    except EdgeflowError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
