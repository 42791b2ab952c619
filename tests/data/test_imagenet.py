from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from convnn.data.imagenet import center_box, random_box
from convnn.data.loaders import epoch_order
from convnn.errors import Exit, UserError

TREE = {"train/n01": 10, "train/n02": 10, "val/n01": 3, "val/n02": 3}


@pytest.fixture
def images(tree):
    return tree(TREE, size=(40, 30), suffix="jpg")


@pytest.fixture
def stream(opened, images):
    def call(**options):
        return opened("imagenet", images, **{"resize": 16, "batch_size": 8, "workers": 0, "augment": True, **options})

    return call


def epoch(batches, number=1, first_step=0):
    return list(batches.epoch(number, first_step))


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x_a, x_b) and torch.equal(y_a, y_b) for (x_a, y_a), (x_b, y_b) in zip(a, b, strict=True)
    )


def test_splits_sizes_and_classes(stream):
    data = stream()
    assert (data.train.num_images, len(data.train), data.test.num_images, data.val) == (20, 3, 6, None)
    assert data.classes == ("n01", "n02")
    assert data.image_size == (16, 16)
    assert [x.shape for x, _ in epoch(data.train)] == [(8, 3, 16, 16), (8, 3, 16, 16), (4, 3, 16, 16)]
    assert torch.cat([y for _, y in epoch(data.test)]).tolist() == [0, 0, 0, 1, 1, 1]


def test_the_side_is_224_unless_resized(opened, images):
    data = opened("imagenet", images, workers=0)
    assert next(data.test.epoch(1))[0].shape[2:] == data.image_size == (224, 224)


def test_epochs_repeat_with_the_seed_and_differ_from_each_other(stream):
    first = epoch(stream().train)
    torch.manual_seed(123)
    assert same(first, epoch(stream().train))
    assert not same(first, epoch(stream().train, 2))
    assert not same(first, epoch(stream(seed=1).train))


def test_an_epoch_can_begin_at_any_step_and_reads_nothing_before_it(stream, images):
    whole = epoch(stream().train)
    files = sorted((images / "train").rglob("*.jpg"))
    for position in epoch_order(20, 0, 1)[:8]:
        files[position].write_bytes(b"damaged")
    assert same(whole[1:], epoch(stream().train, 1, 1))


def test_workers_give_the_same_batches_also_after_an_epoch_that_was_left(stream):
    alone, beside = stream().train, stream(workers=2).train
    assert same(epoch(alone), epoch(beside))
    next(beside.epoch(2))
    assert same(epoch(alone, 3), epoch(beside, 3))


def test_only_noise_draws_from_the_global_generator(stream):
    before = torch.get_rng_state()
    epoch(stream().train)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(5)
    noisy = next(stream(noise=0.1).train.epoch(1))[0]
    torch.manual_seed(5)
    clean = next(stream().train.epoch(1))[0]
    torch.testing.assert_close(noisy, clean + 0.1 * torch.randn_like(clean))


