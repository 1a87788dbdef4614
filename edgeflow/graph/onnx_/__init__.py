"""Models that are ONNX files: read, run with torch functions node by node, captured like any module.

``read`` takes the file apart and trusts nothing in it; ``ops`` says each operator in torch, one small
function each; ``resolve`` evaluates what does not depend on a request (weights, and the shapes that ONNX
graphs compute at run time); ``capture`` gives what is left to ``torch.export``. The ``onnx`` package, whose
name this one leaves alone, is needed, and imported only when a file is read. Why no converter does this:
ARCHITECTURE.md, under decisions.
"""
