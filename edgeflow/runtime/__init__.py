"""Running plans: in this process, and on workers over the network.

    wire, transport/   frames between ranks, and what carries them
    content            weights named by their content
    schedule, runner   which request runs next on a rank, and the thread that runs it
    interpreter        one program for one request
    executor/          back ends that run kernels
    worker/            a worker behind its gRPC server
    coordinator/       `edgeflow.deploy` and the session that it returns
    local              `edgeflow.execute`: everything in this process

What decides (``schedule``, ``worker/state``, ``coordinator/state``, ``coordinator/requests``) takes events
and returns instructions; it knows no socket, clock or thread. What acts is around it.
"""
