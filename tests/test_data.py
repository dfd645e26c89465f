"""Data: the split, the batches, the augmentation; files that are missing, truncated or altered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from cifarbook import card
from cifarlab import data
from cifarlab.config import RunConfig
from cifarlab.data import cifar10_root
from labbook.paths import results_root


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_split_is_4_to_1_disjoint_and_a_function_of_its_seed():
    train, val = data.split_indices(50_000, 40_000, 10_000, seed=0)
    assert len(train) == 40_000
    assert len(val) == 10_000
    assert len(torch.cat([train, val]).unique()) == 50_000
    torch.manual_seed(5)
    again = data.split_indices(50_000, 40_000, 10_000, seed=0)
    assert torch.equal(train, again[0])
    assert not torch.equal(train, data.split_indices(50_000, 40_000, 10_000, seed=1)[0])


def test_training_on_fewer_images_keeps_the_validation_set():
    assert torch.equal(
        data.split_indices(50_000, 100, 10_000, seed=0)[1], data.split_indices(50_000, 40_000, 10_000, seed=0)[1]
    )


def test_an_epoch_shows_every_image_once_in_channels_last():
    config = RunConfig.of(dataset="synthetic", train_images=100, val_images=1, batch_size=32, input_norm="none")
    images, _ = data.split(data.load(config), config)
    batches = list(data.batches(images, config, generator(), generator()))
    assert [len(labels) for _, labels in batches] == [32, 32, 32, 4]
    inputs = torch.cat([inputs for inputs, _ in batches])
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)
    assert inputs.shape == (100, 3, 32, 32)
    assert torch.allclose(inputs.sum(), images.pixels.float().sum() / 255, rtol=1e-4)
    assert not torch.equal(torch.cat([labels for _, labels in batches]), images.labels)


def test_the_originals_scaling_is_minus_one_to_one():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 32, 32, 3)
    scaled = data.normalise(pixels, "half")
    assert scaled.amin() == -1
    assert scaled.amax() == 1


def test_flips_mirror_about_half_of_the_images():
    inputs = torch.rand(200, 3, 32, 32)
    flipped = data.random_flip(inputs, generator())
    same = (flipped == inputs).all((1, 2, 3))
    mirrored = (flipped == inputs.flip(3)).all((1, 2, 3))
    assert torch.equal(same, ~mirrored)
    assert 60 < same.sum() < 140


def test_crops_shift_by_at_most_four_pixels_and_keep_the_layout():
    inputs = torch.rand(64, 3, 32, 32).to(memory_format=torch.channels_last)
    cropped = data.random_crop(inputs, generator())
    assert cropped.shape == inputs.shape
    assert cropped.is_contiguous(memory_format=torch.channels_last)
    padded = torch.nn.functional.pad(inputs, (4,) * 4, mode="reflect")
    for before, after in zip(padded[:8], cropped[:8], strict=True):
        places = [(y, x) for y in range(9) for x in range(9)
                  if torch.equal(before[:, y : y + 32, x : x + 32], after)]
        assert len(places) == 1


def test_cutout_zeroes_one_square():
    holes = (data.cutout(torch.ones(16, 3, 32, 32), generator()) == 0).sum((2, 3))
    assert torch.equal(holes, torch.full((16, 3), 64))


def copy_of_the_dataset(tmp_path: Path) -> Path:
    shutil.copytree(cifar10_root() / "cifar-10-batches-py", tmp_path / "cifar-10-batches-py")
    for path in (tmp_path / "cifar-10-batches-py").iterdir():
        path.chmod(0o644)
    (tmp_path / "cifar-10-batches-py").chmod(0o755)
    return tmp_path


def test_relative_folders_count_from_the_project_wherever_a_kernel_runs(monkeypatch, tmp_path):
    root = Path(__file__).resolve().parents[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR10_ROOT", "../shared/data")
    monkeypatch.setenv("LABBOOK_RESULTS", "elsewhere")
    assert cifar10_root().resolve() == (root / "../shared/data").resolve()
    assert results_root() == root / "elsewhere"
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    assert cifar10_root() == tmp_path


def test_a_missing_dataset_says_how_to_get_it(tmp_path):
    with pytest.raises(data.DatasetError, match=r"data_batch_1 is missing.*cifarlab download.*CIFAR10_ROOT"):
        data.load_cifar10(True, tmp_path)


@pytest.mark.dataset
def test_a_missing_truncated_or_altered_file_is_named_with_both_md5s(tmp_path):
    root = copy_of_the_dataset(tmp_path)
    data.check_files(root)
    batch = root / "cifar-10-batches-py" / "data_batch_3"
    content = batch.read_bytes()
    for damaged in (content[:1000], content[:-1] + b"x"):
        batch.write_bytes(damaged)
        with pytest.raises(data.DatasetError, match=r"data_batch_3 has md5 [0-9a-f]{32}, expected 54ebc095f3ab1f03"):
            data.load_cifar10(True, root)
    batch.unlink()
    with pytest.raises(data.DatasetError, match="data_batch_3 is missing"):
        data.load_cifar10(True, root)
    batch.write_bytes(content)
    names = root / "cifar-10-batches-py" / "batches.meta"
    names.write_bytes(b"x")
    with pytest.raises(data.DatasetError, match=r"batches\.meta has md5 [0-9a-f]{32}, expected 5ff9c542aee3614f"):
        data.load_cifar10(True, root)
    names.unlink()
    with pytest.raises(data.DatasetError, match=r"batches\.meta is missing"):
        data.load_cifar10(True, root)


@pytest.mark.dataset
def test_cifar10_is_itself_and_the_committed_card_is_its():
    images = data.load_cifar10(True)
    assert images.pixels.shape == (50_000, 32, 32, 3)
    assert images.pixels.dtype == torch.uint8
    assert torch.bincount(images.labels).tolist() == [5000] * 10
    computed, sheet = card.compute()
    assert computed == card.read()
    assert (sheet.reshape(10, 32, 8, 32, 3).swapaxes(1, 2) == card.samples()).all()


def test_the_dataset_is_not_committed():
    root = Path(__file__).resolve().parents[1]
    assert not list((root / "results").rglob("data_batch*"))
    assert os.path.getsize(root / "results/data/samples.png") < 200_000


def test_alternating_flips_show_both_views_in_turn():
    images = data.synthetic(32)
    config = RunConfig.of(dataset="synthetic", augment="alternating_flip_shift", batch_size=32)

    def epoch(number):
        # The same order and the same shifts, so that only the flips differ.
        return next(data.batches(images, config, generator(), torch.Generator().manual_seed(0), number))[0]

    first, second, third = epoch(0), epoch(1), epoch(2)
    assert torch.equal(first, third)
    differs = (first != second).flatten(1).any(1)
    assert differs.all()
    plain = next(data.batches(images, config.with_(augment="none"), generator(), generator()))[0]
    inner = slice(4, 28)

    def is_shifted(views, originals):
        """Whether each view's middle is somewhere within two pixels of the original's."""
        return [
            any(torch.equal(view[:, inner, inner], original[:, 4 + y : 28 + y, 4 + x : 28 + x])
                for y in range(-2, 3) for x in range(-2, 3))
            for view, original in zip(views, originals, strict=True)
        ]

    straight = is_shifted(first, plain)
    assert straight == [not it for it in is_shifted(second, plain)]
    assert 4 < sum(straight) < 28
