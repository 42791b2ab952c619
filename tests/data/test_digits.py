import csv
import gzip
from hashlib import sha256

import torch

from convnn.data.catalog import dataset_info
from convnn.data.digits import FILE


def all_of(batches):
    return torch.cat([x for x, _ in batches.epoch(1)]), torch.cat([y for _, y in batches.epoch(1)])


def test_digits_are_three_equal_channels_of_the_size_asked_for(opened):
    x, y = next(opened("digits").test.epoch(1))
    assert x.shape == (16, 3, 32, 32)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
    data = opened("digits", resize=8)
    assert data.image_size == (8, 8)
    assert data.classes == tuple("0123456789")


def test_every_fifth_digit_of_each_class_is_test(opened):
    data = opened("digits")
    known = dataset_info("digits", ".")
    assert (data.train.num_images, data.test.num_images) == (known.train_images, known.test_images)
    train, test = all_of(data.train)[1].bincount(), all_of(data.test)[1].bincount()
    assert torch.equal(test, (train + test) // 5)


def test_the_file_is_the_one_of_scikit_learn():
    digest = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
    assert sha256(FILE.read_bytes()).hexdigest() == digest


def test_the_pixels_are_those_of_the_file(opened):
    data = opened("digits", resize=8)
    with gzip.open(FILE, "rt") as file:
        rows = [[float(number) for number in row] for row in csv.reader(file)]
    fifth_zero = [levels for *levels, digit in rows if digit == 0][4]  # the first zero of the test split
    x, y = all_of(data.test)
    pixels = x[y == 0][0, 0] * data.std[0] + data.mean[0]
    expected = torch.tensor(fifth_zero).view(8, 8) / 16
    torch.testing.assert_close(pixels, expected, rtol=0, atol=0.5 / 255 + 1e-6)  # rounding to 256 gray levels


def test_training_images_come_out_with_mean_0_and_sd_1(opened):
    x, _ = all_of(opened("digits").train)
    assert abs(x.mean()) < 1e-3  # float32 sums over 1.5 million pixels
    assert abs(x.std() - 1) < 1e-3


def test_digits_are_cropped_and_never_flipped(opened):
    train = opened("digits", augment=True).train
    assert (train.crop, train.flip) == (True, False)
    assert opened("digits", augment=True).test.crop is False


def test_limit_counts_images_before_some_are_set_aside(opened):
    data = opened("digits", limit=100, val_share=0.2)
    assert (data.train.num_images, data.val.num_images, data.test.num_images) == (80, 20, 100)
    assert all_of(data.val)[1].bincount().tolist() == [2] * 10


def test_validation_images_are_no_training_images_and_depend_on_the_seed(opened):
    data, repeated, reseeded = (
        opened("digits", val_share=0.1, seed=seed, normalization=((0,), (1,))) for seed in (0, 0, 1)
    )
    val = {tuple(image.flatten().tolist()) for image in all_of(data.val)[0]}
    assert not val & {tuple(image.flatten().tolist()) for image in all_of(data.train)[0]}
    assert torch.equal(all_of(data.val)[0], all_of(repeated.val)[0])
    assert not torch.equal(all_of(data.val)[0], all_of(reseeded.val)[0])


def test_a_test_only_evaluation_reads_no_training_images(opened):
    data = opened("digits", splits=("test",), normalization=((0.5,) * 3, (0.25,) * 3))
    assert data.train is None and data.val is None
    assert data.mean == (0.5,) * 3


def test_a_test_only_evaluation_without_figures_measures_them(opened):
    data = opened("digits", splits=("test",))
    assert data.train is None
    assert data.mean == opened("digits").mean
