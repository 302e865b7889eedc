"""What every accelerator back end keeps, whichever environment it is tested in."""

import numpy as np
import torch
from torch import nn

from extract.device.backend import Backend


class BackendContract:
    """What extraction relies on; a back end's tests inherit it."""

    precision = "fp32"

    def open(self) -> Backend:
        raise NotImplementedError

    def test_says_what_it_is(self) -> None:
        backend = self.open()
        assert isinstance(backend, Backend)
        assert backend.precision == self.precision
        assert backend.name
        assert backend.description

    def test_place_and_back(self) -> None:
        backend, batch = self.open(), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        returned = backend.to_host(backend.place(batch).to(torch.float32))
        assert isinstance(returned, np.ndarray)
        np.testing.assert_array_equal(returned, batch)

    def test_takes_read_only_batches(self) -> None:
        batch = np.ones((1, 2), np.float32)
        batch.flags.writeable = False
        assert self.open().place(batch).shape == (1, 2)

    def test_prepare_leaves_the_module_as_it_was(self) -> None:
        module = nn.Linear(3, 3)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        prepared = self.open().prepare(module)
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert prepared.weight.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]

    def test_runs_what_it_prepared(self) -> None:
        backend, module = self.open(), nn.Linear(4, 2)
        batch = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(batch)).numpy()
            found = backend.to_host(backend.prepare(module)(backend.place(batch)).to(torch.float32))
        np.testing.assert_allclose(found, expected, atol=1e-5 if self.precision == "fp32" else 0.05)

    def test_a_seed_says_what_is_drawn(self) -> None:
        backend = self.open()
        device, before = backend.place(np.zeros(1, np.float32)).device, torch.get_rng_state()
        drawn = []
        for number in (2**63 - 1, 8, 2**63 - 1):
            with backend.seeded(number):
                drawn.append([backend.to_host(torch.rand(5, device=device)) for _ in range(2)])
        one, other, again = drawn
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)
        assert not np.array_equal(one[0], one[1])
        assert torch.equal(torch.get_rng_state(), before)

    def test_counts_memory(self) -> None:
        backend = self.open()
        backend.place(np.ones((1, 1024), np.float32))
        assert backend.peak_memory_bytes() >= 4096

    def test_counts_what_it_compiled_and_what_it_could_not(self) -> None:
        backend = self.open()
        assert (backend.compilations(), backend.fallbacks()) == (0, {})
        kept = backend.place(np.ones((2, 2), np.float32)).exp()  # a lazy device forgets what nobody holds
        backend.launch()
        assert backend.compilations() == (1 if backend.static_shapes else 0)
        assert backend.fallbacks() == {}
        assert kept.shape == (2, 2)
