import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convnn.data.loaders import PAD, InMemoryLoader

PLAIN = ((0.0,) * 3, (1.0,) * 3)


def make(images: int = 10, **options: object) -> tuple[InMemoryLoader, Tensor]:
    pixels = torch.randint(1, 256, (images, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    arguments = {"batch_size": 4, "seed": 3, "device": torch.device("cpu"), "normalization": PLAIN, **options}
    return InMemoryLoader(pixels, torch.arange(images), **arguments), pixels


def labels(batches: InMemoryLoader, epoch: int) -> list[int]:
    return torch.cat([y for _, y in batches.epoch(epoch)]).tolist()


def test_an_epoch_holds_every_image_once_and_the_last_batch_is_smaller():
    batches, _ = make(shuffle=True)
    assert [len(y) for _, y in batches.epoch(1)] == [4, 4, 2]
    assert len(batches) == 3
    assert sorted(labels(batches, 1)) == list(range(10))


def test_the_order_depends_on_seed_and_epoch_alone():
    ours = make(50, shuffle=True)[0]
    torch.manual_seed(99)
    assert labels(ours, 1) == labels(make(50, shuffle=True)[0], 1)
    assert labels(ours, 1) != labels(ours, 2)
    assert labels(ours, 1) != labels(make(50, shuffle=True, seed=4)[0], 1)


def test_evaluation_keeps_the_order_and_normalizes():
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    batches, pixels = make(normalization=(mean, std))
    x = torch.cat([x for x, _ in batches.epoch(7)])
    expected = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(x, expected)
    assert labels(batches, 7) == list(range(10))


def test_an_epoch_can_begin_at_any_step():
    batches, _ = make(shuffle=True, crop=True, flip=True, noise=0.1)

    def run(first: int) -> list[Tensor]:
        stream, out = batches.epoch(2, first), []
        for step in range(first, 3):
            torch.manual_seed(step)  # as the trainer does
            out.append(next(stream)[0])
        return out

    for whole, part in zip(run(0)[1:], run(1), strict=True):
        assert torch.equal(whole, part)


def test_without_augmentation_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    labels(make(shuffle=True)[0], 1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("flip", "ways"), [(False, 1), (True, 2)])
def test_an_augmented_image_is_a_window_of_the_padded_one_mirrored_or_not(flip, ways):
    torch.manual_seed(0)
    batches, pixels = make(2000, batch_size=2000, crop=True, flip=flip)
    x = next(batches.epoch(1))[0].mul(255).round().to(torch.uint8)
    windows = F.pad(pixels, (PAD,) * 4).unfold(2, 5, 1).unfold(3, 7, 1)  # (N, 3, 9, 9, 5, 7)
    windows = torch.stack((windows, windows.flip(-1))[:ways])
    same = (windows == x[:, :, None, None]).all(-1).all(-1).all(2)  # (ways, N, 9, 9)
    assert same.flatten(2).any(2).any(0).all()
    assert same.any(1).all(), "every offset and both mirror images occur"


def test_flip_without_crop_mirrors_about_half():
    torch.manual_seed(0)
    batches, pixels = make(200, batch_size=200, flip=True)
    x = next(batches.epoch(1))[0].mul(255).round().to(torch.uint8)
    mirrored, unchanged = ((x == y).flatten(1).all(1) for y in (pixels.flip(3), pixels))
    assert (mirrored ^ unchanged).all()
    assert 60 < mirrored.sum() < 140  # 100 expected, five standard deviations are 35


def test_noise_has_the_standard_deviation_that_was_asked_for():
    torch.manual_seed(0)
    noisy, clean = (torch.cat([x for x, _ in make(200, noise=noise)[0].epoch(1)]) for noise in (0.5, 0.0))
    assert (noisy - clean).std().item() == pytest.approx(0.5, rel=0.03)  # 21,000 draws: 0.5 % is one standard error


def test_a_smaller_last_batch_can_be_dropped():
    batches, _ = make(shuffle=True, drop_last=True)
    assert [len(y) for _, y in batches.epoch(1)] == [4, 4]
    assert len(batches) == 2
    assert len(labels(batches, 1) + labels(batches, 2)) == 16
    assert len(make(8, drop_last=True)[0]) == 2
