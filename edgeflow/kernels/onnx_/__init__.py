"""The direct road from kernels to ONNX: no exporter, no torch.

values      what emitters pass around; torch's rules of which dtype comes out
graph       an ONNX graph under construction
ops/        what each ATen call is in ONNX, one file a family
emit        kernels, one after the other, into a graph
segments    a `Compute` as ONNX graphs and, between them, what another back end must run
session     a graph in onnxruntime
runnable    a program of such segments
"""
