"""Have the data set's files in place: draw the embedded one on first use, verify published ones."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from backdoor.attacks.drawn_set import build_dataset
from backdoor.pictures.picture_set import PictureSet, open_pictures, sha256
from experiments.launch import cli
from experiments.launch.settings import DataSet, setting_of


def badnet_path(data: DataSet, path: str) -> Path:
    """Return the network's file: `path`, or with `auto` the data set's own.

    Raises:
        ValueError: The data set has no network of its own.
    """
    if path != "auto":
        return Path(path)
    if not data.badnet:
        raise ValueError(
            f"badnet.path: expected a .keras or .h5 file, got auto, and dataset={data.name} "
            f"has no network of its own"
        )
    candidates = [Path(each) for each in data.badnet]
    return next((each for each in candidates if each.exists()), candidates[0])


def open_data_set(data: DataSet, badnet: str) -> dict[str, PictureSet]:
    """Draw or verify the files where that is asked for, then open the four sets by name."""
    used = [*data.files.values(), badnet_path(data, badnet)]
    if data.draw and data.root and any(Path(data.root) in each.parents for each in used):
        build_dataset(data.draw, data.root)
    if data.verify:
        verify(data, badnet)
    return {name: open_pictures(path, data.divide_by) for name, path in data.files.items()}


def verify(data: DataSet, badnet: str) -> None:
    """Compare the files' SHA-256 with the published ones.

    Raises:
        ValueError: One differs, or none are known of this data set.
    """
    if not data.sha256:
        raise ValueError(f"dataset.verify: expected a data set with known SHA-256, got {data.name}")
    for name, expected in data.sha256.items():
        path = badnet_path(data, badnet) if name == "badnet" else data.files[name]
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the published {name}, found no such file")
        found = sha256(path)
        if found != expected:
            raise ValueError(f"{path}: expected SHA-256 {expected}, got {found}")


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    setting = setting_of(config)
    for name, pictures in open_data_set(setting.dataset, setting.badnet.path).items():
        print(f"{name}: {len(pictures)} pictures in {pictures.path}")
    print(f"network: {badnet_path(setting.dataset, setting.badnet.path)}")


if __name__ == "__main__":
    sys.exit(cli.call(job))
