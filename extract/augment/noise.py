"""White noise that any device computes alike: from a seed and a voxel's number, in whatever order voxels are made."""

from math import pi

import torch
from jaxtyping import Float, Int32
from torch import Tensor

ODD = (0x7FEB352D, 0x846CA68B - (1 << 32))
"""Multipliers of lowbias32, a hash of 32 bits by Ch. Wellons whose output bits are unbiased to 0.17 parts in 1,000."""


def normal_pair(
    number: Int32[Tensor, " n"], seed: Int32[Tensor, "b 3"]
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Give two independent standard normal numbers for each voxel (Box and Muller, 1958)."""
    start, step, other = seed[:, :, None].unbind(1)
    mixed = _mix(number * (step | 1) + start)  # a step of its own, or seeds would only shift one sequence
    radius = ((mixed >> 8) & 0xFFFFFF).float().add_(1).mul_(2.0**-24).log_().mul_(-2).sqrt_()
    angle = _mix(mixed ^ other).float().mul_(pi / 2**31)
    return radius * angle.cos(), radius * angle.sin()


def _mix(x: Int32[Tensor, "b n"]) -> Int32[Tensor, "b n"]:
    """Mix the bits; the masks make the shifts those of unsigned numbers."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * ODD[0]
    x = (x ^ ((x >> 15) & 0x1FFFF)) * ODD[1]
    return torch.bitwise_xor(x, (x >> 16) & 0xFFFF)
