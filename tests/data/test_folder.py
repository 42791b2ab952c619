import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from convnn.errors import Exit, UserError

TWO = {"train/cat": 6, "train/dog": 6, "test/cat": 2, "test/dog": 2}


def refused(opened, path, **options):
    with pytest.raises(UserError) as caught:
        opened("folder", path, **options)
    assert caught.value.code == Exit.DATA
    return str(caught.value)


def pixels(data, batches):
    mean, std = (torch.tensor(figures).view(-1, 1, 1) for figures in (data.mean, data.std))
    x = torch.cat([x for x, _ in batches.epoch(1)])
    return (x * std + mean).mul(255).round().to(torch.uint8)


def test_train_and_test_folders_are_the_splits(opened, tree):
    data = opened("folder", tree(TWO))
    assert data.classes == ("cat", "dog")
    assert (data.train.num_images, data.test.num_images, data.image_size, data.notes) == (12, 4, (6, 8), ())
    assert torch.cat([y for _, y in data.test.epoch(1)]).tolist() == [0, 0, 1, 1]


def test_pixels_come_through_as_they_are_in_the_files(opened, tree):
    root = tree(TWO)
    data = opened("folder", root)
    expected = np.asarray(Image.open(root / "test/cat/000.png")).transpose(2, 0, 1)
    assert torch.equal(pixels(data, data.test)[0], torch.tensor(expected))


def test_one_tree_is_split_with_the_seed_and_said(opened, tree):
    root = tree({"cat": 10, "dog": 20})
    data = opened("folder", root)
    assert (data.train.num_images, data.test.num_images) == (24, 6)
    assert data.notes == ("20% of the images of each class, drawn with seed 0, are the test images",)
    first, repeated, reseeded = (
        pixels(d, d.test) for d in (data, opened("folder", root), opened("folder", root, seed=1))
    )
    assert torch.equal(first, repeated)
    assert not torch.equal(first, reseeded)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_rgb(opened, tree, mode):
    root = tree(TWO)
    file = root / "test/cat/000.png"
    if mode == "I;16":
        gray = Image.fromarray(np.full((6, 8), 100 * 256, dtype=np.uint16))
    else:
        gray = Image.new("L", (8, 6), 255).convert(mode)
    gray.save(file, format="TIFF" if mode == "CMYK" else None)
    data = opened("folder", root)
    assert set(pixels(data, data.test)[0].flatten().tolist()) == {100 if mode == "I;16" else 255}


def test_another_size_is_an_error_that_names_both_files(opened, tree):
    root = tree(TWO)
    Image.new("RGB", (5, 9)).save(root / "train/dog/003.png")
    message = refused(opened, root)
    expected = f"{root}/train/dog/003.png is 5x9 pixels and {root}/train/cat/000.png is 8x6"
    assert expected in message
    assert "use --resize" in message
    assert opened("folder", root, resize=4).image_size == (4, 4)


def test_a_few_damaged_images_are_named_and_left_out(opened, tree):
    root = tree({"train/cat": 100, "train/dog": 100, "test/cat": 1, "test/dog": 1})
    whole = (root / "train/cat/007.png").read_bytes()
    (root / "train/cat/007.png").write_bytes(whole[: len(whole) // 2])
    data = opened("folder", root)
    assert data.train.num_images == 199
    assert torch.cat([y for _, y in data.train.epoch(1)]).bincount().tolist() == [99, 100]
    (note,) = data.warnings
    assert note.startswith(f"1 of 200 images cannot be read and is left out: {root}/train/cat/007.png (")


def test_more_than_1_percent_damaged_images_are_an_error(opened, tree):
    root = tree({"train/cat": 100, "train/dog": 100, "test/cat": 1, "test/dog": 1})
    for name in ("000", "001", "199"):
        (root / f"train/cat/{name}.png").write_text("no image\x1b[2J")
    message = refused(opened, root)
    assert "contains 3 of 201 images that cannot be read: " in message
    assert f"{root}/train/cat/000.png" in message


def test_an_image_of_too_many_pixels_is_not_decoded(opened, tree, monkeypatch):
    root = tree(TWO)
    monkeypatch.setattr("convnn.data.images.MAX_PIXELS", 47)
    assert "8x6 pixels are more than 47" in refused(opened, root)


def test_images_that_cannot_fit_into_memory_are_refused_before_they_are_read(opened, tree):
    with pytest.raises(UserError, match=r"16 images of 1000000x1000000 pixels need 44,703.5 GiB") as caught:
        opened("folder", tree(TWO), resize=1_000_000)
    assert caught.value.code == Exit.MEMORY


def test_only_the_images_that_limit_keeps_are_read(opened, tree):
    root = tree(TWO)
    subset = opened("folder", root, limit=4)
    assert torch.cat([y for _, y in subset.train.epoch(1)]).bincount().tolist() == [2, 2]
    read = {image.numpy().tobytes() for image in pixels(subset, subset.train)}
    for file in sorted((root / "train").rglob("*.png"))[1:]:  # the first gives the size
        if np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes() not in read:
            file.write_text("no image")
    assert opened("folder", root, limit=4).notes == ()


def test_the_classes_of_test_must_be_those_of_train(opened, tree):
    message = refused(opened, tree({"train/cat": 1, "train/dog": 1, "test/cat": 1, "test/cow": 1}))
    assert "test contains cow, which train/ does not and lacks dog" in message


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"train/cat": 2, "train/dog": 2}, "contains train/ but no test/ or val/"),
        ({"test/cat": 2, "test/dog": 2}, "contains test/ but no train/"),
        ({"cat": 2, "dog": 0}, "dog contains no image"),
        ({"train": 0, "test": 0}, "train contains no class folders"),
        ({"cat": 1, "dog": 1}, "too few images in every class"),
    ],
)
def test_a_tree_that_is_no_data_set_says_why(opened, tree, counts, reason):
    assert reason in refused(opened, tree(counts))