def test_evaluation_takes_the_center(stream, images):
    data = stream()
    left, top, right, bottom = center_box(40, 30)
    assert (right - left, bottom - top) == (30 * 224 / 256,) * 2
    assert (left + right, top + bottom) == (40, 30)
    image = Image.open(images / "val/n01/000.jpg").resize((16, 16), Image.Resampling.BILINEAR, center_box(40, 30))
    mean, std = (torch.tensor(figures).view(3, 1, 1) for figures in (data.mean, data.std))
    expected = (torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(epoch(data.test)[0][0][0], expected)


def test_a_random_area_lies_in_the_image_and_keeps_its_bounds():
    draw = Random(0)
    for width, height in ((40, 30), (30, 40), (400, 3)):
        for _ in range(200):
            left, top, right, bottom = random_box(width, height, draw)
            assert 0 <= left < right <= width + 1e-9 and 0 <= top < bottom <= height + 1e-9
            assert 3 / 4 - 1e-9 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-9
            if height > 3:
                assert 0.08 - 1e-9 <= (right - left) * (bottom - top) / (width * height) <= 1 + 1e-9


def test_validation_images_are_set_aside_and_not_augmented(stream):
    data = stream(val_share=0.2, limit=10)
    assert (data.train.num_images, data.val.num_images, data.test.num_images) == (8, 2, 6)
    assert same(epoch(data.val, 1), epoch(data.val, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(stream, images, workers):
    (images / "val/n02/001.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(UserError, match=r"1 of 6 images that cannot be read: .*val/n02/001.jpg \(Unidentif") as caught:
        epoch(stream(workers=workers).test)
    assert caught.value.code == Exit.DATA


def test_a_folder_without_train_and_val_says_what_to_do(opened, tree):
    with pytest.raises(UserError, match=r"contains no train/ and val/\n  fix: put its class folders into") as caught:
        opened("imagenet", tree({"n01": 1, "n02": 1}))
    assert caught.value.code == Exit.DATA


@pytest.mark.parametrize("workers", [0, 1])
def test_up_to_1_percent_of_damaged_images_is_left_out_and_reported_once(opened, tree, workers):
    root = tree({"train/a": 60, "train/b": 60, "val/a": 1, "val/b": 1}, size=(16, 16), suffix="jpg")
    (root / "train/a/007.jpg").write_bytes(b"\xff\xd8 no image")
    train = opened("imagenet", root, resize=16, batch_size=50, workers=workers).train
    assert sum(len(y) for _, y in epoch(train)) == 119
    (warning,) = train.warnings
    assert "1 of 120 images cannot be read" in warning and "train/a/007.jpg (Unidentified" in warning
    assert sum(len(y) for _, y in epoch(train, 2)) == 119
    assert len(train.warnings) == 1
    (root / "train/b/007.jpg").unlink()
    with pytest.raises(UserError, match=r"2 of 120 images that cannot be read"):
        epoch(train, 3)


def test_a_batch_without_a_readable_image_is_empty(opened, tree):
    root = tree({"train/a": 101, "train/b": 100, "val/a": 1, "val/b": 1}, size=(16, 16))
    files = sorted((root / "train").rglob("*.png"))
    files[epoch_order(201, 0, 1)[-1]].write_text("no image")
    batches = epoch(opened("imagenet", root, resize=16, batch_size=50, workers=0).train)
    assert [len(y) for _, y in batches] == [50, 50, 50, 50, 0]


def test_the_digest_is_of_paths_sizes_and_labels_without_reading(stream, images):
    digests = stream().digests
    assert set(digests) == {"train", "test"} and stream(augment=False).digests == digests
    (images / "train/n01/000.jpg").write_bytes(b"another size")
    assert stream().digests["train"] != digests["train"] and stream().digests["test"] == digests["test"]


def test_a_crop_of_a_large_photograph_is_decoded_at_a_fraction(stream, monkeypatch, images):
    Image.radial_gradient("L").resize((800, 600)).save(images / "val/n01/000.jpg")
    whole = next(stream().test.epoch(1))[0][0]
    monkeypatch.setattr("convnn.data.images.LARGE_PIXELS", 1000)
    monkeypatch.setattr("convnn.data.images.MAX_PIXELS", 100_000)
    reduced = next(stream().test.epoch(1))[0][0]
    torch.testing.assert_close(reduced, whole, atol=0.15, rtol=0)  # 8 of 255 shades


def test_the_last_batch_can_be_dropped(stream):
    train = stream(drop_last=True).train
    assert len(train) == 2 and [len(y) for _, y in epoch(train)] == [8, 8]


def test_single_images_are_those_of_the_batches_without_shuffling(stream, images):
    test = stream(batch_size=6).test
    pixels, label = test.image(4)
    (batch,) = epoch(test)
    assert torch.equal(test.normalize(pixels), batch[0][4]) and label == batch[1][4] == 1
    sorted(images.glob("val/n02/*"))[1].write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be read") as error:
        test.image(4)
    assert error.value.code == Exit.DATA
