"""``data``: which data sets are here, downloads, and data and weights of one's own."""

import argparse
from pathlib import Path

from woodfisher_core.data import DATASETS, cache_folder, find_root, get_dataset
from woodfisher_core.data.brought import DATA, own_folder
from woodfisher_core.data.own import own_spec
from woodfisher_core.errors import InputError, WoodFisherError


def add_data(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Lists the data sets, downloads one, or brings in a file of your own."
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="say which data sets are here")
    listing.add_argument("--data-dir", metavar="DIR", help="folder to look in")
    listing.set_defaults(run=_data_list)
    download = actions.add_parser("download", help="fetch a data set, with progress")
    download.add_argument("name", choices=[s.name for s in DATASETS.values() if s.download], help="the data set")
    download.add_argument("--data-dir", metavar="DIR", help=f"where to put it (default: {cache_folder()})")
    download.set_defaults(run=_data_download)
    bring = actions.add_parser(
        "import", help="check a file of your own and keep it under a name for --dataset or --weights"
    )
    bring.add_argument(
        "file", metavar="FILE", help="images and labels (.npz), a zip of images, or weights (.safetensors)"
    )
    bring.add_argument("--model", metavar="NAME", help="the network it is for (default: found by its shapes)")
    bring.set_defaults(run=_data_import)


def _data_list(options: argparse.Namespace, memory_at_start: int) -> int:
    for spec in DATASETS.values():
        try:
            root = find_root(spec, options.data_dir)
            where = "ships with scikit-learn" if root is None else f"found in {root}"
        except WoodFisherError as error:
            where = str(error)
        print(f"{spec.name:13} {spec.description}\n{'':13} {where}")
    for path in sorted(own_folder(DATA).glob("own-*.safetensors")):
        print(f"{path.stem:13} {own_spec(path.stem).description}\n{'':13} {path}")
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


def _data_import(options: argparse.Namespace, memory_at_start: int) -> int:
    from woodfisher_core.own import bring_data, bring_weights

    path = Path(options.file).expanduser()
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"file: cannot read {path} ({error.strerror}). Check its name.") from None
    if path.suffix == ".safetensors":
        brought, flag = bring_weights(raw, path.name, options.model), "--weights"
    else:
        brought, flag = bring_data(raw, path.name, options.model), "--dataset"
    print(f"{brought.name}: {brought.label}, for {' or '.join(brought.models)}. Use it with {flag} {brought.name}")
    for words in brought.said:
        print(words)
    return 0
