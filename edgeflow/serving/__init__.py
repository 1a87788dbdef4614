"""A deployed plan as an inference server: the Open Inference Protocol v2, over HTTP and gRPC.

`tensors` and `messages` translate, without a socket; `service` admits, waits and cancels; `http` and `grpc_`
are the two doors; `server` runs both. Needs the extra ``serve``.

References:
    Open Inference Protocol v2 and its binary tensor extension: github.com/kserve/open-inference-protocol,
    github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""
