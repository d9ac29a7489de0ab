"""Gradients beyond the limit are scaled down to it, others stay."""

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from lightunet_monai.training import ClipGradients


@pytest.mark.parametrize(("scale", "expected"), [(1000.0, 0.5), (1e-3, None)])
def test_a_step_never_moves_further_than_the_limit(scale, expected):
    model = nn.Linear(2, 1, bias=False)
    start = model.weight.detach().clone()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.ones(1, 2), "label": torch.ones(1, 1)}],
        network=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        loss_function=lambda pred, label: scale * pred.sum(),
        train_handlers=[ClipGradients(model, max_norm=0.5)],
    )
    trainer.run()
    moved = float((model.weight.detach() - start).norm())
    assert moved == pytest.approx(expected if expected is not None else scale * 2**0.5, rel=1e-3)
