"""What crosses the network: frames, the transports that carry them, and who may open a connection.

wire, stream     the frame format, and frames out of a stream of bytes
transport/       one file a transport; `routes` chooses between them
content          weights named by a hash of their content
security, certificates, proof, guard    TLS, the join token, and the proof of an epoch
rpc_errors       one table from error classes to gRPC status and back
"""
