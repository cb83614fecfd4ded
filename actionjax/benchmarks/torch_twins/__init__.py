"""The library's networks in PyTorch, to be timed beside them.

`twin(model, batch)` is a model of this library as a PyTorch module, `load` copies the weights over
and `loss` is the training objective, so that one step of either computes the same. Each network is
written as PyTorch runs it best: clips as float[B,C,T,H,W] in whichever memory layout the kernels
have (see `channels_last`), no waiting for the device, no tensors of other devices, nothing that
`torch.compile`, autocast or the capture of a CUDA graph would stumble over.

Needs PyTorch, which nothing else of the library does.
"""
from actionjax.benchmarks.torch_twins.loading import load
from actionjax.benchmarks.torch_twins.losses import Objective, loss
from actionjax.benchmarks.torch_twins.systems import twin
from actionjax.benchmarks.torch_twins.units import channels_last

__all__ = ["Objective", "channels_last", "load", "loss", "twin"]
