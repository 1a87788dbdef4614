"""Translate kernels to ONNX directly, without an exporter and without torch.

values      values that emitters read and return; torch's type promotion
graph       an ONNX graph under construction
ops/        emitters: the translation of each ATen call, one file per family
emit        adds kernels to a graph, one after the other
segments    splits a `Compute` into ONNX graphs and kernels that another back end must run
session     a graph loaded by onnxruntime
runnable    a program of such segments
"""
