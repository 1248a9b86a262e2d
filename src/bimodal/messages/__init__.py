"""The protobuf messages of gRPC: what server and client say to each other."""
