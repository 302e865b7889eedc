"""Where a head computes: on the CPU, or on a GPU that torch can use."""

DEVICES = ("cpu", "cuda", "auto")


def find_device(name: str) -> str:
    """Turn auto into cuda where there is one. Raises: ValueError for another name, or cuda where there is none."""
    if name not in DEVICES:
        raise ValueError(f"device: expected one of {', '.join(DEVICES)}, got {name!r}")
    if name == "cpu":
        return name
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError("device: expected a CUDA device that torch can use, found none; use device='cpu'")
    return "cuda" if there else "cpu"
