"""A start, a resumed training, the best model, when it is validated and when it has diverged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import Compose, Randomizable
from torch import nn

from lightunet_monai.errors import GeometryError, InferenceError, OutputError, WeightsError
from lightunet_monai.networks import LightUNet
from lightunet_monai.training import (
    CheckLoss,
    EarlyStop,
    KeepBest,
    PreciseBatchNorm,
    RandomStates,
    ResumeState,
    Validation,
    start_from,
)
from lightunet_monai.training.checkpoints import write_state

CPU = torch.device("cpu")


def _training(folder, stop_after=None):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = (model(batch) - 1).square().mean()
        loss.backward()
        optimizer.step()

    trainer = Engine(step)
    ResumeState({"model": model, "optimizer": optimizer}, folder / "resume.pt").attach(trainer)
    if stop_after is not None:
        # After the state of that epoch was saved, in the middle of the next: as a kill would.
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop_after * 4 + 2), lambda e: e.terminate())
    data = [torch.full((2, 3), float(k)) for k in range(4)]
    trainer.run(data, max_epochs=6)
    return model, trainer


def test_a_stopped_training_ends_where_an_undisturbed_one_does(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed, _ = _training(tmp_path / "a")
    _training(tmp_path / "b", stop_after=3)
    resumed, trainer = _training(tmp_path / "b")
    assert trainer.state.epoch == 6
    assert trainer.state.iteration == 24
    assert torch.equal(undisturbed.weight, resumed.weight)
    assert not list(tmp_path.rglob("*.part"))


def test_a_longer_schedule_is_that_of_a_training_that_was_so_long_from_the_start(tmp_path):
    def train(folder, max_epochs, total):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = WarmupCosineSchedule(optimizer, warmup_steps=2, t_total=total)
        rates = []

        def step(engine, batch):
            optimizer.step()
            schedule.step()
            rates.append(schedule.get_last_lr()[0])

        trainer = Engine(step)
        ResumeState({"schedule": schedule, "optimizer": optimizer}, folder / "resume.pt").attach(trainer)
        trainer.run([0, 1, 2], max_epochs=max_epochs)
        return rates

    for name in "ab":
        (tmp_path / name).mkdir()
    whole = train(tmp_path / "a", 6, total=18)
    train(tmp_path / "b", 2, total=6)
    assert train(tmp_path / "b", 6, total=18) == pytest.approx(whole[6:])


def test_a_resumed_training_draws_the_numbers_that_an_undisturbed_one_draws(tmp_path):
    class Shift(Randomizable):
        def __call__(self, value):
            return value + self.R.uniform()

    def train(folder, max_epochs):
        torch.manual_seed(1)
        np.random.seed(1)
        shift = Shift()
        transform = Compose([shift]).set_random_state(1)
        seen = []
        trainer = Engine(lambda engine, batch: seen.append((transform(0.0), float(torch.rand(1)), np.random.rand())))
        ResumeState({"random": RandomStates(transform)}, folder / "resume.pt").attach(trainer)
        trainer.run([0, 1, 2], max_epochs=max_epochs)
        return seen

    for name in "ab":
        (tmp_path / name).mkdir()
    whole = train(tmp_path / "a", 4)
    first = train(tmp_path / "b", 2)
    assert first + train(tmp_path / "b", 4) == whole
    with pytest.raises(ValueError, match="random transforms"):
        RandomStates(Compose([])).load_state_dict({"transforms": []})


def test_early_stopping_goes_on_counting_after_a_stop(tmp_path):
    def stop_after(counts):
        trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
        stop = EarlyStop(patience=3, score_function=lambda engine: 0.5, trainer=trainer)
        stop.attach(evaluator)
        if counts:
            stop.load_state_dict(counts)
        evaluator.run([0])
        return stop.state_dict(), trainer.should_terminate

    counts, ended = {}, False
    for _ in range(3):
        counts, ended = stop_after(counts)
        assert not ended
    assert stop_after(counts)[1]


def test_a_training_that_was_stopped_early_stays_so_unless_patience_is_greater(tmp_path):
    def train(patience):
        epochs, trainer = [], Engine(lambda engine, batch: None)
        evaluator = Engine(lambda engine, batch: None)
        stop = EarlyStop(patience=patience, score_function=lambda engine: 0.5, trainer=trainer)
        stop.attach(evaluator)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: epochs.append(engine.state.epoch))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: evaluator.run([0]))
        ResumeState({"early_stop": stop}, tmp_path / "resume.pt").attach(trainer)
        trainer.run([0], max_epochs=9)
        return epochs

    assert train(2) == [1, 2, 3]
    assert train(2) == []  # the same command again
    assert train(4) == [4, 5]


@pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04 cut off"])
def test_a_state_that_cannot_be_read_is_refused_by_name(tmp_path, content):
    (tmp_path / "resume.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"resume\.pt: cannot be read") as caught:
        _training(tmp_path)
    assert "Remove the file" in caught.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_state_that_the_disk_has_no_room_for_is_an_error_of_ours_and_the_last_one_stays(tmp_path):
    write_state({"a": torch.zeros(9)}, tmp_path / "resume.pt")
    (tmp_path / "resume.pt.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"resume\.pt: cannot be written"):
        write_state({"a": torch.ones(1_000_000)}, tmp_path / "resume.pt")
    assert not torch.load(tmp_path / "resume.pt")["a"].any()
    assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]


def test_a_state_of_other_settings_is_refused_with_both_values(tmp_path):
    def train(**settings):
        trainer = Engine(lambda engine, batch: None)
        ResumeState({}, tmp_path / "resume.pt", settings).attach(trainer)
        trainer.run([0], max_epochs=1)

    train(fold=0, loss="dice")
    train(fold=0.0, loss="dice", weight_decay=0.1)  # the same number, and a setting that the state does not name
    with pytest.raises(WeightsError, match=r"resume\.pt: is of a training with other settings: fold 0, now 1\."):
        train(fold=1, loss="dice")


def test_a_training_that_has_had_its_epochs_says_that_nothing_is_trained(tmp_path, caplog):
    _training(tmp_path)
    with caplog.at_level("WARNING"):
        _training(tmp_path)
    assert "has had its 6 epochs: nothing is trained" in caplog.text


def test_a_state_of_another_network_is_refused_by_name(tmp_path):
    torch.save(
        {"model": nn.Linear(5, 1).state_dict(), "optimizer": {}, "iteration": 1, "epoch": 1}, tmp_path / "resume.pt"
    )
    trainer = Engine(lambda engine, batch: None)
    ResumeState({"model": nn.Linear(3, 1)}, tmp_path / "resume.pt").attach(trainer)
    with pytest.raises(WeightsError, match=r"resume\.pt"):
        trainer.run([0], max_epochs=2)


def test_the_best_model_is_written_only_when_it_is_better_also_after_a_resume(tmp_path):
    model = nn.Linear(2, 1)
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.key_metric_name = "dice"
    keep = KeepBest(model, tmp_path / "model.pt")
    keep.attach(evaluator)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=metric))
    written = []
    for metric in (0.5, 0.4, 0.6):
        with torch.no_grad():
            model.weight.fill_(metric)
        evaluator.run([0])
        written.append(float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"][0, 0]))
    assert written == pytest.approx([0.5, 0.5, 0.6])
    none = KeepBest(model, tmp_path / "none.pt")
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.key_metric_name = "dice"
    none.attach(evaluator)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=0.0))
    for value in (1.0, 2.0):  # no lesion in the validation cases: the newest model is kept
        with torch.no_grad():
            model.weight.fill_(value)
        evaluator.run([0])
        assert float(torch.load(tmp_path / "none.pt", weights_only=True)["weight"][0, 0]) == value
    again = KeepBest(model, tmp_path / "model.pt")
    again.load_state_dict(keep.state_dict())
    assert again.best == pytest.approx(0.6)
    for content in (b"", (tmp_path / "model.pt").read_bytes()[:100]):
        (tmp_path / "model.pt").write_bytes(content)
        again.load_state_dict(keep.state_dict())
        assert again.best == float("-inf")  # as if it were lost
    (tmp_path / "model.pt").unlink()
    again.load_state_dict(keep.state_dict())
    assert again.best == float("-inf")  # the model is lost: the next one is kept, whatever it is worth


def test_a_model_that_is_not_finite_is_not_kept(tmp_path):
    model = nn.Linear(2, 1)
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.key_metric_name = "dice"
    KeepBest(model, tmp_path / "model.pt").attach(evaluator)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=0.5))
    with torch.no_grad():
        model.bias.fill_(float("nan"))
    with pytest.raises(InferenceError, match="1 entries of the model are not finite, the first are bias"):
        evaluator.run([0])
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_ends_the_training_before_weights_and_state_are_touched(tmp_path):
    model = nn.Linear(1, 1)
    values = [1.0, 1.0, float("nan"), 1.0]
    trainer = SupervisedTrainer(
        device=CPU, max_epochs=2, network=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_data_loader=DataLoader([{"image": torch.tensor([v]), "label": torch.zeros(1)} for v in values]),
        loss_function=nn.MSELoss(), epoch_length=2,
        train_handlers=[CheckLoss(), ResumeState({"model": model}, tmp_path / "resume.pt")],
    )  # fmt: skip
    with pytest.raises(InferenceError, match=r"the loss is not finite in epoch 2 \(nan\)") as caught:
        trainer.run()
    assert "Lower --learning-rate" in caught.value.hint
    assert caught.value.reason == "diverged"
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["epoch"] == 1
    assert bool(model.weight.isfinite().all())


@pytest.mark.parametrize(
    ("interval", "max_epochs", "validated"), [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (4, 2, [2]), (3, 3, [3])]
)
def test_the_last_epoch_is_measured_and_validated_whatever_the_interval(tmp_path, interval, max_epochs, validated):
    trainer, seen, measured = _validated(tmp_path, interval)
    trainer.run([0], max_epochs=max_epochs)
    assert seen == measured == validated


def test_a_finished_training_is_validated_once_more_only_where_it_kept_no_model(tmp_path):
    for _ in range(2):
        trainer, seen, measured = _validated(tmp_path, 1)
        trainer.run([0], max_epochs=2)
    assert seen == measured == []
    (tmp_path / "model.pt").unlink()
    trainer, seen, measured = _validated(tmp_path, 1)
    trainer.run([0], max_epochs=2)
    assert seen == measured == [2]
    assert (tmp_path / "model.pt").is_file()


def test_a_validation_case_that_is_refused_costs_no_epoch(tmp_path):
    class Cases(list):
        def __getitem__(self, index):
            raise GeometryError("case_7: beside its volume.", reason="label-grid")

    trainer, seen, _ = _validated(tmp_path, 4, DataLoader(Cases([0, 1])))
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: seen.append("epoch"))
    state = torch.get_rng_state()
    with pytest.raises(GeometryError, match="case_7"):
        trainer.run([0], max_epochs=4)
    assert seen == []
    assert torch.get_rng_state().equal(state)


def _validated(folder, interval, cases=None):
    """A trainer that does nothing, and the epochs in which it was validated and its batch norm measured."""
    model, seen, measured = nn.Sequential(nn.BatchNorm1d(1)), [], []
    data = DataLoader([{"image": torch.ones(1), "label": torch.ones(1)}] * 2, batch_size=2)
    best = KeepBest(model, folder / "model.pt")
    evaluator = SupervisedEvaluator(device=CPU, val_data_loader=cases or data, network=model)
    evaluator.state.key_metric_name = "dice"
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=0.5))
    evaluator.add_event_handler(Events.STARTED, lambda e: seen.append(trainer.state.epoch))
    best.attach(evaluator)
    norm = PreciseBatchNorm(model, data, batches=1, interval=interval)
    norm.prepare_batch = lambda batch, device: measured.append(trainer.state.epoch) or (batch["image"], batch["label"])
    trainer = Engine(lambda engine, batch: None)
    for handler in (
        norm,
        Validation(interval, evaluator, best, norm),
        ResumeState({"best": best}, folder / "resume.pt"),
    ):
        handler.attach(trainer)
    return trainer, seen, measured


def test_a_start_from_weights_of_another_network_is_refused(tmp_path):
    network = nn.Linear(3, 1)
    start_from(network, "")
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / "good.pt")
    start_from(network, tmp_path / "good.pt")
    torch.save(nn.Linear(4, 1).state_dict(), tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"bad\.pt"):
        start_from(network, tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"absent\.pt"):
        start_from(network, tmp_path / "absent.pt")
    torch.save(
        {"weight": torch.full((1, 3), float("nan")), "bias": torch.full((1,), float("inf"))}, tmp_path / "diverged.pt"
    )
    with pytest.raises(WeightsError, match=r"diverged\.pt: 2 of \d+ entries are not finite"):
        start_from(network, tmp_path / "diverged.pt")


def test_batch_norm_is_measured_on_all_batches_with_the_same_weight():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    batches = [{"image": torch.randn(2, 3, 8, 8) * (k + 1) + k, "label": torch.zeros(2, 1, 8, 8)} for k in range(3)]
    trainer = Engine(lambda engine, batch: None)
    PreciseBatchNorm(network, batches, batches=6).attach(trainer)
    trainer.run([0], max_epochs=1)
    with torch.no_grad():
        means = torch.stack([network[0](batch["image"]).mean(dim=(0, 2, 3)) for batch in batches])
    torch.testing.assert_close(network[1].running_mean, means.mean(dim=0))
    assert network[1].momentum == 0.1
    assert not network.training


def test_no_batches_leave_the_running_averages():
    network = nn.Sequential(nn.BatchNorm2d(3))
    trainer = Engine(lambda engine, batch: None)
    PreciseBatchNorm(network, [], batches=0).attach(trainer)
    trainer.run([0], max_epochs=1)
    assert network[0].running_mean.tolist() == [0, 0, 0]


def test_a_start_with_fewer_channels_gives_its_answers_and_shares_the_background_among_the_further_ones(tmp_path):
    two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    torch.save(two.state_dict(), tmp_path / "two.pt")
    five = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1))
    start_from(five, tmp_path / "two.pt")
    x = torch.rand(2, 3, 9, 9)
    with torch.inference_mode():
        before, after = two(x).softmax(1), five(x).softmax(1)
    torch.testing.assert_close(after[:, 1], before[:, 1])
    for channel in (0, 2, 3, 4):
        torch.testing.assert_close(after[:, channel], before[:, 0] / 4)


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 1)),  # more channels than the network
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 1)),  # narrower inside
        nn.Sequential(nn.Conv2d(3, 4, 3)),  # no last layer
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 1)),  # another number of slices
    ],
)
def test_a_start_that_differs_in_more_than_missing_channels_is_refused(tmp_path, other):
    torch.save(other.state_dict(), tmp_path / "bad.pt")
    with pytest.raises(WeightsError, match=r"bad\.pt"):
        start_from(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)), tmp_path / "bad.pt")


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_narrow_start_gives_a_wide_network_its_answers_and_its_copies_part(tmp_path, spatial_dims):
    torch.manual_seed(0)
    narrow = LightUNet(spatial_dims, 3, 2, widths=(4, 8, 16, 32))
    x = torch.rand(2, 3, *[17] * spatial_dims)
    narrow(x)  # running averages that are not those of a fresh network
    torch.save(narrow.state_dict(), tmp_path / "narrow.pt")
    wide = LightUNet(spatial_dims, 3, 2, widths=(8, 16, 32, 64))
    start_from(wide, tmp_path / "narrow.pt")
    with torch.inference_mode():
        torch.testing.assert_close(wide.eval()(x), narrow.eval()(x), atol=1e-4, rtol=1e-4)
    wide.train()(x).square().mean().backward()
    slope = wide.down[0][1][0].weight.grad
    assert (slope[0::2] - slope[1::2]).abs().max() > 0.01 * slope.abs().max()
