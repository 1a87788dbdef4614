"""Capture ONNX files: run them node by node with torch functions, and capture that like any module.

``read`` parses the file and trusts nothing in it; ``ops`` has one torch function per operator; ``resolve``
evaluates everything that does not depend on a request (weights, and the shapes that ONNX graphs compute at
run time); ``capture`` passes the rest to ``torch.export``. The ``onnx`` package is imported only when a file
is read; this package is called ``onnx_`` so as not to hide it. ARCHITECTURE.md says, under decisions, why no
converter is used.
"""
