"""Deploy a plan where the options say: in this process, on running workers, or on workers started here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from edgeflow.cli.screen import waiting
from edgeflow.plan import Plan

if TYPE_CHECKING:
    from edgeflow.net.security import Access

#: Answers one request: positional inputs, keyword inputs.
Answer = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]


@contextmanager
def deployed(
    plan: Plan,
    *,
    workers: Sequence[str] | None,
    local: bool,
    transport: str = "auto",
    access: Access | None = None,
    balance: bool = False,
) -> Iterator[Any]:
    """Yield a session on workers. At the end release them, or stop them if they were started here.

    Args:
        transport: Carries activations; see `edgeflow.deploy`.
        balance: Re-plan also when the speed of devices changes, not only when devices are lost or join.
    """
    import edgeflow as ef

    with ExitStack() as stack:
        with waiting("starting workers and loading weights" if local else "loading weights"):
            if local:
                session = ef.deploy(plan, local=True, transport=transport, balance=balance)
            else:
                session = ef.deploy(
                    plan, workers=list(workers or ()), transport=transport, access=access, balance=balance
                )
            stack.enter_context(session)
        yield session


@contextmanager
def answering(
    plan: Plan,
    *,
    workers: Sequence[str] | None,
    local: bool,
    transport: str = "auto",
    access: Access | None = None,
) -> Iterator[Answer]:
    """Yield a function that answers requests: on workers, or in this process if the options name none."""
    if workers is None and not local:
        import edgeflow as ef

        yield lambda args, kwargs: ef.execute(plan, args, kwargs)
    else:
        with deployed(plan, workers=workers, local=local, transport=transport, access=access) as session:
            yield lambda args, kwargs: session.run(*args, **kwargs)


def where(*, workers: Sequence[str] | None, local: bool) -> str:
    """Return in words where `answering` runs a plan."""
    if local:
        return "worker processes on this machine"
    return f"{len(workers)} workers" if workers else "one process, device by device"
