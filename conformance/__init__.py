"""A conformance suite for the Open Inference Protocol (V2), REST and gRPC, that can be pointed at any server."""