def test_a_path_that_is_not_there_says_what_to_do(opened, tmp_path):
    message = refused(opened, tmp_path / "absent\x1b")
    assert f"{tmp_path}/absent\x1b does not exist" in message
    assert "fix: use --data_path" in message


def test_links_are_not_followed_out_of_the_folder(opened, tree, tmp_path_factory):
    root, outside = tree(TWO), tmp_path_factory.mktemp("outside")
    (root / "test/cat/000.png").rename(outside / "secret.png")
    (root / "test/cat/link.png").symlink_to(outside / "secret.png")
    (root / "test/cat/inside.png").symlink_to(root / "train/cat/000.png")
    (root / "test/cat/loop").symlink_to(root)
    (root / "train/cow").symlink_to(outside)
    data = opened("folder", root)
    assert data.classes == ("cat", "dog")
    assert data.test.num_images == 4  # 001.png and inside.png, and the two dogs
    assert data.notes == (f"not followed: 3 links out of {root} or to a folder",)


def test_class_names_are_recorded_escaped_and_hidden_files_and_pipes_left_out(opened, tree):
    root = tree({"a\x1b[31m": 5, "b": 5, ".git": 1})
    (root / "b/.DS_Store").write_text("x")
    os.mkfifo(root / "b/pipe")
    data = opened("folder", root)
    assert data.classes == ("a\\x1b[31m", "b")
    assert data.train.num_images + data.test.num_images == 10


def test_names_that_are_no_text_are_read(opened, tree):
    root = tree({"a": 5, "b": 5})
    (root / "a").rename(root / os.fsdecode(b"\xff"))
    (root / "b/000.png").rename(root / "b" / os.fsdecode(b"\xfe.png"))
    assert opened("folder", root).classes == ("b", "\\udcff")


def test_a_resized_image_is_a_square(opened, tree):
    data = opened("folder", tree({"a": 5, "b": 5}, size=(40, 20), suffix="jpg"), resize=10)
    assert next(data.train.epoch(1))[0].shape[1:] == (3, 10, 10)
    assert not re.search("left out", "".join(data.notes))


VAL = {"train/cat": 6, "train/dog": 6, "valid/cat": 3, "valid/dog": 3, "test/cat": 2, "test/dog": 2}


def test_a_validation_folder_is_the_validation_split(opened, tree):
    root = tree(VAL)
    data = opened("folder", root)
    assert {split: loader.num_images for split, loader in data.splits.items()} == {"train": 12, "val": 6, "test": 4}
    assert set(data.digests) == {"train", "val", "test"}
    assert set(opened("folder", root, splits=("test",)).splits) == {"test"}
    assert opened("folder", root, limit=4).val.num_images == 4
    with pytest.raises(UserError, match=r"val_share is 0.2, but the data set has a validation folder"):
        opened("folder", root, val_share=0.2)


def test_without_a_test_folder_the_validation_images_are_the_test_images_and_that_is_noted(opened, tree):
    data = opened("folder", tree({split: count for split, count in VAL.items() if not split.startswith("test")}))
    assert (set(data.splits), data.test.num_images) == ({"train", "test"}, 6)
    assert data.notes == ("there is no test folder with labels: the images of valid/ are the test images",)


def test_files_that_are_no_images_are_passed_over_and_counted(opened, tree):
    root = tree(TWO)
    for name in ("a.xml", "b.XML", "labels.csv", "LICENSE"):
        (root / "train/cat" / name).write_text("text")
    (root / "train/beside.png").write_bytes((root / "train/cat/000.png").read_bytes())
    assert opened("folder", root).notes == (
        "passed over: 2 .xml files, 1 file without suffix, 1 .csv file",
        "passed over: 1 image beside the class folders",
    )


def test_the_digest_is_of_pixels_and_labels(opened, tree):
    root = tree(TWO)
    digests = opened("folder", root).digests
    assert opened("folder", root).digests == digests
    assert opened("folder", root, augment=True, batch_size=4).digests == digests
    (root / "train/cat").rename(root / "train/cow")
    (root / "train/dog").rename(root / "train/cat")
    (root / "train/cow").rename(root / "train/dog")
    exchanged = opened("folder", root).digests
    assert exchanged["train"] != digests["train"] and exchanged["test"] == digests["test"]


def test_a_large_photograph_is_decoded_at_a_fraction_of_its_size(opened, tree, monkeypatch):
    root = tree(TWO, suffix="png")
    gradient = np.linspace(0, 255, 640).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(gradient, (400, 640)).copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(root / "train/cat/000.jpg", exif=exif, quality=95)
    (root / "train/cat/000.png").unlink()
    whole = opened("folder", root, resize=16).train._images[0]
    monkeypatch.setattr("convnn.data.images.LARGE_PIXELS", 1000)
    monkeypatch.setattr("convnn.data.images.MAX_PIXELS", 4000)  # of what is decoded: an eighth of each side
    reduced = opened("folder", root, resize=16).train._images[0]
    assert (whole.int() - reduced.int()).abs().max() <= 6
    assert whole[0, 0, 0] < 20 and whole[0, 0, -1] > 235


def test_pillow_keeps_its_own_limit_outside(opened, tree):
    limit = Image.MAX_IMAGE_PIXELS
    opened("folder", tree(TWO))
    assert limit == Image.MAX_IMAGE_PIXELS
