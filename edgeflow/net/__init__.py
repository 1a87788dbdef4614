"""What crosses the network: frames, the transports that carry them, and who may open a connection.

wire, stream     the frame format, and frames out of a stream of bytes
transport/       one file per transport; `routes` chooses between them
content          weights named by a hash of their content
security, certificates, proof, guard    TLS, the join token, and the proof of an epoch
statuses         one table from error classes to gRPC and HTTP statuses
rpc_errors       errors as gRPC statuses and as failure notices, and back
address          HOST:PORT
"""
