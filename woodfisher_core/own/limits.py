"""What may be brought, and why not more."""

MB = 1_000_000
# One file. The largest network here has 1.1 MB of weights; CIFAR-10 as PNG would be 130 MB, a tenth of it is plenty to prune on.
UPLOAD_BYTES = 50 * MB
# Of safetensors' JSON: ResNet-20's is 9 kB. The format itself allows 100 MB, all of which a reader would parse.
HEADER_BYTES = 1 * MB
# Files in an archive, unpacked: CIFAR-10 is 184 MB of pixels. They must fit into memory beside everything else.
UNPACKED_BYTES = 200 * MB
# Deflate gives at most 1,032 : 1, and only on nothing: images and labels stay far below.
LARGEST_RATIO = 200
# Files this small may be squeezed as they like: sorted labels are.
SMALL_BYTES = 4 * MB
# Images, and so files in an archive (the directory of a 50 MB archive could list a million).
IMAGES = 100_000
# Anything else in an archive: folders, what an operating system puts beside.
OTHER_FILES = 5_000
CLASSES = 1_000
SIDE = 512
# Values of all test images: they stay in memory as float32, all at once.
TEST_VALUES = 50_000_000
# Fewer say nothing: of 10 images, one is 10 points of accuracy.
FEWEST = 10
# All that is kept on this machine; what was not used for longest leaves first.
KEPT_BYTES = 1_000 * MB
LABEL_LENGTH = 40


def megabytes(count: float) -> str:
    """``12.3 MB``, ``10.0 GB`` or ``812 bytes``."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"
