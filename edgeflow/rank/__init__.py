"""One rank of a plan: it runs a program for each request, and waits for frames in between.

Workers and the client are ranks. What each adds to a rank is in `edgeflow.worker` and
`edgeflow.coordinator`.

    schedule       which request runs next
    interpreter    one program for one request
    runner         the thread that runs requests
    pages          memory for activations
    local          `edgeflow.execute`: all ranks in this process
"""
