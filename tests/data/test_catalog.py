import os
import subprocess
import sys
from dataclasses import replace
from pkgutil import resolve_name

import pytest
from PIL import Image

from convnn.data.catalog import DATASETS, DatasetInfo, data_summary, dataset_info, published_info


def write(root, counts, size=(8, 6)):
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size).save(root / folder / f"{i}.png")
    return root


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "folder"])
def test_resize_is_the_size_of_every_data_set(tmp_path, name):
    assert dataset_info(name, tmp_path, 48).image_size == (48, 48)


def test_digits_are_always_there(tmp_path):
    assert dataset_info("digits", tmp_path / "absent") == DatasetInfo((32, 32), 10, 1442, 355)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_download_to_come_is_said(tmp_path, name):
    known = dataset_info(name, tmp_path)
    assert replace(known, download=None) == DATASETS[name].published
    assert f"{name} is not in {tmp_path}: 1" in data_summary(name, tmp_path, known)
    archive = tmp_path / known.download.archive
    archive.write_bytes(b"cut off")
    assert "it has 7 bytes, not 1" in dataset_info(name, tmp_path).problem.message
    (tmp_path / known.download.folder).mkdir()
    assert dataset_info(name, tmp_path) == DATASETS[name].published


def test_a_folder_is_counted_without_decoding(tmp_path):
    write(tmp_path, {"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 1})
    for file in (tmp_path / "train").rglob("[!0].png"):
        file.write_bytes(b"no image")
    assert dataset_info("folder", tmp_path) == DatasetInfo((6, 8), 2, 5, 2, classes=("cat", "dog"))


def test_one_tree_is_counted_as_it_will_be_split(tmp_path):
    known = dataset_info("folder", write(tmp_path, {"cat": 10, "dog": 7, "cow": 1}))
    assert (known.num_classes, known.train_images, known.test_images) == (3, 15, 3)
    assert known.notes == ("20% of the images of each class, drawn with the seed, are the test images",)


def test_a_missing_folder_is_a_problem_and_no_exception(tmp_path):
    known = dataset_info("folder", tmp_path / "absent", 48)
    assert known.image_size == (48, 48)
    assert (known.num_classes, known.train_images, known.test_images) == (None, None, None)
    assert known.problem.message == f"{tmp_path}/absent does not exist"
    assert known.problem.key == "data.path"


def test_a_folder_without_an_image_is_a_problem(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"{index}.png").write_text("no image")
    assert "contains no file that is an image" in dataset_info("folder", tmp_path).problem.message


def test_imagenet_is_counted_where_it_is_another_set(tmp_path):
    absent = dataset_info("imagenet", tmp_path / "absent")
    assert replace(absent, problem=None) == DATASETS["imagenet"].published
    assert "does not exist" in absent.problem.message
    write(tmp_path, {"train/a": 3, "train/b": 2, "val/a": 1, "val/b": 1})
    known = dataset_info("imagenet", tmp_path)
    assert (known.image_size, known.classes, known.train_images, known.test_images) == ((224, 224), ("a", "b"), 5, 2)


def test_a_file_in_place_of_the_folder_is_a_problem(tmp_path):
    (tmp_path / "cat").touch()
    assert "is not a folder" in dataset_info("folder", tmp_path / "cat").problem.message


def age(root):
    """Let the folders of a tree have been changed long ago."""
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        os.utime(folder, (0, 0))


def test_folders_are_listed_again_when_they_change(tmp_path):
    root = tmp_path / "images"
    assert dataset_info("folder", root).problem is not None
    write(root, {"cat": 10, "dog": 10})
    age(root)
    before = dataset_info("folder", root)
    assert dataset_info("folder", root) is before and before.num_classes == 2
    write(root, {"cow": 10})
    assert dataset_info("folder", root).num_classes == 3
    (root / "cat").rename(tmp_path / "cat")
    assert dataset_info("folder", root).num_classes == 2


def test_images_in_the_folders_of_a_split_are_counted_again(tmp_path):
    write(tmp_path, {"train/cat/near": 2, "train/dog": 1, "test/cat": 1, "test/dog": 1})
    age(tmp_path)
    assert dataset_info("folder", tmp_path).train_images == 3
    Image.new("RGB", (8, 6)).save(tmp_path / "train" / "cat" / "near" / "more.png")
    assert dataset_info("folder", tmp_path).train_images == 4


def test_dataset_info_needs_neither_torch_nor_numpy():
    program = "import sys, convnn.data.catalog, convnn.data; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_row_names_functions_that_exist():
    for dataset in DATASETS.values():
        assert callable(resolve_name(dataset.open))
        assert dataset.inspect is None or callable(resolve_name(dataset.inspect))


def test_a_data_set_of_a_later_version_has_no_published_sizes():
    assert published_info("cifar1000") == published_info(None) == DatasetInfo()
