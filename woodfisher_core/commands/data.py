"""``data``: which data sets are here, and downloads."""

import argparse
from pathlib import Path

from woodfisher_core.data import DATASETS, cache_folder, find_root, get_dataset
from woodfisher_core.errors import WoodFisherError


def add_data(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Lists the data sets, or downloads one."
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="say which data sets are here")
    listing.add_argument("--data-dir", metavar="DIR", help="folder to look in")
    listing.set_defaults(run=_data_list)
    download = actions.add_parser("download", help="fetch a data set, with progress")
    download.add_argument("name", choices=[s.name for s in DATASETS.values() if s.download], help="the data set")
    download.add_argument("--data-dir", metavar="DIR", help=f"where to put it (default: {cache_folder()})")
    download.set_defaults(run=_data_download)


def _data_list(options: argparse.Namespace, memory_at_start: int) -> int:
    for spec in DATASETS.values():
        try:
            root = find_root(spec, options.data_dir)
            where = "ships with scikit-learn" if root is None else f"found in {root}"
        except WoodFisherError as error:
            where = str(error)
        print(f"{spec.name:13} {spec.description}\n{'':13} {where}")
    return 0


def _data_download(options: argparse.Namespace, memory_at_start: int) -> int:
    spec = get_dataset(options.name)
    root = Path(options.data_dir).expanduser() if options.data_dir else cache_folder()
    if spec.present(root):
        print(f"{spec.label} is already in {root}")
        return 0
    spec.download(root)  # torchvision shows its own progress bars
    print(f"{spec.label} is in {root}")
    return 0
