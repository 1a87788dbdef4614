"""Serve a deployed plan by the Open Inference Protocol v2, over HTTP and gRPC.

`tensors` and `messages` translate between bytes and tensors, without a socket; `service` admits requests,
waits for answers and cancels; `http` and `grpc_` implement the two protocols; `server` runs both. Needs the
extra ``serve``.

References:
    Open Inference Protocol v2 and its binary tensor extension: github.com/kserve/open-inference-protocol,
    github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""
