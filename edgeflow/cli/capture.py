"""``edgeflow capture``: save a model's graph, so that other commands do not need its Python code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeflow.cli import options
from edgeflow.cli.files import check_writable, writing
from edgeflow.cli.models import load_subject
from edgeflow.cli.screen import say, say_json, waiting
from edgeflow.units import format_bytes


def capture(
    model: options.Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to save the graph.")],
    input_shape: options.InputShape = None,
    json: options.Json = False,
) -> None:
    """Save the graph of a model to one file, without pickle."""
    from edgeflow.graph.file import save_graph

    shapes = options.parse_input_shapes(input_shape)
    check_writable(output)
    graph = load_subject(model, input_shapes=shapes).graph
    with writing(output), waiting(f"writing {output}"):
        save_graph(graph, output)
    if json:
        say_json(
            {
                "model": graph.name,
                "path": str(output),
                "fingerprint": graph.fingerprint,
                "num_operators": len(graph.operators),
                "weight_bytes": graph.weight_bytes,
            }
        )
    else:
        say(f"{graph.name}: {len(graph.operators)} operators, weights {format_bytes(graph.weight_bytes)}")
