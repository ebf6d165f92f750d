"""Average precision on a CUDA device is that of the CPU, whose way to order values is another."""

from __future__ import annotations

import pytest
import torch

from runner.localization.precision import precision_of_owners
from tests.gpu.place import DEVICE, FORMATS, needs_device

pytestmark = [pytest.mark.gpu, needs_device]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("block_bytes", [None, 1 << 20])
def test_a_card_gives_what_a_cpu_gives(dtype: str, block_bytes: int | None) -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn((600, 700), generator=random).to(FORMATS[dtype])
    values[:, ::3] = values[:, ::3].round()  # ties, and zeros of both signs
    values[5, :20], values[6, :20] = torch.inf, -torch.inf
    positive = torch.arange(600) % 7 == torch.arange(7)[:, None]
    members = positive | (torch.rand((7, 600), generator=random) < 0.4)
    on_card = precision_of_owners(values.to(DEVICE), members, positive, block_bytes=block_bytes)
    assert on_card.device.type == DEVICE.type
    on_cpu = precision_of_owners(values, members, positive)
    torch.testing.assert_close(on_card.cpu(), on_cpu, rtol=0, atol=1e-13)
    # And of float64 on the CPU, which is ordered as on the card.
    torch.testing.assert_close(on_cpu, precision_of_owners(values.double(), members, positive), rtol=0, atol=1e-13)
