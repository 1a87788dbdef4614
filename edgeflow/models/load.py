"""Resolve the MODEL argument: a saved graph, an ONNX file, a factory in a module, or a reference model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.models.inputs import random_inputs, run_graph
from edgeflow.telemetry.progress import Progress, Silent

if TYPE_CHECKING:
    import torch

    from edgeflow.graph.batch import Batch

_SILENT: Final = Silent()

#: The source of a reference answer when neither a module nor ONNX Runtime is available.
_GRAPH: Final = "the graph, its operators run whole, one after the other"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The answer of one device without a plan, and its source."""

    answer: Any
    by: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A captured model with inputs and a reference answer.

    Attributes:
        name: Name of the model, or of its file without the folder.
        graph: The captured graph.
        args: Positional inputs of one request.
        kwargs: Keyword inputs of one request.
        reference: Returns what one device answers to them, without a plan: the module's own output; for an
            ONNX file that of ONNX Runtime, if it is installed and takes the file; else that of the graph's
            operators one after the other.
        batch: Captures the model again for a number of requests at once; see `edgeflow.capture_batch`.
    """

    name: str
    graph: ModelGraph
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    reference: Callable[[], Reference]
    batch: Callable[[int], Batch]


def load_subject(
    model: str,
    *,
    seed: int = 0,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    progress: Progress = _SILENT,
) -> Subject:
    """Return the model that MODEL names, captured.

    Args:
        model: A path, ``package.module:factory``, or a name.
        seed: Seed of random inputs, for a saved graph or an ONNX file.
        input_shapes: Shapes of the inputs whose shapes an ONNX file leaves open.
        progress: Shows the long steps.

    Raises:
        ConfigError: If no such model exists, or the factory fails or returns something else.
        GraphError: If the model cannot be captured.
    """
    if model.lower().endswith(".onnx"):
        return _from_onnx(model, input_shapes or {}, seed=seed, progress=progress)
    if input_shapes:
        raise ConfigError(
            f"--input-shape is for ONNX files; the shapes of {model} are fixed by its example inputs"
        )
    if Path(model).exists():
        return _from_file(model, seed=seed, progress=progress)
    if ":" in model:
        return _captured(model, *_from_factory(model, progress), progress=progress)
    return _captured(model, *_from_zoo(model, progress), progress=progress)


def _from_zoo(name: str, progress: Progress) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    from edgeflow.testing import zoo

    if name not in zoo.ZOO:
        what = f"there is no file {name!r}" if "/" in name or "." in name else f"no model is called {name!r}"
        raise ConfigError(
            f"{what}; give a saved graph, an ONNX file, package.module:factory, or one of: "
            f"{', '.join(sorted(zoo.ZOO))}"
        )
    with progress.waiting(f"building {name}"):
        module, args, kwargs = zoo.build(name)
    return module, tuple(args), dict(kwargs)


def _from_factory(
    text: str, progress: Progress
) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    """Call ``package.module:factory``; modules of the current folder can be named, as with ``python -m``."""
    module_name, _, attribute = text.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"expected package.module:factory, got {text!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with progress.waiting(f"building {text}"):
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
            made = factory()
        except EdgeflowError:
            raise
        except Exception as error:
            # Errors in the user's code are reported as such; --debug shows the traceback.
            raise ConfigError(f"{text} failed: {type(error).__name__}: {error}") from error
    return _checked(made, text)


def _checked(made: object, text: str) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    import torch

    match made:
        case (torch.nn.Module() as module, tuple() as args):
            return module, args, {}
        case (torch.nn.Module() as module, tuple() as args, dict() as kwargs):
            return module, args, kwargs
    got = f"({', '.join(type(x).__name__ for x in made)})" if isinstance(made, tuple) else type(made).__name__
    raise ConfigError(
        f"{text} must return (module, args) or (module, args, kwargs) with a tuple of args; got {got}"
    )


def _captured(
    name: str,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    progress: Progress,
) -> Subject:
    from edgeflow.graph.capture import capture

    with progress.waiting(f"capturing {name}"):
        graph = capture(module, args, kwargs, name=name)

    def reference() -> Reference:
        import torch

        module.eval()
        with torch.inference_mode():
            return Reference(answer=module(*args, **kwargs), by="the module, run by PyTorch")

    def batch(size: int) -> Batch:
        from edgeflow.graph.capture_batch import capture_batch

        with progress.waiting(f"capturing {name} for {size} requests at once"):
            return capture_batch(module, args, kwargs, size=size, single=graph)

    return Subject(name=name, graph=graph, args=args, kwargs=kwargs, reference=reference, batch=batch)


def _from_file(path: str, *, seed: int, progress: Progress) -> Subject:
    from edgeflow.graph.file import load_graph

    with progress.waiting(f"reading {path}"):
        graph = load_graph(path)
    args, kwargs = random_inputs(graph, seed=seed)

    def batch(size: int) -> Batch:
        raise ConfigError(
            f"{path} is a saved graph, whose shapes are fixed; batches need the module or the ONNX file "
            "that it was captured from"
        )

    return Subject(
        name=Path(path).stem,
        graph=graph,
        args=args,
        kwargs=kwargs,
        reference=lambda: Reference(answer=run_graph(graph, args, kwargs), by=_GRAPH),
        batch=batch,
    )


def _from_onnx(
    path: str, input_shapes: Mapping[str, tuple[int, ...]], *, seed: int, progress: Progress
) -> Subject:
    from edgeflow.graph.onnx_.capture import capture_onnx

    with progress.waiting(f"reading {path}"):
        graph = capture_onnx(path, input_shapes=input_shapes)
    args, kwargs = random_inputs(graph, seed=seed)

    def reference() -> Reference:
        """Run the file with ONNX Runtime, independently of edgeflow's capture, where that is possible."""
        try:
            return _onnxruntime(path, dict(zip(graph.inputs, args, strict=True)))
        except ImportError:
            why = "onnxruntime is not installed"
        except Exception as error:  # onnxruntime's exceptions have no common Python base
            why = f"ONNX Runtime cannot run the file: {str(error).strip().splitlines()[0][:200]}"
        return Reference(answer=run_graph(graph, args, kwargs), by=f"{_GRAPH} ({why})")

    def batch(size: int) -> Batch:
        from edgeflow.graph.capture_batch import try_batch

        with progress.waiting(f"reading {path} for {size} requests at once"):
            shapes = {name: _stacked(graph.specs[name].shape, size) for name in graph.inputs}
            return try_batch(
                graph,
                lambda: capture_onnx(path, input_shapes=shapes),
                size=size,
                example=dict(zip(graph.inputs, args, strict=True)),
            )

    return Subject(name=graph.name, graph=graph, args=args, kwargs=kwargs, reference=reference, batch=batch)


def _stacked(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    return (size * shape[0], *shape[1:]) if shape else shape


def _onnxruntime(path: str, inputs: Mapping[str, Array]) -> Reference:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    # Run the file's own operators: optimisation replaces the explicit rounding of a quantised model by
    # integer kernels, which moved a small ViT by 3e-2 of its largest value.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    answers = dict(zip(names, session.run(names, dict(inputs)), strict=True))
    return Reference(
        answer=answers if len(answers) > 1 else next(iter(answers.values())),
        by=f"ONNX Runtime {onnxruntime.__version__}, without its optimisations",
    )
