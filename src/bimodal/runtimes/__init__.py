"""What executes a model: the native library in a child process, or a compiled form of it."""
