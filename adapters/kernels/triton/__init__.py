"""The kernels for CUDA: one launch per site for any number of adapters, over work lists that a CUDA graph can replay."""
