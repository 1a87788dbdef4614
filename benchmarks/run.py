"""Run benchmarks: all, or those that are named. JSON to stdout, a table to stderr."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import msgspec
from result import Result, environment


def main() -> None:
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; known: {', '.join(known)}")

    where = environment()
    print(f"{where.processor}, {where.num_cores} cores, commit {where.commit or 'unknown'}", file=sys.stderr)
    for name in options.names or known:
        print(f"\n{name}", file=sys.stderr)
        for result in importlib.import_module(f"bench_{name}").run(options.seed):
            print(msgspec.json.encode({"environment": where, "result": result}).decode(), flush=True)
            print(f"  {result.case:32} {_values(result)}", file=sys.stderr)


def _values(result: Result) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in result.values.items())


if __name__ == "__main__":
    main()
